"""`GET /v1/ui/sessions`: who holds what for how much longer, for the dashboard.

Owns the JSON of that list. The sessions of Consul's clients are `consul/session.py`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec
import trio

from ..errors import HstoreError
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
_LEADER_S = 1.0
"""For so long the leader is waited for, which has the clocks; after that the times are left out."""


async def every(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/ui/sessions`: as this node knows them, in the order of node and id."""
    await exchange.slice()
    reader = exchange.keys.view()
    try:
        found = list(itertools.islice(reader.sessions(), SESSIONS_MAX + 1))
        names: dict[int, str] = {}
        shown = [_shown(reader, one, names) for one in found[:SESSIONS_MAX]]
    finally:
        reader.close()
    timed = [(row, one.id) for row, one in zip(shown, found, strict=False) if one.ttl_ms]
    for (row, _), left_ms in zip(timed, await _left(exchange, [i for _, i in timed]), strict=True):
        row["ttl_left_s"] = None if left_ms is None else left_ms / 1000
    body = msgspec.json.encode({"sessions": shown, "more": len(found) > SESSIONS_MAX})
    return ok(exchange.keys.applied_index, body)


async def _left(exchange: Exchange, ids: list[bytes]) -> list[int | None]:
    """Return the milliseconds that each has left; None, also where there is no leader to say so."""
    if ids:
        try:
            deadline = trio.current_time() + _LEADER_S
            return await exchange.backend.sessions.left_ms(ids, deadline)
        except HstoreError:
            pass
    return [None] * len(ids)


def _shown(reader: Reader, session: Session, names: dict[int, str]) -> dict[str, object]:
    if session.node not in names:
        node = reader.node_by_number(session.node)
        names[session.node] = "" if node is None else node.name
    keys = reader.keys_of_session(session.id)
    return {
        "id": uuid_text(session.id),
        "name": session.name,
        "node": names[session.node],
        "ttl_s": session.ttl_ms / 1000 if session.ttl_ms else None,
        "ttl_left_s": None,
        "behavior": session.behavior,
        "keys": [key.decode(errors="replace") for key in keys[:KEYS_MAX]],
        "held": len(keys),
    }
