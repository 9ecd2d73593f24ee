"""Nobody waits for an end of a flush that has come, nor for a turn that nobody asked for.

- W3: what is committed and durable on a node is applied at once, and a leader counts at once what has
  become durable on it. Without this, a wake-up that is missing would only make the cluster slow: the
  next tick does what was forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from hstore.node.raft.events import Persisted
from hstore.node.raft.roles import Role

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation

_AT_ONCE_S = 0.001
"""The driver's own work takes no virtual time; a tick takes 20 ms and more."""


class Promptness:
    """Looks at each node just after something should have followed."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self._looking: set[int] = set()

    def turned(self, member: SimMember) -> None:
        """A driver has taken a turn."""
        if member.node.replica.state.applied < self._due(member):
            self._look_soon(member)

    def flushed(self, member: SimMember) -> None:
        """A flush has ended."""
        if member.is_up:
            self._look_soon(member)

    def _look_soon(self, member: SimMember) -> None:
        # What was committed in an earlier life is applied with the first tick.
        is_begun = not member.is_frozen and member.core.ticks > 0
        if is_begun and member.id not in self._looking:
            self._looking.add(member.id)
            self.sim.nursery.start_soon(self._look, member, member.lives)

    async def _look(self, member: SimMember, life: int) -> None:
        core, due, term = member.core, self._due(member), member.core.term
        durable = _durable(member)
        leads = core.role is Role.LEADER
        await trio.sleep(_AT_ONCE_S)
        self._looking.discard(member.id)
        if not member.is_up or member.lives != life:
            return
        applied = member.node.replica.state.applied
        self.sim.counts["looks at what must follow at once"] += 1
        if applied < due:
            self.sim.fail(
                f"W3: node {member.id} has not applied {due}, durable and committed: {applied}"
            )
        still_leads = leads and core.role is Role.LEADER and core.term == term
        if still_leads and core.log.persisted < durable:
            self.sim.fail(
                f"W3: leader {member.id} does not count {durable}, durable: {core.log.persisted}"
            )

    def _due(self, member: SimMember) -> int:
        """Return up to where a node has to apply."""
        return min(member.core.log.commit, _durable(member))


def _durable(member: SimMember) -> int:
    """Return up to where the flushes of a node that have ended cover its log, whoever knows of it."""
    replica, thread = member.node.replica, member.storage.thread
    seq = max((e.seq for e in replica._events if isinstance(e, Persisted)), default=0)
    if thread is not None and thread.has_untaken and replica.flushes._covers is not None:
        seq = replica.flushes._covers[0]
    log = member.core.log
    return max([log.persisted, *(index for number, index in log._writes if number <= seq)])
