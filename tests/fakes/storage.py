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

What it remembers of its log, and what it makes of a damaged one, is decided by the same
`recovery.recover` as on RocksDB: batches have numbers, a flush leaves a witness. Faults:

    disk.flush_gate = trio.Event()      # a flush hangs, until it is set
    disk.flush_delay_s = 3.0            # a slow disk
    disk.flush_error = "EIO"            # every flush fails from now on
    disk.flush_error_once = "EIO"       # one fails, and what it covered is gone; later ones "succeed"
    disk.write_error = "ENOSPC"         # every write fails from now on
    disk.room = Room(3 << 20, 256 << 20)    # so much is free, and so much needed
    disk.capacity = 64_000              # the room is what is left of that; beyond it writes fail
    disk.read_error = "EIO"             # every read of the state fails from now on
    disk.crash(keep=2)                  # of what no flush covers, two batches reach the disk
    disk.crash(stale_witness=True)      # the last writing of the witness did not
  and, between a crash and the next `open`:
    disk.damage(index)                  # a bit flips in an entry that was flushed
    disk.damage_hard_state()            # term and vote cannot be read
    disk.lose_flushed(3)                # the last three flushed batches are gone (see `remember`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import trio

from hstore.node.errors import StorageError
from hstore.node.net.poller import Poller
from hstore.node.raft.entry import Entry, EntryKind, HardState, SnapshotMeta
from hstore.node.storage import codec
from hstore.node.storage.codec import End, Loss
from hstore.node.storage.interface import (
    APPLIED_KEY,
    CacheLooks,
    DiskFigures,
    Identity,
    Recovered,
    Room,
    SnapshotInstall,
    Use,
    unpack_applied,
)
from hstore.node.storage.recovery import OnDisk, Witness, recover

_ENTRY = 40
"""Bytes of an entry beside its payload."""


@dataclass
class _Image:
    """What a disk holds. Batches are functions that change one."""

    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotMeta = field(default_factory=SnapshotMeta)
    entries: list[tuple[Entry, bytes]] = field(default_factory=list)  # each with its chain hash
    state: dict[bytes, bytes] = field(default_factory=dict)
    end: End = field(default_factory=lambda: End(1, 0, codec.GENESIS))
    loss: Loss | None = None
    configs: dict[int, bytes] = field(default_factory=dict)  # second copies of their records
    damaged: set[int] = field(default_factory=set)
    has_hard_state: bool = True
    cluster_id: str = ""  # of whom the database is, as it says itself

    def copy(self) -> _Image:
        return replace(
            self,
            entries=list(self.entries),
            state=dict(self.state),
            configs=dict(self.configs),
            damaged=set(self.damaged),
        )

    def cut(self, first: int, last: int) -> None:
        """Forget what is only known by its index outside `first` to `last`."""
        self.configs = {i: r for i, r in self.configs.items() if first <= i <= last}
        self.damaged = {i for i in self.damaged if first <= i <= last}

    def records(self, first: int) -> Iterator[tuple[int, bytes | None]]:
        """Read the log as a disk would."""
        chain = self.snapshot.chain or codec.GENESIS
        for at, (entry, own) in enumerate(self.entries, self.snapshot.index + 1):
            if at >= first:
                record, _ = codec.encode_entry(entry, chain)
                yield at, record[:-1] + bytes([record[-1] ^ 1]) if at in self.damaged else record
            chain = own


_Batch = Callable[[_Image], None]


