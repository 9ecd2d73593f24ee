"""Transactions: /v1/txn.

Owns their shapes, and what of them needs no log: an operation that cannot be carried out whatever the
state is, and a transaction that only reads. What an operation does is in `node/state/`.

The texts of errors are those of Consul's agent/txn_endpoint.go, agent/consul/txn_endpoint.go and
agent/consul/state/txn.go: clients show them.
"""

from __future__ import annotations

import binascii
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import msgspec

from ...model.commands import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    Delete,
    DeletePrefix,
    Operation,
    Put,
    Transaction,
)
from ...model.locks import SESSION_ID_BYTES, Acquire, Release
from ...model.transactions import (
    OPERATIONS_MAX,
    CheckIndex,
    CheckNotExists,
    CheckSession,
    Get,
    GetTree,
)
from ...model.values import uuid_text
from ...state import transactions
from ..dialect import bodies, heads, ids
from ..dialect.forms import refused
from ..dialect.queries import mode_of
from ..http.answers import JSON, HttpError, answer, head, too_large
from ..http.exchange import Deferred
from ..http.large import LargeAnswer, base64, large_raw
from ..http.params import UNSIGNED_64_MAX, parse_query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...model.commands import Outcome
    from ...model.transactions import KeyRow
    from ..dialect.heads import Mode
    from ..http.answers import Answer
    from ..http.connection import Request
    from ..http.exchange import Exchange, Finished, Found
    from ..http.params import Query
    from ..http.waiting import Wait

BODY_BYTES_MAX = 2 * 1024 * 1024
_WHOLE_BYTES_MAX = 64 * 1024
_NOT_APPLIED = b"X-Hstore-Outcome: not applied\r\n"
# It fails in every state, since no revision is that high. It stands for an operation that is an error
# by itself, so that the others are tried, and their errors told too.
_FAILING = CheckIndex(b"-", UNSIGNED_64_MAX)

_encode = msgspec.json.encode

Faults = dict[int, str]
"""Why operations failed, by their numbers."""


class _Impossible(Exception):
    """An operation that fails whatever the state is; the text says why."""


class _KeyOperation(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, gc=False):
    verb: str = ""
    key: str = ""
    value: str | None = None  # Consul's Go client sends null for no value.
    flags: int = 0
    index: int = 0
    session: str = ""


class _OtherOperation(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, gc=False):
    verb: str = ""


class _Operation(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, gc=False):
    kv: _KeyOperation | None = msgspec.field(default=None, name="KV")
    node: _OtherOperation | None = None
    service: _OtherOperation | None = None
    check: _OtherOperation | None = None


