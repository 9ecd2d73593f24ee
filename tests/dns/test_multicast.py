"""What a node says of itself on its network: records, answers, announcements, and what is ignored."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any

import dnslib
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from hstore.dns import browser, multicast_sockets
from hstore.dns import responder as responder_module
from hstore.dns.browser import Neighbours, neighbours_in
from hstore.dns.finder import PEER, Findings, look
from hstore.dns.multicast import PORT, SERVICE, Announced, offers, pack_query
from hstore.dns.records import Address, RRType, Srv, Txt, name_of
from hstore.dns.responder import Responder

ME = Announced(
    cluster_id="00000000000000c1",
    node_id="00000000000000a1",
    zone="hstore.local",
    name="n1",
    ip=IPv4Address("10.0.0.1"),
    api_port=8500,
    peer_port=8300,
    protocol=2,
)
INSTANCE = (b"00000000000000a1", *SERVICE)
HOST = name_of("hstore-00000000000000a1.local")
FLUSH = 0x8000
LEGACY = 40000


def query(*questions, ident=7, known=()):
    """Pack a query; a question is name, type and class."""
    message = dnslib.DNSRecord(dnslib.DNSHeader(id=ident, bitmap=0))
    for name, rtype, rclass in questions:
        message.add_question(dnslib.DNSQuestion(".".join(p.decode() for p in name), rtype, rclass))
    for record in known:
        message.add_answer(record)
    return bytes(message.pack())


def responder(announced=ME):
    """One that has no socket: it is only asked for its replies."""
    unused: Any = None
    return Responder(lambda: announced, unused, (), Random(1))


def asked(packet, port=PORT, now=100.0, announced=ME):
    return responder(announced).reply(packet, port, now)


PTR = (SERVICE, RRType.PTR, 1)


def test_a_browser_gets_the_instance_and_all_that_it_will_ask_next():
    reply = asked(query(PTR))
    assert not reply.is_unicast
    parsed = dnslib.DNSRecord.parse(reply.packet)
    assert (parsed.header.id, parsed.header.qr, parsed.header.aa, parsed.questions) == (0, 1, 1, [])
    assert [str(rr.rdata) for rr in parsed.rr] == ["00000000000000a1._hstore._tcp.local."]
    assert sorted((rr.rtype, rr.rclass) for rr in parsed.ar) == [
        (RRType.A, FLUSH | 1),
        (RRType.TXT, FLUSH | 1),
        (RRType.SRV, FLUSH | 1),
    ]
    # The shared record flushes nothing: other nodes have theirs.
    assert parsed.rr[0].rclass == 1


def test_a_legacy_querier_gets_an_ordinary_reply_that_it_forgets_soon():
    reply = asked(query(PTR, ident=77), port=LEGACY)
    assert reply.is_unicast
    parsed = dnslib.DNSRecord.parse(reply.packet)
    assert (parsed.header.id, str(parsed.q.qname), parsed.q.qtype) == (
        77,
        "_hstore._tcp.local.",
        RRType.PTR,
    )
    for rr in (*parsed.rr, *parsed.ar):
        assert rr.rclass == 1
        assert rr.ttl <= 10


def test_who_asks_for_a_unicast_reply_gets_one():
    assert asked(query((SERVICE, RRType.PTR, FLUSH | 1))).is_unicast
    both = query((SERVICE, RRType.PTR, FLUSH | 1), (INSTANCE, RRType.SRV, 1))
    assert not asked(both).is_unicast


def test_a_record_is_multicast_at_most_once_a_second():
    one = responder()
    assert one.reply(query(PTR), PORT, 100.0)
    assert one.reply(query(PTR), PORT, 100.9) is None
    assert one.reply(query((HOST, RRType.A, 1)), PORT, 100.9)
    assert one.reply(query(PTR), PORT, 101.0)


def test_unicast_replies_have_a_limit_in_each_second():
    one = responder()
    replies = [
        one.reply(query(PTR), LEGACY, 100.0) for _ in range(responder_module.UNICAST_PER_S + 5)
    ]
    assert sum(reply is not None for reply in replies) == responder_module.UNICAST_PER_S
    assert one.reply(query(PTR), LEGACY, 101.0)


@pytest.mark.parametrize(("ttl", "is_answered"), [(120, False), (60, False), (59, True)])
def test_what_the_asker_knows_is_not_said_again_unless_it_will_soon_forget_it(ttl, is_answered):
    known = dnslib.RR(
        "_hstore._tcp.local",
        dnslib.QTYPE.PTR,
        ttl=ttl,
        rdata=dnslib.PTR("00000000000000a1._hstore._tcp.local"),
    )
    assert (asked(query(PTR, known=[known])) is not None) == is_answered


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"x" * 12,
        query(PTR)[:20],
        query((name_of("_http._tcp.local"), RRType.PTR, 1)),
        query((SERVICE, RRType.A, 1)),
        query((SERVICE, RRType.PTR, 3)),
        query(PTR)[:2] + b"\x84\0" + query(PTR)[4:],  # a response
        query(PTR)[:2] + b"\x28\0" + query(PTR)[4:],  # another opcode
        query(PTR)[:2] + b"\0\3" + query(PTR)[4:],  # a response code
        query((name_of("leader.hstore.local"), RRType.A, 1)),  # it does not lead
    ],
)
def test_what_is_no_question_to_this_node_is_not_answered(packet):
    assert asked(packet) is None
    assert asked(packet, port=LEGACY) is None


def test_a_node_that_belongs_to_no_cluster_yet_answers_nothing():
    assert asked(query(PTR), announced=None) is None


def test_only_the_first_of_many_questions_are_looked_at():
    others = [(name_of(f"x{number}.local"), 1, 1) for number in range(8)]
    assert asked(query(*others, PTR)) is None
    assert asked(query(*others[:7], PTR))


def rows(announced):
    return {
        (b".".join(o.record.owner).decode(), RRType(o.record.rtype).name): o
        for o in offers(announced)
    }


def test_below_local_the_zones_names_are_answered_and_are_shared():
    found = rows(replace(ME, leads=True, ttl_s=3))
    for name in ("leader.hstore.local", "nodes.hstore.local", "n1.node.hstore.local"):
        offer = found[name, "A"]
        assert offer.record.rdata == Address(IPv4Address("10.0.0.1"))
        assert (offer.is_unique, offer.record.ttl_s) == (False, 3)
    assert ("leader.hstore.local", "A") not in rows(ME)


@pytest.mark.parametrize("zone", ["kv.example.org", "local"])
def test_a_zone_that_is_not_below_local_is_no_business_of_multicast(zone):
    names = {name for name, _ in rows(replace(ME, zone=zone, leads=True))}
    assert names == {
        "_hstore._tcp.local",
        "_services._dns-sd._udp.local",
        "00000000000000a1._hstore._tcp.local",
        "hstore-00000000000000a1.local",
    }


def test_an_ipv6_node_is_in_an_aaaa_record_and_in_brackets():
    found = rows(replace(ME, ip=IPv6Address("2001:db8::1")))
    assert ("hstore-00000000000000a1.local", "AAAA") in found
    txt = found["00000000000000a1._hstore._tcp.local", "TXT"].record.rdata
    assert b"peer=[2001:db8::1]:8300" in txt.strings
    srv = found["00000000000000a1._hstore._tcp.local", "SRV"].record.rdata
    assert srv == Srv(8500, HOST)


PACKETS = [query(PTR), query(PTR, (INSTANCE, RRType.ANY, 255)), asked(query(PTR)).packet]


@given(
    packet=st.sampled_from(PACKETS),
    edits=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=12),
    end=st.integers(0, 600),
    port=st.sampled_from([PORT, LEGACY]),
)
@example(packet=PACKETS[0][:12] + b"\xc0\x0c\0\x0c\0\1", edits=[], end=600, port=PORT)
def test_no_packet_stops_a_node_or_who_asks(packet, edits, end, port):
    changed = bytearray(packet[:end])
    for at, value in edits:
        if at < len(changed):
            changed[at] = value
    reply = asked(bytes(changed), port)
    assert reply is None or len(reply.packet) <= 1232
    neighbours_in(bytes(changed), 7)


# The socket


@asynccontextmanager
async def answering(announced):
    """A responder whose group is a socket of the test."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as group:
        group.bind(("127.0.0.1", 0))
        group.setblocking(False)
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        link.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            one = Responder(announced, link, group.getsockname(), Random(1))
            await nursery.start(one.run)
            yield group, link.getsockname(), nursery.cancel_scope


