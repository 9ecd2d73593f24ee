"""Stands in place of py-consul's own `conftest.py`, which starts Consul in a container.

Its fixtures have the same names. The node is the one at `HSTORE_API`, made empty before each test.
"""

from __future__ import annotations

import json
import os
import urllib.parse
import urllib.request
from typing import NamedTuple

import pytest


class ConsulInstance(NamedTuple):
    container: None
    port: int
    version: str


ADDRESS = os.environ["HSTORE_API"]


def _ask(method, path, body=None):
    asked = urllib.request.Request(f"http://{ADDRESS}{path}", data=body, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.loads(answer.read() or b"null")
    except OSError:
        return None


def _wipe():
    """Remove what a test may have left behind, but for events, which nothing removes."""
    for session in _ask("GET", "/v1/session/list") or []:
        _ask("PUT", f"/v1/session/destroy/{session['ID']}")
    _ask("DELETE", "/v1/kv/?recurse")
    for service in _ask("GET", "/v1/agent/services") or {}:
        _ask("PUT", f"/v1/agent/service/deregister/{urllib.parse.quote(service, safe='')}")
    for check in _ask("GET", "/v1/agent/checks") or {}:
        _ask("PUT", f"/v1/agent/check/deregister/{urllib.parse.quote(check, safe='')}")
    members = {member["Name"] for member in _ask("GET", "/v1/agent/members") or []}
    for node in _ask("GET", "/v1/catalog/nodes") or []:
        if node["Node"] not in members:
            _ask("PUT", "/v1/catalog/deregister", json.dumps({"Node": node["Node"]}).encode())


@pytest.fixture
def consul_instance():
    _wipe()
    said = _ask("GET", "/v1/agent/self") or {"Config": {"Version": "0"}}
    port = int(ADDRESS.rpartition(":")[2])
    return ConsulInstance(None, port, said["Config"]["Version"])


@pytest.fixture
def consul_port(consul_instance):
    return consul_instance.port, consul_instance.version
