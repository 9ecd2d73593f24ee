"""Answers about services, made of records that are packed one by one.

Owns the bytes of such records, the orders in which they come, and what a client gets that takes less
than all of them. Which records a name has is decided in `services.py`.

Theory of operation: a packed record does not depend on its place in the reply. The owner of an answer
is a pointer to the question, and a name below the domain that was asked ends in a pointer into it
(RFC 1035 section 4.1.4); all other names are written out. So a reply in any order is made by joining
bytes, in a twentieth of the time that dnslib takes.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from .compiled import Compiled
from .lookup import Key
from .message import HEADER_SIZE, TC, name_bytes
from .records import CLASS_IN, Name, Rcode, RRType

QUESTION = b"\xc0\x0c"
"""A pointer to the name in the question, which begins behind the header."""

_FIXED = struct.Struct("!HHIH")
_SRV = struct.Struct("!HHH")
_COUNTS = struct.Struct("!4H")
_PRIORITY = 1
# Plain integers are packed in half the time.
_A, _AAAA, _SRV_TYPE = int(RRType.A), int(RRType.AAAA), int(RRType.SRV)

# Fewer records than `_FEW` have at least `_ORDERS_MIN` orders, others as many as there are of them,
# and at most `_ORDERS_MAX`; very many have fewer again, as these are long.
_FEW = 4
_ORDERS_MIN = 8
_ORDERS_MAX = 16
_INDEXES_MAX = 8192
# An order that takes fewer bytes is put together again each time: whole replies of that size are kept.
_KEPT_FROM = 1024
_STRING_MAX = 255
_MASK = (1 << 64) - 1


class Part(NamedTuple):
    """One record of an answer.

    Attributes:
        record: Packed.
        glue: The addresses of the host that it names, packed, each with its owner.
        order: What it is told apart by, however the answer changes.
    """

    record: bytes
    glue: tuple[bytes, ...] = ()
    order: bytes = b""


def apex_pointer(labels: Name) -> bytes:
    """Return a pointer to the domain in the question, which has these labels below it."""
    at = HEADER_SIZE + sum([len(label) + 1 for label in labels])
    return (0xC000 | at).to_bytes(2, "big")


def host_below(label: bytes, kind: bytes, apex: bytes) -> bytes:
    """Return the name `label.kind.APEX`, packed.

    Args:
        label: Of the host.
        kind: `node` or `addr`.
        apex: The pointer to the domain.
    """
    return b"%c%b\4%b%b" % (len(label), label, kind, apex)


def address_record(owner: bytes, ttl_s: int, ip: bytes) -> bytes:
    """Return an A record of 4 bytes, or an AAAA record of 16."""
    return _record(owner, _A if len(ip) == 4 else _AAAA, ttl_s, ip)


def srv_record(owner: bytes, ttl_s: int, weight: int, port: int, target: bytes) -> bytes:
    """Return an SRV record."""
    return _record(owner, _SRV_TYPE, ttl_s, _SRV.pack(_PRIORITY, weight, port) + target)


def cname_record(owner: bytes, ttl_s: int, target: Name) -> bytes:
    """Return a CNAME record."""
    return _record(owner, RRType.CNAME, ttl_s, name_bytes(target))


def txt_record(owner: bytes, ttl_s: int, text: bytes) -> bytes:
    """Return a TXT record; a text that is too long for one string is given in several."""
    strings = [text[at : at + _STRING_MAX] for at in range(0, len(text), _STRING_MAX)] or [b""]
    rdata = b"".join(bytes((len(one),)) + one for one in strings)
    return _record(owner, RRType.TXT, ttl_s, rdata)


def _record(owner: bytes, rtype: int, ttl_s: int, rdata: bytes) -> bytes:
    return owner + _FIXED.pack(rtype, CLASS_IN, ttl_s, len(rdata)) + rdata


class ServiceAnswer(Compiled):
    """An answer whose records are packed one by one.

    Args:
        parts: Its records, each once; at least one.
        rng: Draws the orders.
        keys: What it depends on.
    """

    # Many answers are kept for long: tuples of bytes and numbers alone cost the collector of cycles
    # nothing (Python's documentation of `gc.is_tracked`).
    __slots__ = ("_glue", "_hashes", "_indexes", "_kept", "_order", "_records")

    def __init__(self, parts: Sequence[Part], rng: random.Random, keys: tuple[Key, ...]) -> None:
        self._records = tuple([part.record for part in parts])
        self._glue = tuple([part.glue for part in parts])
        self._order = tuple([part.order for part in parts])
        self._indexes = _indexes(len(parts), rng)
        self._kept: dict[int, bytes] = {}
        self._hashes: tuple[int, ...] = ()
        glue = [record for one in dict.fromkeys(self._glue) for record in one]
        super().__init__(Rcode.NOERROR, (len(parts), 0, len(glue)), (), keys)
        self.size = sum(map(len, self._records)) + sum(map(len, glue))
        if self.size >= _KEPT_FROM:
            self.size += (self.size + 8 * len(parts)) * len(self._indexes)

    def draw(self, rng: random.Random) -> tuple[int, bytes]:
        """Draw one of the orders; return its number, and the order packed."""
        at = int(rng.random() * len(self._indexes))
        return at, self._kept.get(at) or self._pack(at)

    def bodies(self) -> list[bytes]:
        """Return all packed orders; they are equally long."""
        return [self._kept.get(at) or self._pack(at) for at in range(len(self._indexes))]

    def _pack(self, at: int) -> bytes:
        """Put an order together: the records, then the addresses of the hosts in the same order."""
        order = self._indexes[at]
        records = [self._records[index] for index in order]
        for glue in dict.fromkeys([self._glue[index] for index in order]):
            records += glue
        body = b"".join(records)
        if len(body) >= _KEPT_FROM:
            self._kept[at] = body
        return body

    def shortened(
        self, at: int, reply: bytes, question: bytes, opt: bytes, limit: int
    ) -> bytes | None:
        """Return a reply with the addresses of as many hosts as fit; see `Compiled`."""
        end = HEADER_SIZE + len(question) + sum(map(len, self._records))
        limit -= len(opt)
        if end > limit:
            return None
        count = 0
        for glue in dict.fromkeys([self._glue[index] for index in self._indexes[at]]):
            size = sum(map(len, glue))
            if end + size > limit:
                break
            end += size
            count += len(glue)
        counted = (count + bool(opt)).to_bytes(2, "big")
        return b"".join((reply[: HEADER_SIZE - 2], counted, reply[HEADER_SIZE:end], opt))

    def cut(self, head: bytes, question: bytes, opt: bytes, limit: int, host: str) -> bytes | None:
        """Return a reply with TC and as many records as fit, the same ones to one client.

        Which ones is decided by the client's address and each record itself, so a record that comes
        or goes changes nothing else in it: a client that takes a cut answer as a whole, as HAProxy
        does, sees no other come or go. Different clients get different ones.
        """
        if not self._hashes:
            self._hashes = tuple([_hash(one) for one in self._order])
        # Multiplying by an odd number gives each client an order of its own, for half of what
        # a hash of each pair would cost: such queries are not kept, and their senders can be forged.
        client = _hash(host.encode()) | 1
        ranks = [one * client & _MASK for one in self._hashes]
        room = limit - HEADER_SIZE - len(question) - len(opt)
        records: list[bytes] = []
        for index in sorted(range(len(ranks)), key=ranks.__getitem__):
            record = self._records[index]
            room -= len(record)
            if room < 0:
                break
            records.append(record)
        flags = bytes((head[2] | TC,))
        counts = _COUNTS.pack(1, len(records), 0, bool(opt))
        return b"".join((head[:2], flags, head[3:4], counts, question, *records, opt))


def joined(records: Sequence[bytes], rng: random.Random) -> list[bytes]:
    """Return records in several orders; each comes first equally often, as in a `ServiceAnswer`."""
    if not records:
        return [b""]
    orders = _indexes(len(records), rng)
    return [b"".join([records[index] for index in order]) for order in orders]


def _indexes(count: int, rng: random.Random) -> tuple[tuple[int, ...], ...]:
    """Return orders of so many records: each comes first equally often, and the rest is shuffled."""
    if count == 1:
        return ((0,),)
    rounds = -(-_ORDERS_MIN // count) if count < _FEW else 1
    everything, draw = range(count), rng.random
    most = max(2, min(_ORDERS_MAX, _INDEXES_MAX // count))
    firsts = everything if count <= most else rng.sample(everything, most)
    orders = []
    for first in [*firsts] * rounds:
        # By random keys, in a third of the time that `shuffle` takes for a few.
        rest = sorted(everything, key=lambda _: draw())
        rest.remove(first)
        orders.append((first, *rest))
    return tuple(orders)


def _hash(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
