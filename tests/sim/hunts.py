"""Cuts that are aimed at whoever leads: for a while two nodes take themselves for the leader.

Left to chance this is rare, and short: the old leader notices soon that nobody answers. Here its
clock may run slow meanwhile, learners may stay with it, what others say to it may be held back and
arrive late in place of being lost, and clients go on to use it.

Or its process is stopped for a while. When it goes on, what clients have sent to it is read first:
no tick and no message has told it yet how long it was away, and that another one leads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.node.raft.roles import Role

from .options import TICK, stream
from .tape import Strikes, What

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation

_USES = 6


class Hunts:
    """The cuts around leaders of one run."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self._rng = stream(seed, "hunt")
        self._stops = stream(seed, "stops of leaders")

    def begin(self) -> None:
        """Plan the first of each kind."""
        sim, options = self.sim, self.sim.options
        Strikes(sim, "hunt", self._rng, self._draw, self._hunt).begin(options.hunt_every)
        Strikes(sim, "stop", self._stops, self._draw_stop, self._stop).begin(options.stop_every)

    def _draw(self) -> What | None:
        leader, rng, options = self.sim.clients.leader(), self._rng, self.sim.options
        if leader is None or leader.core is None:
            return None
        config = leader.core.config
        others = [voter for voter in config.all_voters() if voter != leader.id]
        side = [leader.id, *rng.sample(others, rng.randint(0, len(others) // 2))]
        if rng.random() < 0.5:
            side += config.learners
        time = int(rng.uniform(1, 6) * options.core.election_ticks * TICK)
        uses = sorted(rng.randrange(time) for _ in range(_USES))
        return side, time, rng.random() < 0.5, uses

    def _hunt(self, side: list[int], time: int, is_held: bool, uses: list[int]) -> None:
        sim, leader = self.sim, self.sim.nodes.get(side[0])
        if leader is None or leader.core is None:
            return
        sim.counts["partition: around a leader"] += 1
        network = sim.network
        cut = {(a, b) for a in sim.nodes for b in sim.nodes if (a in side) != (b in side)}
        if is_held:
            inward = {(a, b) for a, b in cut if b in side}
            cut -= inward
            network.clogged.update(dict.fromkeys(sorted(inward), sim.now + time))
        network.cut = cut
        rate, leader.rate = leader.rate, max(leader.rate, sim.options.hunt_slow * TICK)
        sim.after(time, self._end, (cut, leader, leader.boot, rate))
        sim.clients.turn_to(leader)
        for delay in uses:
            sim.after(delay, sim.clients.read_at, leader)

    def _end(self, planned: tuple[set[tuple[int, int]], SimNode, int, int]) -> None:
        cut, leader, boot, rate = planned
        if self.sim.network.cut is cut:
            self.sim.network.cut = set()
        if leader.is_alive(boot) and not self.sim.is_healed:
            leader.rate = rate

    # -- a leader that is stopped -----------------------------------------------------------

    def _draw_stop(self) -> What | None:
        leader, rng, options = self.sim.clients.leader(), self._stops, self.sim.options
        if leader is None:
            return None
        time = int(rng.uniform(1, 4) * options.core.election_ticks * TICK)
        late = int(rng.uniform(0, 3) * TICK)
        return leader.id, time, late, sorted(rng.randrange(time) for _ in range(_USES))

    def _stop(self, node_id: int, time: int, late: int, uses: list[int]) -> None:
        sim, leader = self.sim, self.sim.nodes.get(node_id)
        if leader is None or leader.core is None or leader.is_paused:
            return
        sim.counts["leaders that are stopped"] += 1
        until = sim.now + time
        others = [other for other in sim.nodes if other != node_id]
        sim.network.clogged.update({(other, node_id): until + late for other in others})
        leader.pause()
        for delay in uses:
            sim.after(delay, sim.clients.read_at, leader)
        sim.after(time, self._go_on, (leader, leader.boot))

    def _go_on(self, planned: tuple[SimNode, int]) -> None:
        node, boot = planned
        is_stopped = node.is_alive(boot) and node.is_paused
        node.resume(boot)
        core = node.core
        if is_stopped and core is not None and core.role is Role.LEADER:
            newest = self.sim.clients.leader()
            is_replaced = newest is not node
            self.sim.counts["leaders that go on after they were replaced"] += is_replaced
