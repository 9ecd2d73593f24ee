"""The server at real sockets: each connection with a task of its own, and parked with a poller."""

from __future__ import annotations

import socket

import pytest
import trio


@pytest.fixture
def listener():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


@pytest.fixture
async def address(server, listener, nursery):
    await nursery.start(server.run, [listener])
    return listener.getsockname()


async def test_a_client_on_this_machine_counts_as_local(address, backend):
    with socket.socket() as sock:
        await trio.to_thread.run_sync(sock.connect, address)
        request = b"POST /v1/node/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        sock.sendall(request)
        answer = await trio.to_thread.run_sync(sock.recv, 65536)
    assert answer.startswith(b"HTTP/1.1 200")
    assert backend.calls == ["stop"]


async def test_run_returns_once_closed_and_new_connections_are_not_served(server, listener):
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run, [listener])
        async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
            await stream.send_all(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            server.close()
            assert await stream.receive_some() == b""
