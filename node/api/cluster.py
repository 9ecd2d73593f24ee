"""The cluster: /v1/cluster, /v1/health, /v1/events, /v1/timeline, /v1/node/load, and joining.

Owns how the cluster is shown over HTTP. What is shown comes from the node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from ..model.cluster_info import PROTOCOL, JoinRequest
from ..net.lag import SECONDS_MAX
from .http.answers import EVENTS, RETRY_AFTER_S, Answer, HttpError, answer, head, ok
from .http.params import decode_json, number, parse_query

if TYPE_CHECKING:
    from ..net.turn import Turn
    from .backend import Backend
    from .http.answers import Send
    from .http.connection import Request
    from .http.exchange import Exchange
    from .rendered import Latest

# Contract section 4: events for the figures at most twice a second.
FIGURES_S = 0.5
# For how long streams share the figures that one of them has asked for.
SHARED_S = 0.05
# A comment after this much silence: so we notice a dead client, and the client and proxies on the way
# see that the node lives.
KEEPALIVE_S = 15.0

_encode = msgspec.json.encode
_join_request = msgspec.json.Decoder(JoinRequest)


async def show(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/cluster`. A newcomer sees by the protocol's version whether it can join at all."""
    body = _encode(exchange.backend.administration.cluster())
    return answer(exchange.keys.applied_index, body, extra=b"X-Hstore-Protocol: %d\r\n" % PROTOCOL)


async def health(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/health`: 200 while in contact with a leader, else 503 with the reason."""
    reason = exchange.backend.process.unhealthy()
    if reason is not None:
        raise HttpError(503, reason, retry_after_s=RETRY_AFTER_S)
    return ok(exchange.keys.applied_index, b'{"healthy":true}')


async def load(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/node/load`: the longest stall of this node's event loop, `?seconds=` back."""
    seconds = number(parse_query(request.query), "seconds")
    seconds = SECONDS_MAX if seconds is None else seconds
    if not 1 <= seconds <= SECONDS_MAX:
        raise HttpError(400, f"?seconds= goes from 1 to {SECONDS_MAX}")
    lag_ms = exchange.backend.process.lag_ms(seconds)
    body = b'{"event_loop_lag_ms":%.3f,"seconds":%d}' % (lag_ms, seconds)
    return ok(exchange.keys.applied_index, body)


async def events(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/events`."""
    return _Events(exchange.backend, exchange.rendered.cluster, exchange.turn)


async def timeline(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/timeline`: `?since=`, in milliseconds since the epoch."""
    since_ms = number(parse_query(request.query), "since") or 0
    happened = exchange.backend.administration.timeline(since_ms)
    return ok(exchange.keys.applied_index, _encode({"events": happened}))


class _Events:
    """The cluster as server-sent events, without end."""

    is_endless = True
    length: int | None = None

    def __init__(self, backend: Backend, latest: Latest, turn: Turn) -> None:
        self._administration = backend.administration
        self._latest = latest
        self._turn = turn
        self.head = head(backend.keys.applied_index, content_type=EVENTS)

    async def run(self, send: Send) -> None:
        """Send the cluster now, at each change, and its figures twice a second."""
        seen, shown, shown_at = -1, b"", 0.0
        turn = self._turn
        while True:
            with trio.move_on_after(FIGURES_S):
                seen = await self._administration.wait_cluster_change(seen)
            if not turn.take_share(1):  # There may be thousands of these streams.
                await turn.wait_share(1)
            now = trio.current_time()
            content = self._latest.content((seen, int(now / SHARED_S)), self._make)
            if content != shown:
                await send(b"event: cluster\ndata: %b\n\n" % content)
                shown, shown_at = content, now
            elif now - shown_at >= KEEPALIVE_S:
                await send(b":\n\n")
                shown_at = now

    def _make(self) -> bytes:
        return _encode(self._administration.cluster())

    def close(self) -> None:
        """Do nothing: the body is made from nothing that must be closed."""


async def join(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST /v1/cluster/join`: make a newcomer, from whatever host, a learner."""
    newcomer = decode_json(_join_request, request.body)
    deadline = await exchange.begin_wait(parse_query(request.query))
    reply = await exchange.backend.administration.join(newcomer, deadline)
    return ok(exchange.keys.applied_index, _encode(reply))
