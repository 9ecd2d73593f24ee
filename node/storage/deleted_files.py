"""The thread that frees the disk space of files that RocksDB deleted, in small pieces.

Deleting a file takes as long as its file system needs to free it, and meanwhile no flush on that
disk ends: 25 ms for a log file of 30 MiB where freed space is reported to the disk (ext4 mounted
with `discard`). So this thread holds log files and tables open. A file that RocksDB deletes then
keeps its space, and the thread shortens it by a MiB at a time, with pauses in which flushes go on.
Another process that has such a file open sees it shrink.

A file that is not held is freed when RocksDB deletes it, as without this thread. So an error here
only costs time, and is not reported.

Why not RocksDB's own rate limit for deletions (its SstFileManager): rocksdict does not offer it.
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

# Files held open, and as many deleted ones: the newest, most of which are deleted next.
_FILES_MAX = 64

# With less free space than this, space matters more than time: no file is held.
_ROOM_BYTES = 1 << 30

_PIECE_BYTES = 1 << 20
_PAUSE_S = 0.02
# A piece is at least this share (1/64) of all bytes to be freed: the more of them, the larger it
# is.
_PIECES_OF_ALL = 64

_BETWEEN_LOOKS_S = 0.5
_PIECES_BETWEEN_LOOKS = 25
# How often to look while nothing is written: a compaction may delete files long after the last
# write.
_AT_REST_S = 5.0


class DeletedFiles:
    """Holds the files of one database, and frees the deleted ones.

    Args:
        directory: Where RocksDB has its files.

    The thread starts with the first `look_soon` and ends with `close`; it calls `look` and
    `give_back` in turns.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}
        self._deleted: deque[tuple[int, int]] = deque()  # Deleted files: descriptor, bytes left.
        self._written = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None  # noqa: TID251 - a life of its own, see above

    def look_soon(self) -> None:
        """Note that something was written. Called from one thread; cheap enough for every flush."""
        if self._thread is None:
            thread = threading.Thread(  # noqa: TID251 - see above
                target=self._loop, name="deleted-files", daemon=True
            )
            with suppress(RuntimeError):  # No thread to be had now; try again at the next flush.
                thread.start()
                self._thread = thread
        if not self._written.is_set():
            self._written.set()

    def close(self) -> None:
        """End the thread, and free at once what is left. Idempotent. Blocks for that."""
        self._ended.set()
        self._written.set()
        if self._thread is not None:
            self._thread.join()
        self._release_all()

    def look(self) -> None:
        """Open the files that are new, and find those deleted since the last call.

        Raises:
            OSError: The directory cannot be listed.
        """
        system = os.statvfs(self._directory)
        if system.f_bavail * system.f_frsize < _ROOM_BYTES:
            self._release_all()
            return
        names = [name for name in os.listdir(self._directory) if name.endswith(_KINDS)]  # noqa: PTH208
        if _newest_log(names) < _newest_log(self._held):
            # Another process deletes files that RocksDB still has open: it will use them until it
            # is closed, so they must not be shortened.
            self._release_all()
            self._ended.set()
            return
        newest = sorted(names, key=_age)[-_FILES_MAX:]
        for name in [name for name in self._held if name not in newest]:
            file = self._held.pop(name)
            found = None
            with suppress(OSError):  # Some file systems cannot stat a file without a name.
                found = os.fstat(file)
            # A file with another name is still in use. NFS gives one to a file that is deleted
            # while open.
            if found is not None and found.st_nlink == 0 and len(self._deleted) < _FILES_MAX:
                self._deleted.append((file, found.st_size))
            else:
                _close(file)
        for name in newest:
            if name not in self._held:
                with suppress(OSError):  # Just deleted, or too many files are open.
                    self._held[name] = os.open(self._directory / name, os.O_WRONLY | os.O_CLOEXEC)

    def give_back(self) -> bool:
        """Free one piece of the deleted files; return False if there is nothing to free."""
        if not self._deleted:
            return False
        file, size = self._deleted.popleft()
        rest = sum(size for _, size in self._deleted)
        left = size - max(_PIECE_BYTES, (size + rest) // _PIECES_OF_ALL)
        if left > 0:
            with suppress(OSError):
                os.ftruncate(file, left)
                self._deleted.appendleft((file, left))
                return True
        _close(file)
        return True

    def _release_all(self) -> None:
        """Close all files as they are."""
        for file in (*self._held.values(), *(file for file, _ in self._deleted)):
            _close(file)
        self._held.clear()
        self._deleted.clear()

    def _loop(self) -> None:
        while not self._ended.is_set():
            if not self._deleted:
                self._written.wait(_AT_REST_S)
                self._written.clear()
                self._ended.wait(
                    _BETWEEN_LOOKS_S
                )  # The flush that woke this thread is not reported yet.
            with suppress(OSError):
                self.look()
            for _ in range(_PIECES_BETWEEN_LOOKS):
                if not self.give_back() or self._ended.wait(_PAUSE_S):
                    break


def _age(name: str) -> tuple[int, str]:
    """Return a sort key for the age of a file: names are rising numbers of six digits or more."""
    return len(name), name


def _newest_log(names: Iterable[str]) -> tuple[int, str]:
    return max((_age(name) for name in names if name.endswith(_LOG)), default=(0, ""))


def _close(file: int) -> None:
    with suppress(OSError):
        os.close(file)
