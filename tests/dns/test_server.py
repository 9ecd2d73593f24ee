"""The server: batches and errors of UDP on loopback sockets."""

from __future__ import annotations

import socket
import sys
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from hstore.dns import server as server_module
from hstore.dns.datagrams import Datagrams
from hstore.dns.server import UDP_BATCH, UDP_QUERY_MAX, DnsServer

from .kit import opt, query, view

PATIENCE_S = 5  # real seconds after which a test on real sockets is red


def bound(host="127.0.0.1"):
    """A UDP and a listening TCP socket on one free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(20):
        tcp, udp = socket.socket(family), socket.socket(family, socket.SOCK_DGRAM)
        tcp.bind((host, 0))
        tcp.listen()
        try:
            udp.bind((host, tcp.getsockname()[1]))
        except OSError:
            tcp.close()
            udp.close()
        else:
            return udp, tcp
    raise AssertionError("no port is free for both")


@asynccontextmanager
async def serving(host="127.0.0.1", seen=None):
    server = DnsServer(*bound(host))
    server.view = seen if seen is not None else view()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server.run)
        with trio.fail_after(PATIENCE_S):
            yield server, address
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def udp_client(address):
    with trio.socket.socket(
        trio.socket.AF_INET6 if ":" in address[0] else trio.socket.AF_INET, trio.socket.SOCK_DGRAM
    ) as client:
        await client.connect(address)
        yield client


def framed(*packets):
    return b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets)


async def read_framed(stream, count=1):
    """Read so many messages, and nothing behind them."""
    buffer = bytearray()
    messages: list[bytes] = []
    while len(messages) < count:
        if len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
            end = 2 + int.from_bytes(buffer[:2], "big")
            messages.append(bytes(buffer[2:end]))
            del buffer[:end]
            continue
        chunk = await stream.receive_some(65536)
        assert chunk, f"the connection ended after {len(messages)} of {count} messages"
        buffer += chunk
    assert not buffer
    return messages


# UDP


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_udp_and_tcp_are_answered_on_the_same_port(host):
    async with serving(host) as (server, address):
        assert address[0] == host
        async with udp_client(address) as client:
            await client.send(query(ident=7))
            by_udp = await client.recv(2000)
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(framed(query(ident=7)))
            assert await read_framed(stream) == [by_udp]
        assert by_udp[:2] == b"\0\7"
        assert (server.stats.queries, server.stats.replies) == (2, 2)


async def test_more_datagrams_than_a_batch_are_all_answered():
    async with serving() as (server, address), udp_client(address) as client:
        count = 3 * UDP_BATCH + 1
        for ident in range(count):
            await client.send(query(ident=ident))
        seen = {await client.recv(2000) for _ in range(count)}
        assert {int.from_bytes(reply[:2], "big") for reply in seen} == set(range(count))
        assert server.stats.replies == count


async def test_other_tasks_get_their_turn_while_datagrams_keep_coming(monkeypatch):
    monkeypatch.setattr(server_module, "UDP_BATCH", 8)
    async with serving() as (server, address):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(address)
            for ident in range(64):
                client.send(query(ident=ident))
        turns = []
        while server.stats.queries < 64:
            turns.append(server.stats.queries)
            await trio.lowlevel.checkpoint()
        # Eight batches; in a round of the loop this task may run before or after the server's.
        assert len(set(turns)) >= 4


async def test_packets_that_must_not_be_answered_are_not_and_the_next_one_is():
    async with serving() as (server, address), udp_client(address) as client:
        for packet in (b"", b"x", query()[:11], query(flags=0x8000), query(ident=9)):
            await client.send(packet)
        assert (await client.recv(2000))[:2] == b"\0\x09"
        assert (server.stats.queries, server.stats.replies) == (5, 1)


async def test_a_datagram_longer_than_any_query_is_malformed():
    async with serving() as (_server, address), udp_client(address) as client:
        await client.send(query() + bytes(20_000))
        assert (await client.recv(2000))[3] & 15 == 1


async def test_a_client_that_went_away_does_not_stop_the_server():
    async with serving() as (_server, address):
        for _ in range(3):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.connect(address)
                gone.send(query())
        async with udp_client(address) as client:
            await client.send(query(ident=9))
            assert (await client.recv(2000))[:2] == b"\0\x09"


class FailingSocket:
    """The UDP socket, but the first calls of some methods fail as a kernel may make them fail."""

    def __init__(self, real, **errors):
        self.real = real
        self._errors = errors

    def __getattr__(self, name):
        method = getattr(self.real, name)

        def call(*arguments):
            if self._errors.get(name):
                raise self._errors[name].pop()
            return method(*arguments)

        return call


async def test_errors_of_the_socket_cost_a_reply_and_not_the_server():
    server = DnsServer(*bound())
    server.view = view()
    errors = [ConnectionRefusedError(), OSError(90, "message too long"), BlockingIOError()]
    flaky = FailingSocket(server._udp, sendmsg=list(errors), recvmsg=errors[:2])
    server._udp = flaky  # type: ignore[assignment]  # a stand-in
    with flaky.real, server._tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        flaky.setblocking(False)
        client.settimeout(PATIENCE_S)
        client.connect(flaky.real.getsockname())
        for ident in range(6):
            client.send(query(ident=ident))
        for _ in range(6):
            server._drain_singly()
        # recvmsg failed twice, three replies were lost, and the others came.
        assert [client.recv(2000)[:2] for _ in range(3)] == [b"\0\3", b"\0\4", b"\0\5"]
        assert (server.stats.unsent, server.stats.replies) == (3, 3)


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="what it uses is Linux's")


@on_linux
async def test_what_a_batch_came_to_is_counted():
    server = DnsServer(*bound())
    server.view = view()
    with server._udp, server._tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect(server._udp.getsockname())
        datagrams = Datagrams(server._udp, 8, UDP_QUERY_MAX)
        send, failures = datagrams._send, [True]
        datagrams._send = lambda *call: -1 if failures and failures.pop() else send(*call)
        for packet in (query(ident=1), b"x", query(ident=2), query(ident=3)):
            client.send(packet)
        server._drain(datagrams)
        assert [client.recv(2000)[:2] for _ in range(2)] == [b"\0\2", b"\0\3"]
        stats = server.stats
        assert (stats.queries, stats.replies, stats.unsent) == (4, 2, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("0.0.0.0", marks=on_linux)])
async def test_where_there_are_no_batches_datagrams_are_answered_one_by_one(monkeypatch, host):
    monkeypatch.setattr(server_module, "can_batch", lambda _udp: False)
    async with serving(host) as (server, (_host, port)):
        async with udp_client(("127.0.0.2" if host == "0.0.0.0" else host, port)) as client:
            await client.send(query(ident=5))
            assert (await client.recv(2000))[:2] == b"\0\5"
        assert (server.stats.queries, server.stats.replies) == (1, 1)


@pytest.mark.parametrize(
    ("wildcard", "asked_at"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("0.0.0.0", "127.0.0.7"), ("::", "::1")],
)
async def test_a_client_on_this_machine_gets_16_kib_by_udp_if_it_takes_so_much(wildcard, asked_at):
    # The kernel would report that a datagram is too long for the buffer by cutting it off.
    async with serving(wildcard, view(300)) as (server, (_host, port)):
        async with udp_client((asked_at, port)) as client:
            for size, flags in ((16384, 0), (65535, 0), (16384, 0), (1232, 2), (16384, 0)):
                packet = query("nodes.hstore.local", "SRV", additional=opt(size))
                await client.send(packet)
                reply = await client.recv(65535)
                assert reply[2] & 2 == flags
                assert len(reply) < 100 if flags else 12_000 < len(reply) <= 16384
                assert flags or reply[6:8] == (300).to_bytes(2, "big")
        assert (server.stats.queries, server.stats.replies, server.stats.unsent) == (5, 5, 0)


async def test_an_error_of_ours_is_a_servfail_and_is_counted(monkeypatch, capsys):
    async with serving() as (server, address), udp_client(address) as client:

        def broken(_packet, *, over_tcp=False, is_near=False):
            raise RuntimeError("a bug")

        with monkeypatch.context() as patched:
            patched.setattr(server._answers, "reply", broken)
            await client.send(query(ident=1))
            reply = await client.recv(2000)
            assert (reply[:2], reply[3] & 15) == (b"\0\1", 2)
        await client.send(query(ident=2))
        assert (await client.recv(2000))[3] & 15 == 0
        assert server.stats.failures == 1
    assert "a bug" in capsys.readouterr().out


async def test_the_view_is_swapped_while_serving():
    async with serving() as (server, address), udp_client(address) as client:
        for name, rcode in (("n2.node.hstore.local", 0), ("n3.node.hstore.local", 3)):
            server.view = view() if rcode == 0 else view(2, serial=43)
            await client.send(query(name))
            assert (await client.recv(2000))[3] & 15 == rcode


@pytest.mark.parametrize(
    ("wildcard", "asked_at"), [("0.0.0.0", "127.0.0.7"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")]
)
async def test_on_a_wildcard_address_the_reply_comes_from_the_address_that_was_asked(
    wildcard, asked_at
):
    async with serving(wildcard) as (_server, (_host, port)):
        # A connected socket drops what comes from elsewhere.
        async with udp_client((asked_at, port)) as client:
            for ident in (1, 2):
                await client.send(query(ident=ident))
                assert (await client.recv(2000))[1] == ident


async def test_both_sockets_are_closed_at_the_end():
    udp, tcp = bound()
    async with trio.open_nursery() as nursery:
        await nursery.start(DnsServer(udp, tcp).run)
        nursery.cancel_scope.cancel()
    assert (udp.fileno(), tcp.fileno()) == (-1, -1)
