"""Whether the leader's disk has room for new writes: a full disk is refused before the log.

Owns when the storage is asked: once a second, and after every few MiB, never for each write. How
little is short is the storage's to say (`storage/directory.py`). Every write of a client is refused,
deletions too: each is an entry in the log first, and gives room back only with a compaction much
later. Reads go on, and so do changes of the membership, which are small and may bring in a larger
disk. A follower cannot refuse the log: it stops when a write fails.
"""

from __future__ import annotations

from ..errors import NoSpace
from ..storage.interface import Storage
from .requests import Request

_CHECK_S = 0.9
_CHECK_BYTES = 4 * 1024 * 1024
"""Bytes of payloads proposed meanwhile, after which the storage is asked again."""


class DiskSpace:
    """What the storage answered when it was last asked.

    Attributes:
        shortage: Why no write is taken; empty while there is room.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._taken = 0
        self._waited_s = 0.0
        self.shortage = ""
        self.check()

    def tick(self, seconds: float) -> None:
        """Let time pass, and ask the storage when it is due."""
        self._waited_s += seconds
        if self._waited_s >= _CHECK_S:
            self.check()

    def check(self) -> None:
        """Ask the storage."""
        self._taken, self._waited_s = 0, 0.0
        self.shortage = self._storage.shortage()

    def refuses(self, request: Request) -> bool:
        """Count a write, and answer it if there is no room; return whether it was answered."""
        if self.shortage:
            request.finish(NoSpace(f"no write is taken: {self.shortage}"))
            return True
        self._taken += len(request.data)
        if self._taken >= _CHECK_BYTES:
            self.check()
        return False
