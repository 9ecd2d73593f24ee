"""The users' keys: what `Put`, `Delete` and `DeletePrefix` do.

Owns the records under `USER`, the changes of the table `changes.KEYS`, and the last index
that changed any key. What takes locks and ends them is in `locks.py`: the writes here ignore them,
but they keep the lock data of a key that has some. Under the rule of the whole state: a function of
the log alone.

Lock indexes never fall. A key that is made begins with that of its deletion (`deletions.py`); of a
recursive deletion that is the greatest that any key was ever given, since its keys are not read.
"""

from __future__ import annotations

from ...model.commands import Delete, DeletePrefix, Denial, Outcome, Put
from ...model.locks import Acquire, Release
from ...raft.entry import Entry
from ...storage.interface import StateReader
from .. import records
from ..batch import ABSENT, Batch, Effects, InMemory
from ..records import (
    KEY_CHANGE_KEY,
    LOCKED,
    USER,
    Item,
    encode_index,
    encode_record,
    pack_head,
    record_head,
)
from ..watching.changes import KEYS, Change, FirstOfTree, Tree
from . import deletions, holds
from .deletions import DELETIONS
from .holds import HOLDS


def _load_greatest_lock(view: StateReader) -> int:
    return records.decode_index(view.get(records.GREATEST_LOCK_KEY))


GREATEST_LOCK = InMemory("greatest lock index", _load_greatest_lock)
"""The greatest lock index that any key was ever given."""


def put(batch: Batch, entry: Entry, command: Put) -> Outcome:
    """Set a key, if its conditions hold.

    Most entries of a log are this one. So it reads and writes the overlay itself where the methods
    of the batch would do the same for the price of a call each.
    """
    index = entry.index
    key = USER + command.key
    changed = batch.changed
    found = changed[key] if key in changed else batch.stored(key)
    if found is None:
        if batch.locks_deleted:
            return _put_locked(batch, entry, command, None)
        create_revision, revision = index, 0
        allowed = not command.must_exist
    else:
        create_revision, _, revision = record_head(command.key, found)
        if create_revision >= LOCKED:
            return _put_locked(batch, entry, command, found)
        allowed = True
    if not allowed or (command.cas is not None and command.cas != revision):
        return Outcome(False, revision)
    if not revision:  # It was not there.
        batch.new_keys += 1
    record = pack_head(create_revision, command.flags, index) + command.value
    if batch.undo is not None:
        batch.undo.append((key, changed.get(key, ABSENT)))
    changed[key] = record
    batch.changes.append(Change(KEYS, command.key, index, command.value))
    return Outcome(True, index)


def _put_locked(batch: Batch, entry: Entry, command: Put, found: bytes | None) -> Outcome:
    """As `put`, for a key that has lock data, or may have to begin with some."""
    if found is None:
        create_revision, revision, lock = entry.index, 0, lock_of_new(batch, command.key)
    else:
        create_revision, _, revision = record_head(command.key, found)
        lock = records.lock_in(found)
    is_missing = found is None and command.must_exist
    if is_missing or (command.cas is not None and command.cas != revision):
        return Outcome(False, revision)
    session = batch.value(HOLDS).by_key.get(command.key)
    if session is not None:
        size = len(command.value)
        limit = holds.too_long(batch, command.key, session, size)
        if limit:
            return Outcome(False, revision, limit, Denial.LIMIT)
        holds.hold(batch, command.key, session, size)
    batch.new_keys += found is None
    write(batch, entry.index, command, create_revision, lock)
    return Outcome(True, entry.index)


def write(
    batch: Batch,
    index: int,
    item: Put | Acquire | Release | Item,
    create_revision: int,
    lock: bytes,
) -> None:
    """Write a key and its lock data.

    Args:
        batch: What has taken effect.
        index: Of the entry.
        item: Has key, value and flags.
        create_revision: Of the key; with or without the bit of lock data.
        lock: Its lock data; empty: it has none.
    """
    key, flags, value = item.key, item.flags, item.value
    if lock:
        record = records.encode_locked(create_revision, flags, index, lock, value)
    else:
        record = encode_record(create_revision, flags, index, value)
    batch.put(USER + key, record)
    batch.changes.append(Change(KEYS, key, index, value))


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
    batch.delete(USER + key)
    batch.new_keys -= 1
    deletions.keep(batch, KEYS, index, key, lock_index)
    batch.changes.append(Change(KEYS, key, index, None))


def _delete(batch: Batch, entry: Entry, command: Delete) -> Outcome:
    found = batch.get(USER + command.key)
    if found is None:
        return Outcome(False, 0)
    _, _, revision = record_head(command.key, found)
    if command.cas is not None and command.cas != revision:
        return Outcome(False, revision)
    remove(batch, entry.index, command.key, found)
    return Outcome(True, entry.index)


def _delete_prefix(batch: Batch, entry: Entry, command: DeletePrefix) -> Outcome:
    index, prefix = entry.index, command.prefix
    start = USER + prefix
    # Every such prefix has an end, because it begins with `USER`.
    gone = batch.delete_range(start, records.prefix_end(start) or records.USER_END)
    if gone == []:
        return Outcome(True, index)
    names = None if gone is None else [key[1:] for key in gone]
    held = batch.value(HOLDS)
    for key in held.among(prefix, names):
        holds.let_go(batch, key, held.by_key[key])
    deletions.keep(batch, KEYS, index, prefix, batch.value(GREATEST_LOCK), is_prefix=True)
    if names is None:
        batch.skip_changes(Tree(KEYS, prefix, index, None))  # The keys are counted anew.
    else:
        batch.new_keys -= len(names)
        batch.changes.append(FirstOfTree(KEYS, names[0], index, None, prefix))
        batch.changes += [Change(KEYS, name, index, None) for name in names[1:]]
    return Outcome(True, index)


def note_change(batch: Batch) -> None:
    """Note the index of the last change of a key, before the batch is written.

    Once for all its entries, so that the write of a key pays little. No savepoint is open.
    """
    changes = batch.changes
    at = len(changes) - 1
    while at >= 0 and changes[at].table != KEYS:
        at -= 1
    if at >= 0:
        batch.changed[KEY_CHANGE_KEY] = encode_index(changes[at].revision)


IN_MEMORY = (GREATEST_LOCK,)

EFFECTS: Effects = {Put: put, Delete: _delete, DeletePrefix: _delete_prefix}
