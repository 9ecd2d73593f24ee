"""The simple interface: /read, /write, /update and /delete, JSON in and out.

Owns how a key and a value look there. The Consul-style interface is `kv.py`; walking over many
keys is `api/http/listing.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..model.commands import Delete, Put
from .http.answers import Answer, HttpError, answer, head, ok
from .http.exchange import Deferred
from .http.guard import refuse_browser_write_by_get
from .http.listing import Listing, base64
from .http.params import (
    checked_value,
    decode_json,
    key_from_path,
    key_from_text,
    key_start,
    number,
    parse_query,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..model.commands import Outcome
    from ..state.machine import Item
    from .http.connection import Request
    from .http.exchange import Exchange

_encode = msgspec.json.encode


class _Pair(msgspec.Struct, gc=False):
    """The body of /write and /update."""

    key: str
    value: str


_pair = msgspec.json.Decoder(_Pair)


def stale_header(x: Exchange, request: Request) -> bytes:
    """Return the `X-Hstore-Stale-Ms` line for a request with `?stale`, else nothing."""
    if b"stale" not in request.query or "stale" not in parse_query(request.query):
        return b""
    stale_ms = x.backend.stale_ms()
    return b"" if stale_ms is None else b"X-Hstore-Stale-Ms: %d\r\n" % stale_ms


def find(x: Exchange, request: Request, key: bytes) -> tuple[Item, bytes]:
    """Return what this node has under a key, and `stale_header` of the request.

    Raises:
        HttpError: 404.
    """
    item, extra = x.backend.get(key), stale_header(x, request)
    if item is None:
        raise HttpError(404, f"there is no key {key.decode()!r}", extra=extra)
    return item, extra


def need_length(request: Request) -> None:
    """Refuse a body whose length was not said: what follows could be it, or a request.

    Raises:
        HttpError: 411, and the connection ends.
    """
    if not request.has_length:
        raise HttpError(411, "send Content-Length, also when it is 0", ends_connection=True)


def read_one(x: Exchange, request: Request, rest: bytes) -> Deferred:
    """`GET /read/<key>`."""
    key = key_from_path(rest)

    def finish(_: Outcome) -> bytes:
        item, extra = find(x, request, key)
        index = x.backend.applied_index
        body = b'{"key":%b,%b,"revision":%d}' % (
            _encode(key.decode()),
            value_member(item.value),
            item.revision,
        )
        return answer(index, body, extra=extra) if extra else ok(index, body)

    return Deferred(None, parse_query(request.query), finish)


def value_member(value: bytes) -> bytes:
    """Return the member of a JSON object that holds a value, text or not."""
    try:
        return b'"value":%b' % _encode(value.decode())
    except UnicodeDecodeError:
        return b'"value_base64":"%b"' % base64(value)


async def read_all(x: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /read`: one object of all keys and values as of one moment."""
    query = parse_query(request.query)
    prefix = key_start(query, "prefix") or b""
    after = key_start(query, "after")
    limit = number(query, "limit")
    await x.barrier(query)
    start = head(x.backend.applied_index, extra=stale_header(x, request))
    return Listing(start, x.backend.view(), prefix, _members, after=after, limit=limit, ends=b"{}")


def _members(items: Iterator[Item]) -> Iterator[bytes | None]:
    for item in items:
        try:
            value = _encode(item.value.decode())
        except UnicodeDecodeError:
            value = b'{"base64":"%b"}' % base64(item.value)
        yield b"%b:%b" % (_encode(item.key.decode()), value)


def write(x: Exchange, request: Request, _rest: bytes) -> Deferred:
    """`POST /write`: create or overwrite."""
    return _put(x, request, must_exist=False)


def update(x: Exchange, request: Request, _rest: bytes) -> Deferred:
    """`POST /update`: overwrite; 404 where the key does not exist."""
    return _put(x, request, must_exist=True)


def _put(x: Exchange, request: Request, *, must_exist: bool) -> Deferred:
    need_length(request)
    pair = decode_json(_pair, request.body)
    key = key_from_text(pair.key)
    value = checked_value(pair.value.encode())
    command = Put(key, value, must_exist=must_exist)
    return _written(x, request, command)


def delete(x: Exchange, request: Request, rest: bytes) -> Deferred:
    """`DELETE /delete/<key>`."""
    return _written(x, request, Delete(key_from_path(rest)))


def delete_by_get(x: Exchange, request: Request, rest: bytes) -> Deferred:
    """`GET /delete/<key>`: the same, but not for a page of another site."""
    refuse_browser_write_by_get(request)
    return delete(x, request, rest)


def _written(x: Exchange, request: Request, command: Put | Delete) -> Deferred:
    def finish(outcome: Outcome) -> bytes:
        if not outcome.ok:
            raise _no_key(command.key)
        return _done(x, command.key, outcome.revision)

    return Deferred(command, parse_query(request.query), finish)


def _no_key(key: bytes) -> HttpError:
    return HttpError(404, f"there is no key {key.decode()!r}: nothing was changed")


def _done(x: Exchange, key: bytes, revision: int) -> bytes:
    body = b'{"key":%b,"revision":%d}' % (_encode(key.decode()), revision)
    return ok(x.backend.applied_index, body)
