"""Errors of the dialect: one line of plain text, and the statuses that its clients know.

A handler raises HttpError; `refused` makes one whose text is sent exactly as it is. What HTTP itself,
the gate or the node raises is put into the dialect's words here. The texts are in `texts.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import NoLeader, NotApplied, OutcomeUnknown
from ..http.answers import TEXT, HttpError, answer, lines_of
from .heads import EVERY
from .texts import DENIED, LEADERSHIP_LOST, NO_LEADER

if TYPE_CHECKING:
    from ..http.exchange import Exchange


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
