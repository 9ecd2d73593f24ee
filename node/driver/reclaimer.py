"""Decides when the storage reclaims room, while the disk is short of it.

Deleting alone frees nothing: how room is reclaimed, and why RocksDB does not do it by itself then, is
in `storage/reclaim.py`. This task starts a run when the disk becomes short, and another one after
more entries were applied. The pauses between runs leave the disk to other work.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from ..storage.interface import Storage
from .disk_space import DiskSpace

_LOOK_S = 1.0
"""Seconds between two looks at whether there is something to reclaim."""

_PAUSE_SHARE = 4
"""The pause after a run, as a multiple of what the run took: a fifth of the time at most."""

_WORTH_A_LINE_BYTES = 1 << 20

_log = structlog.get_logger()


class Reclaimer:
    """Reclaims room on one node."""

    def __init__(
        self, storage: Storage, disk_space: DiskSpace, changed: Callable[[], object]
    ) -> None:
        """Nothing is reclaimed before `run`.

        Args:
            storage: Reclaims room when it is asked to.
            disk_space: Says whether the disk is short.
            changed: Returns a value that differs from the last one when something may have been
                deleted since.
        """
        self._storage = storage
        self._disk_space = disk_space
        self._changed = changed
        self._wanted = trio.Event()
        self._seen: object = None

    def look(self) -> None:
        """The disk may have become short: reclaim if so."""
        if self._disk_space.is_short:
            self._wanted.set()

    async def run(self) -> None:
        """Reclaim whenever that may give room back, until cancelled.

        Raises:
            StorageError: The disk failed.

        Cancellation: A run that is under way goes on in its thread; `Storage.close` ends it.
        """
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._disk_space.is_short:
                took = 0.0
                if self._changed() != self._seen:
                    took = await self._reclaim()
                await trio.sleep(max(_LOOK_S, _PAUSE_SHARE * took))

    async def _reclaim(self) -> float:
        """Reclaim once; return how many seconds it took."""
        space, began = self._disk_space, trio.current_time()
        self._seen, free = self._changed(), space.room.free
        await self._storage.reclaim()
        space.check()
        took = trio.current_time() - began
        freed = space.room.free - free
        if freed >= _WORTH_A_LINE_BYTES:
            _log.info("reclaimed room on the disk", freed_mib=freed >> 20, seconds=round(took, 1))
        return took
