"""The check `serfHealth` of each member, by what its leader has heard (contract of services, 4.4).

E4: a leader writes that a member passes only when it has heard of it lately, and that it is critical
only when it has not for so long that it counts as failed, or for the 3 s that a restart may take. In
peace the check of every member passes again. Looked at when the leader writes the entry, so that it
does not matter how long that takes to be committed. What the leader decided may have waited until
then, as while it hands the lead over: who was heard again meanwhile may be called critical only until
the leader's next tick, at which it looks at all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from hstore.node.model import commands
from hstore.node.model.checks import SERF_HEALTH, SetCheck
from hstore.node.raft.entry import Entry, EntryKind

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation

_SUSPECT_INTERVALS, _FAILED_INTERVALS = 2, 5
_RESTART_S = 3.0

_LEAST_INTERVAL_S, _MOST_INTERVAL_S = 0.05, 0.5
"""Of the health check, in any run: it may have changed since the leader decided."""

_QUEUED_S = 2.0
"""So long what was decided may wait until it is in the log, while the lead is being handed over."""

_BACK_S = 5.0
"""For all checks to pass when nothing goes wrong any more; by the contract 1 s, on any disk and link."""


class Healths:
    """The checks of the members of one run."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        # By node and peer: the last long silence that has ended, from when to when.
        self._silences: dict[tuple[int, int], tuple[float, float]] = {}
        # By node: its last tick, and the last one before that at another time.
        self._ticked: dict[int, tuple[float, float]] = {}

    def hears(self, member: SimMember, peer: int) -> None:
        """A node has received something of a peer, and has not noted it yet."""
        now, before = trio.current_time(), member.node.replica.heard.get(peer, -math.inf)
        if now - before >= _FAILED_INTERVALS * _LEAST_INTERVAL_S:
            self._silences[member.id, peer] = before, now

    def ticked(self, member: SimMember) -> None:
        """A node has a tick."""
        now, (last, before) = trio.current_time(), self._ticked.get(member.id, (0.0, 0.0))
        self._ticked[member.id] = now, last if now > last else before

    def written(self, leader: SimMember, entries: Sequence[Entry]) -> None:
        """A node writes entries; if it leads, these are its own."""
        if not leader.is_leader or self.sim.is_healed or self.sim.options.hostile_every:
            return
        for entry in entries:
            if entry.kind == EntryKind.COMMAND and entry.term == leader.core.term:
                self._look_at(leader, entry)

    def _look_at(self, leader: SimMember, entry: Entry) -> None:
        command = commands.decode(entry.data)
        if not isinstance(command, SetCheck) or command.check.id != SERF_HEALTH:
            return
        members = leader.node.replica.state.members.values()
        number, status = command.check.node, command.check.status
        for member in [m for m in members if m.catalog_number == number and m.id != leader.id]:
            self.sim.counts[f"serfHealth {status}"] += 1
            ago = trio.current_time() - leader.node.replica.heard.get(member.id, -math.inf)
            if status == "passing":
                is_wrong = ago > _SUSPECT_INTERVALS * _MOST_INTERVAL_S + _QUEUED_S
            else:
                is_wrong = not member.stopped and self._is_too_soon(leader, member.id, ago)
            if is_wrong:
                self.sim.fail(
                    f"E4: node {leader.id} writes that {member.id} is {status}, heard {ago:.2f} s ago"
                )

    def _is_too_soon(self, leader: SimMember, node: int, ago: float) -> bool:
        """Whether a member is called critical that may be back, and has said nothing of stopping."""
        member, settings = self.sim.members[node], leader.node.replica.state.settings
        is_new = node not in leader.core.config.voters
        if is_new or member.has_stopped or member.has_ever_lost or member.is_gone:
            return False
        interval = settings.health_interval_ms / 1000
        if self.sim.options.configure_every:
            interval = _LEAST_INTERVAL_S
        now = trio.current_time()
        led_since = self.sim.checker.elected_at(leader.core.term)
        least = _FAILED_INTERVALS * interval - 1e-6
        if now - max(now - ago, led_since) >= least:
            return False
        last, until = self._silences.get((leader.id, node), (-math.inf, -math.inf))
        if until - max(last, led_since) >= least and self._last_look(leader) <= until:
            self.sim.counts["members heard again before they are written critical"] += 1
            return False
        return ago < _RESTART_S - 1e-6

    def _last_look(self, leader: SimMember) -> float:
        """Return when a leader has looked last at who is well, and could act on that before now."""
        last, before = self._ticked.get(leader.id, (0.0, 0.0))
        return last if last < trio.current_time() else before

    async def back(self) -> None:
        """In peace, wait until the checks of all members pass."""
        failing: list[int] = []
        with trio.move_on_after(_BACK_S):
            while failing := self._failing():  # noqa: ASYNC110 - looked at by the state of the leader
                await trio.sleep(0.1)
            return
        self.sim.fail(f"E4: in peace the checks of {failing} do not pass: {self.sim.describe()}")

    def _failing(self) -> list[int]:
        leader = self.sim.leader()
        if leader is None:
            return [0]
        members, keys = leader.node.replica.state.members.values(), leader.node.keys
        checks = [
            (m.id, keys.check(m.catalog_number, SERF_HEALTH))
            for m in members
            if not (m.stopped or self.sim.members[m.id].is_short_of_log)
        ]
        return [node for node, check in checks if check is None or check.status != "passing"]
