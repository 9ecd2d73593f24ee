"""Queries for names outside the zone, forwarded to resolvers that the operator named.

Owns the queries to them, which packet is accepted as the reply, how long to wait, and the reply to
the client. It also says which clients may ask (`may_recurse`): a node that listens beyond this
machine must not resolve names for the whole Internet. Nothing is cached. Names in the zone never
come here.

Theory of operation (RFC 5452): every attempt has a random id and a socket of its own, so the kernel
draws a random port. The socket is connected, so it gets packets of the asked address only. A reply
has to repeat id and question byte for byte. After a few packets that do not, which an attacker may
have sent to guess, the query is sent by TCP, where there is nothing to guess. The same question is in
flight only once, for all clients that wait for it: a second query would double the chance of a guess,
and two nodes that forward to each other would send it around without end.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from .client import exchange_framed
from .ip_literals import ip_of
from .message import (
    CD,
    HEADER_SIZE,
    OPCODE,
    QR,
    RA,
    RD,
    TC,
    MalformedError,
    Query,
    empty_reply,
    opt_record,
    record_bounds,
)
from .records import Rcode, RRType

# A recursor with a cold cache may need a second; a lost datagram must not cost all of `TOTAL_S`.
ATTEMPT_S = 1.5
# Stub resolvers wait 5 s (resolv.conf(5)): they get a SERVFAIL before that, not silence.
TOTAL_S = 4.5
# Clients that wait at the same time, each with a task and at most one socket. Further clients get
# SERVFAIL at once.
IN_FLIGHT_MAX = 256
# After so many datagrams that are not the reply, the query is sent by TCP.
STRAY_MAX = 8

_REPLY_MAX = 65535
_COUNTS = struct.Struct("!4H")

Server = tuple[str, int]
"""IP literal and port of a recursor."""

Exchange = Callable[[Server, bytes], Awaitable[bytes]]
"""Sends a question to a server, and returns the packet that answers it."""

# Addresses of a machine, a link or a site only: RFC 1122, 1918, 3927, 4193, 4291.
_NEAR = [
    ipaddress.ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]


class ForgedError(Exception):
    """So many packets came that were not the reply that an attacker may be guessing."""


def may_recurse(host: str) -> bool:
    """Tell whether a client at this IP literal may ask for names outside the zone."""
    ip = ip_of(host)
    return any(ip in network for network in _NEAR)


async def by_udp(server: Server, question: bytes) -> bytes:
    """Ask by UDP.

    Raises:
        ForgedError: Too many packets came that do not answer it.
        OSError: Nothing listens there, or there is no route.

    Cancellation: Leaves nothing behind.
    """
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_DGRAM) as udp:
        await udp.connect(server)
        await udp.send(question)
        for _ in range(STRAY_MAX):
            packet = await udp.recv(_REPLY_MAX)
            if is_reply(packet, question):
                return packet
    raise ForgedError


async def by_tcp(server: Server, question: bytes) -> bytes:
    """Ask by TCP.

    Raises:
        MalformedError: Something else than the reply came, or less.
        OSError, trio.BrokenResourceError: There was no connection, or it broke.

    Cancellation: Leaves nothing behind.
    """
    async with await trio.open_tcp_stream(*server) as stream:
        packet = await exchange_framed(stream, question)
    if not is_reply(packet, question):
        raise MalformedError("not the reply")
    return packet


def is_reply(packet: bytes, question: bytes) -> bool:
    """Tell whether a packet answers our query (RFC 5452 section 9.1), in the same case."""
    asked = question[HEADER_SIZE : _question_end(question)]
    return (
        len(packet) >= HEADER_SIZE
        and packet[:2] == question[:2]
        and packet[2] & (QR | OPCODE) == QR
        and packet[4:6] == b"\0\1"
        and packet[HEADER_SIZE : HEADER_SIZE + len(asked)] == asked
    )


@dataclass(slots=True)
class RecursorStats:
    """Counts since the start.

    Attributes:
        forwarded: Questions that were sent to recursors.
        failed: Those of them that no recursor answered.
        overloaded: Clients that got SERVFAIL because too many waited.
    """

    forwarded: int = 0
    failed: int = 0
    overloaded: int = 0


class Recursor:
    """Asks recursors, one after the other, on behalf of clients.

    Args:
        servers: At least one; the one that answered last is asked first.
        udp: Sends a query by UDP.
        tcp: Sends a query by TCP.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        *,
        udp: Exchange = by_udp,
        tcp: Exchange = by_tcp,
        in_flight_max: int = IN_FLIGHT_MAX,
    ) -> None:
        self._servers = list(servers)
        self._in_flight_max = in_flight_max
        self._udp = udp
        self._tcp = tcp
        self._random = random.SystemRandom()
        self._flights: dict[tuple[bytes, bool, bool], _Flight] = {}
        self._waiting = 0
        self.stats = RecursorStats()

    @property
    def in_flight(self) -> int:
        """How many questions recursors are being asked; each has a socket."""
        return len(self._flights)

    async def resolve(self, query: Query, limit: int) -> bytes:
        """Return the reply for a client, of a recursor or SERVFAIL, after at most `TOTAL_S`.

        Args:
            query: A query without error, for a name outside the zone.
            limit: The most bytes that the client takes; a longer reply becomes one with TC.

        Cancellation: Another client that waits for the same question asks it anew.
        """
        if self._waiting >= self._in_flight_max:
            self.stats.overloaded += 1
            return empty_reply(query, Rcode.SERVFAIL, ra=True)
        self._waiting += 1
        try:
            found = await self._find(query)
        finally:
            self._waiting -= 1
        if found is None:
            return empty_reply(query, Rcode.SERVFAIL, ra=True)
        reply = found.relayed(query)
        return reply if len(reply) <= limit else empty_reply(query, found.rcode, tc=True, ra=True)

    async def _find(self, query: Query) -> _Found | None:
        dnssec_ok = query.edns is not None and query.edns.dnssec_ok
        key = (query.question, dnssec_ok, bool(query.flags[1] & CD))
        until = trio.current_time() + TOTAL_S
        while (flight := self._flights.get(key)) is not None:
            with trio.move_on_at(until) as waiting:
                await flight.landed.wait()
            if waiting.cancelled_caught or not flight.is_given_up:
                return flight.found
        flight = self._flights[key] = _Flight(trio.Event())
        self.stats.forwarded += 1
        try:
            with trio.move_on_at(until):
                flight.found = await self._ask_all(*key)
            flight.is_given_up = False
        finally:
            del self._flights[key]
            flight.landed.set()
        if flight.found is None:
            self.stats.failed += 1
        return flight.found

    async def _ask_all(self, asked: bytes, dnssec_ok: bool, cd: bool) -> _Found | None:
        """Return the first answer of the recursors, in their order; late ones are asked again."""
        untried = list(self._servers)
        while untried:
            late = []
            for server in untried:
                question = _question(self._random.randrange(1 << 16), asked, dnssec_ok, cd)
                found = None
                with trio.move_on_after(ATTEMPT_S) as attempt:
                    found = await self._ask(server, question)
                if found is not None:
                    self._prefer(server)
                    return found
                if attempt.cancelled_caught:
                    late.append(server)
            untried = late
        return None

    async def _ask(self, server: Server, question: bytes) -> _Found | None:
        """Return the answer of one recursor; None: it gave none."""
        try:
            try:
                packet = await self._udp(server, question)
            except ForgedError:
                packet = await self._tcp(server, question)
            else:
                if packet[2] & TC:
                    packet = await self._tcp(server, question)
            found = _read(packet, _question_end(question))
        except (OSError, trio.BrokenResourceError, MalformedError):
            return None
        return found if found.rcode not in _NO_ANSWER else None

    def _prefer(self, server: Server) -> None:
        if self._servers[0] != server:
            self._servers.remove(server)
            self._servers.insert(0, server)


