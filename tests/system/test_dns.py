"""What dig sees of real nodes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from .cluster import Cluster, Node, eventually

ZONE = "hstore.local"


@pytest.fixture(autouse=True)
def _dig(require_tool: Callable[[str], str]) -> None:
    require_tool("dig")


def status_of(answer: str) -> str:
    found = re.search(r"status: ([A-Z]+)", answer)
    assert found, answer
    return found[1]


def fails(node: Node, name: str, kind: str) -> bool:
    return status_of(node.dig(name, kind).out) == "SERVFAIL"


def at_once(
    look: Callable[[Node, str, str], bool], node: Node, questions: list[tuple[str, str]]
) -> list[bool]:
    """Return what `look` gives for each name and type, asked all at the same time."""
    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(lambda question: look(node, *question), questions))


def names(cluster: Cluster) -> dict[str, Node]:
    """Return the nodes by the names that the cluster gave them."""
    by_address = {node.address: node for node in cluster.nodes}
    return {one.name: by_address[one.address] for one in cluster.nodes[0].info().nodes}


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_every_node_answers_every_name(shared: Cluster, transport: str) -> None:
    leader = shared.leader()
    named = names(shared)
    leader_name = next(name for name, node in named.items() if node is leader)
    here = ["127.0.0.1"]
    expected = {
        (f"leader.{ZONE}", "A"): here,
        (f"nodes.{ZONE}", "A"): here,
        (f"{leader_name}.node.{ZONE}", "A"): here,
        (f"LEADER.{ZONE.upper()}", "A"): here,
        (f"leader.{ZONE}", "AAAA"): [],
        (f"_hstore-leader._tcp.{ZONE}", "SRV"): [f"0 1 {leader.port} {leader_name}.node.{ZONE}."],
        (f"_hstore._tcp.{ZONE}", "SRV"): sorted(
            f"0 1 {one.port} {name}.node.{ZONE}." for name, one in named.items()
        ),
        (ZONE, "NS"): sorted(f"{name}.node.{ZONE}." for name in named),
    }
    for node in shared.nodes:
        *found, facts, soa = node.dig_all(
            [*expected, (f"leader.{ZONE}", "TXT"), (ZONE, "SOA")], transport
        )
        assert dict(zip(expected, found, strict=True)) == expected
        text = " ".join(facts)
        assert f"api={leader.address}" in text
        assert f"name={leader_name}" in text
        assert len(soa) == 1


def test_answers_are_authoritative_with_the_ttl_of_the_cluster(shared: Cluster) -> None:
    answer = shared.nodes[1].dig(f"leader.{ZONE}").out
    assert status_of(answer) == "NOERROR"
    flags = re.search(r"flags: ([a-z ]+);", answer)
    assert flags
    assert "aa" in flags[1].split()
    assert re.search(rf"^leader\.{ZONE}\.\s+1\s+IN\s+A\s+127\.0\.0\.1$", answer, re.MULTILINE)


def test_what_is_absent_what_is_foreign_and_what_is_not_answered(shared: Cluster) -> None:
    node = shared.nodes[2]
    absent = node.dig(f"absent.{ZONE}").out
    assert status_of(absent) == "NXDOMAIN"
    assert "SOA" in absent
    between = node.dig(f"node.{ZONE}").out
    assert status_of(between) == "NOERROR"
    assert "SOA" in between
    assert status_of(node.dig("example.com").out) == "REFUSED"
    assert status_of(node.dig(ZONE, "SOA", "+opcode=notify").out) == "NOTIMP"
    assert "Transfer failed" in node.dig(ZONE, "AXFR").out
    assert status_of(node.dig(f"leader.{ZONE}", "A", "-c", "CH").out) == "REFUSED"
    assert status_of(node.dig(f"leader.{ZONE}", "A", "+edns=1", "+noednsneg").out) == "BADVERS"


def test_a_node_without_majority_fails_for_the_leader_and_answers_the_rest_with_ttl_0(
    shared: Cluster,
) -> None:
    survivor = shared.followers()[0]
    by_name = names(shared)
    for node in shared.nodes:
        if node is not survivor:
            node.kill()
    names_asked = (f"leader.{ZONE}", f"_hstore-leader._tcp.{ZONE}")
    questions = list(itertools.product(names_asked, ("A", "TXT", "SRV", "AAAA")))
    # Each is held for 2 s first.
    eventually(lambda: all(at_once(fails, survivor, questions)), "SERVFAIL for the leader's names")
    own = next(name for name, node in by_name.items() if node is survivor)
    rest = survivor.dig(f"{own}.node.{ZONE}").out
    assert re.search(rf"^{own}\.node\.{ZONE}\.\s+0\s+IN\s+A\s+127\.0\.0\.1$", rest, re.MULTILINE)
    assert status_of(survivor.dig(f"nodes.{ZONE}").out) == "NOERROR"

    other = next(node for node in shared.nodes if node is not survivor)
    other.start()
    eventually(lambda: survivor.dig_short(f"leader.{ZONE}") == ["127.0.0.1"], "a leader again")


def test_a_leader_that_lost_its_majority_does_not_name_itself(shared: Cluster) -> None:
    leader = shared.leader()
    for node in shared.followers():
        node.kill()
    eventually(
        lambda: status_of(leader.dig(f"leader.{ZONE}").out) == "SERVFAIL",
        "SERVFAIL by a leader alone",
        within=10,
    )
