"""Targets of checks on sockets of this machine: each answers as a test says."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from hstore.node.checks.verdict import Progress, Verdict
from hstore.node.model.checks import CheckDefinition

Serve = Callable[[trio.SocketStream], Awaitable[None]]


class Target:
    """Listens on an address of loopback and answers each connection.

    Attributes:
        host, port: Where.
        requests: The head and body of each request, as they came.
        ended: How each connection ended on the other side: `end` or `reset`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.requests: list[bytes] = []
        self.ended: list[str] = []

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    @property
    def head(self) -> bytes:
        return self.requests[-1].partition(b"\r\n\r\n")[0]


@asynccontextmanager
async def answering(
    answer: bytes | Callable[[bytes], bytes] | None = None,
    serve: Callable[[trio.SocketStream], Awaitable[None]] | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Target]:
    """Serve connections: by these bytes, by what a function makes of the request, or by `serve`."""
    listener = socket.create_server((host, 0))
    listener.setblocking(False)
    target = Target(host, listener.getsockname()[1])

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                request = await _request(stream)
                target.requests.append(request)
                if serve is not None:
                    await serve(stream)
                else:
                    await stream.send_all(answer(request) if callable(answer) else answer or b"")
                    stream.socket.shutdown(socket.SHUT_WR)
                while await stream.receive_some(65536):
                    pass
                target.ended.append("end")
            except (trio.BrokenResourceError, OSError):
                target.ended.append("reset")

    async with trio.open_nursery() as nursery:
        listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        nursery.start_soon(trio.serve_listeners, handle, [listening])
        yield target
        nursery.cancel_scope.cancel()


async def _request(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = await stream.receive_some(65536)
        if not piece:
            return data
        data += piece
    return data


async def timed(probe: Any, definition: CheckDefinition, timeout_s: float) -> Verdict:
    """Run a probe as `runs.py` does, with the deadline of its caller."""
    progress = Progress()
    with trio.move_on_after(timeout_s):
        verdict: Verdict = await probe.run(definition, progress)
        return verdict
    return progress.timed_out()


def reply(code: int, reason: str = "", body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} {reason}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]  # type: ignore[no-any-return]
