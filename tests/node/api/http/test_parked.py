"""Connections without a task: what takes one, what ends them, and what a client never notices."""

from __future__ import annotations

import socket
from contextlib import suppress
from random import Random

import pytest
import structlog
import trio

from hstore.node.api.http.listing import LISTING_S_MAX
from hstore.node.api.http.server import LARGE_BODIES_BYTES_MAX, ApiServer
from hstore.node.api.routes import ROUTES
from hstore.node.net.stream import TcpStream
from tests.fakes.polling import poll_in

from ..conftest import Client


@pytest.fixture
def poller(nursery):
    """All of these are parked (elsewhere, every test runs with a task each, too)."""
    return poll_in(nursery)


def put(key: bytes, body: bytes = b"x") -> bytes:
    return b"PUT /v1/kv/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (
        key,
        len(body),
        body,
    )


def held(gate: trio.Event):
    async def wait(_command):
        await gate.wait()

    return wait


def tasks_of_connections() -> int:
    """How many connections have a task now."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    nurseries, count = list(root.child_nurseries), 0
    while nurseries:
        for task in nurseries.pop().child_tasks:
            count += "_run_task" in task.name
            nurseries += task.child_nurseries
    return count


async def test_plain_requests_take_no_task(client, backend):
    backend.set(b"a", b"1")
    backend.before_write = held(gate := trio.Event())
    await client.send(put(b"a", b"2"))
    await trio.testing.wait_all_tasks_blocked()
    assert len(backend.calls) == 1
    assert tasks_of_connections() == 0
    gate.set()
    assert (await client.response()).body == b"true"
    assert (await client.request("GET", "/v1/kv/a?raw")).body == b"2"
    assert (await client.request("GET", "/v1/kv/a?raw&stale")).body == b"2"
    assert (await client.request("HEAD", "/read/a")).status == 200
    assert (await client.request("GET", "/v1/kv/missing")).status == 404
    assert tasks_of_connections() == 0


async def test_a_client_that_goes_while_its_write_is_under_way_leaves_nothing(
    connect, server, backend
):
    client = connect()
    backend.before_write = held(gate := trio.Event())
    await client.send(put(b"a"))
    await trio.testing.wait_all_tasks_blocked()
    await client.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert server._connections == set()
    assert backend.items[b"a"].value == b"x"


async def test_what_comes_while_a_write_is_under_way_is_answered_after_it(client, backend):
    backend.before_write = held(gate := trio.Event())
    await client.send(put(b"a"))
    await trio.testing.wait_all_tasks_blocked()
    await client.send(put(b"b") + put(b"c"))
    await trio.testing.wait_all_tasks_blocked()
    assert [command.key for command, _ in backend.calls] == [b"a"]
    gate.set()
    for _ in range(3):
        assert (await client.response()).body == b"true"
    revisions = [backend.items[key].revision for key in (b"a", b"b", b"c")]
    assert revisions == sorted(revisions)
    await trio.testing.wait_all_tasks_blocked()
    assert tasks_of_connections() == 0


async def test_a_request_in_pieces_is_answered_and_the_connection_parked_again(client):
    whole = put(b"a", b"value")
    for at in range(0, len(whole), 7):
        await client.send(whole[at : at + 7])
        await trio.testing.wait_all_tasks_blocked()
    assert (await client.response()).body == b"true"
    await trio.testing.wait_all_tasks_blocked()
    assert tasks_of_connections() == 0
    assert (await client.request("GET", "/v1/kv/a?raw")).body == b"value"


async def test_an_answer_that_the_client_does_not_read_waits_in_a_task(server, backend, nursery):
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    backend.set(b"big", b"v" * 900_000)
    server.serve_parked(TcpStream(far), nursery, is_local=True)
    client = Client(TcpStream(near))
    await client.send(b"GET /v1/kv/big?raw HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert tasks_of_connections() == 1
    assert len((await client.response()).body) == 900_000
    await trio.testing.wait_all_tasks_blocked()
    assert tasks_of_connections() == 0
    await client.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert server._connections == set()


async def test_closing_ends_idle_ones_now_and_busy_ones_after_their_answer(
    connect, server, backend
):
    idle, busy = connect(), connect()
    backend.before_write = held(gate := trio.Event())
    await busy.send(put(b"a"))
    await trio.testing.wait_all_tasks_blocked()
    server.close()
    assert await idle.read_to_end() == b""
    gate.set()
    response = await busy.response()
    assert (response.body, response.headers["connection"]) == (b"true", "close")
    assert await busy.read_to_end() == b""


async def test_a_client_that_watches_no_more_is_noticed_at_once(
    connect, server, backend, autojump_clock
):
    """It took until the next keepalive, and 10,000 of them left no room for others till then."""
    client = connect()
    await client.send(b"GET /v1/watch?prefix=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await client.read_head()).status == 200
    await client.stream.aclose()
    await trio.sleep(1)
    assert server._connections == set()
    assert len(backend.watches) == 0


@pytest.fixture
def turn(server):
    return server._shared.turn


async def test_a_client_that_goes_while_its_request_waits_for_its_turn_is_no_defect(
    connect, server, turn, poller
):
    client = connect()
    await trio.testing.wait_all_tasks_blocked()
    [parked] = server._connections
    client.stream.sock.send(b"GET /unknown HTTP/1.1\r\nHost: localhost\r\nX: %0600d\r\n\r\n" % 1)
    turn.bytes_left = 0
    parked.ready()
    poller.forget(parked.stream.sock.fileno())  # It does not notice first that the client goes.
    await client.stream.aclose()
    with structlog.testing.capture_logs() as lines:
        await trio.testing.wait_all_tasks_blocked()
    assert lines == []
    assert server._connections == set()


async def test_who_reads_a_listing_for_longer_than_there_is_time_is_no_defect(
    server, backend, nursery, autojump_clock
):
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
    for number in range(100):
        backend.set(b"%d" % number, b"v" * 10_000)
    server.serve_parked(TcpStream(far), nursery, is_local=True)
    client = TcpStream(near)
    await client.send_all(b"GET /read HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with structlog.testing.capture_logs() as lines:
        while server._connections:
            await client.receive_some(40_000)
            await trio.sleep(50)
    assert lines == []
    assert trio.current_time() < LISTING_S_MAX + 100
    await client.aclose()


async def test_a_watch_that_is_closed_within_a_change_does_not_end_as_if_that_were_all(
    client, server, backend, turn
):
    await client.send(b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await client.read_head()).status == 200
    await client.read_chunk()
    turn.bytes_left, turn._is_serving = 1, True  # Enough for one slice, and nobody's turn comes.
    backend.set(b"a", b"v" * 900_000)
    first = await client.read_chunk()
    assert not first.endswith(b"\n\n")
    server.close()
    assert await client.read_to_end() == b""


class Noise:
    """Clients that do whatever they like on one server, drawn from a seed."""

    REQUESTS = (
        b"GET /read/big HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/kv/big?raw HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/kv/?recurse HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /read HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"HEAD /v1/kv/big HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /missing HTTP/1.1\r\nHost: localhost\r\nX: %0600d\r\n\r\n" % 1,
        b"no HTTP at all\r\n\r\n",
        put(b"big", b"w" * 300_000),
        put(b"small"),
    )

    def __init__(self, server, turn, nursery, seed: int) -> None:
        self.random = Random(seed)
        self._server, self._turn, self._nursery = server, turn, nursery

    async def client(self) -> None:
        await trio.sleep(self.random.uniform(0, 20))
        near, far = socket.socketpair()
        for sock in (near, far):
            sock.setblocking(False)
        stream = TcpStream(near)
        is_local = self.random.random() < 0.5
        self._server.serve_parked(TcpStream(far), self._nursery, is_local=is_local)
        with suppress(trio.BrokenResourceError), trio.move_on_after(self.random.uniform(0, 30)):
            async with trio.open_nursery() as both:
                both.start_soon(self._read, stream)
                for _ in range(self.random.randint(1, 4)):
                    await self._say(stream)
        await stream.aclose()

    async def _say(self, stream: TcpStream) -> None:
        data = b"".join(self.random.choices(self.REQUESTS, k=self.random.randint(1, 3)))
        if self.random.random() < 0.2:
            data = data[: self.random.randrange(len(data))]
        for at in range(0, len(data), 50_000):
            if self.random.random() < 0.3:
                self._turn.bytes_left = 0
            with suppress(trio.BrokenResourceError):
                await stream.send_all(data[at : at + 50_000])
        await trio.sleep(self.random.uniform(0, 3))

    async def _read(self, stream: TcpStream) -> None:
        pause = self.random.choice((0, 0.01, 1, 100))
        with suppress(trio.BrokenResourceError):
            while True:
                await trio.sleep(pause)
                if not await stream.receive_some(self.random.choice((1, 1000, 100_000))):
                    break


@pytest.mark.parametrize("seed", range(6))
async def test_when_all_clients_have_left_nothing_is_counted_any_more(
    backend, nursery, poller, seed, autojump_clock
):
    server = ApiServer(backend.whole, ROUTES, connections_max=24, refusals_max=3, poller=poller)
    nursery.start_soon(server.sweep)
    shared = server._shared
    unsent, room = shared.unsent, shared.room
    unsent._most, unsent._values_most = 1_500_000, 500_000
    noise = Noise(server, shared.turn, nursery, seed)
    backend.set(b"big", b"v" * 900_000)
    for number in range(20):
        backend.set(b"key %d" % number, b"\0" * 20_000)
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as clients:
            for _ in range(80):
                clients.start_soon(noise.client)
        await trio.sleep(100)
    assert [line for line in lines if line["log_level"] != "warning"] == []
    assert server._connections == room._served == set()
    assert (room._trials, room.streams, server._refused) == ({}, 0, 0)
    assert (unsent.held, unsent._values, unsent._waiting) == (0, {}, {})
    assert shared.budget._left == LARGE_BODIES_BYTES_MAX
    assert all(reader.is_closed for reader in backend.readers)
    assert len(backend.watches) == 0
    assert not shared.turn._small
    assert not shared.turn._slices
    assert tasks_of_connections() == 0
