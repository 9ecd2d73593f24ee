"""The UDP and TCP server: carries queries to `Answers` and replies back.

Owns sockets' behaviour: batches, framing, timeouts, how many connections, and which errors are
survived. Which reply a query gets is not decided here.

Theory of operation: one task drains the UDP socket, up to a batch between two turns of the loop,
because a turn costs more than an answer; replies are sent together and never waited for. A socket
that can be reached from beyond this machine is read one datagram at a time, for each has to be
judged by its sender and answered from where it was sent to. TCP has one task per connection, and a
query by UDP that is passed on to a recursor has one; all of them live in the nursery of `run`.
"""

from __future__ import annotations

import contextlib
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
from .message import Query, empty_reply
from .ratelimit import RateLimit, Verdict
from .records import Rcode
from .recursor import Recursor, may_recurse
from .view import ClusterView

log = structlog.get_logger(__name__)

# 64 answers take about half a millisecond, which is how long the rest of the node may be held up;
# the first after a new view one or two more, for the zone.
UDP_BATCH = 64
# A query longer than this is nonsense; what is cut off makes it malformed. Replies must fit, too:
# they are written where their queries were, and have at most `message.OWN_UDP_SIZE` bytes.
UDP_QUERY_MAX = 4096
# Room for a burst while the node is busy elsewhere; the kernel caps it at its own limit.
UDP_RECEIVE_BUFFER = 1 << 20

# RFC 7766 section 6.2.3: "of the order of a few seconds" for idle connections.
TCP_IDLE_S = 10.0
# A reply that a client does not take in this time is not wanted.
TCP_SEND_S = 5.0
TCP_CONNECTIONS_MAX = 128
TCP_CHUNK = 16384
# Replies to pipelined queries are sent together, but not more than about this at a time.
TCP_REPLIES_MAX = 65536

# Python's socket module names it from 3.14 on; this is Linux's number (ip(7)).
_IP_PKTINFO = 8

_NOBODY = "0.0.0.0"  # noqa: S104  # no client has it, and none that has it may ask a recursor

Bound = tuple[str, int]


@dataclass(slots=True)
class DnsStats:
    """Counts since the start.

    Attributes:
        queries: Datagrams and TCP messages taken in, good and bad.
        replies: Replies handed to the kernel.
        unsent: UDP replies that the kernel did not take.
        limited: UDP queries beyond their network's rate: dropped, or answered with TC.
        failures: Queries that met an error of ours and got SERVFAIL.
        evicted: Connections ended to make room for newer ones.
    """

    queries: int = 0
    replies: int = 0
    unsent: int = 0
    limited: int = 0
    failures: int = 0
    evicted: int = 0


class DnsServer:
    """Serves one pair of bound sockets.

    Args:
        udp: A bound datagram socket.
        tcp: A bound and listening stream socket.
        answers: What the replies come from.
        recursor: Answers for names outside the zone, for clients that may ask it; None: nobody.

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
    ) -> None:
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
        """What is answered from; set it whenever the cluster changes. None answers SERVFAIL.

        Raises:
            ValueError: On setting, as for `Answers.view`.
        """
        return self._answers.view

    @view.setter
    def view(self, view: ClusterView | None) -> None:
        self._answers.view = view

    async def run(self, *, task_status: trio.TaskStatus[Bound] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` with the bound host and UDP port.

        Cancellation: Connections are dropped at once; clients ask again, here or elsewhere.
        """
        with contextlib.closing(self._udp), contextlib.closing(self._tcp):
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._tcp))
            self._udp.setblocking(False)
            with contextlib.suppress(OSError):
                self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_RECEIVE_BUFFER)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._serve_udp)
                await nursery.start(trio.serve_listeners, self.serve_stream, [listener])
                host, port, *_flow_and_scope = self._udp.getsockname()
                task_status.started((host, port))

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one TCP connection (RFC 7766) until either side has enough of it. Closes it."""
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
        """Make room by ending the connection that asked least recently (RFC 7766 section 6.2.2)."""
        if len(self._connections) >= TCP_CONNECTIONS_MAX:
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
            # The time is for a whole message: one byte now and then does not extend it.
            with trio.fail_after(TCP_IDLE_S):
                while not _is_whole(buffer):
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
            The replies, and the query behind them that a recursor has to answer, if there is one:
            who pipelines gets the replies in order.
        """
        replies: list[bytes] = []
        size = 0
        while _is_whole(buffer) and size < TCP_REPLIES_MAX:
            end = 2 + int.from_bytes(buffer[:2], "big")
            packet = bytes(buffer[2:end])
            self.stats.queries += 1
            reply = self._reply(packet, over_tcp=True)
            del buffer[:end]
            outside = self._outside(packet, reply, client)
            if outside is not None:
                return replies, outside
            if reply is not None:
                replies.append(reply)
            # Messages that get no reply count too: a flood of them must not hold up the loop.
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
        """Answer what waits in the socket, up to a batch."""
        known, draw = self._answers.known, self._answers.draw
        packets = datagrams.take()
        replies: list[bytes | None] = []
        for packet in packets:
            # Most queries are known, and each call that is saved is a twentieth of their time.
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
        """The reply to a query that is not known; None when there is none, or none of ours."""
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
        """The same one by one: for a socket that is reached from beyond, or where batches are not.

        Networks are answered so often and no more. From a socket bound to all addresses, on a
        machine that may have several, the reply has to come from the address that was asked, or
        the client drops it. Only the packet knows which that was, so its packet information goes
        back with the reply (ip(7), ipv6(7)). The interface is left to routing, but for IPv6, whose
        link-local addresses mean nothing without it.
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
        """The query, when its reply is REFUSED and a recursor has to answer it instead."""
        if self._recursor is None or not _is_refused(reply):
            return None
        return self._answers.outside(packet) if may_recurse(client) else None

    def _forward(self, query: Query, send: Callable[[bytes], None]) -> None:
        """Have a query by UDP answered by a recursor, in a task of its own."""

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
            # A full buffer, an unreachable client, a forged source port 0: UDP may lose replies.
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
        """Count one, and tell whether it is to be logged: the 1st, 2nd, 4th, 8th, ...

        A flood of them must not fill the log.
        """
        self.stats.failures += 1
        return self.stats.failures & (self.stats.failures - 1) == 0


def _is_whole(buffer: bytearray) -> bool:
    """Whether a length prefix and all that it announces are there."""
    return len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big")


def _is_refused(reply: bytes | None) -> bool:
    return reply is not None and reply[3] & 15 == Rcode.REFUSED


def _is_reached_from_beyond(udp: socket.socket) -> bool:
    """Whether others than this machine reach it.

    One that is bound to every address is told to say which of them a packet was for.
    """
    host = udp.getsockname()[0]
    if host == "0.0.0.0":  # noqa: S104  # compared, not bound
        udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    elif host == "::":
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return not is_loopback(host)


def _client_of(stream: trio.abc.Stream) -> str:
    """The client's IP literal; what is no socket is inside this process."""
    if not isinstance(stream, trio.SocketStream):
        return "127.0.0.1"
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:  # it is gone already
        return _NOBODY
