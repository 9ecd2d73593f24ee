"""What is known of the keyed writes as a whole, and with it the cluster's time: one record.

Owns the record `records.KEYED_WRITES_KEY`, which two share: `cluster_time.py`, which moves the time,
and `idempotency.py`, which remembers the writes.
"""

from __future__ import annotations

import msgspec

from ..storage.interface import StateReader
from . import records
from .batch import Batch, InMemory


class KeyedWrites(msgspec.Struct, frozen=True, gc=False):
    """The table as a whole; replaced when it changes.

    Attributes:
        time_ms: The cluster's time. It never falls.
        first: The number of the oldest remembered write.
        following: The number that the next one will have.
    """

    time_ms: int
    first: int
    following: int


def _load(view: StateReader) -> KeyedWrites:
    return KeyedWrites(*records.decode_keyed_writes(view.get(records.KEYED_WRITES_KEY)))


KEYED_WRITES = InMemory("keyed writes", _load)


def keep(batch: Batch, table: KeyedWrites) -> None:
    """Replace the table as a whole, in memory and in the store."""
    batch.set_value(KEYED_WRITES, table)
    record = records.encode_keyed_writes(table.time_ms, table.first, table.following)
    batch.put(records.KEYED_WRITES_KEY, record)


IN_MEMORY = (KEYED_WRITES,)
