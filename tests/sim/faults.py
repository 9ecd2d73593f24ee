"""What goes wrong beside the network: crashes, cuts, pauses, slow disks, clocks, false alarms.

Each kind plans its own next strike and draws from its own stream.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hstore.node.raft.events import PeerDown, PeerUnreachable

from .options import TICK, stream

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation


class Faults:
    """The source of all trouble of one run. `stop` ends it."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self.is_over = False
        self._clocks = stream(seed, "clock")
        self._flushes = stream(seed, "flush")
        self._keeps = stream(seed, "keep")
        self._boundaries = stream(seed, "boundary")
        self._crashes = stream(seed, "crash")
        self._cuts = stream(seed, "partition")
        self._clogs = stream(seed, "clog")
        self._pauses = stream(seed, "pause")
        self._alarms = stream(seed, "alarm")
        self._windows = stream(seed, "window")
        self._snapshots = stream(seed, "snapshot")
        self._until_boundary = self._draw_boundary()

    def begin(self) -> None:
        """Plan the first strike of each kind."""
        options = self.sim.options
        self._plan(self._crashes, options.crash_every, self._crash)
        self._plan(self._cuts, options.partition_every, self._cut)
        self._plan(self._clogs, options.clog_every, self._clog)
        self._plan(self._pauses, options.pause_every, self._pause)
        self._plan(self._alarms, options.false_alarm_every, self._false_alarm)

    def stop(self) -> None:
        """End all faults: clocks run alike, disks are quick, everybody is there."""
        self.is_over = True
        self.sim.network.heal()
        for node in self.sim.nodes.values():
            node.rate = TICK
            node.end_flush()
            if node.core is not None:
                node.resume(node.boot)
            elif not node.is_retired:
                node.start()

    # -- asked by nodes ---------------------------------------------------------------------

    def phase(self, node: SimNode) -> int:
        """Return when a node ticks first, and set how fast its clock goes in this life."""
        skew = 1.0 if self.is_over else self.sim.options.skew
        node.rate = int(TICK * skew ** self._clocks.uniform(-1, 1))
        return self._clocks.randrange(node.rate)

    def boundary(self) -> int:
        """Return where in this step the node dies; 0: nowhere."""
        self._until_boundary -= 1
        if self._until_boundary or self.is_over:
            return 0
        self._until_boundary = self._draw_boundary()
        return self._boundaries.randrange(1, 6)

    def kept(self, unsynced: int) -> int:
        """Return how many unsynced writes a crash leaves."""
        match self.sim.options.keep:
            case "none":
                return 0
            case "all":
                return unsynced
            case _:
                return self._keeps.randrange(unsynced + 1)

    def flush_time(self) -> int:
        """Return how long a flush takes."""
        options, rng = self.sim.options, self._flushes
        if self.is_over:
            return rng.randrange(10)
        if options.flush_tail and rng.random() < options.flush_tail:
            self.sim.counts["slow flushes"] += 1
            return int(rng.expovariate(1 / options.flush_tail_mean))
        return int(rng.expovariate(1 / options.flush_mean)) if options.flush_mean else 0

    def apply_time(self) -> int:
        """Return how long applying a batch takes."""
        mean = 10 if self.is_over else self.sim.apply_mean
        return int(self._windows.expovariate(1 / mean))

    def gather(self, window: int) -> int:
        """Return for how long events are gathered for one step."""
        return self._windows.randrange(20 if self.is_over else window)

    def snapshot_time(self) -> int:
        """Return how long a snapshot is read and sent before the network has it."""
        return self._snapshots.randrange(20 if self.is_over else self.sim.options.snapshot_mean * 2)

    def is_snapshot_lost(self) -> bool:
        """Whether handing a snapshot over fails."""
        return not self.is_over and self._snapshots.random() < self.sim.options.snapshot_loss

    # -- strikes ----------------------------------------------------------------------------

    def _plan(self, rng: Random, every: int, strike: object) -> None:
        if every and not self.is_over:
            assert callable(strike)
            self.sim.after(int(rng.expovariate(1 / every)) + 1, strike, None)

    def _crash(self, _: None) -> None:
        if self.is_over:
            return
        rng, options = self._crashes, self.sim.options
        self._plan(rng, options.crash_every, self._crash)
        alive = [node for node in self.sim.nodes.values() if node.core is not None]
        if not alive:
            return
        if rng.random() < options.crash_all:
            self.sim.counts["crash of everybody"] += 1
            for node in alive:
                node.crash()
            return
        self.sim.counts["crash"] += 1
        rng.choice(alive).crash()

    def crashed(self, node: SimNode) -> None:
        """Plan the restart of a node that has just died, and tell some of the others."""
        rng, options = self._crashes, self.sim.options
        if not node.is_retired and not self.is_over:
            delay = int(rng.expovariate(1 / options.down_for)) + 1
            self.sim.after(delay, self._restart, (node, node.boot))
        if options.peer_down:
            for other in self.sim.nodes.values():
                if other.core is not None and self._alarms.random() < options.peer_down:
                    delay = self._alarms.randrange(TICK // 2)
                    self.sim.after(delay, self._hear_of_crash, (other.id, node.id))

    def _hear_of_crash(self, planned: tuple[int, int]) -> None:
        self.sim.counts["crash noticed"] += 1
        self.sim.give(planned[0], PeerDown(planned[1]))

    def _restart(self, planned: tuple[SimNode, int]) -> None:
        node, boot = planned
        if node.core is None and node.boot == boot and not node.is_retired:
            self.sim.counts["restart"] += 1
            node.start()
            if self.sim.options.replay and not self.is_over:
                self.sim.network.replay_to(node.id, 5)

    def _cut(self, _: None) -> None:
        if self.is_over:
            return
        rng, options = self._cuts, self.sim.options
        self._plan(rng, options.partition_every, self._cut)
        ids = list(self.sim.nodes)
        rng.shuffle(ids)
        size = 1 if rng.random() < 0.5 else rng.randrange(len(ids) + 1)
        leader = self.sim.clients.leader()
        if leader is not None and rng.random() < 0.4:
            # The side of a leader that will be one no more: old news can be had only there.
            ids.remove(leader.id)
            ids.insert(0, leader.id)
            size = rng.randint(1, (len(ids) + 1) // 2)
            self.sim.clients.turn_to(leader)
        side = set(ids[:size])
        is_one_way = rng.random() < options.one_way
        is_outward = rng.random() < 0.5
        cut = set()
        for a in self.sim.nodes:
            for b in self.sim.nodes:
                if (a in side) != (b in side) and (not is_one_way or (a in side) == is_outward):
                    cut.add((a, b))
        self.sim.counts["one-way partition" if is_one_way else "partition"] += 1
        self.sim.network.cut = cut
        self.sim.after(int(rng.expovariate(1 / options.partition_for)), self._mend, cut)

    def _mend(self, cut: set[tuple[int, int]]) -> None:
        if self.sim.network.cut is cut:
            self.sim.network.cut = set()

    def _clog(self, _: None) -> None:
        if self.is_over:
            return
        rng, options = self._clogs, self.sim.options
        self._plan(rng, options.clog_every, self._clog)
        ids = list(self.sim.nodes)
        link = (rng.choice(ids), rng.choice(ids))
        until = self.sim.now + int(rng.expovariate(1 / options.clog_for))
        self.sim.network.clogged[link] = until

    def _pause(self, _: None) -> None:
        if self.is_over:
            return
        rng, options = self._pauses, self.sim.options
        self._plan(rng, options.pause_every, self._pause)
        node = rng.choice(list(self.sim.nodes.values()))
        if node.core is not None:
            self.sim.counts["pause"] += 1
            node.pause()
            self.sim.after(int(rng.expovariate(1 / options.pause_for)), node.resume, node.boot)

    def _false_alarm(self, _: None) -> None:
        if self.is_over:
            return
        rng = self._alarms
        self._plan(rng, self.sim.options.false_alarm_every, self._false_alarm)
        ids = list(self.sim.nodes)
        node, peer = rng.choice(ids), rng.choice(ids)
        if node != peer:
            self.sim.counts["false alarm"] += 1
            kind = PeerDown if rng.random() < 0.5 else PeerUnreachable
            self.sim.give(node, kind(peer))

    def _draw_boundary(self) -> int:
        rate = self.sim.options.crash_at_boundary
        return int(self._boundaries.expovariate(rate)) + 1 if rate else 0
