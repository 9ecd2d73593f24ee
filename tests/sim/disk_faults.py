"""What goes wrong with disks, beside being slow: they hang, refuse, fill up, and are lost.

A node whose write or flush has failed stops at once and never tries again (rule D17); whoever runs
it starts it once more later, with what the disk has kept. One whose flush hangs is killed after a
while. One whose disk is lost may not come back under its id (rule D14): everybody would refuse it,
and so it stays away until a new node with an id of its own takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hstore.node.raft.events import DiskShort
from hstore.node.raft.membership import ConfigChange, ConfigChangeKind, Transition
from hstore.node.raft.roles import Role

from . import configurations
from .options import TICK, stream
from .tape import Strikes, What, decision

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation

_NEVER = 10**9
"""Longer than any run."""


class DiskFaults:
    """The disks' faults of one run.

    Attributes:
        kept_short: Whose disks are without room at the end, when nothing else is wrong.
    """

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self._hangs = stream(seed, "hang")
        self._failures = stream(seed, "disk failure")
        self._loops = stream(seed, "crash loop")
        self._wipes = stream(seed, "wipe")
        self._witnesses = stream(seed, "witness")
        self._torn = stream(seed, "torn")
        self._shortages = stream(seed, "shortage")
        self._full = stream(seed, "full")
        self.kept_short: frozenset[int] = frozenset()

    def begin(self) -> None:
        """Plan the first strike of each kind."""
        Strikes(self.sim, "wipe", self._wipes, self._draw_wipe, self._wipe).begin(
            self.sim.options.wipe_every
        )
        Strikes(self.sim, "shortage", self._shortages, self._draw_shortage, self._run_short).begin(
            self.sim.options.shortage_every
        )

    # -- decisions ----------------------------------------------------------------------------

    def flush_time(self, node: SimNode) -> int:
        """Return how long a flush takes that begins now; one that hangs never ends."""
        if self.sim.options.hang and not self.sim.is_healed and self.draw_hang(node.id):
            self.sim.counts["flushes that hang"] += 1
            self.sim.after(self.sim.options.hang_for, self._kill, (node, node.boot))
            return _NEVER
        return self.sim.faults.draw_flush(node.id)

    @decision(lambda _, node: node, lambda *_: False)
    def draw_hang(self, node: int) -> bool:
        """Whether a flush never ends."""
        return self._hangs.random() < self.sim.options.hang

    def is_refused(self, node: SimNode, what: str) -> bool:
        """Whether the disk refuses to write or to flush: then the node must stop."""
        if what == "write" and self.is_short(node) and self.draw_full(node.id):
            self.sim.counts["disk: no room, a write is refused"] += 1
            return True
        if not self.sim.options.disk_failure or self.sim.is_healed:
            return False
        if not self.draw_failure(node.id, what):
            return False
        self.sim.counts[f"disk refuses to {what}"] += 1
        return True

    @decision(lambda _, node, what: f"{what} {node}", lambda *_: False)
    def draw_failure(self, node: int, what: str) -> bool:
        """Whether an operation of the disk fails."""
        return self._failures.random() < self.sim.options.disk_failure

    def crash_soon(self, node: SimNode) -> None:
        """A node has come up: perhaps it dies again at once, while it replays (P5)."""
        if self.sim.options.crash_loop and not self.sim.is_healed:
            delay = self.draw_crash_soon(node.id)
            if delay is not None:
                self.sim.counts["crashes soon after a start"] += 1
                self.sim.after(delay, self._kill, (node, node.boot))

    @decision(lambda _, node: node, lambda *_: None)
    def draw_crash_soon(self, node: int) -> int | None:
        """Return how soon after its start a node dies once more, if it does."""
        rng = self._loops
        return rng.randrange(TICK // 2) if rng.random() < self.sim.options.crash_loop else None

    def _kill(self, planned: tuple[SimNode, int]) -> None:
        node, boot = planned
        if node.is_alive(boot) and not self.sim.is_healed:
            node.crash()

    # -- what a crash takes -------------------------------------------------------------------

    def torn(self, node: SimNode, kept: int) -> int:
        """Return how many unsynced writes a crash leaves: half a write is none (D4f)."""
        unsynced = len(node.disk.unsynced)
        if not unsynced or not self.sim.options.torn or self.sim.is_healed:
            return kept
        if not self.draw_torn(node.id):
            return kept
        self.sim.counts["disk: last write torn"] += 1
        return min(kept, unsynced - 1)

    @decision(lambda _, node: node, lambda *_: False)
    def draw_torn(self, node: int) -> bool:
        """Whether a crash leaves half of a write."""
        return self._torn.random() < self.sim.options.torn

    def witness_lag(self, node: SimNode) -> int:
        """Return how many writings of the witness a crash takes (D3f)."""
        if not self.sim.options.lost_witness or self.sim.is_healed:
            return 0
        return self.draw_witness_lag(node.id)

    @decision(lambda _, node: node, lambda *_: 0)
    def draw_witness_lag(self, node: int) -> int:
        """Return how many writings of the witness never reach the disk."""
        rng = self._witnesses
        return rng.randint(1, 3) if rng.random() < self.sim.options.lost_witness else 0

    # -- no room ------------------------------------------------------------------------------

    def _draw_shortage(self) -> What:
        rng = self._shortages
        leader = self.sim.clients.leader() if rng.random() < 0.5 else None
        node = leader.id if leader is not None else rng.choice(list(self.sim.nodes))
        return node, int(rng.expovariate(1 / self.sim.options.shortage_for))

    def _run_short(self, node_id: int, time: int) -> None:
        node = self.sim.nodes.get(node_id)
        if node is not None:
            self.sim.counts["disk: no room"] += 1
            node.short_until = max(node.short_until, self.sim.now + time)
            self.tell(node)
            self.sim.after(TICK // 2, self._mislead, node)
            self.sim.after(TICK, self._leave, node)
            self.sim.after(time + 1, self._tell_later, node)

    def is_short(self, node: SimNode) -> bool:
        """Whether there is no room on a disk: its node takes no proposals (D7f)."""
        return self.sim.now < node.short_until and not self.sim.is_healed

    def is_told_short(self, node: SimNode) -> bool:
        """Whether the core of a node is to know of a disk without room."""
        return self.is_short(node) or node.id in self.kept_short

    def tell(self, node: SimNode) -> None:
        """Tell a core whether its disk has room."""
        if node.core is not None and node.core.is_short != self.is_told_short(node):
            node.give(DiskShort(self.is_told_short(node)))

    def keep_short(self, ids: Iterable[int]) -> None:
        """At the end: let the disks of these and of no others be without room."""
        self.kept_short = frozenset(ids)
        for node in self.sim.nodes.values():
            self.tell(node)

    def _tell_later(self, node: SimNode) -> None:
        if not self.sim.is_healed:
            self.tell(node)

    def _mislead(self, node: SimNode) -> None:
        """Sometimes a leader hands over to a node of which it does not know that it has no room."""
        leader = self.sim.clients.leader()
        if self.sim.is_healed or leader is None or not self.is_short(node) or node.boot % 2 == 0:
            return
        if leader.core is not None and node.id in leader.core.config.voters:
            self.sim.counts["transfers to one without room"] += 1
            self.sim.operator.hand_over(leader, node.id)

    def _leave(self, node: SimNode) -> None:
        """As the driver does: a leader hands over while its disk is short, and tries again."""
        if self.sim.is_healed or not self.is_short(node):
            return
        to = self.successor(node)
        if to and node.core is not None and node.core.transfer is None:
            self.sim.counts["leaders without room hand over"] += 1
            self.sim.operator.hand_over(node, to)
        self.sim.after(5 * TICK, self._leave, node)

    def successor(self, leader: SimNode) -> int:
        """Return whom a leader without room would hand over to; 0: it does not lead, or to nobody."""
        core = leader.core
        if core is None or core.role is not Role.LEADER:
            return 0
        others = (self.sim.nodes[voter] for voter in core.config.voters if voter != leader.id)
        return next((n.id for n in others if n.core is not None and not self.is_told_short(n)), 0)

    @decision(lambda _, node: node, lambda *_: False)
    def draw_full(self, node: int) -> bool:
        """Whether a disk without room has none even for what is kept free."""
        return self._full.random() < 0.02

    # -- a disk is lost -----------------------------------------------------------------------

    def _draw_wipe(self) -> What | None:
        configs = self.sim.checker.configs
        return (self._wipes.choice(configs[-1][1].all_members()),) if configs else None

    def _wipe(self, node_id: int) -> None:
        node = self.sim.nodes.get(node_id)
        if node is None or node.is_retired or not self.may_lose(node_id):
            return
        self.sim.counts["disks lost"] += 1
        self.give_up(node)

    def give_up(self, node: SimNode) -> None:
        """A node is lost with its disk: whoever came back under its id would be refused."""
        node.is_wiped = True
        self.sim.retire(node)
        self.sim.after(2 * TICK, self._replace, node.id)

    def _replace(self, lost: int) -> None:
        """Let a new node, under a new id, take the place of one whose disk is lost."""
        if self.sim.is_healed:
            return
        leader = self.sim.clients.leader()
        if leader is not None and leader.core is not None:
            if lost not in leader.core.config.all_members():
                return
            new = self.sim.operator.newcomer([])
            steps = [ConfigChange(ConfigChangeKind.REMOVE, lost)]
            if new is not None:
                while new > len(self.sim.nodes):
                    self.sim.add_node()
                steps.append(ConfigChange(ConfigChangeKind.ADD_VOTER, new))
            self.sim.counts["lost members replaced under a new id"] += new is not None
            self.sim.operator.ask(leader, tuple(steps), Transition.AUTO)
        self.sim.after(10 * TICK, self._replace, lost)

    def may_lose(self, node_id: int) -> bool:
        """Whether those that are left are a majority of every configuration that may count."""
        nodes = self.sim.nodes
        left = [n for n in nodes if n != node_id and nodes[n].is_sound()]
        return all(configurations.has_majority(c, left) for c in self.sim.possible_configs())

    def find_again(self) -> None:
        """At the end: if too many disks are lost to go on, it was an outage and no loss."""
        for node in self.sim.nodes.values():
            if node.is_wiped and not self.may_lose(node.id):
                self.sim.counts["lost disks found again"] += 1
                node.is_wiped = node.is_retired = False
