"""From the bytes of a query to the bytes of its reply, for one cluster view at a time.

Owns every rule about which reply a query gets (contract: REFUSED, NXDOMAIN, sizes, ANY, ...). No
sockets, no clock, no tasks: `server.py` carries the bytes, `zone.py` says what exists.

Theory of operation: everything after the question section of a reply depends only on the view, the
name and the type, so it is packed once (`_Compiled`) and a reply is put together from the query's
id, a prepared header, the question as it was asked, and those bytes. A query in one of the few
usual shapes is recognised by ten bytes of its header, and its question is looked up without being
parsed: a dictionary hit proves that the name is well formed, since only parsed names become keys.
The complete replies to such a query are then cached by all of its bytes but the id (`known`).
All other queries take `_answer`, which parses with care; all paths give the same bytes.

An RRset's order is random by choosing among a few packed orders, in which each record comes first
equally often.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Sequence

from .message import (
    AA,
    CD,
    HEADER_SIZE,
    PLAIN_UDP_SIZE,
    QR,
    RD,
    Query,
    empty_reply,
    name_bytes,
    opt_record,
    parse_query,
    udp_limit,
)
from .records import CLASS_IN, Hinfo, Name, Rcode, Rdata, Record, RRType
from .view import ClusterView
from .wire import pack_anywhere, pack_sections
from .zone import Node, Zone, build_zone, check_names

TCP_LIMIT = 65535

# Enough for every name and type of a hundred members. A flood of unusual types empties the cache,
# which costs a tenth of a millisecond for each name that is really asked for.
_COMPILED_MAX = 4096
# Queries in `known`, each with up to 32 replies of 1,232 bytes.
_KNOWN_MAX = 256
# The order of an RRset is drawn among at least, and at most, so many packed orders.
_ORDERS_MIN = 8
_ORDERS_MAX = 32

_TRANSFERS = {RRType.AXFR, RRType.IXFR}

_OPT_START = b"\0\0\x29"
_OPT_REPLIES = {b"\0\0": opt_record(), b"\x80\0": opt_record(dnssec_ok=True)}
"""Our OPT by the 16 flags of the query's. Other flags than DO mean nothing yet."""


