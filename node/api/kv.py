"""The Consul-style interface: /v1/kv/<key>, raw values in, JSON with base64 out.

Owns its shapes and its parameters. The simple interface is `simple.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..model.commands import Delete, DeletePrefix, Put
from .http.answers import BYTES, JSON, Answer, HttpError, answer, head, ok
from .http.exchange import Deferred
from .http.large import WHOLE_BYTES_MAX, Large, LargeAnswer, base64, large_base64, large_raw
from .http.listing import Listing
from .http.params import (
    checked_value,
    key_from_path,
    key_start,
    number,
    parse_query,
    prefix_from_path,
)
from .items import find, find_large, is_large, stale_header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from ..model.commands import Outcome
    from ..state.machine import Item
    from .http.connection import Request
    from .http.exchange import Exchange, Finished
    from .http.listing import Piece
    from .http.params import Query

_encode = msgspec.json.encode


def get(exchange: Exchange, request: Request, rest: bytes) -> Deferred | Awaitable[Answer]:
    """`GET /v1/kv/<key>`: `?raw`, `?recurse`, `?keys`."""
    query = parse_query(request.query)
    if "recurse" in query or "keys" in query:
        return _get_many(exchange, request, rest, query)
    key = key_from_path(rest)

    def finish(_: Outcome) -> Finished:
        item, extra = find(exchange, request, key)
        if len(item.value) > WHOLE_BYTES_MAX:
            return _get_large(exchange, request, key, len(item.value), is_raw="raw" in query)
        index = exchange.keys.applied_index
        if "raw" in query:
            return answer(index, item.value, content_type=BYTES, extra=extra)
        body = b"[%b]" % _entry(item)
        return answer(index, body, extra=extra) if extra else ok(index, body)

    return Deferred(None, query, finish)


async def _get_large(
    exchange: Exchange, request: Request, key: bytes, size: int, *, is_raw: bool
) -> Answer:
    item, extra = await find_large(exchange, request, key, size)
    index = exchange.keys.applied_index
    if is_raw:
        return LargeAnswer(head(index, content_type=BYTES, extra=extra), large_raw(item.value))
    return LargeAnswer(head(index, extra=extra), _large_entry(item).between(b"[", b"]"))


async def _get_many(exchange: Exchange, request: Request, rest: bytes, query: Query) -> Answer:
    prefix = prefix_from_path(rest)
    separator = key_start(query, "separator")
    await exchange.barrier(query)
    await exchange.slice()
    extra = stale_header(exchange, request)

    def render(items: Iterator[Item]) -> Iterator[Piece]:
        if "keys" in query:
            return _key_pieces(items, len(prefix), separator or b"")
        return map(_piece, items)  # Which holds no item while the listing waits.

    listing = Listing(
        head(exchange.keys.applied_index, 200, JSON, extra), exchange.keys.view(), prefix, render
    )
    if listing.is_empty():
        listing.close()
        raise HttpError(404, f"no key starts with {prefix.decode()!r}", extra=extra)
    return listing


def _entry(item: Item) -> bytes:
    value = b'"%b"' % base64(item.value) if item.value else b"null"
    return b'{"Key":%b,"Value":%b,"Flags":%d,"CreateIndex":%d,"ModifyIndex":%d,"LockIndex":0}' % (
        _encode(item.key.decode()),
        value,
        item.flags,
        item.create_revision,
        item.revision,
    )


def _piece(item: Item) -> bytes | Large:
    return _large_entry(item) if is_large(item) else _entry(item)


def _large_entry(item: Item) -> Large:
    # As it is without a value, and the value put where that says null.
    start, null, end = _entry(msgspec.structs.replace(item, value=b"")).rpartition(b"null")
    if not item.value:
        return large_raw(start + null + end)
    return large_base64(item.value).between(start + b'"', b'"' + end)


def _key_pieces(items: Iterator[Item], start: int, separator: bytes) -> Iterator[bytes | None]:
    """List keys, each cut after the first separator beyond the prefix, each once."""
    last = b""
    for item in items:
        key = item.key
        at = key.find(separator, start) if separator else -1
        if at >= 0:
            key = key[: at + len(separator)]
        # Keys come in order, so those that are cut to the same come together.
        yield None if key == last else _encode(key.decode())
        last = key


def put(exchange: Exchange, request: Request, rest: bytes) -> Deferred:
    """`PUT /v1/kv/<key>`: `?cas`, `?flags`; with either, the answer has the revision in a header."""
    key = key_from_path(rest)
    value = checked_value(request.body)
    query = parse_query(request.query)
    if query:
        command = Put(key, value, number(query, "flags") or 0, number(query, "cas"))
    else:
        command = Put(key, value)

    def finish(outcome: Outcome) -> bytes:
        index = exchange.keys.applied_index
        if query and outcome.ok:
            return answer(index, b"true", extra=b"X-Hstore-Revision: %d\r\n" % outcome.revision)
        return ok(index, b"true" if outcome.ok else b"false")

    return Deferred(command, query, finish)


def delete(exchange: Exchange, request: Request, rest: bytes) -> Deferred:
    """`DELETE /v1/kv/<key>`: `?recurse`, `?cas`. A key that is not there counts as deleted."""
    query = parse_query(request.query)
    cas = number(query, "cas")
    if "recurse" in query:
        if cas is not None:
            raise HttpError(400, "?cas= is for one key: it does not go with ?recurse")
        return Deferred(
            DeletePrefix(prefix_from_path(rest)),
            query,
            lambda _: ok(exchange.keys.applied_index, b"true"),
        )

    def finish(outcome: Outcome) -> bytes:
        is_done = outcome.ok or cas is None
        return ok(exchange.keys.applied_index, b"true" if is_done else b"false")

    return Deferred(Delete(key_from_path(rest), cas), query, finish)
