"""The UDP and TCP server: carries queries to `Answers` and replies back.

Owns sockets' behaviour: batches, framing, timeouts, how many connections, and which errors are
survived. Which reply a query gets is not decided here.

Theory of operation: one task drains the UDP socket, up to a batch between two turns of the loop,
because a turn costs more than an answer; replies are sent at once and never waited for. TCP has one
task per connection; all of them live in the nursery of `run`.
"""

from __future__ import annotations

import contextlib
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from .answers import Answers
from .view import ClusterView

log = structlog.get_logger(__name__)

# 64 answers take about half a millisecond, which is how long the rest of the node may be held up.
UDP_BATCH = 64
# A query longer than this is nonsense; what is cut off makes it malformed.
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

Bound = tuple[str, int]


@dataclass(slots=True)
class DnsStats:
    """Counts since the start.

    Attributes:
        queries: Datagrams and TCP messages taken in, good and bad.
        replies: Replies handed to the kernel.
        unsent: UDP replies that the kernel did not take.
        failures: Queries that met an error of ours and got SERVFAIL.
        evicted: Connections ended to make room for newer ones.
    """

    queries: int = 0
    replies: int = 0
    unsent: int = 0
    failures: int = 0
    evicted: int = 0


class DnsServer:
    """Serves one pair of bound sockets.

    Args:
        udp: A bound datagram socket.
        tcp: A bound and listening stream socket.
        answers: What the replies come from.

    Closes:
        Both sockets, when `run` ends.
    """

    def __init__(
        self, udp: socket.socket, tcp: socket.socket, *, answers: Answers | None = None
    ) -> None:
        self._udp = udp
        self._tcp = tcp
        self._answers = answers if answers is not None else Answers()
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
        buffer = bytearray()
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
            replies = self._reply_to_messages(buffer)
            with trio.fail_after(TCP_SEND_S):
                await stream.send_all(b"".join(replies))
            self.stats.replies += len(replies)

    def _reply_to_messages(self, buffer: bytearray) -> list[bytes]:
        """Take whole queries from the front of the buffer, up to a bound, and frame the replies."""
        replies: list[bytes] = []
        size = 0
        while _is_whole(buffer) and size < TCP_REPLIES_MAX:
            end = 2 + int.from_bytes(buffer[:2], "big")
            reply = self._reply(bytes(buffer[2:end]), over_tcp=True)
            del buffer[:end]
            if reply is not None:
                replies.append(len(reply).to_bytes(2, "big") + reply)
            # Messages that get no reply count too: a flood of them must not hold up the loop.
            size += end if reply is None else len(reply)
        return replies

    async def _serve_udp(self) -> None:
        drain = self._drain_wildcard if _is_wildcard(self._udp) else self._drain
        while True:
            await trio.lowlevel.wait_readable(self._udp)
            drain()

    def _drain(self) -> None:
        """Answer what waits in the socket, up to a batch."""
        receive, send = self._udp.recvfrom, self._udp.sendto
        for _ in range(UDP_BATCH):
            try:
                packet, client = receive(UDP_QUERY_MAX)
            except BlockingIOError:
                return
            except OSError:
                # Linux reports an ICMP error for an earlier reply here; it is nobody's failure.
                continue
            reply = self._reply(packet)
            if reply is not None:
                self._send(send, reply, client)

    def _drain_wildcard(self) -> None:
        """The same for a socket bound to all addresses, on a machine that may have several.

        The reply has to come from the address that was asked, or the client drops it. Only the
        packet knows which that was, so its packet information goes back with the reply (ip(7),
        ipv6(7)). The interface is left to routing, but for IPv6, whose link-local addresses mean
        nothing without it.
        """
        for _ in range(UDP_BATCH):
            try:
                packet, control, _flags, client = self._udp.recvmsg(UDP_QUERY_MAX, 64)
            except BlockingIOError:
                return
            except OSError:
                continue
            reply = self._reply(packet)
            if reply is not None:
                source = [
                    (level, kind, bytes(4) + info[4:] if level == socket.IPPROTO_IP else info)
                    for level, kind, info in control
                ]
                self._send(self._udp.sendmsg, [reply], source, 0, client)

    def _send(self, send: Callable[..., int], *arguments: object) -> None:
        try:
            send(*arguments)
        except OSError:
            # A full buffer, an unreachable client, a forged source port 0: UDP may lose replies.
            self.stats.unsent += 1
        else:
            self.stats.replies += 1

    def _reply(self, packet: bytes, *, over_tcp: bool = False) -> bytes | None:
        self.stats.queries += 1
        try:
            return self._answers.reply(packet, over_tcp=over_tcp)
        except Exception:  # a query that meets a bug must not end the server
            self.stats.failures += 1
            # A flood of them must not fill the log: it gets the 1st, 2nd, 4th, 8th, ...
            if self.stats.failures & (self.stats.failures - 1) == 0:
                log.exception("dns query failed", count=self.stats.failures, query=packet.hex())
            return self._answers.failure(packet)


def _is_whole(buffer: bytearray) -> bool:
    """Whether a length prefix and all that it announces are there."""
    return len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big")


def _is_wildcard(udp: socket.socket) -> bool:
    """Whether it is bound to every address; then it is told to say which one a packet was for."""
    host = udp.getsockname()[0]
    if host == "0.0.0.0":  # noqa: S104  # compared, not bound
        udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    elif host == "::":
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        return False
    return True