class Answers:
    """Answers queries from the latest view it was given.

    Args:
        rng: Draws the order of records, which need not be unpredictable.

    Attributes:
        known: Cache: UDP query without its id -> equally good replies without theirs. A reply is
            complete with the query's id before it. A new view replaces the dictionary.
        draw: Returns a random number from 0 to 1.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._random = rng if rng is not None else random.Random()  # noqa: S311
        self._view: ClusterView | None = None
        self._built: Zone | None = None
        self.draw = self._random.random
        self._compiled: dict[bytes, _Compiled] = {}
        self._nxdomains: dict[Name, _Compiled] = {}
        self.known: dict[bytes, tuple[bytes, ...]] = {}

    @property
    def view(self) -> ClusterView | None:
        """The cluster to answer from; None until it is known, and every query gets SERVFAIL.

        A new view takes effect with the next query, which builds the zone. Setting it is cheap:
        views change during elections, when a node has more urgent work.

        Raises:
            ValueError: On setting, when the zone's or a member's name is not a DNS name; the old
                view stays.
        """
        return self._view

    @view.setter
    def view(self, view: ClusterView | None) -> None:
        if view == self._view:
            return
        if view is not None:
            check_names(view)
        self._view = view
        self._built = None
        self._compiled = {}
        self._nxdomains = {}
        self.known = {}

    def _zone(self) -> Zone | None:
        """The zone of the view; None without a view."""
        if self._built is None and self._view is not None:
            self._built = build_zone(self._view)
        return self._built

    def reply(
        self, packet: bytes, *, over_tcp: bool = False, is_near: bool = False
    ) -> bytes | Query | None:
        """Return the reply to a query, no larger than the client takes; None: send no reply.

        Args:
            packet: The query.
            over_tcp: Whether it came over TCP.
            is_near: Whether it came by UDP from a loopback address.

        Returns:
            The query itself if its name is not available now: `answer` tries again.
        """
        reply = self._shortcut(packet, over_tcp=over_tcp)
        if reply is not None:
            return reply
        query = parse_query(packet)
        return None if query is None else self.answer(query, over_tcp=over_tcp, is_near=is_near)

    def failure(self, packet: bytes) -> bytes | None:
        """Return the SERVFAIL for a packet on which `reply` raised; it reads the header only."""
        if len(packet) < HEADER_SIZE or packet[2] & QR:
            return None
        return empty_reply(Query(packet[:2], (packet[2], packet[3])), Rcode.SERVFAIL)

    def unavailable(self, query: Query) -> bytes:
        """Return the SERVFAIL for a query whose name has not become available."""
        zone = self._zone()
        is_ours = zone is not None and zone.apex_of(query.name) is not None
        return empty_reply(query, Rcode.SERVFAIL, aa=is_ours)

    def is_available(self, name: Name) -> bool:
        """Tell whether queries for a name can be answered now, if only with NXDOMAIN."""
        zone = self._zone()
        return zone is not None and (name not in zone.nodes or zone.nodes[name].available)

    def outside(self, packet: bytes) -> Query | None:
        """Return the query of a packet that got REFUSED if a recursor may answer it; else None."""
        query = parse_query(packet)
        return query if query is not None and self.is_outside(query) else None

    def is_outside(self, query: Query) -> bool:
        """Tell whether a recursor may answer a query.

        Such a query asks for recursion, is of class IN, and is for a name outside the zone.
        """
        if query.error is not None or not query.flags[0] & RD:
            return False
        if query.rclass != CLASS_IN or query.rtype in _TRANSFERS:
            return False
        if query.edns is not None and query.edns.version > 0:
            return False
        zone = self._zone()
        return zone is not None and zone.apex_of(query.name) is None

    def truncated(self, packet: bytes) -> bytes | None:
        """Return a reply with TC and without records, so that the client asks again by TCP.

        It is no longer than the query, so a flood of forged queries is not amplified.
        """
        query = parse_query(packet)
        if query is None:
            return None
        if query.error is not None:
            return empty_reply(query, query.error)
        zone = self._zone()
        is_ours = zone is not None and zone.apex_of(query.name) is not None
        return empty_reply(query, Rcode.NOERROR, aa=is_ours, tc=True)

    def _shortcut(self, packet: bytes, *, over_tcp: bool) -> bytes | None:
        """Return the reply to a usual query for a compiled answer; None: use `_answer`."""
        shape = _SHAPES.get(packet[2:HEADER_SIZE])
        if shape is None:
            return None
        end = packet.find(0, HEADER_SIZE) + 5
        compiled = self._compiled.get(packet[HEADER_SIZE : end - 4].lower() + packet[end - 4 : end])
        if compiled is None:
            return None
        opt, limit = b"", PLAIN_UDP_SIZE
        if shape >= _WITH_OPT:
            opt, limit = _plain_opt(packet[end:])
        elif len(packet) != end:
            return None
        body = compiled.body(self._random)
        reply = b"".join((packet[:2], compiled.heads[shape], packet[HEADER_SIZE:end], body, opt))
        if len(reply) > limit and not (over_tcp and limit and len(reply) <= TCP_LIMIT):
            return None
        if not over_tcp:
            if len(self.known) >= _KNOWN_MAX:
                self.known.clear()
            before = compiled.heads[shape] + packet[HEADER_SIZE:end]
            replies = tuple(before + body + opt for body in compiled.bodies())
            if 2 + max(map(len, replies)) <= limit:
                self.known[packet[2:]] = replies
        return reply

    def answer(
        self, query: Query, *, over_tcp: bool = False, is_near: bool = False
    ) -> bytes | Query:
        """Return the reply to a query; the query itself if its name is not available now.

        Args:
            query: A query, with or without an error.
            over_tcp, is_near: As for `reply`.
        """
        if query.error is not None:
            return empty_reply(query, query.error)
        if query.edns is not None and query.edns.version > 0:
            return empty_reply(query, Rcode.BADVERS)
        if query.rclass != CLASS_IN or query.rtype in _TRANSFERS:
            return empty_reply(query, Rcode.REFUSED)
        zone = self._zone()
        if zone is None:
            return query
        apex = zone.apex_of(query.name)
        if apex is None:
            return empty_reply(query, Rcode.REFUSED)
        node = zone.nodes.get(query.name)
        if node is not None and not node.available:
            return query
        compiled = self._find(zone, apex, node, query)
        limit = TCP_LIMIT if over_tcp else query.udp_limit(is_near=is_near)
        return self._assemble(query, compiled, limit)

    def _find(self, zone: Zone, apex: Name, node: Node | None, query: Query) -> _Compiled:
        if node is None:
            # The names that do not exist are countless: under one apex they share one answer.
            compiled = self._nxdomains.get(apex)
            if compiled is None:
                compiled = self._nxdomains[apex] = _negative(zone, apex, Rcode.NXDOMAIN)
            return compiled
        key = name_bytes(query.name) + query.question[-4:]
        compiled = self._compiled.get(key)
        if compiled is None:
            if len(self._compiled) >= _COMPILED_MAX:
                self._compiled.clear()
            compiled = self._compiled[key] = self._compile(zone, apex, node, query)
        return compiled

    def _compile(self, zone: Zone, apex: Name, node: Node, query: Query) -> _Compiled:
        rdatas: tuple[Rdata, ...] = node.rrsets.get(query.rtype, ())
        if query.rtype == RRType.ANY:
            # RFC 8482 section 4.2: one synthesized HINFO in place of everything there is.
            rdatas = (Hinfo(b"RFC8482", b""),)
        if not rdatas:
            return _negative(zone, apex, Rcode.NOERROR)
        glue = zone.glue(rdatas)
        orders = _orders(rdatas, self._random)
        compiled = _with_glue(query, zone, orders, glue)
        if glue and query.rtype == RRType.PTR:
            compiled.bare = _with_glue(query, zone, orders, [])
        return compiled

    def _assemble(self, query: Query, compiled: _Compiled, limit: int) -> bytes:
        """Return the reply from its parts; with TC and without records when they do not fit.

        RFC 2181 section 9 lets a client ignore the records of a reply with TC, so none are sent.
        """
        opt, shape = b"", 0
        if query.edns is not None:
            opt, shape = opt_record(dnssec_ok=query.edns.dnssec_ok), _WITH_OPT
        shape |= (1 if query.flags[0] & RD else 0) | (2 if query.flags[1] & CD else 0)
        body = compiled.body(self._random)
        reply = b"".join((query.ident, compiled.heads[shape], query.question, body, opt))
        if len(reply) > limit and compiled.bare is not None:
            return self._assemble(query, compiled.bare, limit)
        if len(reply) > limit:
            return empty_reply(query, Rcode.NOERROR, aa=True, tc=True)
        return reply


class _Order:
    """The records of one answer in one order, packed at the first use."""

    __slots__ = ("_glue", "_name", "_rtype", "_ttl_s", "rdatas")

    def __init__(
        self, name: Name, rtype: int, ttl_s: int, rdatas: Sequence[Rdata], glue: Sequence[Record]
    ) -> None:
        self._name = name
        self._rtype = rtype
        self._ttl_s = ttl_s
        self.rdatas = rdatas
        self._glue = glue

    def pack(self) -> bytes:
        rtype = RRType.HINFO if self._rtype == RRType.ANY else self._rtype
        answers = [Record(self._name, rtype, self._ttl_s, rdata) for rdata in self.rdatas]
        return pack_sections(self._name, self._rtype, answers, self._glue)


class _Compiled:
    """All of an in-zone reply but the id, the question and the OPT.

    Attributes:
        heads: Flags and counts by shape.
        bare: The same reply without the additional records that only save a browsing client more
            queries (RFC 6763 section 12), for a client that cannot take so large a reply: without
            them it is complete, and needs no TC (RFC 2181 section 9). None: there are none.
    """

    __slots__ = ("_bodies", "bare", "heads")

    def __init__(
        self, rcode: Rcode, counts: tuple[int, int, int], bodies: Sequence[_Order | bytes]
    ) -> None:
        self.bare: _Compiled | None = None
        answers, authorities, additionals = counts
        self.heads = tuple(
            _HEAD.pack(
                QR | AA | (RD if shape & 1 else 0),
                (CD if shape & 2 else 0) | rcode,
                1,
                answers,
                authorities,
                additionals + (1 if shape >= _WITH_OPT else 0),
            )
            for shape in range(2 * _WITH_OPT)
        )
        self._bodies = list(bodies)

    def body(self, rng: random.Random) -> bytes:
        """Return one of the packed orders, drawn at random."""
        return self._packed(int(rng.random() * len(self._bodies)))

    def bodies(self) -> list[bytes]:
        """Return all packed orders; they are equally long."""
        return [self._packed(at) for at in range(len(self._bodies))]

    def _packed(self, at: int) -> bytes:
        body = self._bodies[at]
        if isinstance(body, _Order):
            body = self._bodies[at] = body.pack()
        return body


def _with_glue(
    query: Query, zone: Zone, orders: Iterable[Sequence[Rdata]], glue: Sequence[Record]
) -> _Compiled:
    packed = [_Order(query.name, query.rtype, zone.ttl_s, order, glue) for order in orders]
    return _Compiled(Rcode.NOERROR, (len(packed[0].rdatas), 0, len(glue)), packed)


def _negative(zone: Zone, apex: Name, rcode: Rcode) -> _Compiled:
    """Return a negative answer. RFC 2308 section 3: it carries the apex's SOA, for caches."""
    soa = pack_anywhere(Record(apex, RRType.SOA, zone.soa.minimum_s, zone.soa))
    return _Compiled(rcode, (0, 1, 0), [soa])


