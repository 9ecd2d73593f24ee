"""When the log is cut, and how much of it stays: memory and disk are traded for fewer whole snapshots.

Two marks. The core's log, which is in memory, is cut by `due`. The disk's is cut by `DiskLog`, at the
same place but for one case: while a member is being brought up by a snapshot, what follows that
snapshot stays on the disk, and is fed to the member from there (`cluster/snapshot_feed.py`). However long a
snapshot takes to cross, it is then not in vain, and the leader's memory does not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..raft.core import Core
from ..raft.entry import Entry, SnapshotMeta
from ..raft.events import Compact
from ..raft.log import entry_size
from ..raft.progress import ProgressState
from ..storage.interface import Storage

KEEP_ENTRIES = 10_000
KEEP_BYTES = 16 * 1024 * 1024
"""Applied entries kept for followers that are a little behind; twice as much starts compaction."""

STRAGGLER_ENTRIES, STRAGGLER_BYTES = 8, 4
"""So many times as much is kept while a live member is further behind than that, and is being fed:
it would need a whole snapshot else. The factors bound what one slow member can cost in memory."""

SHORT_SHARE = 8
"""On a disk that is short of room an eighth is kept; but all that a member lacks which can use it: a
whole snapshot would take more."""

HELD_BYTES = 512 * 1024 * 1024
"""Of entries on the disk that follow a snapshot on its way. A node that starts reads all its log: so
much memory it may then need for a moment."""


def due(core: Core, applied: int, *, is_short: bool = False) -> int | None:
    """Return the index to compact to now, or None.

    Args:
        is_short: Whether the disk is short of room.
        core: Its log is looked at and, at the leader, how far the members are.
        applied: Index of the last entry that has taken effect. Its effects are written; that they
            are durable before the cut is the storage's, whose writes become durable in order.
    """
    log = core.log
    entries, size = KEEP_ENTRIES, KEEP_BYTES
    if is_short:
        return _due_on_short_disk(core, applied)
    if _has_straggler(core, applied):
        entries, size = STRAGGLER_ENTRIES * entries, STRAGGLER_BYTES * size
    if len(log.entries) <= entries + KEEP_ENTRIES and log.size <= size + KEEP_BYTES:
        return None
    # What a straggler kept is given up in steps: 70,000 entries at once would stop the loop for
    # 30 to 50 ms, each of these for 5.
    return min(log.index_to_keep(applied, entries, size), log.snapshot_index + KEEP_ENTRIES)


def _due_on_short_disk(core: Core, applied: int) -> int | None:
    log = core.log
    entries, size = KEEP_ENTRIES // SHORT_SHARE, KEEP_BYTES // SHORT_SHARE
    if len(log.entries) <= 2 * entries and log.size <= 2 * size:
        return None
    index = min(log.index_to_keep(applied, entries, size), log.snapshot_index + KEEP_ENTRIES)
    for progress in core.progress.values():
        if progress.active and progress.state is not ProgressState.SNAPSHOT:
            index = min(index, progress.match)
    return index if index > log.snapshot_index else None


def cuts(core: Core, applied: int, *, is_short: bool = False) -> tuple[Compact, ...]:
    """Return what `due` asks for as events for the core: one, or none."""
    index = due(core, applied, is_short=is_short)
    return () if index is None else (Compact(index),)


def _has_straggler(core: Core, applied: int) -> bool:
    """Whether a member that is further behind than `KEEP_ENTRIES` can use the log in memory.

    It cannot while a snapshot crosses: what follows the snapshot waits on the disk. Once the member
    has the snapshot, the log in memory shall stay where it begins, for the member to come up to it.
    """
    behind = applied - KEEP_ENTRIES
    for progress in core.progress.values():
        if progress.state is ProgressState.SNAPSHOT:
            is_fed = progress.match >= progress.snapshot
        else:
            is_fed = progress.active or progress.state is ProgressState.REPLICATE
        if is_fed and progress.match < behind:
            return True
    return False


class DiskLog:
    """The part of the log on the disk of one node that outlasts the log in memory.

    Entries are held until `release`, until the process ends, or until more than `HELD_BYTES` follow.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._held: dict[int, int] = {}
        self._bytes = 0
        self._due: SnapshotMeta | None = None

    def hold(self, peer: int, index: int) -> None:
        """Keep the entries after `index`, which are there now, for `peer`."""
        if not self._held:
            self._bytes = 0
        self._held[peer] = index

    def is_held(self, peer: int) -> bool:
        """Whether the entries that `hold` was asked for are still there."""
        return peer in self._held

    def release(self, peer: int) -> None:
        """Keep nothing for `peer` any more. Idempotent."""
        if self._held.pop(peer, None) is not None:
            self._cut()

    def release_all(self) -> None:
        """Stop keeping entries for members that are sent a snapshot: the disk needs the room."""
        if self._held:
            self._held.clear()
            self._cut()

    def appended(self, entries: Sequence[Entry]) -> None:
        """Take note of what the log has grown by."""
        if self._held:
            self._bytes += sum(map(entry_size, entries))
            if self._bytes > HELD_BYTES:
                self._held.clear()
                self._cut()

    def compact(self, meta: SnapshotMeta) -> None:
        """Drop entries up to `meta.index`, as `Storage.compact`: now, or once no peer needs them."""
        self._due = meta
        self._cut()

    def _cut(self) -> None:
        meta = self._due
        if meta is not None and all(meta.index <= index for index in self._held.values()):
            self._due = None
            self._storage.compact(meta)
