"""What a node hands over before it ends: the lead, and its vote.

The leader does the work (`membership.py`); this is the side of the node that ends. Everything here is
bounded by a deadline, and whatever fails, the node ends all the same: a crash would be safe, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import trio

from ..driver.replica import Replica
from ..errors import HstoreError, OutcomeUnknown, Refused, Unavailable
from ..peers.wire import ForwardKind
from .membership import Membership, find
from .status import Status

_LEAD_SECONDS = 1.5
"""For another node to take over: an election timeout, after which the leader gives up, and more."""

_PAUSE_SECONDS = 0.1
"""Before the next leader is asked again, after the last one has failed to answer."""


class Handover:
    """Hands over leadership and vote of one node."""

    def __init__(self, replica: Replica, status: Status, members: Membership) -> None:
        self._replica = replica
        self._facts = replica.facts
        self._status = status
        self._members = members

    async def transfer(self, to: str, deadline: float) -> str:
        """Have a member lead, whichever leads now; return the new leader's name.

        Args:
            to: Its name, id or API address; empty: the voter that is furthest.
            deadline: In seconds of `trio.current_time()`.

        Raises:
            Refused: There is no such member, or it cannot lead.
            Unavailable: It does not lead in time; it may yet, or another node may.

        Cancellation: the transfer may yet take place.
        """
        facts, before = self._facts, self._facts.leader
        wished = find(facts.members, to).id if to else 0
        name = f"{wished:016x}".encode() if wished else b""
        with contextlib.suppress(
            OutcomeUnknown
        ):  # The leader that was asked leads no more: just as wished.
            await self._replica.request(ForwardKind.TRANSFER, name, deadline)
        if not await self._until(
            lambda: facts.leader == wished if wished else facts.leader not in (0, before), deadline
        ):
            raise Unavailable("leadership was not handed over in time; see hstore list")
        member = facts.members.get(facts.leader)
        return member.name if member else f"{facts.leader:016x}"

    async def give_up_lead(self) -> None:
        """If this node leads, have another one lead, so that no client waits for an election.

        Returns after `_LEAD_SECONDS` at the latest, also when no other node leads then.
        """
        facts = self._facts
        if facts.is_leader:
            deadline = trio.current_time() + _LEAD_SECONDS
            with contextlib.suppress(HstoreError), trio.move_on_at(deadline):
                if not facts.is_transferring:
                    # Not as a request: that would go on to the next leader, and depose it.
                    await self._members.hand_over("", deadline)
                # Until this node follows another, its vote may be needed.
                await self._until(lambda: facts.leader not in (0, facts.id), deadline)

    async def leave_quorum(self, deadline: float) -> str:
        """Have the cluster do without this node's vote, by a committed change.

        Returns:
            Why it is still a voter; empty when it is none, or the only one.
        """
        facts = self._facts
        # So that no leader that hands over now chooses this node.
        self._status.say_goodbye()
        await self.give_up_lead()
        if facts.config.all_voters() == (facts.id,):
            return ""
        # A node that does not vote asks too: it may be about to become a voter.
        name = f"{facts.id:016x}".encode()
        while True:
            try:
                await self._replica.request(ForwardKind.STOP, name, deadline)
            except HstoreError as error:
                is_final = isinstance(error, Refused) or not facts.config.is_voter(facts.id)
                if is_final or trio.current_time() + _PAUSE_SECONDS >= deadline:
                    return str(error) if facts.config.is_voter(facts.id) else ""
                # The leader may just be stopping as well. To ask twice does no harm.
                await trio.sleep(_PAUSE_SECONDS)
            else:
                return ""

    async def _until(self, holds: Callable[[], bool], deadline: float) -> bool:
        """Wait until `holds` is true of the leader; return whether it is."""
        with trio.move_on_at(deadline):
            seen = self._status.structure
            while not holds():
                seen = await self._status.wait_change(seen)
        return holds()
