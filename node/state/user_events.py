"""Events of users: what `FireEvent` does.

Owns the records under `records.EVENT`: the last `EVENTS_MAX`, by their index.
"""

from __future__ import annotations

import msgspec

from ..model import values
from ..model.commands import Outcome
from ..model.user_events import EVENTS_MAX, FireEvent
from ..raft.entry import Entry
from ..storage.interface import StateReader
from . import records
from .batch import Batch, Effects, InMemory
from .watching.changes import EVENTS, Change


def _load(view: StateReader) -> tuple[int, ...]:
    return tuple(records.id_of(key) for key, _ in view.scan(records.EVENT, records.EVENT_END))


EVENT_INDEXES = InMemory("events", _load)
"""The indexes of those that are kept, oldest first."""


def _fire(batch: Batch, entry: Entry, command: FireEvent) -> Outcome:
    index = entry.index
    event = msgspec.structs.replace(command.event, index=index)
    record = records.encode_msgpack(event)
    batch.put(records.id_key(records.EVENT, index), record)
    kept = (*batch.value(EVENT_INDEXES), index)
    for oldest in kept[:-EVENTS_MAX]:
        batch.delete(records.id_key(records.EVENT, oldest))
    batch.set_value(EVENT_INDEXES, kept[-EVENTS_MAX:])
    batch.changes.append(Change(EVENTS, b"", index, record))
    return Outcome(True, index, values.uuid_text(event.id))


IN_MEMORY = (EVENT_INDEXES,)

EFFECTS: Effects = {FireEvent: _fire}