def _orders(rdatas: tuple[Rdata, ...], rng: random.Random) -> list[Sequence[Rdata]]:
    """Return orders in which each record comes first equally often, and the rest is shuffled."""
    if len(rdatas) == 1:
        return [rdatas]
    rounds = -(-_ORDERS_MIN // len(rdatas))
    orders: list[Sequence[Rdata]] = []
    for first in rng.sample(rdatas, min(len(rdatas), _ORDERS_MAX)) * rounds:
        rest = [rdata for rdata in rdatas if rdata != first]
        rng.shuffle(rest)
        orders.append((first, *rest))
    return orders


def _plain_opt(tail: bytes) -> tuple[bytes, int]:
    """Return our OPT and the UDP limit for a query's OPT without options; for others, a limit of 0."""
    opt = _OPT_REPLIES.get(tail[7:9])
    if opt is None or tail[:3] != _OPT_START or tail[5:7] != b"\0\0" or tail[9:] != b"\0\0":
        return b"", 0
    return opt, udp_limit(tail[3] << 8 | tail[4])


_HEAD = struct.Struct("!BB4H")

_WITH_OPT = 4


def _shapes() -> dict[bytes, int]:
    """Return the shapes: by flags and counts of a query, a number of three bits: RD, CD, one OPT.

    AD in a query (RFC 6840 section 5.7) asks for a bit that an unsigned zone never sets, so it
    makes no difference.
    """
    shapes = {}
    for shape in range(2 * _WITH_OPT):
        for ad in (0, 0x20):
            low = (CD if shape & 2 else 0) | ad
            additionals = 1 if shape >= _WITH_OPT else 0
            shapes[_HEAD.pack(RD if shape & 1 else 0, low, 1, 0, 0, additionals)] = shape
    return shapes


_SHAPES = _shapes()
