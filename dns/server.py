"""The UDP and TCP server: carries queries in, and replies back.

Owns the UDP socket: batches, the rate limit, and which errors the server survives. Connections are
in `streams.py`, and what happens to a query in `dispatch.py`.

Theory of operation: one task drains the UDP socket, up to a batch between two turns of the loop,
because a turn costs more than an answer. Replies are sent together, and the task never waits to send
them. A socket that can be reached from beyond this machine is read one datagram at a time, because
the rate limit depends on the sender, and the reply has to come from the address that was asked.
Each TCP connection has a task, and so has each query that is forwarded to a recursor. One task lets go
what is held.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Hashable
from functools import partial
from time import perf_counter

import trio

from .answers import Answers
from .counts import Counts
from .datagrams import Datagrams, can_batch
from .dispatch import Dispatch, DnsStats
from .ip_literals import is_loopback
from .lookup import Lookup
from .message import OWN_UDP_SIZE, Query
from .ratelimit import RateLimit, Verdict, network_of
from .recursor import Recursor
from .streams import TCP_CONNECTIONS_MAX, Connections
from .view import ClusterView

# 64 answers hold up the rest of the node for about half a millisecond. The first batch after a new
# view takes one or two milliseconds more, to build the zone.
UDP_BATCH = 64
# No sensible query is longer; a longer one is cut off, and so malformed. Replies in a batch are
# written over their queries; a longer one is sent by itself.
UDP_QUERY_MAX = 4096
# Room for a burst while the node is busy elsewhere; the kernel caps it at its own limit.
UDP_RECEIVE_BUFFER = 1 << 20

# Python's socket module names it from 3.14 on; this is Linux's number (ip(7)).
_IP_PKTINFO = 8

Bound = tuple[str, int]

Client = tuple[str, int] | tuple[str, int, int, int]
"""An address as Python's sockets have it."""

Source = tuple[tuple[int, int, bytes], ...]
"""Control messages, as sendmsg takes them."""


