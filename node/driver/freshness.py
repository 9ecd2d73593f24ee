"""Keeps this node's knowledge of how old its copy may be, for `X-Hstore-Stale-Ms`.

Every linearizable read of a client says it as well: this module asks for a node that gets none.
"""

from __future__ import annotations

import contextlib

import trio

from ..errors import Overloaded
from .replica import Replica
from .requests import Answer

_SECONDS = 1.0
"""How often a node asks; each time costs the leader a round of heartbeats."""

_PATIENCE_S = 10 * _SECONDS


class Freshness:
    """Asks the leader for the present index again and again, as a client's read does."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._asked_at = -_SECONDS
        self._is_asking = False

    def tick(self) -> None:
        """Time has passed: ask if it is due. It goes with the tick, so no timer of its own wakes the node."""
        now = trio.current_time()
        # At the tick that is next to it.
        due = self._asked_at + _SECONDS - self._replica.tick_seconds() / 2
        if not self._is_asking and now >= due:
            with contextlib.suppress(Overloaded):
                self._replica.begin_read(now + _PATIENCE_S, self._answered)
                self._asked_at, self._is_asking = now, True

    def _answered(self, _answer: Answer) -> None:
        self._is_asking = False
