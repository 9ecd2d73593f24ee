"""The headers of the dialect's answers.

Owns their names, and the blocks of them that are built once: the answer to a plain read or write is
put together from few parts, for there are thousands of those each second.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from ..http.answers import JSON, TEXT, answer, date_line, head, start_of

if TYPE_CHECKING:
    from ..http.exchange import Exchange

# Nothing is compressed or refused yet; but an answer may depend on both some day, and caches are to
# know it.
EVERY = b"Vary: Accept-Encoding\r\nX-Consul-Default-Acl-Policy: allow\r\n"
"""The headers of every answer, beside `X-Hstore-Index`."""


class Mode(enum.Enum):
    """How consistent a read is."""

    LEADER = "leader"
    """Linearizable: the default."""
    CONSISTENT = "consistent"
    """The same, asked for by name."""
    STALE = "stale"
    """The local copy, also without a leader."""


# `X-Consul-LastContact` is never left out: Consul's Go client stops reading headers where it is.
_PLAIN = (
    b"X-Consul-KnownLeader: true\r\nX-Consul-LastContact: 0\r\n"
    b"X-Consul-Effective-Consistency: leader\r\n"
)
_OK = start_of(200, JSON) + EVERY
_OK_READ = _OK + _PLAIN
_EMPTY = start_of(200, TEXT) + EVERY


def done(index: int, body: bytes, extra: bytes = b"") -> bytes:
    """Build the answer to a write that was carried out.

    Args:
        index: The applied index.
        body: JSON.
        extra: More header lines, each with its CRLF.
    """
    return b"%b%bX-Hstore-Index: %d\r\n%bContent-Length: %d\r\n\r\n%b" % (
        _OK,
        date_line(),
        index,
        extra,
        len(body),
        body,
    )


def empty(index: int) -> bytes:
    """Build the answer to a change that was carried out and has nothing to say."""
    return b"%b%bX-Hstore-Index: %d\r\nContent-Length: 0\r\n\r\n" % (
        _EMPTY,
        date_line(),
        index,
    )


def plain_read(index: int, result_index: int, body: bytes) -> bytes:
    """Build the answer to the most frequent read: the default mode, right after its barrier.

    Args:
        index: The applied index.
        result_index: Of the result, for `X-Consul-Index`.
        body: JSON.
    """
    return b"%b%bX-Hstore-Index: %d\r\nX-Consul-Index: %d\r\nContent-Length: %d\r\n\r\n%b" % (
        _OK_READ,
        date_line(),
        index,
        result_index,
        len(body),
        body,
    )


def read_lines(exchange: Exchange, mode: Mode, result_index: int | None = None) -> bytes:
    """Build the header lines of an answer that reads the state.

    Args:
        exchange: Of the connection.
        mode: Of the read.
        result_index: The index of the result, at least 1; None: it has none.
    """
    process = exchange.backend.process
    contact_ms, stale = 0, b""
    if mode is Mode.STALE:
        contact_ms, stale_ms = process.last_contact_ms, exchange.keys.stale_ms()
        if stale_ms is not None:
            stale = b"X-Hstore-Stale-Ms: %d\r\n" % stale_ms
    lines = (
        b"%bX-Consul-KnownLeader: %b\r\nX-Consul-LastContact: %d\r\n"
        b"X-Consul-Effective-Consistency: %b\r\n%b"
        % (
            EVERY,
            b"true" if process.knows_leader else b"false",
            contact_ms,
            mode.value.encode(),
            stale,
        )
    )
    return lines if result_index is None else b"X-Consul-Index: %d\r\n%b" % (result_index, lines)


def read_head(
    exchange: Exchange, mode: Mode, result_index: int, content_type: bytes = JSON
) -> bytes:
    """Build the head of a read whose body is sent while it is made."""
    lines = read_lines(exchange, mode, result_index)
    return head(exchange.keys.applied_index, 200, content_type, lines)


def read(
    exchange: Exchange,
    mode: Mode,
    result_index: int | None,
    body: bytes | None,
    *,
    content_type: bytes = JSON,
    extra: bytes = b"",
) -> bytes:
    """Build the answer to any read.

    Args:
        exchange: Of the connection.
        mode: Of the read.
        result_index: The index of the result, at least 1; None: it has none.
        body: Of the answer; None: there is nothing, and the answer is 404 with an empty body.
        content_type: Of the body.
        extra: More header lines, each with its CRLF.
    """
    lines = read_lines(exchange, mode, result_index) + extra
    if body is None:
        return answer(exchange.keys.applied_index, b"", 404, TEXT, lines)
    return answer(exchange.keys.applied_index, body, 200, content_type, lines)
