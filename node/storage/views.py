"""Reading a family of the database as of one moment, and reading a damaged one as far as it goes.

Owns the iterators. Who has opened the database, and closes all views before it, is `engine.py`.

Traps of rocksdict 0.3.29 in its iterators, and how this module avoids each:

- `items()` ends without an error at a damaged block, so half an answer looks whole. `iter()` is
  used instead, and asked for its status at the end.
- An iterator does not keep its family's handle alive, and crashes the process without it: a `View`
  holds both.
- An iterator of a `snapshot()` reads the present, not the snapshot. An iterator of the family reads
  the moment at which it was made: that is what a `View` holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from rocksdict import Rdict, RdictIter

from ..errors import StorageError
from .interface import StateReader
from .options import read_options


class Guard(Protocol):
    """What a view asks of the `Engine` that made it."""

    def check(self) -> None:
        """Raise `StorageError` if the database has failed or is closed."""
        ...

    def failed(self, doing: str, error: Exception) -> StorageError:
        """Remember a failure, so that every later call is refused, and return it to be raised."""
        ...


class View(StateReader):
    """A reader of one family as of one moment.

    It is one iterator, made at that moment. RocksDB promises that an iterator shows the family as
    of its moment for as long as it lives; the memtables of that moment stay in memory until then.
    """

    def __init__(self, rdict: Rdict, guard: Guard, *, bulk: bool) -> None:
        # Keeps the family open: reading its iterator after it is a segmentation fault.
        self._family: Rdict | None = rdict
        self._cursor: RdictIter | None = rdict.iter(read_options(bulk=bulk))
        self._guard = guard
        # All scans share the cursor; one that finds it moved by another reader seeks its place
        # again.
        self._positioned_by: _Scan | None = None

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        cursor = self.cursor_for(None)
        try:
            cursor.seek(key)
            if cursor.valid() and cursor.key() == key:
                found: bytes = cursor.value()
                return found
            cursor.status()
        except Exception as error:
            raise self._guard.failed("reading", error) from error
        return None

    def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys from `start` (inclusive) to `end` (exclusive; None: no end)."""
        self._guard.check()
        return _Scan(self, start, end, self._guard)

    def close(self) -> None:
        """Release the view and end all its scans. Idempotent."""
        self._cursor = self._positioned_by = None
        self._family = None  # Only after the cursor, see the traps above.

    def __del__(self) -> None:
        # A view that was not closed must not crash the process by the order of its destruction.
        self.close()

    def is_positioned_by(self, scan: _Scan) -> bool:
        """Return whether the cursor is where `scan` left it."""
        return self._positioned_by is scan

    def cursor_for(self, scan: _Scan | None) -> RdictIter:
        """Return the cursor, which `scan` (None: a `get`) is going to move."""
        self._guard.check()
        if self._cursor is None:
            raise StorageError("this view of the state is closed")
        self._positioned_by = scan
        return self._cursor


class _Scan(Iterator[tuple[bytes, bytes]]):
    """An iteration that raises if it cannot read on, instead of ending early."""

    def __init__(self, view: View, start: bytes, end: bytes | None, guard: Guard) -> None:
        self._view = view
        self._from = start
        self._end = end
        self._guard = guard
        self._ended = False

    def __next__(self) -> tuple[bytes, bytes]:
        if self._ended:
            raise StopIteration
        goes_on = self._view.is_positioned_by(self)
        cursor = self._view.cursor_for(self)
        try:
            if goes_on:
                cursor.next()
            else:
                cursor.seek(self._from)
            if cursor.valid():
                key: bytes = cursor.key()
                if self._end is None or key < self._end:
                    self._from = key + b"\0"
                    return key, cursor.value()
            else:
                cursor.status()
        except Exception as error:
            raise self._guard.failed("reading", error) from error
        self._ended = True
        raise StopIteration


def salvage(rdict: Rdict, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Iterate over a family as far as it can be read, damage included.

    At the first place that cannot be read it yields (some key, None), then the last pair before
    `end`, if that can be read, and stops.
    """
    cursor = rdict.iter(read_options(bulk=True))
    pair = _position(cursor, start, end)
    while pair is not None:
        yield pair
        if pair[1] is None:
            last = _last_before(cursor, end)
            if last is not None and last[0] >= start:
                yield last
            return
        pair = _position(cursor, None, end)


def _position(
    cursor: RdictIter, start: bytes | None, end: bytes
) -> tuple[bytes, bytes | None] | None:
    """Move to `start`, or on by one; None: there is no key before `end`."""
    try:
        cursor.next() if start is None else cursor.seek(start)
        if not cursor.valid():
            cursor.status()
            return None
        key: bytes = cursor.key()
        return (key, cursor.value()) if key < end else None
    except Exception:  # noqa: BLE001 - rocksdict raises nothing more specific
        return b"", None


def _last_before(cursor: RdictIter, end: bytes) -> tuple[bytes, bytes] | None:
    try:
        cursor.seek_for_prev(end)
        return (cursor.key(), cursor.value()) if cursor.valid() else None
    except Exception:  # noqa: BLE001 - the same
        return None
