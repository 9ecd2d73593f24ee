"""Stands in place of py-consul's own `conftest.py`, which starts Consul in a container.

Its fixtures have the same names. The node is the one at `HSTORE_API`, made empty before each test.
"""

from __future__ import annotations

import json
import os
import urllib.request
from typing import NamedTuple

import pytest


class ConsulInstance(NamedTuple):
    container: None
    port: int
    version: str


ADDRESS = os.environ["HSTORE_API"]


def _ask(method, path):
    asked = urllib.request.Request(f"http://{ADDRESS}{path}", method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.loads(answer.read() or b"null")
    except OSError:
        return None


@pytest.fixture
def consul_instance():
    for session in _ask("GET", "/v1/session/list") or []:
        _ask("PUT", f"/v1/session/destroy/{session['ID']}")
    _ask("DELETE", "/v1/kv/?recurse")
    said = _ask("GET", "/v1/agent/self") or {"Config": {"Version": "0"}}
    port = int(ADDRESS.rpartition(":")[2])
    return ConsulInstance(None, port, said["Config"]["Version"])


@pytest.fixture
def consul_port(consul_instance):
    return consul_instance.port, consul_instance.version