class MemoryDisk:
    """What survives a crash, and how the disk behaves.

    Attributes:
        flush_delay_s: How long each flush takes.
        flush_gate: When set, no flush ends before this event is set: a hanging disk.
        flush_error: When set, the next flush fails with this text, and all that follow.
        flush_error_once: When set, the next flush fails with this text, and what it covers never
            becomes durable; whoever flushes again is told that all is well (fsyncgate).
        write_error: When set, the next write fails with this text, and all that follow.
        read_error: When set, reading the state fails with this text.
        room: What the file system says, unless there is a `capacity`.
        capacity: When set, bytes that the disk holds, of which a quarter is kept free. What was
            deleted keeps its place until `MemoryStorage.reclaim`.
        reclaims: How often that was called.
        flushes: How many flushes have ended.
        remember: How many flushed batches `lose_flushed` can take back.
        witness: What the last flush left outside the log.
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
        self.room = Room(1 << 40, 256 << 20, "here")
        self.capacity: int | None = None
        self.reclaims = 0
        self._taken = 0
        self.flush_error_once: str | None = None
        self.write_error: str | None = None
        self.read_error: str | None = None
        self.flushes = 0
        self.remember = 0
        self.witness: Witness | None = None
        self._witness_before: Witness | None = None
        self.durable = _Image(hard_state or HardState(), cluster_id=identity.cluster_id)
        chain = codec.GENESIS
        for entry in entries:
            record, chain = codec.encode_entry(entry, chain)
            self.durable.entries.append((entry, chain))
            if entry.kind == EntryKind.CONFIG:
                self.durable.configs[entry.index] = record
        self.durable.end = End(1, len(entries), chain)
        self._base = self.durable.copy()
        self._flushed: list[_Batch] = []
        self.live = self.durable.copy()
        self.unflushed: list[_Batch] = []
        self._storage: MemoryStorage | None = None

    def open(self, use: Use = Use.SERVE) -> MemoryStorage:
        """Return the one storage on this disk."""
        if self._storage is not None:
            raise StorageError("this disk is in use by process 0")
        if use is Use.SERVE and self.live.cluster_id != self.identity.cluster_id:
            raise StorageError("`hstore recover` was cut short: ... --as-only-voter finishes it")
        self._storage = MemoryStorage(self)
        return self._storage

    def image(self) -> MemoryDisk:
        """Return another disk with all that is durable on this one, as an image of it has."""
        other = MemoryDisk(self.identity)
        other.durable, other.live = self.durable.copy(), self.durable.copy()
        other._base, other.witness = self.durable.copy(), self.witness
        return other

    def crash(self, keep: int = 0, *, stale_witness: bool = False) -> None:
        """Cut the power: only what was flushed is left, and the first `keep` batches after it."""
        self.sync(min(keep, len(self.unflushed)))
        self.unflushed.clear()
        if stale_witness:
            self.witness = self._witness_before
        self.live = self.durable.copy()
        self._measure_taken()
        if self._storage is not None:
            self._storage.failure = "the power was cut"
        self._storage = None

    def write(self, batch: _Batch, size: int = 0) -> None:
        """Let a batch take effect, not durably.

        Raises:
            StorageError: It does not fit on the disk.
        """
        if self.capacity is not None:
            if self._taken + size > self.capacity:
                raise StorageError("No space left on device")
            self._taken += size
        batch(self.live)
        self.unflushed.append(batch)

    def measure(self) -> Room:
        """Return how much room there is."""
        if self.capacity is None:
            return self.room
        return Room(self.capacity - self._taken, self.capacity // 4, "here")

    def reclaim(self) -> None:
        """Free what is deleted."""
        self.reclaims += 1
        self._measure_taken()

    def _measure_taken(self) -> None:
        image = self.live
        self._taken = sum(_ENTRY + len(entry.data) for entry, _ in image.entries)
        self._taken += sum(len(key) + len(value) for key, value in image.state.items())

    def sync(self, count: int) -> None:
        """Make the first `count` unflushed batches durable."""
        for batch in self.unflushed[:count]:
            batch(self.durable)
        if self.remember:
            self._flushed += self.unflushed[:count]
            while len(self._flushed) > self.remember:
                self._flushed.pop(0)(self._base)
        del self.unflushed[:count]

    def testify(self, witness: Witness) -> None:
        """Write the witness down, as a flush does that has ended."""
        self._witness_before, self.witness = self.witness, witness

    def damage(self, index: int) -> None:
        """Flip a bit in the entry at `index`."""
        self.durable.damaged.add(index)
        self.live = self.durable.copy()

    def damage_hard_state(self) -> None:
        """Make term and vote unreadable."""
        self.durable.has_hard_state = False
        self.live = self.durable.copy()

    def remember_from_now(self, count: int) -> None:
        """Let `lose_flushed` take back up to `count` of the batches that are flushed from now on."""
        self._base, self._flushed, self.remember = self.durable.copy(), [], count

    def lose_flushed(self, count: int) -> None:
        """Take back the last `count` flushed batches, at most `remember`; `remember` came first."""
        del self._flushed[len(self._flushed) - min(count, len(self._flushed)) :]
        self.durable = self._base.copy()
        for batch in self._flushed:
            batch(self.durable)
        self.live = self.durable.copy()

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
        found = recover(
            OnDisk(
                image.hard_state if image.has_hard_state else None,
                image.snapshot,
                image.end,
                image.loss,
                *unpack_applied(image.state.get(APPLIED_KEY)),
                image.records,
                sorted(image.configs.items()),
                self._disk.witness,
            )
        )
        recovered = found.recovered
        loss = Loss(recovered.recover_to, recovered.lost) if recovered.recover_to else None
        chains = {entry.index: chain for entry, chain in image.entries}
        entries = [(entry, chains[entry.index]) for entry in recovered.entries]

        def repair(image: _Image) -> None:
            image.hard_state, image.has_hard_state = recovered.hard_state, True
            image.snapshot, image.entries = recovered.snapshot, list(entries)
            image.end, image.loss = found.end, loss
            image.configs, image.damaged = dict(found.copies), set()

        if found.must_repair:
            self.commit(repair)
        self._loaded = True
        return recovered

    def lost(self, recover_to: int, text: str) -> None:
        self._ready()

        def note(image: _Image) -> None:
            image.loss = Loss(recover_to, text)

        self._commit_log(note)

    def recovered(self) -> None:
        self._ready()

        def forget(image: _Image) -> None:
            image.loss = None

        self._commit_log(forget)

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
        records, configs, last, chain = self._encoded(entries, last)
        if hard_state is not None:
            commit = max(image.hard_state.commit, min(hard_state.commit, last))
            hard_state = HardState(hard_state.term, hard_state.vote, commit)

        def batch(image: _Image) -> None:
            image.entries[keep:] = records
            image.cut(0, first + keep)
            image.configs |= configs
            if hard_state is not None:
                image.hard_state = hard_state

        size = sum(_ENTRY + len(entry.data) for entry in entries)
        self._commit_log(batch, last, chain, size=size)

    def _encoded(
        self, entries: Sequence[Entry], last: int
    ) -> tuple[list[tuple[Entry, bytes]], dict[int, bytes], int, bytes]:
        """Return the records of entries that follow `last`, those of configurations, and the new end."""
        chain = self._chain_at(last)
        records, configs = [], {}
        for entry in entries:
            last += 1
            if entry.index != last:
                raise StorageError(f"entry {entry.index} does not follow entry {last - 1}")
            record, chain = codec.encode_entry(entry, chain)
            records.append((entry, chain))
            if entry.kind == EntryKind.CONFIG:
                configs[entry.index] = record
        return records, configs, last, chain

    def become(self, identity: Identity, hard_state: HardState, entries: Sequence[Entry]) -> None:
        first = self._ready().snapshot.index
        last = first + len(self.image().entries)
        records, configs, last, chain = self._encoded(entries, last)
        self._disk.identity = identity  # a file of its own, durable at once

        def batch(image: _Image) -> None:
            image.entries += records
            image.configs |= configs
            image.hard_state, image.loss = hard_state, None
            image.cluster_id = identity.cluster_id

        self._commit_log(batch, last, chain)

    def attach(self, poller: Poller) -> None:
        """There is no thread whose end would have to be told."""

    def flush_soon(self, done: Callable[[], None], then: Callable[[], bool]) -> bool:
        """Time is virtual here: flushes are awaited."""
        return False

    def want_flush_end(self, *, is_wanted: bool) -> None:
        """Flushes are awaited here."""

    def take_flush_end(self) -> None:
        """Flushes are awaited here."""

    async def flush(self) -> None:
        finish = self.begin_flush()
        disk = self._disk
        try:
            await trio.sleep(disk.flush_delay_s)
            if disk.flush_gate is not None:
                await disk.flush_gate.wait()
        finally:
            self._flushing = False
        finish()

    def begin_flush(self) -> Callable[[], None]:
        """Begin a flush, and return what ends it: to be called once, later."""
        self.image()
        assert not self._flushing, "one flush at a time"
        disk = self._disk
        covered = len(disk.unflushed)
        end, ballot = disk.live.end, disk.live.hard_state
        witness = Witness(end.batch, end.index, ballot.term, ballot.vote)
        self._flushing = True

        def finish() -> None:
            self._flushing = False
            if disk.flush_error is not None:
                self.failure = disk.flush_error
            if self.failure is not None:  # a crash while it flushed is one too
                raise StorageError(self.failure)
            if disk.flush_error_once is not None:
                error, disk.flush_error_once = disk.flush_error_once, None
                del disk.unflushed[:covered]
                raise StorageError(error)
            disk.sync(covered)
            disk.testify(witness)
            disk.flushes += 1

        return finish

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
            image.cut(snapshot.index + 1, 1 << 64)

        self._commit_log(batch)

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

    def room(self) -> Room:
        self.image()
        return self._disk.measure()

    def figures(self) -> DiskFigures:
        return DiskFigures()

    def cache_looks(self) -> CacheLooks:
        return CacheLooks()

    async def reclaim(self) -> None:
        self.image()
        await trio.sleep(0.05)
        if self.failure is None:
            self._disk.reclaim()

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
            image.cut(1, 0)
            image.hard_state = HardState(hard_state.term, hard_state.vote, meta.index)

        self._commit_log(batch, meta.index, meta.chain)
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

    def readable(self) -> _Image:
        """Return what is there now, for reading the state."""
        image = self.image()
        if self._disk.read_error is not None:
            self.failure = self._disk.read_error
            raise StorageError(self.failure)
        return image

    def commit(self, batch: _Batch, size: int = 0) -> None:
        """Write a batch of this size, not durably."""
        self.image()
        if self._disk.write_error is not None:
            self.failure = self._disk.write_error
            raise StorageError(self.failure)
        try:
            self._disk.write(batch, size)
        except StorageError as error:
            self.failure = str(error)
            raise

    def _commit_log(
        self, batch: _Batch, last: int = -1, chain: bytes = b"", *, size: int = 0
    ) -> None:
        """Write a batch on the log, which then ends at `last`, or where it did."""
        end = self.image().end
        end = (
            End(end.batch + 1, last, chain)
            if last >= 0
            else End(end.batch + 1, end.index, end.chain)
        )

        def numbered(image: _Image) -> None:
            batch(image)
            image.end = end

        self.commit(numbered, size)

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
        return self._storage.readable().state.get(key)

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

        size = sum(len(key) + len(value) for key, value in pairs.items())
        self._storage.commit(batch, size)

    def view(self, *, bulk: bool = False) -> MemoryView:
        return MemoryView(dict(self._storage.readable().state))


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
