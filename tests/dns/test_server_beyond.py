"""What a server does for clients beyond this machine, and with names beyond its zone."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from hstore.dns.ratelimit import (
    BURST,
    NETWORKS_MAX,
    RATE_PER_S,
    RateLimit,
    Verdict,
    network_of,
)
from hstore.dns.recursor import Recursor, may_recurse
from hstore.dns.server import DnsServer, _is_reached_from_beyond
from hstore.dns.streams import FORWARDED_MAX, client_of

from .kit import opt, query, view
from .test_recursor import answer
from .test_server import PATIENCE_S, bound, framed, read_framed, udp_client

# Recursors


class Upstream:
    """A recursor that answers at once, or when it may."""

    def __init__(self, say=answer):
        self.asked = []
        self.gate = None
        self.say = say

    async def __call__(self, _server, question):
        self.asked.append(question)
        if self.gate is not None:
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        return self.say(question)

    def recursor(self):
        return Recursor([("192.0.2.1", 53)], udp=self, tcp=self)


@asynccontextmanager
async def serving(upstream, host="127.0.0.1"):
    server = DnsServer(*bound(host), recursor=upstream.recursor())
    server.view = view()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server.run)
        with trio.fail_after(PATIENCE_S):
            yield server, address
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(upstream):
    """A client's end of a TCP connection in memory."""
    udp, tcp = bound()
    udp.close()
    tcp.close()
    server = DnsServer(udp, tcp, recursor=upstream.recursor())
    server.view = view()
    theirs, ours = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, ours)
        yield theirs
        await theirs.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
async def test_a_name_outside_the_zone_is_resolved_by_udp_and_by_tcp(host):
    async with serving(Upstream(), host) as (server, (_host, port)):
        at = {"0.0.0.0": "127.0.0.7", "::": "::1"}.get(host, host)
        async with udp_client((at, port)) as client:
            await client.send(query("example.com", ident=7))
            by_udp = await client.recv(2000)
        async with await trio.open_tcp_stream(at, port) as stream:
            await stream.send_all(framed(query("example.com", ident=7)))
            assert await read_framed(stream) == [by_udp]
        assert by_udp[:4] == b"\0\7\x81\x80"
        assert by_udp[6:8] == b"\0\1"
        assert (server.stats.queries, server.stats.replies) == (2, 2)


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        (query("leader.hstore.local"), 0),
        (query("absent.hstore.local"), 3),
        (query("hstore.local", "ANY"), 0),
        (query("1.0.0.10.in-addr.arpa", "PTR"), 0),
        (query("x.1.0.0.10.in-addr.arpa", "PTR"), 3),
        # Not what a recursor is for: no recursion wanted, another class, a transfer, no query.
        (query("example.com", flags=0), 5),
        (query("example.com", rclass=3), 5),
        (query("example.com", "AXFR"), 5),
        (query("hstore.local", "AXFR"), 5),
        (query("example.com", flags=0x2900), 4),
        (query("example.com") + b"x", 1),
    ],
)
async def test_what_is_answered_here_is_never_forwarded_and_has_no_ra(packet, rcode):
    upstream = Upstream()
    async with serving(upstream) as (_server, address), udp_client(address) as client:
        await client.send(packet)
        reply = await client.recv(2000)
        assert (reply[3] & 15, reply[3] & 0x80) == (rcode, 0)
    async with connected(upstream) as stream:
        await stream.send_all(framed(packet))
        assert (await read_framed(stream))[0][3] & 0x8F == rcode
    assert upstream.asked == []


async def test_without_a_view_nothing_is_forwarded_before_the_zone_is_known():
    upstream = Upstream()
    async with serving(upstream) as (server, address), udp_client(address) as client:
        server.view = None
        for number, name in enumerate(("leader.example", "leader.hstore.local"), 1):
            await client.send(query(name, ident=number))
        while server.held < 2:
            await trio.lowlevel.checkpoint()
        await client.send(query("example.com"))
        assert (await client.recv(2000))[3] == 2
        assert upstream.asked == []
        server.view = view()
        replies = sorted([await client.recv(2000) for _ in range(2)])
        assert [reply[3] for reply in replies] == [0x80, 0]
    assert len(upstream.asked) == 1


async def test_a_client_from_afar_is_refused():
    packet = query("example.com")
    server, datagrams = beyond(*((packet, host) for host in FAR), upstream=Upstream())
    server._drain_singly()
    assert [(reply[3] & 15, client[0]) for reply, client in datagrams.sent] == [
        (5, host) for host in FAR
    ]
    for host in ("127.0.0.1", "10.0.0.1", "fe80::1%lo"):
        server, datagrams = beyond((packet, host), upstream=Upstream())
        async with trio.open_nursery() as nursery:
            server._nursery = nursery
            server._drain_singly()
        ((reply, _client),) = datagrams.sent
        assert reply[3] == 0x80


