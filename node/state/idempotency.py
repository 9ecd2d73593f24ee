"""The keyed writes: which have taken effect, and what was answered to each.

Owns the table of idempotency keys: a write that carries a key takes effect once, however often it
is proposed, and is answered the same each time. The bytes of its records are in `records.py`. They
are written in one batch with what the writes did, and are part of a snapshot like everything else.

Theory of operation: an entry with a `Keyed` command either finds its key in the table, and is
answered from there, or the command it carries takes effect and the answer is remembered. A
duplicate needs no other care: it stands in the log like the first, and whichever is applied first
is the first.

Keys are forgotten by the cluster's time, which never runs backwards (`cluster_time.py`).

Each remembered write has a number, one more than the one before, and those that are still there
are the numbers in [first, following): the oldest is found by a point read, at any size of the
table and without a walk over what was deleted before it. All is on disk; in memory is only the
`KeyedWrites`, so a restart, or a snapshot, reads one record.
"""

from __future__ import annotations

from ..errors import KeyReused, Overloaded
from ..model.commands import Denial, Keyed, Outcome, Transaction, Write
from ..raft.entry import Entry
from . import records, transactions
from .batch import Batch, Effects
from .keyed_writes import KEYED_WRITES, KeyedWrites, keep

KEEP_MS = 10 * 60 * 1000
"""A key is kept for so long at least, in the cluster's time (contract, section 4)."""

KEYS_MAX = 200_000
"""Keys that are kept. At some 100 bytes each this is 20 MB on disk, 100 MB if all are long."""

ANSWER_BYTES_MAX = 64 * 1024
"""Bytes of the rows in an answer that is remembered: a transaction that answers with more is refused."""

_FORGOTTEN_AT_ONCE = 4
"""Old keys that one write forgets. More than one, or a table that was full would stay so."""


def _keyed(batch: Batch, entry: Entry, write: Keyed) -> Outcome:
    """Let the command of a keyed write take effect, unless it has, and answer it.

    The stamp of `write` is in the cluster's time already.
    """
    table = batch.value(KEYED_WRITES)
    time_ms = table.time_ms
    # Before old ones are forgotten: a key that is still there is as good as a young one.
    known = batch.get(records.ANSWER + write.key)
    first, following = _forget(batch, table), table.following
    if known is not None:
        digest, outcome = records.decode_answer(known)
        if digest != write.digest:
            outcome = Outcome(False, 0, denial=Denial.KEY_REUSED)
    elif following - first >= KEYS_MAX:
        outcome = Outcome(False, 0, denial=Denial.KEYS_EXHAUSTED)
    else:
        outcome = _carry_out(batch, entry, write.command)
        batch.put(records.ANSWER + write.key, records.encode_answer(write.digest, outcome))
        batch.put(records.turn_key(following), records.encode_turn(time_ms, write.key))
        following += 1
    keep(batch, KeyedWrites(time_ms, first, following))
    return outcome


def _carry_out(batch: Batch, entry: Entry, command: Write) -> Outcome:
    if isinstance(command, Transaction):
        return transactions.carry_out(batch, entry, command, ANSWER_BYTES_MAX)
    return batch.carry_out(entry, command)


EFFECTS: Effects = {Keyed: _keyed}


def _forget(batch: Batch, table: KeyedWrites) -> int:
    """Forget the oldest writes that are old enough, a few at most; return the first that is left."""
    first = table.first
    for number in range(first, min(first + _FORGOTTEN_AT_ONCE, table.following)):
        turn = records.turn_key(number)
        proposed_ms, key = records.decode_turn(batch.get(turn))
        if table.time_ms - proposed_ms <= KEEP_MS:
            break
        batch.delete(records.ANSWER + key)
        batch.delete(turn)
        first = number + 1
    return first


def answered(outcome: Outcome) -> Outcome:
    """Return the outcome of a keyed write for the client, or raise why it was not even tried.

    Raises:
        KeyReused: Another request was answered under its key.
        Overloaded: No more keys can be remembered now; nothing was written.
    """
    match outcome.denial:
        case Denial.KEY_REUSED:
            raise KeyReused(
                "this Idempotency-Key was used before, with another request:"
                " choose a new key for a new request"
            )
        case Denial.KEYS_EXHAUSTED:
            raise Overloaded(
                f"{KEYS_MAX:,} idempotency keys are younger than 10 minutes, and no more are kept:"
                " try again later, or send the write without a key"
            )
        case _:
            return outcome
