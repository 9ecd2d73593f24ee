"""The ends of sessions that this leader has decided, until each is applied or has certainly failed.

Owns how many are proposed at a time, and the renewals that wait for an end: from the moment that an
end is decided, a renewal of its session must not be answered as if the session went on. Why a session
ends is not decided here (`session_clocks.py`, `session_nodes.py`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import trio

from ..driver.replica import Replica
from ..driver.requests import Answer, NotLeading, Request
from ..errors import NoLeader, Overloaded
from ..model import commands
from ..model.commands import Outcome
from ..model.locks import EndSession
from ..peers.wire import ForwardKind

_UNDER_WAY_MAX = 32
"""Ends that are proposed and not applied yet: so many at most take effect in one turn of the loop."""

_WAITING_MAX = 4096
"""Renewals that wait for ends; one more is refused as overload."""

Check = tuple[int, str, int]
"""A check as `EndSession.check` has it: node, ID, `modify_index`."""


class _End(NamedTuple):
    session_id: bytes
    check: Check | None


class SessionEnds:
    """The ends that one leader has decided, in one term.

    Attributes:
        on_ended: Called with the id of a session that is certainly gone. It must not read the state.
    """

    def __init__(self, replica: Replica) -> None:
        self.on_ended: Callable[[bytes], None] = lambda _session_id: None
        self._replica = replica
        self._term = 0
        # All ends that are decided, with the renewals that wait for each.
        self._waiting: dict[bytes, list[Request]] = {}
        self._queue: deque[_End] = deque()
        self._under_way = 0

    def begin(self, term: int) -> None:
        """Forget what was decided in an earlier term; 0: this node leads no more."""
        self._term = term
        waiting, self._waiting = self._waiting, {}
        self._queue.clear()
        self._under_way = 0
        for requests in waiting.values():
            for request in requests:
                ask_again(self._replica, request)

    def is_decided(self, session_id: bytes) -> bool:
        """Whether the end of a session is decided, and not over."""
        return session_id in self._waiting

    def decide(self, session_id: bytes, check: Check | None = None) -> None:
        """Have a session end.

        Args:
            session_id: Of the session; one that is gone does no harm.
            check: Only if this check is still so; None: in any case.
        """
        if self._term and session_id not in self._waiting:
            self._waiting[session_id] = []
            self._queue.append(_End(session_id, check))
            self.propose()

    def holds(self, request: Request) -> bool:
        """Keep a renewal until the end of its session is over, if one is decided; else return False."""
        waiting = self._waiting.get(request.data)
        if waiting is None:
            return False
        if sum(map(len, self._waiting.values())) >= _WAITING_MAX:
            request.finish(Overloaded("too many renewals wait for ends; try again in a moment"))
        else:
            waiting.append(request)
        return True

    def propose(self) -> None:
        """Propose as many ends as may be under way."""
        while self._queue and self._under_way < _UNDER_WAY_MAX:
            end = self._queue.popleft()
            self._under_way += 1
            try:
                self._submit(end)
            except Overloaded:
                self._under_way -= 1
                self._queue.append(end)
                return

    def tick(self) -> None:
        """Time has passed: try again what has failed, and answer renewals whose deadline is over."""
        self.propose()
        now = trio.current_time()
        for session_id, requests in self._waiting.items():
            if requests:
                left = [one for one in requests if not one.is_done and one.deadline > now]
                for request in requests:
                    if request.deadline <= now:
                        why = "the session was about to end, and no majority confirmed it in time"
                        request.finish(NoLeader(f"{why}; try again"))
                self._waiting[session_id] = left

    def _submit(self, end: _End) -> None:
        term = self._term

        def tell(answer: Answer) -> None:
            if term == self._term:
                self._told(end, answer)

        # As if it were another node's: then it is never forwarded to the next leader, which gives
        # every session its whole time again. Without a deadline: until it is applied or has failed,
        # nobody knows whether the session goes on.
        data = commands.encode(EndSession(end.session_id, end.check))
        request = Request(ForwardKind.WRITE, data, math.inf, tell, is_foreign=True)
        self._replica.submit(request)

    def _told(self, end: _End, answer: Answer) -> None:
        """Take the outcome of an end. Called while entries are applied: the state must not be read."""
        self._under_way -= 1
        if not isinstance(answer, Outcome):
            self._queue.append(end)  # It has certainly failed, and is tried again at the next tick.
            return
        if answer.ok or end.check is None:
            self.on_ended(end.session_id)
        for request in self._waiting.pop(end.session_id, ()):
            ask_again(self._replica, request)
        self.propose()


def ask_again(replica: Replica, request: Request) -> None:
    """Have a renewal carried out again, by whichever node leads now."""
    if request.is_foreign and not replica.facts.is_leader:
        request.finish(NotLeading())
    elif not request.is_done:
        replica.waiting.queued.append(request)
        replica.want_turn()
