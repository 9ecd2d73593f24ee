"""Figures of RocksDB for people: sizes, load, and how its block cache does."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rocksdict import Options, Rdict

from .interface import CacheLooks, DiskFigures
from .reclaim import memtable_bytes

_LOOKS = re.compile(r"^rocksdb\.block\.cache\.(hit|miss) COUNT : (\d+)$", re.MULTILINE)


def disk_figures(databases: Sequence[Rdict], directory: Path, stall_s: float) -> DiskFigures:
    """Return what RocksDB has on the disk.

    Args:
        databases: All families.
        directory: Where its files are.
        stall_s: How long writes have waited.

    Raises:
        Exception: Of rocksdict, when RocksDB refuses.
    """
    tables = _sum(databases, "rocksdb.total-sst-files-size")
    return DiskFigures(
        used_bytes=tables + _log_bytes(directory),
        sst_bytes=tables,
        memtable_bytes=memtable_bytes(databases),
        pending_compaction_bytes=_sum(databases, "rocksdb.estimate-pending-compaction-bytes"),
        stall_s=stall_s,
    )


def cache_looks(options: Options) -> CacheLooks:
    """Return how often blocks were found in the cache; from a text, which takes half a millisecond.

    Args:
        options: Those that the database was opened with, statistics enabled.
    """
    counts = {kind: int(count) for kind, count in _LOOKS.findall(options.get_statistics() or "")}
    return CacheLooks(counts.get("hit", 0), counts.get("miss", 0))


def _sum(databases: Sequence[Rdict], name: str) -> int:
    return sum(database.property_int_value(name) or 0 for database in databases)


def _log_bytes(directory: Path) -> int:
    """Return the bytes of the write-ahead logs, which RocksDB has no figure for."""
    total = 0
    with suppress(OSError), os.scandir(directory) as files:
        for file in files:
            if file.name.endswith(".log"):
                with suppress(OSError):  # It is deleted just now.
                    total += file.stat().st_size
    return total
