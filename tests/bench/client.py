"""One HTTP/1.1 connection for Trio, the same for all systems: requests as bytes, answers in full.

Neither redirects nor retries: who measures has to know what happened. Timeouts are the caller's,
and after one the connection is of no use any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httptools
import trio

_READ_BYTES = 64 * 1024


class Connection:
    """A connection to one node."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; return the status and body of its answer.

        Raises:
            OSError, trio.BrokenResourceError: The connection broke.

        Cancellation: the connection is of no use any more.
        """
        answer = _Answer()
        await self._stream.send_all(request)
        while not answer.is_complete:
            answer.feed(await self._stream.receive_some(_READ_BYTES))
        return answer.status, bytes(answer.body)

    async def follow(self, request: bytes, on_data: Callable[[int, bytes], None]) -> None:
        """Send a request whose answer has no end; call with its status and each piece of its body."""
        answer = _Answer()
        await self._stream.send_all(request)
        while not answer.is_complete:
            answer.feed(await self._stream.receive_some(_READ_BYTES))
            if answer.body:
                on_data(answer.status, bytes(answer.body))
                answer.body.clear()

    def close(self) -> None:
        """Close it."""
        self._stream.socket.close()


class _Answer:
    """What httptools calls while it reads an answer."""

    def __init__(self) -> None:
        self.status = 0
        self.body = bytearray()
        self.is_complete = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        if not data:
            raise trio.BrokenResourceError("the connection ended before the answer did")
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = True


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    """Connect to `HOST:PORT`. Closes: the connection, at the end of `with`.

    Raises:
        OSError: Nobody listens there.
    """
    host, _, port = address.rpartition(":")
    connection = Connection(await trio.open_tcp_stream(host, int(port)))
    try:
        yield connection
    finally:
        with suppress(OSError):
            connection.close()


GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, httptools.HttpParserError)
"""What it means when a node does not answer as one that lives."""
