"""A `Storage` in memory that forgets what was not flushed, and fails as it is told to.

It passes the contract suite of `RocksStorage` (tests/node/storage/test_contract.py), so a test
that is green on it says something about the real one. Time is trio's, hence virtual under an
autojump clock.

    disk = MemoryDisk(Identity("0011223344556677", 1))
    storage = disk.open()
    storage.load()
    ...
    disk.crash()                # power cut: all that no finished flush covers is gone
    storage = disk.open()       # the old object raises StorageError from now on
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import trio

from hstore.node.errors import StorageError
from hstore.node.raft.entry import Entry, HardState, SnapshotMeta
from hstore.node.storage import codec
from hstore.node.storage.interface import (
    APPLIED_KEY,
    Identity,
    Recovered,
    SnapshotInstall,
    unpack_applied,
)


@dataclass
class _Image:
    """What a disk holds. Batches are functions that change one."""

    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotMeta = field(default_factory=SnapshotMeta)
    entries: list[tuple[Entry, bytes]] = field(default_factory=list)  # each with its chain hash
    state: dict[bytes, bytes] = field(default_factory=dict)

    def copy(self) -> _Image:
        return _Image(self.hard_state, self.snapshot, list(self.entries), dict(self.state))


_Batch = Callable[[_Image], None]


class MemoryDisk:
    """What survives a crash, and how the disk behaves.

    Attributes:
        flush_delay_s: How long each flush takes.
        flush_gate: When set, no flush ends before this event is set: a hanging disk.
        flush_error: When set, the next flush fails with this text, and all that follow.
        write_error: When set, the next write fails with this text, and all that follow.
        flushes: How many flushes have ended.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
    ) -> None:
        self.identity = identity
        self.flush_delay_s = 0.0
        self.flush_gate: trio.Event | None = None
        self.flush_error: str | None = None
        self.write_error: str | None = None
        self.flushes = 0
        self.durable = _Image(hard_state or HardState())
        chain = codec.GENESIS
        for entry in entries:
            _, chain = codec.encode_entry(entry, chain)
            self.durable.entries.append((entry, chain))
        self.live = self.durable.copy()
        self.unflushed: list[_Batch] = []
        self._storage: MemoryStorage | None = None

    def open(self) -> MemoryStorage:
        """Return the one storage on this disk."""
        if self._storage is not None:
            raise StorageError("this disk is in use by process 0")
        self._storage = MemoryStorage(self)
        return self._storage

    def crash(self, keep: int = 0) -> None:
        """Cut the power: only what was flushed is left, and the first `keep` batches after it."""
        for batch in self.unflushed[:keep]:
            batch(self.durable)
        self.unflushed.clear()
        self.live = self.durable.copy()
        if self._storage is not None:
            self._storage.failure = "the power was cut"
        self._storage = None

    def write(self, batch: _Batch) -> None:
        """Let a batch take effect, not durably."""
        batch(self.live)
        self.unflushed.append(batch)

    def sync(self, count: int) -> None:
        """Make the first `count` unflushed batches durable."""
        for batch in self.unflushed[:count]:
            batch(self.durable)
        del self.unflushed[:count]

    def detach(self) -> None:
        """Let another storage be opened."""
        self._storage = None


