"""A batch: the effects of several entries, collected in front of the store and written at once.

Owns the overlay through which a command sees what the commands before it did, and the savepoints
that undo a part of it. Knows no table and no command: what a command does is in the module of its
table (`keys.py`, `members.py`, `idempotency.py`).

Theory of operation: `changed` is a dictionary of the records that were put (bytes) or deleted
(None) so far; a read asks it first and the store after it. A deletion of many records is kept as a
range instead, and reads of the store are checked against these ranges. What tables hold in memory
(`InMemory`) travels along as immutable values in one mapping, `values`; the changes that watches
are going to read, and the wakes, are lists. `commit` writes the records and the applied index as one atomic batch.

Savepoints: while one is open, `undo` is a list, and each write of a record first appends what
stood there. With none open `undo` is None, so all that a plain write pays is one comparison.
Everything else is undone by remembering where it stood: the mapping `values` is never changed in
place, the lists of ranges, of changes and of wakes only grow. A table that looks things up in memory in what
is too large to be copied (`deletions.py`, `holds.py`) changes that in place, and says by `undo_by`
how to take it back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from typing import Any, Generic, TypeVar

import msgspec

from ..model.commands import Command, Outcome
from ..raft.entry import Entry
from ..raft.errors import CoreBug
from ..storage.interface import APPLIED_KEY, StateReader, StateStore, pack_applied
from .watching.changes import Change, Tree, Wake

V = TypeVar("V")

# Up to so many stored records of a range are deleted one by one: some 30 us of reading, and as much
# of writing.
_FEW_RECORDS = 64

# As many records, and as many bytes of their keys and values, are read in one batch to list what
# deletions of ranges remove: some 20 ms at most. What is more is not listed. For each batch, not for
# each range: a transaction may delete 128 trees, in one turn at every node.
_LISTED_RECORDS = 10_000
_LISTED_BYTES = 16 * 1024 * 1024


class InMemory(Generic[V]):
    """Something small that a table holds in memory beside its records, as an immutable value.

    Made once, as a constant of the table's module. The value itself is in `State` and in each
    batch, under this object. Every change makes a new value, so it is for what is small or seldom
    changed (members, settings, counters): a large table is read through the batch instead. Or the
    value is an object that is changed in place, and every change is announced to `Batch.undo_by`.

    Args:
        name: For `repr`.
        load: Returns the value that the store's records amount to. Raises `StorageError` when a
            record is damaged.
    """

    def __init__(self, name: str, load: Callable[[StateReader], V]) -> None:
        self.name = name
        self.load = load

    def __repr__(self) -> str:
        return f"InMemory({self.name})"


Values = Mapping[InMemory[Any], Any]
"""What all tables hold in memory. Never changed in place."""

Effect = Callable[["Batch", Entry, Any], Outcome]
"""What a command does: called with a batch, the entry, and the command.

