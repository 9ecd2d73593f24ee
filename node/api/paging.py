"""What the dashboard's lists by pages have in common: what is asked of a page, and what it may cost.

Owns no list: those are `browse.py` and `sessions.py`, which say when a page ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .http.answers import HttpError
from .http.params import Query, number

if TYPE_CHECKING:
    from .http.exchange import Exchange

LIMIT_DEFAULT, LIMIT_MAX = 100, 500
TEXT_BYTES_MAX = 255
"""Of what is searched for."""

WORK_MAX = 30_000
"""What one page may cost, in microseconds of a machine with nothing else to do: at most 50 ms on one
half as fast. It is counted and not timed, so a page is the same on a busy machine, and in a test."""

WORK_PER_SLICE = 1_000
"""After so much of it the others have their turn."""


class Pace:
    """What one page has cost, and when the others have their turn.

    Attributes:
        is_over: The page has cost what it may.
    """

    __slots__ = ("_exchange", "_left", "_left_in_slice", "is_over")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._left = WORK_MAX
        self._left_in_slice = WORK_PER_SLICE
        self.is_over = False

    def takes(self, work: int) -> bool:
        """Count work; return whether `rest` is due."""
        self._left -= work
        self._left_in_slice -= work
        self.is_over = self._left <= 0
        return self._left_in_slice <= 0

    async def rest(self) -> None:
        """Wait until it may go on. Cancellation: nothing is held."""
        self._left_in_slice = WORK_PER_SLICE
        await self._exchange.turn.slice()


def page_limit(query: Query) -> int:
    """Return how many entries a page has at most; 400 for what is no such number."""
    limit = number(query, "limit")
    if limit is None:
        return LIMIT_DEFAULT
    if not 1 <= limit <= LIMIT_MAX:
        raise HttpError(400, f"?limit={limit}: expected 1 to {LIMIT_MAX} entries a page")
    return limit


def search_text(query: Query) -> bytes:
    """Return what is searched for; letters A-Z are found in either case."""
    text = query.get("text", "").encode()
    if len(text) > TEXT_BYTES_MAX:
        raise HttpError(400, f"?text= has {len(text):,} bytes: at most {TEXT_BYTES_MAX} are taken")
    return text.lower()


def bad_cursor() -> HttpError:
    """Return the error for a cursor of another list."""
    text = "?after= is no cursor of this list: send the `next` of the page before, or leave it out"
    return HttpError(400, text)
