"""Sessions, locks, transactions and blocking reads at one node: a function for each request.

These paths speak Consul's dialect (docs/http.md). As in `api.py`, nothing is sent twice here, and
each function raises the errors of `errors.py` and those that an answer stands for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import msgspec

from hstore.node.errors import Refused

from . import errors, replies
from .api import path_of
from .plain import plain_fields

if TYPE_CHECKING:
    from .api import NodeClient
    from .httpx_alone import httpx
    from .replies import KeyRow, SessionInfo, TxnFault, TxnRow

_NUMBER = re.compile(r"[0-9]{1,20}")

# Texts of errors that are the same in Consul, for programs: people get them in other words.
_TTL_BOUNDS = re.compile(
    r"Invalid Session TTL '[0-9-]+', must be between \[(\w[\w.]*)=(\w[\w.]*)\]"
)
_INVALID_SESSION = "invalid session "


class Sight(NamedTuple):
    """A key at one moment.

    Attributes:
        at: The index of this result: a blocking read waits for a greater one.
        row: The key; None: it does not exist.
    """

    at: int
    row: KeyRow | None


class Done(NamedTuple):
    """A transaction that was carried out, or that changed nothing.

    Attributes:
        rows: What its operations answer, in their order.
        faults: Why nothing was changed; empty: it was carried out.
        revision: Of all that it wrote; 0: not known, or it wrote nothing.
    """

    rows: list[TxnRow]
    faults: list[TxnFault]
    revision: int


def look(client: NodeClient, key: str, index: int = 0, wait_s: float = 0.0) -> Sight:
    """Return a key, linearizably; a missing one too.

    Args:
        client: The node.
        key: The key.
        index: Answer only when the index of the key is greater than this; 0: at once.
        wait_s: Answer after so many seconds in any case; the node adds up to a sixteenth.
    """
    query = f"?index={index}&wait={wait_s * 1000:.0f}ms" if index else ""
    response = client.exchange("GET", f"/v1/kv/{path_of(key)}{query}")
    at = _header(response, "x-consul-index") or 1
    if response.status_code == 404:
        return Sight(at, None)
    rows = client.decoded(response, replies.ROWS)
    if len(rows) != 1:
        raise errors.stranger(client.address, response)
    return Sight(at, rows[0])


def create(client: NodeClient, asked: dict[str, object]) -> str:
    """Make a session; return its id.

    Args:
        client: The node.
        asked: Members of the body that differ from the defaults.

    Raises:
        Refused: Its TTL is out of bounds, or a check is missing or critical.
    """
    body = msgspec.json.encode(asked)
    response = client.exchange("PUT", "/v1/session/create", body, is_write=True)
    try:
        return client.decoded(response, replies.SESSION_ID).id
    except Refused as error:
        bounds = _TTL_BOUNDS.match(str(error))
        if bounds is None:
            raise
        raise Refused(
            f"the TTL {asked.get('TTL')} is not allowed; allowed: {bounds[1]} (the setting "
            f"session_ttl_min) to {bounds[2]}"
        ) from None


def renew(client: NodeClient, session: str) -> SessionInfo:
    """Begin the TTL of a session anew; return the session.

    Raises:
        NotFound: It has ended, or was never there.
    """
    response = client.exchange("PUT", f"/v1/session/renew/{path_of(session)}")
    if response.status_code == 404:
        raise errors.NotFound(_no_session(session))
    return _the_one(client, response, session)


def destroy(client: NodeClient, session: str) -> None:
    """End a session, and free what it holds; one that is not there has ended already."""
    response = client.exchange("PUT", f"/v1/session/destroy/{path_of(session)}", is_write=True)
    client.decoded(response, replies.DONE)


def info(client: NodeClient, session: str) -> SessionInfo:
    """Return a session.

    Raises:
        NotFound: There is none of this id.
    """
    response = client.exchange("GET", f"/v1/session/info/{path_of(session)}")
    return _the_one(client, response, session)


def every(client: NodeClient, *, stale: bool = False) -> list[SessionInfo]:
    """Return all sessions.

    Args:
        client: The node.
        stale: From the node's own copy.
    """
    response = client.exchange("GET", f"/v1/session/list{'?stale' if stale else ''}")
    return [plain_fields(one) for one in client.decoded(response, replies.SESSIONS)]


def acquire(client: NodeClient, key: str, value: bytes, session: str, flags: int = 0) -> int | None:
    """Take the lock of a key and write its value; return the revision, 0 where it is not told.

    Returns:
        None: another session holds it, or the lock delay of the last holder is not over.

    Raises:
        Refused: There is no such session.
    """
    try:
        return _locking(client, key, value, f"acquire={quote(session, safe='')}&flags={flags}")
    except Refused as error:
        if str(error).startswith(_INVALID_SESSION):
            raise Refused(_no_session(session)) from None
        raise


def release(client: NodeClient, key: str, value: bytes, session: str, flags: int = 0) -> int | None:
    """Free the lock of a key and write its value; return as `acquire`, None: it is not the holder."""
    return _locking(client, key, value, f"release={quote(session, safe='')}&flags={flags}")


def transact(
    client: NodeClient, operations: list[dict[str, object]], *, is_write: bool = True
) -> Done:
    """Carry out all operations in one step, or none.

    Args:
        client: The node.
        operations: The members of each `KV` of the body.
        is_write: One of them changes something.
    """
    body = msgspec.json.encode([{"KV": one} for one in operations])
    response = client.exchange("PUT", "/v1/txn", body, is_write=is_write)
    said = client.decoded(response, replies.TXN, allowed=(200, 409))
    faults = said.errors or []
    if bool(faults) != (response.status_code == 409):
        raise errors.stranger(client.address, response)
    revision = _header(response, "x-hstore-revision")
    return Done(said.results or [], [plain_fields(one) for one in faults], revision)


def _locking(client: NodeClient, key: str, value: bytes, query: str) -> int | None:
    response = client.exchange("PUT", f"/v1/kv/{path_of(key)}?{query}", value, is_write=True)
    is_done = client.decoded(response, replies.DONE)
    return _header(response, "x-hstore-revision") if is_done else None


def _the_one(client: NodeClient, response: httpx.Response, session: str) -> SessionInfo:
    found = client.decoded(response, replies.SESSIONS)
    if not found:
        raise errors.NotFound(_no_session(session))
    return plain_fields(found[0])


def _no_session(session: str) -> str:
    return f"there is no session {session}; it has ended, or was never made"


def _header(response: httpx.Response, name: str) -> int:
    said = response.headers.get(name, "")
    return int(said) if _NUMBER.fullmatch(said) else 0
