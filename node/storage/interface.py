"""What a node needs from its disk: the interface between the driver and RocksDB.

`rocks.py` implements it on RocksDB; the tests have one in memory that can lose what was not
flushed. Both pass the same contract suite.

Rule 1: a *write* is done when the operating system has it. It takes microseconds, so it happens
inline on the event loop.
Rule 2: a *flush* makes every write durable that returned before the flush began. It happens off the
event loop.
Rule 3: no other node and no client is answered for a write before a flush that covers it has
returned (rule D1).
Rule 4: every method raises `StorageError` when the disk or the data fails, and the node then stops.
A failed flush is never tried again (rule D17): Linux marks the pages clean after a failed fsync, so
a second one reports success for data that is lost ("fsyncgate").
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..errors import StorageError
from ..net.poller import Poller
from ..raft.entry import Entry, HardState, SnapshotMeta

# The one key of the state that the storage knows: the index and term of the last applied entry. The
# state machine writes it in the same batch as the effects. It sorts behind every other key, so a
# snapshot that was cut short does not have it and cannot be installed.
APPLIED_KEY = b"z"

_APPLIED = struct.Struct(">QQ")


def pack_applied(index: int, term: int) -> bytes:
    """Return the value of `APPLIED_KEY`."""
    return _APPLIED.pack(index, term)


def unpack_applied(value: bytes | None) -> tuple[int, int]:
    """Return index and term of the last applied entry; (0, 0) for None, the empty state.

    Raises:
        StorageError: The value is damaged.
    """
    if value is None:
        return 0, 0
    if len(value) != _APPLIED.size:
        raise StorageError(f"the applied index is damaged: {value[:32]!r}")
    index, term = _APPLIED.unpack(value)
    return index, term


@dataclass(frozen=True, slots=True)
class Identity:
    """The cluster and node that own a data directory; written once, when the directory is made.

    Attributes:
        cluster_id: The cluster's permanent id, 16 hex digits.
        node_id: This node's permanent id, 64 random bits, never 0.
    """

    cluster_id: str
    node_id: int


class Use(enum.Enum):
    """What a directory is opened for."""

    SERVE = "serve"
    """To run its node."""
    LOOK = "look"
    """To see what is there; nothing is written."""
    RECOVER = "recover"
    """To make its node the only voter of a new cluster, also where that was begun before."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found on disk, ready for the core (rule D19).

    Attributes:
        hard_state: Term, vote and commit; the commit is never above the last entry.
        snapshot: The snapshot that the log starts after.
        entries: The entries after `snapshot.index`, contiguous, verified by CRC and chain hash.
        applied: The index of the last entry whose effects are in the state.
        recover_to: Entries up to here were acknowledged and are lost: the node must neither vote
            nor stand for election before it has them again (`recovery.py`). 0: nothing is lost.
        lost: What was lost and why, for the operator.
    """

    hard_state: HardState
    snapshot: SnapshotMeta
    entries: list[Entry]
    applied: int
    recover_to: int = 0
    lost: str = ""


class StateReader(Protocol):
    """Ordered reads of the state machine's keys as of one moment."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        ...

    def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys from `start` (inclusive) to `end` (exclusive; None: no end), in order.

        Each step holds the GIL: a caller that iterates far needs a checkpoint every N keys.
        """
        ...

    def close(self) -> None:
        """Release the view. Idempotent. An open view keeps old data on disk."""
        ...


class StateStore(Protocol):
    """The keys that the state machine owns."""

    def get(self, key: bytes) -> bytes | None:
        """Return the latest value of `key`, or None."""
        ...

    def write(
        self,
        puts: Iterable[tuple[bytes, bytes]],
        deletes: Iterable[bytes] = (),
        delete_ranges: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Write all of it or nothing, unsynced.

        The ranges (start inclusive, end exclusive) are deleted first, whatever their size, in
        constant memory. No key may be both put and deleted.
        """
        ...

    def view(self, *, bulk: bool = False) -> StateReader:
        """Return a reader of the state as it is now, unaffected by later writes.

        Args:
            bulk: It will read everything once, and must not displace other data from the cache.
        """
        ...