class MemoryStorage:
    """The storage on a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk
        self.failure: str | None = None
        self._state = MemoryState(self)
        self._staged: MemoryInstall | None = None
        self._loaded = False
        self._flushing = False

    @property
    def disk(self) -> MemoryDisk:
        return self._disk

    @property
    def identity(self) -> Identity:
        return self._disk.identity

    @property
    def state(self) -> MemoryState:
        return self._state

    def load(self) -> Recovered:
        image = self.image()
        applied, _ = unpack_applied(image.state.get(APPLIED_KEY))
        last = image.snapshot.index + len(image.entries)
        if not image.snapshot.index <= applied <= last:
            raise StorageError("entries were lost")
        self._loaded = True
        term, vote, commit = image.hard_state.term, image.hard_state.vote, image.hard_state.commit
        hard_state = HardState(term, vote, max(commit, applied))
        return Recovered(hard_state, image.snapshot, [e for e, _ in image.entries], applied)

    def append(
        self,
        hard_state: HardState | None,
        truncate_from: int | None,
        entries: Sequence[Entry],
    ) -> None:
        image = self._ready()
        first = image.snapshot.index
        last = first + len(image.entries)
        applied, _ = unpack_applied(image.state.get(APPLIED_KEY))
        if truncate_from is not None:
            if not max(first, image.hard_state.commit, applied) < truncate_from <= last + 1:
                raise StorageError(f"entries from {truncate_from} on cannot be dropped")
            last = truncate_from - 1
        keep = last - first
        chain = self._chain_at(last)
        records = []
        for entry in entries:
            last += 1
            if entry.index != last:
                raise StorageError(f"entry {entry.index} does not follow entry {last - 1}")
            _, chain = codec.encode_entry(entry, chain)
            records.append((entry, chain))
        if hard_state is not None:
            commit = max(image.hard_state.commit, min(hard_state.commit, last))
            hard_state = HardState(hard_state.term, hard_state.vote, commit)

        def batch(image: _Image) -> None:
            image.entries[keep:] = records
            if hard_state is not None:
                image.hard_state = hard_state

        self.commit(batch)

    async def flush(self) -> None:
        self.image()
        assert not self._flushing, "one flush at a time"
        disk = self._disk
        covered = len(disk.unflushed)
        self._flushing = True
        try:
            await trio.sleep(disk.flush_delay_s)
            if disk.flush_gate is not None:
                await disk.flush_gate.wait()
        finally:
            self._flushing = False
        if disk.flush_error is not None:
            self.failure = disk.flush_error
        if self.failure is not None:  # a crash while it flushed is one too
            raise StorageError(self.failure)
        disk.sync(covered)
        disk.flushes += 1

    def compact(self, meta: SnapshotMeta) -> None:
        image = self._ready()
        count = meta.index - image.snapshot.index
        if count <= 0:
            return
        applied, _ = unpack_applied(image.state.get(APPLIED_KEY))
        if meta.index > applied:
            raise StorageError(f"the log cannot be compacted to {meta.index}: {applied} is applied")
        entry, chain = image.entries[count - 1]
        if entry.term != meta.term:
            raise StorageError(f"entry {meta.index} is of term {entry.term}, not {meta.term}")
        snapshot = SnapshotMeta(meta.index, meta.term, meta.config, chain)

        def batch(image: _Image) -> None:
            image.snapshot = snapshot
            del image.entries[:count]

        self.commit(batch)

    def read(self, first: int, max_bytes: int) -> tuple[int, list[Entry]] | None:
        image = self._ready()
        at = first - image.snapshot.index - 1
        if not 0 <= at < len(image.entries):
            return None
        term = image.entries[at - 1][0].term if at else image.snapshot.term
        found: list[Entry] = []
        size = 0
        for entry, _ in image.entries[at:]:
            size += len(entry.data)
            if found and size > max_bytes:
                break
            found.append(entry)
        return term, found

    def snapshot_meta_chain(self, index: int) -> bytes:
        self._ready()
        return self._chain_at(index)

    def begin_install(self) -> MemoryInstall:
        self._ready()
        if self._staged is not None:
            self._staged.abort()
        self._staged = MemoryInstall()
        return self._staged

    def install(self, staged: SnapshotInstall, meta: SnapshotMeta, hard_state: HardState) -> None:
        image = self._ready()
        ready = self._staged
        if ready is None or ready is not staged or ready.pairs is None:
            raise StorageError("the state to install was given up, or is installed")
        if unpack_applied(ready.pairs.get(APPLIED_KEY)) != (meta.index, meta.term):
            raise StorageError(f"the state received is not the whole state at entry {meta.index}")
        if len(meta.chain) != codec.CHAIN_SIZE:
            raise StorageError(f"the snapshot at entry {meta.index} has no chain hash")
        if meta.index <= max(image.snapshot.index, image.hard_state.commit):
            raise StorageError(f"the snapshot at entry {meta.index} cannot take the log's place")
        pairs = dict(ready.pairs)

        def batch(image: _Image) -> None:
            image.state = dict(pairs)
            image.snapshot = meta
            image.entries = []
            image.hard_state = HardState(hard_state.term, hard_state.vote, meta.index)

        self.commit(batch)
        self._staged = ready.pairs = None

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.failure is None:
            self._disk.sync(len(self._disk.unflushed))
            self._disk.detach()
            self.failure = "the storage is closed"

    def image(self) -> _Image:
        """Return what is there now, for reading."""
        if self.failure is not None:
            raise StorageError(self.failure)
        return self._disk.live

    def commit(self, batch: _Batch) -> None:
        """Write a batch, not durably."""
        self.image()
        if self._disk.write_error is not None:
            self.failure = self._disk.write_error
            raise StorageError(self.failure)
        self._disk.write(batch)

    def _ready(self) -> _Image:
        if not self._loaded:
            raise StorageError("load() comes first")
        return self.image()

    def _chain_at(self, index: int) -> bytes:
        image = self.image()
        at = index - image.snapshot.index
        if at == 0:
            return image.snapshot.chain if index else codec.GENESIS
        if not 0 < at <= len(image.entries):
            raise StorageError(f"entry {index} is not in the log")
        return image.entries[at - 1][1]


class MemoryState:
    """The state machine's keys."""

    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage

    def get(self, key: bytes) -> bytes | None:
        return self._storage.image().state.get(key)

    def write(
        self,
        puts: Iterable[tuple[bytes, bytes]],
        deletes: Iterable[bytes] = (),
        delete_ranges: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        pairs, gone, ranges = dict(puts), set(deletes), list(delete_ranges)
        assert not gone & pairs.keys(), "a key is both put and deleted"

        def batch(image: _Image) -> None:
            for start, end in ranges:
                for key in [key for key in image.state if start <= key < end]:
                    del image.state[key]
            for key in gone:
                image.state.pop(key, None)
            image.state.update(pairs)

        self._storage.commit(batch)

    def view(self, *, bulk: bool = False) -> MemoryView:
        return MemoryView(dict(self._storage.image().state))


class MemoryView:
    """A copy of the keys as of one moment."""

    def __init__(self, pairs: dict[bytes, bytes]) -> None:
        self._pairs: dict[bytes, bytes] | None = pairs

    def get(self, key: bytes) -> bytes | None:
        return self._open().get(key)

    def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        keys = sorted(k for k in self._open() if k >= start and (end is None or k < end))
        return ((key, self._open()[key]) for key in keys)

    def close(self) -> None:
        self._pairs = None

    def _open(self) -> dict[bytes, bytes]:
        if self._pairs is None:
            raise StorageError("this view of the state is closed")
        return self._pairs


class MemoryInstall:
    """A state on its way in."""

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] | None = {}

    def write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        if self.pairs is None:
            raise StorageError("the state to install was given up, or is installed")
        self.pairs.update(pairs)

    def abort(self) -> None:
        self.pairs = None
