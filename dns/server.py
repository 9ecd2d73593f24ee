"""The UDP and TCP server: carries queries to `Answers` and replies back.

Owns how sockets are used: batches, framing, timeouts, the number of connections, and which errors the
server survives. Which reply a query gets is decided in `answers.py`.

Theory of operation: one task drains the UDP socket, up to a batch between two turns of the loop,
because a turn costs more than an answer. Replies are sent together, and the task never waits to send
them. A socket that can be reached from beyond this machine is read one datagram at a time, because
the rate limit depends on the sender, and the reply has to come from the address that was asked.
Each TCP connection has a task, and so has each UDP query that is forwarded to a recursor; all of
them live in the nursery of `run`.
"""

from __future__ import annotations

import contextlib
import math
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from .answers import TCP_LIMIT, Answers
from .datagrams import Datagrams, can_batch
from .ip_literals import is_loopback
from .message import Query, empty_reply, framed_size
from .ratelimit import RateLimit, Verdict
from .records import Rcode
from .recursor import Recursor, may_recurse
from .view import ClusterView

log = structlog.get_logger(__name__)

# 64 answers hold up the rest of the node for about half a millisecond. The first batch after a new
# view takes one or two milliseconds more, to build the zone.
UDP_BATCH = 64
# No sensible query is longer; a longer one is cut off, and so malformed. Replies are written over
# their queries, and fit too: they have at most `message.OWN_UDP_SIZE` bytes.
UDP_QUERY_MAX = 4096
# Room for a burst while the node is busy elsewhere; the kernel caps it at its own limit.
UDP_RECEIVE_BUFFER = 1 << 20

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

# Python's socket module names it from 3.14 on; this is Linux's number (ip(7)).
_IP_PKTINFO = 8

_NOBODY = "0.0.0.0"  # noqa: S104  # no client has this address, and it may not ask a recursor

Bound = tuple[str, int]


@dataclass(slots=True)
class DnsStats:
    """Counts since the start.

    Attributes:
        queries: Datagrams and TCP messages taken in, good and bad.
        replies: Replies handed to the kernel.
        unsent: UDP replies that the kernel did not take.
        limited: UDP queries beyond their network's rate: dropped, or answered with TC.
        failures: Queries on which our code raised; they got SERVFAIL.
        evicted: Connections that were ended to make room for newer ones.
        unaccepted: Times that the system refused to hand over a connection.
    """

    queries: int = 0
    replies: int = 0
    unsent: int = 0
    limited: int = 0
    failures: int = 0
    evicted: int = 0
    unaccepted: int = 0


