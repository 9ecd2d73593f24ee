"""`Storage` on RocksDB: one database per node, one write-ahead log (WAL) for all of it.

Owns which batches are written, and what must agree with what when they are read back. The bytes
are `codec.py`'s, the files `directory.py`'s, the library `engine.py`'s. Knows nothing of roles,
messages or commands.

Theory of operation. The default column family holds log, hard state and snapshot record; the
family `state-<generation>` holds the state machine's keys. Both share one WAL, and RocksDB keeps
its order: a crash leaves a prefix of the batches written, which contains all that was flushed. So
the order of writes is the order of durability:

Rule 1: entries, truncation and hard state are one batch (D3), its commit within the log (D6).
Rule 2: the state machine's batch holds the applied index beside the effects (D5), and is written
after the entries that it applied.
Rule 3: a compaction is written after the state that makes it possible (D4).
Rule 4: a snapshot is written to a family of a new generation, which nothing reads. Then one batch
switches the generation, empties the log, and writes hard state and snapshot record (D11). The old
family is dropped after a flush: a drop is durable at once, and must not come before the switch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rocksdict import WriteBatch

from ..errors import StorageError
from ..net.poller import Poller
from ..raft.entry import Entry, HardState, SnapshotMeta
from . import codec, recovery, rocks_recovery
from .directory import (
    DirectoryLock,
    check_cluster,
    database_path,
    encode_identity,
    making,
    read_identity,
    shortage,
)
from .engine import Engine, Family
from .interface import APPLIED_KEY, Identity, Recovered, SnapshotInstall, unpack_applied
from .recovery import RESET, Witness
from .rocks_state import RocksInstall, RocksState
from .witness import WitnessFile

__all__ = ["RocksStorage"]

_FIRST_GENERATION = 1
_CREATE_CACHE_BYTES = 1 << 20
_NOTHING_YET = HardState()


class RocksStorage:
    """`Storage` in one directory. Made by `open`; `load` must be called before anything else."""

    def __init__(
        self,
        path: Path,
        identity: Identity,
        engine: Engine,
        witness: WitnessFile,
        lock: DirectoryLock,
    ) -> None:
        self._path = path
        self._identity = identity
        self._engine = engine
        self._lock = lock
        self._generation = codec.decode_generation(engine.get(codec.GENERATION_KEY))
        self._state = RocksState(engine, _family_in_force(engine, self._generation))
        self._staged: RocksInstall | None = None
        self._doomed: list[str] = []
        self._loaded = False
        self._snapshot = SnapshotMeta()
        self._hard_state = HardState()
        self._batch = 0
        self._last_index = 0
        self._last_chain = codec.GENESIS
        self._witness = witness
        self._claimed = witness.found

    @classmethod
    def create(
        cls,
        path: Path,
        identity: Identity,
        *,
        hard_state: HardState = _NOTHING_YET,
        entries: Sequence[Entry] = (),
    ) -> None:
        """Make a data directory, durable when this returns; `open` it next.

        After a crash in the middle the directory has no data (`has_data` is false).

        Args:
            path: The data directory; made, with its parents, if it does not exist.
            identity: The node it will belong to, for good.
            hard_state: The hard state the node starts with.
            entries: The beginning of the log, from index 1, e.g. the first configuration.

        Raises:
            StorageError: The directory has a node's data already, or the disk refuses.
        """
        lock = DirectoryLock(path)
        try:
            with making(path, identity) as database:
                engine = Engine(database, _CREATE_CACHE_BYTES)
                try:
                    _initialize(engine, identity, hard_state, entries)
                finally:
                    engine.close_blocking()
        finally:
            lock.release()

    @classmethod
    def open(
        cls, path: Path, *, cache_bytes: int, expect_cluster: str | None = None
    ) -> RocksStorage:
        """Open a data directory that `create` made.

        Args:
            path: The data directory.
            cache_bytes: Capacity of the block cache (LRU) for everything read from disk.
            expect_cluster: The id of the cluster it must belong to, or None for any.

        Raises:
            StorageError: There is no data, another process uses it, it belongs to another
                cluster, a newer hstore wrote it, or it is damaged.
        """
        identity = read_identity(path)
        if expect_cluster is not None:
            check_cluster(path, identity, expect_cluster)
        lock = DirectoryLock(path)
        try:
            witness = WitnessFile(database_path(path))
            try:
                engine = Engine(database_path(path), cache_bytes, witness)
            except BaseException:
                witness.close()
                raise
            try:
                storage = cls(path, identity, engine, witness, lock)
                storage._check_identity()
                storage._drop_leftovers()
            except BaseException:
                engine.close_blocking()
                raise
        except BaseException:
            lock.release()
            raise
        return storage

    @property
    def identity(self) -> Identity:
        """The cluster and node that own this directory."""
        return self._identity

    @property
    def state(self) -> RocksState:
        """The state machine's keys. Stays valid across an installed snapshot."""
        return self._state

    def load(self) -> Recovered:
        """Read everything that the core starts from, and delete what cannot be trusted.

        Raises:
            StorageError: This node cannot start with this disk; the text says what to do.
        """
        applied = unpack_applied(self._state.get(APPLIED_KEY))
        found = recovery.recover(rocks_recovery.read(self._engine, applied, self._witness.found))
        if found.must_repair:
            rocks_recovery.repair(self._engine, found)
        recovered = found.recovered
        self._snapshot, self._hard_state = recovered.snapshot, recovered.hard_state
        self._batch, self._last_index = found.end.batch, found.end.index
        self._last_chain = found.end.chain
        self._loaded = True
        return recovered

    def recovered(self) -> None:
        """Delete the record of a loss: the log is durable up to `recover_to` again.

        Raises:
            StorageError: RocksDB refused.
        """
        self._check_loaded()
        self._write_log(lambda batch: batch.delete(codec.LOSS_KEY))

    def append(
        self,
        hard_state: HardState | None,
        truncate_from: int | None,
        entries: Sequence[Entry],
    ) -> None:
        """Write hard state, truncation and entries in one atomic batch, unsynced (rule D3).

        Raises:
            StorageError: RocksDB refused; or the entries leave a gap, or one to be truncated is
                committed or compacted, which no correct core asks for.
        """
        self._check_loaded()
        old_last = last = self._last_index
        chain = self._last_chain
        if truncate_from is not None:
            applied, _ = unpack_applied(self._state.get(APPLIED_KEY))
            fixed = max(self._hard_state.commit, self._snapshot.index, applied)
            if not fixed < truncate_from <= last + 1:
                raise StorageError(
                    f"entries from {truncate_from} on cannot be dropped: the log ends at {last}"
                    f" and is committed up to {fixed}"
                )
            last = truncate_from - 1
            chain = self._chain_at(last)
        records, chain = codec.encode_entries(entries, last, chain)
        last += len(entries)
        if hard_state is not None:
            commit = max(self._hard_state.commit, min(hard_state.commit, last))
            hard_state = HardState(hard_state.term, hard_state.vote, commit)

        def fill(batch: WriteBatch) -> None:
            put = batch.put
            if truncate_from is not None and truncate_from <= old_last:
                batch.delete_range(codec.entry_key(truncate_from), codec.entry_key(old_last + 1))
                batch.delete_range(codec.config_key(truncate_from), codec.CONFIG_END)
            for key, record in records:
                put(key, record)
            if hard_state is not None:
                put(codec.HARD_STATE_KEY, codec.encode_hard_state(hard_state))

        self._write_log(fill, last, chain)
        self._hard_state = hard_state or self._hard_state

    async def flush(self) -> None:
        """Make every write durable that returned before this call; see `Engine.flush`.

        Cancellation: the flush continues in its thread; whether it succeeds is unknown.

        Raises:
            StorageError: This flush or an earlier one failed.
        """
        doomed, claim = tuple(self._doomed), self._claim()
        await self._engine.flush()
        self._flushed(doomed, claim)

    def attach(self, poller: Poller) -> None:
        """See `Storage.attach`."""
        self._engine.attach(poller)

    def flush_soon(self, done: Callable[[], None], then: Callable[[], None]) -> bool:
        """See `Storage.flush_soon`."""
        doomed, claim = tuple(self._doomed), self._claim()

        def flushed(error: BaseException | None) -> None:
            if error is not None:
                raise error
            done()
            self._flushed(doomed, claim)

        return self._engine.flush_soon(flushed, then)

    def _claim(self) -> Witness:
        """Return what the witness may record once everything written until now is durable."""
        ballot = self._hard_state
        return Witness(self._batch, self._last_index, ballot.term, ballot.vote)

    def _flushed(self, doomed: tuple[str, ...], claim: Witness) -> None:
        if claim != self._claimed:
            self._witness.write(claim)
            self._claimed = claim
        for name in doomed:
            if name in self._doomed:  # Else an earlier flush has dropped it already.
                self._engine.drop_family(name)
                self._doomed.remove(name)

    def compact(self, meta: SnapshotMeta) -> None:
        """Drop the entries up to `meta.index`, which the state has applied (rule D4).

        Does nothing if they are compacted already.

        Raises:
            StorageError: RocksDB refused; or that entry is not applied, or has another term.
        """
        self._check_loaded()
        if meta.index <= self._snapshot.index:
            return
        applied, _ = unpack_applied(self._state.get(APPLIED_KEY))
        if meta.index > applied:
            raise StorageError(f"the log cannot be compacted to {meta.index}: {applied} is applied")
        chain, term = self._head_at(meta.index)
        if term != meta.term:
            raise StorageError(f"entry {meta.index} is of term {term}, not {meta.term}")
        snapshot = SnapshotMeta(meta.index, meta.term, meta.config, chain)
        first, end = codec.entry_key(0), codec.entry_key(meta.index + 1)

        def fill(batch: WriteBatch) -> None:
            batch.put(codec.SNAPSHOT_KEY, codec.encode_snapshot(snapshot))
            batch.delete_range(first, end)
            batch.delete_range(codec.CONFIG_START, codec.config_key(meta.index + 1))

        self._write_log(fill)
        self._snapshot = snapshot

    def read(self, first: int, max_bytes: int) -> tuple[int, list[Entry]] | None:
        """See `Storage.read`.

        Raises:
            StorageError: A record is damaged or missing.
        """
        self._check_loaded()
        if not self._snapshot.index < first <= self._last_index:
            return None
        if first - 1 == self._snapshot.index:
            chain, term = self._chain_at(first - 1), self._snapshot.term
        else:
            chain, term = self._head_at(first - 1)
        entries: list[Entry] = []
        size = 0
        view = self._engine.view(bulk=True)  # Read once, for a member that is far behind.
        try:
            for key, record in view.scan(codec.entry_key(first), codec.ENTRY_END):
                size += len(record)
                if entries and size > max_bytes:
                    break
                entry, chain = codec.decode_entry(first + len(entries), record, chain)
                if codec.entry_index(key) != entry.index:
                    raise StorageError(f"entry {entry.index} is missing in {self._path}")
                entries.append(entry)
        finally:
            view.close()
        return term, entries

    def snapshot_meta_chain(self, index: int) -> bytes:
        """Return the chain hash of the log at `index`, which must not be compacted away.

        Raises:
            StorageError: It is compacted away, or not there yet.
        """
        self._check_loaded()
        return self._chain_at(index)

    def shortage(self) -> str:
        """See `Storage.shortage`.

        Raises:
            StorageError: The file system does not answer.
        """
        return shortage(self._path)

    def begin_install(self) -> RocksInstall:
        """Begin to receive a whole state. An install begun before and not finished is aborted."""
        self._check_loaded()
        if self._staged is not None:
            self._staged.abort()
        generation = 1 + max(_generation_of(name) for name in self._engine.families())
        family = self._engine.create_family(_family_name(generation))
        self._staged = RocksInstall(self._engine, family, generation)
        return self._staged

    def install(self, staged: SnapshotInstall, meta: SnapshotMeta, hard_state: HardState) -> None:
        """Replace state and log by `staged` and `meta` in one atomic batch, unsynced (rule D11).

        Raises:
            StorageError: RocksDB refused; or `staged` was aborted, or is not the whole state at
                `meta.index`.
        """
        self._check_loaded()
        ready = self._staged
        if ready is None or ready is not staged:
            raise StorageError("the state to install was given up, or is installed")
        family = ready.family
        if unpack_applied(family.get(APPLIED_KEY)) != (meta.index, meta.term):
            raise StorageError(f"the state received is not the whole state at entry {meta.index}")
        if len(meta.chain) != codec.CHAIN_SIZE:
            raise StorageError(f"the snapshot at entry {meta.index} has no chain hash")
        if meta.index <= max(self._snapshot.index, self._hard_state.commit):
            raise StorageError(
                f"a snapshot at entry {meta.index} cannot replace a log that is committed up to"
                f" {self._hard_state.commit}"
            )
        hard_state = HardState(hard_state.term, hard_state.vote, meta.index)

        def fill(batch: WriteBatch) -> None:
            batch.put(codec.GENERATION_KEY, codec.encode_generation(ready.generation))
            batch.put(codec.SNAPSHOT_KEY, codec.encode_snapshot(meta))
            batch.put(codec.HARD_STATE_KEY, codec.encode_hard_state(hard_state))
            batch.delete_range(codec.entry_key(0), codec.ENTRY_END)
            batch.delete_range(codec.CONFIG_START, codec.CONFIG_END)

        self._write_log(fill, meta.index, meta.chain)
        ready.finish()
        self._doomed.append(_family_name(self._generation))
        self._staged, self._generation = None, ready.generation
        self._state.family = family
        self._snapshot, self._hard_state = meta, hard_state

    async def close(self) -> None:
        """Flush and close. Idempotent. A closed directory can be opened again in this process.

        Cancellation: shielded, for at most 10 s.
        """
        try:
            await self._engine.close()
        finally:
            self._lock.release()

    def _check_identity(self) -> None:
        if self._engine.get(codec.IDENTITY_KEY) != encode_identity(self._identity):
            raise StorageError(
                f"{database_path(self._path)} is a mixture: hstore.json and the database are not"
                " of the same node"
            )

    def _drop_leftovers(self) -> None:
        """Drop the states that are not in force, left by an install that a crash interrupted."""
        current = _family_name(self._generation)
        for name in self._engine.families():
            if name != current:
                self._engine.drop_family(name)

    def _chain_at(self, index: int) -> bytes:
        if index == self._last_index:
            return self._last_chain
        if index == self._snapshot.index:
            return self._snapshot.chain if index else codec.GENESIS
        return self._head_at(index)[0]

    def _head_at(self, index: int) -> tuple[bytes, int]:
        """Return chain hash and term of an entry in the log."""
        record = self._engine.get(codec.entry_key(index))
        if record is None:
            raise StorageError(
                f"entry {index} is not in the log, which goes from {self._snapshot.index + 1} to"
                f" {self._last_index}"
            )
        chain, term, _ = codec.entry_head(index, record)
        return chain, term

    def _write_log(
        self, fill: Callable[[WriteBatch], None], last: int = -1, chain: bytes = b""
    ) -> None:
        """Write a batch that changes the log, which ends at `last` then (-1: where it does now)."""
        if last < 0:
            last, chain = self._last_index, self._last_chain
        # See `recovery.py`: the number and end of each batch are what a witness is compared with.
        end = codec.encode_end(codec.End(self._batch + 1, last, chain))

        def fill_all(batch: WriteBatch) -> None:
            fill(batch)
            batch.put(codec.END_KEY, end)

        self._engine.write(fill_all)
        self._batch += 1
        self._last_index, self._last_chain = last, chain

    def _check_loaded(self) -> None:
        if not self._loaded:
            raise StorageError("load() comes first: it verifies what everything else builds on")


