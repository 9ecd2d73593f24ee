"""What goes wrong beside the network: crashes, cuts, pauses, slow disks, clocks, false alarms.

Each kind draws from its own stream. Every decision goes through `tape`: what a node asks for is a
`draw_` method marked with `decision`, what happens at moments of its own is a `Strikes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.node.raft.events import PeerDown, PeerUnreachable

from . import partitions
from .options import TICK, stream
from .tape import Strikes, What, decision

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation


class Faults:
    """The source of all trouble of one run."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self._clocks = stream(seed, "clock")
        self._flushes = stream(seed, "flush")
        self._keeps = stream(seed, "keep")
        self._boundaries = stream(seed, "boundary")
        self._returns = stream(seed, "return")
        self._crashes = stream(seed, "crash")
        self._cuts = stream(seed, "partition")
        self._clogs = stream(seed, "clog")
        self._pauses = stream(seed, "pause")
        self._alarms = stream(seed, "alarm")
        self._false_alarms = stream(seed, "false alarm")
        self._windows = stream(seed, "window")
        self._applies = stream(seed, "apply")
        self._snapshots = stream(seed, "snapshot")
        self._losses = stream(seed, "snapshot loss")
        self._bursts = stream(seed, "burst")
        self._rings = stream(seed, "ring")
        self._calm = stream(seed, "calm")
        self._until_boundary = self._next_boundary()

    def begin(self) -> None:
        """Plan the first strike of each kind."""
        sim, options = self.sim, self.sim.options
        for name, rng, every, draw, carry_out in (
            ("crash", self._crashes, options.crash_every, self._draw_crash, self._crash),
            ("cut", self._cuts, options.partition_every, self._draw_cut, self._cut),
            ("ring", self._rings, options.ring_every, self._draw_ring, self._ring),
            ("clog", self._clogs, options.clog_every, self._draw_clog, self._clog),
            ("pause", self._pauses, options.pause_every, self._draw_pause, self._pause),
            (
                "false alarm", self._false_alarms, options.false_alarm_every,
                self._draw_false_alarm, self._false_alarm,
            ),
        ):  # fmt: skip
            Strikes(sim, name, rng, draw, carry_out).begin(every)

    def mend(self, node: SimNode) -> None:
        """End a node's troubles: its clock runs as others do, its disk is quick, it is there."""
        node.rate = TICK
        node.end_flush()
        if node.core is not None:
            node.resume(node.boot)
        elif not node.is_retired:
            node.start()

    # -- decisions asked for by nodes ---------------------------------------------------------

    @decision(lambda _, node: node, lambda *_: (TICK, TICK - 1))
    def draw_clock(self, node: int) -> tuple[int, int]:
        """Return the time between the ticks of a node in this life, and until the first."""
        if self.sim.is_healed:
            return TICK, self._calm.randrange(TICK)
        skew = self.sim.options.skew
        rate = int(TICK * skew ** self._clocks.uniform(-1, 1))
        return rate, self._clocks.randrange(rate)

    @decision(lambda _, node: node, lambda *_: 0)
    def draw_boundary(self, node: int) -> int:
        """Return where in this step a node dies; 0: nowhere."""
        self._until_boundary -= 1
        if self._until_boundary or self.sim.is_healed:
            return 0
        self._until_boundary = self._next_boundary()
        return self._boundaries.randrange(1, 6)

    @decision(lambda _, node, unsynced: node, lambda _, node, unsynced: unsynced)
    def draw_kept(self, node: int, unsynced: int) -> int:
        """Return how many unsynced writes a crash leaves."""
        match self.sim.options.keep:
            case "none":
                return 0
            case "all":
                return unsynced
            case _:
                rng = self._calm if self.sim.is_healed else self._keeps
                return rng.randrange(unsynced + 1)

    @decision(lambda _, node, missed: node, lambda *_: 0)
    def draw_burst(self, node: int, missed: int) -> int:
        """Return how many of the ticks that a paused node has missed it makes up for at once."""
        if self.sim.is_healed or self._bursts.random() >= self.sim.options.burst:
            return 0
        self.sim.counts["bursts of ticks"] += bool(missed)
        return self._bursts.randint(missed // 2, missed)

    @decision(lambda _, node: node, lambda *_: 0)
    def draw_flush(self, node: int) -> int:
        """Return how long a flush takes."""
        options, rng = self.sim.options, self._flushes
        if self.sim.is_healed:
            return self._calm.randrange(10)
        if options.flush_tail and rng.random() < options.flush_tail:
            self.sim.counts["slow flushes"] += 1
            return int(rng.expovariate(1 / options.flush_tail_mean))
        return int(rng.expovariate(1 / options.flush_mean)) if options.flush_mean else 0

    @decision(lambda _, node: node, lambda *_: 0)
    def draw_apply(self, node: int) -> int:
        """Return how long applying a batch takes."""
        if self.sim.is_healed:
            return int(self._calm.expovariate(1 / 10))
        return int(self._applies.expovariate(1 / self.sim.apply_mean))

    @decision(lambda _, node, window: node, lambda *_: 0)
    def draw_window(self, node: int, window: int) -> int:
        """Return for how long events are gathered for one step."""
        if self.sim.is_healed:
            return self._calm.randrange(20)
        return self._windows.randrange(window)

    @decision(lambda _, node: node, lambda *_: 0)
    def draw_snapshot(self, node: int) -> int:
        """Return how long a snapshot is read and sent before the network has it."""
        if self.sim.is_healed:
            return self._calm.randrange(20)
        return self._snapshots.randrange(self.sim.options.snapshot_mean * 2)

    @decision(lambda _, node: node, lambda *_: False)
    def draw_snapshot_loss(self, node: int) -> bool:
        """Whether handing a snapshot over fails."""
        return not self.sim.is_healed and self._losses.random() < self.sim.options.snapshot_loss

    @decision(lambda _, node: node, lambda *_: TICK)
    def draw_down(self, node: int) -> int:
        """Return for how long a node that has just died stays down."""
        return int(self._returns.expovariate(1 / self.sim.options.down_for)) + 1

    @decision(lambda _, node, other: f"{node} at {other}", lambda *_: None)
    def draw_crash_alarm(self, node: int, other: int) -> int | None:
        """Return when another node hears of a crash, if it does."""
        rng = self._calm if self.sim.is_healed else self._alarms
        if rng.random() < self.sim.options.peer_down:
            return rng.randrange(TICK // 2)
        return None

    def _next_boundary(self) -> int:
        rate = self.sim.options.crash_at_boundary
        return int(self._boundaries.expovariate(rate)) + 1 if rate else 0

    # -- crashes ----------------------------------------------------------------------------

    def _draw_crash(self) -> What | None:
        alive = [node.id for node in self.sim.nodes.values() if node.core is not None]
        if not alive:
            return None
        if self._crashes.random() < self.sim.options.crash_all:
            return (alive,)
        return ([self._crashes.choice(alive)],)

    def _crash(self, ids: list[int]) -> None:
        self.sim.counts["crash" if len(ids) == 1 else "crash of everybody"] += 1
        for node in self._alive(ids):
            node.crash()

    def crashed(self, node: SimNode) -> None:
        """Plan the restart of a node that has just died, and tell some of the others."""
        if not node.is_retired and not self.sim.is_healed:
            self.sim.after(self.draw_down(node.id), self._restart, (node, node.boot))
        if self.sim.options.peer_down:
            for other in self.sim.nodes.values():
                if other.core is not None:
                    delay = self.draw_crash_alarm(node.id, other.id)
                    if delay is not None:
                        self.sim.after(delay, self._hear_of_crash, (other.id, node.id))

    def _hear_of_crash(self, planned: tuple[int, int]) -> None:
        self.sim.counts["crash noticed"] += 1
        self.sim.give(planned[0], PeerDown(planned[1]))

    def _restart(self, planned: tuple[SimNode, int]) -> None:
        node, boot = planned
        if self.sim.awakening.is_outside(node.id):
            return
        if node.core is None and node.boot == boot and not node.is_retired:
            self.sim.counts["restart"] += 1
            node.start()
            if self.sim.options.replay and not self.sim.is_healed:
                self.sim.network.replay_to(node.id)

    # -- other strikes ----------------------------------------------------------------------

    def _draw_cut(self) -> What:
        rng, options = self._cuts, self.sim.options
        ids = list(self.sim.nodes)
        rng.shuffle(ids)
        size = 1 if rng.random() < 0.5 else rng.randrange(len(ids) + 1)
        leader = self.sim.clients.leader()
        turn_to = 0
        if leader is not None and rng.random() < 0.4:
            # The side of a leader that will be one no more: old news can be had only there.
            ids.remove(leader.id)
            ids.insert(0, leader.id)
            size = rng.randint(1, (len(ids) + 1) // 2)
            turn_to = leader.id
        direction = "both"
        if rng.random() < options.one_way:
            direction = "outward" if rng.random() < 0.5 else "inward"
        return ids[:size], direction, int(rng.expovariate(1 / options.partition_for)), turn_to

    def _cut(self, side: list[int], direction: str, time: int, turn_to: int) -> None:
        cut = {
            (a, b)
            for a in self.sim.nodes
            for b in self.sim.nodes
            if (a in side) != (b in side)
            and (direction == "both" or (a in side) == (direction == "outward"))
        }
        self.sim.counts["partition" if direction == "both" else "one-way partition"] += 1
        self.sim.network.cut = cut
        self.sim.after(time, self._mend, cut)
        if turn_to in self.sim.nodes:
            self.sim.clients.turn_to(self.sim.nodes[turn_to])

    def _draw_ring(self) -> What:
        rng = self._rings
        ids = list(self.sim.nodes)
        rng.shuffle(ids)
        name = rng.choice(list(partitions.SHAPES))
        return name, ids, int(rng.expovariate(1 / self.sim.options.partition_for))

    def _ring(self, name: str, ids: list[int], time: int) -> None:
        cut = partitions.SHAPES[name](ids)
        if cut:
            self.sim.counts[f"partition: {name}"] += 1
            self.sim.network.cut = cut
            self.sim.after(time, self._mend, cut)

    def _mend(self, cut: set[tuple[int, int]]) -> None:
        if self.sim.network.cut is cut:
            self.sim.network.cut = set()

    def _draw_clog(self) -> What:
        rng, ids = self._clogs, list(self.sim.nodes)
        return rng.choice(ids), rng.choice(ids), int(rng.expovariate(1 / self.sim.options.clog_for))

    def _clog(self, frm: int, to: int, time: int) -> None:
        self.sim.network.clogged[frm, to] = self.sim.now + time

    def _draw_pause(self) -> What:
        rng = self._pauses
        node = rng.choice(list(self.sim.nodes))
        return node, int(rng.expovariate(1 / self.sim.options.pause_for))

    def _pause(self, node_id: int, time: int) -> None:
        for node in self._alive([node_id]):
            self.sim.counts["pause"] += 1
            node.pause()
            self.sim.after(time, self._resume, (node, node.boot))

    def _resume(self, planned: tuple[SimNode, int]) -> None:
        node, boot = planned
        if not self.sim.awakening.is_outside(node.id):
            node.resume(boot)

    def _draw_false_alarm(self) -> What | None:
        rng, ids = self._false_alarms, list(self.sim.nodes)
        node, peer = rng.choice(ids), rng.choice(ids)
        return (node, peer, rng.random() < 0.5) if node != peer else None

    def _false_alarm(self, node: int, peer: int, is_down: bool) -> None:
        if node in self.sim.nodes:
            self.sim.counts["false alarm"] += 1
            self.sim.give(node, PeerDown(peer) if is_down else PeerUnreachable(peer))

    def _alive(self, ids: list[int]) -> list[SimNode]:
        nodes = (self.sim.nodes.get(node) for node in ids)
        return [node for node in nodes if node is not None and node.core is not None]
