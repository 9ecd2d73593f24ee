"""The thread that gives the room of RocksDB's deleted files back to the disk, piece by piece.

Deleting a file takes as long as its file system needs to free it, and meanwhile no flush on that
disk ends: 25 ms for a log file of 30 MiB where each piece is reported to the disk (ext4 mounted
with `discard`). So logs and tables are held open here. What RocksDB then deletes still has its
room, and is shortened by a MiB at a time, with pauses in which the flushes go on.

A file that is not held, or whose file system does without such things, is freed when RocksDB
deletes it, as it would be without this; so no error in here matters to anybody.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

_KINDS = (".log", ".sst")

# The newest are those that are deleted next: logs, and tables that were not merged yet.
_HELD_MAX = 64

_PIECE_BYTES = 1 << 20
_PAUSE_S = 0.02
_PIECES_OF_ALL = 64
"""A piece is at least one in so many of all bytes that wait: the more wait, the larger it is."""

_BETWEEN_LOOKS_S = 0.25
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
        self._gone: deque[int] = deque()
        self._written = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None  # noqa: TID251 - a life of its own, see above

    def look_soon(self) -> None:
        """Say that something was written. From one thread, and cheap enough for every flush."""
        if self._thread is None:
            self._thread = threading.Thread(  # noqa: TID251 - see above
                target=self._loop, name="deleted-files", daemon=True
            )
            self._thread.start()
        if not self._written.is_set():
            self._written.set()

    def close(self) -> None:
        """End the thread, and free at once what still waits. Idempotent. Blocks for a piece."""
        self._ended.set()
        self._written.set()
        if self._thread is not None:
            self._thread.join()
        for file in (*self._held.values(), *self._gone):
            os.close(file)
        self._held.clear()
        self._gone.clear()

    def look(self) -> None:
        """Hold the files that are new, and find those that were deleted since the last look.

        Raises:
            OSError: The directory cannot be listed.
        """
        names = [path.name for path in self._directory.iterdir() if path.suffix in _KINDS]
        names.sort(key=lambda name: (len(name), name))  # They are numbered in the order of making.
        newest = names[-_HELD_MAX:]
        for name in [name for name in self._held if name not in newest]:
            file = self._held.pop(name)
            # Not what has another name, as a deleted file that is open has on NFS.
            if os.fstat(file).st_nlink == 0:
                self._gone.append(file)
            else:
                os.close(file)
        for name in newest:
            if name in self._held:
                continue
            with suppress(OSError):  # Deleted just now, or too many are open.
                self._held[name] = os.open(self._directory / name, os.O_WRONLY | os.O_CLOEXEC)

    def give_back(self) -> bool:
        """Free one piece of what was deleted; return False if there is nothing."""
        if not self._gone:
            return False
        with suppress(OSError):
            piece = max(_PIECE_BYTES, sum(map(_size, self._gone)) // _PIECES_OF_ALL)
            left = _size(self._gone[0]) - piece
            if left > 0:
                os.ftruncate(self._gone[0], left)
                return True
        os.close(self._gone.popleft())
        return True

    def _loop(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError):
                self.look()
            for _ in range(round(_BETWEEN_LOOKS_S / _PAUSE_S)):
                if not self.give_back():
                    break
                self._ended.wait(_PAUSE_S)
            else:
                continue
            self._written.clear()
            if not self._ended.wait(_BETWEEN_LOOKS_S):
                self._written.wait(_AT_REST_S)


def _size(file: int) -> int:
    return os.fstat(file).st_size
