"""How much of RocksDB's MANIFEST was durable, so that one which lost its end is not believed.

Owns what is remembered of that file, and the comparison. Where it is remembered is `witness.py`'s.

The MANIFEST names the tables that the database consists of; RocksDB appends to it, and syncs it each
time. RocksDB takes a MANIFEST that ends early for one that a crash has torn, also with
`paranoid_checks`: it opens, leaves out the tables that only the lost end named, and deletes their
files. A log is compared with the witness, but keys that were only in such a table would be gone
without a word. A changed byte it finds by itself.

Nor does RocksDB miss a whole write-ahead log, or one that is empty, while a later one is there. It needs
more than one where a family has a memtable that is older than the last log. Which ones it needs changes
with the MANIFEST only, so while that is as it was, they have to be there.
"""

from __future__ import annotations

import os
import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from ..errors import StorageError
from .recovery import RESET

_NAME = re.compile(rb"MANIFEST-(\d{1,18})\n")
_CRC = struct.Struct(">I")
_LOGS_MAX = 12
_SETTLED_S = 1.0
_BODY = struct.Struct(f">{3 + _LOGS_MAX}Q")

RECORD_BYTES = _CRC.size + _BODY.size


@dataclass(frozen=True, slots=True)
class Manifest:
    """The beginning of a MANIFEST.

    Attributes:
        number: In its name.
        size: Of the part that was durable, in bytes.
        crc: CRC-32 of that part.
        logs: The numbers of the write-ahead logs that were needed with it, but the newest.
    """

    number: int
    size: int
    crc: int
    logs: tuple[int, ...] = ()


def encode(manifest: Manifest) -> bytes:
    """Return the record that is remembered."""
    logs = (*manifest.logs, *(0,) * _LOGS_MAX)[:_LOGS_MAX]
    body = _BODY.pack(manifest.number, manifest.size, manifest.crc, *logs)
    return _CRC.pack(crc32(body)) + body


def decode(record: bytes) -> Manifest | None:
    """Return what a record says; None where there is none, or a torn one."""
    body = record[_CRC.size :]
    if len(record) < RECORD_BYTES or _CRC.unpack_from(record)[0] != crc32(body):
        return None
    number, size, crc, *logs = _BODY.unpack(body)
    return Manifest(number, size, crc, tuple(filter(None, logs)))


def measure(directory: Path, before: Manifest | None) -> Manifest | None:
    """Make the MANIFEST in force durable, and return what it is now. Blocks.

    Args:
        directory: The database's.
        before: What it was; only what came since is read.

    Returns:
        None: CURRENT names none, so there is nothing to remember.

    Raises:
        OSError: The disk refuses.
    """
    number = _in_force(directory)
    if number is None:
        return None
    if before is None or before.number != number:
        before = Manifest(number, 0, 0)
    with _path(directory, number).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= before.size:
            return before
        os.fdatasync(file.fileno())
        file.seek(before.size)
        return Manifest(number, size, crc32(file.read(size - before.size), before.crc))


def is_settled(directory: Path, manifest: Manifest) -> bool:
    """Return whether the MANIFEST is as it was for a second: RocksDB has long acted on it.

    Raises:
        OSError: The disk refuses.
    """
    return time.time() - _path(directory, manifest.number).stat().st_mtime >= _SETTLED_S


def needed_logs(directory: Path, oldest: int) -> tuple[int, ...]:
    """Return the numbers of the write-ahead logs from `oldest` on, in order, without the newest."""
    numbers = sorted(int(log.stem) for log in directory.glob("*.log") if log.stem.isdecimal())
    return tuple(number for number in numbers[:-1] if number >= oldest)[:_LOGS_MAX]


def check(directory: Path, known: Manifest) -> None:
    """Compare the MANIFEST with what was durable of it, before RocksDB opens it.

    One of another number is newer: RocksDB begins one at each start.

    Raises:
        StorageError: Something of it is missing, or is not what it was.
    """
    try:
        if _in_force(directory) != known.number:
            return
        path = _path(directory, known.number)
        content = path.read_bytes()
    except OSError:
        return  # RocksDB says more of it.
    if len(content) < known.size:
        raise _damaged(
            directory,
            path,
            f"its list of tables has lost its end: {known.size} bytes of it were durable, and "
            f"{len(content)} are there. RocksDB would leave out what it does not name",
        )
    if crc32(content[: known.size]) != known.crc:
        raise _damaged(directory, path, "its list of tables is not what was written")
    if len(content) > known.size:
        return  # Since then RocksDB may have written memtables, and deleted logs.
    for number in known.logs:
        log = directory / f"{number:06}.log"
        if not log.exists() or log.stat().st_size == 0:
            problem = f"its write-ahead log is {'empty' if log.exists() else 'gone'}"
            raise _damaged(directory, log, f"{problem}. RocksDB would open it without that")


def _damaged(directory: Path, file: Path, problem: str) -> StorageError:
    return StorageError(
        f"the database in {directory} cannot be opened: {problem}; the damaged file is {file}.\n{RESET}"
    )


def _in_force(directory: Path) -> int | None:
    try:
        found = _NAME.fullmatch((directory / "CURRENT").read_bytes())
    except FileNotFoundError:
        return None
    return int(found[1]) if found else None


def _path(directory: Path, number: int) -> Path:
    return directory / f"MANIFEST-{number:06}"
