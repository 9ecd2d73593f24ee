"""The log's part of `RocksStorage`: entries, hard state and snapshot record, in the default family.

Owns what a batch that changes the log must contain, and what is known of the log without reading it:
where it begins and ends, and the hard state. Why the batches are as they are says `rocks.py`; their
bytes are `codec.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rocksdict import WriteBatch

from ..errors import StorageError
from ..raft.entry import Entry, HardState, SnapshotMeta
from . import codec
from .codec import Loss
from .directory import encode_identity
from .engine import Engine
from .interface import APPLIED_KEY, Identity, unpack_applied
from .recovery import Recovery
from .rocks_state import FIRST_GENERATION, RocksState


def write_first_batch(
    engine: Engine, identity: Identity, hard_state: HardState, entries: Sequence[Entry]
) -> None:
    """Write what an empty database begins with, in one batch, unsynced.

    Raises:
        StorageError: RocksDB refused.
    """
    records, chain = codec.encode_entries(entries, 0, codec.GENESIS)
    end = codec.End(1, len(entries), chain)
    commit = min(hard_state.commit, len(entries))
    hard_state = HardState(hard_state.term, hard_state.vote, commit)

    def fill(batch: WriteBatch) -> None:
        batch.put(codec.IDENTITY_KEY, encode_identity(identity))
        batch.put(codec.GENERATION_KEY, codec.encode_generation(FIRST_GENERATION))
        batch.put(codec.HARD_STATE_KEY, codec.encode_hard_state(hard_state))
        batch.put(codec.SNAPSHOT_KEY, codec.encode_snapshot(SnapshotMeta()))
        batch.put(codec.END_KEY, codec.encode_end(end))
        for key, record in records:
            batch.put(key, record)

    engine.write(fill)


class RocksLog:
    """The log of an open database.

    Args:
        path: The data directory, for the texts of errors.
        engine: The open database.
        state: The state in force, which says how far the log is applied.
        found: The log as it was found, and repaired, at the start.

    Attributes:
        snapshot: The snapshot that the log starts after.
        hard_state: The last one written.
        last_index: The index of the last entry; `snapshot.index` if there is none.
        batch: The number of the last batch.
    """

    def __init__(self, path: Path, engine: Engine, state: RocksState, found: Recovery) -> None:
        self._path = path
        self._engine = engine
        self._state = state
        self.snapshot = found.recovered.snapshot
        self.hard_state = found.recovered.hard_state
        self.batch, self.last_index = found.end.batch, found.end.index
        self._last_chain = found.end.chain

    def append(
        self,
        hard_state: HardState | None,
        truncate_from: int | None,
        entries: Sequence[Entry],
    ) -> None:
        """See `RocksStorage.append`."""
        old_last = last = self.last_index
        chain = self._last_chain
        if truncate_from is not None:
            applied, _ = unpack_applied(self._state.get(APPLIED_KEY))
            fixed = max(self.hard_state.commit, self.snapshot.index, applied)
            if not fixed < truncate_from <= last + 1:
                raise StorageError(
                    f"entries from {truncate_from} on cannot be dropped: the log ends at {last}"
                    f" and is committed up to {fixed}"
                )
            last = truncate_from - 1
            chain = self.chain_at(last)
        records, chain = codec.encode_entries(entries, last, chain)
        last += len(entries)
        if hard_state is not None:
            commit = max(self.hard_state.commit, min(hard_state.commit, last))
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

        self._write(fill, last, chain)
        self.hard_state = hard_state or self.hard_state

    def become(self, identity: Identity, hard_state: HardState, entries: Sequence[Entry]) -> None:
        """See `RecoverableStorage.become`: its one batch."""
        records, chain = codec.encode_entries(entries, self.last_index, self._last_chain)
        last = self.last_index + len(entries)

        def fill(batch: WriteBatch) -> None:
            batch.put(codec.IDENTITY_KEY, encode_identity(identity))
            for key, record in records:
                batch.put(key, record)
            batch.put(codec.HARD_STATE_KEY, codec.encode_hard_state(hard_state))
            batch.delete(codec.LOSS_KEY)

        self._write(fill, last, chain)
        self.hard_state = hard_state

    def compact(self, meta: SnapshotMeta) -> None:
        """See `RocksStorage.compact`."""
        if meta.index <= self.snapshot.index:
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

        self._write(fill)
        self.snapshot = snapshot

    def replace(self, meta: SnapshotMeta, hard_state: HardState, generation: int) -> None:
        """Empty the log, begin it anew after `meta`, and put a generation of the state in force.

        Args:
            meta: The snapshot that the log starts after from now on.
            hard_state: The new hard state; its commit becomes `meta.index`.
            generation: Names the family that contains the state at `meta.index`.

        Raises:
            StorageError: RocksDB refused; or `meta` has no chain hash, or does not lie behind
                everything committed.
        """
        if len(meta.chain) != codec.CHAIN_SIZE:
            raise StorageError(f"the snapshot at entry {meta.index} has no chain hash")
        if meta.index <= max(self.snapshot.index, self.hard_state.commit):
            raise StorageError(
                f"a snapshot at entry {meta.index} cannot replace a log that is committed up to"
                f" {self.hard_state.commit}"
            )
        hard_state = HardState(hard_state.term, hard_state.vote, meta.index)

        def fill(batch: WriteBatch) -> None:
            batch.put(codec.GENERATION_KEY, codec.encode_generation(generation))
            batch.put(codec.SNAPSHOT_KEY, codec.encode_snapshot(meta))
            batch.put(codec.HARD_STATE_KEY, codec.encode_hard_state(hard_state))
            batch.delete_range(codec.entry_key(0), codec.ENTRY_END)
            batch.delete_range(codec.CONFIG_START, codec.CONFIG_END)

        self._write(fill, meta.index, meta.chain)
        self.snapshot, self.hard_state = meta, hard_state

    def note_loss(self, loss: Loss) -> None:
        """Record a loss."""
        self._write(lambda batch: batch.put(codec.LOSS_KEY, codec.encode_loss(loss)))

    def forget_loss(self) -> None:
        """Delete the record of a loss."""
        self._write(lambda batch: batch.delete(codec.LOSS_KEY))

    def read(self, first: int, max_bytes: int) -> tuple[int, list[Entry]] | None:
        """See `RocksStorage.read`."""
        if not self.snapshot.index < first <= self.last_index:
            return None
        if first - 1 == self.snapshot.index:
            chain, term = self.chain_at(first - 1), self.snapshot.term
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

    def chain_at(self, index: int) -> bytes:
        """Return the chain hash of the log at `index`, which must not be compacted away.

        Raises:
            StorageError: It is compacted away, or not there yet.
        """
        if index == self.last_index:
            return self._last_chain
        if index == self.snapshot.index:
            return self.snapshot.chain if index else codec.GENESIS
        return self._head_at(index)[0]

    def _head_at(self, index: int) -> tuple[bytes, int]:
        """Return chain hash and term of an entry in the log."""
        record = self._engine.get(codec.entry_key(index))
        if record is None:
            raise StorageError(
                f"entry {index} is not in the log, which goes from {self.snapshot.index + 1} to"
                f" {self.last_index}"
            )
        chain, term, _ = codec.entry_head(index, record)
        return chain, term

    def _write(
        self, fill: Callable[[WriteBatch], None], last: int = -1, chain: bytes = b""
    ) -> None:
        """Write a batch that changes the log, which ends at `last` then (-1: where it does now)."""
        if last < 0:
            last, chain = self.last_index, self._last_chain
        # See `recovery.py`: the number and end of each batch are what a witness is compared with.
        end = codec.encode_end(codec.End(self.batch + 1, last, chain))

        def fill_all(batch: WriteBatch) -> None:
            fill(batch)
            batch.put(codec.END_KEY, end)

        self._engine.write(fill_all)
        self.batch += 1
        self.last_index, self._last_chain = last, chain
