"""How followers hear of a commit that no entries follow: what `node/driver/commit_news.py` does.

A real leader that has applied something waits a moment. Whoever has not heard of the commit by then,
with the next entries, is told of it: the core gets a `TellCommit`. It looks again a few times for
those that still have entries to answer. The waits are drawn here, in place of being counted from how
closely entries follow each other, and half of them tell at once, past entries that are not
answered, as a real leader does without any wait while commits are few. Beside that anybody, leader or not, is asked to tell at odd moments:
nothing may come of an event that is early, late or meant for another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.node.driver.commit_news import _TRIES_MAX, _WAIT_S, _WAIT_S_MAX
from hstore.node.raft import replication
from hstore.node.raft.events import TellCommit
from hstore.node.raft.roles import Role

from .options import stream
from .tape import Strikes, What, decision

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation

_TELL = (TellCommit(), TellCommit(at_once=True))
_LONGEST = round(_WAIT_S_MAX / _WAIT_S)
"""So many times the shortest wait."""


class CommitNews:
    """What leaders tell of their commits in one run."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self._looking: dict[int, int] = {}
        self._again: set[int] = set()
        self._waits = stream(seed, "tell wait")
        self._calm = stream(seed, "calm tell wait")
        self._odd = stream(seed, "tell")

    def begin(self) -> None:
        """Plan the first odd moment."""
        every = self.sim.options.tell_every
        Strikes(self.sim, "tell", self._odd, self._draw_odd, self._tell_oddly).begin(every)

    def applied(self, node: SimNode) -> None:
        """A node has applied something: if it leads, followers may have to be told."""
        core = node.core
        if core is None or core.role is not Role.LEADER or core.options.eager_commit:
            return
        if self._looking.get(node.id) == node.boot:
            self._again.add(node.id)
        else:
            self._plan(node, _TRIES_MAX)

    @decision(lambda _, node: node, lambda self, _: self.sim.options.tell_after)
    def draw_tell_wait(self, node: int) -> int:
        """Return how long a leader waits until it looks whether followers know of a commit."""
        rng = self._calm if self.sim.is_healed else self._waits
        after = self.sim.options.tell_after
        return rng.randint(after, _LONGEST * after)

    def _plan(self, node: SimNode, tries: int) -> None:
        assert node.core is not None
        self._looking[node.id] = node.boot
        planned = (node, node.boot, node.core.log.commit, tries)
        self.sim.after(self.draw_tell_wait(node.id), self._look, planned)

    def _look(self, planned: tuple[SimNode, int, int, int]) -> None:
        node, boot, commit, tries = planned
        if node.core is None or node.boot != boot:
            return
        if replication.is_untold(node.core, commit):
            self.sim.counts["commits told of without entries"] += 1
            node.give(_TELL[commit % 2])
            if node.core is None:
                return
        if tries > 1 and replication.is_untold(node.core, node.core.log.commit):
            self._plan(node, tries - 1)
        elif node.id in self._again:
            self._again.discard(node.id)
            self._plan(node, _TRIES_MAX)
        else:
            del self._looking[node.id]

    # -- odd moments --------------------------------------------------------------------------

    def _draw_odd(self) -> What:
        leader = self.sim.clients.leader() if self._odd.random() < 0.5 else None
        return (leader.id if leader is not None else self._odd.choice(list(self.sim.nodes)),)

    def _tell_oddly(self, node_id: int) -> None:
        if node_id in self.sim.nodes:
            self.sim.counts["asked to tell of commits at odd moments"] += 1
            told = self.sim.counts["asked to tell of commits at odd moments"]
            self.sim.give(node_id, _TELL[told % 2])
