"""The zone of real nodes as four independent clients see it: dig, kdig, drill and host.

dig is asked for everything that the contract's table has, over UDP and TCP, in mixed case and with
several sizes of EDNS; the others have to read the same. Their packages are in `.ci/run`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from .cluster import Cluster, Node, answers_to, eventually, run
from .test_dns import ZONE, names, status_of

Question = tuple[str, str]
Row = tuple[str, str, list[str]]
Ask = Callable[[Sequence[Question]], list[list[str]]]
"""Gives the sorted answers to each name and type."""


@pytest.fixture(autouse=True)
def _tools(require_tool: Callable[[str], str]) -> None:
    for tool in ("dig", "kdig", "drill", "host"):
        require_tool(tool)


def said(node: Node, *words: str) -> str:
    return run(*node._cluster.prefix, *words, env=node._cluster.env).out


def by_dig(node: Node, *options: str) -> Ask:
    return lambda questions: node.dig_all(questions, *options)


def by_kdig(node: Node, *options: str) -> Ask:
    at = ("kdig", "@127.0.0.1", "-p", str(node.dns_port), "+noall", "+answer", *options)

    def ask(questions: Sequence[Question]) -> list[list[str]]:
        words = [word for question in questions for word in question]
        # It asks for names in lower case, whatever it is given.
        lower = [(name.lower(), rtype) for name, rtype in questions]
        return answers_to(lower, said(node, *at, *words))

    return ask


def each(ask: Callable[[str, str], list[str]]) -> Ask:
    """Of a client that takes one question at a time."""
    return lambda questions: [ask(*question) for question in questions]


def by_drill(node: Node, *options: str) -> Ask:
    def ask(name: str, rtype: str) -> list[str]:
        at = ("-p", str(node.dns_port), *options, name, "@127.0.0.1", rtype)
        answer = said(node, "drill", *at).partition("ANSWER SECTION:")[2]
        rows = answer.partition(";; AUTHORITY")[0].splitlines()
        return sorted(row.split(maxsplit=4)[4].strip() for row in rows if row.strip())

    return each(ask)


def by_host(node: Node, *options: str) -> Ask:
    words = r"has address|has IPv6 address|has SRV record|descriptive text|domain name pointer"
    pattern = re.compile(rf"^\S+ (?:{words}|name server|has SOA record) (.*)$", re.MULTILINE)

    def ask(name: str, rtype: str) -> list[str]:
        at = ("-p", str(node.dns_port), *options, "-t", rtype, name, "127.0.0.1")
        return sorted(found[1].strip() for found in pattern.finditer(said(node, "host", *at)))

    return each(ask)


def table(cluster: Cluster) -> list[Row]:
    """Every name and type of the contract, with what it has to have now."""
    named, leader = names(cluster), cluster.leader()
    chief = next(name for name, node in named.items() if node is leader)
    info = {one.name: one for one in leader.info().nodes}

    def host(name: str) -> str:
        return f"{name}.node.{ZONE}."

    def srv(name: str) -> str:
        return f"0 1 {named[name].port} {host(name)}"

    def facts(name: str) -> str:
        one = info[name]
        facts = (
            *(f"id={one.id}", f"name={name}", f"term={leader.info().term}"),
            *(f"api={one.address}", f"peer={one.peer_address}"),
        )
        return " ".join(f'"{fact}"' for fact in facts)

    def peer(name: str) -> str:
        return f"0 1 {info[name].peer_address.rpartition(':')[2]} {host(name)}"

    here, followers = ["127.0.0.1"], sorted(set(named) - {chief})
    other = followers[0]
    rows = [
        ("leader", "A", here),
        ("leader", "AAAA", []),
        ("leader", "SRV", [srv(chief)]),
        ("leader", "TXT", [facts(chief)]),
        *((group, "A", here) for group in ("nodes", "voters", "followers")),
        *((group, "SRV", [srv(name) for name in named]) for group in ("nodes", "voters")),
        ("followers", "SRV", [srv(name) for name in followers]),
        *(("learners", rtype, []) for rtype in ("A", "AAAA", "SRV", "TXT")),
        (f"{other}.node", "A", here),
        (f"{other}.node", "SRV", [srv(other)]),
        (f"{other}.node", "TXT", [facts(other)]),
        ("_hstore._tcp", "SRV", [srv(name) for name in named]),
        ("_hstore-peer._tcp", "SRV", [peer(name) for name in named]),
        ("_hstore-leader._tcp", "SRV", [srv(chief)]),
        ("_hstore._tcp", "PTR", [f"{name}._hstore._tcp.{ZONE}." for name in named]),
        (f"{other}._hstore._tcp", "SRV", [srv(other)]),
        (
            "_services._dns-sd._udp",
            "PTR",
            [f"{one}._tcp.{ZONE}." for one in ("_hstore", "_hstore-leader", "_hstore-peer")],
        ),
        ("", "NS", [host(name) for name in named]),
    ]
    whole = [(f"{name}.{ZONE}".strip("."), rtype, sorted(found)) for name, rtype, found in rows]
    return [*whole, ("1.0.0.127.in-addr.arpa", "PTR", sorted(host(name) for name in named))]


def told_of(rows: list[Row], ask: Ask) -> list[Row]:
    """Return the rows as a client is told them."""
    questions = [(name, rtype) for name, rtype, _ in rows]
    return [(*one, found) for one, found in zip(questions, ask(questions), strict=True)]


def mixed(name: str) -> str:
    """The name as a resolver that randomises case might ask for it."""
    return "".join(c.upper() if i % 2 else c for i, c in enumerate(name))


def test_four_clients_read_the_same_in_every_name_and_type_of_the_contract(
    shared: Cluster,
) -> None:
    node = shared.followers()[0]
    ways = {
        "dig": by_dig(node),
        "dig +tcp": by_dig(node, "+tcp"),
        "kdig": by_kdig(node),
        "drill": by_drill(node),
        "host": by_host(node),
    }
    rows = table(shared)
    for way, ask in ways.items():
        assert told_of(rows, ask) == rows, way
    rest = {
        "dig +noedns": by_dig(node, "+noedns"),
        "dig +bufsize=512": by_dig(node, "+bufsize=512"),
        "kdig +tcp": by_kdig(node, "+tcp"),
        "drill -t": by_drill(node, "-t"),
        "host -T": by_host(node, "-T"),
    }
    rows = [(mixed(name), rtype, expected) for name, rtype, expected in rows[:8]]
    for way, ask in rest.items():
        assert told_of(rows, ask) == rows, way


def test_the_question_comes_back_in_its_case_and_what_does_not_fit_by_tcp(shared: Cluster) -> None:
    node = shared.followers()[0]
    name = mixed(f"_hstore._tcp.{ZONE}")
    whole = node.dig(name, "PTR", "+bufsize=1232").out
    assert f";{name}." in whole
    assert re.search(r"EDNS: version: 0, flags:; udp: 1232", whole)
    cut = node.dig(name, "PTR", "+bufsize=512").out
    # Of the additional records there are as many as fit.
    assert re.search(r"ANSWER: 3, AUTHORITY: 0, ADDITIONAL: [2-9]$", cut, re.MULTILINE), cut
    assert "flags: qr aa rd;" in cut
    assert int(whole.partition("MSG SIZE  rcvd: ")[2].split()[0]) > 512
    soa = [(ZONE, "SOA")]
    assert by_dig(node)(soa) == by_kdig(node)(soa) == by_drill(node)(soa) != [[]]


def test_a_node_with_recursors_resolves_other_zones_and_one_without_refuses(
    shared: Cluster, tmp_path: Path
) -> None:
    upstream = shared.followers()[0]
    expected = by_dig(upstream)([(f"nodes.{ZONE}", "SRV")])
    assert len(expected[0]) == 3
    with Cluster(tmp_path, 1) as other:
        recursor = f"127.0.0.1:{upstream.dns_port}"
        node = other.up("--zone", "other.test", "--recursors", recursor).nodes[0]
        for ask in (by_dig(node), by_dig(node, "+tcp"), by_kdig(node), by_drill(node)):
            assert ask([(mixed(f"nodes.{ZONE}"), "SRV")]) == expected
        forwarded = node.dig(f"absent.{ZONE}").out
        assert (status_of(forwarded), "SOA" in forwarded) == ("NXDOMAIN", True)
        assert re.search(r"flags: qr rd ra;", forwarded), forwarded
        assert re.search(r"flags: qr aa rd;", node.dig("leader.other.test").out)
        assert status_of(node.dig(f"nodes.{ZONE}", "A", "+norecurse").out) == "REFUSED"
        # Only the first server answers for its own zone; what neither has is no answer.
        eventually(lambda: status_of(node.dig("example.com").out) == "SERVFAIL", "SERVFAIL", 10)
        assert status_of(upstream.dig("leader.other.test").out) == "REFUSED"
    other.assert_no_traceback()
