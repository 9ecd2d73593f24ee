"""The state's part of `RocksStorage`: the family in force, and one that a snapshot is written to.

Owns how keys and values become batches of a family. Which family is in force, and when that
changes, is decided in `rocks.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rocksdict import WriteBatch

from ..errors import StorageError
from .engine import Engine, Family
from .interface import StateReader
from .recovery import RESET

FIRST_GENERATION = 1

# Writing a batch holds the GIL, for about a millisecond per MiB.
_INSTALL_BATCH_BYTES = 1 << 20


def family_name(generation: int) -> str:
    """Return the name of the family that holds this generation of the state."""
    return f"state-{generation}"


def generation_of(name: str) -> int:
    """Return which generation of the state the family `name` holds."""
    return int(name.removeprefix("state-"))


def family_in_force(engine: Engine, generation: int) -> Family:
    """Return the state's family.

    Raises:
        StorageError: It is missing, because the record of its successor was lost.
    """
    name = family_name(generation)
    if name not in engine.families():
        raise StorageError(f"the state is missing: the database has no {name}. {RESET}")
    return engine.family(name)


class RocksState:
    """The state family in force, as a `StateStore`."""

    def __init__(self, engine: Engine, family: Family) -> None:
        self._engine = engine
        self.family = family

    def get(self, key: bytes) -> bytes | None:
        """Return the latest value of `key`, or None."""
        return self.family.get(key)

    def write(
        self,
        puts: Iterable[tuple[bytes, bytes]],
        deletes: Iterable[bytes] = (),
        delete_ranges: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Write all of it or nothing, unsynced; the ranges are deleted first."""
        # Lists, because `fill` is called again after a stall.
        puts, deletes, delete_ranges = list(puts), list(deletes), list(delete_ranges)
        handle = self.family.handle

        def fill(batch: WriteBatch) -> None:
            for start, end in delete_ranges:
                batch.delete_range(start, end, handle)
            for key in deletes:
                batch.delete(key, handle)
            for key, value in puts:
                batch.put(key, value, handle)

        self._engine.write(fill)

    def view(self, *, bulk: bool = False) -> StateReader:
        """Return a reader of the state as it is now, unaffected by later writes and installs."""
        return self.family.view(bulk=bulk)


class RocksInstall:
    """A state that is being received, in a family that no generation record names yet."""

    def __init__(self, engine: Engine, family: Family, generation: int) -> None:
        self._engine = engine
        self._family: Family | None = family
        self.generation = generation

    def write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Add keys and values to the new state, unsynced.

        A caller with much to write awaits a `flush` every few MiB: there a busy disk slows down the
        sender.

        Raises:
            StorageError: RocksDB refused, or this install was aborted.
        """
        family = self.family
        batch: list[tuple[bytes, bytes]] = []
        size = 0
        for pair in pairs:
            batch.append(pair)
            size += len(pair[0]) + len(pair[1])
            if size >= _INSTALL_BATCH_BYTES:
                self._write(family, batch)
                batch, size = [], 0
        if batch:
            self._write(family, batch)

    def abort(self) -> None:
        """Delete the new state. Idempotent; does nothing once the state is installed."""
        if self._family is not None:
            family, self._family = self._family, None
            self._engine.drop_family(family.name)

    @property
    def family(self) -> Family:
        """The family of the new state.

        Raises:
            StorageError: The install was aborted, or is complete.
        """
        if self._family is None:
            raise StorageError("the state to install was given up, or is installed")
        return self._family

    def finish(self) -> None:
        """Mark the state as installed: from here on `abort` does nothing."""
        self._family = None

    def _write(self, family: Family, pairs: list[tuple[bytes, bytes]]) -> None:
        handle = family.handle

        def fill(batch: WriteBatch) -> None:
            for key, value in pairs:
                batch.put(key, value, handle)

        self._engine.write(fill)
