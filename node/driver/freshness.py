"""Asks the leader for the present index again and again, as a linearizable read of a client does.

An answer says how old this node's copy may be, for `X-Hstore-Stale-Ms`, and that the node is in
contact with the leader (`contact.py`). Reads of clients say both as well: this module asks for a node
that gets none, at once where nothing else can prove the contact, and with the next tick for reads that
began to wait before the leader was asked (`Waiting.is_index_wanted`).
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
    """Asks for one node; never twice at the same time."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._asked_at = -_SECONDS
        self._is_asking = False
        replica.contact.on_doubt = self._ask

    def tick(self) -> None:
        """Time has passed: ask if it is due. It goes with the tick, so no timer of its own wakes the node."""
        # At the tick that is next to it.
        replica = self._replica
        due = self._asked_at + _SECONDS - replica.tick_seconds() / 2
        is_wanted = replica.waiting.is_index_wanted or replica.contact.needs_read()
        if is_wanted or trio.current_time() >= due:
            self._ask()

    def _ask(self) -> None:
        if self._is_asking:
            return
        now = trio.current_time()
        with contextlib.suppress(Overloaded):
            self._replica.begin_read(now + _PATIENCE_S, self._answered)
            self._asked_at, self._is_asking = now, True

    def _answered(self, answer: Answer) -> None:
        self._is_asking = False
        if answer is None and self._replica.contact.needs_read():
            # It had asked before there was a reason to.
            self._ask()
