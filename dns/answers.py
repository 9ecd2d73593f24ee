"""From the bytes of a query to the bytes of its reply, for one cluster view at a time.

Owns every rule about which reply a query gets (contract: REFUSED, NXDOMAIN, sizes, ANY, ...). No
sockets, no clock, no tasks: `server.py` carries the bytes, `zone.py` and `services.py` say what exists.

Theory of operation: everything after the question section of a reply depends only on the view, what
is registered, the name and the type, so it is packed once (`Compiled`) and a reply is put together
from the query's id, a prepared header, the question as it was asked, and those bytes. A query in one of the few
usual shapes is recognised by ten bytes of its header, and its question is looked up without being
parsed: a dictionary hit proves that the name is well formed, since only parsed names become keys.
The complete replies to such a query are then cached by all of its bytes but the id (`known`).
All other queries take `answer`, which parses with care; all paths give the same bytes.

An RRset's order is random by choosing among a few packed orders, in which each record comes first
equally often.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from .aliases import alias_query
from .cache import Cache
from .compiled import SHAPES, WITH_OPT, Compiled, Order, any_answer, negative, orders_of
from .counts import Counts
from .held import Asker
from .lookup import EVERYTHING, Key, Lookup, NoLookup
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
from .records import CLASS_IN, Name, Rcode, Rdata, RRType
from .service_records import Alias, Question, is_stale, member_asked
from .services import Asked, asked_by, may_ask
from .view import ClusterView
from .zone import Node, Zone, Zones, build_zone, check_names, may_be_unavailable

TCP_LIMIT = 65535

_TRANSFERS = {RRType.AXFR, RRType.IXFR}

_OPT_START = b"\0\0\x29"
_OPT_REPLIES = {b"\0\0": OPTS[False], b"\x80\0": OPTS[True]}
"""Our OPT by the 16 flags of the query's. Other flags than DO mean nothing yet."""


