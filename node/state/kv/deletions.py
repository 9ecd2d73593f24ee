"""The deletions that are kept, so that the index of a result never goes back.

An index that a client was given for a key must not fall when the key is deleted: a client that waits
for a higher one would wait for ever. So of each deletion its index is kept, and the lock index of
the key with it: a key that is made again goes on from there. Kept are `KEPT_MAX` of each table; when
there are more, the older half is forgotten, and the *floor* of the table becomes the greatest index
of those. By number and never by time, so every node forgets the same at the same entry. (Consul calls
them tombstones and forgets them by time, `agent/consul/state/graveyard.go`: there an index may fall.)

Owns the records of the deletions and of the floors, and the look-ups in them.

Theory of operation: the store has the deletions in the order of their index, and no other order, so
that the older half is one range. Look-ups are made in memory, in `Deletions`, which is built from
the records when the state is loaded. It is changed in place, and a savepoint takes that back. A
recursive deletion is one record, of its prefix: it counts for every key under it, whether that
existed or not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ...storage.interface import StateReader
from .. import records
from ..batch import Batch, InMemory
from ..watching.changes import KEYS, NODES, SERVICES, SESSIONS, Table
from .latest import Deletion, Latest

KEPT_MAX = 65_536
"""Of one table: some 20 MB in memory, if keys are of an ordinary length."""

_BYTES = {KEYS: b"k", SESSIONS: b"p", SERVICES: b"s", NODES: b"n"}
"""The tables whose deletions are kept: how each is named in the records."""


TABLES = frozenset(_BYTES.values())


class Kept:
    """The deletions of one table that are kept.

    Attributes:
        floor: The greatest index of those that are forgotten; 0: none is.
        lock_floor: The greatest lock index of those.
        with_lock: How many of the kept ones have a lock index.
        order: All of them, oldest first.
    """

    def __init__(self, floor: int, lock_floor: int, deletions: Iterable[Deletion]) -> None:
        self.order = deque(deletions)
        self._begin(floor, lock_floor)

    def _begin(self, floor: int, lock_floor: int) -> None:
        self.floor, self.lock_floor = floor, lock_floor
        self.with_lock = sum(1 for one in self.order if one.lock_index)
        self._keys = Latest(one for one in self.order if not one.is_prefix)
        self._prefixes = Latest(one for one in self.order if one.is_prefix)
        # Of the prefixes: how many there are of each length.
        self._lengths: dict[int, int] = {}
        for prefix in self._prefixes:
            self._lengths[len(prefix)] = self._lengths.get(len(prefix), 0) + 1

    def add(self, one: Deletion) -> Deletion | None:
        """Add the newest deletion; return the one of its name before it, for `undo`."""
        self.order.append(one)
        self.with_lock += one.lock_index > 0
        if not one.is_prefix:
            return self._keys.add(one)
        before = self._prefixes.add(one)
        if before is None:
            self._lengths[len(one.name)] = self._lengths.get(len(one.name), 0) + 1
        return before

    def undo(self, one: Deletion, before: Deletion | None) -> None:
        """Undo the latest `add`."""
        self.order.pop()
        self.with_lock -= one.lock_index > 0
        if not one.is_prefix:
            self._keys.undo(one, before)
            return
        self._prefixes.undo(one, before)
        if before is None:
            self._lengths[len(one.name)] -= 1
            if not self._lengths[len(one.name)]:
                del self._lengths[len(one.name)]

    def forget_half(self) -> int:
        """Forget the older half; return the index up to which, which is the floor now."""
        order = self.order
        cut = order[len(order) // 2 - 1].index
        lock_floor = self.lock_floor
        # All of an entry: what is left is behind the floor.
        while order and order[0].index <= cut:
            lock_floor = max(lock_floor, order.popleft().lock_index)
        self._begin(cut, lock_floor)
        return cut

    def key_index(self, key: bytes) -> int:
        """Return the index of the latest deletion that this key was under, else the floor."""
        latest = self._latest(key)
        return self.floor if latest is None else latest.index

    def tree_index(self, prefix: bytes) -> int:
        """Return the greatest index of deletions that overlap `prefix`, else the floor."""
        return max(
            self.floor,
            self._keys.greatest_under(prefix),
            self._prefixes.greatest_under(prefix),
            max((one.index for one in self._around(prefix)), default=0),
        )

    def lock_index(self, key: bytes) -> int:
        """Return the lock index with which this key, which does not exist, begins."""
        latest = self._latest(key)
        return self.lock_floor if latest is None else latest.lock_index

    def _latest(self, key: bytes) -> Deletion | None:
        found = self._around(key)
        own = self._keys.get(key)
        if own is not None:
            found.append(own)
        return max(found, key=_place, default=None)

    def _around(self, key: bytes) -> list[Deletion]:
        """Return the recursive deletions whose prefix this key, or prefix, has."""
        size = len(key)
        found = (self._prefixes.get(key[:length]) for length in self._lengths if length <= size)
        return [one for one in found if one is not None]


def _place(one: Deletion) -> tuple[int, int]:
    return one.index, one.number


class Deletions:
    """The kept deletions of all tables. Changed in place.

    Attributes:
        all: Those of each table, with how it is named in the records.
    """

    def __init__(self, tables: dict[Table, Kept]) -> None:
        self._tables = tables
        self.all = tuple((_BYTES[table], kept) for table, kept in tables.items())

    def of(self, table: Table) -> Kept:
        """Return those of one table."""
        return self._tables[table]


def _load(view: StateReader) -> Deletions:
    return Deletions({table: _load_table(view, name) for table, name in _BYTES.items()})


def _load_table(view: StateReader, name: bytes) -> Kept:
    floor, lock_floor = records.decode_forgotten(view.get(records.FORGOTTEN + name))
    start = records.DELETION + name
    found = view.scan(start, records.prefix_end(start))
    deletions = (Deletion(*records.decode_deletion(key, record)) for key, record in found)
    return Kept(floor, lock_floor, deletions)


DELETIONS = InMemory("deletions", _load)

IN_MEMORY = (DELETIONS,)


def keep(
    batch: Batch,
    table: Table,
    index: int,
    name: bytes,
    lock_index: int = 0,
    *,
    is_prefix: bool = False,
) -> None:
    """Keep a deletion.

    Args:
        batch: What has taken effect.
        table: Where it was.
        index: Of its entry.
        name: The key, or the prefix.
        lock_index: The greatest that a key which it deleted may have had.
        is_prefix: It is a recursive one.
    """
    kept = batch.value(DELETIONS).of(table)
    number = 0
    if kept.order and kept.order[-1].index == index:
        number = kept.order[-1].number + 1
    one = Deletion(index, number, is_prefix, lock_index, name)
    record = records.encode_deletion(name, lock_index, is_prefix=is_prefix)
    batch.put(records.deletion_key(_BYTES[table], index, number), record)
    before = kept.add(one)
    if batch.undo is not None:
        batch.undo_by(lambda: kept.undo(one, before))
    if lock_index:
        batch.locks_deleted = True


def make_room(batch: Batch) -> None:
    """Forget the older half of the deletions of each table that has too many.

    At the end of an entry, and never within a savepoint: it cannot be undone.
    """
    for name, kept in batch.value(DELETIONS).all:
        if len(kept.order) > KEPT_MAX:
            cut = kept.forget_half()
            start, end = records.deletion_key(name, 0, 0), records.deletion_key(name, cut + 1, 0)
            batch.delete_range(start, end)
            record = records.encode_forgotten(kept.floor, kept.lock_floor)
            batch.put(records.FORGOTTEN + name, record)