FAR = ("8.8.8.8", "2001:db8::1", "::ffff:8.8.8.8", "0.0.0.0")


async def test_a_tcp_client_that_is_gone_before_it_is_asked_who_it_is_may_not_recurse():
    async with trio.SocketStream(trio.socket.socket()) as never_connected:
        assert not may_recurse(client_of(never_connected))


@pytest.mark.parametrize(("edns", "tc"), [(b"", True), (opt(512), True), (opt(4096), False)])
async def test_by_udp_a_long_answer_is_cut_to_what_the_client_takes(edns, tc):
    async with serving(Upstream(lambda q: answer(q, size=1024))) as (_server, address):
        async with udp_client(address) as client:
            await client.send(query("example.com", "TXT", additional=edns))
            reply = await client.recv(4000)
    assert bool(reply[2] & 2) == tc
    assert len(reply) <= (512 if tc else 1232)


async def test_answers_here_do_not_wait_for_those_of_recursors():
    upstream = Upstream()
    upstream.gate = trio.Event()
    async with serving(upstream) as (_server, address), udp_client(address) as client:
        await client.send(query("example.com", ident=1))
        await client.send(query(ident=2))
        assert (await client.recv(2000))[1] == 2
        upstream.gate.set()
        assert (await client.recv(2000))[1] == 1


async def test_who_pipelines_need_not_wait_for_names_outside():
    upstream = Upstream()
    upstream.gate = trio.Event()
    async with connected(upstream) as stream:
        names = ["leader.hstore.local", "example.com", "a.example", "nodes.hstore.local", "b.c"]
        await stream.send_all(framed(*(query(name, ident=n) for n, name in enumerate(names))))
        assert [reply[1] for reply in await read_framed(stream, 2)] == [0, 3]
        upstream.gate.set()
        replies = await read_framed(stream, 3)
    assert sorted((reply[1], reply[3] & 0x80) for reply in replies) == [
        (n, 0x80) for n in (1, 2, 4)
    ]


async def test_a_client_that_closes_behind_a_query_that_is_forwarded_gets_its_reply():
    async with connected(Upstream()) as stream:
        await stream.send_all(framed(query("example.com", ident=3)))
        await stream.send_eof()
        (reply,) = await read_framed(stream)
        assert (reply[1], reply[3]) == (3, 0x80)
        assert await stream.receive_some() == b""


async def test_of_one_connection_only_so_many_queries_are_forwarded_at_the_same_time():
    upstream = Upstream()
    upstream.gate = trio.Event()
    async with connected(upstream) as stream:
        count = 3 * FORWARDED_MAX
        await stream.send_all(framed(*(query(f"x{n}.example", ident=n) for n in range(count))))
        await trio.testing.wait_all_tasks_blocked()
        assert len(upstream.asked) == FORWARDED_MAX
        upstream.gate.set()
        replies = await read_framed(stream, count)
    assert sorted(reply[1] for reply in replies) == list(range(count))


async def test_a_bug_in_forwarding_is_a_servfail_and_costs_neither_server_nor_connection(capsys):
    def broken(_question):
        raise RuntimeError("a bug")

    upstream = Upstream(broken)
    async with serving(upstream) as (server, address), udp_client(address) as client:
        await client.send(query("example.com", ident=1))
        assert (await client.recv(2000))[:4] == b"\0\1\x81\x82"
        upstream.say = answer
        await client.send(query("example.com", ident=2))
        assert (await client.recv(2000))[:4] == b"\0\2\x81\x80"
        assert server.stats.failures == 1
    assert "a bug" in capsys.readouterr().out


# The rate limit


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("127.0.0.1", None),
        ("127.255.0.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("192.0.2.1", "192.0.2"),
        ("192.0.2.254", "192.0.2"),
        ("::ffff:192.0.2.7", "192.0.2"),
        ("2001:db8:1:2ff::1", bytes.fromhex("20010db8000102")),
        ("2001:db8:1:200:a::1", bytes.fromhex("20010db8000102")),
        ("fe80::1%eth0", bytes.fromhex("fe800000000000")),
    ],
)
def test_a_network_is_a_24_or_a_56_and_this_machine_is_none(host, network):
    assert network_of(host) == network


def verdicts(limit, host, count, now):
    return [limit.judge(host, now) for _ in range(count)]


