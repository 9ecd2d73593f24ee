"""Which names exist and what they have: the table of the contract, and the rules on who is shown."""

from __future__ import annotations

from collections import Counter

import dnslib
import pytest

from hstore.dns.records import RRType
from hstore.dns.services import may_ask
from hstore.dns.zone import build_zone, host_names
from hstore.node.config.cluster_settings import RESERVED_LABELS

from .kit import answers_from, asked, contents, is_held, member, query, reply_of, texts, view

NODE = "node.hstore.local."
SRVS = {f"0 1 {8499 + i} n{i}.{NODE}" for i in (1, 2, 3)}
FACTS = (
    '"id=000000000000000{0}","name=n{0}","term=7","api=10.0.0.{0}:850{1}","peer=10.0.0.{0}:830{1}"'
)
SERVICES = ("_hstore", "_hstore-peer", "_hstore-leader")

TABLE = [
    ("leader", "A", {"10.0.0.1"}),
    ("leader", "SRV", {f"0 1 8500 n1.{NODE}"}),
    ("leader", "TXT", {FACTS.format(1, 0)}),
    ("nodes", "A", {"10.0.0.1", "10.0.0.2", "10.0.0.3"}),
    ("nodes", "SRV", SRVS),
    ("n2.node", "A", {"10.0.0.2"}),
    ("n2.node", "SRV", {f"0 1 8501 n2.{NODE}"}),
    ("n2.node", "TXT", {FACTS.format(2, 1)}),
    ("_hstore._tcp", "SRV", SRVS),
    ("_hstore-leader._tcp", "SRV", {f"0 1 8500 n1.{NODE}"}),
    ("voters", "A", {"10.0.0.1", "10.0.0.2", "10.0.0.3"}),
    ("voters", "SRV", SRVS),
    ("followers", "A", {"10.0.0.2", "10.0.0.3"}),
    ("followers", "SRV", {f"0 1 8501 n2.{NODE}", f"0 1 8502 n3.{NODE}"}),
    ("_hstore-peer._tcp", "SRV", {f"0 1 {8299 + i} n{i}.{NODE}" for i in (1, 2, 3)}),
    ("_services._dns-sd._udp", "PTR", {f"{one}._tcp.hstore.local." for one in SERVICES}),
    ("b._dns-sd._udp", "PTR", {"hstore.local."}),
    ("lb._dns-sd._udp", "PTR", {"hstore.local."}),
    ("_hstore._tcp", "PTR", {f"n{i}._hstore._tcp.hstore.local." for i in (1, 2, 3)}),
    ("_hstore-peer._tcp", "PTR", {f"n{i}._hstore-peer._tcp.hstore.local." for i in (1, 2, 3)}),
    ("_hstore-leader._tcp", "PTR", {"n1._hstore-leader._tcp.hstore.local."}),
    ("n2._hstore._tcp", "SRV", {f"0 1 8501 n2.{NODE}"}),
    ("n2._hstore._tcp", "TXT", {FACTS.format(2, 1)}),
    ("n2._hstore-peer._tcp", "SRV", {f"0 1 8301 n2.{NODE}"}),
    ("n1._hstore-leader._tcp", "SRV", {f"0 1 8500 n1.{NODE}"}),
    ("n1._hstore-leader._tcp", "TXT", {FACTS.format(1, 0)}),
    ("@", "NS", {f"n1.{NODE}", f"n2.{NODE}", f"n3.{NODE}"}),
    ("@", "SOA", {f"n1.{NODE} hostmaster.hstore.local. 42 3600 600 86400 1"}),
]


@pytest.mark.parametrize(("name", "rtype", "expected"), TABLE)
def test_a_name_has_the_records_of_the_contract(name, rtype, expected):
    reply = asked(answers_from(view()), name, rtype)
    assert reply.header.rcode == 0
    assert reply.header.aa == 1
    assert set(contents(reply.rr)) == expected
    assert len(reply.rr) == len(expected)
    assert {rr.ttl for rr in reply.rr} == {1}


@pytest.mark.parametrize(
    ("name", "rtype"),
    [
        ("leader", "AAAA"),
        ("leader", "MX"),
        ("leader", "TYPE65280"),
        ("nodes", "TXT"),
        ("nodes", "AAAA"),
        ("n1.node", "HTTPS"),
        ("_hstore._tcp", "A"),
        ("_hstore-leader._tcp", "TXT"),
        ("@", "A"),
        ("@", "DS"),
        ("@", "HINFO"),
        ("learners", "A"),
        ("learners", "SRV"),
        ("voters", "TXT"),
        ("_hstore-peer._tcp", "TXT"),
        ("n1._hstore._tcp", "A"),
        ("_services._dns-sd._udp", "SRV"),
        # Between the zone and its leaves (RFC 8020).
        ("node", "A"),
        ("_tcp", "SRV"),
        ("_udp", "PTR"),
        ("_dns-sd._udp", "PTR"),
    ],
)
def test_a_name_without_the_type_exists_and_gives_the_soa(name, rtype):
    reply = asked(answers_from(view()), name, rtype)
    assert (reply.header.rcode, reply.header.aa) == (0, 1)
    assert reply.rr == []
    assert texts(reply.auth) == {
        f"hstore.local SOA n1.{NODE} hostmaster.hstore.local. 42 3600 600 86400 1"
    }
    assert reply.auth[0].ttl == 1