The command is given besides its entry because another command of the entry may carry it.
"""

Effects = Mapping[type, Effect]
"""By type of command: its effect."""


class Savepoint(msgspec.Struct, frozen=True, eq=False):
    """A point in a batch to which it can be rolled back. Made by `Batch.savepoint`.

    Attributes:
        depth: How many savepoints were open when it was made.
        undone_to: The length that `Batch.undo` had.
        calls: The number of calls that would undo what was changed in place.
        ranges: The number of deleted ranges.
        changes: The number of changes.
        wakes: The number of wakes.
        gap, new_keys, values: As in `Batch`.
    """

    depth: int
    undone_to: int
    calls: int
    ranges: int
    changes: int
    wakes: int
    gap: int
    new_keys: int
    values: Values


ABSENT: Any = object()
"""Stands in `undo` for a record that the batch had not touched."""


class Batch:
    """The effects of the entries so far, in front of the store.

    Attributes:
        changed: By key of a record: its new value; None: it was deleted. To be written by `put` and
            `delete`, or directly while `undo` is None.
        undo: While a savepoint is open: (key, value in `changed` before) for each write; else None.
        values: What the tables hold in memory, as the entries so far have left it.
        changes: What watches are going to read, in the order of the log.
        wakes: What else waits and listeners are told, in the order of the log.
        gap: The length of `changes` up to the last `Tree`; 0: there is none.
        new_keys: Users' keys that were made, less those that were deleted; without those that a `Tree`
            stands for, which nobody has counted.
        locks_deleted: Whether a key that is made may have had a lock before (`deletions.py`).
    """

    __slots__ = (
        "_calls", "_effects", "_listed", "_listed_bytes", "_on_checkpoint", "_ranges", "_savepoints", "_store", "_store_get",
        "changed", "changes", "gap", "locks_deleted", "new_keys", "undo", "values", "wakes",
    )  # fmt: skip

    def __init__(
        self,
        store: StateStore,
        values: Values,
        effects: Effects,
        on_checkpoint: Callable[[int, StateReader], None] | None = None,
    ) -> None:
        self._store = store
        self._store_get = store.get
        self._effects = effects
        self._on_checkpoint = on_checkpoint
        # Deleted before any of the records in `changed` was put.
        self._ranges: list[tuple[bytes, bytes]] = []
        self._savepoints: list[Savepoint] = []
        self._calls: list[Callable[[], object]] = []
        self._listed = self._listed_bytes = 0
        self.changed: dict[bytes, bytes | None] = {}
        self.undo: list[tuple[bytes, bytes | None]] | None = None
        self.values = values
        self.changes: list[Change] = []
        self.wakes: list[Wake] = []
        self.gap = self.new_keys = 0
        self.locks_deleted = False

    def carry_out(self, entry: Entry, command: Command) -> Outcome:
        """Let a command of `entry` take effect; also one that another command carries."""
        return self._effects[type(command)](self, entry, command)

    # --- records ------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Return the record under `key` as the entries so far have left it, or None."""
        changed = self.changed
        return changed[key] if key in changed else self.stored(key)

    def stored(self, key: bytes) -> bytes | None:
        """Return the record in the store, unless a range that this batch deletes covers it."""
        return None if self._ranges and self._is_in_range(key) else self._store_get(key)

    def _is_in_range(self, key: bytes) -> bool:
        return any(start <= key < end for start, end in self._ranges)

    def put(self, key: bytes, value: bytes) -> None:
        """Store `value` under `key`."""
        if self.undo is not None:
            self.undo.append((key, self.changed.get(key, ABSENT)))
        self.changed[key] = value

    def delete(self, key: bytes) -> None:
        """Remove the record under `key`, if there is one."""
        if self.undo is not None:
            self.undo.append((key, self.changed.get(key, ABSENT)))
        self.changed[key] = None

    def delete_range(self, start: bytes, end: bytes) -> list[bytes] | None:
        """Delete all records from `start` up to, but without, `end`, in memory that is bounded.

        Few are deleted one by one; many as a range. Ranges are not always used because each read
        of RocksDB has to look through all that are still in its memory: after a thousand of them it
        takes 80 us instead of 1. The effect is the same, so nodes need not agree on the way.

        Returns:
            The keys that were there, sorted; None: there were some, too many to be listed. Which of
            these it is may differ from node to node; whether there were any does not.
        """
        inside = [key for key in self.changed if start <= key < end]
        stored, is_all = self._scan(start, end)
        gone = self._present(inside, stored) if is_all else None
        if gone is None and not self._has_any(inside, start, end):
            gone = []
        if len(stored) > _FEW_RECORDS:
            self._delete_as_range(start, end, inside)
        else:
            for key in (*inside, *stored):
                self.delete(key)
        return gone

    def delete_listed(self, start: bytes, end: bytes, keys: Collection[bytes]) -> None:
        """Delete all records in a range, which the caller has just scanned.

        Args:
            start, end: As of `delete_range`.
            keys: All that are there.
        """
        if len(keys) <= _FEW_RECORDS:
            for key in keys:
                self.delete(key)
        else:
            self._delete_as_range(start, end, [key for key in self.changed if start <= key < end])

    def _delete_as_range(self, start: bytes, end: bytes, inside: Collection[bytes]) -> None:
        """Delete a range in one record; `inside`: its keys that the batch has changed."""
        for key in inside:
            if self.undo is not None:
                self.undo.append((key, self.changed[key]))
            del self.changed[key]
        self._ranges.append((start, end))

    def _scan(self, start: bytes, end: bytes) -> tuple[list[bytes], bool]:
        """Return the keys that the store has there, up to the bounds, and whether that is all."""
        stored: list[bytes] = []
        size, is_all = 0, True
        most, bytes_most = _LISTED_RECORDS - self._listed, _LISTED_BYTES - self._listed_bytes
        view = self._store.view()
        try:
            for key, record in view.scan(start, end):
                stored.append(key)
                size += len(key) + len(record)
                too_many = len(stored) > most or size > bytes_most
                if too_many and len(stored) > _FEW_RECORDS:
                    is_all = False
                    break
        finally:
            view.close()
        self._listed += len(stored)
        self._listed_bytes += size
        return stored, is_all

    def _present(self, inside: list[bytes], stored: list[bytes]) -> list[bytes]:
        """Return which of these keys have a record now, sorted."""
        changed = self.changed
        present = {key for key in inside if changed[key] is not None}
        present.update(key for key in stored if key not in changed and not self._is_in_range(key))
        return sorted(present)

    def _has_any(self, inside: list[bytes], start: bytes, end: bytes) -> bool:
        """Return whether any record is there now, reading as few as possible."""
        changed = self.changed
        if any(changed[key] is not None for key in inside):
            return True
        view = self._store.view()
        try:
            while True:
                for key, _ in view.scan(start, end):
                    over = [stop for begin, stop in self._ranges if begin <= key < stop]
                    if over:
                        start = max(over)
                        break
                    if key not in changed:
                        return True
                else:
                    return False
        finally:
            view.close()

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the records there as the entries so far have left them, in order.

        The batch is not changed before the end. It looks at all that the batch has changed, so it
        is for what is seldom done.
        """
        changed = self.changed
        inside = sorted(key for key in changed if start <= key < end)
        with closing(self._store.view()) as view:
            if not inside and not self._ranges:
                yield from view.scan(start, end)
                return
            stored = (
                pair
                for pair in view.scan(start, end)
                if pair[0] not in changed and not (self._ranges and self._is_in_range(pair[0]))
            )
            for key, value in heapq.merge(stored, ((key, changed[key]) for key in inside)):
                if value is not None:
                    yield key, value

    # --- what else a command changes -------------------------------------------------------------

    def value(self, of: InMemory[V]) -> V:
        """Return what a table holds in memory."""
        value: V = self.values[of]
        return value

    def set_value(self, of: InMemory[V], value: V) -> None:
        """Replace what a table holds in memory; the caller puts the record that belongs to it."""
        self.values = {**self.values, of: value}

    def skip_changes(self, change: Tree) -> None:
        """Append a change that stands for many.

        Watches cannot go on over such a gap: the changes before it are of no use to them.
        """
        self.changes.append(change)
        self.gap = len(self.changes)

    def undo_by(self, call: Callable[[], object]) -> None:
        """Have `call` called, should what was just changed in place be rolled back.

        The calls come in the opposite order of the changes.
        """
        if self.undo is not None:
            self._calls.append(call)

    # --- savepoints ---------------------------------------------------------------------------

    def savepoint(self) -> Savepoint:
        """Open a savepoint, which `rollback` or `release` ends. They may be nested."""
        if self.undo is None:
            self.undo = []
        opened = Savepoint(
            len(self._savepoints),
            len(self.undo),
            len(self._calls),
            len(self._ranges),
            len(self.changes),
            len(self.wakes),
            self.gap,
            self.new_keys,
            self.values,
        )
        self._savepoints.append(opened)
        return opened

    def rollback(self, savepoint: Savepoint) -> None:
        """Undo all that was done since `savepoint`, and end it and those opened after it.

        Raises:
            CoreBug: It has ended already.
        """
        undo = self._undo_of(savepoint)
        changed = self.changed
        # Latest first: what a record was before the first write to it is what remains.
        for key, before in reversed(undo[savepoint.undone_to :]):
            if before is ABSENT:
                del changed[key]
            else:
                changed[key] = before
        del undo[savepoint.undone_to :]
        for call in reversed(self._calls[savepoint.calls :]):
            call()
        del self._calls[savepoint.calls :]
        del self._ranges[savepoint.ranges :]
        del self.changes[savepoint.changes :]
        del self.wakes[savepoint.wakes :]
        self.gap, self.new_keys = savepoint.gap, savepoint.new_keys
        self.values = savepoint.values
        self._end(savepoint)

    def release(self, savepoint: Savepoint) -> None:
        """Keep all that was done since `savepoint`, and end it and those opened after it.

        Raises:
            CoreBug: It has ended already.
        """
        self._undo_of(savepoint)
        self._end(savepoint)

    def _undo_of(self, savepoint: Savepoint) -> list[tuple[bytes, bytes | None]]:
        opened = self._savepoints[savepoint.depth : savepoint.depth + 1]
        if self.undo is None or opened != [savepoint]:
            raise CoreBug("a savepoint was used after its end")
        return self.undo

    def _end(self, savepoint: Savepoint) -> None:
        del self._savepoints[savepoint.depth :]
        if not self._savepoints:
            self.undo = None
            self._calls.clear()

    # --- writing ------------------------------------------------------------------------------

    def checkpoint(self, entry: Entry) -> None:
        """Write what there is, and hand out a view of the state as `entry` leaves it.

        Does nothing where nobody wants the view. Later entries do not change it.
        """
        if self._on_checkpoint is None:
            return
        self.commit(entry)
        self.changed, self._ranges = {}, []
        self._on_checkpoint(entry.index, self._store.view(bulk=True))

    def commit(self, last: Entry) -> None:
        """Write all records, and that `last` is applied, as one atomic batch (rule D5).

        Raises:
            CoreBug: A savepoint is open: what is written cannot be undone.
        """
        if self._savepoints:
            raise CoreBug("a batch was written with a savepoint open")
        puts = [(key, value) for key, value in self.changed.items() if value is not None]
        puts.append((APPLIED_KEY, pack_applied(last.index, last.term)))
        deletes = [key for key, value in self.changed.items() if value is None]
        self._store.write(puts, deletes, self._ranges)
