"""What goes wrong: each kind of fault on a stream of chance of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

import trio

from hstore.node.errors import HstoreError, NoSpace, PeerError
from hstore.node.model.commands import Put
from hstore.node.peers import wire
from hstore.node.raft.messages import Base
from hstore.node.state import idempotency
from tests.fakes.leap import leap

from ..options import stream
from .wires import CLIENTS, Way

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation


_PAUSE_SLOWNESS = 50
"""So much slower a node ticks that is paused."""

_LEAP_MS_MAX = idempotency.KEEP_MS - 60_000
"""Less than the time that keys are kept, by more than a run lasts."""


class Faults:
    """All that strikes in a run.

    Attributes:
        clients_quiet_since: Since when nothing was done to ways of clients.
        held: Who stays down, and the event that lets it start again.
        cuts: How much of what is on its way survives a broken connection.
        filled: How many large values were written.
    """

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.options = sim.options
        self.counts = sim.counts
        self.clients_quiet_since = 0.0
        self.is_over = False
        self.held: dict[int, trio.Event] = {}
        self.cuts = self._stream("cuts")
        self._flushes = self._stream("flushes")
        self._kept = self._stream("kept")
        self._skews = self._stream("skews")
        self._boundaries = self._stream("boundaries")
        self._steps = self._stream("steps")
        self._restarts = self._stream("restarts")
        self._haste = self._stream("haste")
        self._threads = self._stream("flush threads")
        self._held: dict[Way, int] = {}
        self.filled = 0

    def _stream(self, name: str) -> Random:
        return stream(self.sim.seed, f"whole {name}")

    # -- draws ------------------------------------------------------------------------------

    def draw_flush(self) -> float:
        """Return how long a flush takes."""
        mean = self.options.flush_mean
        if self.is_over:
            mean = min(mean, 0.005)
        return self._flushes.expovariate(1 / mean) if mean else 0.0

    def draw_crowded(self) -> bool:
        """Return whether a flush cannot begin beside the loop, and has to be awaited."""
        return self._threads.random() < 0.1

    def draw_race(self) -> bool:
        """Return whether a flush ends while the driver says whether it wants to hear of it."""
        return self._threads.random() < 0.2

    def draw_full_link(self) -> bool:
        """Return whether a link has no room for what the flushing thread sends."""
        return self._threads.random() < 0.1

    def draw_kept(self, unflushed: int) -> int:
        """Return how many batches that were not flushed survive a crash."""
        keep = self.options.keep
        if keep == "none":
            return 0
        return unflushed if keep == "all" else self._kept.randint(0, unflushed)

    def draw_skew(self) -> float:
        """Return how much slower than others a node ticks."""
        skew = self.options.skew
        return self._skews.uniform(1.0, skew) ** self._skews.choice((-1, 1))

    # -- strikes ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Let all kinds strike from now on."""
        options, start = self.options, self._begin
        start("crash", options.crash_every, self._plan_crash)
        start("cut", options.cut_every, self._cut)
        start("stall", options.stall_every, self._stall)
        start("partition", options.partition_every, self._partition)
        start("refuse", options.refuse_every, self._refuse)
        start("replay", options.replay_every, self._replay)
        start("hang", options.hang_every, self._hang)
        start("fail", options.fail_every, self._fail_disk)
        start("lose", options.lose_every, self._lose)
        start("pause", options.pause_every, self._pause)
        start("depose", options.depose_every, self._depose)
        start("clock", options.clock_every, self._leap)
        start("stop", options.stop_every, self.sim.operator.stop)
        start("end", options.end_every, self.sim.operator.end_all)
        start("operator", options.change_every, self.sim.operator.act)
        start("replace", options.replace_every, self.sim.operator.replace)
        start("fill", options.fill_every, self._fill)
        start("hostile", options.hostile_every, self.sim.hostile.strike)
        start("statistics", options.hostile_every, self.sim.hostile.ask)
        start("configure", options.configure_every, self.sim.operator.configure)

    def _begin(self, name: str, every: float, strike: Callable[[Random], Awaitable[None]]) -> None:
        if every:
            self.sim.nursery.start_soon(self._strike, self._stream(name), every, strike, name=name)

    async def _strike(
        self, rng: Random, every: float, strike: Callable[[Random], Awaitable[None]]
    ) -> None:
        while True:
            await trio.sleep(rng.expovariate(1 / every))
            if self.is_over:
                return
            await strike(rng)

    def _some(self, rng: Random) -> SimMember | None:
        up = [member for member in self.sim.members.values() if member.is_up]
        return rng.choice(up) if up else None

    def heal(self) -> None:
        """End all faults."""
        self.is_over = True
        for gate in self.held.values():
            gate.set()
        if self._held:
            # Somebody may be in a slow tick until then.
            self._disturb_clients_until(trio.current_time() + self._slow_tick(self.options.skew))
        self.sim.trace.quench()
        self.sim.wires.heal()
        self.sim.rooms.make_room()
        self._held.clear()
        for member in self.sim.members.values():
            disk = member.disk
            if disk.flush_gate is not None:
                disk.flush_gate.set()
            disk.flush_gate = None
            member.skew = 1.0
            if member.lives:
                member.start()

    # -- nodes ------------------------------------------------------------------------------

    async def _plan_crash(self, rng: Random) -> None:
        """Light a fuse: the node dies right after some step of its tasks."""
        if rng.random() < self.options.crash_all:
            self.counts["crash of everybody"] += 1
            for each in self.sim.members.values():
                each.crash("of everybody")
            return
        member = self._some(rng)
        if member is not None:
            self._light(member, rng.randint(1, self.options.crash_steps))

    def _light(self, member: SimMember, steps: int) -> None:
        self.sim.trace.burn(member.id, steps, lambda: member.crash("at a step"))

    def at_boundary(self, member: SimMember, what: str) -> None:
        """An operation of the storage begins, or has ended."""
        chance = self.options.crash_at_boundary
        if chance and not self.is_over and self._boundaries.random() < chance:
            self.counts[f"crash {what}"] += 1
            member.crash("at a boundary")

    def started(self, member: SimMember) -> None:
        """A node has come up."""
        self._check_shown(member)
        if member.lives > 1:
            self.counts["restart"] += 1
            if not self.is_over and self._steps.random() < self.options.crash_again:
                self.counts["fuse lit at a restart"] += 1
                self._light(member, self._steps.randint(1, 300))

    def _check_shown(self, member: SimMember) -> None:
        """I15: a node that lost log says so of itself, whatever a leader has said before."""
        own = f"{member.id:016x}"
        shown = next((n for n in member.node.status.info().nodes if n.id == own), None)
        if shown is not None and (shown.health == "recovering") is not member.core.is_recovering:
            self.sim.fail(f"I15: node {member.id} is shown as {shown.health}: {shown.reason}")
        if member.core.is_recovering:
            self.counts["recovering is shown"] += shown is not None

    def ended(self, member: SimMember) -> None:
        """A node runs no more; it comes back."""
        after = 0.0
        if not self.is_over and self._restarts.random() < 0.8:
            after = self._restarts.expovariate(1 / self.options.down_for)
        if member.is_full:
            after = max(after, 1.0)  # As the unit of systemd does.
        self.sim.nursery.start_soon(self._start_again, member, after)

    async def _start_again(self, member: SimMember, after: float) -> None:
        await trio.sleep(after)
        if member.id in self.held:
            await self.held[member.id].wait()
        member.start()

    def start_strangers(self) -> None:
        """Start who was let in, and was never told."""
        sim = self.sim
        peers = {m.id: m.settings.peer_address for m in sim.members.values() if m.lives}
        leader = sim.leader()
        for node in leader.core.config.all_members() if leader is not None else ():
            if not sim.members[node].lives:
                self.counts["let in without being told"] += 1
                sim.members[node].hints = peers
                sim.members[node].start()

    async def _pause(self, rng: Random) -> None:
        """Nothing is heard of a node, and it hears nothing; its clock and its disk stand, too."""
        member = self._some(rng)
        if member is None:
            return
        self.counts["pause"] += 1
        hosts = {CLIENTS, *self.sim.members}
        wires = self.sim.wires
        ways = wires.between({member.id}, hosts) + wires.between(hosts, {member.id})
        gate, skew = self._close_gate(member), member.skew
        member.skew = skew * _PAUSE_SLOWNESS
        await self._hold_for(ways, rng.expovariate(1 / self.options.pause_for))
        if not self.is_over:
            member.skew = skew
        self._open_gate(member, gate)
        # Its last slow tick may still be to come, and requests are given up at ticks.
        self._disturb_clients_until(trio.current_time() + self._slow_tick(skew))

    async def _depose(self, rng: Random) -> None:
        leader = self.sim.leader()
        if leader is None or len(leader.core.config.voters) < 3:
            return
        timeout_s = self.options.settings.election_timeout_ms / 1000
        await self.cut_off(leader, min(rng.uniform(3, 6) * timeout_s, 3.0))

    async def cut_off(self, leader: SimMember, seconds: float) -> None:
        """Cut the leader off from the others, with ticks too slow for it to notice that they elect another."""
        self.counts["leaders cut off"] += 1
        others, wires = set(self.sim.members) - {leader.id}, self.sim.wires
        ways = wires.between({leader.id}, others) + wires.between(others, {leader.id})
        skew, was_over = leader.skew, self.is_over
        leader.skew = skew * _PAUSE_SLOWNESS
        # Its clients are heard, but it gives requests up at its ticks only.
        self._disturb_clients_until(trio.current_time() + seconds + self._slow_tick(skew))
        await self._hold_for(ways, seconds)
        if self.is_over == was_over:
            leader.skew = skew

    async def hold_back(self, member: SimMember, seconds: float) -> None:
        """Hold what a node sends to the others for a while."""
        ways = self.sim.wires.between({member.id}, set(self.sim.members) - {member.id})
        await self._hold_for(ways, seconds)

    def _slow_tick(self, skew: float) -> float:
        """Return how long a tick of a paused node takes."""
        return _PAUSE_SLOWNESS * skew * self.options.settings.heartbeat_ms / 1000

    async def _leap(self, rng: Random) -> None:
        """A node takes another time for the cluster's: it slept, or was long behind (C2).

        Never so late that keys may be forgotten which clients still use.
        """
        member = self._some(rng)
        if member is not None:
            self.counts["clock leaps"] += 1
            leap_ms = rng.randrange(_LEAP_MS_MAX) if rng.random() < 0.5 else 0
            leap(member.node.replica.clock, leap_ms)

    # -- disks ------------------------------------------------------------------------------

    async def _fill(self, rng: Random) -> None:
        """Somebody writes large values, until they are refused."""
        member, size = self._some(rng), self.options.capacity // 40
        if member is None:
            return
        for _ in range(rng.randint(1, 40)):
            self.filled += 1
            # No value is written twice: see rule D15 in `invariants.py`.
            value = b"fill-%d" % self.filled
            put = Put(b"fill/%d" % (self.filled % 100), value.ljust(size))
            with trio.move_on_after(2):
                try:
                    await member.node.keys.write(put, trio.current_time() + 1)
                except NoSpace:
                    self.counts["large values refused for lack of room"] += 1
                    return
                except HstoreError:
                    return

    async def _hang(self, rng: Random) -> None:
        """No flush ends for a while."""
        member = self._some(rng)
        if member is None:
            return
        gate = self._close_gate(member)
        await trio.sleep(rng.expovariate(1 / self.options.hang_for))
        if gate is not None and member.is_up and member.storage.is_flushing:
            self.counts["a flush hangs"] += 1
            if member.node.replica.waiting.queued or len(member.node.replica.waiting.in_log):
                self.counts["a flush hangs with requests waiting"] += 1
        self._open_gate(member, gate)

    def _close_gate(self, member: SimMember) -> trio.Event | None:
        if member.disk.flush_gate is not None:
            return None
        member.disk.flush_gate = trio.Event()
        return member.disk.flush_gate

    def _open_gate(self, member: SimMember, gate: trio.Event | None) -> None:
        if gate is not None:
            gate.set()
            if member.disk.flush_gate is gate:
                member.disk.flush_gate = None

    async def _fail_disk(self, rng: Random) -> None:
        """The next write, or the next flush, fails."""
        member = self._some(rng)
        if member is None or member.is_frozen:
            return
        kind = rng.choice(("write", "full", "flush", "flush once", "read"))
        error = "No space left on device" if kind == "full" else "Input/output error"
        disk, member.may_fail = member.disk, f"disk failed: {kind}"
        if kind in ("write", "full"):
            disk.write_error = error
        elif kind == "flush":
            disk.flush_error = error
        elif kind == "flush once":
            disk.flush_error_once = error
        else:
            disk.read_error = error

    async def _lose(self, rng: Random) -> None:
        """A machine goes down and its disk comes back without some of what was flushed.

        Only one at a time: what is committed keeps a good copy elsewhere, or nobody could help.
        """
        member = self._some(rng)
        leader = self.sim.leader()
        if member is None or leader is None or not self._keeps_a_majority(leader):
            return
        config = leader.core.config.all_members()
        if any(m.is_short_of_log for i in config if (m := self.sim.members[i]) is not member):
            return
        member.crash("with a loss")
        log = member.disk.durable
        member.lost.update((entry.index, chain) for entry, chain in log.entries)
        if rng.random() < 0.5 or not log.entries:
            member.disk.lose_flushed(rng.randint(1, 6))
            self.counts["flushed log is lost"] += 1
        else:
            member.disk.damage(rng.choice(log.entries[-8:])[0].index)
            self.counts["a bit of the log is flipped"] += 1
        member.has_lost = member.has_ever_lost = True
        if self.options.change_every and self._haste.random() < 0.5:
            self.sim.nursery.start_soon(self._let_go_soon, member)

    async def _let_go_soon(self, but: SimMember) -> None:
        """Another member goes while one has lost log, and may have no vote."""
        await trio.sleep(self._haste.uniform(0.0, 2.0))
        if not self.is_over:
            await self.sim.operator.let_go(self._haste, but)

    def _keeps_a_majority(self, leader: SimMember) -> bool:
        """Whether three voters are left in every configuration there is, and when all who are
        wished away have gone: of two, the other could never be elected without the one that lost.
        """
        wished = leader.node.replica.state.members
        staying = [
            v
            for v in leader.core.config.voters
            if v in wished and not (wished[v].stopped or wished[v].learner)
        ]
        known = [m.core.config for m in self.sim.members.values() if m.is_up]
        return len(staying) >= 3 and all(len(config.voters) >= 3 for config in known)

    # -- connections ------------------------------------------------------------------------

    async def _cut(self, rng: Random) -> None:
        """One connection breaks."""
        ends = list(self.sim.wires.ends)
        if ends:
            self.counts["cut"] += 1
            self.sim.wires.cut(rng.choice(ends), self.cuts)

    async def _stall(self, rng: Random) -> None:
        """A connection between two nodes falls silent: a packet was lost, and TCP waits."""
        ends = [end for end in self.sim.wires.ends if all(end.out.ends)]
        if ends:
            self.sim.wires.stall(rng.choice(ends).out)

    async def _partition(self, rng: Random) -> None:
        """Two groups do not hear each other, or one does not hear the other."""
        hosts = list(self.sim.members)
        if len(hosts) < 2:
            return
        rng.shuffle(hosts)
        some = set(hosts[: rng.randint(1, len(hosts) - 1)])
        others = set(hosts) - some
        wires = self.sim.wires
        ways = wires.between(some, others)
        self.counts["partition"] += 1
        if rng.random() < self.options.one_way:
            self.counts["one-way partition"] += 1
        else:
            ways += wires.between(others, some)
        await self._hold_for(ways, rng.expovariate(1 / self.options.partition_for))
        if rng.random() < self.options.partition_resets and not self.is_over:
            for end in list(wires.ends):
                if end.out.way in ways:
                    wires.cut(end, self.cuts)

    async def _hold_for(self, ways: list[Way], seconds: float) -> None:
        """Hold ways that nobody else holds, and let them go."""
        for way in ways:
            self._held[way] = self._held.get(way, 0) + 1
            way.hold()
        await trio.sleep(seconds)
        for way in ways:
            if way in self._held:
                self._held[way] -= 1
                if not self._held[way]:
                    del self._held[way]
                    way.release()
        self._disturb_clients_until(trio.current_time())

    def _disturb_clients_until(self, time: float) -> None:
        """What ends sooner does not end what lasts longer."""
        self.clients_quiet_since = max(self.clients_quiet_since, time)

    async def _refuse(self, rng: Random) -> None:
        """A node refuses others, as one does whose backlog is full."""
        member = self._some(rng)
        if member is None:
            return
        ways = self.sim.wires.between(set(self.sim.members), {member.id})
        for way in ways:
            way.is_refusing = True
        await trio.sleep(rng.expovariate(1 / self.options.refuse_for))
        for way in ways:
            way.is_refusing = False

    async def _replay(self, rng: Random) -> None:
        """What an old connection carried arrives once more: with its hello, or from later on."""
        wires = self.sim.wires
        old = [(frm, to, sent) for frm, to, sent in wires.old if to in self.sim.members]
        if not old:
            return
        frm, to, sent = rng.choice(old)
        frames = _frames(sent)
        with_hello = rng.random() < 0.5
        if not frames or not isinstance(frames[0], wire.Hello):
            return
        chosen = [f for f in frames if isinstance(f, Base)]
        rng.shuffle(chosen)
        if with_hello:
            chosen = [frames[0], *chosen]  # type: ignore[list-item]
        member = self.sim.members[to]
        with trio.move_on_after(2):
            try:
                end = await wires.dial(frm, member.settings.peer_address)
            except OSError:
                return
            self.counts["replay with a hello" if with_hello else "replay without a hello"] += 1
            try:
                await end.send_all(b"".join(map(wire.encode, chosen)) or b"\0\0\0\0")
                await trio.sleep(0.2)
                if not with_hello and chosen and await end.receive_some():
                    self.sim.fail(f"N9: node {to} answers to a connection without a hello")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            end.close()


def _frames(data: bytes) -> list[wire.Frame]:
    """Return the whole frames at the start of `data`; none of what a replay itself had sent."""
    try:
        return wire.FrameReader().feed(data)
    except PeerError:
        return []
