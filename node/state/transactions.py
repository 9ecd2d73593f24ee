"""Transactions: all operations take effect, in order, or none does.

Theory of operation: the operations that write are ordinary commands, and go through the one table of
effects within a savepoint. Each is tried, also after one has failed, so that the client hears of all
faults at once; after a fault everything is undone. An effect whose outcome is not `ok` has changed
nothing, so an operation that fails leaves nothing to those after it. The texts of faults are Consul's
(`agent/consul/state/txn.go`, `kvs.go`): clients show them.

A transaction that only reads needs no entry: `read` answers it from a `Reader`, the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NoReturn, Protocol

from ..model import values
from ..model.commands import Delete, DeletePrefix, Denial, Operation, Outcome, Put, Transaction
from ..model.locks import Acquire, Release
from ..model.transactions import (
    CheckIndex,
    CheckNotExists,
    CheckSession,
    Get,
    GetTree,
    KeyRow,
)
from ..raft.entry import Entry
from ..raft.errors import CoreBug
from . import records
from .batch import Batch, Effects
from .kv.keys import put
from .kv.locks import DELAYED
from .records import LOCKED, Item, record_head

ROWS_MAX = 10_000
"""Rows of an answer."""
WRITE_ROWS_MAX = 2_000
"""Of one that writes: they are read in one turn, in some 15 ms, at every node."""
ROWS_PER_STEP = 128
"""Rows that are read in one go, in about a millisecond."""
BYTES_MAX = (2048 + 192) * 1024
"""Bytes of the rows of an answer: 2 MiB of values, if they are few. It has to fit into one frame
between nodes (`peers/wire.py`, MAX_FRAME)."""

_ROW_BYTES = 80
"""What a row takes beside its key and value, at most."""

_NAME_BYTES_MAX = 400
"""Of a key in the text of a fault: 128 of them are remembered with an idempotency key."""


class _Keys(Protocol):
    """The users' keys, as the operations so far have left them."""

    def get(self, key: bytes) -> Item | None: ...

    def scan(self, prefix: bytes) -> Iterator[Item]: ...


