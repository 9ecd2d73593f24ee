"""The thread that gives the room of RocksDB's deleted files back to the disk, piece by piece.

Deleting a file takes as long as its file system needs to free it, and meanwhile no flush on that
disk ends: 25 ms for a log file of 30 MiB where each piece is reported to the disk (ext4 mounted
with `discard`). So logs and tables are held open here. What RocksDB then deletes still has its
room, and is shortened by a MiB at a time, with pauses in which the flushes go on. Whoever else has
such a file open sees it shrink.

A file that is not held is freed when RocksDB deletes it, as all were without this; so an error in
here costs time at most, and is told nobody.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_LOG = ".log"
_KINDS = (_LOG, ".sst")

_FILES_MAX = 64
"""Held, and as many deleted: the newest, which are mostly those that are deleted next."""

_ROOM_BYTES = 1 << 30
"""With less than this free, room counts for more than time: nothing is held."""

_PIECE_BYTES = 1 << 20
_PAUSE_S = 0.02
_PIECES_OF_ALL = 64
"""A piece is at least one in so many of all bytes that wait: the more wait, the larger it is."""

_BETWEEN_LOOKS_S = 0.5
_PIECES_BETWEEN_LOOKS = 25
_AT_REST_S = 5.0
"""How often to look while nothing is written: a compaction may delete long after the last write."""


class DeletedFiles:
    """Watches over the files of one database.

    Args:
        directory: Where RocksDB has its files.

    The thread begins with the first `look_soon` and ends with `close`; `look` and `give_back` are
    what it does in turns.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}
        self._gone: deque[tuple[int, int]] = deque()  # Files, and what each still has of bytes.
        self._written = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None  # noqa: TID251 - a life of its own, see above

    def look_soon(self) -> None:
        """Say that something was written. From one thread, and cheap enough for every flush."""
        if self._thread is None:
            thread = threading.Thread(  # noqa: TID251 - see above
                target=self._loop, name="deleted-files", daemon=True
            )
            with suppress(RuntimeError):  # No thread can be had now.
                thread.start()
                self._thread = thread
        if not self._written.is_set():
            self._written.set()

    def close(self) -> None:
        """End the thread, and free at once what still waits. Idempotent. Blocks for that."""
        self._ended.set()
        self._written.set()
        if self._thread is not None:
            self._thread.join()
        self._let_go()

    def look(self) -> None:
        """Hold the files that are new, and find those that were deleted since the last look.

        Raises:
            OSError: The directory cannot be listed.
        """
        system = os.statvfs(self._directory)
        if system.f_bavail * system.f_frsize < _ROOM_BYTES:
            self._let_go()
            return
        names = [name for name in os.listdir(self._directory) if name.endswith(_KINDS)]  # noqa: PTH208
        if _newest_log(names) < _newest_log(self._held):
            # Somebody else deletes: to RocksDB, all of it is there until it closes.
            self._let_go()
            self._ended.set()
            return
        newest = sorted(names, key=_age)[-_FILES_MAX:]
        for name in [name for name in self._held if name not in newest]:
            file = self._held.pop(name)
            found = None
            with suppress(OSError):  # Some file systems know nothing of a file without a name.
                found = os.fstat(file)
            # One that has another name is needed; NFS gives one to what is deleted while open.
            if found is not None and found.st_nlink == 0 and len(self._gone) < _FILES_MAX:
                self._gone.append((file, found.st_size))
            else:
                _close(file)
        for name in newest:
            if name not in self._held:
                with suppress(OSError):  # Deleted just now, or too many are open.
                    self._held[name] = os.open(self._directory / name, os.O_WRONLY | os.O_CLOEXEC)

    def give_back(self) -> bool:
        """Free one piece of what was deleted; return False if there is nothing."""
        if not self._gone:
            return False
        file, size = self._gone.popleft()
        rest = sum(size for _, size in self._gone)
        left = size - max(_PIECE_BYTES, (size + rest) // _PIECES_OF_ALL)
        if left > 0:
            with suppress(OSError):
                os.ftruncate(file, left)
                self._gone.appendleft((file, left))
                return True
        _close(file)
        return True

    def _let_go(self) -> None:
        """Give all up, as it is."""
        for file in (*self._held.values(), *(file for file, _ in self._gone)):
            _close(file)
        self._held.clear()
        self._gone.clear()

    def _loop(self) -> None:
        while not self._ended.is_set():
            if not self._gone:
                self._written.wait(_AT_REST_S)
                self._written.clear()
                self._ended.wait(_BETWEEN_LOOKS_S)  # After the flush, which is not done yet.
            with suppress(OSError):
                self.look()
            for _ in range(_PIECES_BETWEEN_LOOKS):
                if not self.give_back() or self._ended.wait(_PAUSE_S):
                    break


def _age(name: str) -> tuple[int, str]:
    """Return what orders names by when they were made: they are numbered, with six digits or more."""
    return len(name), name


def _newest_log(names: Iterable[str]) -> tuple[int, str]:
    return max((_age(name) for name in names if name.endswith(_LOG)), default=(0, ""))


def _close(file: int) -> None:
    with suppress(OSError):
        os.close(file)