@pytest.mark.parametrize(
    "name",
    [
        *("x", "x.leader", "n4.node", "n1", "x.n1.node", "_hstore._udp", "_x._tcp", "a\x00b"),
        *("n4._hstore._tcp", "n2._hstore-leader._tcp", "x.voters", "x._dns-sd._udp"),
    ],
)
@pytest.mark.parametrize("rtype", ["A", "TXT", "ANY"])
def test_a_name_that_does_not_exist_is_nxdomain_with_the_soa(name, rtype):
    reply = asked(answers_from(view()), name, rtype)
    assert (reply.header.rcode, reply.header.aa) == (dnslib.RCODE.NXDOMAIN, 1)
    assert reply.rr == []
    assert [rr.rtype for rr in reply.auth] == [dnslib.QTYPE.SOA]


def test_a_label_with_a_dot_in_it_is_not_two_labels():
    answers = answers_from(view())
    packet = b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\x07n1.node" + b"\x06hstore\x05local\0" + b"\0\1\0\1"
    reply = reply_of(answers, packet)
    assert reply[3] & 15 == dnslib.RCODE.NXDOMAIN


def test_members_that_are_not_live_are_left_out_of_groups_and_kept_under_their_own_name():
    answers = answers_from(view([member(1), member(2, live=False), member(3)]))
    assert set(contents(asked(answers, "nodes").rr)) == {"10.0.0.1", "10.0.0.3"}
    for name in ("nodes", "_hstore._tcp"):
        ports = {record.split()[2] for record in contents(asked(answers, name, "SRV").rr)}
        assert ports == {"8500", "8502"}
    assert f"n2.{NODE}" not in contents(asked(answers, "@", "NS").rr)
    assert contents(asked(answers, "n2.node").rr) == ["10.0.0.2"]


def test_groups_are_of_live_members_by_what_they_are():
    kinds = [member(1), member(2), member(3, voter=False), member(4, live=False)]
    answers = answers_from(view([*kinds, member(5, voter=False, live=False)]))
    for group, ports in (
        ("nodes", {"8500", "8501", "8502"}),
        ("voters", {"8500", "8501"}),
        ("followers", {"8501"}),
        ("learners", {"8502"}),
    ):
        found = {record.split()[2] for record in contents(asked(answers, group, "SRV").rr)}
        assert found == ports, group
        assert {f"10.0.0.{int(port) - 8499}" for port in ports} == set(
            contents(asked(answers, group, "A").rr)
        )


def test_a_leader_that_leaves_is_neither_voter_nor_learner_nor_follower():
    answers = answers_from(view([member(1, voter=False), member(2)]))
    for group, expected in (
        ("voters", ["10.0.0.2"]),
        ("learners", []),
        ("followers", ["10.0.0.2"]),
    ):
        assert contents(asked(answers, group).rr) == expected


def test_without_a_leader_every_live_voter_is_a_follower():
    answers = answers_from(view(leader=None))
    assert len(asked(answers, "followers").rr) == 3


def test_a_leader_in_contact_counts_as_live_whatever_the_health_checks_say():
    answers = answers_from(view([member(1, live=False), member(2)]))
    assert set(contents(asked(answers, "nodes").rr)) == {"10.0.0.1", "10.0.0.2"}


def test_group_names_exist_when_nobody_is_live():
    members = [member(1, live=False), member(2, live=False)]
    answers = answers_from(view(members, leader=None))
    groups = ("nodes", "voters", "followers", "learners")
    for name in (*groups, "_hstore._tcp", "_hstore-peer._tcp", "_tcp", "node"):
        reply = asked(answers, name, "SRV")
        assert (reply.header.rcode, reply.rr) == (0, [])
    assert contents(asked(answers, "@", "NS").rr) == [f"n1.{NODE}"]


def test_members_with_the_same_address_make_one_record():
    answers = answers_from(view([member(number, "127.0.0.1") for number in (1, 2, 3)]))
    assert contents(asked(answers, "nodes").rr) == ["127.0.0.1"]
    reply = asked(answers, "nodes", "SRV")
    assert set(contents(reply.rr)) == SRVS
    assert texts(reply.ar) == {f"n{i}.node.hstore.local A 127.0.0.1" for i in (1, 2, 3)}


def test_ipv6_members_have_aaaa_and_no_a():
    answers = answers_from(view([member(1, "2001:db8::1"), member(2, "::ffff:10.0.0.2")]))
    assert contents(asked(answers, "leader", "AAAA").rr) == ["2001:db8::1"]
    assert contents(asked(answers, "leader", "A").rr) == []
    assert contents(asked(answers, "nodes", "A").rr) == ["10.0.0.2"]
    assert '"api=[2001:db8::1]:8500","peer=[2001:db8::1]:8300"' in str(
        asked(answers, "leader", "TXT").rr[0].rdata
    )