def carry_out(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`PUT /v1/txn`."""
    asked = _decoded(exchange, request.body)
    operations, faults = _operations(asked)
    query = parse_query(request.query)
    if all(map(transactions.is_read, operations)):
        return _read(exchange, query, operations, faults)
    return _written(exchange, query, operations, faults)


# -- from the body to operations -------------------------------------------------------------------


def _decoded(exchange: Exchange, body: bytes) -> list[_Operation]:
    """Decode a body.

    Raises:
        HttpError: 400, 413.
    """
    if len(body) > BODY_BYTES_MAX:
        raise too_large("the body is too large", len(body), BODY_BYTES_MAX)
    try:
        asked = bodies.decode(exchange, list[_Operation], body)
    except HttpError as error:
        what = str(error).removeprefix("Request decode failed: ")
        raise refused(400, f"Failed to parse body: {what}") from None
    if len(asked) > OPERATIONS_MAX:
        count = f"({len(asked)} > {OPERATIONS_MAX})"
        raise refused(413, f"Transaction contains too many operations {count}")
    return asked


def _operations(asked: Sequence[_Operation]) -> tuple[tuple[Operation, ...], Faults]:
    """Return the operations that are asked for, and why some of them are impossible.

    Raises:
        HttpError: 400, 413.
    """
    operations: list[Operation] = []
    faults: Faults = {}
    size = 0
    for number, each in enumerate(asked):
        value = b""
        if each.kv is not None:
            value = _value(each.kv)
            size += len(value)
        try:
            operations.append(_operation(each, value))
        except _Impossible as error:
            faults[number] = str(error)
            operations.append(_FAILING)
    if size > VALUE_BYTES_MAX:
        text = f"Cumulative size of key data is too large ({size} > {VALUE_BYTES_MAX} bytes)"
        raise refused(413, text)
    return tuple(operations), faults


def _value(asked: _KeyOperation) -> bytes:
    if not (0 <= asked.flags <= UNSIGNED_64_MAX and 0 <= asked.index <= UNSIGNED_64_MAX):
        name, number = "Flags", asked.flags
        if 0 <= number <= UNSIGNED_64_MAX:
            name, number = "Index", asked.index
        raise refused(400, f"Failed to parse body: {name} {number} is no unsigned 64-bit number")
    text = asked.value
    if not text:
        return b""
    try:
        if "\n" in text or "\r" in text:  # As in Go, line breaks do not matter.
            text = text.replace("\n", "").replace("\r", "")
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise refused(400, f"Failed to parse body: failed to decode value: {error}") from None


def _operation(asked: _Operation, value: bytes) -> Operation:
    """Return one operation.

    Raises:
        _Impossible: It fails whatever the state is.
    """
    if asked.kv is not None:
        return _key_operation(asked.kv, value)
    for kind in ("node", "service", "check"):
        if getattr(asked, kind) is not None:
            raise _Impossible(f"{kind.title()} operations are not supported yet: send KV ones only")
    raise _Impossible("no operation specified")


def _key_operation(asked: _KeyOperation, value: bytes) -> Operation:
    make = _MAKERS.get(asked.verb)
    if make is None:
        raise _Impossible(f"unknown KV verb {_quoted(asked.verb[:40])}")
    key = asked.key.encode()
    if not key and asked.verb not in {"get-tree", "delete-tree"}:
        raise _Impossible("Must provide key")
    if len(key) > KEY_BYTES_MAX:
        raise _Impossible(f"the key has {len(key):,} bytes: at most {KEY_BYTES_MAX:,} are kept")
    return make(asked, key, value)


def _locking(
    kind: type[Acquire | Release], asked: _KeyOperation, key: bytes, value: bytes
) -> Operation:
    if not asked.session:
        raise _Impossible("missing session")
    found = ids.parse(asked.session)
    if found is None:
        if kind is Acquire:
            raise _Impossible(f"invalid session {_quoted(asked.session[:100])}")
        raise _Impossible(
            f"failed to unlock key {_quoted(asked.key)}, lock isn't held, or is held by another session"
        )
    return kind(key, value, asked.flags, found)


def _session_check(asked: _KeyOperation, key: bytes, _value: bytes) -> Operation:
    if not asked.session:
        return CheckSession(key, bytes(SESSION_ID_BYTES))
    found = ids.parse(asked.session)
    if found is None:
        name = _quoted(asked.key)
        raise _Impossible(
            f"failed session check for key {name}: {asked.session[:100]!r} is no UUID"
        )
    return CheckSession(key, found)


_MAKERS: dict[str, Callable[[_KeyOperation, bytes, bytes], Operation]] = {
    "set": lambda asked, key, value: Put(key, value, asked.flags),
    "cas": lambda asked, key, value: Put(key, value, asked.flags, asked.index),
    "lock": lambda asked, key, value: _locking(Acquire, asked, key, value),
    "unlock": lambda asked, key, value: _locking(Release, asked, key, value),
    "get": lambda _asked, key, _value: Get(key),
    "get-or-empty": lambda _asked, key, _value: Get(key, or_empty=True),
    "get-tree": lambda _asked, key, _value: GetTree(key),
    "check-index": lambda asked, key, _value: CheckIndex(key, asked.index),
    "check-session": _session_check,
    "check-not-exists": lambda _asked, key, _value: CheckNotExists(key),
    "delete": lambda _asked, key, _value: Delete(key),
    "delete-cas": lambda asked, key, _value: Delete(key, asked.index),
    "delete-tree": lambda _asked, key, _value: DeletePrefix(key),
}


def _quoted(text: str) -> str:
    """Return a text as Go's `%q` writes it, near enough."""
    return _encode(text).decode()


# -- from operations to the answer -----------------------------------------------------------------


def _read(
    exchange: Exchange, query: Query, operations: tuple[Operation, ...], faults: Faults
) -> Deferred:
    """Answer from the local copy, as any read: nothing is changed."""
    mode, query = mode_of(exchange, query)

    def finish(_: Outcome) -> Finished:
        reader = exchange.keys.view()
        try:
            next(transactions.read(reader, operations))
        except StopIteration as done:
            return _answered(exchange, done.value, faults, heads.read_lines(exchange, mode))
        finally:
            reader.close()
        return _read_many(exchange, mode, operations, faults)

    return Deferred(None, query, finish)


async def _read_many(
    exchange: Exchange, mode: Mode, operations: tuple[Operation, ...], faults: Faults
) -> Answer | Wait:
    """Read anew what takes more than one step, each in its turn: no turn has time for 10,000 rows."""
    await exchange.slice()
    reader = exchange.keys.view()
    steps = transactions.read(reader, operations)
    try:
        while True:
            next(steps)
            await exchange.turn.slice()
    except StopIteration as done:
        outcome: Outcome = done.value
    finally:
        steps.close()  # It is in the middle of a scan, where this was cancelled.
        reader.close()
    answered = _answered(exchange, outcome, faults, heads.read_lines(exchange, mode))
    return await answered if isinstance(answered, Awaitable) else answered


def _written(
    exchange: Exchange, query: Query, operations: tuple[Operation, ...], faults: Faults
) -> Deferred:
    """Have it go through the log."""

    def finish(outcome: Outcome) -> Finished:
        if outcome.denial:
            raise refused(400, outcome.text)
        lines = heads.EVERY if outcome.ok else heads.EVERY + _NOT_APPLIED
        return _answered(exchange, outcome, faults, lines)

    return Deferred(Transaction(operations), query, finish)


def _answered(exchange: Exchange, outcome: Outcome, faults: Faults, lines: bytes) -> Finished:
    """Build the answer: what the operations say, or why some of them failed."""
    if not outcome.ok:
        found = dict(outcome.faults) | faults
        errors = [{"OpIndex": number, "What": found[number]} for number in sorted(found)]
        body = _encode({"Results": None, "Errors": errors})
        return answer(exchange.keys.applied_index, body, 409, JSON, lines)
    if len(outcome.rows) > OPERATIONS_MAX:
        return _many(exchange, outcome.rows, lines)
    body = b'{"Results":[%b],"Errors":null}' % b",".join(map(_shown, outcome.rows))
    if len(body) > _WHOLE_BYTES_MAX:
        return _large(exchange, body, lines)
    return answer(exchange.keys.applied_index, body, extra=lines)


async def _many(exchange: Exchange, rows: Sequence[KeyRow], lines: bytes) -> Answer:
    """Make an answer of many rows, some in each turn."""
    texts = []
    for start in range(0, len(rows), OPERATIONS_MAX):
        await exchange.slice()
        some = rows[start : start + OPERATIONS_MAX]
        texts.append(b",".join(map(_shown, some)))
    return await _large(exchange, b'{"Results":[%b],"Errors":null}' % b",".join(texts), lines)


async def _large(exchange: Exchange, body: bytes, lines: bytes) -> Answer:
    await exchange.slice(len(body))
    return LargeAnswer(head(exchange.keys.applied_index, extra=lines), large_raw(body))


def _shown(row: KeyRow) -> bytes:
    value = b'"%b"' % base64(row.value) if row.value else b"null"
    session = b'"Session":"%b",' % uuid_text(row.session).encode() if row.session else b""
    return (
        b'{"KV":{"LockIndex":%d,"Key":%b,"Flags":%d,"Value":%b,'
        b'%b"CreateIndex":%d,"ModifyIndex":%d}}'
        % (
            row.lock_index,
            _encode(row.key.decode()),
            row.flags,
            value,
            session,
            row.create_index,
            row.modify_index,
        )
    )
