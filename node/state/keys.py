"""The users' keys: what `Put`, `Delete` and `DeletePrefix` do.

Owns the records under `records.USER`, the changes of the table `changes.KEYS`, and the last index
that changed any key. What takes locks and ends them is in `locks.py`: the writes here ignore them,
but they keep the lock data of a key that has some. Under the rule of the whole state: a function of
the log alone.

Lock indexes never fall. A key that is made begins with that of its deletion (`deletions.py`); of a
recursive deletion that is the greatest that any key was ever given, since its keys are not read.
"""

from __future__ import annotations

from ..model.commands import Delete, DeletePrefix, Outcome, Put
from ..raft.entry import Entry
from ..storage.interface import APPLIED_KEY, StateReader, unpack_applied
from . import deletions, holds, records
from .batch import Batch, Effects, InMemory
from .changes import KEYS, Change
from .deletions import DELETIONS
from .holds import HOLDS


def _load_key_change(view: StateReader) -> int:
    found = view.get(records.KEY_CHANGE_KEY)
    if found is None and any(True for _ in view.scan(records.USER, records.USER_END)):
        # A directory of before it was kept. No change is later than what was applied.
        return unpack_applied(view.get(APPLIED_KEY))[0]
    return records.decode_index(found)


def _load_greatest_lock(view: StateReader) -> int:
    return records.decode_index(view.get(records.GREATEST_LOCK_KEY))


KEY_CHANGE = InMemory("key change", _load_key_change)
"""The last index that changed any key, as of the last `note_change`."""
GREATEST_LOCK = InMemory("greatest lock index", _load_greatest_lock)
"""The greatest lock index that any key was ever given."""


def put(batch: Batch, entry: Entry, command: Put) -> Outcome:
    """Set a key, if its conditions hold.

    Most entries of a log are this one. So it reads and writes the overlay itself where the methods
    of the batch would do the same for the price of a call each.
    """
    index = entry.index
    key = records.USER + command.key
    changed = batch.changed
    found = changed[key] if key in changed else batch.stored(key)
    lock = b""
    if found is None:
        create_revision, revision = index, 0
        allowed = not command.must_exist
        if batch.locks_deleted:
            lock = lock_of_new(batch, command.key)
    else:
        create_revision, _, revision = records.record_head(command.key, found)
        allowed = True
        if create_revision >= records.LOCKED:
            lock = records.lock_in(found)
    if not allowed or (command.cas is not None and command.cas != revision):
        return Outcome(False, revision)
    if lock:
        record = records.encode_locked(create_revision, command.flags, index, lock, command.value)
    else:
        record = records.encode_record(create_revision, command.flags, index, command.value)
    if batch.undo is None:
        changed[key] = record
    else:
        batch.put(key, record)
    batch.changes.append(Change(KEYS, command.key, index, command.value))
    return Outcome(True, index)


def lock_of_new(batch: Batch, key: bytes) -> bytes:
    """Return the lock data with which a key that is made begins; empty: with none."""
    lock_index = batch.value(DELETIONS).of(KEYS).lock_index(key)
    return records.encode_lock(lock_index, b"") if lock_index else b""


def remove(batch: Batch, index: int, key: bytes, record: bytes) -> None:
    """Delete a key that exists, with the lock on it.

    Args:
        batch: What has taken effect.
        index: Of the entry.
        key: The user's key.
        record: What is stored under it.
    """
    lock_index, session = records.decode_lock(key, record)
    if session:
        holds.let_go(batch, key, session)
    batch.delete(records.USER + key)
    deletions.keep(batch, KEYS, index, key, lock_index)
    batch.changes.append(Change(KEYS, key, index, None))


def _delete(batch: Batch, entry: Entry, command: Delete) -> Outcome:
    found = batch.get(records.USER + command.key)
    if found is None:
        return Outcome(False, 0)
    _, _, revision = records.record_head(command.key, found)
    if command.cas is not None and command.cas != revision:
        return Outcome(False, revision)
    remove(batch, entry.index, command.key, found)
    return Outcome(True, entry.index)


def _delete_prefix(batch: Batch, entry: Entry, command: DeletePrefix) -> Outcome:
    index, prefix = entry.index, command.prefix
    start = records.USER + prefix
    # Every such prefix has an end, because it begins with `USER`.
    gone = batch.delete_range(start, records.prefix_end(start) or records.USER_END)
    if gone == []:
        return Outcome(True, index)
    held = batch.value(HOLDS)
    for key in held.under(prefix):
        holds.let_go(batch, key, held.by_key[key])
    deletions.keep(batch, KEYS, index, prefix, batch.value(GREATEST_LOCK), is_prefix=True)
    if gone is None:
        batch.skip_changes(Change(KEYS, prefix, index, None, is_tree=True))
    else:
        batch.changes += [Change(KEYS, key[1:], index, None) for key in gone]
    return Outcome(True, index)


def note_change(batch: Batch) -> None:
    """Note the index of the last change of a key, before the batch is written.

    Once for all entries of it, so that a write of a key pays nothing.
    """
    for change in reversed(batch.changes):
        if change.table == KEYS:
            if change.revision != batch.value(KEY_CHANGE):
                batch.set_value(KEY_CHANGE, change.revision)
                batch.put(records.KEY_CHANGE_KEY, records.encode_index(change.revision))
            return


IN_MEMORY = (KEY_CHANGE, GREATEST_LOCK)

EFFECTS: Effects = {Put: put, Delete: _delete, DeletePrefix: _delete_prefix}
