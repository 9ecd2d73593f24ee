"""Connections without a task: what takes one, what ends them, and what a client never notices."""

from __future__ import annotations

import socket

import pytest
import trio

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
    assert (await client.request("HEAD", "/v1/kv/a")).status == 200
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
