"""Reads of services and checks, of three real nodes: alike everywhere, and awake when a member dies."""

from __future__ import annotations

import time

from .cluster import Cluster, Node

PATHS = (
    "/v1/catalog/services",
    "/v1/catalog/service/consul",
    "/v1/health/service/consul",
    "/v1/health/state/any",
)
WAIT_S = 10
DIES_S_MAX = 3 * 4.0
RETURNS_S_MAX = 3 * 1.0
"""Three times the bounds of contract-services 9.2 and 13.7, since machines are noisy."""


def test_every_node_answers_reads_of_services_alike(shared: Cluster) -> None:
    name = shared.nodes[0].get("/v1/agent/self").json()["Config"]["NodeName"]
    for path in (*PATHS, f"/v1/catalog/node/{name}", f"/v1/health/node/{name}"):
        answers = [node.get(path) for node in shared.nodes]
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1, path
        assert len({answer.headers["x-consul-index"] for answer in answers}) == 1, path
    instances = shared.nodes[1].get("/v1/health/service/consul").json()
    ports = [int(node.address.rpartition(":")[2]) for node in shared.nodes]
    assert sorted(one["Service"]["Port"] for one in instances) == sorted(ports)
    assert shared.nodes[2].get("/v1/catalog/services").json() == {"consul": []}


def _passing(node: Node, index: str = "0") -> tuple[int, str]:
    """How many members pass, as soon as the answer has another index than that."""
    path = f"/v1/health/service/consul?passing&index={index}&wait={WAIT_S}s"
    answer = node.request("GET", path, timeout=WAIT_S + 5)
    assert answer.status == 200, answer
    return len(answer.json()), answer.headers["x-consul-index"]


def test_who_waits_for_a_service_hears_that_a_member_died_and_is_back(shared: Cluster) -> None:
    dying, asked = shared.followers()[0], shared.leader()
    count, index = _passing(asked)
    assert count == 3
    dying.kill()
    died_at = time.monotonic()
    while count == 3:
        count, index = _passing(asked, index)
    assert count == 2
    assert time.monotonic() - died_at < DIES_S_MAX
    dying.start()
    shared.wait_healthy()
    healthy_at = time.monotonic()
    while count == 2:
        count, index = _passing(asked, index)
    assert count == 3
    assert time.monotonic() - healthy_at < RETURNS_S_MAX
