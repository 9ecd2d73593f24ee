"""The server on real sockets, as far as memory streams cannot stand for them."""

from __future__ import annotations

import errno
import socket
from typing import cast

import pytest
import trio
from structlog.testing import capture_logs

from hstore.node.net.stream import Listener, TcpStream


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield TcpStream(near), TcpStream(far)


async def test_more_than_the_buffers_hold_is_sent_whole(pair):
    near, far = pair
    data = bytes(range(256)) * 40_000
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.send_all, data)
        while len(received) < len(data):
            received += await far.receive_some()
    assert received == data


async def test_receiving_is_always_a_checkpoint(pair):
    near, far = pair
    await near.send_all(b"abc")
    with trio.CancelScope() as scope:
        scope.cancel()
        await far.receive_some()
    assert scope.cancelled_caught


async def test_an_end_and_a_reset_are_told_apart(pair):
    near, far = pair
    await near.send_eof()
    assert await far.receive_some() == b""
    await near.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await far.send_all(b"abc")
    await near.aclose()


class BrokenListener:
    """Fails to accept as the kernel may, then has nobody."""

    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)
        self.sock, self._other = socket.socketpair()
        self.sock.setblocking(False)
        self._other.close()

    def accept(self):
        if self._errors:
            raise OSError(self._errors.pop(0), "broken")
        return self.sock, ("", 0)

    def fileno(self):
        return 0


async def test_accepting_survives_the_errors_of_others(autojump_clock):
    listener = BrokenListener(errno.ECONNABORTED, errno.EMFILE, errno.EPROTO)
    stream = await Listener(cast("socket.socket", listener)).accept()
    assert trio.current_time() == pytest.approx(0.1)
    await stream.aclose()


async def test_a_listener_without_descriptors_neither_spins_nor_floods_the_log(autojump_clock):
    listener = Listener(cast("socket.socket", BrokenListener(*[errno.EMFILE] * 700)))
    with capture_logs() as logs:
        stream = await listener.accept()
    assert trio.current_time() == pytest.approx(70)
    assert [(one["event"], one["count"]) for one in logs] == [
        ("cannot accept a connection", 1),
        ("cannot accept a connection", 601),
    ]
    await stream.aclose()


async def test_a_closed_listener_is_an_error(listener):
    listener.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await Listener(listener).accept()


async def test_the_kernel_takes_little_of_what_a_client_does_not_read():
    """It takes up to 4 MiB by itself, for each of thousands of connections."""
    taken = {}
    for limit in (0, 128 * 1024):
        with socket.socket() as listening, socket.socket() as client:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(listening.getsockname())
            sock = listening.accept()[0]
            sock.setblocking(False)
            stream = TcpStream(sock)
            if limit:
                stream.limit_unsent(limit)
            taken[limit] = 0
            while sent := stream.send_now(bytes(64 * 1024)):
                taken[limit] += sent
            await stream.aclose()
    assert taken[128 * 1024] <= 384 * 1024 < taken[0]