class SnapshotInstall(Protocol):
    """A state that is being received; nothing reads it until `Storage.install` switches to it."""

    def write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Add keys and values to the new state, unsynced."""
        ...

    def abort(self) -> None:
        """Delete the new state. Idempotent; does nothing once the state is installed."""
        ...


_MEMTABLE_ROOM_BYTES = 20 << 20
"""For writing one memtable to a table."""


class Room(NamedTuple):
    """The room on a disk, in bytes.

    Attributes:
        free: What this process may still write.
        needed: What the storage needs free to work: with less than that the disk is *short*.
        where: Which disk, for people.
    """

    free: int
    needed: int
    where: str = ""

    @property
    def is_short(self) -> bool:
        """Whether new writes should be refused."""
        return self.free < self.needed

    @property
    def is_ample(self) -> bool:
        """Whether a disk that was short has room again: a quarter more than it needs.

        With one limit for both, a disk at that limit would be short and not short in turns, and the
        lead would go to and fro.
        """
        return self.free >= self.needed + self.needed // 4

    @property
    def is_tight(self) -> bool:
        """Whether there is too little even for deletions, and for the compaction that follows."""
        return self.free < max(self.needed // 4, min(_MEMTABLE_ROOM_BYTES, self.needed // 2))

    @property
    def is_spent(self) -> bool:
        """Whether the next writes may fill the disk up."""
        return self.free < self.needed // 16

    def __str__(self) -> str:
        """Return how much is free, and below and from which amount writes stop and go on."""
        low, ample = self.needed >> 20, (self.needed + self.needed // 4) >> 20
        return f"{self.free >> 20} MiB left (writes stop below {low} MiB, and go on from {ample})"


class DiskFigures(NamedTuple):
    """What a storage has on the disk, and how it fares; counts are since it was opened.

    Attributes:
        used_bytes: On the disk: tables and write-ahead logs.
        sst_bytes: Of that, the tables, also those that are about to be deleted.
        memtable_bytes: In memory, and not in tables yet.
        pending_compaction_bytes: What compactions have to rewrite, as RocksDB estimates it.
        stall_s: How long writes waited because RocksDB took none, or was about to take none.
    """

    used_bytes: int = 0
    sst_bytes: int = 0
    memtable_bytes: int = 0
    pending_compaction_bytes: int = 0
    stall_s: float = 0.0


class CacheLooks(NamedTuple):
    """How often a block of a table was wanted, since the storage was opened.

    Attributes:
        hits: It was in the cache.
        misses: It was read from the table.
    """

    hits: int = 0
    misses: int = 0


class Storage(Protocol):
    """One node's log, hard state and state."""

    @property
    def identity(self) -> Identity:
        """The cluster and node that own this directory."""
        ...

    @property
    def state(self) -> StateStore:
        """The state machine's keys. Stays valid across an installed snapshot."""
        ...

    def load(self) -> Recovered:
        """Read everything that the core starts from, and delete what cannot be trusted.

        May be called again before any other method, with the same result.
        """
        ...

    def lost(self, recover_to: int, text: str) -> None:
        """Record that log up to `recover_to` is missing, which this node had acknowledged.

        The node that starts from this disk next is recovering (`Recovered.recover_to`). Unsynced.
        """
        ...

    def recovered(self) -> None:
        """Delete the record of a loss: the log is durable up to `recover_to` again."""
        ...

    def append(
        self,
        hard_state: HardState | None,
        truncate_from: int | None,
        entries: Sequence[Entry],
    ) -> None:
        """Write hard state, truncation and entries in one atomic batch, unsynced (rule D3).

        Args:
            hard_state: The new hard state, or None to leave it.
            truncate_from: First drop every entry from this index on, or None.
            entries: Entries that continue the log where it then ends.
        """
        ...

    async def flush(self) -> None:
        """Make every write durable that returned before this call.

        One flush at a time: the driver awaits one before it starts the next.

        Cancellation: the flush continues in its thread; whether it succeeds is unknown.
        """
        ...

    def attach(self, poller: Poller) -> None:
        """Let `flush_soon` report through `poller`, if this storage can."""
        ...

    def flush_soon(self, done: Callable[[], None], then: Callable[[], bool]) -> bool:
        """Begin a flush without waiting for it; return False if that is not possible now.

        Args:
            done: Called on the event loop when the flush has succeeded.
            then: Called before `done`, in the flusher's thread where there is one. Must not wait.
                Returns whether `done` is needed soon even where it is not wanted.

        The error of a failed flush is raised through the poller, and the node must stop. After
        False the caller awaits `flush`.
        """
        ...

    def want_flush_end(self, *, is_wanted: bool) -> None:
        """Whether the end of a flush that `flush_soon` began wakes the event loop, to call `done`.

        From now on, and also for one that has ended unnoticed; at first it does. Where it is not
        wanted, the end waits for `take_flush_end`.
        """
        ...

    def take_flush_end(self) -> None:
        """Call `done` now, if that flush has ended."""
        ...

    def compact(self, meta: SnapshotMeta) -> None:
        """Drop the entries up to `meta.index`, which are durably applied (rule D4).

        `meta.chain` is ignored: the storage knows its own.
        """
        ...

    def read(self, first: int, max_bytes: int) -> tuple[int, list[Entry]] | None:
        """Return the term of the entry before `first`, and the entries from `first` on.

        As many entries as `max_bytes` hold, but at least one. None if one of these is compacted, or
        does not exist yet.
        """
        ...

    def snapshot_meta_chain(self, index: int) -> bytes:
        """Return the chain hash of the log at `index`, which must not be compacted away."""
        ...

    def room(self) -> Room:
        """Return how much room the disk has, and how much this storage needs.

        Asks the file system, which takes some microseconds. A client's read may have met damage
        that nothing else of the node has: so this raises as well if anything has failed before.
        """
        ...

    def figures(self) -> DiskFigures:
        """Return figures for people; takes some tenths of a millisecond."""
        ...

    def cache_looks(self) -> CacheLooks:
        """Return how the block cache does; takes half a millisecond."""
        ...

    async def reclaim(self) -> None:
        """Give the room of what was deleted back to the file system, as far as there is room to.

        May take minutes, in a thread: writes and flushes go on meanwhile. One call at a time.

        Cancellation: it goes on in its thread; `close` ends it.
        """
        ...

    def begin_install(self) -> SnapshotInstall:
        """Begin to receive a whole state; an install begun before and not finished is aborted."""
        ...

    def install(self, staged: SnapshotInstall, meta: SnapshotMeta, hard_state: HardState) -> None:
        """Replace state and log by `staged` and `meta` in one atomic batch, unsynced (rule D11).

        A crash after the next flush finds the new state with an empty log after `meta.index`; a
        crash before it finds either the old or the new state and log, never a mixture.
        """
        ...

    async def close(self) -> None:
        """Flush and close. Idempotent. A closed directory can be opened again in this process."""
        ...


class RecoverableStorage(Storage, Protocol):
    """A storage that `hstore recover` has opened (`process/only_voter.py`)."""

    def become(self, identity: Identity, hard_state: HardState, entries: Sequence[Entry]) -> None:
        """Give the directory to another cluster, whose log goes on from here (`hstore recover`).

        First the new identity, durable at once. Then one atomic batch, unsynced: the entries, which
        continue the log, the hard state, and no record of a loss any more. A crash in between
        leaves a directory that only `Use.RECOVER` opens: it does not run under the new identity
        with the old log.
        """
        ...
