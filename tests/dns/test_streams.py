"""DNS over TCP: connections over streams in memory, and what ends them."""

from __future__ import annotations

import contextlib
import errno
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from hstore.dns.server import DnsServer
from hstore.dns.streams import TCP_CONNECTIONS_MAX, TCP_IDLE_S, TCP_SEND_S, Connection

from .kit import opt, query, view
from .test_server import bound, framed, read_framed


@asynccontextmanager
async def connected(server=None, seen=None):
    """A client's end of a connection to a server that has no sockets of its own."""
    if server is None:
        server = detached(seen)
    theirs, ours = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, ours)
        yield theirs
        await theirs.aclose()


def detached(seen=None):
    udp, tcp = bound()
    udp.close()
    tcp.close()
    server = DnsServer(udp, tcp)
    server.view = seen if seen is not None else view()
    return server


async def test_pipelined_queries_are_answered_in_order():
    async with connected() as stream:
        await stream.send_all(framed(*(query(ident=ident) for ident in range(200))))
        replies = await read_framed(stream, 200)
    assert [int.from_bytes(reply[:2], "big") for reply in replies] == list(range(200))


async def test_a_query_may_come_byte_by_byte():
    async with connected() as stream:
        for byte in framed(query(ident=5), query(ident=6)):
            await stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert [reply[1] for reply in await read_framed(stream, 2)] == [5, 6]


async def test_tcp_gives_what_udp_cuts_off():
    async with connected(seen=view(100)) as stream:
        await stream.send_all(framed(query("nodes.hstore.local", "SRV")))
        (reply,) = await read_framed(stream)
    assert len(reply) > 4000
    assert reply[2] & 2 == 0
    assert reply[6:8] == b"\0\x64"


async def test_replies_that_are_much_longer_than_their_queries_are_sent_in_parts():
    server = detached(view(100))
    sizes = []
    connection = Connection(server._dispatch, trio.testing.memory_stream_pair()[0])
    connection._buffer = bytearray(framed(*[query("nodes.hstore.local", "SRV")] * 300))
    while connection._buffer:
        sizes.append(sum(2 + len(reply) for reply in connection.take_queries()))
    assert len(sizes) > 5
    assert max(sizes) < 2 * 65536


async def test_messages_without_a_reply_do_not_end_the_connection():
    async with connected() as stream:
        await stream.send_all(framed(b"", b"x", query(flags=0x8000), query(ident=3)))
        (reply,) = await read_framed(stream)
    assert reply[1] == 3


async def test_a_client_that_closes_behind_its_query_gets_its_reply():
    async with connected() as stream:
        await stream.send_all(framed(query(ident=3)))
        await stream.send_eof()
        (reply,) = await read_framed(stream)
        assert reply[1] == 3
        assert await stream.receive_some() == b""


async def test_an_idle_connection_is_closed(autojump_clock):
    async with connected() as stream:
        start = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - start == pytest.approx(TCP_IDLE_S)


async def test_each_query_starts_the_idle_time_anew(autojump_clock):
    async with connected() as stream:
        for _ in range(5):
            await trio.sleep(TCP_IDLE_S - 1)
            await stream.send_all(framed(query()))
            await read_framed(stream)


async def test_single_bytes_do_not_extend_the_time_for_a_query(autojump_clock):
    async with connected() as stream:
        start = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            for byte in framed(query()):
                await stream.send_all(bytes([byte]))
                await trio.sleep(TCP_IDLE_S / 5)
        assert trio.current_time() - start <= TCP_IDLE_S * 1.21


async def test_a_client_that_does_not_read_is_given_up(autojump_clock):
    server = detached(view(100))
    theirs, ours = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, ours)
        await theirs.send_all(framed(query("nodes.hstore.local", "SRV")))
        start = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() - start == pytest.approx(TCP_SEND_S)


async def test_a_connection_that_breaks_or_meets_a_bug_leaves_the_server_as_it_was(
    monkeypatch, capsys
):
    server = detached()

    async def broken(_connection, _asked):
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "serve", broken)
        async with connected(server) as stream:
            assert await stream.receive_some() == b""
    assert "a bug" in capsys.readouterr().out
    theirs, ours = trio.testing.memory_stream_pair()
    theirs.receive_stream.close()
    await theirs.send_all(framed(query()))
    await server.serve_stream(ours)
    assert not server._connections
    assert capsys.readouterr().out == ""  # a client's whim is nothing to log
    async with connected(server) as stream:
        await stream.send_all(framed(query()))
        await read_framed(stream)


async def test_a_connection_too_many_ends_the_one_that_asked_least_recently(autojump_clock):
    server = detached()
    async with trio.open_nursery() as nursery:
        clients = []
        for _ in range(TCP_CONNECTIONS_MAX):
            theirs, ours = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve_stream, ours)
            await trio.testing.wait_all_tasks_blocked()
            clients.append(theirs)
        await clients[0].send_all(framed(query()))
        await read_framed(clients[0])

        async with connected(server) as newest:
            assert await clients[1].receive_some() == b""
            for client in (clients[0], clients[2], newest):
                await client.send_all(framed(query(ident=8)))
                (reply,) = await read_framed(client)
                assert reply[1] == 8
            assert server.stats.evicted == 1
            assert len(server._connections) == TCP_CONNECTIONS_MAX
        nursery.cancel_scope.cancel()


async def test_queries_over_tcp_may_be_as_long_as_a_message_can_be():
    async with connected() as stream:
        await stream.send_all(framed(query(additional=opt() + bytes(65000), counts=(1, 0, 0, 1))))
        (reply,) = await read_framed(stream)
    assert reply[3] & 15 == 1


class Refusing:
    """A listener that the system hands no connection, for a while; then it waits."""

    def __init__(self, times):
        self.times = times

    async def accept(self):
        await trio.lowlevel.checkpoint()
        if not self.times:
            await trio.sleep_forever()
        self.times -= 1
        raise OSError(errno.EMFILE, "Too many open files")


async def test_a_server_without_descriptors_neither_spins_nor_ends_nor_floods_the_log(
    autojump_clock, nursery
):
    udp, tcp = bound()
    server = DnsServer(udp, tcp)
    with capture_logs() as logs, contextlib.closing(udp), contextlib.closing(tcp):
        nursery.start_soon(server._connections.accept, Refusing(700), nursery)
        await trio.sleep(69.9)
        assert server.stats.unaccepted in (699, 700)
    assert [one["count"] for one in logs] == [1, 601]
    nursery.cancel_scope.cancel()
