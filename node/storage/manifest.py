"""How much of RocksDB's MANIFEST was durable, so that one which lost its end is not believed.

Owns what is remembered of that file, and the comparison. Where it is remembered is `witness.py`'s.

The MANIFEST names the tables that the database consists of; RocksDB appends to it, and syncs it each
time. RocksDB takes a MANIFEST that ends early for one that a crash has torn, also with
`paranoid_checks`: it opens, leaves out the tables that only the lost end named, and deletes their
files. A log is compared with the witness, but keys that were only in such a table would be gone
without a word. A changed byte it finds by itself.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from ..errors import StorageError
from .recovery import RESET

_NAME = re.compile(rb"MANIFEST-(\d{1,18})\n")
_CRC = struct.Struct(">I")
_BODY = struct.Struct(">3Q")

RECORD_BYTES = _CRC.size + _BODY.size


@dataclass(frozen=True, slots=True)
class Manifest:
    """The beginning of a MANIFEST.

    Attributes:
        number: In its name.
        size: Of the part that was durable, in bytes.
        crc: CRC-32 of that part.
    """

    number: int
    size: int
    crc: int


def encode(manifest: Manifest) -> bytes:
    """Return the record that is remembered."""
    body = _BODY.pack(manifest.number, manifest.size, manifest.crc)
    return _CRC.pack(crc32(body)) + body


def decode(record: bytes) -> Manifest | None:
    """Return what a record says; None where there is none, or a torn one."""
    body = record[_CRC.size :]
    if len(record) < RECORD_BYTES or _CRC.unpack_from(record)[0] != crc32(body):
        return None
    return Manifest(*_BODY.unpack(body))


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
        with path.open("rb") as file:
            found = file.read(known.size)
    except OSError:
        return  # RocksDB says more of it.
    if len(found) < known.size:
        problem = (
            f"has lost its end: {known.size} bytes of it were durable, and {len(found)} are there"
        )
    elif crc32(found) != known.crc:
        problem = "is not what was written"
    else:
        return
    raise StorageError(
        f"the database in {directory} cannot be opened: its list of tables {problem}, and RocksDB"
        f" would leave out what it does not name; the damaged file is {path}.\n{RESET}"
    )


def _in_force(directory: Path) -> int | None:
    try:
        found = _NAME.fullmatch((directory / "CURRENT").read_bytes())
    except FileNotFoundError:
        return None
    return int(found[1]) if found else None


def _path(directory: Path, number: int) -> Path:
    return directory / f"MANIFEST-{number:06}"
