"""Reads a database for `recovery.py`, damage included, and writes the batch that repairs it.

Owns how the log family is read when it cannot be trusted. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from rocksdict import WriteBatch

from ..errors import StorageError
from . import codec
from .engine import Engine
from .recovery import OnDisk, Recovery, Witness


def read(engine: Engine, applied: tuple[int, int], witness: Witness | None) -> OnDisk:
    """Return everything that can be read, None for each record that is missing or damaged.

    Args:
        engine: The open database.
        applied: Index and term of the last applied entry, from the state.
        witness: The content of the witness file.

    Raises:
        StorageError: The record of an earlier loss cannot be read.
    """

    def records(first: int) -> Iterator[tuple[int, bytes | None]]:
        return _records(engine, codec.entry_key(first), codec.ENTRY_END)

    # Not `engine.get`, which fails for good at damage: each of these records may be damaged.
    def whole(key: bytes) -> bytes | None:
        return next((value for at, value in engine.salvage(key, key + b"\0") if at == key), None)

    try:
        hard_state = codec.decode_hard_state(whole(codec.HARD_STATE_KEY))
    except StorageError:
        hard_state = None
    try:
        snapshot = codec.decode_snapshot(whole(codec.SNAPSHOT_KEY))
    except StorageError:
        snapshot = None
    return OnDisk(
        hard_state,
        snapshot,
        codec.decode_end(whole(codec.END_KEY)),
        codec.decode_loss(engine.get(codec.LOSS_KEY)),
        *applied,
        records,
        list(_records(engine, codec.CONFIG_START, codec.CONFIG_END)),
        witness,
    )


def repair(engine: Engine, found: Recovery) -> None:
    """Make the database agree with `found`, in one batch, unsynced.

    Raises:
        StorageError: RocksDB refused.
    """
    recovered, end = found.recovered, found.end

    def fill(batch: WriteBatch) -> None:
        batch.delete_range(codec.entry_key(0), codec.entry_key(recovered.snapshot.index + 1))
        batch.delete_range(codec.entry_key(end.index + 1), codec.ENTRY_END)
        batch.delete_range(codec.CONFIG_START, codec.CONFIG_END)
        for index, record in found.copies.items():
            batch.put(codec.config_key(index), record)
        batch.put(codec.SNAPSHOT_KEY, codec.encode_snapshot(recovered.snapshot))
        batch.put(codec.HARD_STATE_KEY, codec.encode_hard_state(recovered.hard_state))
        batch.put(codec.END_KEY, codec.encode_end(end))
        if recovered.recover_to:
            loss = codec.Loss(recovered.recover_to, recovered.lost)
            batch.put(codec.LOSS_KEY, codec.encode_loss(loss))

    engine.write(fill)


def _records(engine: Engine, start: bytes, end: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Iterate over the indexes and records found; None for a record that cannot be read."""
    index = codec.entry_index(start) - 1 if len(start) > 1 else 0
    for key, value in engine.salvage(start, end):
        index = codec.entry_index(key) if value is not None else index + 1
        yield index, value