class DnsServer:
    """Serves one pair of bound sockets.

    Args:
        udp: A bound datagram socket.
        tcp: A bound and listening stream socket.
        answers: Makes the replies.
        lookup: Knows the services, for answers that are not given; None: there are none.
        recursor: Resolves names outside the zone, for clients that may ask; None: they get REFUSED.
        connections_max: TCP connections at the same time.
        is_current: Tells whether the leader in the view may still be named; asked before each batch
            of queries. Without that, names that need a leader are held.

    Closes:
        Both sockets, when `run` ends.
    """

    def __init__(
        self,
        udp: socket.socket,
        tcp: socket.socket,
        *,
        answers: Answers | None = None,
        lookup: Lookup | None = None,
        recursor: Recursor | None = None,
        connections_max: int = TCP_CONNECTIONS_MAX,
        is_current: Callable[[], bool] = lambda: True,
    ) -> None:
        self._udp = udp
        self._tcp = tcp
        self._answers = answers if answers is not None else Answers(lookup=lookup)
        self._recursor = recursor
        self._dispatch = Dispatch(self._answers, recursor, is_current)
        self._connections = Connections(self._dispatch, connections_max)
        self._limit = RateLimit()
        self._nursery: trio.Nursery | None = None
        self._taken: tuple[Datagrams, int]

    @property
    def stats(self) -> DnsStats:
        """Counts since the start."""
        return self._dispatch.stats

    @property
    def counts(self) -> Counts:
        """Its replies by kind, and how long queries took."""
        return self._dispatch.counts

    @property
    def connections(self) -> int:
        """How many TCP connections there are."""
        return len(self._connections)

    @property
    def in_flight(self) -> int:
        """How many questions recursors are being asked."""
        return self._recursor.in_flight if self._recursor is not None else 0

    @property
    def held(self) -> int:
        """How many questions are held now."""
        return len(self._dispatch.held)

    @property
    def view(self) -> ClusterView | None:
        """The cluster to answer from; set it whenever the cluster changes. None: it is not known.

        A new view answers the held questions whose names it makes available, in the next turn.

        Raises:
            ValueError: On setting, as for `Answers.view`.
        """
        return self._dispatch.view

    @view.setter
    def view(self, view: ClusterView | None) -> None:
        self._dispatch.view = view

    def renew(self) -> None:
        """Perhaps the leader in the view may be named again: then answer what is held for it."""
        self._dispatch.note_contact()

    def stop_holding(self) -> None:
        """This node stops: answer what is held with SERVFAIL, and hold nothing from now on.

        So resolvers ask another server at once.
        """
        self._dispatch.held.stop()

    async def run(self, *, task_status: trio.TaskStatus[Bound] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` with the bound host and UDP port.

        Cancellation: Connections are dropped at once, and held questions that came by UDP get
        SERVFAIL; clients ask again, this server or another.
        """
        with contextlib.closing(self._udp), contextlib.closing(self._tcp):
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._tcp))
            self._udp.setblocking(False)
            with contextlib.suppress(OSError):
                self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_RECEIVE_BUFFER)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._dispatch.held.run)
                nursery.start_soon(self._serve_udp)
                nursery.start_soon(self._connections.accept, listener, nursery)
                host, port, *_flow_and_scope = self._udp.getsockname()
                task_status.started((host, port))

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one TCP connection until one of the two sides ends it. Closes it."""
        await self._connections.serve(stream)

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
        self._dispatch.note_contact()
        known, draw = self._answers.known, self._answers.draw
        packets = datagrams.take()
        began = perf_counter()
        replies: list[bytes | None] = []
        for packet in packets:
            # The replies to most queries are cached, and every call saved here is a twentieth of
            # the time for such a query.
            found = known.get(packet[2:])
            if found is None:
                replies.append(self._answer(packet, datagrams, len(replies)))
            else:
                whole, count = found
                count.n += 1
                replies.append(packet[:2] + whole[int(draw() * len(whole))])
        taken = datagrams.answer(replies)
        self.stats.queries += len(packets)
        self.stats.replies += taken
        sent = len(replies) - replies.count(None)
        self.stats.unsent += sent - taken
        self.counts.times.observe_all(perf_counter() - began, sent)

    def _answer(self, packet: bytes, datagrams: Datagrams, number: int) -> bytes | None:
        """Return the reply to a query that is not cached, to be sent with its batch, if there is one."""
        self._taken = datagrams, number
        # On a loopback address nearly everything comes from one, and few replies are so long.
        reply = self._dispatch.reply(packet, self._asker, is_near=True)
        if reply is None or len(reply) <= OWN_UDP_SIZE:
            return reply
        if not datagrams.is_from_loopback(number):
            return self._dispatch.reply(packet, self._asker)
        if len(reply) > UDP_QUERY_MAX:
            self.send_udp(datagrams.sender(number), (), reply)
            return None
        return reply

    def _asker(self) -> _UdpAsker:
        """Return the sender of the datagram that is being answered, for a reply that comes later."""
        datagrams, number = self._taken
        return _UdpAsker(self, datagrams.sender(number), ())

    def _drain_singly(self) -> None:
        """Answer one by one: on a socket reached from beyond this machine, or without batches.

        The rate limit applies here, so a query pays for its reply on arrival, also if that comes
        later. The reply has to come from the address that was asked, or the client drops it; on a
        socket that is bound to all addresses only the packet information tells which that was, so
        it goes back with the reply (ip(7), ipv6(7)). The interface is left to routing, except for
        IPv6, whose link-local addresses mean nothing without it.
        """
        self._dispatch.note_contact()
        now = trio.current_time()
        for _ in range(UDP_BATCH):
            try:
                packet, control, _flags, client = self._udp.recvmsg(UDP_QUERY_MAX, 64)
            except BlockingIOError:
                return
            except OSError:
                continue
            began = perf_counter()
            self.stats.queries += 1
            source = tuple(
                (level, kind, bytes(4) + info[4:] if level == socket.IPPROTO_IP else info)
                for level, kind, info in control
            )
            asker = partial(_UdpAsker, self, client, source)
            verdict = self._limit.judge(client[0], now)
            if verdict is Verdict.SEND:
                is_near = network_of(client[0]) is None
                reply = self._dispatch.reply(packet, asker, is_near=is_near)
            else:
                self.stats.limited += 1
                reply = None
                if verdict is Verdict.TRUNCATE:
                    reply = self._answers.truncated(packet)
                    self.counts.truncated += reply is not None
            if reply is not None:
                self.send_udp(client, source, reply)
                self.counts.times.observe_all(perf_counter() - began, 1)

    def send_udp(self, client: Client, source: Source, reply: bytes) -> None:
        """Send a reply by itself."""
        try:
            self._udp.sendmsg([reply], source, 0, client)
        except OSError:
            # The buffer is full, the client unreachable, or its port a forged 0: the reply is lost,
            # as UDP allows.
            self.stats.unsent += 1
        else:
            self.stats.replies += 1

    def forward(self, query: Query, limit: int, send: Callable[[bytes], None]) -> None:
        """Start a task in which a recursor answers a query that came by UDP."""

        async def forward() -> None:
            send(await self._dispatch.resolve(query, limit))

        if self._nursery is None:
            raise RuntimeError("a query was forwarded by a server that does not run")
        self._nursery.start_soon(forward)


class _UdpAsker:
    """The sender of a datagram (`held.Asker`).

    Args:
        server: The server that it asked.
        client: Its address.
        source: Packet information with the address that it asked; empty where there is only one.
    """

    __slots__ = ("_client", "_server", "_source", "host", "key")

    def __init__(self, server: DnsServer, client: Client, source: Source) -> None:
        self.key: Hashable = (client, source)
        self.host = client[0]
        self._server = server
        self._client = client
        self._source = source

    @property
    def over_tcp(self) -> bool:
        return False

    def send(self, reply: bytes) -> None:
        self._server.send_udp(self._client, self._source, reply)

    def forward(self, query: Query) -> None:
        limit = query.udp_limit(is_near=network_of(self.host) is None)
        self._server.forward(query, limit, self.send)


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
