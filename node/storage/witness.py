"""The file that records how much was durable, beside the database and not in it.

Owns the bytes and the two slots of the file; what a witness is for is told in `recovery.py`.

    0, 512        slots; the one with the higher number is in force
    1024          what was durable of RocksDB's MANIFEST (`manifest.py`)

    a slot        CRC32 (>I) | its number, batch, index, term, vote (>Q each)

Rule 1: a witness is written only after the flush that it records, so it never claims too much.
Rule 2: each goes to the slot that is not in force, so a torn one leaves the one before intact.
Rule 3: it is not synced with each flush. After a power cut it may lack what the operating system
had not written back, at most about the last second (`sync_if_due`), and a loss of no more than that
is not noticed. To sync it with each flush would make every write wait for the disk twice.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

from ..errors import StorageError
from . import manifest
from .recovery import Witness

FILE = "witness"

_SLOT_BYTES = 512
_MANIFEST_AT = 2 * _SLOT_BYTES
_FILE_BYTES = _MANIFEST_AT + manifest.RECORD_BYTES
_BODY = struct.Struct(">5Q")
_CRC = struct.Struct(">I")
_SYNC_S = 1.0


class WitnessFile:
    """An open witness file, made if there is none.

    Args:
        directory: The database's directory.
        read_only: Neither make nor change it.

    Attributes:
        found: What it recorded when it was opened; None: nothing that can be trusted.
        oldest_log: Returns the number of the oldest write-ahead log that the database needs; called
            in the thread that syncs. None: the database is not open.

    Raises:
        StorageError: The disk refuses, or the MANIFEST is not what it was.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        self._directory = directory
        self._read_only = read_only
        self.oldest_log: Callable[[], int] | None = None
        self._path = directory / FILE
        self._dirty = False
        self._synced_at = time.monotonic()
        self._fd = -1
        flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT
        try:
            content = b""
            if not read_only or self._path.exists():
                self._fd = os.open(self._path, flags | os.O_CLOEXEC, 0o600)
                content = os.pread(self._fd, _FILE_BYTES, 0)
            if len(content) < _FILE_BYTES and not read_only:
                # Allocate all of it now: on a full disk a flush must still be able to record its
                # end.
                os.pwrite(self._fd, bytes(_FILE_BYTES - len(content)), len(content))
        except OSError as error:
            self.close()
            raise StorageError(f"{self._path} cannot be used: {error}") from error
        slots = (_decode(content[at : at + _SLOT_BYTES]) for at in (0, _SLOT_BYTES))
        self._number = 0
        self.found: Witness | None = None
        for slot in slots:
            if slot is not None and slot[0] > self._number:
                self._number, self.found = slot
        self._manifest: manifest.Manifest | None = None
        durable = manifest.decode(content[_MANIFEST_AT:])
        if durable is not None:
            try:
                manifest.check(directory, durable)
            except BaseException:
                self.close()
                raise

    def write(self, witness: Witness) -> None:
        """Record what a finished flush made durable. Takes some microseconds; unsynced.

        Raises:
            StorageError: The disk refuses.
        """
        self._number += 1
        body = _BODY.pack(
            self._number,
            witness.batch,
            witness.index,
            witness.hard_term,
            witness.vote,
        )
        record = _CRC.pack(crc32(body)) + body
        try:
            written = os.pwrite(self._fd, record, self._number % 2 * _SLOT_BYTES)
        except OSError as error:
            raise StorageError(f"writing {self._path} failed: {error}") from error
        if written != len(record):
            raise StorageError(f"writing {self._path} failed: {written} bytes of {len(record)}")
        self._dirty = True

    def sync_if_due(self) -> None:
        """Do as `sync`, at most once a second. Blocks: for the flusher's thread.

        Raises:
            OSError: The disk refuses.
        """
        # The first flush after a start covers what RocksDB did to open.
        if self._manifest is None or time.monotonic() - self._synced_at >= _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Make the last record durable, and with it how much of the MANIFEST is. Blocks.

        Raises:
            OSError: The disk refuses.
        """
        if self._fd < 0 or self._read_only:
            return
        self._synced_at = time.monotonic()
        now = manifest.measure(self._directory, self._manifest)
        # Not of a newer MANIFEST: RocksDB may be about to delete the logs that it does not need.
        if now is not None and self.oldest_log and manifest.is_settled(self._directory, now):
            now = replace(now, logs=manifest.needed_logs(self._directory, self.oldest_log()))
        if now is not None and now != self._manifest:
            os.pwrite(self._fd, manifest.encode(now), _MANIFEST_AT)
            self._manifest, self._dirty = now, True
        if self._dirty:
            self._dirty = False
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _decode(slot: bytes) -> tuple[int, Witness] | None:
    body = slot[_CRC.size : _CRC.size + _BODY.size]
    if len(body) < _BODY.size or _CRC.unpack_from(slot)[0] != crc32(body):
        return None
    number, *said = _BODY.unpack(body)
    return number, Witness(*said)
