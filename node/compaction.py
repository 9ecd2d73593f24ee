"""When the log is cut, and how much of it stays: a trade of memory against whole snapshots."""

from __future__ import annotations

from .raft.core import Core
from .raft.progress import ProgressState

KEEP_ENTRIES = 10_000
KEEP_BYTES = 16 * 1024 * 1024
"""Applied entries kept for followers that are a little behind; twice as much starts compaction."""

STRAGGLER_FACTOR = 8
"""So much more is kept while a live member is further behind than that.

A snapshot takes time to cross, and is of no use when the entries that follow it are gone by then:
the member would be sent one after the other, for ever. The factor bounds what one can cost.
"""


def due(core: Core, applied: int) -> int | None:
    """Return the index to compact to now, or None.

    Args:
        core: Its log is looked at and, at the leader, how far the members are.
        applied: Index of the last entry that has taken effect.
    """
    log = core.log
    factor = STRAGGLER_FACTOR if _has_straggler(core, applied) else 1
    entries, size = factor * KEEP_ENTRIES, factor * KEEP_BYTES
    if len(log.entries) <= 2 * entries and log.size <= 2 * size:
        return None
    return log.index_to_keep(applied, entries, size)


def _has_straggler(core: Core, applied: int) -> bool:
    """Whether a member that is being fed, or was heard of lately, lacks more than all keep."""
    behind = applied - KEEP_ENTRIES
    return any(
        p.match < behind and (p.active or p.state is not ProgressState.PROBE)
        for p in core.progress.values()
    )