def test_beyond_the_burst_every_second_reply_is_dropped_and_the_others_are_truncated():
    limit = RateLimit()
    assert set(verdicts(limit, "192.0.2.1", BURST, 5.0)) == {Verdict.SEND}
    # Another address of the network shares its bucket.
    assert verdicts(limit, "192.0.2.2", 4, 5.0) == [
        Verdict.DROP,
        Verdict.TRUNCATE,
        Verdict.DROP,
        Verdict.TRUNCATE,
    ]
    assert limit.judge("192.0.3.1", 5.0) is Verdict.SEND


def test_a_network_gets_so_many_replies_a_second_and_no_more_for_having_waited_long():
    limit = RateLimit()
    verdicts(limit, "192.0.2.1", BURST, 0.0)
    assert verdicts(limit, "192.0.2.1", RATE_PER_S + 10, 1.0).count(Verdict.SEND) == RATE_PER_S
    assert verdicts(limit, "192.0.2.1", 3 * BURST, 3600.0).count(Verdict.SEND) == BURST


def test_this_machine_is_never_limited():
    limit = RateLimit()
    for host in ("127.0.0.1", "::1", "::ffff:127.0.0.9"):
        assert set(verdicts(limit, host, 3 * BURST, 0.0)) == {Verdict.SEND}
    assert not limit._buckets


def test_forged_networks_do_not_grow_the_memory_nor_free_who_keeps_asking():
    limit = RateLimit()
    verdicts(limit, "192.0.2.1", 2 * BURST, 0.0)
    for number in range(3 * NETWORKS_MAX):
        limit.judge(f"10.{number >> 8}.{number & 255}.1", 0.0)
        if number % 1000 == 0:
            assert limit.judge("192.0.2.1", 0.0) is not Verdict.SEND
    assert len(limit._buckets) == NETWORKS_MAX


class MemorySocket:
    """A UDP socket in memory: what has come from whom, and what was sent to whom."""

    def __init__(self, *came):
        self.came = list(came)
        self.sent = []

    def recvmsg(self, _size, _ancillary):
        if not self.came:
            raise BlockingIOError
        packet, client = self.came.pop(0)
        return packet, [], 0, client

    def sendmsg(self, buffers, _ancillary, _flags, client):
        self.sent.append((b"".join(buffers), client))


def beyond(*came, upstream=None):
    udp, tcp = bound()
    udp.close()
    tcp.close()
    server = DnsServer(udp, tcp, recursor=upstream.recursor() if upstream else None)
    server.view = view(20)
    server._udp = datagrams = MemorySocket(*((packet, (host, 5353)) for packet, host in came))  # type: ignore[assignment]  # a stand-in
    return server, datagrams


async def test_a_flood_from_one_network_gets_its_share_and_short_replies_with_tc(autojump_clock):
    packet = query("_hstore._tcp.hstore.local", "SRV", additional=opt())
    small = query("leader.hstore.local")
    flood = [(packet if n % 2 else small, "192.0.2.9") for n in range(BURST + 200)]
    server, datagrams = beyond(*flood, (small, "198.51.100.1"), (small, "127.0.0.1"))
    while datagrams.came:
        server._drain_singly()
    beyond_burst = datagrams.sent[BURST:-2]
    assert len(beyond_burst) == 100
    assert server.stats.limited == 200
    for reply, _host in beyond_burst:
        assert reply[2] & 0x86 == 0x86  # QR, AA, TC
        assert reply[6:10] == bytes(4)
        assert len(reply) <= len(packet)
    assert [client[0] for _reply, client in datagrams.sent[-2:]] == ["198.51.100.1", "127.0.0.1"]
    assert all(reply[2] & 2 == 0 and reply[6:8] != b"\0\0" for reply, _ in datagrams.sent[-2:])


async def test_of_what_gets_no_reply_none_is_truncated_either(autojump_clock):
    packets = [query(flags=0x8000), b"x", query(flags=0x8000)[:12]]
    flood = [(packets[n % 3], "192.0.2.9") for n in range(BURST + 300)]
    server, datagrams = beyond(*flood, *[(query() + b"x", "192.0.2.9")] * 2)
    while datagrams.came:
        server._drain_singly()
    ((malformed, _host),) = datagrams.sent
    assert malformed[3] & 15 == 1


@pytest.mark.parametrize(
    ("host", "beyond"),
    [("127.0.0.1", False), ("::1", False), ("::ffff:127.0.0.1", False), ("::", True)],
)
async def test_only_a_socket_that_is_reached_from_beyond_pays_for_the_limit(host, beyond):
    udp, tcp = bound(host)
    with udp, tcp:
        assert _is_reached_from_beyond(udp) == beyond
