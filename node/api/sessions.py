"""`GET /v1/ui/sessions`: who holds what for how much longer, for the dashboard.

Owns the JSON of that list, which comes by pages as those of `browse.py` do. The sessions of Consul's
clients are `consul/session.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import trio

from ..errors import HstoreError
from ..model.locks import SESSION_ID_BYTES
from ..model.values import uuid_text
from ..net.turn import SLICE_BYTES
from .http.answers import Answer, ok
from .http.params import Query, parse_query
from .paging import Pace, bad_cursor, page_limit, search_text

if TYPE_CHECKING:
    from ..model.locks import Session
    from ..state.machine import Reader
    from .http.connection import Request
    from .http.exchange import Exchange

KEYS_MAX = 20
"""Keys that are named of each session; how many it holds is always said."""
SESSION_WORK = 20
"""Microseconds to read a session and what it holds (`paging.Pace`)."""
_LEADER_S = 1.0
"""For so long the leader is waited for, which has the clocks; after that the times are left out."""
_encode = msgspec.json.encode
_CURSOR = re.compile(rf"([0-9a-f]{{16}}):([0-9a-f]{{{2 * SESSION_ID_BYTES}}})", re.ASCII)


async def every(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/ui/sessions`: as this node knows them, in the order of node and id.

    `?text=` of its name, its id, its node or a key that it holds. A page ends as those of `browse.py`.
    """
    query = parse_query(request.query)
    text, limit, after = search_text(query), page_limit(query), _after(query)
    pace = Pace(exchange)
    rows: list[dict[str, object]] = []
    timed: list[tuple[dict[str, object], bytes]] = []
    following: str | None = None
    await exchange.slice()
    reader = exchange.keys.view()
    try:
        names: dict[int, str] = {}
        last, size = "", 0
        for one in reader.sessions(after=after):
            if len(rows) >= limit or size >= SLICE_BYTES or pace.is_over:
                following = last
                break
            last = f"{one.node:016x}:{one.id.hex()}"
            row = _shown(reader, one, names, text)
            if row is not None:
                rows.append(row | {"at": last})
                size += len(_encode(row))
                timed += [(rows[-1], one.id)] if one.ttl_ms else []
            if pace.takes(SESSION_WORK):
                await pace.rest()
        total = reader.session_count
    finally:
        reader.close()
    for (row, _), left_ms in zip(timed, await _left(exchange, [i for _, i in timed]), strict=True):
        row["ttl_left_s"] = None if left_ms is None else left_ms / 1000
    body = _encode({"sessions": rows, "next": following, "total": total})
    return ok(exchange.keys.applied_index, body)


def _after(query: Query) -> tuple[int, bytes] | None:
    """Return node and id of the session behind which the page begins; None: it is the first."""
    cursor = query.get("after")
    if not cursor:
        return None
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise bad_cursor()
    return int(match[1], 16), bytes.fromhex(match[2])


async def _left(exchange: Exchange, ids: list[bytes]) -> list[int | None]:
    """Return the milliseconds that each has left; None, also where there is no leader to say so."""
    if ids:
        try:
            deadline = trio.current_time() + _LEADER_S
            return await exchange.backend.sessions.left_ms(ids, deadline)
        except HstoreError:
            pass
    return [None] * len(ids)


def _shown(
    reader: Reader, session: Session, names: dict[int, str], text: bytes
) -> dict[str, object] | None:
    """Return what is shown of a session; None: it has not the text."""
    if session.node not in names:
        node = reader.node_by_number(session.node)
        names[session.node] = "" if node is None else node.name
    keys = reader.keys_of_session(session.id)
    id_, node_name = uuid_text(session.id), names[session.node]
    about = (session.name.encode(), id_.encode(), node_name.encode(), *keys)
    if text and not any(text in one.lower() for one in about):
        return None
    return {
        "id": id_,
        "name": session.name,
        "node": node_name,
        "ttl_s": session.ttl_ms / 1000 if session.ttl_ms else None,
        "ttl_left_s": None,
        "behavior": session.behavior,
        "keys": [key.decode(errors="replace") for key in keys[:KEYS_MAX]],
        "held": len(keys),
    }
