"""Real clients of Consul, as far as they are fast; `make clients` has the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients import node_consul, place, py_consul
from tests.clients.outcome import Outcome, Unavailable
from tests.clients.scripted import SCRIPTED

from .cluster import Cluster


def _run(client: Callable[[], Outcome]) -> None:
    """Run a client; one that is not there is a skip: the index it comes from may be out of reach."""
    try:
        outcome = client()
    except Unavailable as lacking:
        pytest.skip(str(lacking))
    assert outcome.is_good, f"{outcome.line()}\n{outcome.faults()}"


def test_the_own_tests_of_py_consul_pass() -> None:
    # One of them wants that there is no node `n2`, which the shared cluster has.
    with place.one() as node:
        _run(lambda: py_consul.run(node.address, py_consul.FAST))


def test_the_npm_package_consul_reads_waits_watches_and_locks(
    shared: Cluster, require_tool: Callable[[str], str]
) -> None:
    require_tool("node")
    follower = shared.followers()[0].address
    _run(lambda: node_consul.run(follower))


def test_what_the_sources_of_other_clients_ask_is_answered(shared: Cluster) -> None:
    follower = shared.followers()[0].address
    alone = [client for client in SCRIPTED if not client.has_package]
    for client in alone:
        outcome = client.run(follower)
        assert outcome.is_good, f"{outcome.line()}\n{outcome.faults()}"