@dataclass(slots=True)
class _Flight:
    """A question in flight, and its answer for all clients that wait for it.

    Attributes:
        landed: Set at its end.
        found: The answer; None: no recursor has given one.
        is_given_up: It ended since its client went away, and says nothing of the recursors.
    """

    landed: trio.Event
    found: _Found | None = None
    is_given_up: bool = True


@dataclass(frozen=True, slots=True)
class _Found:
    """A recursor's answer: its records without the OPT, which concerns only it and us."""

    rcode: int
    counts: tuple[int, int, int]
    records: bytes

    def relayed(self, query: Query) -> bytes:
        """Return the reply to a client's own query.

        AD is not passed on: this server has validated nothing, and the way to it is not protected.
        """
        answers, authorities, additionals = self.counts
        opt = b""
        if query.edns is not None:
            opt = opt_record(dnssec_ok=query.edns.dnssec_ok)
        flags = bytes((QR | query.flags[0] & RD, RA | query.flags[1] & CD | self.rcode))
        counts = _COUNTS.pack(1, answers, authorities, additionals + bool(opt))
        return b"".join((query.ident, flags, counts, query.question, self.records, opt))


def _question(ident: int, asked: bytes, dnssec_ok: bool, cd: bool) -> bytes:
    """Return the query to a recursor: the client's question byte for byte, and an OPT of our own."""
    flags = bytes((RD, CD if cd else 0))
    counts = _COUNTS.pack(1, 0, 0, 1)
    return ident.to_bytes(2, "big") + flags + counts + asked + opt_record(dnssec_ok=dnssec_ok)


def _question_end(question: bytes) -> int:
    """Return where the question section of our query ends: only its OPT follows."""
    return len(question) - len(opt_record())


def _read(packet: bytes, at: int) -> _Found:
    """Read a reply whose records begin at `at`.

    An OPT is nearly always the last record. Records after it are left out with it: they are additional,
    and compressed names in them would point to wrong places once the OPT is gone.

    Raises:
        MalformedError: Its records are not what its header says.
    """
    answers, authorities, additionals = _COUNTS.unpack_from(packet, 4)[1:]
    start = at
    for _ in range(answers + authorities):
        _fixed, at = record_bounds(packet, at)
    kept, end, rcode = 0, at, packet[3] & 15
    for number in range(additionals):
        fixed, at = record_bounds(packet, at)
        if int.from_bytes(packet[fixed : fixed + 2], "big") == RRType.OPT:
            rcode |= packet[fixed + 4] << 4  # RFC 6891 section 6.1.3
            break
        kept, end = number + 1, at
    return _Found(rcode, (answers, authorities, kept), packet[start:end])


_NO_ANSWER = {Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED, *range(16, 4096)}
"""Response codes after which another recursor is asked. Those from 16 on are errors of EDNS or of
signed messages."""
