"""Connections over time: order, patience with slow clients, and the ways a connection ends."""

from __future__ import annotations

import math
import socket

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from hstore.node.api.http.connection import BODY_BYTES_MAX
from hstore.node.api.http.server import _is_local
from hstore.node.api.http.serving import (
    BODY_S,
    HEADERS_S,
    PATIENCE_S_MAX,
    PATIENCE_S_MIN,
)
from hstore.node.api.http.unsent import UNSENT_BYTES_MAX
from hstore.node.errors import NoLeader
from hstore.node.net.stream import TcpStream

GET = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def put(key, body=b"x", headers=b""):
    return b"PUT /v1/kv/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%b\r\n%b" % (
        key,
        len(body),
        headers,
        body,
    )


def held(seconds):
    async def wait(_command):
        await trio.sleep(seconds)

    return wait


# Order


async def test_pipelined_writes_take_effect_and_are_answered_in_order(
    client, backend, autojump_clock
):
    """A client may rely on it, so the next write is not begun before the last one is done."""
    delays = {b"a": 3.0, b"b": 1.0, b"c": 2.0}

    async def wait(command):
        await trio.sleep(delays[command.key])

    backend.before_write = wait
    await client.send(put(b"a") + put(b"b") + put(b"c"))
    for at in [3.0, 4.0, 6.0]:
        assert (await client.response()).body == b"true"
        assert trio.current_time() == pytest.approx(at)
    revisions = [backend.items[key].revision for key in delays]
    assert revisions == sorted(revisions)


async def test_an_answer_does_not_wait_for_the_request_behind_it(client, backend, autojump_clock):
    backend.before_write = held(4)
    await client.send(GET + put(b"a"))
    assert (await client.response()).status == 200
    assert trio.current_time() == 0


async def test_answers_of_requests_that_came_together_leave_together(server, nursery, monkeypatch):
    near, far = trio.testing.memory_stream_pair()
    sent = []
    original = far.send_all

    async def record(data):
        sent.append(data)
        await original(data)

    monkeypatch.setattr(far, "send_all", record)
    nursery.start_soon(server.serve_stream, far)
    await near.send_all(GET * 50)
    await trio.testing.wait_all_tasks_blocked()
    assert len(sent) == 1
    assert sent[0].count(b"HTTP/1.1 200 OK") == 50


async def test_a_connection_carries_many_requests(client):
    for _ in range(100):
        assert (await client.request("GET", "/v1/health")).status == 200


# Framing of answers


async def test_connection_close_is_honoured_and_announced(client):
    answer = await client.request("GET", "/v1/health", Connection="close")
    assert answer.headers["connection"] == "close"
    assert await client.read_to_end() == b""


