"""The dashboard: its files below `/ui/`, and what only it asks for, below `/v1/ui/`.

Owns the headers that keep its pages safe in a browser, and the stream that all tabs of a browser share.
Nothing here needs a leader: each answer is what this node knows.

Theory of operation. A stream sends what it has on whole seconds of the node's clock, so all streams of a
node wake in the same turns and share one rendering of each event: the first makes the bytes, the others
send the same ones. A change of the cluster's structure (who leads, who belongs, who is healthy) is sent
at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import trio

from ..web import files
from .http.answers import EVENTS, TEXT, Answer, HttpError, answer, date_line, head, ok, without_body

if TYPE_CHECKING:
    from ..net.turn import Turn
    from .backend import Backend
    from .http.answers import Send
    from .http.connection import Request
    from .http.exchange import Exchange
    from .rendered import Latest

CSP = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
PERIOD_S = 1.0
"""How often the figures are sent. A page that hears nothing for several of these takes its node for lost."""

MAY = (
    "key write",
    "session write",
    "event write",
    "service write",
    "node write",
    "agent write",
    "operator write",
)
"""Which rights (`gate.Right`) the dashboard offers actions for where a request counts as from this
machine, until there are tokens: what changes anything but tokens."""

_encode = msgspec.json.encode
_HEAD = (
    b"Content-Type: %b\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n"
    b"Content-Security-Policy: " + CSP + b"\r\nReferrer-Policy: no-referrer\r\n"
    b"Cross-Origin-Opener-Policy: same-origin\r\nETag: %b\r\n"
)
_files = files.load()


def redirect(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /ui`: the address that the links of the dashboard are relative to ends in a slash."""
    return answer(exchange.keys.applied_index, b"", 301, TEXT, b"Location: /ui/\r\n")


def serve(_exchange: Exchange, request: Request, rest: bytes) -> Answer:
    """`GET /ui/<file>`, and `GET /ui/`; 304 where the browser has the file."""
    file = _files.get(rest)
    if file is None:
        name = rest[:100].decode("latin-1")
        raise HttpError(404, f"the dashboard has no file {name!r}: it begins at /ui/")
    lines = date_line() + _HEAD % (file.content_type, file.etag)
    if file.etag in request.headers.get(b"if-none-match", b""):
        return b"HTTP/1.1 304 Not Modified\r\n%b\r\n" % lines
    whole = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (
        lines,
        len(file.body),
        file.body,
    )
    return without_body(whole) if request.method == b"HEAD" else whole


def me(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/ui/me`: this node, and what the one who asks may do here."""
    process = exchange.backend.process
    shown = {
        "node": process.name,
        "id": f"{process.id:016x}",
        "may": MAY if exchange.is_local else (),
    }
    return ok(exchange.keys.applied_index, _encode(shown))


def stream(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/ui/stream`: the cluster and the newest figures as server-sent events, without end."""
    return _Stream(exchange.backend, exchange.rendered.dashboard, exchange.turn)


def _newest(backend: Backend) -> bytes:
    """Return the event with the newest point of this node's statistics; empty: there is none yet."""
    at_ms, series = backend.statistics.newest()
    if not series:
        return b""
    return b"event: statistics\ndata: %b\n\n" % _encode({"at_ms": at_ms, "series": series})


class _Stream:
    """The events of one stream."""

    is_endless = True
    length: int | None = None

    def __init__(self, backend: Backend, latest: Latest, turn: Turn) -> None:
        self._backend = backend
        self._latest = latest
        self._turn = turn
        self.head = head(backend.keys.applied_index, content_type=EVENTS)

    async def run(self, send: Send) -> None:
        """Send what is new now, at each change of the cluster, and once a second."""
        seen, turn = -1, self._turn
        second = math.floor(trio.current_time() / PERIOD_S)
        while True:
            # All streams wake at the same moment, so what one of them makes serves all.
            with trio.move_on_at((second + 1) * PERIOD_S):
                seen = await self._backend.administration.wait_cluster_change(seen)
            if not turn.take_share(1):
                await turn.wait_share(1)
            second = math.floor(trio.current_time() / PERIOD_S)
            await send(self._latest.content((seen, second), self._make))

    def _make(self) -> bytes:
        cluster = _encode(self._backend.administration.cluster())
        return b"event: cluster\ndata: %b\n\n%b" % (cluster, _newest(self._backend))

    def close(self) -> None:
        """Do nothing: the body is made from nothing that must be closed."""
