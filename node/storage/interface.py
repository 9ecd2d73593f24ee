"""What a node needs from its disk: the seam between the driver and RocksDB.

`rocks.py` implements it on RocksDB; the tests have one in memory that can lose what was not
flushed. Both pass the same contract suite.

The rule behind every method: a *write* is done when it is in the operating system's hands and
costs microseconds, so it happens inline on the event loop; a *flush* makes every write that
returned before the flush began durable, and happens off the loop. Nobody may answer for a write
before the flush that covers it has returned (rule D1).

Every method raises `StorageError` when the disk or the data fails; the node must then stop
(rule D17: a failed flush is never tried again).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import StorageError
from ..net.poller import Poller
from ..raft.entry import Entry, HardState, SnapshotMeta

APPLIED_KEY = b"z"
"""The one key of the state that the storage knows: the index and term of the last applied entry.

The state machine writes it together with the effects, and it sorts behind every other key, so
that a snapshot whose end is missing has none and cannot be installed.
"""

_APPLIED = struct.Struct(">QQ")


def pack_applied(index: int, term: int) -> bytes:
    """Return the value of `APPLIED_KEY`."""
    return _APPLIED.pack(index, term)


def unpack_applied(value: bytes | None) -> tuple[int, int]:
    """Return index and term of the last applied entry; None (no such key) is the empty state.

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
    """Who a data directory belongs to; written once, when the directory is made.

    Attributes:
        cluster_id: The cluster's permanent id, 16 hex digits.
        node_id: This node's permanent id, 64 random bits, never 0.
    """

    cluster_id: str
    node_id: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found on disk, ready for the core (rule D19).

    Attributes:
        hard_state: Term, vote and commit; the commit is never above the last entry.
        snapshot: What the log starts after.
        entries: The entries after `snapshot.index`, contiguous, verified by CRC and chain hash.
        applied: The index up to which the state has taken effect.
        recover_to: Entries up to here were acknowledged and are lost: the node must neither vote
            nor stand until it has them again (`recovery.py`). 0: nothing is lost.
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

        Holds the GIL for each step: whoever iterates far yields to the loop every N keys.
        """
        ...

    def close(self) -> None:
        """Give the view up. Idempotent; a view that is kept pins old data on disk."""
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
            bulk: It is going to read everything once: that shall take no room from what is read
                often.
        """
        ...


class SnapshotInstall(Protocol):
    """A state on its way in, invisible until `Storage.install` switches to it."""

    def write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Add keys and values to the new state, unsynced."""
        ...

    def abort(self) -> None:
        """Throw the new state away. Idempotent, and harmless once it was installed."""
        ...


class Storage(Protocol):
    """One node's log, hard state and state."""

    @property
    def identity(self) -> Identity:
        """Who this directory belongs to."""
        ...

    @property
    def state(self) -> StateStore:
        """The state machine's keys. Stays valid across an installed snapshot."""
        ...

    def load(self) -> Recovered:
        """Read everything the core starts from, and drop what cannot be believed.

        May be called again before anything else is, with the same answer.
        """
        ...

    def recovered(self) -> None:
        """Forget a loss that `load` found: the log is durable up to `recover_to` again."""
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
            truncate_from: Drop every entry from this index on first, or None.
            entries: Entries that continue the log where it then ends.
        """
        ...

    async def flush(self) -> None:
        """Make durable every write that returned before this call.

        One flush at a time: the driver awaits one before it starts the next.

        Cancellation: the flush goes on in its thread; nothing may be concluded from it.
        """
        ...

    def attach(self, poller: Poller) -> None:
        """Let `flush_soon` tell by way of `poller`, if this storage can."""
        ...

    def flush_soon(self, done: Callable[[], None], then: Callable[[], None]) -> bool:
        """Begin what `flush` does; `done` is called when it has happened. False: await `flush`.

        Before `done`, in whatever thread knows it first, comes `then`, which must not wait.
        Of a flush that fails, the error is raised through the poller: the node must stop.
        """
        ...

    def compact(self, meta: SnapshotMeta) -> None:
        """Drop the entries up to `meta.index`, which the state has applied durably (rule D4).

        `meta.chain` is ignored: the storage knows its own.
        """
        ...

    def read(self, first: int, max_bytes: int) -> tuple[int, list[Entry]] | None:
        """Return the term of the entry before `first`, and the entries from there on.

        None: one of them is compacted, or not there yet. As many entries as `max_bytes` hold, and
        at least one.
        """
        ...

    def snapshot_meta_chain(self, index: int) -> bytes:
        """Return the chain hash of the log at `index`, which must not be compacted away."""
        ...

    def shortage(self) -> str:
        """Return why no new write should be taken, for lack of room; empty: there is room.

        Asks the file system: some microseconds.
        """
        ...

    def begin_install(self) -> SnapshotInstall:
        """Start receiving a whole state; an install begun before and not finished is dropped."""
        ...

    def install(self, staged: SnapshotInstall, meta: SnapshotMeta, hard_state: HardState) -> None:
        """Replace state and log by `staged` and `meta` in one atomic batch, unsynced (rule D11).

        After the next flush a crash finds the new state with an empty log after `meta.index`;
        before it, either the old or the new, never a mixture.
        """
        ...

    async def close(self) -> None:
        """Flush and close. Idempotent. A closed directory can be opened again in this process."""
        ...
