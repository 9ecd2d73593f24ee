"""`GET /v1/ui/sessions`: who holds what for how much longer, for the dashboard.

Owns the JSON of that list. The sessions of Consul's clients are `consul/session.py`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from ..model.values import uuid_text
from .http.answers import Answer, ok

if TYPE_CHECKING:
    from ..model.locks import Session
    from ..state.machine import Reader
    from .http.connection import Request
    from .http.exchange import Exchange

SESSIONS_MAX = 500
"""Of one answer: it is made in one go, in a few milliseconds."""
KEYS_MAX = 20
"""Keys that are named of each session; how many it holds is always said."""


async def every(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/ui/sessions`: as this node knows them, in the order of node and id."""
    await exchange.slice()
    reader = exchange.keys.view()
    try:
        found = list(itertools.islice(reader.sessions(), SESSIONS_MAX + 1))
        names: dict[int, str] = {}
        shown = [_shown(exchange, reader, one, names) for one in found[:SESSIONS_MAX]]
    finally:
        reader.close()
    body = msgspec.json.encode({"sessions": shown, "more": len(found) > SESSIONS_MAX})
    return ok(exchange.keys.applied_index, body)


def _shown(
    exchange: Exchange, reader: Reader, session: Session, names: dict[int, str]
) -> dict[str, object]:
    if session.node not in names:
        node = reader.node_by_number(session.node)
        names[session.node] = "" if node is None else node.name
    keys = reader.keys_of_session(session.id)
    left_s = exchange.backend.sessions.left_s(session.id)
    return {
        "id": uuid_text(session.id),
        "name": session.name,
        "node": names[session.node],
        "ttl_s": session.ttl_ms / 1000 if session.ttl_ms else None,
        "ttl_left_s": None if left_s is None else round(left_s, 1),
        "behavior": session.behavior,
        "keys": [key.decode(errors="replace") for key in keys[:KEYS_MAX]],
        "held": len(keys),
    }
