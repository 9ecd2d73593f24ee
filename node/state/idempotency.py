"""Which keyed writes have taken effect, and what was answered to each.

Owns the table of idempotency keys in the replicated state: a write that carries a key takes effect
once, however often it is proposed, and is answered the same each time. Like all of the state it
is a function of the log alone. The bytes of its records are `records.py`'s; that it is
stored in one batch with what the writes did, and so crosses with a snapshot, is `machine.py`'s.

Theory of operation: an entry with a `Keyed` command either finds its key in the table, and is
answered from there, or takes effect and is remembered. A duplicate needs no other care: it stands
in the log like the first, and whichever is applied first is the first.

Keys are forgotten by the cluster's time, which the log carries: the leader writes into each keyed
entry the time it proposes it at, and the time of the state is the highest seen, so it never runs
backwards. No clock that could be set is ever asked: a node goes on from the time in its state by
the length of each tick, and a tick never comes early (`Replica.cluster_ms`). So a new leader goes
on where the log stands, whatever its calendar says; time that nobody lives through, or that a
node sleeps through, does not count, and keys are kept longer for it. With clocks on the wall, one
node that is an hour ahead would have all keys forgotten on the day it leads.

Each remembered write has a number, one more than the one before, and those that are still there
are the numbers in [first, following): the oldest is found by a point read, at any size of the
table and without a walk over what was deleted before it. All is on disk; in memory is only the
`KeyedWrites`, so a restart, or a snapshot, reads one record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from ..errors import KeyReused, Overloaded
from ..model.commands import Denial, Keyed, Outcome
from . import records

KEEP_MS = 10 * 60 * 1000
"""A key is kept for so long at least, in the cluster's time (contract, section 4)."""

KEYS_MAX = 200_000
"""Keys that are kept. At some 100 bytes each this is 20 MB on disk, 100 MB if all are long."""

_FORGOTTEN_AT_ONCE = 4
"""Old keys that one write forgets. More than one, or a table that was full would stay so."""


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


class Batch(Protocol):
    """The state as the entries so far have left it."""

    def get(self, key: bytes) -> bytes | None:
        """Return what is stored under `key`, or None."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Store it."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove it."""
        ...


def load(record: bytes | None) -> KeyedWrites:
    """Return the table that `state_records.SESSIONS_KEY` describes.

    Raises:
        StorageError: The record is damaged.
    """
    return KeyedWrites(*records.decode_keyed_writes(record))


def take_effect_once(
    batch: Batch, table: KeyedWrites, write: Keyed, effect: Callable[[], Outcome]
) -> tuple[KeyedWrites, Outcome]:
    """Let a keyed write take effect, unless it has; return the table after it, and its outcome.

    Args:
        batch: Where the table is kept, and where `effect` takes place.
        table: As the entries before have left it.
        write: Stamped by the leader that proposed it.
        effect: Carries `write.command` out. Called once or never.

    Raises:
        StorageError: A record of the table is damaged.
    """
    time_ms = max(table.time_ms, write.time_ms)
    # Before old ones are forgotten: a key that is still there is as good as a young one.
    known = batch.get(records.ANSWER + write.key)
    first, following = _forget(batch, table, time_ms), table.following
    if known is not None:
        digest, ok, revision = records.decode_answer(known)
        outcome = Outcome(ok, revision)
        if digest != write.digest:
            outcome = Outcome(False, 0, denial=Denial.KEY_REUSED)
    elif following - first >= KEYS_MAX:
        outcome = Outcome(False, 0, denial=Denial.KEYS_EXHAUSTED)
    else:
        outcome = effect()
        answer = records.encode_answer(write.digest, ok=outcome.ok, revision=outcome.revision)
        batch.put(records.ANSWER + write.key, answer)
        batch.put(records.turn_key(following), records.encode_turn(time_ms, write.key))
        following += 1
    batch.put(records.KEYED_WRITES_KEY, records.encode_keyed_writes(time_ms, first, following))
    return KeyedWrites(time_ms, first, following), outcome


def _forget(batch: Batch, table: KeyedWrites, time_ms: int) -> int:
    """Forget the oldest that are old enough, a few at most; return who is the oldest then."""
    first = table.first
    for number in range(first, min(first + _FORGOTTEN_AT_ONCE, table.following)):
        turn = records.turn_key(number)
        proposed_ms, key = records.decode_turn(batch.get(turn))
        if time_ms - proposed_ms <= KEEP_MS:
            break
        batch.delete(records.ANSWER + key)
        batch.delete(turn)
        first = number + 1
    return first


def answered(outcome: Outcome) -> Outcome:
    """Return what a client gets of a keyed write's outcome.

    Raises:
        KeyReused: Another request was answered under its key.
        Overloaded: No more keys can be remembered now; nothing was written.
    """
    match outcome.denial:
        case Denial.NONE:
            return outcome
        case Denial.KEY_REUSED:
            raise KeyReused(
                "this Idempotency-Key was used before, with another request:"
                " choose a new key for a new request"
            )
        case _:
            raise Overloaded(
                f"{KEYS_MAX:,} idempotency keys are younger than 10 minutes, and no more are kept:"
                " try again later, or send the write without a key"
            )