class DnsServer:
    """Serves one pair of bound sockets.

    Args:
        udp: A bound datagram socket.
        tcp: A bound and listening stream socket.
        answers: Makes the replies.
        recursor: Resolves names outside the zone, for clients that may ask; None: they get REFUSED.
        connections_max: TCP connections at the same time.

    Closes:
        Both sockets, when `run` ends.
    """

    def __init__(
        self,
        udp: socket.socket,
        tcp: socket.socket,
        *,
        answers: Answers | None = None,
        recursor: Recursor | None = None,
        connections_max: int = TCP_CONNECTIONS_MAX,
    ) -> None:
        self._connections_max = connections_max
        self._quiet_until = -math.inf
        self._udp = udp
        self._tcp = tcp
        self._answers = answers if answers is not None else Answers()
        self._recursor = recursor
        self._limit = RateLimit()
        self._nursery: trio.Nursery | None = None
        self._connections: OrderedDict[trio.abc.Stream, trio.CancelScope] = OrderedDict()
        self.stats = DnsStats()

    @property
    def view(self) -> ClusterView | None:
        """The cluster to answer from; set it whenever the cluster changes. None: SERVFAIL.

        Raises:
            ValueError: On setting, as for `Answers.view`.
        """
        return self._answers.view

    @view.setter
    def view(self, view: ClusterView | None) -> None:
        self._answers.view = view

    async def run(self, *, task_status: trio.TaskStatus[Bound] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` with the bound host and UDP port.

        Cancellation: Connections are dropped at once; clients ask again, this server or another.
        """
        with contextlib.closing(self._udp), contextlib.closing(self._tcp):
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._tcp))
            self._udp.setblocking(False)
            with contextlib.suppress(OSError):
                self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_RECEIVE_BUFFER)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._serve_udp)
                nursery.start_soon(self._accept, listener, nursery)
                host, port, *_flow_and_scope = self._udp.getsockname()
                task_status.started((host, port))

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        """Accept connections until cancelled. That it cannot is no reason to end, or to hurry."""
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                # Out of file descriptors or memory: nothing here can free any.
                self._count_unaccepted(error)
                await trio.sleep(RETRY_ACCEPT_S)
            else:
                nursery.start_soon(self.serve_stream, stream)

    def _count_unaccepted(self, error: OSError) -> None:
        self.stats.unaccepted += 1
        now, count = trio.current_time(), self.stats.unaccepted
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_S
            log.error("cannot accept a dns connection", error=str(error), count=count)

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one TCP connection (RFC 7766) until one of the two sides ends it. Closes it."""
        with trio.CancelScope() as scope:
            self._admit(stream, scope)
            try:
                async with stream:
                    await self._serve_messages(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                pass
            except Exception:  # one bad connection must not end the server
                log.exception("dns connection failed")
            finally:
                self._connections.pop(stream, None)

    def _admit(self, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
        """Register a connection; if there are too many, end the one idle for longest (RFC 7766 6.2.2)."""
        if len(self._connections) >= self._connections_max:
            _oldest, its_scope = self._connections.popitem(last=False)
            its_scope.cancel(reason="newer DNS connections need the room")
            self.stats.evicted += 1
        self._connections[stream] = scope

    async def _serve_messages(self, stream: trio.abc.Stream) -> None:
        """Answer length-prefixed queries in order.

        Raises:
            trio.TooSlowError: No whole query came, or a reply was not taken, in time.
        """
        buffer, client = bytearray(), _client_of(stream)
        while True:
            # The timeout is for a whole message: a client cannot extend it byte by byte.
            with trio.fail_after(TCP_IDLE_S):
                while not framed_size(buffer):
                    chunk = await stream.receive_some(TCP_CHUNK)
                    if not chunk:
                        return
                    buffer += chunk
            if stream in self._connections:
                self._connections.move_to_end(stream)
            replies, outside = self._reply_to_messages(buffer, client)
            await self._send_framed(stream, replies)
            if outside is not None:
                await self._send_framed(stream, [await self._resolve(outside, TCP_LIMIT)])

    async def _send_framed(self, stream: trio.abc.Stream, replies: list[bytes]) -> None:
        framed = b"".join(len(reply).to_bytes(2, "big") + reply for reply in replies)
        with trio.fail_after(TCP_SEND_S):
            await stream.send_all(framed)
        self.stats.replies += len(replies)

    def _reply_to_messages(
        self, buffer: bytearray, client: str
    ) -> tuple[list[bytes], Query | None]:
        """Take whole queries from the front of the buffer, up to a bound.

        Returns:
            The replies; and the query after them if a recursor has to answer it, else None. A
            client that pipelines gets its replies in order, so later queries wait.
        """
        replies: list[bytes] = []
        size = 0
        while size < TCP_REPLIES_MAX and (end := framed_size(buffer)):
            packet = bytes(buffer[2:end])
            self.stats.queries += 1
            reply = self._reply(packet, over_tcp=True)
            del buffer[:end]
            outside = self._outside(packet, reply, client)
            if outside is not None:
                return replies, outside
            if reply is not None:
                replies.append(reply)
            # Messages without a reply count too: a flood of them must not hold up the loop.
            size += end if reply is None else 2 + len(reply)
        return replies, None

    async def _serve_udp(self) -> None:
        is_from_beyond = _is_reached_from_beyond(self._udp)
        drain = self._drain_singly
        if not is_from_beyond and can_batch(self._udp):
            drain = partial(self._drain, Datagrams(self._udp, UDP_BATCH, UDP_QUERY_MAX))
        while True:
            await trio.lowlevel.wait_readable(self._udp)
            drain()

    def _drain(self, datagrams: Datagrams) -> None:
        """Answer the datagrams that wait in the socket, up to a batch."""
        known, draw = self._answers.known, self._answers.draw
        packets = datagrams.take()
        replies: list[bytes | None] = []
        for packet in packets:
            # The replies to most queries are cached, and every call saved here is a twentieth of
            # the time for such a query.
            whole = known.get(packet[2:])
            if whole is None:
                replies.append(self._answer(packet, datagrams, len(replies)))
            else:
                replies.append(packet[:2] + whole[int(draw() * len(whole))])
        taken = datagrams.answer(replies)
        self.stats.queries += len(packets)
        self.stats.replies += taken
        self.stats.unsent += len(replies) - replies.count(None) - taken

    def _answer(self, packet: bytes, datagrams: Datagrams, number: int) -> bytes | None:
        """Return the reply to a query that is not cached; None: there is none, or a recursor's."""
        reply = self._reply(packet)
        if self._recursor is not None and _is_refused(reply):
            client = datagrams.sender(number)
            outside = self._outside(packet, reply, client[0])
            if outside is not None:
                self._forward(outside, partial(self._send_to, client))
                return None
        return reply

    def _send_to(self, client: object, reply: bytes) -> None:
        self._send(self._udp.sendto, reply, client)

    def _drain_singly(self) -> None:
        """Answer one by one: on a socket reached from beyond this machine, or without batches.

        The rate limit applies here. The reply has to come from the address that was asked, or the
        client drops it; on a socket that is bound to all addresses only the packet information
        tells which that was, so it goes back with the reply (ip(7), ipv6(7)). The interface is left
        to routing, except for IPv6, whose link-local addresses mean nothing without it.
        """
        now = trio.current_time()
        for _ in range(UDP_BATCH):
            try:
                packet, control, _flags, client = self._udp.recvmsg(UDP_QUERY_MAX, 64)
            except BlockingIOError:
                return
            except OSError:
                continue
            self.stats.queries += 1
            source = [
                (level, kind, bytes(4) + info[4:] if level == socket.IPPROTO_IP else info)
                for level, kind, info in control
            ]
            send = partial(self._send_from, source, client)
            verdict = self._limit.judge(client[0], now)
            if verdict is Verdict.SEND:
                reply = self._reply(packet)
            else:
                self.stats.limited += 1
                reply = None
                if verdict is Verdict.TRUNCATE:
                    reply = self._answers.truncated(packet)
            outside = self._outside(packet, reply, client[0])
            if outside is not None:
                self._forward(outside, send)
            elif reply is not None:
                send(reply)

    def _send_from(
        self, source: list[tuple[int, int, bytes]], client: object, reply: bytes
    ) -> None:
        self._send(self._udp.sendmsg, [reply], source, 0, client)

    def _outside(self, packet: bytes, reply: bytes | None, client: str) -> Query | None:
        """Return the query if a recursor has to answer it instead of our REFUSED; else None."""
        if self._recursor is None or not _is_refused(reply):
            return None
        return self._answers.outside(packet) if may_recurse(client) else None

    def _forward(self, query: Query, send: Callable[[bytes], None]) -> None:
        """Start a task in which a recursor answers a UDP query."""

        async def forward() -> None:
            send(await self._resolve(query, query.udp_limit))

        assert self._nursery is not None, "UDP is served by run"
        self._nursery.start_soon(forward)

    async def _resolve(self, query: Query, limit: int) -> bytes:
        assert self._recursor is not None, "queries are outside only with a recursor"
        try:
            return await self._recursor.resolve(query, limit)
        except Exception:  # one reply that meets a bug must not end the server
            if self._count_failure():
                log.exception("dns forwarding failed", count=self.stats.failures)
            return empty_reply(query, Rcode.SERVFAIL, ra=True)

    def _send(self, send: Callable[..., int], *arguments: object) -> None:
        try:
            send(*arguments)
        except OSError:
            # The buffer is full, the client unreachable, or its port a forged 0: the reply is lost,
            # as UDP allows.
            self.stats.unsent += 1
        else:
            self.stats.replies += 1

    def _reply(self, packet: bytes, *, over_tcp: bool = False) -> bytes | None:
        try:
            return self._answers.reply(packet, over_tcp=over_tcp)
        except Exception:  # a query that meets a bug must not end the server
            if self._count_failure():
                log.exception("dns query failed", count=self.stats.failures, query=packet.hex())
            return self._answers.failure(packet)

    def _count_failure(self) -> bool:
        """Count a failure, and tell whether to log it: the 1st, 2nd, 4th, 8th, ...

        A flood of failures must not fill the log.
        """
        self.stats.failures += 1
        return self.stats.failures & (self.stats.failures - 1) == 0


def _is_refused(reply: bytes | None) -> bool:
    return reply is not None and reply[3] & 15 == Rcode.REFUSED


def _is_reached_from_beyond(udp: socket.socket) -> bool:
    """Tell whether a socket can be reached from other machines.

    A socket that is bound to all addresses is set to report the address that a packet was sent to.
    """
    host = udp.getsockname()[0]
    if host == "0.0.0.0":  # noqa: S104  # compared, not bound
        udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    elif host == "::":
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return not is_loopback(host)


def _client_of(stream: trio.abc.Stream) -> str:
    """Return the client's IP literal; a stream that is no socket is inside this process."""
    if not isinstance(stream, trio.SocketStream):
        return "127.0.0.1"
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:  # it is gone already
        return _NOBODY
