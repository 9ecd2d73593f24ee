"""Who uses the cluster: writers, readers, and somebody who changes its membership."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hstore.node.raft.entry import Entry
from hstore.node.raft.errors import Reason
from hstore.node.raft.events import Propose, ProposeChange, ReadIndex
from hstore.node.raft.membership import Change, ChangeKind, Configuration
from hstore.node.raft.roles import Role

from .options import TICK, stream
from .tape import Strikes, What, decision

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
        self._last_rid = 0
        self._changes_under_way: set[int] = set()
        self._proposals = stream(seed, "propose")
        self._reads = stream(seed, "read")
        self._readers = stream(seed, "readers")
        self._changes = stream(seed, "change")
        self._late_changes = stream(seed, "late change")

    def begin(self) -> None:
        """Start to use the cluster."""
        sim, options = self.sim, self.sim.options
        every = options.propose_every
        Strikes(sim, "propose", self._proposals, self._draw_proposal, self._propose).begin(every)
        Strikes(sim, "read", self._reads, self._draw_read, self._read).begin(options.read_every)
        Strikes(sim, "change", self._changes, self._draw_change, self._change).begin(
            options.change_every
        )

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
        if not self.sim.options.read_every or self.sim.is_healed:
            return
        for reader in self.draw_readers(node.id):
            self.sim.counts["reads behind a commit"] += 1
            self.sim.give(reader, ReadIndex(self.next_rid()))

    @decision(lambda _, node: node, lambda *_: [])
    def draw_readers(self, node: int) -> list[int]:
        """Return who reads as a node learns of a commit: other leaders always, others rarely."""
        return [
            other.id
            for other in self.sim.nodes.values()
            if other.id != node and other.core is not None
            if other.core.role is Role.LEADER or self._readers.random() < 0.02
        ]

    def turn_to(self, leader: SimNode) -> None:
        """A leader is about to be cut off: some write there, read there, change members there."""
        for delay in (TICK, 2 * TICK, 4 * TICK):
            self.sim.after(delay, self._use_once, leader)

    def _use_once(self, node: SimNode) -> None:
        options = self.sim.options
        if node.core is None or node.core.role is not Role.LEADER or self.sim.is_healed:
            return
        self.propose_at(node, 1, options.payload)
        if options.read_every:
            node.give(ReadIndex(self.next_rid()))
        if options.change_every and node.core is not None:
            change = self.draw_change_at(node.id)
            if change is not None:
                self._change(node.id, *change)

    @decision(lambda _, node: node, lambda *_: None)
    def draw_change_at(self, node: int) -> tuple[str, int] | None:
        """Return what is changed at a leader that is about to be cut off."""
        core = self.sim.nodes[node].core
        assert core is not None
        return self._choose_change(core.config, self._late_changes)

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

    def _draw_proposal(self) -> What | None:
        rng, options = self._proposals, self.sim.options
        node = self.leader() if rng.random() < 0.7 else None
        if node is None:
            node = rng.choice(list(self.sim.nodes.values()))
        return (node.id, rng.randint(1, options.propose_most)) if node.core is not None else None

    def _propose(self, node_id: int, count: int) -> None:
        node = self.sim.nodes.get(node_id)
        if node is not None and node.core is not None:
            self.propose_at(node, count, self.sim.options.payload)

    def _draw_read(self) -> What:
        return (self._reads.choice(list(self.sim.nodes)),)

    def _read(self, node_id: int) -> None:
        node = self.sim.nodes.get(node_id)
        if node is not None and node.core is not None:
            self.sim.counts["reads"] += 1
            node.give(ReadIndex(self.next_rid()))

    # -- changes of the membership ------------------------------------------------------------

    def _draw_change(self) -> What | None:
        leaders = [
            node
            for node in self.sim.nodes.values()
            if node.core is not None and node.core.role is Role.LEADER
        ]
        if not leaders:
            return None
        # Any leader, also one that is none any more: that is where old majorities are counted.
        node = self._changes.choice(leaders)
        assert node.core is not None
        change = self._choose_change(node.core.config, self._changes)
        return (node.id, *change) if change is not None else None

    def _change(self, node_id: int, kind: str, member: int) -> None:
        node = self.sim.nodes.get(node_id)
        if node is None or node.core is None:
            return
        while member > len(self.sim.nodes):
            self.sim.add_node()
        rid = self.next_rid()
        self._changes_under_way.add(rid)
        self.sim.counts[f"change: {kind.lower()}"] += 1
        node.give(ProposeChange(rid, (Change(ChangeKind[kind], member),)))

    def _choose_change(self, config: Configuration, rng: Random) -> tuple[str, int] | None:
        kinds = ["promote", "promote", "demote", "remove", "remove", "learner", "learner", "voter"]
        kind = rng.choice(kinds)
        if kind in ("learner", "voter"):
            node = self._newcomer()
            if node is None or len(config.all_members()) >= _MOST_MEMBERS:
                return None
            return "ADD_LEARNER" if kind == "learner" else "ADD_VOTER", node
        if kind == "promote":
            return ("ADD_VOTER", rng.choice(config.learners)) if config.learners else None
        if kind == "demote":
            return "ADD_LEARNER", rng.choice(config.voters)
        return "REMOVE", rng.choice(config.all_members())

    def _newcomer(self) -> int | None:
        """Return a node that was never a member, perhaps one still to be started (rule D14)."""
        ever = self.sim.checker.ever_members
        spare = [i for i, n in self.sim.nodes.items() if i not in ever and not n.is_retired]
        if spare:
            return spare[0]
        return len(self.sim.nodes) + 1 if len(self.sim.nodes) < _MOST_NODES else None
