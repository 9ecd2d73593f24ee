"""The log of one core: its entries in memory, and how far each of them has come.

The whole log behind the last snapshot is held here; the driver keeps it short by compacting. Four
marks move over it: `applied <= commit <= last`, and `persisted <= last`. Entries are applied up to
the smaller of `commit` and `persisted`.

Rule 1: no mark falls, except `persisted` and `last` when a conflict truncates the log or a snapshot
replaces it.
Rule 2: what is committed is never truncated, what is not applied is never compacted.
Rule 3: an entry is durable only if the very write that holds it is. An entry can be truncated and
written anew while the first write is still being flushed, and the end of that flush must not make
the new entry durable (the ABA problem of rabbitmq/ra#516). So the log remembers its writes, and
truncation lowers what each unfinished write will confirm.

etcd-raft guards against the same by comparing the term of the confirmation (raft.go,
`newStorageAppendRespMsg`); raft-rs by numbering its writes, which is what is done here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

from .entry import Entry, SnapshotMeta
from .errors import CoreBug

# What an entry costs beside its payload, in memory limits and message sizes.
_OVERHEAD = 24


def entry_size(entry: Entry) -> int:
    """Return how many bytes an entry counts for in every limit."""
    return len(entry.data) + _OVERHEAD


def _term_of(entry: Entry) -> int:
    return entry.term


class RaftLog:
    """Entries after `snapshot_index`, and the marks.

    Attributes:
        snapshot_index: Index of the last entry that the snapshot replaces; 0: none.
        snapshot_term: That entry's term.
        last_index: Index of the newest entry.
        last_term: Its term.
        persisted: Entries up to here are durable on this node.
        commit: Entries up to here are committed.
        applied: Entries up to here have been applied.
        handed_out: Entries up to here were given to the driver to be applied.
        unsaved: First index that was not yet given to the driver to be persisted.
        truncated: Lowest index truncated since entries were last given to it, or None.
    """

    __slots__ = (
        "_before",
        "_ends",
        "_writes",
        "applied",
        "commit",
        "entries",
        "handed_out",
        "last_index",
        "last_term",
        "persisted",
        "snapshot_index",
        "snapshot_term",
        "truncated",
        "unsaved",
    )

    def __init__(self, snapshot: SnapshotMeta, entries: Sequence[Entry], applied: int) -> None:
        """Start from what is durable: all of `entries` count as persisted (rule D19)."""
        self.snapshot_index = snapshot.index
        self.snapshot_term = snapshot.term
        self.entries = list(entries)
        # `_ends[i]` counts the bytes of all entries up to and including the i-th, `_before` those
        # up to the first; both from some entry long compacted, so the size of a range is a
        # difference of two.
        self._before = 0
        self._ends: list[int] = list(accumulate(map(entry_size, self.entries)))
        self.last_index = snapshot.index + len(self.entries)
        self.last_term = self.entries[-1].term if self.entries else snapshot.term
        for index, entry in enumerate(self.entries, snapshot.index + 1):
            if entry.index != index:
                raise CoreBug(f"log has entry {entry.index} at position {index}")
        self.persisted = self.last_index
        self.applied = self.handed_out = applied
        self.commit = applied
        if not snapshot.index <= applied <= self.last_index:
            raise CoreBug(
                f"applied {applied} is outside the log {snapshot.index}..{self.last_index}"
            )
        self.unsaved = self.last_index + 1
        self.truncated: int | None = None
        # Unfinished writes, oldest first: [number, last index that it will make durable].
        self._writes: deque[list[int]] = deque()

    # -- reading ----------------------------------------------------------------------------

    def term_at(self, index: int) -> int | None:
        """Return the term of the entry at `index`; None if it is compacted, or not there yet."""
        if index == self.last_index:
            return self.last_term
        offset = index - self.snapshot_index
        if offset <= 0:
            return self.snapshot_term if offset == 0 else None
        if offset > len(self.entries):
            return None
        return self.entries[offset - 1].term

    def slice(self, low: int, high: int, max_bytes: int) -> list[Entry]:
        """Return entries `low` to `high`, both included, up to `max_bytes`, but at least one."""
        first = low - self.snapshot_index - 1
        last = high - self.snapshot_index
        fitting = bisect_right(self._ends, self._end(low - 1) + max_bytes, first, last)
        return self.entries[first : max(fitting, first + 1)]

    def size_between(self, low: int, high: int) -> int:
        """Return the bytes of the entries after `low` up to `high`, none of them compacted."""
        return max(self._end(high) - self._end(low), 0)

    @property
    def size(self) -> int:
        """Bytes of all entries in memory, as `entry_size` counts them."""
        return self._end(self.last_index) - self._before

    def _end(self, index: int) -> int:
        offset = index - self.snapshot_index
        return self._ends[offset - 1] if offset > 0 else self._before

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a candidate's log is at least as up-to-date as this one (section 5.4.1)."""
        # "If the logs have last entries with different terms, then the log with the later term is
        # more up-to-date. If the logs end with the same term, then whichever log is longer is more
        # up-to-date."
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def find_conflict(self, index: int, term: int) -> tuple[int, int]:
        """Return the last (index, term) in this log of which neither is above the arguments.

        Leader and follower both call it when their logs disagree, to skip a whole term per message
        instead of an entry (section 5.3, end; etcd-raft/log.go `findConflictByTerm`). For an index
        that is compacted the answer is the snapshot's.
        """
        index = min(index, self.last_index)
        if index <= self.snapshot_index:
            return self.snapshot_index, self.snapshot_term
        within = index - self.snapshot_index
        # Terms never fall along a log, so the last entry with a term of at most `term` is found by
        # bisection.
        count = bisect_right(self.entries, term, 0, within, key=_term_of)
        if count == 0:
            return self.snapshot_index, self.snapshot_term
        return self.snapshot_index + count, self.entries[count - 1].term

    # -- changing ---------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries that continue the log."""
        if entries[0].index != self.last_index + 1:
            raise CoreBug(f"append of {entries[0].index} to a log that ends at {self.last_index}")
        end = self._end(self.last_index)
        self.entries.extend(entries)
        for entry in entries:
            end += len(entry.data) + _OVERHEAD
            self._ends.append(end)
        newest = self.entries[-1]
        self.last_index, self.last_term = newest.index, newest.term

    def truncate(self, index: int) -> None:
        """Remove every entry from `index` on.

        Raises:
            CoreBug: One of them is committed (R7).
        """
        if index <= self.commit:
            raise CoreBug(f"conflict at {index}, which is committed (commit is {self.commit})")
        cut = index - self.snapshot_index - 1
        del self.entries[cut:], self._ends[cut:]
        self.last_index = index - 1
        self.last_term = self.entries[-1].term if self.entries else self.snapshot_term
        self.persisted = min(self.persisted, self.last_index)
        # Rule 3 of this module.
        for write in self._writes:
            write[1] = min(write[1], self.last_index)
        if index < self.unsaved:
            # The disk knows only entries below `unsaved`: others were never given to the driver.
            self.unsaved = index
            self.truncated = index if self.truncated is None else min(self.truncated, index)

    def commit_to(self, index: int) -> None:
        """Raise the commit index; a lower one changes nothing."""
        if index > self.last_index:
            raise CoreBug(f"commit {index} is beyond the last entry {self.last_index}")
        self.commit = max(self.commit, index)

    def take_unsaved(self, seq: int) -> tuple[int | None, list[Entry]]:
        """Return what must be written as write number `seq`: (truncate from, entries)."""
        truncated, self.truncated = self.truncated, None
        entries = self.entries[self.unsaved - self.snapshot_index - 1 :]
        self.unsaved = self.last_index + 1
        self._writes.append([seq, self.last_index])
        return truncated, entries

    def is_write_pending(self) -> bool:
        """Whether some write was given to the driver and is not durable yet."""
        return bool(self._writes)

    def oldest_write(self) -> int:
        """Return the number of the oldest write that is not durable yet, 0 for none."""
        return self._writes[0][0] if self._writes else 0

    def persisted_to(self, seq: int) -> None:
        """Record that all writes up to `seq` are durable."""
        while self._writes and self._writes[0][0] <= seq:
            self.persisted = max(self.persisted, self._writes.popleft()[1])

    def take_committed(self, max_bytes: int) -> list[Entry]:
        """Return the next batch to apply, or nothing while another is not applied yet (rule D7)."""
        if self.handed_out != self.applied:
            return []
        # Only entries that are durable here, though a quorum without this node suffices to commit
        # them: on a cluster of one, etcd answered a write after applying it and before its fsync
        # (etcd#14370).
        high = min(self.commit, self.persisted)
        if high <= self.applied:
            return []
        batch = self.slice(self.applied + 1, high, max_bytes)
        self.handed_out = batch[-1].index
        return batch

    def applied_to(self, index: int) -> None:
        """Record that the entries up to `index` have been applied."""
        if index > self.handed_out:
            raise CoreBug(f"applied {index}, but only {self.handed_out} was handed out")
        # A lower index is of the state that a snapshot has replaced since.
        self.applied = max(self.applied, index)

    def index_to_keep(self, applied: int, max_entries: int, max_bytes: int) -> int:
        """Return the index to compact to, so that at most this much of the applied log stays."""
        lowest = max(applied - max_entries, self.snapshot_index)
        least = self._end(applied) - max_bytes
        if self._end(lowest) >= least:
            return lowest
        return self.snapshot_index + bisect_left(self._ends, least) + 1

    def compact(self, index: int) -> tuple[int, int]:
        """Drop entries up to `index`, which must be applied; return its index and term."""
        if index > self.applied:
            raise CoreBug(f"compaction to {index} is beyond applied {self.applied}")
        term = self.term_at(index)
        if term is None:
            raise CoreBug(f"compaction to {index}, below the snapshot {self.snapshot_index}")
        cut = index - self.snapshot_index
        self._before = self._end(index)
        del self.entries[:cut], self._ends[:cut]
        self.snapshot_index, self.snapshot_term = index, term
        return index, term

    def restore(self, meta: SnapshotMeta) -> None:
        """Start over behind a snapshot."""
        self.entries.clear()
        self._ends.clear()
        self._before = 0
        self.snapshot_index = self.last_index = meta.index
        self.snapshot_term = self.last_term = meta.term
        self.commit = self.applied = self.handed_out = meta.index
        self.unsaved = meta.index + 1
        self.truncated = None
        # The snapshot is durable only when the write that carries it is. What older writes confirm
        # was of the old log.
        self.persisted = 0
        for write in self._writes:
            write[1] = 0
