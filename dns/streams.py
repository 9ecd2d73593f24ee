"""DNS over TCP (RFC 7766): connections, framing, and their timeouts.

Owns how many connections there are, how long one may be idle, and in which order replies leave. Which
reply a query gets is decided in `dispatch.py`.

Theory of operation: a connection has one task, which reads queries and sends the replies that there
are at once. Replies that come later, to held or forwarded queries, do not hold up others
(RFC 7766 section 7): each is sent when it comes, by a task of its own unless one is sending already.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import perf_counter

import structlog
import trio

from .answers import TCP_LIMIT
from .dispatch import Dispatch
from .message import Query, framed_size

log = structlog.get_logger(__name__)

# RFC 7766 section 6.2.3: "of the order of a few seconds" for idle connections.
TCP_IDLE_S = 10.0
# A client that does not take a reply in this time loses its connection.
TCP_SEND_S = 5.0
TCP_CONNECTIONS_MAX = 128
# Until a connection is accepted again that could not be, and until that is logged again.
RETRY_ACCEPT_S = 0.1
QUIET_S = 60.0
TCP_CHUNK = 16384
# Replies to pipelined queries are sent together, up to about so many bytes at a time.
TCP_REPLIES_MAX = 65536
# Of one connection, at the same time. Their replies may be long, and wait if the client is slow.
FORWARDED_MAX = 16

_NOBODY = "0.0.0.0"  # noqa: S104  # no client has this address, and it may not ask a recursor


class Connections:
    """The TCP connections of one server.

    Args:
        dispatch: Answers their queries.
        most: How many there may be at the same time.
    """

    def __init__(self, dispatch: Dispatch, most: int = TCP_CONNECTIONS_MAX) -> None:
        """Start with none."""
        self._dispatch = dispatch
        self._most = most
        self._quiet_until = -math.inf
        self._open: OrderedDict[Connection, trio.CancelScope] = OrderedDict()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._open)

    async def accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        """Accept connections until cancelled. That it cannot is no reason to end, or to hurry."""
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                # Out of file descriptors or memory: nothing here can free any.
                self._count_unaccepted(error)
                await trio.sleep(RETRY_ACCEPT_S)
            else:
                nursery.start_soon(self.serve, stream)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until one of the two sides ends it. Closes it.

        Cancellation: it is closed, and replies that are not sent yet are dropped.
        """
        connection = Connection(self._dispatch, stream)
        with trio.CancelScope() as scope:
            self._admit(connection, scope)
            try:
                async with stream:
                    await connection.serve(self._asked)
            except Exception:  # one bad connection must not end the server
                log.exception("dns connection failed")
            finally:
                self._open.pop(connection, None)

    def _asked(self, connection: Connection) -> None:
        """A connection has asked something: others make room before it does."""
        if connection in self._open:
            self._open.move_to_end(connection)

    def _admit(self, connection: Connection, scope: trio.CancelScope) -> None:
        """Register a connection; if there are too many, end one (RFC 7766 section 6.2.2).

        It is the one that asked least recently, of those that wait for no reply if there is one.
        """
        if len(self._open) >= self._most:
            oldest = next(iter(self._open))
            idle = next((one for one in self._open if not one.is_waiting), oldest)
            self._open.pop(idle).cancel(reason="newer DNS connections need the room")
            self._dispatch.stats.evicted += 1
        self._open[connection] = scope

    def _count_unaccepted(self, error: OSError) -> None:
        stats = self._dispatch.stats
        stats.unaccepted += 1
        now = trio.current_time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_S
            log.error("cannot accept a dns connection", error=str(error), count=stats.unaccepted)


