"""How an item of the store looks in answers of more than one interface.

Used by the handlers of `/read`, `/v1/kv` and `/v1/watch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..model.values import uuid_text
from .http.answers import HttpError
from .http.large import WHOLE_BYTES_MAX, Large, base64, is_text, large_base64, large_raw, large_text
from .http.params import parse_query

if TYPE_CHECKING:
    from ..state.machine import Item
    from .http.connection import Request
    from .http.exchange import Exchange

_encode = msgspec.json.encode


def stale_header(exchange: Exchange, request: Request) -> bytes:
    """Return the `X-Hstore-Stale-Ms` line for a request with `?stale`, else nothing."""
    if b"stale" not in request.query or "stale" not in parse_query(request.query):
        return b""
    stale_ms = exchange.keys.stale_ms()
    return b"" if stale_ms is None else b"X-Hstore-Stale-Ms: %d\r\n" % stale_ms


def find(exchange: Exchange, request: Request, key: bytes) -> tuple[Item, bytes]:
    """Return what this node has under a key, and `stale_header` of the request.

    Raises:
        HttpError: 404.
    """
    item, extra = exchange.keys.get(key), stale_header(exchange, request)
    if item is None:
        raise HttpError(404, f"there is no key {key.decode()!r}", extra=extra)
    return item, extra


async def find_large(
    exchange: Exchange, request: Request, key: bytes, size: int
) -> tuple[Item, bytes]:
    """Return what `find` does, for a value of this size, when it is this connection's turn.

    The caller has dropped the value for that: no connection that waits for its turn holds one.

    Raises:
        HttpError: 404, it is gone; 503, as of `Exchange.slice`.
    """
    await exchange.slice(size)
    return find(exchange, request, key)


def is_large(item: Item) -> bool:
    """Whether an item is sent in pieces."""
    return len(item.value) > WHOLE_BYTES_MAX


def large_value_member(value: bytes) -> Large:
    """Return what `value_member` does, of a large value."""
    if is_text(value):
        return large_text(value).between(b'"value":"', b'"')
    return large_base64(value).between(b'"value_base64":"', b'"')


def value_member(value: bytes) -> bytes:
    """Return the member of a JSON object that holds a value: text, or base64 where it is not."""
    try:
        return b'"value":%b' % _encode(value.decode())
    except UnicodeDecodeError:
        return b'"value_base64":"%b"' % base64(value)


def entry(item: Item) -> bytes:
    """Return the JSON object of a key."""
    value = b'"%b"' % base64(item.value) if item.value else b"null"
    session = b'"Session":"%b",' % uuid_text(item.session).encode() if item.session else b""
    return (
        b'{"LockIndex":%d,"Key":%b,"Flags":%d,"Value":%b,%b"CreateIndex":%d,"ModifyIndex":%d}'
        % (
            item.lock_index,
            _encode(item.key.decode()),
            item.flags,
            value,
            session,
            item.create_revision,
            item.revision,
        )
    )


def large_entry(item: Item) -> Large:
    """Return the JSON object of a key with a large value, to be sent in pieces."""
    # As it is without a value, and the value put where that says null.
    start, null, end = entry(msgspec.structs.replace(item, value=b"")).rpartition(b"null")
    if not item.value:
        return large_raw(start + null + end)
    return large_base64(item.value).between(start + b'"', b'"' + end)
