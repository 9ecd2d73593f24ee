"""Who uses the cluster: writers, readers, and somebody who changes its membership."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.node.raft.entry import Entry
from hstore.node.raft.errors import Reason
from hstore.node.raft.events import Propose, ProposeChange, ReadIndex
from hstore.node.raft.membership import Change, ChangeKind, Configuration
from hstore.node.raft.roles import Role

from .options import TICK, stream

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation

_MOST_MEMBERS = 6
_MOST_NODES = 12


class Clients:
    """Everybody outside. They know only what nodes answer, and where nodes are.

    Attributes:
        acked: rid and index of every proposal that was acknowledged.
        refused: rids of proposals that are certainly not in the log.
    """

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self.acked: dict[int, int] = {}
        self.refused: set[int] = set()
        self.is_over = False
        self._last_rid = 0
        self._changes_under_way: set[int] = set()
        self._proposals = stream(seed, "propose")
        self._reads = stream(seed, "read")
        self._changes = stream(seed, "change")

    def begin(self) -> None:
        """Start to use the cluster."""
        options = self.sim.options
        self.sim.after(options.propose_every, self._propose, None)
        if options.read_every:
            self.sim.after(options.read_every, self._read, None)
        if options.change_every:
            self.sim.after(options.change_every, self._change, None)

    def stop(self) -> None:
        """End all requests."""
        self.is_over = True

    def next_rid(self) -> int:
        """Return an id that was never used, by any node in any life."""
        self._last_rid += 1
        return self._last_rid

    def propose_at(self, node: SimNode, count: int, payload: int) -> list[int]:
        """Propose at a node; return the rids."""
        rids = [self.next_rid() for _ in range(count)]
        self.sim.counts["proposals"] += count
        node.give(Propose([(rid, rid.to_bytes(8) + b"." * payload) for rid in rids]))
        return rids

    # -- answers ----------------------------------------------------------------------------

    def acknowledged(self, rid: int, entry: Entry) -> None:
        """A node says that a proposal or a change is committed and applied."""
        self.sim.counts["acknowledged"] += 1
        if rid in self._changes_under_way:
            self.sim.counts["changes acknowledged"] += 1
            return
        self.sim.checker.acknowledged(rid, entry)
        self.acked[rid] = entry.index

    def rejected(self, rid: int, reason: Reason) -> None:
        """A node says that a proposal is certainly not in the log."""
        self.sim.counts[f"refused: {reason.value}"] += 1
        self.refused.add(rid)
        self.sim.checker.refused(rid)

    def committed(self, node: SimNode) -> None:
        """Something is committed: somebody reads at once where that may not be known yet."""
        if not self.sim.options.read_every or self.is_over:
            return
        for other in self.sim.nodes.values():
            if other is node or other.core is None:
                continue
            if other.core.role is Role.LEADER or self._reads.random() < 0.02:
                self.sim.counts["reads behind a commit"] += 1
                self.sim.give(other.id, ReadIndex(self.next_rid()))

    def turn_to(self, leader: SimNode) -> None:
        """A leader is about to be cut off: some write there, read there, change members there."""
        if self.is_over:
            return
        for delay in (TICK, 2 * TICK, 4 * TICK):
            self.sim.after(delay, self._use_once, leader)

    def _use_once(self, node: SimNode) -> None:
        options = self.sim.options
        if node.core is None or node.core.role is not Role.LEADER or self.is_over:
            return
        self.propose_at(node, 1, options.payload)
        if options.read_every:
            node.give(ReadIndex(self.next_rid()))
        if options.change_every and node.core is not None:
            self._change_at(node, node.core.config)

    # -- requests ---------------------------------------------------------------------------

    def leader(self) -> SimNode | None:
        """Return the node that leads the highest term, if any does."""
        best: SimNode | None = None
        for node in self.sim.nodes.values():
            core = node.core
            if core is None or core.role is not Role.LEADER:
                continue
            if best is None or best.core is None or core.term > best.core.term:
                best = node
        return best

    def _propose(self, _: None) -> None:
        if self.is_over:
            return
        rng, options = self._proposals, self.sim.options
        self.sim.after(int(rng.expovariate(1 / options.propose_every)), self._propose, None)
        node = self.leader() if rng.random() < 0.7 else None
        if node is None:
            node = rng.choice(list(self.sim.nodes.values()))
        if node.core is not None:
            self.propose_at(node, rng.randint(1, options.propose_most), options.payload)

    def _read(self, _: None) -> None:
        if self.is_over:
            return
        rng = self._reads
        self.sim.after(int(rng.expovariate(1 / self.sim.options.read_every)), self._read, None)
        node = rng.choice(list(self.sim.nodes.values()))
        if node.core is not None:
            self.sim.counts["reads"] += 1
            node.give(ReadIndex(self.next_rid()))

    def _change(self, _: None) -> None:
        if self.is_over:
            return
        rng = self._changes
        self.sim.after(int(rng.expovariate(1 / self.sim.options.change_every)), self._change, None)
        leaders = [
            node
            for node in self.sim.nodes.values()
            if node.core is not None and node.core.role is Role.LEADER
        ]
        if not leaders:
            return
        # Any leader, also one that is none any more: that is where old majorities are counted.
        node = rng.choice(leaders)
        assert node.core is not None
        self._change_at(node, node.core.config)

    def _change_at(self, node: SimNode, config: Configuration) -> None:
        change = self._draw_change(config)
        if change is not None:
            rid = self.next_rid()
            self._changes_under_way.add(rid)
            self.sim.counts[f"change: {change.kind.name.lower()}"] += 1
            node.give(ProposeChange(rid, (change,)))

    def _draw_change(self, config: Configuration) -> Change | None:
        rng = self._changes
        kinds = ["promote", "promote", "demote", "remove", "remove", "learner", "learner", "voter"]
        kind = rng.choice(kinds)
        if kind in ("learner", "voter"):
            node = self._newcomer(config)
            if node is None or len(config.all_members()) >= _MOST_MEMBERS:
                return None
            return Change(
                ChangeKind.ADD_LEARNER if kind == "learner" else ChangeKind.ADD_VOTER, node
            )
        if kind == "promote":
            if not config.learners:
                return None
            return Change(ChangeKind.ADD_VOTER, rng.choice(config.learners))
        if kind == "demote":
            return Change(ChangeKind.ADD_LEARNER, rng.choice(config.voters))
        return Change(ChangeKind.REMOVE, rng.choice(config.all_members()))

    def _newcomer(self, config: Configuration) -> int | None:
        """Return a node that was never a member, starting one if need be (rule D14)."""
        ever = self.sim.checker.ever_members
        spare = [i for i, n in self.sim.nodes.items() if i not in ever and not n.is_retired]
        if spare:
            return spare[0]
        if len(self.sim.nodes) >= _MOST_NODES:
            return None
        return self.sim.add_node().id