def heard(group):
    packets = []
    while True:
        try:
            packets.append(dnslib.DNSRecord.parse(group.recv(9000)))
        except BlockingIOError:
            return packets


async def test_a_node_announces_itself_twice_and_again_when_it_has_changed(autojump_clock):
    now: list[Announced | None] = [None]
    async with answering(lambda: now[0]) as (group, _address, scope):
        await trio.sleep(3)
        assert heard(group) == []
        now[0] = ME
        await trio.sleep(10)
        assert [len(one.rr) for one in heard(group)] == [5, 5]
        now[0] = replace(ME, leads=True)
        await trio.sleep(10)
        assert heard(group) == []
        now[0] = replace(ME, name="db")
        await trio.sleep(10)
        assert len(heard(group)) == 2
        scope.cancel()


async def test_a_node_that_ends_takes_back_what_it_said_by_a_ttl_of_zero(autojump_clock):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as group:
        group.bind(("127.0.0.1", 0))
        group.setblocking(False)
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with trio.move_on_after(5):
            await Responder(lambda: ME, link, group.getsockname(), Random(1)).run()
        last = heard(group)[-1]
        assert [record.ttl for record in last.rr] == [0] * len(offers(ME))
        assert link.fileno() == -1


async def test_garbage_does_not_end_the_responder_and_a_question_is_answered_after_it(
    autojump_clock,
):
    async with answering(lambda: ME) as (group, address, scope):
        await trio.sleep(5)
        heard(group)
        for size in range(0, 400, 7):
            group.sendto(Random(size).randbytes(size), address)
        group.sendto(pack_query(SERVICE, RRType.PTR, 9), address)
        await trio.sleep(1)
        (reply,) = heard(group)
        assert (reply.header.id, len(reply.rr), len(reply.ar)) == (9, 1, 3)
        scope.cancel()


