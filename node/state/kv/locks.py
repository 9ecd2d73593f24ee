"""Locks on keys: what `Acquire` and `Release` do, and how the end of a session ends its locks.

A lock is a session in the record of a key; the key has a value as any other. What a lock promises is
in the contract of services, section 6.3: two sessions never hold a key at one index, and the lock
index grows with each new holder and never goes back.
"""

from __future__ import annotations

from ...model.commands import Denial, Outcome
from ...model.locks import LOCKS_MAX, SESSION_KEYS_MAX, Acquire, Release, Session
from ...raft.entry import Entry
from ...raft.errors import CoreBug
from .. import records
from ..batch import Batch, Effects
from . import holds, keys
from .holds import HOLDS
from .keys import GREATEST_LOCK

DELAYED = "lock delay"
"""Text of the outcome where a key was not locked because of its lock delay."""

_NS_PER_MS = 1_000_000


def _acquire(batch: Batch, entry: Entry, command: Acquire) -> Outcome:
    key, session = command.key, command.session
    if batch.get(records.SESSION_NODE + session) is None:
        return Outcome(False, 0, denial=Denial.NO_SESSION)
    found = batch.get(records.USER + key)
    if found is None:
        create_revision, revision = entry.index, 0
        lock_index, holder = records.decode_lock_data(keys.lock_of_new(batch, key))
    else:
        create_revision, _, revision = records.record_head(key, found)
        lock_index, holder = records.decode_lock(key, found)
    if holder != session:
        if holder:
            return Outcome(False, revision)
        if holds.is_delayed(batch, key):
            return Outcome(False, revision, DELAYED)
        limit = _limit(batch, session)
        if limit:
            return Outcome(False, revision, limit, Denial.LIMIT)
    size = len(command.value)
    limit = holds.too_long(batch, key, session, size)
    if limit:
        return Outcome(False, revision, limit, Denial.LIMIT)
    holds.hold(batch, key, session, size)
    if holder != session:
        lock_index += 1
        if lock_index > batch.value(GREATEST_LOCK):
            batch.set_value(GREATEST_LOCK, lock_index)
            batch.put(records.GREATEST_LOCK_KEY, records.encode_index(lock_index))
    batch.new_keys += found is None
    lock = records.encode_lock(lock_index, session)
    keys.write(batch, entry.index, command, create_revision, lock)
    return Outcome(True, entry.index)


def _limit(batch: Batch, session: bytes) -> str:
    """Return which bound a session that takes one more lock would break; empty: none."""
    if batch.value(HOLDS).count(session) >= SESSION_KEYS_MAX:
        return f"the session holds {SESSION_KEYS_MAX:,} keys, and may not hold more"
    if holds.locks(batch) >= LOCKS_MAX:
        return f"{LOCKS_MAX:,} keys are locked or under a lock delay, and there may not be more"
    return ""


def _release(batch: Batch, entry: Entry, command: Release) -> Outcome:
    key = command.key
    found = batch.get(records.USER + key)
    if found is None:
        return Outcome(False, 0)
    create_revision, _, revision = records.record_head(key, found)
    lock_index, holder = records.decode_lock(key, found)
    if holder != command.session:
        return Outcome(False, revision)
    holds.let_go(batch, key, holder)
    keys.write(batch, entry.index, command, create_revision, records.encode_lock(lock_index, b""))
    return Outcome(True, entry.index)


def end_all(batch: Batch, index: int, session: Session) -> None:
    """End all locks of a session that ends, as its behavior says, and begin the delays.

    Args:
        batch: What has taken effect.
        index: Of the entry that ends it.
        session: It, as it was.
    """
    delay_ms = -(-session.lock_delay_ns // _NS_PER_MS)
    for key in batch.value(HOLDS).keys(session.id):
        record = batch.get(records.USER + key)
        if record is None:
            raise CoreBug(f"a lock on the key {key[:64]!r}, which does not exist")
        if session.behavior == "delete":
            keys.remove(batch, index, key, record)
        else:
            item = records.decode_item(key, record)
            holds.let_go(batch, key, session.id)
            lock = records.encode_lock(item.lock_index, b"")
            keys.write(batch, index, item, item.create_revision, lock)
        if delay_ms:
            holds.delay(batch, key, delay_ms)


EFFECTS: Effects = {Acquire: _acquire, Release: _release}
