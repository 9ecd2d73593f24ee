"""`GET /v1/agent/monitor`: the log of this node as it comes, for one reader.

The reader gets lines from the level it names on, also those that the node does not write to standard
error. A reader that is too slow loses lines, and a line says how many; the node never waits for one.
Nothing that is secret is ever logged, so nothing is taken out here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import logs
from ..config.log_followers import Follower
from ..config.log_forms import LEVELS, renderer
from ..net.turn import SMALL_BYTES
from .dialect.forms import refused
from .dialect.heads import EVERY
from .http.answers import RETRY_AFTER_S, TEXT, Answer, HttpError, head
from .http.params import parse_query

if TYPE_CHECKING:
    from .http.answers import Send
    from .http.connection import Request
    from .http.exchange import Exchange

READERS_MAX = 16
"""Each makes the node render its lines, and holds up to `log_followers.BYTES_MAX` of them."""

LEVEL = "info"
"""Without `?loglevel=`, as in Consul."""

_LINES = b"application/x-ndjson"
_PIECE_BYTES = 16 << 10

# Those of Consul's agents (logging.ValidateLogLevel); each stands for the nearest that there is.
_LEVELS = {
    **{level: level for level in LEVELS},
    "trace": "debug",
    "warn": "warning",
    "err": "error",
}


async def follow(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/agent/monitor`: `?loglevel=`, `?logjson`."""
    query = parse_query(request.query)
    said = query.get("loglevel") or LEVEL
    level = _LEVELS.get(said.lower())
    if level is None:
        # Consul's agent/agent_endpoint.go, AgentMonitor.
        raise refused(400, f"Unknown log level: {said}")
    if logs.followers() >= READERS_MAX:
        text = f"{READERS_MAX} readers follow the log of this node already: end one of them"
        raise HttpError(503, text, retry_after_s=RETRY_AFTER_S)
    is_json = "logjson" in query
    follower = Follower(level, "json" if is_json else "text")
    content_type = _LINES if is_json else TEXT
    return _Lines(follower, head(exchange.keys.applied_index, 200, content_type, EVERY))


class _Lines:
    """The lines of the log, without end. Closes: the follower of the log."""

    is_endless = True
    length: int | None = None

    def __init__(self, follower: Follower, head: bytes) -> None:
        self.head = head
        self._follower = follower
        logs.follow(follower)

    async def run(self, send: Send) -> None:
        """Send lines as they come."""
        await send(b"")  # The head at once: a node may have nothing to say for hours.
        while True:
            lines, dropped = await self._follower.take(_PIECE_BYTES)
            if dropped:
                lines.append(self._lost(dropped))
            piece = b"".join(lines)
            if len(piece) > SMALL_BYTES:
                await send.ready()
            await send(piece)

    def _lost(self, count: int) -> bytes:
        record = logs.record("warning", "log lines dropped", count=count)
        return renderer(self._follower.form)(record).encode() + b"\n"

    def close(self) -> None:
        """Follow the log no more."""
        logs.unfollow(self._follower)
