"""Gives the room of deleted keys back to the file system, when a disk is short of room.

RocksDB deletes by writing more: a tombstone, in a memtable. The room comes back when memtables are
written to tables, which ends their log files, and when tables are rewritten without what the
tombstones cover. On its own RocksDB does either only when enough new data has come, and a node
whose disk is short takes no new data.

Both need room themselves, so neither is begun without that room. RocksDB itself would survive it: a
compaction that fails for lack of room is dropped, and its files are deleted. But until then every
write fails too, and the node stops.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from rocksdict import Rdict

from .options import BASE_LEVEL_BYTES, MEMTABLE_BYTES

# Beside the memtables: for the manifest and the new log file.
_FLUSH_MARGIN_BYTES = 2 << 20


def compaction_bytes(database: Rdict) -> int:
    """Return what the next compaction of a family may write before it deletes anything."""
    tables = database.property_int_value("rocksdb.live-sst-files-size") or 0
    level0 = int(database.property_value("rocksdb.num-files-at-level0") or 0)
    return min(tables, level0 * MEMTABLE_BYTES + BASE_LEVEL_BYTES)


class Reclaim:
    """Reclaims room in the calling thread.

    Args:
        path: The database's directory.

    Attributes:
        was_cut: Whether `end` has cut a run short. RocksDB then only finishes what was asked before.
    """

    def __init__(self, path: Path) -> None:
        self.was_cut = False
        self._path = path
        self._running = threading.Lock()
        self._is_over = False

    def run(self, databases: Sequence[Rdict]) -> None:
        """Write all memtables to tables, and rewrite what tombstones cover, family by family.

        Raises:
            Exception: Of rocksdict, when RocksDB refuses.
        """
        with self._running:
            try:
                self._run(databases)
            except Exception:
                if not self._is_over:  # Else RocksDB was told to end.
                    raise

    def end(self, database: Rdict, within_s: float) -> bool:
        """End a run that is under way, for good; return whether it has ended."""
        self._is_over = True
        if not self._running.acquire(blocking=False):
            self.was_cut = True
            database.cancel_all_background(False)
            if not self._running.acquire(timeout=within_s):
                return False
        self._running.release()  # A run that begins only now finds that it is over.
        return True

    def _run(self, databases: Iterable[Rdict]) -> None:
        databases = list(databases)
        if not self._is_over and self._free() >= memtable_bytes(databases) + _FLUSH_MARGIN_BYTES:
            for database in databases:
                database.flush(True)
        for database in databases:
            # It needs less than that: what is deleted is not written again.
            if not self._is_over and self._free() >= compaction_bytes(database):
                database.compact_range(None, None)

    def _free(self) -> int:
        system = os.statvfs(self._path)
        return system.f_bavail * system.f_frsize


def memtable_bytes(databases: Iterable[Rdict]) -> int:
    """Return what is in memtables, of all families together."""
    return sum(
        database.property_int_value("rocksdb.cur-size-all-mem-tables") or 0
        for database in databases
    )
