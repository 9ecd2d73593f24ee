"""The ends of sessions that this leader has decided, until each is applied or has certainly failed.

Owns how many are proposed at a time, and the renewals that wait for an end: from the moment that an
end is decided, a renewal of its session must not be answered as if the session went on. Why a session
ends is not decided here (`session_clocks.py`, `session_nodes.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import trio

from ..driver.decisions import submit_decision
from ..driver.replica import Replica
from ..driver.requests import Answer, NotLeading, Request, unrenewed
from ..errors import NoLeader, Overloaded
from ..model.commands import Outcome
from ..model.locks import EndSession

_UNDER_WAY_MAX = 256
"""Weight of the ends that are proposed and not applied yet: as many may take effect in one turn of the
loop, some 15 ms. One end is proposed whatever its weight."""

_KEYS_OF_WEIGHT = 8
"""An end weighs 1, and 1 more for each so many keys that its session holds."""

_WAITING_MAX = 4096
"""Renewals that wait for ends; one more is refused as overload."""

Check = tuple[int, str, int]
"""A check as `EndSession.check` has it: node, ID, `modify_index`."""


class _End(NamedTuple):
    session_id: bytes
    check: Check | None
    by_clock: bool
    weight: int


class SessionEnds:
    """The ends that one leader has decided, in one term.

    Attributes:
        on_ended: Called with the id of a session that is certainly gone. It must not read the state.
        on_failed: Called with the id of a session whose end, decided by its clock, has certainly failed.
        on_refused: Called with the check of an end that had no effect: it has changed, or the session
            had ended before. It must not read the state.
        expired_total: Sessions that ended because nobody renewed them in time.
    """

    def __init__(self, replica: Replica) -> None:
        self.on_ended: Callable[[bytes], None] = lambda _session_id: None
        self.on_failed: Callable[[bytes], None] = lambda _session_id: None
        self.on_refused: Callable[[Check], None] = lambda _check: None
        self.expired_total = 0
        self._replica = replica
        self._term = 0
        # All ends that are decided, with the renewals that wait for each; how many these are.
        self._waiting: dict[bytes, list[Request]] = {}
        self._held = 0
        self._queue: deque[_End] = deque()
        self._failed: list[_End] = []
        self._under_way = 0

    def begin(self, term: int) -> None:
        """Forget what was decided in an earlier term; 0: this node leads no more."""
        self._term = term
        waiting, self._waiting = self._waiting, {}
        self._queue.clear()
        self._failed.clear()
        self._under_way = self._held = 0
        for requests in waiting.values():
            for request in requests:
                ask_again(self._replica, request)

    def is_decided(self, session_id: bytes) -> bool:
        """Whether the end of a session is decided, and not over."""
        return session_id in self._waiting

    def decide(
        self, session_id: bytes, check: Check | None = None, *, by_clock: bool = False
    ) -> None:
        """Have a session end.

        Args:
            session_id: Of the session; one that is gone does no harm.
            check: Only if this check is still so; None: in any case.
            by_clock: Its time is over. If the end fails, a renewal may still save it; else it is
                decided again.
        """
        if self._term and session_id not in self._waiting:
            self._waiting[session_id] = []
            weight = 1 + self._replica.facts.keys_held(session_id) // _KEYS_OF_WEIGHT
            self._queue.append(_End(session_id, check, by_clock, weight))
            self.propose()

    def holds(self, request: Request) -> bool:
        """Keep a renewal until the end of its session is over, if one is decided; else return False."""
        waiting = self._waiting.get(request.data)
        if waiting is None:
            return False
        if self._held >= _WAITING_MAX:
            error = Overloaded("too many renewals wait for ends; try again in a moment")
            request.finish(unrenewed(request, error))
        else:
            self._held += 1
            waiting.append(request)
        return True

    def propose(self) -> None:
        """Propose as many ends as may be under way."""
        while self._queue:
            end = self._queue[0]
            if self._under_way and self._under_way + end.weight > _UNDER_WAY_MAX:
                return
            self._under_way += end.weight
            self._queue.popleft()
            try:
                self._submit(end)
            except Overloaded as error:
                self._told(end, error)
                return  # The others would be refused, too: at the next tick.

    def tick(self) -> None:
        """Time has passed: try again what has failed, and answer renewals whose deadline is over."""
        failed, self._failed = self._failed, []
        for end in failed:
            self.decide(end.session_id, end.check)
        self.propose()
        if not self._held:
            return
        now, why = trio.current_time(), "no majority has confirmed that the session ends; try again"
        for requests in filter(None, self._waiting.values()):
            for request in requests:
                if request.deadline <= now:
                    request.finish(unrenewed(request, NoLeader(why)))
            requests[:] = [request for request in requests if not request.is_done]
        self._held = sum(map(len, self._waiting.values()))

    def _submit(self, end: _End) -> None:
        term = self._term

        def tell(answer: Answer) -> None:
            if term == self._term:
                self._told(end, answer)

        submit_decision(self._replica, EndSession(end.session_id, end.check), term, tell)

    def _told(self, end: _End, answer: Answer) -> None:
        """Take the outcome of an end. Called while entries are applied: the state must not be read."""
        self._under_way -= end.weight
        for request in self._waiting.pop(end.session_id, ()):
            self._held -= 1
            ask_again(self._replica, request)
        if isinstance(answer, Outcome):
            self.expired_total += end.by_clock and answer.ok
            if answer.ok or end.check is None:
                self.on_ended(end.session_id)
            else:
                self.on_refused(end.check)
            self.propose()
        elif end.by_clock:
            self.on_failed(end.session_id)
        else:
            self._failed.append(end)


def ask_again(replica: Replica, request: Request) -> None:
    """Have a renewal carried out again, by whichever node leads now."""
    if request.is_foreign and not replica.facts.is_leader:
        request.finish(NotLeading())
    elif not request.is_done:
        replica.waiting.queued.append(request)
        replica.want_turn()