class Connection:
    """One connection, and the asker of its queries (`held.Asker`).

    Attributes:
        key, host, over_tcp: As `held.Asker` has them.
    """

    def __init__(self, dispatch: Dispatch, stream: trio.abc.Stream) -> None:
        """Begin with nothing received."""
        self.key: Hashable = id(self)
        self.host = client_of(stream)
        self.over_tcp = True
        self._dispatch = dispatch
        self._stream = stream
        self._buffer = bytearray()
        self._outbox: list[bytes] = []
        self._is_sending = False
        self._forwarded = 0
        self._sent = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._idle = trio.CancelScope()

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a reply."""
        return bool(self._forwarded or self._outbox) or self._dispatch.held.has(self.key)

    async def serve(self, asked: Callable[[Connection], None]) -> None:
        """Answer queries until the client ends the connection, or is too slow.

        Args:
            asked: Called with this connection whenever queries have come.

        Cancellation: its held questions are forgotten.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._answer_queries(asked)
            except _ENDS:
                nursery.cancel_scope.cancel(reason="the connection has ended")
            finally:
                # RFC 7766 section 6.2.4: replies that are not sent yet are not sent any more.
                self._dispatch.held.drop(self.key)

    def send(self, reply: bytes) -> None:
        """Send a reply that was not there at once."""
        self._idle.deadline = trio.current_time() + TCP_IDLE_S
        self._outbox.append(reply)
        if not self._is_sending and self._nursery is not None:
            self._is_sending = True
            self._nursery.start_soon(self._send_late, self._nursery.cancel_scope)

    def forward(self, query: Query) -> None:
        """Have a recursor answer a query."""
        if self._nursery is None:
            raise RuntimeError("a query was forwarded that nobody has read")
        self._forwarded += 1
        self._nursery.start_soon(self._resolve, query)

    async def _resolve(self, query: Query) -> None:
        reply = await self._dispatch.resolve(query, TCP_LIMIT)
        self._forwarded -= 1
        self.send(reply)

    async def _answer_queries(self, asked: Callable[[Connection], None]) -> None:
        """Read and answer queries; return when none come any more.

        Raises:
            trio.TooSlowError: The client does not take a reply in time.
            trio.BrokenResourceError, trio.ClosedResourceError: The connection broke.
        """
        while await self._receive():
            asked(self)
            await self._send(self.take_queries())
            # A client that asks and does not read must not fill the memory.
            while self._is_sending or self._forwarded >= FORWARDED_MAX:
                await self._sent.wait()

    async def _receive(self) -> bool:
        """Wait for a whole query; return False when the client has closed, or does not send one."""
        # The timeout is for a whole message: a client cannot extend it byte by byte.
        with trio.move_on_after(TCP_IDLE_S) as self._idle:
            while not framed_size(self._buffer):
                chunk = await self._stream.receive_some(TCP_CHUNK)
                if not chunk:
                    return False
                self._buffer += chunk
        return not self._idle.cancelled_caught

    def take_queries(self) -> list[bytes]:
        """Take whole queries from the front of the buffer, up to a bound; return the replies."""
        buffer, dispatch = self._buffer, self._dispatch
        dispatch.note_contact()
        began = perf_counter()
        replies: list[bytes] = []
        size = 0
        while (
            size < TCP_REPLIES_MAX
            and self._forwarded < FORWARDED_MAX
            and (end := framed_size(buffer))
        ):
            packet = bytes(buffer[2:end])
            dispatch.stats.queries += 1
            reply = dispatch.reply(packet, lambda: self, over_tcp=True)
            del buffer[:end]
            if reply is not None:
                replies.append(reply)
            # Messages without a reply count too: a flood of them must not hold up the loop.
            size += end if reply is None else 2 + len(reply)
        dispatch.counts.times.observe_all(perf_counter() - began, len(replies))
        return replies

    async def _send(self, replies: list[bytes]) -> None:
        """Send replies, with others that have come meanwhile."""
        self._outbox += replies
        if self._is_sending or not self._outbox:
            await trio.lowlevel.checkpoint()
        else:
            self._is_sending = True
            await self._empty_outbox()

    async def _send_late(self, scope: trio.CancelScope) -> None:
        try:
            await self._empty_outbox()
        except _ENDS:
            scope.cancel(reason="the client takes no reply")

    async def _empty_outbox(self) -> None:
        try:
            while self._outbox:
                replies, self._outbox = self._outbox, []
                framed = b"".join(len(reply).to_bytes(2, "big") + reply for reply in replies)
                with trio.fail_after(TCP_SEND_S):
                    await self._stream.send_all(framed)
                self._dispatch.stats.replies += len(replies)
        finally:
            self._is_sending = False
            self._sent.set()
            self._sent = trio.Event()


_ENDS = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
"""How a connection ends that the client does not close."""


def client_of(stream: trio.abc.Stream) -> str:
    """Return the client's IP literal; a stream that is no socket is inside this process."""
    if not isinstance(stream, trio.SocketStream):
        return "127.0.0.1"
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:  # it is gone already
        return _NOBODY
