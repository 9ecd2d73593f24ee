"""A new seed asks whether a live cluster counts its address among its members'."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import trio

from hstore.dns.finder import PEER, Findings, Sighting
from hstore.node.config.settings import NodeSettings, load_settings
from hstore.node.discovery import claims
from hstore.node.discovery.claims import Claim

OWN = "10.0.0.1:8500"
OTHER = "10.0.0.2:8500"
CLUSTER = "ffffffffffffffff"

Answers = dict[tuple[str, str], object]


def settings_of(**flags: object) -> NodeSettings:
    return load_settings({"listen": OWN, "data_dir": "/nowhere", **flags}, {"HOME": "/nowhere"})


def member(name: str, port: int) -> dict[str, object]:
    return {
        "name": name, "id": "00" * 8, "address": f"10.0.0.{port}:8500",
        "peer_address": f"10.0.0.{port}:8300", "dns_address": f"10.0.0.{port}:8600",
        "type": "follower", "voter": True, "health": "failed", "term": None, "commit_index": None,
        "applied_index": None, "last_contact_ms": None, "version": None, "uptime_s": None,
    }  # fmt: skip


def cluster(*ports: int) -> dict[str, object]:
    return {
        "cluster_id": CLUSTER, "leader": None, "term": 1, "quorum": 1, "failure_tolerance": 0,
        "zone": "example.org", "nodes": [member(f"n{port}", port) for port in ports],
    }  # fmt: skip


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What nodes answer by address and path; another address is silent."""
    given: Answers = {}
    asked: list[str] = []

    async def get(address: str, path: str) -> bytes:
        asked.append(address)
        if (address, path) not in given:
            await trio.sleep_forever()
        return json.dumps(given[address, path]).encode()

    monkeypatch.setattr(claims, "_get", get)
    given["asked", ""] = asked
    return given


def let_dns_name(monkeypatch: pytest.MonkeyPatch, name: Callable[[object], list[tuple[str, int]]]):
    class Servers:
        rank = 2

        def __init__(self, _name, servers, _rank, service):
            self.servers, self.service = servers, service

        async def look(self, _zone, findings: Findings) -> None:
            await trio.lowlevel.checkpoint()
            nodes = name(self.service)
            if self.servers and nodes:
                findings.sightings.append(Sighting("dns", self.servers[0], tuple(nodes), None))

    monkeypatch.setattr(claims, "DnsServers", Servers)


async def test_a_named_host_that_counts_the_address_makes_a_claim_with_all_it_knows(
    answers, autojump_clock
):
    answers[OTHER, "/v1/status/peers"] = ["10.0.0.1:8300", "10.0.0.2:8300"]
    answers[OTHER, "/v1/cluster"] = cluster(1, 2)

    claim = await claims.find(settings_of(**{"discovery.hosts": OTHER}))

    assert claim == Claim(CLUSTER, "example.org", "n1", OTHER)
    assert OWN not in answers["asked", ""]


async def test_a_node_that_answers_only_its_peers_makes_a_claim_too(answers, autojump_clock):
    answers[OTHER, "/v1/status/peers"] = ["10.0.0.1:8300"]

    claim = await claims.find(settings_of(**{"discovery.hosts": OTHER}))

    assert claim == Claim("", said_by=OTHER)
    assert trio.current_time() < 2.1


@pytest.mark.parametrize(
    "peers",
    [["10.0.0.3:8300"], ["10.0.0.1:8301"], [], {"error": "no"}, "10.0.0.1:8300"],
    ids=["others", "another port", "none", "an error", "no list"],
)
async def test_a_cluster_without_a_member_at_the_address_makes_no_claim(
    answers, peers, autojump_clock
):
    answers[OTHER, "/v1/status/peers"] = peers

    assert await claims.find(settings_of(**{"discovery.hosts": OTHER})) is None


async def test_its_own_address_among_the_hosts_is_not_asked(answers, autojump_clock):
    """All nodes of a cluster may be given the same list."""
    answers[OWN, "/v1/status/peers"] = ["10.0.0.1:8300"]

    assert await claims.find(settings_of(**{"discovery.hosts": f"{OWN},{OTHER}"})) is None
    assert answers["asked", ""] == [OTHER]
    assert 0.9 < trio.current_time() < 1.1


async def test_a_dns_server_that_names_the_address_as_a_peer_makes_a_claim(
    answers, monkeypatch, autojump_clock
):
    let_dns_name(monkeypatch, lambda service: [("10.0.0.1", 8300)] if service is PEER else [])

    claim = await claims.find(settings_of(**{"discovery.dns": "10.0.0.9:53"}))

    assert claim == Claim("", "hstore.local", said_by="10.0.0.9:53")


async def test_the_nodes_that_a_dns_server_names_are_asked_for_members_that_are_down(
    answers, monkeypatch, autojump_clock
):
    """A node whose disk was lost is not live, so no DNS record names it."""
    answers[OTHER, "/v1/status/peers"] = ["10.0.0.1:8300", "10.0.0.2:8300"]
    answers[OTHER, "/v1/cluster"] = cluster(1, 2)
    let_dns_name(
        monkeypatch,
        lambda service: [("10.0.0.2", 8300 if service is PEER else 8500)],
    )

    claim = await claims.find(settings_of(**{"discovery.dns": "10.0.0.9:53"}))

    assert claim == Claim(CLUSTER, "example.org", "n1", OTHER)


async def test_a_greeting_is_explained_by_the_member_it_came_from(answers, autojump_clock):
    answers[OTHER, "/v1/cluster"] = cluster(1, 2)

    claim = await claims.greeted(CLUSTER, "10.0.0.2:8300", settings_of())

    assert claim == Claim(CLUSTER, "example.org", "n1", OTHER)
    assert await claims.greeted(CLUSTER, "", settings_of()) == Claim(CLUSTER)
    assert await claims.greeted(CLUSTER, "10.0.0.7:8300", settings_of()) == Claim(CLUSTER)
    another = await claims.greeted("eeeeeeeeeeeeeeee", "10.0.0.2:8300", settings_of())
    assert another == Claim("eeeeeeeeeeeeeeee")


@pytest.mark.parametrize(
    ("claim", "wanted"),
    [
        (
            Claim(CLUSTER, "example.org", "n1", OTHER),
            [CLUSTER, "example.org", "`hstore leave -h n1`", "`hstore join --replace n1`", OTHER],
        ),
        (Claim(CLUSTER), [CLUSTER, f"`hstore leave -h {OWN}`"]),
        (Claim("", said_by=OTHER), ["a live cluster", OTHER]),
    ],
)
def test_the_error_names_the_cluster_and_the_commands(claim, wanted):
    error = claims.refusal(claim, settings_of())

    assert all(text in str(error) for text in [*wanted, OWN, "`hstore join`", "--new-cluster"])
    assert error.exit_code == 1
