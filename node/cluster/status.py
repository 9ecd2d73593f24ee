"""How the cluster is: who leads, who is healthy, how far everyone has come.

The leader judges health by what it hears (contract, section 1) and tells everyone in a bulletin,
at each change and once in a health-check interval; who hears it answers with its own figures.
From that, each node makes what its users get: the `/v1/cluster` object, and the view that its DNS
server answers from.

A node at rest should cost next to nothing, so the bulletin goes with a tick's heartbeat, and what
answers it with the answer to that: neither wakes anybody who would have slept.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version

import msgspec
import trio

from hstore.dns.view import ClusterView
from hstore.dns.view import Member as DnsMember

from ..driver.replica import Replica
from ..driver.ticks import TickTimer
from ..model.cluster_info import ClusterInfo, NodeFigures, NodeInfo
from ..model.commands import Member
from ..model.values import split_address
from ..peers import wire
from ..raft import quorum
from ..raft.quorum import VoteResult
from ..raft.roles import Role

_SUSPECT_INTERVALS = 2
_FAILED_INTERVALS = 5
"""Health-check intervals without contact after which a node is suspect, and failed."""

VERSION = version("hstore")

Judgement = tuple[str, int | None, NodeFigures | None]
"""Health, milliseconds since the last contact, figures; as in a bulletin."""


class Status:
    """One node's knowledge of the cluster.

    Attributes:
        structure: Counts the changes that users are told of at once.
        on_view: Called with a new view for the DNS server whenever it changes.
        is_stopping: Set by a node that stops on purpose; its next report says so.
        reached_at: API and peer address of this node now, for the view, whatever the log says.
    """

    def __init__(self, replica: Replica, send: Callable[[int, wire.Frame], object]) -> None:
        """`send` hands a frame to a peer, or drops it."""
        self._replica = replica
        self._send = send
        self.structure = 0
        self.on_view: Callable[[ClusterView | None], None] = lambda _view: None
        self.is_stopping = False
        self._tick_timer = TickTimer(self._interval_between_ticks)
        self._told_at = -math.inf
        self.reached_at: tuple[str, str] | None = None
        self._started_at = trio.current_time()
        self._leading_since = 0.0
        self._leading_term = 0
        self._refused: set[int] = set()
        self._figures: dict[int, NodeFigures] = {}
        self._caught_up: set[int] = set()
        self._bulletin = wire.Bulletin(0, {})
        self._shown: object = None
        self._was_in_contact = self._was_all_well = False
        self._changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish once in a health-check interval, where ticks come too rarely for that."""
        task_status.started()
        while True:
            await self._tick_timer.wait()
            self.tell()

    def settings_changed(self) -> None:
        """Keep to the health-check interval that the cluster has now."""
        self._tick_timer.look()

    def tell(self) -> None:
        """Tell the others now how everyone is, if this node leads."""
        if self._replica.core.role is Role.LEADER:
            self._publish()
        self.refresh()

    def say_goodbye(self) -> None:
        """Tell the others that this node stops on purpose. They show it as stopped from then on."""
        self.is_stopping = True
        core = self._replica.core
        report = wire.Report(self._own_figures())
        # To all: who leads may just be changing, because this node has handed over.
        for peer in core.config.all_members():
            if peer != core.id:
                self._send(peer, report)

    # -- what is heard ----------------------------------------------------------------------

    def port_answered(self, peer: int) -> None:
        """`peer` takes connections, or a frame of it has arrived: whatever refused, it runs."""
        self._refused.discard(peer)  # Seen at the next tick, where not all are well.

    def welcomed(self, peer: int) -> None:
        """A new connection to `peer` was welcomed: a goodbye of before is over."""
        self.port_answered(peer)
        figures = self._figures.get(peer)
        if figures is not None and figures.state == "stopping":
            # It reports to the leader only, which this node may yet become.
            del self._figures[peer]

    def port_refused(self, peer: int) -> None:
        """The port of `peer` refuses connections: it is not running."""
        self._refused.add(peer)
        self.refresh()

    def reported(self, peer: int, report: wire.Report) -> None:
        """Take the figures of a member."""
        self._figures[peer] = report.figures
        self.refresh()

    def bulletin(self, bulletin: wire.Bulletin) -> None:
        """Take the leader's view, unless it is an older leader's."""
        if bulletin.term >= self._bulletin.term and self._replica.core.role is not Role.LEADER:
            self._bulletin = bulletin
            if self._replica.core.leader:
                self._send(self._replica.core.leader, wire.Report(self._own_figures()))
            self.refresh()

    # -- what follows -----------------------------------------------------------------------

    def in_contact(self) -> bool:
        """Whether this node is in current contact with a leader; a leader: with its majority."""
        core, now = self._replica.core, trio.current_time()
        if core.role is Role.LEADER:
            oldest = now - self._patience()
            heard = {
                voter: voter == core.id or self._last_heard(voter) >= oldest
                for voter in core.config.all_voters()
            }
            return quorum.vote_result(core.config, heard) is VoteResult.WON
        if not core.leader or core.leader_gone:
            return False
        is_heard = now - self._replica.heard.get(core.leader, -1e9) <= self._patience()
        return is_heard and self._had_leader_its_majority()

    def _had_leader_its_majority(self) -> bool:
        """Whether the leader heard a majority when it last told how everyone is.

        It says so at once when it does not. Who is cut off together with it hears it all the same,
        and would name it as the leader while the majority has another.
        """
        core = self._replica.core
        if self._bulletin.term != core.term:
            return True
        told = self._bulletin.members
        patience_ms = self._patience() * 1000
        heard = {
            voter: voter not in told or (told[voter][1] or 0) < patience_ms
            for voter in core.config.all_voters()
        }
        return quorum.vote_result(core.config, heard) is VoteResult.WON

    def is_live(self, node: int) -> bool:
        """Whether `node` counts among the live: alive or suspect."""
        return self._judgements().get(node, ("failed", None, None))[0] in ("alive", "suspect")

    def is_ending(self, node: int) -> bool:
        """Whether `node` has said that it is about to stop."""
        figures = self._figures.get(node)
        return figures is not None and figures.state == "stopping"

    def refresh(self) -> ClusterInfo:
        """Compare with what was last shown; wake the watchers and renew the view on a change.

        Returns the cluster as it is now.
        """
        core = self._replica.core
        if core.role is Role.LEADER:
            self._note_progress()
        info = self.info()
        self._was_in_contact = self.in_contact()
        self._was_all_well = all(node.health == "alive" for node in info.nodes)
        shown = (
            info.leader,
            info.term,
            info.quorum,
            info.waiting_for,
            info.zone,
            self._was_in_contact,
            # Not shown, but the member itself has to see it (`process/main.py:_announce`).
            [member.id for member in self._replica.state.members.values() if member.stopped],
            # The view for DNS has these, too.
            self._replica.state.settings.dns_ttl_s,
            self._replica.state.cluster_id,
            [
                (n.name, n.id, n.address, n.peer_address, n.dns_address, n.type, n.voter, n.health)
                for n in info.nodes
            ],
        )
        if shown == self._shown:
            return info
        self._shown = shown
        self.structure += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        self.on_view(self.view())
        if core.role is Role.LEADER:
            self._publish()
        return info

    def tick(self) -> None:
        """Time has passed: see what follows from that alone.

        What a follower shows is what it was told, but for its contact with the leader.
        """
        if self._replica.core.role is not Role.LEADER:
            if self.in_contact() != self._was_in_contact:
                self.refresh()
            return
        now = trio.current_time()
        # At the tick that is next to it, as an interval need not be a multiple of ticks.
        if now - self._told_at >= self._interval() - self._replica.tick_seconds() / 2:
            self.tell()
        elif not self._was_all_well or self._is_one_silent(now):
            self.refresh()

    def _is_one_silent(self, now: float) -> bool:
        """Whether anybody has been silent for so long that it may show: health, or contact."""
        oldest = now - min(self._interval(), self._patience())
        own = self._replica.core.id
        return any(m != own and self._last_heard(m) < oldest for m in self._replica.state.members)

    async def wait_change(self, seen: int) -> int:
        """Wait until `structure` is not `seen`, and return it."""
        while self.structure == seen:
            await self._changed.wait()
        return self.structure

    def info(self) -> ClusterInfo:
        """Return the cluster as this node sees it now."""
        replica = self._replica
        core, state = replica.core, replica.state
        # While it waits for nodes, a cluster names no leader to anybody (`start --expect`).
        expect = state.cluster.expect
        leader = core.leader if self.in_contact() and not expect else 0
        judgements = self._judgements()
        nodes = [
            self._node_info(member, leader, judgements.get(member.id, ("joining", None, None)))
            for member in sorted(state.members.values(), key=_by_name)
        ]
        voters = core.config.voters
        needed = len(voters) // 2 + 1
        live = sum(node.voter and node.health in ("alive", "suspect") for node in nodes)
        known = state.members.get(leader)
        return ClusterInfo(
            cluster_id=state.cluster_id or replica.storage.identity.cluster_id,
            leader=known.name if known else None,
            term=core.term,
            quorum=needed,
            failure_tolerance=max(live - needed, 0),
            zone=state.settings.zone,
            nodes=nodes,
            waiting_for=expect,
        )

    def view(self) -> ClusterView | None:
        """Return what the DNS server shall answer from; None: it does not know the zone yet."""
        state = self._replica.state
        own = state.members.get(self._replica.core.id)
        if own is None:
            return None
        info = self.info()
        return ClusterView(
            zone=state.settings.zone,
            ttl_s=state.settings.dns_ttl_s,
            serial=self.structure % 2**32,
            term=info.term,
            leader=info.leader,
            self_name=own.name,
            members=tuple(sorted(self._dns_members(info), key=_dns_name)),
        )

    def _dns_members(self, info: ClusterInfo) -> Iterator[DnsMember]:
        """Return the members as DNS shows them: this node as it is, the others as they are known.

        A node that comes back at another address can tell the cluster only when it has found it,
        and is found by what its own DNS server says. Without a leader nobody else knows that it
        lives, either.
        """
        own = f"{self._replica.core.id:016x}"
        for node in info.nodes:
            if node.id == own and self.reached_at:
                address, peer_address = self.reached_at
                here = msgspec.structs.replace(node, address=address, peer_address=peer_address)
                member = _dns_member(here)
                is_live = member.live or (info.leader is None and not self.is_stopping)
                yield dataclasses.replace(member, live=is_live)
            else:
                yield _dns_member(node)

    # -- inside -----------------------------------------------------------------------------

    def _interval(self) -> float:
        return self._replica.state.settings.health_interval_ms / 1000

    def _interval_between_ticks(self) -> float:
        """How often to publish by a timer of one's own: never, where ticks are frequent enough."""
        interval = self._interval()
        return interval if self._replica.tick_seconds() > interval else math.inf

    def _patience(self) -> float:
        """After so long without a sign of the leader, contact has lapsed: an election timeout."""
        return self._replica.state.settings.election_timeout_ms / 1000

    def _last_heard(self, node: int) -> float:
        """When `node` was last heard; a new leader gives everyone the time since its election."""
        return max(self._replica.heard.get(node, 0.0), self._leading_since)

    def _own_figures(self) -> NodeFigures:
        core = self._replica.core
        return NodeFigures(
            state="stopping" if self.is_stopping else "running",
            term=core.term,
            commit_index=core.log.commit,
            applied_index=self._replica.state.applied,
            version=VERSION,
            uptime_s=int(trio.current_time() - self._started_at),
        )

    def _note_progress(self) -> None:
        """At the leader: when it began to lead, and which learners are past joining."""
        core = self._replica.core
        if core.term != self._leading_term:
            self._leading_term, self._leading_since = core.term, trio.current_time()
            # A learner that was past joining is not joining again because somebody else leads.
            known = self._bulletin.members.items()
            self._caught_up.update(member for member, seen in known if seen[0] != "joining")
        self._caught_up.update(core.config.voters, core.learners_caught_up())

    def _judgements(self) -> dict[int, Judgement]:
        """Return everyone's state: at the leader judged now, elsewhere as last published."""
        core = self._replica.core
        if core.role is not Role.LEADER:
            own = self._bulletin.members.get(core.id, ("joining", None, None))
            return {**self._bulletin.members, core.id: (own[0], own[1], self._own_figures())}
        now = trio.current_time()
        return {member: self._judge(member, now) for member in self._replica.state.members}

    def _judge(self, member: int, now: float) -> Judgement:
        core = self._replica.core
        if member == core.id:
            return "alive", 0, self._own_figures()
        figures = self._figures.get(member)
        last = self._last_heard(member)
        silent = now - last
        contact_ms = int(silent * 1000) if member in self._replica.heard else None
        intervals = silent / self._interval()
        is_refused = member in self._refused
        is_stopped = self._replica.state.members[member].stopped or self.is_ending(member)
        if is_stopped and (is_refused or intervals >= 1):
            return "stopped", contact_ms, figures
        if member not in core.config.voters and member not in self._caught_up:
            return "joining", contact_ms, figures
        if is_refused or intervals >= _FAILED_INTERVALS:
            return "failed", contact_ms, figures
        health = "suspect" if intervals >= _SUSPECT_INTERVALS else "alive"
        return health, contact_ms, figures

    def _publish(self) -> None:
        self._told_at = trio.current_time()
        self._bulletin = wire.Bulletin(self._replica.core.term, self._judgements())
        for peer in self._replica.core.progress:
            self._send(peer, self._bulletin)

    def _node_info(self, member: Member, leader: int, judgement: Judgement) -> NodeInfo:
        health, contact_ms, figures = judgement
        voter = self._replica.core.config.is_voter(member.id)
        kind = "leader" if member.id == leader else "follower" if voter else "learner"
        return NodeInfo(
            name=member.name,
            id=f"{member.id:016x}",
            address=member.address,
            peer_address=member.peer_address,
            dns_address=member.dns_address,
            type=kind,
            voter=voter,
            health=health,
            term=figures.term if figures else None,
            commit_index=figures.commit_index if figures else None,
            applied_index=figures.applied_index if figures else None,
            last_contact_ms=contact_ms,
            version=figures.version if figures else None,
            uptime_s=figures.uptime_s if figures else None,
        )


def _dns_member(node: NodeInfo) -> DnsMember:
    host, port = split_address(node.address)
    return DnsMember(
        name=node.name,
        node_id=node.id,
        host=host,
        api_port=port,
        peer_port=split_address(node.peer_address).port,
        live=node.is_live,
        voter=node.voter,
    )


def _dns_name(member: DnsMember) -> str:
    return member.name


def _by_name(member: Member) -> list[tuple[str, int]]:
    """Sort n2 before n10."""
    parts = re.findall(r"(\D*)(\d*)", member.name)
    return [(text, int(number or 0)) for text, number in parts]


__all__ = ["VERSION", "Status"]
