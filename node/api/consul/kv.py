"""The keys in the dialect: /v1/kv/<key>, raw values in, JSON with base64 out.

Owns its shapes and its parameters. Listings of many keys are `trees.py`, the simple interface is
`simple.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...model.commands import Delete, DeletePrefix, Denial, Outcome, Put
from ...model.locks import Acquire, Release
from ...state.watching.changes import KEYS
from ..dialect import ids
from ..dialect.forms import refused
from ..dialect.heads import Mode, done, plain_read, read, read_lines
from ..dialect.queries import Blocking, blocking, mode_of, number, refuse_both
from ..dialect.questions import LocalWait, Target, UnaskedWait
from ..http.answers import JSON, Answer, head
from ..http.exchange import Deferred
from ..http.large import WHOLE_BYTES_MAX, LargeAnswer, large_raw
from ..http.params import checked_value, key_from_path, parse_query, prefix_from_path
from ..items import entry, large_entry
from .trees import get_many

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ...model.commands import Write
    from ...state.machine import Item
    from ..http.connection import Request
    from ..http.exchange import Exchange, Finished
    from ..http.params import Query
    from ..http.waiting import Due, Wait

_RAW = b"text/plain"
# Consul's agent/kvs_endpoint.go: a browser is not to take a stored value for a page.
_SANDBOX = b"Content-Security-Policy: sandbox\r\n"


def get(exchange: Exchange, request: Request, rest: bytes) -> Deferred | Awaitable[Answer | Wait]:
    """`GET /v1/kv/<key>`: `?raw`, `?recurse` or `?keys`, and `?index=` with `?wait=`."""
    if request.query:
        query = parse_query(request.query)
        if "recurse" in query or "keys" in query:
            return get_many(exchange, rest, query)
        return _get(exchange, key_from_path(rest), query)
    key = key_from_path(rest)

    def finish(_: Outcome) -> Finished:
        keys = exchange.keys
        item = keys.get(key)
        if item is None or len(item.value) > WHOLE_BYTES_MAX:
            return _One(exchange, key, Mode.LEADER, is_raw=False).answer(item)
        return plain_read(keys.applied_index, item.revision, b"[%b]" % entry(item))

    return Deferred(None, _NO_QUERY, finish)


_NO_QUERY: Query = {}


def _get(exchange: Exchange, key: bytes, query: Query) -> Deferred:
    mode, query = mode_of(exchange, query)
    wanted = blocking(query)
    one = _One(exchange, key, mode, is_raw="raw" in query)

    def finish(_: Outcome) -> Finished:
        found = one.look(wanted.after or None)
        return found if found is not None else one.wait(wanted)

    def park() -> Wait | None:
        return one.park(wanted, query)

    return Deferred(None, query, finish, park=park if wanted.after else None)


class _One:
    """A read of one key."""

    __slots__ = ("_exchange", "_is_raw", "_key", "_mode")

    def __init__(self, exchange: Exchange, key: bytes, mode: Mode, *, is_raw: bool) -> None:
        self._exchange = exchange
        self._key = key
        self._mode = mode
        self._is_raw = is_raw

    def look(self, after: int | None) -> Due | None:
        """Return the answer if the index of the key has passed `after`, or in any case."""
        item = self._exchange.keys.get(self._key)
        if after is not None and self._index(item) <= after:
            return None
        return self.answer(item)

    def wait(self, wanted: Blocking) -> LocalWait:
        """Wait until the index of the key has passed."""
        return LocalWait(self._exchange, self._mode, wanted, (Target(KEYS, self._key),), self.look)

    def park(self, wanted: Blocking, query: Query) -> Wait | None:
        """As `wait`, before the leader was asked; None: it has to be asked first."""
        on = (Target(KEYS, self._key),)
        return UnaskedWait(self._exchange, self._mode, wanted, on, self.look).begun(query)

    def answer(self, item: Item | None) -> Due:
        """Return the answer with what there is, or the work that makes it."""
        if item is not None and len(item.value) > WHOLE_BYTES_MAX:
            return self._large(len(item.value))
        return self._whole(item)

    def _whole(self, item: Item | None) -> bytes:
        index = self._index(item)
        if item is None:
            return read(self._exchange, self._mode, index, None)
        if self._is_raw:
            return read(
                self._exchange, self._mode, index, item.value, content_type=_RAW, extra=_SANDBOX
            )
        return read(self._exchange, self._mode, index, b"[%b]" % entry(item))

    def _index(self, item: Item | None) -> int:
        if item is not None:
            return item.revision
        reader = self._exchange.keys.view()
        try:
            return max(reader.absent_index(self._key), 1)
        finally:
            reader.close()

    async def _large(self, size: int) -> Answer:
        """Answer with a large value, read again when it is this connection's turn."""
        exchange = self._exchange
        await exchange.slice(size)
        item = exchange.keys.get(self._key)
        if item is None or len(item.value) <= WHOLE_BYTES_MAX:
            return self._whole(item)
        lines = read_lines(exchange, self._mode, item.revision)
        index = exchange.keys.applied_index
        if self._is_raw:
            start = head(index, content_type=_RAW, extra=lines + _SANDBOX)
            return LargeAnswer(start, large_raw(item.value))
        return LargeAnswer(head(index, 200, JSON, lines), large_entry(item).between(b"[", b"]"))