async def test_http10_ends_the_connection_unless_told_to_keep_it(connect):
    client = connect()
    await client.send(b"GET /v1/health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await client.response()).headers["connection"] == "keep-alive"
    await client.send(b"GET /v1/health HTTP/1.0\r\n\r\n")
    assert (await client.response()).headers["connection"] == "close"
    assert await client.read_to_end() == b""


async def test_http10_gets_no_chunks(client, backend):
    backend.set(b"a", b"1")
    await client.send(b"GET /read HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    answer = await client.response()
    assert "transfer-encoding" not in answer.headers
    assert answer.json() == {"a": "1"}


async def test_a_chunked_body_is_taken(client, backend):
    await client.send(
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    )
    assert (await client.response()).body == b"true"
    assert backend.items[b"a"].value == b"abcde"


async def test_a_client_is_told_to_continue_before_it_sends_a_body(client, backend):
    head = put(b"a", b"abc", b"Expect: 100-continue\r\n")[:-3]
    await client.send(GET + head)
    assert (await client.response()).status == 200
    assert (await client.response()).status == 100
    await client.send(b"abc")
    assert (await client.response()).body == b"true"
    assert backend.items[b"a"].value == b"abc"


async def test_a_body_too_large_is_refused_instead_of_continued(client):
    await client.send(
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1)
    )
    assert (await client.response()).status == 413


async def test_a_refused_client_that_goes_on_sending_still_gets_its_answer(client):
    """Closed with unread data, TCP would reset the connection and could drop the answer."""
    await client.send(b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n")
    for _ in range(50):
        await client.send(b"x" * 10_000)
    assert (await client.response()).status == 413


async def test_a_client_that_sends_a_body_after_411_still_gets_its_answer(client):
    await client.send(b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    await client.send(b"x" * 10_000)  # Raises, were the stream closed.
    assert (await client.response()).status == 411


async def test_head_sends_no_body_of_a_listing(client, backend):
    backend.set(b"a", b"1")
    answer = await client.request("HEAD", "/read")
    assert (answer.status, answer.headers["transfer-encoding"]) == (200, "chunked")
    assert backend.readers[0].is_closed
    assert (await client.request("GET", "/v1/health")).status == 200


# Patience


@pytest.mark.parametrize(
    ("start", "seconds"),
    [(b"G", HEADERS_S), (b"GET / HTTP/1.1\r\nHost:", HEADERS_S), (put(b"a", b"abc")[:-1], BODY_S)],
)
async def test_a_request_that_does_not_come_to_its_end_is_408(
    client, autojump_clock, start, seconds
):
    await client.send(start)
    answer = await client.response()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert answer.headers["x-hstore-index"] == "10"
    assert trio.current_time() == pytest.approx(seconds)
    assert await client.read_to_end() == b""


async def test_a_client_that_trickles_is_408_all_the_same(client, autojump_clock):
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def trickle():
            for byte in b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100:
                await client.send(bytes([byte]))
                await trio.sleep(1)

        assert (await client.response()).status == 408
        assert trio.current_time() <= HEADERS_S
        nursery.cancel_scope.cancel()


async def test_each_request_has_its_own_time_to_come(client, autojump_clock):
    await client.send(GET + GET[:5])
    for _ in range(5):
        assert (await client.response()).status == 200
        await trio.sleep(HEADERS_S * 0.8)
        await client.send(GET[5:] + GET[:5])
    assert (await client.response()).status == 200
    assert (await client.response()).status == 408


async def test_an_idle_connection_is_closed_without_a_word(client, autojump_clock):
    await client.request("GET", "/v1/health")
    assert await client.read_to_end() == b""
    assert PATIENCE_S_MIN <= trio.current_time() <= PATIENCE_S_MAX


async def test_a_connection_in_use_stays_open(client, autojump_clock):
    for _ in range(30):
        assert (await client.request("GET", "/v1/health")).status == 200
        await trio.sleep(PATIENCE_S_MIN - 1)


async def test_a_request_at_the_end_of_patience_gets_its_own(server, nursery, autojump_clock):
    near, far = slow_pair()
    nursery.start_soon(server.serve_stream, far)
    for _ in range(2):
        await near.send_all(GET)
        # The client is slow to read, within reason, and has been silent before.
        await trio.sleep(PATIENCE_S_MIN - 1)
        assert await near.receive_some(100_000)
        await trio.sleep(PATIENCE_S_MIN - 1)


async def test_a_long_request_leaves_no_long_patience_behind(client, backend, autojump_clock):
    await client.request("PUT", "/v1/kv/a?timeout=5m", b"")
    assert await client.read_to_end() == b""
    assert trio.current_time() <= PATIENCE_S_MAX


def slow_pair():
    """Give a pair whose buffers take one byte: the writer waits for the reader."""
    return trio.testing.lockstep_stream_pair()


async def test_a_client_that_does_not_read_holds_nothing_for_long(
    server, backend, nursery, autojump_clock
):
    for i in range(5000):
        backend.set(b"%d" % i, b"x" * 100)
    near, far = slow_pair()
    async with trio.open_nursery() as serving:
        serving.start_soon(server.serve_stream, far)
        await near.send_all(b"GET /read HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await near.receive_some(1000)
    assert trio.current_time() <= PATIENCE_S_MAX
    assert backend.readers[0].is_closed


async def test_a_listing_yields_to_others(client, backend):
    """Else one of 20,000 keys would stop the node for as long as it takes."""
    for i in range(20_000):
        backend.set(b"%05d" % i, b"")
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await trio.lowlevel.checkpoint()
            ticks += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        answer = await client.request("GET", "/v1/kv/?keys&separator=0")
        nursery.cancel_scope.cancel()
    assert answer.status == 200
    assert ticks >= 150


# Ends


async def test_a_client_that_goes_away_ends_the_task_quietly(server):
    for sent in [b"", b"GET", GET, GET * 3, put(b"a")]:
        near, far = trio.testing.memory_stream_pair()
        with capture_logs() as logged:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve_stream, far)
                await near.send_all(sent)
                await near.aclose()
        assert logged == []


async def test_a_half_closed_client_still_gets_its_answers(client):
    await client.send(GET + GET)
    await client.stream.send_eof()
    assert [(await client.response()).status for _ in range(2)] == [200, 200]
    assert await client.read_to_end() == b""


async def test_closing_ends_idle_connections_and_streams_now_and_busy_ones_after_their_answer(
    server, backend, connect, autojump_clock
):
    idle, busy, events = connect(), connect(), connect()
    backend.before_write = held(1)
    await idle.request("GET", "/v1/health")
    await events.send(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await events.read_head()
    await events.read_chunk()
    await busy.send(put(b"a") + put(b"b"))
    await trio.testing.wait_all_tasks_blocked()
    server.close()
    assert await idle.read_to_end() == b""
    assert await events.read_chunk() == b""
    assert await events.read_to_end() == b""
    assert trio.current_time() == 0
    answer = await busy.response()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await busy.read_to_end() == b""
    assert b"b" not in backend.items


async def test_a_deadline_the_node_forgets_is_a_net_below(client, backend, autojump_clock):
    backend.before_write = held(math.inf)
    await client.send(put(b"a"))
    assert await client.read_to_end() == b""
    assert trio.current_time() <= PATIENCE_S_MAX


async def test_an_error_answer_keeps_the_connection(client, backend):
    backend.error = NoLeader("no leader")
    assert (await client.request("PUT", "/v1/kv/a", b"")).status == 500
    backend.error = None
    assert (await client.request("PUT", "/v1/kv/a", b"")).status == 200


@pytest.mark.parametrize(
    ("own", "peer", "is_local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("192.0.2.2", "192.0.2.2", True),
        ("192.0.2.2", "192.0.2.3", False),
        ("", "", False),
    ],
)
def test_a_client_is_local_when_both_ends_have_one_address(own, peer, is_local):
    class Ends(socket.socket):
        def getsockname(self) -> tuple[str, int]:
            return named(own)

        def getpeername(self) -> tuple[str, int]:
            return named(peer)

    def named(host: str) -> tuple[str, int]:
        if not host:
            raise OSError("not connected")
        return host, 8500

    with Ends() as sock:
        assert _is_local(TcpStream(sock)) is is_local


async def test_a_large_write_does_not_wait_for_room_that_slow_readers_take(
    client, server, autojump_clock
):
    """After 20 s it was dropped without an answer, and its refusal was logged as a defect."""
    server._shared.unsent.held = UNSENT_BYTES_MAX // 2
    before = trio.current_time()
    assert (await client.request("PUT", "/v1/kv/a", b"x" * 100_000)).body == b"true"
    assert trio.current_time() - before < 1
