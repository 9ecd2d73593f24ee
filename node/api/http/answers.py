"""Answers as bytes: heads made once, bodies put behind them.

Owns the status lines, the headers every answer has, and the shape of errors. Handlers decide what
to answer, and the server sends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from ...errors import HstoreError
    from ...measure.answered import Reason

JSON = b"application/json"
EVENTS = b"text/event-stream"
TEXT = b"text/plain; charset=utf-8"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

RETRY_AFTER_S = 1
"""What a 503 tells clients to wait, where waiting may help."""

_encode = msgspec.json.encode


class HttpError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status.
        outcome: What is known of a write that failed: `not applied` or `unknown`.
        allow: The methods that the path has, for 405.
        retry_after_s: When to try again, for 503; None: the answer does not say.
        extra: More header lines, each with its CRLF.
        plain: The exact text for paths whose errors are plain text; None: the same text, as far as
            that form allows it.
        cause: The error of the node that this one stands for.
        ends_connection: The next bytes of the client cannot be trusted to be a request.
        shed: What there is too much of, so that the request was refused; None: it is not about that.
    """

    def __init__(  # noqa: PLR0913 (most are for few errors)
        self,
        status: int,
        text: str,
        *,
        outcome: str | None = None,
        allow: bytes | None = None,
        retry_after_s: int | None = None,
        extra: bytes = b"",
        plain: str | None = None,
        cause: HstoreError | None = None,
        ends_connection: bool = False,
        shed: Reason | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.outcome = outcome
        self.allow = allow
        self.retry_after_s = retry_after_s
        self.extra = extra
        self.plain = plain
        self.cause = cause
        self.ends_connection = ends_connection
        self.shed = shed


def too_large(text: str, size: int, most: int) -> HttpError:
    """Return the 413 of a body, or a value, of `size` bytes where `most` are taken."""
    # Consul's agent/kvs_endpoint.go; clients show it.
    plain = f"Request body({size} bytes) too large, max size: {most} bytes."
    return HttpError(413, text, plain=plain)


class Send(Protocol):
    """Sends the body of a streaming answer, piece by piece."""

    async def __call__(self, piece: bytes) -> None:
        """Send one piece, at most `turn.SLICE_BYTES`, waiting while the client is slow."""
        ...

    async def ready(self) -> None:
        """Wait until a further piece may be made, of whatever size.

        The client can take it, this connection has its turn, and there is room for a large value.
        """
        ...

    def holding(self, values: Sequence[bytes], beside: int = 0) -> AbstractContextManager[None]:
        """Count what the answer is made from as unsent, for as long as it lasts.

        Args:
            values: Each is counted once, however many connections send it.
            beside: Bytes that this connection holds beside them.
        """
        ...


class Streaming(Protocol):
    """An answer whose body is made while it is sent.

    Attributes:
        head: Its head, without the framing and without the empty line.
        is_endless: It ends only with the connection or the node.
        length: Of the body in bytes; None: it is not known before the end.
    """

    head: bytes
    is_endless: bool
    length: int | None

    async def run(self, send: Send) -> None:
        """Send the body piece by piece; an exception breaks the connection off."""
        ...

    def close(self) -> None:
        """Release what the body is made from. Called once, even where `run` was not called."""
        ...


Answer = bytes | Streaming


def start_of(status: int, content_type: bytes) -> bytes:
    """Build the beginning of a head: the status line and the headers that never differ."""
    phrase = HTTPStatus(status).phrase.encode()
    # A stored value may be a page somebody else wrote: no browser is to guess at its type. And
    # no cache on the way may answer for us: reads are linearizable.
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nCache-Control: no-store\r\n"
        b"X-Content-Type-Options: nosniff\r\n" % (status, phrase, content_type)
    )


_OK_JSON = start_of(200, JSON)
_starts: dict[tuple[int, bytes], bytes] = {(200, JSON): _OK_JSON}


class _Date:
    """The `Date` line (RFC 9110 section 6.6.1), made once a second; `clock` gives the wall time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._line = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._line


date_line = _Date().line


def head(index: int, status: int = 200, content_type: bytes = JSON, extra: bytes = b"") -> bytes:
    """Build a head without framing and without the empty line at its end.

    Args:
        index: The applied index, for `X-Hstore-Index`.
        status: The HTTP status.
        content_type: Of the body.
        extra: More header lines, each with its CRLF.
    """
    start = _starts.get((status, content_type))
    if start is None:
        start = _starts[status, content_type] = start_of(status, content_type)
    return b"%b%bX-Hstore-Index: %d\r\n%b" % (start, date_line(), index, extra)


def answer(
    index: int,
    body: bytes,
    status: int = 200,
    content_type: bytes = JSON,
    extra: bytes = b"",
) -> bytes:
    """Build a whole answer; the arguments are those of `head`."""
    return b"%bContent-Length: %d\r\n\r\n%b" % (
        head(index, status, content_type, extra),
        len(body),
        body,
    )


def ok(index: int, body: bytes) -> bytes:
    """Build the most frequent answer: 200 with JSON and nothing special."""
    return b"%b%bX-Hstore-Index: %d\r\nContent-Length: %d\r\n\r\n%b" % (
        _OK_JSON,
        date_line(),
        index,
        len(body),
        body,
    )


def failure(index: int, error: HttpError) -> bytes:
    """Build the answer to a request that failed, as JSON: the form of all paths without one of their own."""
    content = {"error": str(error)}
    if error.outcome is not None:
        content["outcome"] = error.outcome
    return answer(index, _encode(content), error.status, JSON, lines_of(error))


def lines_of(error: HttpError) -> bytes:
    """Build the header lines that an error brings with it, in every form."""
    extra = error.extra
    if error.allow is not None:
        extra += b"Allow: %b\r\n" % error.allow
    if error.retry_after_s is not None:
        extra += b"Retry-After: %d\r\n" % error.retry_after_s
    return extra


def without_body(whole: bytes) -> bytes:
    """Cut an answer down to what HEAD gets: the head, with the length that GET would have."""
    return whole[: whole.index(b"\r\n\r\n") + 4]


def with_header(whole: bytes, line: bytes) -> bytes:
    """Put a header line (without CRLF) into an answer or a head, after its status line."""
    return whole.replace(b"\r\n", b"\r\n%b\r\n" % line, 1)