def put(exchange: Exchange, request: Request, rest: bytes) -> Deferred | bytes:
    """`PUT /v1/kv/<key>`: `?cas`, `?acquire` or `?release`, and `?flags`.

    With any of them, the answer has the revision in a header.
    """
    key = key_from_path(rest)
    value = checked_value(request.body)
    if not request.query:

        def finish(outcome: Outcome) -> bytes:
            if outcome.ok:
                return done(exchange.keys.applied_index, b"true")
            _refuse_denied(outcome, "")
            return done(exchange.keys.applied_index, b"false")

        return Deferred(Put(key, value), _NO_QUERY, finish)

    query = parse_query(request.query)
    refuse_both(query, "acquire", "cas", "release")
    command = _write_of(key, value, query)
    if command is None:
        return done(exchange.keys.applied_index, b"false")

    def finish_known(outcome: Outcome) -> bytes:
        _refuse_denied(outcome, query.get("acquire", ""))
        revision = b"X-Hstore-Revision: %d\r\n" % outcome.revision if outcome.ok else b""
        body = b"true" if outcome.ok else b"false"
        return done(exchange.keys.applied_index, body, revision)

    return Deferred(command, query, finish_known)


def _write_of(key: bytes, value: bytes, query: Query) -> Write | None:
    """Return the command that a PUT asks for; None: it asks to release what nobody can hold."""
    flags, cas = number(query, "flags") or 0, number(query, "cas")
    if "acquire" in query:
        session = ids.parse(query["acquire"])
        if session is None:
            raise refused(500, _invalid_session(query["acquire"]))
        return Acquire(key, value, flags, session)
    if "release" in query:
        session = ids.parse(query["release"])
        return None if session is None else Release(key, value, flags, session)
    return Put(key, value, flags, cas)


def _refuse_denied(outcome: Outcome, session: str) -> None:
    if outcome.denial == Denial.NO_SESSION:
        raise refused(500, _invalid_session(session))
    if outcome.denial:
        raise refused(400, f"Invalid request: {outcome.text}")


def _invalid_session(text: str) -> str:
    # Consul's agent/consul/state/kvs.go; Patroni compares its beginning.
    return f'invalid session "{text[:100]}"'


def delete(exchange: Exchange, request: Request, rest: bytes) -> Deferred:
    """`DELETE /v1/kv/<key>`: `?recurse`, `?cas`. A key that is not there counts as deleted."""
    query = parse_query(request.query)
    refuse_both(query, "cas", "recurse")
    cas = number(query, "cas")
    if "recurse" in query:
        return Deferred(
            DeletePrefix(prefix_from_path(rest)),
            query,
            lambda _: done(exchange.keys.applied_index, b"true"),
        )

    def finish(outcome: Outcome) -> bytes:
        # The revision is 0 where there is no such key.
        is_done = outcome.ok or cas is None or not outcome.revision
        return done(exchange.keys.applied_index, b"true" if is_done else b"false")

    return Deferred(Delete(key_from_path(rest), cas), query, finish)
