"""The cluster's time: milliseconds that only the log moves, and that never fall.

Owns the one rule of it: a stamp is applied as a maximum. Commands that need the time carry a stamp
of the leader that proposed them (`model/commands.py`); `machine.py` applies it before the command
takes effect. Effects ask `now_ms` and never the stamp: a new leader's stamp may be behind what the
log has seen, and a command inside another one has none.

No clock that could be set is ever asked. A leader goes on from the time in its state: by the length
of each tick, which never comes early, and between two ticks by its monotonic clock, one tick at most
(`driver/cluster_clock.py`). So a new leader goes on where the log stands, whatever its calendar
says. Time during which no leader runs, or during which a node sleeps, does not count, and what is
kept for a time is kept longer for it. With calendars, one node that is an hour ahead would have
everything expire on the day it leads.

The time is stored in the record of the keyed writes, `records.KEYED_WRITES_KEY`: they were the
first to need it.
"""

from __future__ import annotations

from .batch import Batch, Values
from .keyed_writes import KEYED_WRITES, KeyedWrites, keep


def now_ms(values: Values) -> int:
    """Return the cluster's time in the state, or in the batch, whose values these are."""
    table: KeyedWrites = values[KEYED_WRITES]
    return table.time_ms


def advance(batch: Batch, stamp_ms: int) -> None:
    """Apply the stamp of a command: the time is the highest seen."""
    table = batch.value(KEYED_WRITES)
    if stamp_ms > table.time_ms:
        keep(batch, KeyedWrites(stamp_ms, table.first, table.following))
