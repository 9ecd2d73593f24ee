"""From the bytes of a query to the bytes of its reply, for one cluster view at a time.

Owns every rule about which reply a query gets (contract: REFUSED, NXDOMAIN, sizes, ANY, ...). No
sockets, no clock, no tasks: `server.py` carries the bytes, `zone.py` says what exists.

Theory of operation: everything after the question section of a reply depends only on the view, the
name and the type, so it is packed once (`Compiled`) and a reply is put together from the query's
id, a prepared header, the question as it was asked, and those bytes. A query in one of the few
usual shapes is recognised by ten bytes of its header, and its question is looked up without being
parsed: a dictionary hit proves that the name is well formed, since only parsed names become keys.
The complete replies to such a query are then cached by all of its bytes but the id (`known`).
All other queries take `answer`, which parses with care; all paths give the same bytes.

An RRset's order is random by choosing among a few packed orders, in which each record comes first
equally often.
"""

from __future__ import annotations

import random

from .compiled import SHAPES, WITH_OPT, Compiled, Order, negative, orders_of
from .message import (
    CD,
    HEADER_SIZE,
    OPTS,
    OWN_UDP_SIZE,
    PLAIN_UDP_SIZE,
    QR,
    RD,
    Query,
    empty_reply,
    name_bytes,
    parse_query,
    udp_limit,
)
from .records import CLASS_IN, Hinfo, Name, Rcode, Rdata, RRType
from .view import ClusterView
from .zone import Node, Zone, build_zone, check_names, may_be_unavailable

TCP_LIMIT = 65535

# Enough for every name and type of a hundred members. A flood of unusual types empties the cache,
# which costs a tenth of a millisecond for each name that is really asked for.
_COMPILED_MAX = 4096
# Queries in `known`, each with up to 32 replies of 1,232 bytes.
_KNOWN_MAX = 256

_TRANSFERS = {RRType.AXFR, RRType.IXFR}

_OPT_START = b"\0\0\x29"
_OPT_REPLIES = {b"\0\0": OPTS[False], b"\x80\0": OPTS[True]}
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
        self._compiled: dict[bytes, Compiled] = {}
        self._nxdomains: dict[Name, Compiled] = {}
        self.known: dict[bytes, tuple[bytes, ...]] = {}

    @property
    def view(self) -> ClusterView | None:
        """The cluster to answer from; None until it is known, and queries are held or get SERVFAIL.

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
        reply = self._shortcut(packet, over_tcp=over_tcp, is_near=is_near)
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

    def _shortcut(self, packet: bytes, *, over_tcp: bool, is_near: bool) -> bytes | None:
        """Return the reply to a usual query for a compiled answer; None: use `answer`."""
        shape = SHAPES.get(packet[2:HEADER_SIZE])
        if shape is None:
            return None
        end = packet.find(0, HEADER_SIZE) + 5
        compiled = self._compiled.get(packet[HEADER_SIZE : end - 4].lower() + packet[end - 4 : end])
        if compiled is None:
            return None
        opt, advertised = b"", PLAIN_UDP_SIZE
        if shape >= WITH_OPT:
            opt, advertised = _plain_opt(packet[end:])
            if not opt:
                return None
        elif len(packet) != end:
            return None
        limit = TCP_LIMIT if over_tcp else udp_limit(advertised, is_near=is_near)
        question, head = packet[HEADER_SIZE:end], compiled.heads[shape]
        at, body = compiled.draw(self._random)
        reply = b"".join((packet[:2], head, question, body, opt))
        if len(reply) > limit:
            return compiled.shortened(at, reply, question, opt, limit)
        # What is larger depends on who asks.
        if not over_tcp and len(reply) <= OWN_UDP_SIZE:
            if len(self.known) >= _KNOWN_MAX:
                self.known.clear()
            before = head + question
            replies = tuple(before + body + opt for body in compiled.bodies())
            if 2 + max(map(len, replies)) <= min(limit, OWN_UDP_SIZE):
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
            return query if may_be_unavailable(query.name) else self.unavailable(query)
        apex = zone.apex_of(query.name)
        if apex is None:
            return empty_reply(query, Rcode.REFUSED)
        node = zone.nodes.get(query.name)
        if node is not None and not node.available:
            return query
        compiled = self._find(zone, apex, node, query)
        opt, shape = b"", 0
        if query.edns is not None:
            opt, shape = OPTS[query.edns.dnssec_ok], WITH_OPT
        shape |= (1 if query.flags[0] & RD else 0) | (2 if query.flags[1] & CD else 0)
        at, body = compiled.draw(self._random)
        reply = b"".join((query.ident, compiled.heads[shape], query.question, body, opt))
        if len(reply) <= PLAIN_UDP_SIZE:
            return reply
        limit = TCP_LIMIT if over_tcp else query.udp_limit(is_near=is_near)
        if len(reply) <= limit:
            return reply
        shortened = compiled.shortened(at, reply, query.question, opt, limit)
        # RFC 2181 section 9 lets a client ignore the records of a reply with TC: none are sent.
        return shortened or empty_reply(query, Rcode.NOERROR, aa=True, tc=True)

    def _find(self, zone: Zone, apex: Name, node: Node | None, query: Query) -> Compiled:
        if node is None:
            # The names that do not exist are countless: under one apex they share one answer.
            compiled = self._nxdomains.get(apex)
            if compiled is None:
                compiled = self._nxdomains[apex] = negative(zone, apex, Rcode.NXDOMAIN)
            return compiled
        key = name_bytes(query.name) + query.question[-4:]
        compiled = self._compiled.get(key)
        if compiled is None:
            if len(self._compiled) >= _COMPILED_MAX:
                self._compiled.clear()
            compiled = self._compiled[key] = self._compile(zone, apex, node, query)
        return compiled

    def _compile(self, zone: Zone, apex: Name, node: Node, query: Query) -> Compiled:
        rdatas: tuple[Rdata, ...] = node.rrsets.get(query.rtype, ())
        if query.rtype == RRType.ANY:
            # RFC 8482 section 4.2: one synthesized HINFO in place of everything there is.
            rdatas = (Hinfo(b"RFC8482", b""),)
        if not rdatas:
            return negative(zone, apex, Rcode.NOERROR)
        orders = orders_of(rdatas, self._random)
        bodies = [Order(query.name, query.rtype, zone, order) for order in orders]
        return Compiled(Rcode.NOERROR, (len(rdatas), 0, len(zone.glue(rdatas))), bodies)


def _plain_opt(tail: bytes) -> tuple[bytes, int]:
    """Return our OPT, and the size in a query's OPT without options; for others, an empty OPT."""
    opt = _OPT_REPLIES.get(tail[7:9])
    if opt is None or tail[:3] != _OPT_START or tail[5:7] != b"\0\0" or tail[9:] != b"\0\0":
        return b"", 0
    return opt, tail[3] << 8 | tail[4]
