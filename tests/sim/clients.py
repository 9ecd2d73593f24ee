"""Who uses the cluster: writers and readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.node.raft.entry import Entry
from hstore.node.raft.errors import Reason
from hstore.node.raft.events import Propose, ReadIndex
from hstore.node.raft.roles import Role

from . import machine
from .options import TICK, stream
from .tape import Strikes, What, decision

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation


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
        self._began: dict[int, int] = {}
        self._known = [0] * machine.REGISTERS
        self._proposals = stream(seed, "propose")
        self._reads = stream(seed, "read")
        self._readers = stream(seed, "readers")
        self._haste = stream(seed, "hasty reads")

    def begin(self) -> None:
        """Start to use the cluster."""
        sim, options = self.sim, self.sim.options
        every = options.propose_every
        Strikes(sim, "propose", self._proposals, self._draw_proposal, self._propose).begin(every)
        Strikes(sim, "read", self._reads, self._draw_read, self._read).begin(options.read_every)

    def next_rid(self) -> int:
        """Return an id that was never used, by any node in any life."""
        self._last_rid += 1
        return self._last_rid

    def propose_at(self, node: SimNode, count: int) -> list[int]:
        """Propose at a node; return the rids."""
        rids = [self.next_rid() for _ in range(count)]
        self.sim.counts["proposals"] += count
        if self.sim.disks.is_short(node) and node.core is not None:
            # As the driver does, before anything reaches the log.
            for rid in rids:
                self._refused(rid, "no room")
            return rids
        committed = self.sim.checker.committed
        for rid in rids:
            self._began[rid] = committed
        node.give(Propose([(rid, self._command(rid)) for rid in rids]))
        return rids

    def _command(self, rid: int) -> bytes:
        """Return a write, or one that depends on what was seen last."""
        if self.sim.tables is not None:
            return machine.put(rid, 0) + self.sim.tables.command(rid)
        padding = self.sim.options.payload
        if rid % 3:
            return machine.put(rid, padding)
        return machine.cas(rid, self._known[machine.register_of(rid)], padding)

    # -- answers ----------------------------------------------------------------------------

    def acknowledged(self, rid: int, entry: Entry, *, is_done: bool) -> None:
        """A node says that a proposal or a change is committed and applied."""
        self.sim.counts["acknowledged"] += 1
        if self.sim.operator.acknowledged(rid):
            return
        self.sim.checker.acknowledged(rid, entry, self._began.pop(rid), is_done=is_done)
        self.acked[rid] = entry.index
        if is_done:
            self._known[machine.register_of(rid)] = rid
        else:
            self.sim.counts["writes that expected something else"] += 1

    def read(self, rid: int, value: int) -> None:
        """A node says what a register holds."""
        self._known[machine.register_of(rid)] = value

    def rejected(self, rid: int, reason: Reason) -> None:
        """A node says that a proposal is certainly not in the log."""
        self.sim.operator.rejected(rid, reason)
        self._refused(rid, reason.value)

    def _refused(self, rid: int, why: str) -> None:
        self.sim.counts[f"refused: {why}"] += 1
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

    def elected(self, leader: SimNode) -> None:
        """Somebody leads now: perhaps somebody reads there at once."""
        if self.sim.options.read_every and not self.sim.is_healed and self.draw_haste(leader.id):
            self.sim.after(0, self.read_at, leader)

    @decision(lambda _, node: node, lambda *_: False)
    def draw_haste(self, node: int) -> bool:
        """Whether somebody reads at a leader that was elected just now."""
        return self._haste.random() < 0.5

    def read_at(self, node: SimNode) -> None:
        """Read at a node, if it runs."""
        if node.core is not None and self.sim.options.read_every and not self.sim.is_healed:
            self.sim.counts["reads"] += 1
            node.give(ReadIndex(self.next_rid()))

    def turn_to(self, leader: SimNode) -> None:
        """A leader is about to be cut off: some write there, read there, change members there."""
        for delay in (TICK, 2 * TICK, 4 * TICK):
            self.sim.after(delay, self._use_once, leader)

    def _use_once(self, node: SimNode) -> None:
        options = self.sim.options
        if node.core is None or node.core.role is not Role.LEADER or self.sim.is_healed:
            return
        self.propose_at(node, 1)
        if options.read_every:
            node.give(ReadIndex(self.next_rid()))
        self.sim.operator.change_at(node)

    # -- requests ---------------------------------------------------------------------------

    def leader(self, among: list[int] | None = None) -> SimNode | None:
        """Return the node that leads the highest term, if any of these (None: of all) does."""
        best: SimNode | None = None
        for node in self.sim.nodes.values():
            core = node.core
            if core is None or core.role is not Role.LEADER:
                continue
            if among is not None and node.id not in among:
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
            self.propose_at(node, count)

    def _draw_read(self) -> What:
        return (self._reads.choice(list(self.sim.nodes)),)

    def _read(self, node_id: int) -> None:
        node = self.sim.nodes.get(node_id)
        if node is not None and node.core is not None:
            self.sim.counts["reads"] += 1
            node.give(ReadIndex(self.next_rid()))