# Who asks


def reply_to(ident=9, announced=ME):
    return asked(pack_query(SERVICE, RRType.PTR, ident), LEGACY, announced=announced).packet


def test_a_reply_is_read_as_what_a_node_says_of_itself():
    (found,) = neighbours_in(reply_to(), 9)
    assert (found.cluster_id, found.node_id) == ("00000000000000c1", "00000000000000a1")
    assert (found.zone, found.api, found.peer) == (
        name_of("hstore.local"),
        ("10.0.0.1", 8500),
        ("10.0.0.1", 8300),
    )


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        reply_to(ident=8),
        reply_to().replace(b"api=10.0.0.1:8500", b"api=10.0.0.x:8500"),
        reply_to().replace(b"api=10.0.0.1:8500", b"api=10.0.0.1:0000"),
        reply_to().replace(b"id=00000000000000a1", b"id=0000000000000/a1"[:19]),
        reply_to().replace(b"zone=", b"zona="),
        reply_to().replace(b"zone=hstore.local", b"zone=hstore..ocal"),
    ],
)
def test_what_is_not_as_a_node_writes_it_is_nobody(packet):
    assert neighbours_in(packet, 9) == []


def ttl(value):
    return [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("@i", value))]


def test_a_reply_that_crossed_a_router_is_not_of_this_network():
    assert multicast_sockets.is_from_link(ttl(255))
    assert not multicast_sockets.is_from_link(ttl(254))
    hops = [(socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("@i", 64))]
    assert not multicast_sockets.is_from_link(hops)


def always(one):
    return lambda: one


@asynccontextmanager
async def network(monkeypatch, *announced):
    """A network of one interface, `eth0`, on which these nodes answer, played on loopback."""
    async with trio.open_nursery() as nursery:
        links: list[Any] = []
        nowhere = ("127.0.0.1", 9)
        for one in announced:
            link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            link.bind(("127.0.0.1", 0))
            links.append(link.getsockname())
            await nursery.start(Responder(always(one), link, nowhere, Random(1)).run)

        class Asker(socket.socket):
            def sendto(self, packet, *_group):
                return max(
                    socket.socket.sendto(self, packet, address) for address in links or [nowhere]
                )

        def open_asker(_index, family):
            if family == socket.AF_INET6:
                raise OSError(101, "Network is unreachable")
            asker = Asker(socket.AF_INET, socket.SOCK_DGRAM)
            asker.setblocking(False)
            return asker, ("group", 0)

        monkeypatch.setattr(multicast_sockets, "interfaces", lambda: [(2, "eth0")])
        monkeypatch.setattr(multicast_sockets, "open_asker", open_asker)
        monkeypatch.setattr(multicast_sockets, "is_from_link", lambda _data: True)
        yield
        nursery.cancel_scope.cancel()


OTHER = replace(ME, node_id="00000000000000a2", ip=IPv4Address("10.0.0.2"), api_port=8501)


async def test_all_nodes_of_the_zone_on_the_network_are_found(monkeypatch):
    stranger = replace(ME, node_id="00000000000000a3", zone="other.local", api_port=8503)
    async with network(monkeypatch, ME, OTHER, stranger):
        with trio.fail_after(5):
            findings = await look("hstore.local", [Neighbours()])
    assert set(findings.addresses()) == {("10.0.0.1", 8500), ("10.0.0.2", 8501)}
    assert {one.source for one in findings.sightings} == {"multicast DNS"}


async def test_who_looks_for_peers_gets_peer_addresses(monkeypatch):
    async with network(monkeypatch, ME):
        findings = await look("hstore.local", [Neighbours(service=PEER)])
    assert findings.addresses() == [("10.0.0.1", 8300)]


async def test_where_nobody_answers_the_interfaces_are_named_in_time(autojump_clock, monkeypatch):
    async with network(monkeypatch):
        start = trio.current_time()
        findings = Findings()
        await Neighbours().look(name_of("hstore.local"), findings)
        assert trio.current_time() - start == pytest.approx(browser.BROWSE_S)
    assert findings.sightings == []
    assert [(one.server, one.outcome) for one in findings.attempts] == [
        ("eth0", "nobody answered"),
        ("eth0 (IPv6)", "it has no address there"),
    ]


async def test_a_reply_from_beyond_the_link_is_not_heard(autojump_clock, monkeypatch):
    async with network(monkeypatch, ME):
        monkeypatch.setattr(multicast_sockets, "is_from_link", lambda _data: False)
        findings = await look("hstore.local", [Neighbours()])
    assert findings.sightings == []


def test_the_facts_fit_into_one_record():
    long = replace(ME, zone=".".join(["a" * 60] * 3), name="n" * 63)
    (txt,) = [o.record.rdata for o in offers(long) if isinstance(o.record.rdata, Txt)]
    assert all(len(one) <= 255 for one in txt.strings)
