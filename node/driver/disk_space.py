"""Whether the leader's disk has room for new writes: a full disk is refused before the log.

Owns when the storage is asked, which is never on the way of a write: once a second, and after every
few MiB. What short means is the storage's (`storage/directory.py`). All that is written for
clients is refused, deletions too: each is an entry in the log first, and gives room back only with
a compaction much later. Reads go on, and so do changes of the membership, which are small and may
be what brings in a larger disk. A follower cannot refuse the log: it stops when a write fails.
"""

from __future__ import annotations

from ..errors import NoSpace
from ..storage.interface import Storage
from .requests import Request

_CHECK_S = 0.9
_CHECK_BYTES = 4 * 1024 * 1024
"""Of payloads proposed meanwhile, after which the storage is asked again."""


class DiskSpace:
    """What the storage said when it was asked last.

    Attributes:
        shortage: Why no write is taken; empty: there is room.
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
