"""Whether there is room for new writes: they are refused before they reach the log.

Owns when the storage is asked for its room: once a second, and after every few MiB, never for each
write. The limits (*short*, *tight*, *spent*) are in `storage/interface.py:Room`; which other voters
are short is found out in `cluster/rooms.py`.

What is refused, and when:

- New values, when this leader's disk is short, or when the voters with room are no majority: the
  others would be filled until they stop.
- Deletions, which are the way out, only when the disk is *tight*: with a quarter of that room. The
  compaction that gives the room back needs some itself (`reclaimer.py`).
- Members, settings and all else never: they are small, and may bring in a larger disk.

What is under way must fit, too: a write that does not fit yet waits in the queue (`intake.py`).

A follower cannot refuse the log. It goes on until its disk is nearly *spent*, and then stops, while
RocksDB still has the room to start again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from errno import ENOSPC

import structlog

from ..errors import NoSpace, StorageError
from ..model import commands
from ..model.commands import Effect
from ..raft.entry import Entry
from ..storage.interface import Room, Storage
from .requests import Request

_CHECK_S = 0.9
_CHECK_BYTES = 4 * 1024 * 1024
"""Bytes of entries written meanwhile, after which the storage is asked again; fewer where fewer fit."""

_COST = 4
"""What a byte of a value costs on the disk at most, until it is settled: in the log and in the state, each
time in RocksDB's log and in a table."""

_SMALL_SHARE = 256
"""So small a share of what must stay free may always be taken: deletions, when nothing else fits."""

_SPENT_SHARE = 4
_SPENT_BYTES = 64 * 1024
"""On a disk that is nearly spent a follower writes at most a quarter of the free bytes, less the margin
of `_SPENT_BYTES`, before it looks again."""

_log = structlog.get_logger()


class DiskSpace:
    """The room on this disk as last asked for, and what is refused for lack of room.

    Attributes:
        room: The storage's last answer.
        is_short: Whether this disk is short of room; once it is, until it has ample room again.
        refusal: Why no new value is taken; empty while there is room.
        fitting: Bytes of entries that may be under way at once, in the log and not yet applied: as many
            as fit into the room above what must stay free.
        is_leaving: Whether this leader is about to hand over because its disk is short: requests
            wait for that instead of being refused.
        on_change: Called when `is_short` has changed.
    """

    def __init__(self, storage: Storage) -> None:
        self.room = Room(0, 0)
        self.is_short = self.is_leaving = False
        self.refusal = ""
        self.fitting = 0
        self.on_change: Callable[[], None] = lambda: None
        self._storage = storage
        self._others = ""
        self._is_majority_tight = False
        self._written = 0
        self._waited_s = 0.0
        self.check()

    def tick(self, seconds: float) -> None:
        """Let time pass, and ask the storage when it is due."""
        self._waited_s += seconds
        if self._waited_s >= _CHECK_S:
            self.check()

    def writing(self, entries: Sequence[Entry], *, is_leader: bool) -> int:
        """Count entries that are about to be written; return their bytes.

        Raises:
            StorageError: This follower's disk is nearly spent.
        """
        size = sum([len(entry.data) for entry in entries])
        self._written += size
        if self.is_short and self.room.is_spent and not is_leader:
            self._check_spent()
        if self._written >= (_CHECK_BYTES if self.is_short else min(_CHECK_BYTES, self.fitting)):
            self.check()
        return size

    def _check_spent(self) -> None:
        """Stop a follower whose disk is about to be full, while something is left.

        A leader has refused what would fill its disk, and its own entries are few: so are those of
        an election and the deletions, for which a follower need not stop. Each entry is written
        twice, to the log and to the state.
        """
        if self._written * _SPENT_SHARE > self.room.free - _SPENT_BYTES:
            self.check()
            if self.room.is_spent:
                raise StorageError(
                    f"{os.strerror(ENOSPC)}: {_of(self.room)}. What the leader writes does not fit"
                    " any more: free some space, and start this node again"
                )

    def check(self) -> None:
        """Ask the storage."""
        self._written, self._waited_s = 0, 0.0
        self.room = room = self._storage.room()
        self.fitting = max(room.free - room.needed, room.needed // _SMALL_SHARE) // _COST
        is_short = not room.is_ample if self.is_short else room.is_short
        if is_short != self.is_short:
            self.is_short = is_short
            free, needed = room.free >> 20, room.needed >> 20
            if is_short:
                _log.warning("the disk is short of room", free_mib=free, needed_mib=needed)
            else:
                _log.info("the disk has room again", free_mib=free, needed_mib=needed)
            self._judge()
            self.on_change()
        elif is_short:
            self._judge()

    def others(self, shortage: str, *, is_tight: bool) -> None:
        """Take what the leader knows of the other voters' disks.

        Args:
            shortage: Which are short, if those with room are no majority; else empty.
            is_tight: Whether those that have room for deletions are no majority either.
        """
        self._others, self._is_majority_tight = shortage, is_tight
        self._judge()

    def refuses(self, request: Request) -> bool:
        """Answer a write if there is no room for it; return whether it was answered.

        Only to be asked while there is a `refusal`.
        """
        effect = commands.effect(request.data)
        if effect is Effect.SMALL:
            return False
        is_tight = (self.is_short and self.room.is_tight) or self._is_majority_tight
        if effect is Effect.FREES and not is_tight:
            return False
        way_out = "make room for the node" if is_tight else "delete something, or make room"
        request.finish(NoSpace(f"no write is taken: {self.refusal}; {way_out}"))
        return True

    def _judge(self) -> None:
        self.refusal = _of(self.room) if self.is_short else self._others


def _of(room: Room) -> str:
    return f"the disk of {room.where or 'this node'} has {room}"
