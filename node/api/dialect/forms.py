"""Errors of the dialect: one line of plain text, and the statuses that its clients know.

Owns the texts that clients match. A handler raises HttpError; `refused` makes one whose text is sent
exactly as it is. What HTTP itself, the gate or the node raises is put into the dialect's words here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import NoLeader, NotApplied, OutcomeUnknown
from ..http.answers import TEXT, HttpError, answer, lines_of
from .heads import EVERY

if TYPE_CHECKING:
    from ..http.exchange import Exchange

_ROOTS = frozenset(
    b"kv session txn catalog health agent event query coordinate snapshot operator acl status".split()
)
# Consul's agent/http.go, `Index`, `codeWithPayload` and `MethodNotAllowedError`; rpc errors of
# agent/structs/errors.go and raft's `ErrLeadershipLost`.
NO_SUCH_PATH = "Invalid URL path: not a recognized HTTP API endpoint"
NO_LEADER = "No cluster leader"
LEADERSHIP_LOST = "leadership lost while committing log"
NO_PATH = "No path to datacenter"
DENIED = "Permission denied"


def is_dialect(path: bytes) -> bool:
    """Whether a path speaks the dialect, whether or not there is anything at it."""
    start, _, rest = path.partition(b"/v1/")
    if start or not rest:
        return path == b"/"
    root, slash, _ = rest.partition(b"/")
    # `/v1/health` itself is hstore's own.
    return root in _ROOTS and (root != b"health" or slash != b"")


def refused(status: int, text: str) -> HttpError:
    """Return an error with a text that is sent as it is."""
    return HttpError(status, text, plain=text)


def failure(exchange: Exchange, error: HttpError, *, is_change: bool) -> bytes:
    """Build the answer to a request of the dialect that failed (`exchange.Form`)."""
    status, text = _said(exchange, error)
    lines = EVERY + lines_of(error)
    if is_change:
        lines += b"X-Hstore-Outcome: %b\r\n" % (error.outcome or "not applied").encode()
    body = " ".join(text.split("\n")).encode()
    return answer(exchange.keys.applied_index, body, status, TEXT, lines)


def _said(exchange: Exchange, error: HttpError) -> tuple[int, str]:
    """Return the status and the text for an error."""
    if error.plain is not None:
        return error.status, error.plain
    cause, text = error.cause, str(error)
    if isinstance(cause, OutcomeUnknown) and exchange.backend.process.knows_leader:
        return 500, LEADERSHIP_LOST
    if isinstance(cause, NoLeader | NotApplied | OutcomeUnknown):
        return 500, NO_LEADER
    if error.status == 400:
        return 400, f"Invalid request: {text}"
    if error.status == 403:
        return 403, f"{DENIED}: {text}"
    return error.status, text
