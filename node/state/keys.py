"""The users' keys: what `Put`, `Delete` and `DeletePrefix` do.

Owns the records under `records.USER` and the changes of the table `changes.KEYS`. Under the rule of
the whole state: a function of the log alone.
"""

from __future__ import annotations

from ..model.commands import Delete, DeletePrefix, Outcome, Put
from ..raft.entry import Entry
from . import records
from .batch import Batch, Effects
from .changes import KEYS, Change


def put(batch: Batch, entry: Entry, command: Put) -> Outcome:
    """Set a key, if its conditions hold.

    Most entries of a log are this one. So it reads and writes the overlay itself where the methods
    of the batch would do the same for the price of a call each.
    """
    index = entry.index
    key = records.USER + command.key
    changed = batch.changed
    found = changed[key] if key in changed else batch.stored(key)
    if found is None:
        create_revision, revision = index, 0
        allowed = not command.must_exist
    else:
        create_revision, _, revision = records.record_head(command.key, found)
        allowed = True
    if not allowed or (command.cas is not None and command.cas != revision):
        return Outcome(False, revision)
    record = records.encode_record(create_revision, command.flags, index, command.value)
    if batch.undo is None:
        changed[key] = record
    else:
        batch.put(key, record)
    batch.changes.append(Change(KEYS, command.key, index, command.value))
    return Outcome(True, index)


def _delete(batch: Batch, entry: Entry, command: Delete) -> Outcome:
    key = records.USER + command.key
    found = batch.get(key)
    if found is None:
        return Outcome(False, 0)
    _, _, revision = records.record_head(command.key, found)
    if command.cas is not None and command.cas != revision:
        return Outcome(False, revision)
    batch.delete(key)
    batch.changes.append(Change(KEYS, command.key, entry.index, None))
    return Outcome(True, entry.index)


def _delete_prefix(batch: Batch, entry: Entry, command: DeletePrefix) -> Outcome:
    index = entry.index
    start = records.USER + command.prefix
    # Every such prefix has an end, because it begins with `USER`.
    gone = batch.delete_range(start, records.prefix_end(start) or records.USER_END)
    if gone is None:
        batch.skip_changes(index)
    else:
        batch.changes += [Change(KEYS, key[1:], index, None) for key in gone]
    return Outcome(True, index)


EFFECTS: Effects = {Put: put, Delete: _delete, DeletePrefix: _delete_prefix}
