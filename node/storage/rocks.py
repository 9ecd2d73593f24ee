"""`Storage` on RocksDB: one database per node, one write-ahead log (WAL) for all of it.

Owns the order of writes and flushes, and what must agree with what when they are read back. The
batches of the log are `rocks_log.py`'s, those of the state `rocks_state.py`'s, the bytes
`codec.py`'s, the files `directory.py`'s, the library `engine.py`'s. Knows nothing of roles, messages
or commands.

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

from ..errors import StorageError
from ..net.poller import Poller
from ..raft.entry import Entry, HardState, SnapshotMeta
from . import codec, recovery, rocks_recovery
from .codec import Loss
from .directory import (
    DirectoryLock,
    check_cluster,
    database_path,
    is_record_of,
    making,
    read_identity,
    recovered_from,
    replace_identity,
    room,
    take_over,
)
from .engine import Engine
from .interface import (
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
from .options import TABLES_OPEN
from .recovery import Witness
from .rocks_log import RocksLog, write_first_batch
from .rocks_state import (
    FIRST_GENERATION,
    RocksInstall,
    RocksState,
    family_in_force,
    family_name,
    generation_of,
)
from .witness import WitnessFile

__all__ = ["RocksStorage"]

_CREATE_CACHE_BYTES = 1 << 20
_NOTHING_YET = HardState()
_NOT_LOADED = "load() comes first: it verifies what everything else builds on"


class RocksStorage:
    """`Storage` in one directory. Made by `open`; `load` must be called before anything else.

    Attributes:
        is_unfinished: Whether `become` was begun here, and cut short.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        engine: Engine,
        witness: WitnessFile,
        lock: DirectoryLock,
        *,
        use: Use,
    ) -> None:
        self._path = path
        self._use = use
        self.is_unfinished = False
        self._identity = identity
        self._engine = engine
        self._lock = lock
        self._generation = codec.decode_generation(engine.get(codec.GENERATION_KEY))
        self._state = RocksState(engine, family_in_force(engine, self._generation))
        self._log: RocksLog | None = None
        self._staged: RocksInstall | None = None
        self._doomed: list[str] = []
        self._witness = witness
        self._claimed = witness.found
        self._check_identity()
        if use is not Use.LOOK:
            self._drop_leftovers()

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
                    engine.create_family(family_name(FIRST_GENERATION))
                    write_first_batch(engine, identity, hard_state, entries)
                finally:
                    engine.close_blocking()
        finally:
            lock.release()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        cache_bytes: int,
        tables_open: int = TABLES_OPEN,
        expect_cluster: str | None = None,
        use: Use = Use.SERVE,
    ) -> RocksStorage:
        """Open a data directory that `create` made.

        Args:
            path: The data directory.
            cache_bytes: Capacity of the block cache (LRU) for everything read from disk.
            tables_open: How many tables RocksDB keeps open, each a file descriptor.
            expect_cluster: The id of the cluster it must belong to, or None for any.
            use: What for.

        Raises:
            StorageError: There is no data, another process uses it, it belongs to another
                cluster, a newer hstore wrote it, it is damaged, or `become` was cut short here and
                `use` is not to finish that.
        """
        identity = read_identity(path)
        if expect_cluster is not None:
            check_cluster(path, identity, expect_cluster)
        lock = DirectoryLock(path)
        try:
            read_only = use is Use.LOOK
            witness = WitnessFile(database_path(path), read_only=read_only)
            try:
                engine = Engine(
                    database_path(path), cache_bytes, witness, tables_open, read_only=read_only
                )
            except BaseException:
                witness.close()
                raise
            try:
                storage = cls(path, identity, engine, witness, lock, use=use)
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
    def durable(self) -> Witness | None:
        """What was durable for certain when the last flush ended; None: nothing is known."""
        return self._claimed

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
        if found.must_repair and self._use is not Use.LOOK:
            rocks_recovery.repair(self._engine, found)
        if self._use is Use.SERVE:  # Nothing that an older version does not know was written yet.
            take_over(self._path)
        self._log = RocksLog(self._path, self._engine, self._state, found)
        return found.recovered

    def lost(self, recover_to: int, text: str) -> None:
        """See `Storage.lost`.

        Raises:
            StorageError: RocksDB refused.
        """
        self._loaded().note_loss(Loss(recover_to, text))

    def recovered(self) -> None:
        """Delete the record of a loss: the log is durable up to `recover_to` again.

        Raises:
            StorageError: RocksDB refused.
        """
        self._loaded().forget_loss()

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
        # Not `_loaded()`: the path of each write makes no call that it can do without.
        if self._log is None:
            raise StorageError(_NOT_LOADED)
        self._log.append(hard_state, truncate_from, entries)

    def become(self, identity: Identity, hard_state: HardState, entries: Sequence[Entry]) -> None:
        """See `RecoverableStorage.become`.

        Raises:
            StorageError: The disk or RocksDB refused, or the entries leave a gap.
        """
        log = self._loaded()
        before = recovered_from(self._path) if self.is_unfinished else self._identity.cluster_id
        # In this order: with the new log and the old identity, the node would be a cluster of one
        # that the members of the old cluster take for theirs.
        replace_identity(self._path, identity, before)
        self._identity = identity
        log.become(identity, hard_state, entries)
        self.is_unfinished = False

    async def flush(self) -> None:
        """Make every write durable that returned before this call; see `Engine.flush`.

        Cancellation: the flush continues in its thread; whether it succeeds is unknown.

        Raises:
            StorageError: This flush or an earlier one failed, or `load` was not called.
        """
        doomed, claim = tuple(self._doomed), self._claim()

        def record() -> bool:
            self._record(claim)
            return False

        await self._engine.flush(record)
        self._drop(doomed)

    def attach(self, poller: Poller) -> None:
        """See `Storage.attach`."""
        self._engine.attach(poller)

    def flush_soon(self, done: Callable[[], None], then: Callable[[], bool]) -> bool:
        """See `Storage.flush_soon`."""
        doomed, claim = tuple(self._doomed), self._claim()

        def durable() -> bool:
            must_tell = then()
            self._record(claim)
            return must_tell or bool(doomed)

        def flushed(error: BaseException | None) -> None:
            if error is not None:
                raise error
            done()
            self._drop(doomed)

        return self._engine.flush_soon(flushed, durable)

    def want_flush_end(self, *, is_wanted: bool) -> None:
        """See `Storage.want_flush_end`."""
        self._engine.want_flush_end(is_wanted=is_wanted)

    def take_flush_end(self) -> None:
        """See `Storage.take_flush_end`."""
        self._engine.take_flush_end()

    def _claim(self) -> Witness:
        """Return what the witness may record once everything written until now is durable."""
        log = self._log
        if log is None:
            raise StorageError(_NOT_LOADED)
        return Witness(log.batch, log.last_index, log.hard_state.term, log.hard_state.vote)

    def _record(self, claim: Witness) -> None:
        """Record what a flush has made durable; in the thread that has flushed, whatever the loop does."""
        if claim != self._claimed:
            self._witness.write(claim)
            self._claimed = claim

    def _drop(self, doomed: tuple[str, ...]) -> None:
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
        self._loaded().compact(meta)

    def read(self, first: int, max_bytes: int) -> tuple[int, list[Entry]] | None:
        """See `Storage.read`.

        Raises:
            StorageError: A record is damaged or missing.
        """
        return self._loaded().read(first, max_bytes)

    def snapshot_meta_chain(self, index: int) -> bytes:
        """Return the chain hash of the log at `index`, which must not be compacted away.

        Raises:
            StorageError: It is compacted away, or not there yet.
        """
        return self._loaded().chain_at(index)

    def room(self) -> Room:
        """See `Storage.room`.

        Raises:
            StorageError: The file system does not answer, or the database has failed before.
        """
        engine = self._engine
        return room(self._path, engine.compaction_bytes(), engine.memtable_bytes())

    def figures(self) -> DiskFigures:
        """See `Storage.figures`.

        Raises:
            StorageError: RocksDB refused.
        """
        return self._engine.figures()

    def cache_looks(self) -> CacheLooks:
        """See `Storage.cache_looks`."""
        return self._engine.cache_looks()

    async def reclaim(self) -> None:
        """See `Storage.reclaim`.

        Raises:
            StorageError: RocksDB refused.
        """
        await self._engine.reclaim()

    def begin_install(self) -> RocksInstall:
        """Begin to receive a whole state. An install begun before and not finished is aborted."""
        self._loaded()
        if self._staged is not None:
            self._staged.abort()
        generation = 1 + max(generation_of(name) for name in self._engine.families())
        family = self._engine.create_family(family_name(generation))
        self._staged = RocksInstall(self._engine, family, generation)
        return self._staged

    def install(self, staged: SnapshotInstall, meta: SnapshotMeta, hard_state: HardState) -> None:
        """Replace state and log by `staged` and `meta` in one atomic batch, unsynced (rule D11).

        Raises:
            StorageError: RocksDB refused; or `staged` was aborted, or is not the whole state at
                `meta.index`.
        """
        log = self._loaded()
        ready = self._staged
        if ready is None or ready is not staged:
            raise StorageError("the state to install was given up, or is installed")
        family = ready.family
        if unpack_applied(family.get(APPLIED_KEY)) != (meta.index, meta.term):
            raise StorageError(f"the state received is not the whole state at entry {meta.index}")
        log.replace(meta, hard_state, ready.generation)
        ready.finish()
        self._doomed.append(family_name(self._generation))
        self._staged, self._generation = None, ready.generation
        self._state.family = family

    async def close(self) -> None:
        """Flush and close. Idempotent. A closed directory can be opened again in this process.

        Cancellation: shielded, for at most 10 s.
        """
        try:
            await self._engine.close()
        finally:
            self._lock.release()

    def _check_identity(self) -> None:
        found, ours = self._engine.get(codec.IDENTITY_KEY), self._identity
        if is_record_of(ours, found):
            return
        before = recovered_from(self._path)
        if not before or not is_record_of(Identity(before, ours.node_id), found):
            raise StorageError(
                f"{database_path(self._path)} is a mixture: hstore.json and the database are not"
                f" of the same node.\n{recovery.RESET}"
            )
        self.is_unfinished = True
        if self._use is Use.SERVE:
            raise StorageError(
                f"`hstore recover` was cut short in {self._path}: "
                f"`hstore recover --data-dir {self._path} --as-only-voter` finishes it"
            )

    def _drop_leftovers(self) -> None:
        """Drop the states that are not in force, left by an install that a crash interrupted."""
        current = family_name(self._generation)
        for name in self._engine.families():
            if name != current:
                self._engine.drop_family(name)

    def _loaded(self) -> RocksLog:
        """Return the log, or refuse a call that came before `load`."""
        if self._log is None:
            raise StorageError(_NOT_LOADED)
        return self._log
