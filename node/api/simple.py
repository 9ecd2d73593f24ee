"""The simple interface: /read, /write, /update and /delete, JSON in and out.

Owns how a key and a value look there. The Consul-style interface is `consul/kv.py`; walking over many
keys is `http/listing.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..model.commands import Delete, Put
from .http.answers import Answer, HttpError, answer, head, ok
from .http.exchange import Deferred
from .http.large import (
    WHOLE_BYTES_MAX,
    Large,
    LargeAnswer,
    base64,
    is_text,
    large_base64,
    large_text,
)
from .http.listing import Listing
from .http.params import (
    checked_value,
    decode_json,
    key_from_path,
    key_from_text,
    key_start,
    number,
    parse_query,
    refuse_repeated_members,
)
from .items import find, find_large, is_large, large_value_member, stale_header, value_member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..model.commands import Outcome
    from ..state.machine import Item
    from .http.connection import Request
    from .http.exchange import Exchange, Finished
    from .http.listing import Piece

_encode = msgspec.json.encode


class _Pair(msgspec.Struct, gc=False):
    """The body of /write and /update."""

    key: str
    value: str


_pair = msgspec.json.Decoder(_Pair)
_QUOTES = 8
# No text is shorter in JSON than in UTF-8, so in fewer bytes than these, beside the key and the value,
# there is nothing but the two.
_BYTES_WITH_THIRD_MEMBER = len('{"key":"","value":"","key":""}')


def read_one(exchange: Exchange, request: Request, rest: bytes) -> Deferred:
    """`GET /read/<key>`."""
    key = key_from_path(rest)

    def finish(_: Outcome) -> Finished:
        item, extra = find(exchange, request, key)
        if len(item.value) > WHOLE_BYTES_MAX:
            return _read_large(exchange, request, key, len(item.value))
        index = exchange.keys.applied_index
        body = b'{"key":%b,%b,"revision":%d}' % (
            _encode(key.decode()),
            value_member(item.value),
            item.revision,
        )
        return answer(index, body, extra=extra) if extra else ok(index, body)

    return Deferred(None, parse_query(request.query), finish)


async def _read_large(exchange: Exchange, request: Request, key: bytes, size: int) -> Answer:
    item, extra = await find_large(exchange, request, key, size)
    start = b'{"key":%b,' % _encode(key.decode())
    body = large_value_member(item.value).between(start, b',"revision":%d}' % item.revision)
    return LargeAnswer(head(exchange.keys.applied_index, extra=extra), body)


async def read_all(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /read`: one object of all keys and values as of one moment."""
    query = parse_query(request.query)
    prefix = key_start(query, "prefix") or b""
    after = key_start(query, "after")
    limit = number(query, "limit")
    await exchange.barrier(query)
    await exchange.slice()
    start = head(exchange.keys.applied_index, extra=stale_header(exchange, request))
    return Listing(
        start, exchange.keys.view(), prefix, _members, after=after, limit=limit, ends=(b"{", b"}")
    )


def _members(items: Iterator[Item]) -> Iterator[Piece]:
    return map(_member, items)  # Which holds no item while the listing waits.


def _member(item: Item) -> bytes | Large:
    name = b"%b:" % _encode(item.key.decode())
    if is_large(item):
        return _large_member(name, item.value)
    if is_text(item.value):
        return name + _encode(item.value.decode())
    return b'%b{"base64":"%b"}' % (name, base64(item.value))


def _large_member(name: bytes, value: bytes) -> Large:
    if is_text(value):
        return large_text(value).between(name + b'"', b'"')
    return large_base64(value).between(name + b'{"base64":"', b'"}')


def write(exchange: Exchange, request: Request, _rest: bytes) -> Deferred:
    """`POST /write`: create or overwrite."""
    return _put(exchange, request, must_exist=False)


def update(exchange: Exchange, request: Request, _rest: bytes) -> Deferred:
    """`POST /update`: overwrite; 404 where the key does not exist."""
    return _put(exchange, request, must_exist=True)


def _put(exchange: Exchange, request: Request, *, must_exist: bool) -> Deferred:
    body = request.body
    pair = decode_json(_pair, body, checks_members=False)
    key = key_from_text(pair.key)
    value = checked_value(pair.value.encode())
    if len(body) >= len(key) + len(value) + _BYTES_WITH_THIRD_MEMBER:
        refuse_repeated_members(body, _QUOTES)
    command = Put(key, value, must_exist=must_exist)
    return _written(exchange, request, command)


def delete(exchange: Exchange, request: Request, rest: bytes) -> Deferred:
    """`DELETE /delete/<key>`, and `GET` for a person who types it into a browser."""
    return _written(exchange, request, Delete(key_from_path(rest)))


def _written(exchange: Exchange, request: Request, command: Put | Delete) -> Deferred:
    def finish(outcome: Outcome) -> bytes:
        if outcome.denial:
            raise HttpError(400, outcome.text)
        if not outcome.ok:
            raise _no_key(command.key)
        return _done(exchange, command.key, outcome.revision)

    return Deferred(command, parse_query(request.query), finish)


def _no_key(key: bytes) -> HttpError:
    return HttpError(404, f"there is no key {key.decode()!r}: nothing was changed")


def _done(exchange: Exchange, key: bytes, revision: int) -> bytes:
    body = b'{"key":%b,"revision":%d}' % (_encode(key.decode()), revision)
    return ok(exchange.keys.applied_index, body)
