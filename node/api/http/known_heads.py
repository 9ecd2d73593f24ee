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
from typing import NamedTuple

# Of the header lines of a request, and of how many different ones are remembered.
HEAD_BYTES_MAX = 1024
HEADS_MAX = 512
SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this size are not counted against what all connections may hold together, so a request
with one may be read here, without asking whether there is room."""
_LINE_BYTES_MAX = 8 * 1024

_PART = rb"[-A-Za-z0-9._~%!$&'()*+,;=:@/]"
_LINE = re.compile(
    rb"(GET|PUT|POST|DELETE|HEAD) (/%b*)(?:\?((?:%b|\?)*))? HTTP/1\.1" % (_PART, _PART)
)


Plain = tuple[bytes, bytes, bytes, dict[bytes, bytes], bool, bytes]
"""Method, path, query, headers, whether the length of the body was stated, body; as in `Request`."""


class _Known(NamedTuple):
    """What header lines say. `headers` is shared by all requests with them: not to be changed."""

    headers: dict[bytes, bytes]
    has_length: bool
    body_bytes: int


class KnownHeads:
    """The header lines that came last, of all connections of a server."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}

    def read(self, data: bytes) -> Plain | None:
        """Read what has come, between two requests, as one plain request with known header lines.

        None: it is none, and nothing of it is read.
        """
        at = data.find(b"\r\n")
        end = data.find(b"\r\n\r\n", at)
        known = self._known.get(data[at:end])
        if known is None or at > _LINE_BYTES_MAX:
            return None
        headers, has_length, body_bytes = known
        if len(data) - end - 4 != body_bytes:
            return None
        line = _LINE.fullmatch(data, 0, at)
        if line is None:
            return None
        method, path, query = line.groups()
        return method, path, query or b"", headers, has_length, data[end + 4 :]

    def learn(
        self, data: bytes, headers: dict[bytes, bytes], body: bytes, *, has_length: bool
    ) -> None:
        """Remember the header lines of a request after which its connection goes on, if it is plain.

        Args:
            data: What came between two requests, and which the parser has read as one.
            headers, body, has_length: What the parser has made of it.
        """
        at = data.find(b"\r\n")
        end = data.find(b"\r\n\r\n", at)
        if (
            not 0 < end - at <= HEAD_BYTES_MAX
            or data[end + 4 :] != body
            or len(body) > SMALL_BODY_BYTES
            or _LINE.fullmatch(data, 0, at) is None
        ):
            return
        if len(self._known) >= HEADS_MAX:
            self._known.clear()
        self._known[data[at:end]] = _Known(headers, has_length, len(body))
