"""`serfHealth`, the check that each member has: the leader sets it by the health of the members.

What it says when is in the contract of services, section 4.4. Owns the one difference to the health
that users see: a member whose port refuses, or that restarts in place, is given a few seconds, since
its process died, but the applications beside it may live.

The check is written only where it differs from what the log has: a cluster at rest writes nothing.
"""

from __future__ import annotations

import math

import trio

from ..driver.decisions import submit_decision
from ..driver.keys import Keys
from ..driver.replica import Replica
from ..driver.requests import Answer, Request
from ..errors import HstoreError, Overloaded
from ..model.checks import (
    AGENT_ALIVE,
    AGENT_NOT_LIVE,
    SERF_HEALTH,
    SERF_HEALTH_NAME,
    Check,
    CheckStatus,
    SetCheck,
)
from ..model.cluster_info import LIVE
from ..model.commands import Member
from ..net.flag import Flag
from .health import Judgement
from .status import Status

RESTART_S = 3.0
"""For a process to be back. A death of a member is to be seen within 4 s (section 9.2)."""

_AGAIN_S = 0.2
"""After this, a write that has failed is tried again."""


class SerfHealth:
    """Keeps that check of all members, whenever this node leads."""

    def __init__(self, replica: Replica, keys: Keys, status: Status) -> None:
        """Nothing is written before `run`."""
        self._replica = replica
        self._facts = replica.facts
        self._keys = keys
        self._status = status
        self._changed = Flag()
        # By catalog number: writes that are under way, each with its status.
        self._writing: dict[int, tuple[CheckStatus, Request]] = {}
        self._not_before = 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write the check where it is due, until cancelled."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_status)
            while True:
                with trio.move_on_at(self._look()):
                    await self._changed.wait()

    async def _follow_status(self) -> None:
        """Look again after each change of leader, members or health."""
        seen = -1
        while True:
            seen = await self._status.wait_change(seen)
            self._changed.set()

    def _look(self) -> float:
        """Write what differs; return when to look again, infinity: after the next change."""
        facts, now = self._facts, trio.current_time()
        if not facts.is_leader:
            return math.inf
        if now < self._not_before or not facts.is_own_term_applied:
            return max(self._not_before, now + _AGAIN_S)
        judged, again = self._status.judgements(), math.inf
        for member in facts.members.values():
            number = member.catalog_number
            before = self._keys.check(number, SERF_HEALTH)
            status, due = self._wanted(member, judged, before)
            if self._is_under_way(number, status if due <= now else None):
                continue
            if due > now:
                again = min(again, due)
            elif before is None or before.status != status:
                self._write(number, status)
        return again

    def _is_under_way(self, number: int, wanted: CheckStatus | None) -> bool:
        """Whether a check is being written; what waits and is not wanted any more is given up here.

        While the lead is handed over, writes wait for as long as an election timeout. A member that is
        heard again by then must not be called critical after that.
        """
        status, request = self._writing.get(number, (None, None))
        if request is None:
            return False
        if status == wanted or request.index:
            return True
        request.give_up()
        del self._writing[number]
        return False

    def _wanted(
        self, member: Member, judged: dict[int, Judgement], before: Check | None
    ) -> tuple[CheckStatus, float]:
        """Return what the check of a member shall say, and from when on."""
        node = member.id
        if judged[node][0] in LIVE:
            is_known = node == self._facts.id or self._status.is_heard(node)
            if is_known or (before is not None and before.status == "passing"):
                return "passing", 0.0
            # A new leader counts everyone as alive until it has been silent for long enough.
            return "passing", trio.current_time() + _AGAIN_S
        down_since = None if member.stopped else self._status.may_be_back_soon(node)
        return "critical", 0.0 if down_since is None else down_since + RESTART_S

    def _write(self, number: int, status: CheckStatus) -> None:
        output = AGENT_ALIVE if status == "passing" else AGENT_NOT_LIVE
        check = Check(number, SERF_HEALTH, SERF_HEALTH_NAME, status, output)

        def tell(answer: Answer) -> None:
            self._writing.pop(number, None)
            if isinstance(answer, HstoreError):
                self._not_before = trio.current_time() + _AGAIN_S
            self._changed.set()  # The health may have changed meanwhile.

        try:
            request = submit_decision(self._replica, SetCheck(check), self._facts.term, tell)
        except Overloaded as error:
            tell(error)
        else:
            if not request.is_done:
                self._writing[number] = status, request
