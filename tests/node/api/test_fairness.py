"""Many clients at once: what one turn of the loop does for them, counted, not timed."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from hstore.node.api.gate import Routes
from hstore.node.api.http.connection import Connection, Request
from hstore.node.api.http.unsent import Unsent
from hstore.node.net.stream import TcpStream
from hstore.node.net.turn import BYTES_MAX, REQUESTS_MAX, SLICE_BYTES, SMALL_BYTES, WAITED_MAX
from tests.fakes.polling import poll_in
from tests.fakes.turns import Turns, counting_turns

from .conftest import Client

MIB = 1024 * 1024
GET = b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def poller(nursery):
    """All of these are parked, as in a node."""
    return poll_in(nursery)


@pytest.fixture
async def sent(monkeypatch) -> AsyncIterator[Turns]:
    """Bytes that were sent to clients, by turn."""
    send, send_all = TcpStream.send_now, TcpStream.send_all

    def counted(self: TcpStream, data: bytes) -> int:
        turns.add(len(data) if b"HTTP/1.1 200" in data[:20] or len(data) > 999 else 0)
        return send(self, data)

    async def counted_all(self: TcpStream, data: bytes) -> None:
        turns.add(0 if data.startswith((b"GET", b"PUT")) else len(data))
        await send_all(self, data)

    monkeypatch.setattr(TcpStream, "send_now", counted)
    monkeypatch.setattr(TcpStream, "send_all", counted_all)
    with counting_turns() as turns:
        yield turns


@pytest.fixture
async def begun(monkeypatch) -> AsyncIterator[Turns]:
    """Requests whose handlers began, by turn."""
    begin = Routes.begin

    def counted(self, exchange, request):
        turns.add(1)
        return begin(self, exchange, request)

    monkeypatch.setattr(Routes, "begin", counted)
    with counting_turns() as turns:
        yield turns


async def many(clients: list[Client], work: Callable[[Client], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(work, client)


@pytest.mark.parametrize(
    "target", ["/read?prefix=k", "/read/k", "/v1/kv/k", "/v1/kv/k?recurse", "/v1/kv/k?raw&stale"]
)
async def test_a_turn_sends_no_more_of_large_answers_than_its_bound(connect, backend, sent, target):
    backend.set(b"k", bytes(MIB // 4))
    clients = [connect() for _ in range(20)]

    async def read(client: Client) -> None:
        assert len((await client.request("GET", target)).body) >= MIB // 4

    await many(clients, read)
    assert sum(sent.done.values()) > 5 * MIB
    # What is let through at the end of one turn and at the beginning of the next may meet, and a
    # slice has its frame.
    assert max(sent.done.values()) <= BYTES_MAX + SLICE_BYTES + 4096


async def test_a_turn_sends_no_more_of_answers_of_middle_size_than_its_bound(
    connect, backend, sent
):
    """They are made as a whole, where the node tells the outcome."""
    backend.set(b"k", bytes(10 * 1024))
    clients = [connect() for _ in range(60)]

    async def read(client: Client) -> None:
        for _ in range(3):
            assert len((await client.request("GET", "/read/k")).body) > 60 * 1024
            assert len((await client.request("GET", "/read/k?stale")).body) > 60 * 1024

    await many(clients, read)
    assert max(sent.done.values()) <= BYTES_MAX + 2 * SLICE_BYTES


async def test_a_turn_begins_no_more_requests_than_its_bound(connect, backend, begun):
    backend.set(b"k", b"v")
    clients = [connect() for _ in range(60)]

    async def pipeline(client: Client) -> None:
        await client.send(GET * 100)
        for _ in range(100):
            assert (await client.response()).status == 200

    await many(clients, pipeline)
    assert sum(begun.done.values()) == 60 * 100
    assert max(begun.done.values()) <= REQUESTS_MAX


@pytest.mark.parametrize("count", [100, 400], ids=["without a task", "with a task"])
async def test_a_turn_parses_no_more_short_requests_than_their_calls_allow(
    connect, backend, monkeypatch, nursery, count
):
    """They cost calls of the parser, each for some 50 bytes or less."""

    async def pipeline(client: Client) -> None:
        await client.send(GET * count)
        await client.read_until(b"never")

    receive = Connection.receive

    def counted(self: Connection, data: bytes | bytearray) -> list[Request]:
        requests = receive(self, data)
        turns.add(len(requests))
        return requests

    monkeypatch.setattr(Connection, "receive", counted)
    with counting_turns() as turns:
        for _ in range(60):
            nursery.start_soon(pipeline, connect())
        while sum(turns.done.values()) < 60 * count:
            await trio.lowlevel.checkpoint()
    # The last that is parsed in a turn may be 8 KiB, and those that a task took a turn before.
    assert max(turns.done.values()) <= BYTES_MAX // SMALL_BYTES + 2 * (8192 // len(GET))
    nursery.cancel_scope.cancel()


async def test_who_asks_for_little_comes_between_those_that_ask_for_much(connect, backend):
    """A turn or two for each of its steps, however many large answers are under way."""
    backend.set(b"big", bytes(MIB))
    backend.set(b"k", b"v")
    quiet = connect()
    assert (await quiet.request("GET", "/v1/health")).status == 200
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(connect().request, "GET", "/read?prefix=big")
        for _ in range(40):
            client = connect()
            await client.send(GET * 2000)
            nursery.start_soon(client.read_until, b"never")
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        with counting_turns() as turns:
            for target in ("/v1/health", "/v1/kv/k"):
                began = turns.number
                assert (await quiet.request("GET", target)).status == 200
                assert turns.number - began < 30
        nursery.cancel_scope.cancel()


async def test_a_change_of_a_large_value_is_sent_to_many_watches_in_turns(
    connect, backend, sent, nursery
):
    clients = [connect() for _ in range(50)]
    for client in clients:
        await client.send(b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.read_head()
        await client.read_chunk()
    sent.done.clear()
    backend.set(b"k", bytes(MIB // 4))
    whole = json.dumps(bytes(MIB // 4).decode())

    async def read(client: Client) -> None:
        body = b""
        while not body.endswith(b"\n\n"):
            body += await client.read_chunk()
        assert whole.encode() in body

    await many(clients, read)
    assert max(sent.done.values()) <= BYTES_MAX + SLICE_BYTES + 4096


async def test_watches_that_are_far_behind_catch_up_in_turns(connect, backend, sent):
    for number in range(2000):
        backend.set(b"k%d" % number, b"v" * 100)
    clients = [connect() for _ in range(30)]

    async def catch_up(client: Client) -> None:
        await client.send(b"GET /v1/watch?after=10 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.read_until(b'"key":"k1999"')

    await many(clients, catch_up)
    assert max(sent.done.values()) <= BYTES_MAX + SLICE_BYTES + 4096


async def test_clients_that_do_not_read_cost_a_bounded_amount_of_memory(
    server, backend, nursery, autojump_clock
):
    """The bound holds for all together, and who is slow is cut off for who reads."""
    unsent = Unsent(4 * MIB, 2 * MIB)
    server._shared = server._shared._replace(unsent=unsent)
    for number in range(10):
        backend.set(b"k%d" % number, bytes(MIB - number))
    ends: list[socket.socket] = []

    def connect() -> Client:
        near, far = socket.socketpair()
        for sock in (near, far):
            sock.setblocking(False)
            ends.append(sock)
        server.serve_parked(TcpStream(far), nursery, is_local=True)
        return Client(TcpStream(near))

    slow = [connect() for _ in range(10)]
    for number, client in enumerate(slow):
        await client.send(b"GET /read/k%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
    await trio.testing.wait_all_tasks_blocked()
    assert 2 * MIB <= unsent.held <= 4 * MIB
    reading = connect()
    for _ in range(3):
        response = await reading.request("GET", "/read/k9")
        assert response.json()["value"] == "\0" * (MIB - 9)
        assert unsent.held <= 4 * MIB
    assert 0 < unsent.cut_off <= 10
    await trio.sleep(200)  # Those that are left have had their patience, too.
    assert unsent.held == 0
    nursery.cancel_scope.cancel()
    for sock in ends:
        sock.close()


async def test_who_finds_no_room_in_time_is_told_so(connect, server, backend, autojump_clock):
    unsent = Unsent(4 * MIB, 0)
    server._shared = server._shared._replace(unsent=unsent)
    backend.set(b"k", bytes(MIB))
    response = await connect().request("GET", "/read/k")
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    assert "slowly" in response.error


@pytest.fixture
async def answered(monkeypatch) -> AsyncIterator[Turns]:
    """Answers that were sent to clients, by turn."""
    send, send_all = TcpStream.send_now, TcpStream.send_all

    def counted(self: TcpStream, data: bytes) -> int:
        turns.add(data.count(b"HTTP/1.1 200"))
        return send(self, data)

    async def counted_all(self: TcpStream, data: bytes) -> None:
        turns.add(data.count(b"HTTP/1.1 200"))
        await send_all(self, data)

    monkeypatch.setattr(TcpStream, "send_now", counted)
    monkeypatch.setattr(TcpStream, "send_all", counted_all)
    with counting_turns() as turns:
        yield turns


@pytest.mark.parametrize(
    ("clients", "pipelined", "most"),
    [(400, 1, BYTES_MAX // SMALL_BYTES * 3 // 4), (200, 2, BYTES_MAX // 3000 + WAITED_MAX)],
    ids=["without a task", "with a task"],
)
async def test_outcomes_that_the_node_tells_at_once_are_answered_in_turns(
    connect, backend, answered, nursery, clients, pipelined, most
):
    """A partition ends, or all of them expire: hundreds, whose answers are small."""
    ends = trio.Event()
    count = 0

    async def wait(_command: object) -> None:
        nonlocal count
        count += 1
        await ends.wait()

    backend.before_write = wait
    key = b"k" * (1 if pipelined == 1 else 3000)
    put = b"PUT /v1/kv/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nv" % key
    body = b'{"key":"%b","value":"v"}' % key
    write = b"POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
    one = put if pipelined == 1 else write % (len(body), body)
    for _ in range(clients):
        client = connect()
        await client.send(one * pipelined)
        nursery.start_soon(client.read_until, b"never")
    while count < clients:
        await trio.lowlevel.checkpoint()
    ends.set()
    while sum(answered.done.values()) < clients * pipelined:
        await trio.lowlevel.checkpoint()
    assert max(answered.done.values()) <= most
    nursery.cancel_scope.cancel()