class _BatchKeys:
    """The users' keys in a batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def get(self, key: bytes) -> Item | None:
        record = self._batch.get(records.USER + key)
        return None if record is None else records.decode_item(key, record)

    def scan(self, prefix: bytes) -> Iterator[Item]:
        start = records.USER + prefix
        for key, record in self._batch.scan(start, records.prefix_end(start) or records.USER_END):
            yield records.decode_item(key[1:], record)


class _Fault(Exception):
    """An operation that cannot be done; the text says why."""


class _Answer:
    """What the operations have answered so far."""

    def __init__(self, keys: _Keys, bytes_max: int, rows_max: int) -> None:
        self.keys = keys
        self._rows_max = rows_max
        self.rows: list[KeyRow] = []
        self._bytes_max = bytes_max
        self._bytes = 0

    def add(self, item: Item, *, has_value: bool) -> None:
        """Answer with a key."""
        value = item.value if has_value else None
        self._take(len(item.key) + len(value or b""))
        self.rows.append(
            KeyRow(
                item.key,
                value,
                item.flags,
                item.lock_index,
                item.create_revision,
                item.revision,
                item.session,
            )
        )

    def add_written(self, key: bytes, record: bytes | None) -> None:
        """Answer with a key that was written just now, without its value, which its record ends with."""
        if record is None:
            raise CoreBug(f"a write of the key {key[:64]!r} has left no record")
        self._bytes += len(key) + _ROW_BYTES
        if self._bytes > self._bytes_max or len(self.rows) >= self._rows_max:
            self._give_back(len(key))
        create_revision, flags, revision = record_head(key, record)
        if create_revision < LOCKED:
            self.rows.append(KeyRow(key, None, flags, 0, create_revision, revision))
            return
        lock_index, session = records.decode_lock(key, record)
        create_revision -= LOCKED
        self.rows.append(KeyRow(key, None, flags, lock_index, create_revision, revision, session))

    def _take(self, size: int) -> None:
        """Take the room of a row with a key and a value of so many bytes."""
        self._bytes += size + _ROW_BYTES
        if self._bytes > self._bytes_max or len(self.rows) >= self._rows_max:
            self._give_back(size)

    def _give_back(self, size: int) -> NoReturn:
        """Give back the room of a row that is one too many."""
        self._bytes -= size + _ROW_BYTES
        raise _Fault(
            f"the answer is too large: at most {self._rows_max:,} keys, of"
            f" {self._bytes_max >> 10:,} KiB with their values"
            + ("" if self._rows_max == ROWS_MAX else "; read more in one that only reads")
        )


def carry_out(
    batch: Batch, entry: Entry, command: Transaction, bytes_max: int = BYTES_MAX
) -> Outcome:
    """Carry out all operations, or none.

    Args:
        batch: What has taken effect.
        entry: Which carries it.
        command: The transaction.
        bytes_max: Bytes of the rows of its answer, at most.
    """
    savepoint = batch.savepoint()
    answer = _Answer(_BatchKeys(batch), bytes_max, WRITE_ROWS_MAX)
    faults: list[tuple[int, str]] = []
    changed = batch.changed
    for number, operation in enumerate(command.operations):
        try:
            # Most are this one: without the calls that choose what to do.
            if type(operation) is Put:
                outcome = put(batch, entry, operation)
                if outcome.ok:
                    answer.add_written(operation.key, changed[records.USER + operation.key])
                else:
                    faults.append((number, _why_not(operation, outcome)))
            elif isinstance(operation, (Acquire, Release, Delete, DeletePrefix)):
                _write(batch, entry, operation, answer)
            else:
                _READS[type(operation)](answer, operation)
        except _Fault as fault:
            faults.append((number, str(fault)))
    if faults:
        batch.rollback(savepoint)
        return Outcome(False, 0, faults=tuple(faults))
    batch.release(savepoint)
    return Outcome(True, entry.index, rows=tuple(answer.rows))


def read(keys: _Keys, operations: Sequence[Operation]) -> Generator[None, None, Outcome]:
    """Answer a transaction that only reads, step by step; the outcome's `revision` says nothing.

    Args:
        keys: Of one moment: a `Reader`.
        operations: Those of `is_read`.

    Yields:
        After each `ROWS_PER_STEP` rows, so that the caller can let others go on.
    """
    answer = _Answer(keys, BYTES_MAX, ROWS_MAX)
    failed: list[tuple[int, str]] = []
    for number, operation in enumerate(operations):
        try:
            if isinstance(operation, GetTree):
                yield from _tree_steps(answer, operation)
            else:
                _READS[type(operation)](answer, operation)
        except _Fault as fault:
            failed.append((number, str(fault)))
    if failed:
        return Outcome(False, 0, faults=tuple(failed))
    return Outcome(True, 0, rows=tuple(answer.rows))


def is_read(operation: Operation) -> bool:
    """Whether an operation only reads."""
    return type(operation) in _READS


def _write(
    batch: Batch,
    entry: Entry,
    operation: Acquire | Release | Delete | DeletePrefix,
    answer: _Answer,
) -> None:
    outcome = batch.carry_out(entry, operation)
    if outcome.ok:
        if isinstance(operation, (Acquire, Release)):
            answer.add_written(operation.key, batch.changed[records.USER + operation.key])
        return
    text = _why_not(operation, outcome)
    if text:
        raise _Fault(text)


def _why_not(operation: Put | Acquire | Release | Delete | DeletePrefix, outcome: Outcome) -> str:
    """Return why a write was refused; empty: Consul counts it as done."""
    match operation:
        case Put() if outcome.denial:
            return outcome.text
        case Put(key, cas=None):
            return f"key {_quoted(key)} doesn't exist"
        case Put(key):
            return f"failed to set key {_quoted(key)}, index is stale"
        case Delete(key):
            # Of a key that does not exist it is done, whatever the index.
            stale = f"failed to delete key {_quoted(key)}, index is stale"
            return stale if outcome.revision else ""
        case Acquire(key, session=session):
            if outcome.denial == Denial.NO_SESSION:
                return f'invalid session "{values.uuid_text(session)}"'
            if outcome.text == DELAYED:
                return f"failed to lock key {_quoted(key)} due to lock delay"
            return outcome.text or f"failed to lock key {_quoted(key)}, lock is already held"
        case Release(key):
            return f"failed to unlock key {_quoted(key)}, lock isn't held, or is held by another session"
        case DeletePrefix():
            return outcome.text


def _get(answer: _Answer, operation: Get) -> None:
    item = answer.keys.get(operation.key)
    if item is not None:
        answer.add(item, has_value=True)
    elif operation.or_empty:
        answer.add(Item(operation.key, b"", 0, 0, 0), has_value=False)
    else:
        raise _Fault(f"key {_quoted(operation.key)} doesn't exist")


def _get_tree(answer: _Answer, operation: GetTree) -> None:
    for _ in _tree_steps(answer, operation):
        pass


def _tree_steps(answer: _Answer, operation: GetTree) -> Iterator[None]:
    for item in answer.keys.scan(operation.prefix):
        answer.add(item, has_value=True)
        if not len(answer.rows) % ROWS_PER_STEP:
            yield


def _check_index(answer: _Answer, operation: CheckIndex) -> None:
    name, item = _quoted(operation.key), answer.keys.get(operation.key)
    if item is None:
        raise _Fault(f"failed to check index, key {name} doesn't exist")
    if item.revision != operation.index:
        raise _Fault(
            f"failed index check for key {name}, current modify index"
            f" {item.revision} != {operation.index}"
        )
    answer.add(item, has_value=False)


def _check_session(answer: _Answer, operation: CheckSession) -> None:
    name, item = _quoted(operation.key), answer.keys.get(operation.key)
    if item is None:
        raise _Fault(f"failed to check session, key {name} doesn't exist")
    wanted = operation.session if any(operation.session) else b""
    if item.session != wanted:
        present, other = (values.uuid_text(one) if one else "" for one in (item.session, wanted))
        raise _Fault(
            f'failed session check for key {name}, current session "{present}" != "{other}"'
        )
    answer.add(item, has_value=False)


def _check_not_exists(answer: _Answer, operation: CheckNotExists) -> None:
    if answer.keys.get(operation.key) is not None:
        raise _Fault(f"key {_quoted(operation.key)} exists")


_READS: dict[type, Callable[[_Answer, Any], None]] = {
    Get: _get,
    GetTree: _get_tree,
    CheckIndex: _check_index,
    CheckSession: _check_session,
    CheckNotExists: _check_not_exists,
}

_ESCAPES = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)},
    **dict(
        zip(
            b'\a\b\f\n\r\t\v"\\',
            ("\\a", "\\b", "\\f", "\\n", "\\r", "\\t", "\\v", '\\"', "\\\\"),
            strict=True,
        )
    ),
}


def _quoted(key: bytes) -> str:
    """Return a key in quotes, as Go's `%q` writes it; the end of a very long one is cut off."""
    text = key[:_NAME_BYTES_MAX].decode(errors="ignore").translate(_ESCAPES)
    return f'"{text}"' if len(key) <= _NAME_BYTES_MAX else f'"{text}…"'


EFFECTS: Effects = {Transaction: carry_out}
