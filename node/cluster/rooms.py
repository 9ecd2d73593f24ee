"""What the leader does about disks that are short of room: its own, and the other voters'.

Each member reports its room with its figures, and at once when its disk becomes short or has room
again (`status.py`). From that the leader

- refuses new values while the voters with room are no majority: every write would be filled into
  disks that it needs, until their nodes stop. One short voter among three stops nothing;
- hands over when its own disk is short, to a voter that is live, caught up and has room, and has
  requests wait for that. It first asks the voters for their room as of now: several nodes may share
  one disk. It tries again with pauses, and not at all when no voter has room.

What is refused then is in `driver/disk_space.py`; that a short node does not stand for election, in
`raft/core.py`.
"""

from __future__ import annotations

import math

import structlog
import trio

from ..driver.replica import Replica
from ..errors import HstoreError
from ..raft import quorum
from ..raft.events import TransferLeader
from ..raft.quorum import VoteResult
from .membership import Membership
from .status import Status

_ASKING_SECONDS = 1.0
"""For which requests wait, before they are refused, until a voter reports that it has room."""

_HANDOVER_SECONDS = 5.0
"""For a handover; the core gives it up after an election timeout."""

_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 1.0, 60.0
"""After a handover that failed; each is twice as long as the one before."""

_ABREAST_ENTRIES = 1000
"""Of the voters whose logs are at most so far behind the furthest, the one with the most room leads."""

_log = structlog.get_logger()


class Rooms:
    """The leader's view of the room on all voters' disks."""

    def __init__(self, replica: Replica, status: Status, members: Membership) -> None:
        """Nothing is handed over before `run`."""
        self._replica = replica
        self._facts = replica.facts
        self._status = status
        self._members = members
        self._space = replica.disk_space
        self._short: list[int] = []
        self._asked_at = math.inf
        self._is_handing_over = False
        self._pause_s = _PAUSE_SECONDS
        self._next_at = 0.0
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hand over when it is due, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # The driver may take one more turn while all is ended.

    def look(self) -> None:
        """Act on the room of all disks as it is known now; called with each report and each tick."""
        facts, status = self._facts, self._status
        if not (facts.is_leader and self._space.is_short):
            self._stay()
        if not facts.is_leader:
            if self._short:
                self._short = []
                self._space.others("", is_tight=False)
            return
        short = [member for member in facts.members if status.is_short(member)]
        if not short and not self._short:
            return
        self._tell(short)
        self._short = short
        self._judge()
        if self._space.is_short:
            self._leave_soon()

    def _tell(self, short: list[int]) -> None:
        for member in self._facts.members.values():
            figures = self._status.room_of(member.id)
            if figures is None or (member.id in short) is (member.id in self._short):
                continue
            about = {
                "member": member.id,
                "free_mib": figures.disk_free >> 20,
                "needed_mib": figures.disk_needed >> 20,
            }
            if member.id in short:
                _log.warning("a member's disk is short of room", **about)
            else:
                _log.info("a member's disk has room again", **about)

    def _judge(self) -> None:
        """Have new values refused while the voters with room are no majority."""
        status, config = self._status, self._facts.config
        voters = config.all_voters()
        short = [voter for voter in voters if status.is_short(voter)]
        # A voter that is down counts as one without room: of three voters with one short and one
        # down, every write needs the short one.
        live = [voter for voter in voters if status.is_live(voter)]
        with_room = {voter: voter in live and voter not in short for voter in voters}
        texts = [text for voter in short if (text := status.shortage_of(voter))]
        is_majority = quorum.vote_result(config, with_room) is VoteResult.WON
        figures = {voter: status.room_of(voter) for voter in voters}
        with_some = {
            voter: voter in live and not ((f := figures[voter]) is not None and f.is_disk_tight)
            for voter in voters
        }
        is_tight = quorum.vote_result(config, with_some) is not VoteResult.WON
        shortage = "" if is_majority or not short else "; ".join(texts)
        self._space.others(shortage, is_tight=bool(shortage) and is_tight)

    # -- the own disk -----------------------------------------------------------------------

    def _stay(self) -> None:
        """Hand nothing over now; the next time begins without a pause."""
        self._asked_at = math.inf
        self._next_at, self._pause_s = 0.0, _PAUSE_SECONDS
        self._space.is_leaving = self._is_handing_over

    def _leave_soon(self) -> None:
        """Begin to hand over, if there is a voter to hand over to."""
        now = trio.current_time()
        if self._is_handing_over or self._facts.is_transferring or self._nursery is None:
            return
        ready = self._members.successors()
        if self._asked_at == math.inf:
            self._asked_at = now
            self._space.is_leaving = bool(ready)
            self._status.tell()
        # Only reports since then count.
        said = [one for one in ready if self._status.reported_at(-one[1]) > self._asked_at]
        if len(said) < len(ready) and now < self._asked_at + _ASKING_SECONDS:
            return
        to = self._best(said) if now >= self._next_at else 0
        self._is_handing_over = self._space.is_leaving = to != 0
        if to:
            self._nursery.start_soon(self._hand_over, to)

    def _best(self, ready: list[tuple[int, int]]) -> int:
        """Return the voter with the most room of those that are furthest; 0: there is none."""
        furthest = max((match for match, _ in ready), default=0)
        rooms = {
            -minus_id: figures.disk_free
            for match, minus_id in ready
            if match >= furthest - _ABREAST_ENTRIES
            and (figures := self._status.room_of(-minus_id)) is not None
        }
        return max(rooms, key=lambda voter: (rooms[voter], -voter), default=0)

    async def _hand_over(self, to: int) -> None:
        _log.info("this disk is short of room: handing the lead over", member=to)
        deadline = trio.current_time() + _HANDOVER_SECONDS
        try:
            await self._replica.ask_core(lambda rid: TransferLeader(rid, to), deadline)
        except HstoreError as error:
            _log.warning("the lead could not be handed over", member=to, why=str(error))
        finally:
            self._next_at = trio.current_time() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _PAUSE_SECONDS_MAX)
            self._is_handing_over = self._space.is_leaving = False
            self._replica.want_turn()
