"""Compiled answers: all of a reply that depends only on the view, the name and the type.

Owns how a reply is put together from its parts, in which orders the records come, and what is left
out of a reply that is too long. Which answer a query gets is decided in `answers.py`.
"""

from __future__ import annotations

import random
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from .lookup import Key
from .message import AA, CD, HEADER_SIZE, QR, RD, record_bounds
from .records import Hinfo, Name, Rcode, Rdata, Record, RRType
from .wire import pack_anywhere, pack_sections
from .zone import Zone

# The order of an RRset is drawn among at least, and at most, so many packed orders.
_ORDERS_MIN = 8
_ORDERS_MAX = 32


class Order:
    """The records of one answer in one order, packed at the first use.

    The additional records follow this order, too, so that the first ones stay if not all fit.
    """

    __slots__ = ("_name", "_rdatas", "_rtype", "_zone")

    def __init__(self, name: Name, rtype: int, zone: Zone, rdatas: Sequence[Rdata]) -> None:
        self._name = name
        self._rtype = rtype
        self._zone = zone
        self._rdatas = rdatas

    def pack(self) -> bytes:
        """Return the sections that follow the question."""
        rtype = RRType.HINFO if self._rtype == RRType.ANY else self._rtype
        ttl_s = self._zone.ttl_s
        answers = [Record(self._name, rtype, ttl_s, rdata) for rdata in self._rdatas]
        return pack_sections(self._name, self._rtype, answers, self._zone.glue(self._rdatas))

    def glue_sizes(self) -> Iterable[int]:
        """Return how many records the RRsets of the additional section have, in its order."""
        glue = self._zone.glue(self._rdatas)
        return Counter((record.owner, record.rtype) for record in glue).values()


class Compiled:
    """All of an in-zone reply but the id, the question and the OPT.

    Args:
        rcode: The response code.
        counts: Records in the sections after the question, without an OPT.
        orders: These sections, in several orders; bytes where there is only one.

    Attributes:
        heads: Flags and counts by shape.
        keys: What the answer depends on beside the view (`lookup.py`).
        queries: The queries whose whole replies were made from it and are kept; None: there was none.
        size: About how many bytes it holds, beside what every answer does.
    """

    __slots__ = ("_bodies", "_counts", "_cuts", "_orders", "heads", "keys", "queries", "size")

    def __init__(
        self,
        rcode: Rcode,
        counts: tuple[int, int, int],
        orders: Sequence[Order | bytes],
        keys: tuple[Key, ...] = (),
    ) -> None:
        self.keys = keys
        self.queries: dict[bytes, None] | None = None
        self.size = 0
        self.heads = _heads(rcode, counts)
        self._counts = counts
        self._orders = orders
        self._bodies: list[Order | bytes] = list(orders)
        self._cuts: dict[int, tuple[list[int], list[int]]] = {}

    def draw(self, rng: random.Random) -> tuple[int, bytes]:
        """Draw one of the orders; return its number, and the order packed."""
        at = int(rng.random() * len(self._bodies))
        body = self._bodies[at]
        return at, body if isinstance(body, bytes) else self._packed(at)

    def bodies(self) -> list[bytes]:
        """Return all packed orders; they are equally long."""
        return [self._packed(at) for at in range(len(self._bodies))]

    def _packed(self, at: int) -> bytes:
        body = self._bodies[at]
        if isinstance(body, Order):
            body = self._bodies[at] = body.pack()
        return body

    def shortened(
        self, at: int, reply: bytes, question: bytes, opt: bytes, limit: int
    ) -> bytes | None:
        """Return a reply with as many additional RRsets as fit; None: the rest does not fit either.

        Without them a reply is whole, and needs no TC (RFC 2181 section 9). Names in records are
        compressed against what comes before them, so nothing else changes.

        Args:
            at: Which order the reply has.
            reply: The reply in full.
            question: Its question.
            opt: Its OPT; empty if it has none.
            limit: The most bytes that the client takes.
        """
        start = HEADER_SIZE + len(question)
        ends, kept = self._cuts_of(at)
        fitting = bisect_right(ends, limit - start - len(opt))
        if not fitting:
            return None
        additionals = (kept[fitting - 1] + bool(opt)).to_bytes(2, "big")
        end = start + ends[fitting - 1]
        return b"".join((reply[: HEADER_SIZE - 2], additionals, reply[HEADER_SIZE:end], opt))

    def _cuts_of(self, at: int) -> tuple[list[int], list[int]]:
        """Return where an order may be cut, and how many additional records are before each place."""
        cuts = self._cuts.get(at)
        if cuts is None:
            cuts = self._cuts[at] = self._find_cuts(at)
        return cuts

    def _find_cuts(self, at: int) -> tuple[list[int], list[int]]:
        body, order = self._packed(at), self._orders[at]
        end = 0
        for _ in range(self._counts[0] + self._counts[1]):
            _fixed, end = record_bounds(body, end)
        ends, kept = [end], [0]
        for size in order.glue_sizes() if isinstance(order, Order) else ():
            for _ in range(size):
                _fixed, end = record_bounds(body, end)
            ends.append(end)
            kept.append(kept[-1] + size)
        return ends, kept

    def cut(self, head: bytes, question: bytes, opt: bytes, limit: int, host: str) -> bytes | None:
        """Return a reply with TC and as many of its records as fit; None: such replies have none.

        Args:
            head: The query's id, and the head of the reply in full.
            question, opt, limit: As for `shortened`.
            host: The client's address.
        """
        return None


