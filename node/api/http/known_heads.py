"""Reads plain requests whose header lines have come before, without parsing those again.

Owns what is remembered of header lines, and what a plain request is. A client sends the same header
lines with each request, and to parse them was a quarter of what a small read costs.

What is plain is a part of what `connection.py` takes, and means the same there: a method of a few, a
target of the characters that RFC 3986 allows in a path or a query, HTTP/1.1; then header lines that are
byte for byte those of a request that the parser has read as whole, with a body no longer than
`SMALL_BODY_BYTES`, after which the connection goes on; and all of that in one piece, with nothing behind
it. Anything else is left to the parser.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .connection import Request

# Of the header lines of a request, and of how many different ones are remembered.
HEAD_BYTES_MAX = 1024
HEADS_MAX = 512
BODY_BYTES_MAX = 64 * 1024
_LINE_BYTES_MAX = 8 * 1024

_PART = rb"[-A-Za-z0-9._~%!$&'()*+,;=:@/]"
_LINE = re.compile(
    rb"(GET|PUT|POST|DELETE|HEAD) (/%b*)(?:\?((?:%b|\?)*))? HTTP/1\.1" % (_PART, _PART)
)


class _Known(NamedTuple):
    """What header lines say. `headers` is shared by all requests with them: not to be changed."""

    headers: dict[bytes, bytes]
    has_length: bool
    body_bytes: int


class KnownHeads:
    """The header lines that came last, of all connections of a server."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}

    def read(self, request: Request, data: bytes) -> bool:
        """Read what has come, between two requests, as one plain request with known header lines.

        Args:
            request: A new one, which is filled.
            data: All that has come.

        Returns:
            Whether it is one; else nothing of `data` is read.
        """
        at = data.find(b"\r\n")
        end = data.find(b"\r\n\r\n", at)
        known = self._known.get(data[at:end])
        if known is None or at > _LINE_BYTES_MAX or len(data) - end - 4 != known.body_bytes:
            return False
        line = _LINE.fullmatch(data, 0, at)
        if line is None:
            return False
        request.method, request.path, query = line.groups()
        request.query = query or b""
        request.headers, request.has_length, _ = known
        request.body = data[end + 4 :]
        request.keep_alive = True
        request.is_http10 = False
        return True

    def learn(self, data: bytes, request: Request) -> None:
        """Remember the header lines of what the parser has read as one request, if it is plain.

        Args:
            data: What came between two requests, and was this one.
            request: What the parser has made of it.
        """
        at = data.find(b"\r\n")
        end = data.find(b"\r\n\r\n", at)
        if (
            not 0 < end - at <= HEAD_BYTES_MAX
            or not request.keep_alive
            or data[end + 4 :] != request.body
            or len(request.body) > BODY_BYTES_MAX
            or _LINE.fullmatch(data, 0, at) is None
        ):
            return
        if len(self._known) >= HEADS_MAX:
            self._known.clear()
        self._known[data[at:end]] = _Known(request.headers, request.has_length, len(request.body))