@pytest.mark.parametrize(
    ("name", "rtype"), [("nodes", "SRV"), ("_hstore._tcp", "SRV"), ("@", "NS")]
)
def test_the_addresses_of_targets_are_in_the_additional_section(name, rtype):
    members = [member(1), member(2, "2001:db8::2")]
    reply = asked(answers_from(view(members)), name, rtype)
    assert texts(reply.ar) == {
        "n1.node.hstore.local A 10.0.0.1",
        "n2.node.hstore.local AAAA 2001:db8::2",
    }


@pytest.mark.parametrize("rtype", ["A", "AAAA", "SRV", "TXT", "ANY", "TYPE65280"])
@pytest.mark.parametrize(
    "name",
    ["leader", "_hstore-leader._tcp", "n1._hstore-leader._tcp", "n2._hstore-leader._tcp"],
)
@pytest.mark.parametrize("leader", [None, "stranger"])
def test_without_contact_to_a_leader_its_names_are_held_and_then_servfail_for_every_type(
    name, rtype, leader
):
    answers = answers_from(view(leader=leader))
    assert is_held(answers, query(f"{name}.hstore.local", rtype))
    assert is_held(answers, query(f"{name}.hstore.local", rtype), over_tcp=True)
    reply = asked(answers, name, rtype)
    assert reply.header.rcode == dnslib.RCODE.SERVFAIL
    assert reply.rr == reply.auth == []


def test_without_contact_to_a_leader_the_rest_is_answered_with_ttl_0():
    answers = answers_from(view(leader=None))
    for name, rtype, expected in TABLE[3:9]:
        reply = asked(answers, name, rtype)
        assert set(contents(reply.rr)) == expected
        assert {rr.ttl for rr in [*reply.rr, *reply.ar] if rr.rtype != 41} == {0}
    for name in ("node", "absent", "x.leader"):
        (soa,) = asked(answers, name).auth
        assert (soa.ttl, soa.rdata.times[4]) == (0, 0)


def test_ttl_and_the_minimum_of_the_soa_are_one_setting():
    answers = answers_from(view(ttl_s=30))
    assert asked(answers, "nodes").rr[0].ttl == 30
    (soa,) = asked(answers, "absent").auth
    assert (soa.ttl, soa.rdata.times[4]) == (30, 30)


@pytest.mark.parametrize("count", [2, 3, 5, 12])
def test_every_record_comes_first_about_equally_often(count):
    answers = answers_from(view(count))
    firsts = Counter(contents(asked(answers, "nodes").rr)[0] for _ in range(100 * count))
    assert len(firsts) == count
    assert min(firsts.values()) > 50
    assert max(firsts.values()) < 200


def test_the_order_behind_the_first_record_differs_too():
    answers = answers_from(view(3))
    orders = {tuple(contents(asked(answers, "nodes").rr)) for _ in range(300)}
    assert len(orders) > 3


def test_a_zone_of_one_label_and_a_deep_one_are_served():
    for zone in ("local", "a.b.c.d.example.com"):
        built = build_zone(view(zone=zone))
        name = tuple(f"leader.{zone}".encode().split(b"."))
        assert built.apex_of(name) == built.apex == name[1:]
        assert built.apex_of((b"example",)) is None


@pytest.mark.parametrize("zone", ["", "a..b", "x" * 64, ".".join(["x" * 60] * 5), "bücher.de"])
def test_a_zone_that_is_no_domain_name_is_an_error_and_the_last_view_stays(zone):
    answers = answers_from(view())
    with pytest.raises(ValueError):  # noqa: PT011  # from two places, with different words
        answers.view = view(zone=zone)
    with pytest.raises(ValueError):  # noqa: PT011
        answers.view = view(self_name=zone)
    assert answers.view == view()
    assert contents(asked(answers, "leader").rr) == ["10.0.0.1"]


def test_the_names_of_hosts_are_those_that_can_have_addresses():
    """The HTTP API answers to these names and to no other of the zone."""
    one_learner = [member(1), member(2), member(3, voter=False)]
    zone = build_zone(view(members=one_learner))
    having = {
        b".".join(name).decode()
        for name, node in zone.nodes.items()
        if RRType.A in node.rrsets and name[-2:] == (b"hstore", b"local")
    }
    assert host_names("HStore.Local", [one.name for one in one_learner]) == having


def test_no_datacenter_may_be_called_like_what_stands_before_the_zone():
    zone = build_zone(view(), with_reverse=False)
    labels = {name[-1 - len(zone.apex)].decode() for name in zone.nodes if name != zone.apex}
    assert {one for one in labels if not one.startswith("_")} <= set(RESERVED_LABELS)
    words = {one for one in RESERVED_LABELS if may_ask(one.encode(), b"")}
    assert words == {"service", "node", "addr", "query", "lock", "dc"}, "as `_KINDS` and `dc`"