@lru_cache(1024)
def _heads(rcode: Rcode, counts: tuple[int, int, int]) -> tuple[bytes, ...]:
    """Return flags and counts of a reply by shape; many answers share them."""
    answers, authorities, additionals = counts
    return tuple(
        _HEAD.pack(
            QR | AA | (RD if shape & 1 else 0),
            (CD if shape & 2 else 0) | rcode,
            1,
            answers,
            authorities,
            additionals + (1 if shape >= WITH_OPT else 0),
        )
        for shape in range(2 * WITH_OPT)
    )


def negative(zone: Zone, apex: Name, rcode: Rcode, keys: tuple[Key, ...] = ()) -> Compiled:
    """Return a negative answer. RFC 2308 section 3: it carries the apex's SOA, for caches."""
    return Compiled(rcode, (0, 1, 0), [soa_record(zone, apex)], keys)


def soa_record(zone: Zone, apex: Name) -> bytes:
    """Return an apex's SOA for a negative answer, packed."""
    return pack_anywhere(Record(apex, RRType.SOA, zone.soa.minimum_s, zone.soa))


def any_answer(name: Name, zone: Zone, keys: tuple[Key, ...] = ()) -> Compiled:
    """Return the answer to ANY: RFC 8482 section 4.2, one synthesized HINFO for all there is."""
    order = Order(name, RRType.ANY, zone, (Hinfo(b"RFC8482", b""),))
    return Compiled(Rcode.NOERROR, (1, 0, 0), [order], keys)


def orders_of(rdatas: tuple[Rdata, ...], rng: random.Random) -> list[Sequence[Rdata]]:
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


_HEAD = struct.Struct("!BB4H")

WITH_OPT = 4


def _shapes() -> dict[bytes, int]:
    """Return the shapes: by flags and counts of a query, a number of three bits: RD, CD, one OPT.

    AD in a query (RFC 6840 section 5.7) asks for a bit that an unsigned zone never sets, so it
    makes no difference.
    """
    shapes = {}
    for shape in range(2 * WITH_OPT):
        for ad in (0, 0x20):
            low = (CD if shape & 2 else 0) | ad
            additionals = 1 if shape >= WITH_OPT else 0
            shapes[_HEAD.pack(RD if shape & 1 else 0, low, 1, 0, 0, additionals)] = shape
    return shapes


SHAPES = _shapes()