def _initialize(
    engine: Engine, identity: Identity, hard_state: HardState, entries: Sequence[Entry]
) -> None:
    """Write the first batch of an empty database."""
    engine.create_family(_family_name(_FIRST_GENERATION))
    records, chain = codec.encode_entries(entries, 0, codec.GENESIS)
    end = codec.End(1, len(entries), chain)
    commit = min(hard_state.commit, len(entries))
    hard_state = HardState(hard_state.term, hard_state.vote, commit)

    def fill(batch: WriteBatch) -> None:
        batch.put(codec.IDENTITY_KEY, encode_identity(identity))
        batch.put(codec.GENERATION_KEY, codec.encode_generation(_FIRST_GENERATION))
        batch.put(codec.HARD_STATE_KEY, codec.encode_hard_state(hard_state))
        batch.put(codec.SNAPSHOT_KEY, codec.encode_snapshot(SnapshotMeta()))
        batch.put(codec.END_KEY, codec.encode_end(end))
        for key, record in records:
            batch.put(key, record)

    engine.write(fill)


def _family_name(generation: int) -> str:
    return f"state-{generation}"


def _family_in_force(engine: Engine, generation: int) -> Family:
    """Return the state's family. It is missing if the record of its successor was lost."""
    name = _family_name(generation)
    if name not in engine.families():
        raise StorageError(f"the state is missing: the database has no {name}. {RESET}")
    return engine.family(name)


def _generation_of(name: str) -> int:
    return int(name.removeprefix("state-"))