class Answers:
    """Answers queries from the latest view it was given, and from what is registered now.

    Args:
        rng: Draws the order of records, which need not be unpredictable.
        lookup: Knows the services; by default there are none.

    Attributes:
        known: Cache: UDP query without its id -> equally good replies without theirs, and what
            counts them. A reply is complete with the query's id before it. A new view empties it.
        counts: The replies by UDP that are kept are counted by what `known` has; others elsewhere.
        draw: Returns a random number from 0 to 1.
        follows: Whether queries whose answer ends in a name that is not ours are returned as
            `AliasQuery`, if they ask for recursion.
    """

    def __init__(self, rng: random.Random | None = None, lookup: Lookup | None = None) -> None:
        self._random = rng if rng is not None else random.Random()  # noqa: S311
        self._lookup: Lookup = lookup if lookup is not None else NoLookup()
        self._lookup.on_change = self._on_change
        self._view: ClusterView | None = None
        self._zones: Zones | None = None
        self._datacenter = b""
        self._is_stale = False
        self._nxdomains: dict[Name, Compiled] = {}
        self._cache = Cache()
        self._compiled = self._cache.compiled
        self.known = self._cache.known
        self.counts = Counts()
        self.draw = self._random.random
        self.follows = False

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
        self._forget()

    def _on_change(self, keys: Sequence[Key]) -> None:
        """Forget what depends on what has changed."""
        if EVERYTHING in keys:
            self._forget()
        else:
            self._cache.drop(keys)

    def _forget(self) -> None:
        self._zones = None
        self._nxdomains = {}
        self._cache.clear()

    def note_age(self) -> None:
        """Forget the answers about services if they have become too old, or are not any more.

        To be called before queries are answered without contact with a leader.
        """
        stale = is_stale(self._lookup)
        if stale is not self._is_stale:
            self._is_stale = stale
            self._cache.drop_services()

    def _found_zones(self) -> Zones | None:
        """The zones of the view; None without a view."""
        if self._zones is None and self._view is not None:
            names = self._lookup.names
            self._zones = Zones(self._view, names.alt_domains, build_zone)
            self._datacenter = names.datacenter
        return self._zones

    def _zone_of(self, name: Name) -> tuple[Zone, Name] | None:
        """Return the zone that a name belongs to and the apex above it; None: it is not ours."""
        zones = self._zones or self._found_zones()
        return None if zones is None else zones.find(name)

    def reply(
        self,
        packet: bytes,
        *,
        over_tcp: bool = False,
        is_near: bool = False,
        asker: Callable[[], Asker] | None = None,
    ) -> bytes | Query | None:
        """Return the reply to a query, no larger than the client takes; None: send no reply.

        Args:
            packet: The query.
            over_tcp: Whether it came over TCP.
            is_near: Whether it came by UDP from a loopback address.
            asker: Returns the client; asked only where the reply depends on it.

        Returns:
            The query itself if its name is not available now: `answer` tries again. An `AliasQuery`
            if a recursor may complete its answer.
        """
        reply = self._shortcut(packet, over_tcp=over_tcp, is_near=is_near)
        if reply is not None:
            return reply
        query = parse_query(packet)
        if query is None:
            return None
        return self.answer(query, over_tcp=over_tcp, is_near=is_near, asker=asker)

    def failure(self, packet: bytes) -> bytes | None:
        """Return the SERVFAIL for a packet on which `reply` raised; it reads the header only."""
        if len(packet) < HEADER_SIZE or packet[2] & QR:
            return None
        return empty_reply(Query(packet[:2], (packet[2], packet[3])), Rcode.SERVFAIL)

    def unavailable(self, query: Query) -> bytes:
        """Return the SERVFAIL for a query whose name has not become available."""
        return empty_reply(query, Rcode.SERVFAIL, aa=self._zone_of(query.name) is not None)

    def is_available(self, name: Name) -> bool:
        """Tell whether queries for a name can be answered now, if only with NXDOMAIN."""
        if self._view is None:
            return False
        found = self._zone_of(name)
        node = found[0].nodes.get(name) if found is not None else None
        return node is None or node.available

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
        return self._view is not None and self._zone_of(query.name) is None

    def truncated(self, packet: bytes) -> bytes | None:
        """Return a reply with TC and without records, so that the client asks again by TCP.

        It is no longer than the query, so a flood of forged queries is not amplified.
        """
        query = parse_query(packet)
        if query is None:
            return None
        if query.error is not None:
            return empty_reply(query, query.error)
        return empty_reply(query, Rcode.NOERROR, aa=self._zone_of(query.name) is not None, tc=True)

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
        if not over_tcp and len(reply) <= OWN_UDP_SIZE and packet[2:] not in self.known:
            before = head + question
            replies = tuple(before + body + opt for body in compiled.bodies())
            if 2 + max(map(len, replies)) <= min(limit, OWN_UDP_SIZE):
                count = self.counts.of(packet, reply)
                self._cache.remember(packet[2:], compiled, replies, count)
        return reply

    def answer(
        self,
        query: Query,
        *,
        over_tcp: bool = False,
        is_near: bool = False,
        asker: Callable[[], Asker] | None = None,
    ) -> bytes | Query:
        """Return the reply to a query; the query itself if its name is not available now.

        Args:
            query: A query, with or without an error.
            over_tcp, is_near, asker: As for `reply`.
        """
        if query.error is not None:
            return empty_reply(query, query.error)
        if query.edns is not None and query.edns.version > 0:
            return empty_reply(query, Rcode.BADVERS)
        if query.rclass != CLASS_IN or query.rtype in _TRANSFERS:
            return empty_reply(query, Rcode.REFUSED)
        zones = self._zones or self._found_zones()
        if zones is None:
            return query if may_be_unavailable(query.name) else self.unavailable(query)
        found = zones.find(query.name)
        if found is None:
            return empty_reply(query, Rcode.REFUSED)
        zone, apex = found
        node = zone.nodes.get(query.name)
        if node is not None and not node.available:
            return query
        compiled, alias = self._find(zone, apex, node, query)
        if compiled is None:
            return self.unavailable(query)
        limit = TCP_LIMIT if over_tcp else query.udp_limit(is_near=is_near)
        reply = self._within(query, compiled, limit, asker)
        if alias is not None and self.follows and query.flags[0] & RD:
            return alias_query(query, alias, reply)
        return reply

    def _within(
        self, query: Query, compiled: Compiled, limit: int, asker: Callable[[], Asker] | None
    ) -> bytes:
        """Return the reply to a query, with as much of an answer as the client takes."""
        opt, shape = b"", 0
        if query.edns is not None:
            opt, shape = OPTS[query.edns.dnssec_ok], WITH_OPT
        shape |= (1 if query.flags[0] & RD else 0) | (2 if query.flags[1] & CD else 0)
        at, body = compiled.draw(self._random)
        head, question = query.ident + compiled.heads[shape], query.question
        reply = b"".join((head, question, body, opt))
        if len(reply) <= limit:
            return reply
        shortened = compiled.shortened(at, reply, question, opt, limit)
        if shortened is None and asker is not None:
            shortened = compiled.cut(head, question, opt, limit, asker().host)
        # RFC 2181 section 9 lets a client ignore the records of a reply with TC: of the cluster's
        # own names none are sent.
        return shortened or empty_reply(query, Rcode.NOERROR, aa=True, tc=True)

    def _find(
        self, zone: Zone, apex: Name, node: Node | None, query: Query
    ) -> tuple[Compiled | None, Alias | None]:
        """Return the answer to a query, and where it leads to; no answer: it is too old to be told.

        An answer that leads elsewhere is made anew for each query, so that none is missed.
        """
        asked = None
        if node is None:
            if apex is zone.apex and may_ask(query.name[-1 - len(apex)], self._datacenter):
                asked = asked_by(query.name[: -len(apex)], self._datacenter)
            if asked is None:
                return self._nxdomains.get(apex) or self._nxdomain(zone, apex), None
            node = member_asked(asked, zone)
        key = name_bytes(query.name) + query.question[-4:]
        compiled = self._compiled.get(key)
        if compiled is not None:
            return compiled, None
        if node is not None:
            compiled = self._compile(zone, apex, node, query)
            self._cache.add(key, compiled)
            return compiled, None
        if asked is None:
            raise RuntimeError("a name that has no node asks for nothing")
        return self._resolve(zone, key, asked, query)

    def _resolve(
        self, zone: Zone, key: bytes, asked: Asked, query: Query
    ) -> tuple[Compiled | None, Alias | None]:
        if self._zones is None:
            raise RuntimeError("a zone was found among none")
        question = Question(
            query.name,
            query.rtype,
            zones=self._zones,
            zone=zone,
            lookup=self._lookup,
            rng=self._random,
        )
        found = question.resolve(asked)
        if found is None:
            return self._nxdomains.get(zone.apex) or self._nxdomain(zone, zone.apex), None
        if found.is_kept and found.alias is None and found.answer is not None:
            self._cache.add(key, found.answer)
        return found.answer, found.alias

    def _nxdomain(self, zone: Zone, apex: Name) -> Compiled:
        """Make the answer that all share under one apex: names that do not exist are countless."""
        compiled = self._nxdomains[apex] = negative(zone, apex, Rcode.NXDOMAIN)
        return compiled

    def _compile(self, zone: Zone, apex: Name, node: Node, query: Query) -> Compiled:
        if query.rtype == RRType.ANY:
            return any_answer(query.name, zone)
        rdatas: tuple[Rdata, ...] = node.rrsets.get(query.rtype, ())
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
