"""The status of the cluster: which node leads, which are healthy, how far each one is.

The leader judges the members' health (`health.py`) and sends it to everyone in a bulletin, at each
change and once in a health-check interval; a member that gets it reports its own figures. From that,
each node makes what its users get (`overview.py`).

A node at rest should cost next to nothing, so the bulletin goes with a tick's heartbeat, and the
report with the answer to that: neither wakes a node that would have slept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.metadata import version

import structlog
import trio

from hstore.dns.view import ClusterView

from ..driver.replica import Replica
from ..driver.ticks import TickTimer
from ..model.cluster_info import LIVE, ClusterInfo, NodeFigures
from ..net.change_counter import ChangeCounter
from ..peers import wire
from ..storage.interface import Room
from . import outlook, overview
from .clocks import Clocks
from .health import RESTARTING, Health, Judgement
from .timeline import Timeline
from .write_rate import SAMPLE_S, WriteRate

VERSION = version("hstore")

_ALONE_SECONDS = 3.0
"""Time without a leader before the log says why; an ordinary election takes less."""

_log = structlog.get_logger()


class Status:
    """One node's knowledge of the cluster.

    Attributes:
        on_view: Called with a new view for the DNS server whenever it changes.
        on_contact: Called at each tick, and when contact is regained: perhaps a view that was set
            earlier may be answered from again.
        alarms: Returns which alarms hold at this node, for the others to see, but for the margin of the
            quorum, which every node can tell.
        is_stopping: Set by a node that stops on purpose; its next report says so.
        is_restarting: Set beside that by a node that its process starts again at once.
        reached_at: API and peer address of this node now, for the view, whatever the log says.
        changes: Counts the changes that watchers get at once, and wakes those that wait.
        timeline: What has happened, as this node saw it.
        clocks: Compares this machine's clock with what it should be, and with those of others.
    """

    def __init__(
        self, replica: Replica, send: Callable[[int, wire.Frame], object], data_dir: str = ""
    ) -> None:
        """Begin with nothing heard.

        Args:
            replica: What this node knows.
            send: Hands a frame to a peer, or drops it.
            data_dir: The node's directory, for texts that name a command.
        """
        self._data_dir = data_dir
        self._replica = replica
        self._facts = replica.facts
        self._health = Health(replica)
        self._send = send
        self.on_view: Callable[[ClusterView | None], None] = lambda _view: None
        self.on_contact: Callable[[], None] = lambda: None
        self.alarms: Callable[[], Mapping[str, bool]] = dict
        replica.contact.on_regained = self._contact_regained
        self.is_stopping = self.is_restarting = False
        self.reached_at: tuple[str, str] | None = None
        self._tick_timer = TickTimer(self._interval_between_ticks)
        self._published_at = -math.inf
        self._started_at = trio.current_time()
        self._shown: object = None
        self._was_in_contact = self._was_all_well = False
        self._looked_alone_at = self._alone_since = trio.current_time()
        self._told_alone = ""
        self.changes = ChangeCounter()
        self.timeline = Timeline(replica.facts)
        self.clocks = Clocks(replica.facts)
        self._write_rate = WriteRate()
        self._measured_at = -math.inf
        self._measured: tuple[float | None, float | None] = None, None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish once in a health-check interval, where ticks come too rarely for that."""
        task_status.started()
        while True:
            await self._tick_timer.wait()
            self.tell()

    def settings_changed(self) -> None:
        """Keep to the health-check interval that the cluster has now."""
        self._tick_timer.look()
        self.timeline.look_at_settings()

    def tell(self) -> None:
        """Send everyone the health of all members now, if this node leads."""
        if self._facts.is_leader:
            self._publish()
        self.refresh()

    def say_goodbye(self, *, begins_anew: bool = False) -> None:
        """Tell the others that this node stops on purpose. They show it as stopped from then on.

        Args:
            begins_anew: Its process starts it again at once.
        """
        self.is_stopping, self.is_restarting = True, begins_anew
        report = wire.Report(self._own_figures())
        # To all: the leader may just be changing, because this node has handed over.
        for peer in self._facts.peers:
            self._send(peer, report)

    def room_changed(self) -> None:
        """Report to the leader at once how much room this node's disk has."""
        space = self._replica.disk_space
        self.timeline.disk(space.room, is_short=space.is_short)
        if self._facts.leader not in (0, self._facts.id):
            self._send(self._facts.leader, wire.Report(self._own_figures()))

    # -- what is heard ----------------------------------------------------------------------

    def port_answered(self, peer: int) -> None:
        """`peer` takes connections, or a frame of it has arrived: whatever refused, it runs."""
        self._health.answered(peer)  # Seen at the next tick, where not all are well.

    def welcomed(self, peer: int) -> None:
        """A new connection to `peer` was welcomed: an earlier goodbye of it is over."""
        self._health.welcomed(peer)

    def port_refused(self, peer: int) -> None:
        """The port of `peer` refuses connections: it is not running."""
        self._health.port_refused(peer)
        self.refresh()

    def stranger_answered(self, peer: int) -> None:
        """A node of another cluster answers at the address of `peer`."""
        self._health.stranger_answered(peer)

    def reported(self, peer: int, report: wire.Report) -> None:
        """Take the figures of a member."""
        self._health.reported(peer, report.figures)
        if self._facts.is_leader:
            self.clocks.heard(peer, report.figures.clock_ms)
        self.refresh()

    def bulletin(self, bulletin: wire.Bulletin) -> None:
        """Take the leader's bulletin and report to it, unless it is an older leader's."""
        facts, health = self._facts, self._health
        # Not only `health.bulletin.term`: one bulletin of a false term would shut all others out.
        oldest = min(health.bulletin.term, facts.term)
        if bulletin.term >= oldest and not facts.is_leader:
            health.bulletin = bulletin
            own_of_leader = bulletin.members.get(facts.leader)
            if own_of_leader is not None and own_of_leader[2] is not None:
                self.clocks.heard(facts.leader, own_of_leader[2].clock_ms)
            if self.is_short(facts.leader):
                # It wants to hand over, to one that has room now.
                self._replica.disk_space.check()
            if facts.leader:
                self._send(facts.leader, wire.Report(self._own_figures()))
            self.refresh()

    # -- what follows -----------------------------------------------------------------------

    def why_no_leader(self) -> str:
        """Return why this node knows no leader, and which command ends that."""
        seen = self._health.seen_alone(self._alone_since)
        return outlook.why_no_leader(self._facts, seen, self._data_dir)

    def in_contact(self) -> bool:
        """Whether this node is in current contact with a leader; a leader: with its majority."""
        return self._health.in_contact()

    def contact_at(self) -> float:
        """When this node was last in contact, as far as that is proven; infinite: it is now."""
        if self.in_contact():
            return math.inf
        return max(self._started_at, self._replica.contact.proven_at)

    def is_live(self, node: int) -> bool:
        """Whether `node` counts among the live: alive or suspect."""
        judgements = self._health.judgements(self._own_figures())
        return node in judgements and judgements[node][0] in LIVE

    def live_members(self) -> set[int]:
        """Return the ids of the members that count among the live.

        Without a leader as this node sees them itself: the last bulletin is of before, and would count
        a majority that is gone for as long as it is gone.
        """
        if self._facts.is_leader or self.in_contact():
            judged = self.judgements()
        else:
            judged = self._health.seen_alone(self._alone_since)
        return {node for node, (health, *_) in judged.items() if health in LIVE}

    def judgements(self) -> dict[int, Judgement]:
        """Return how each member is judged: by the leader now, elsewhere as its bulletin has it."""
        return self._health.judgements(self._own_figures())

    def may_be_back_soon(self, node: int) -> float | None:
        """Since when the process of `node` does not run, though its machine does; see `Health`."""
        return self._health.may_be_back_soon(node)

    def is_running(self, node: int) -> bool:
        """Whether `node` runs as far as is known here: it is live, or joins and was heard of lately."""
        return self.is_live(node) or self._health.is_heard(node)

    def is_heard(self, node: int) -> bool:
        """Whether another member was heard of lately, and has not said that it stops."""
        return self._health.is_heard(node)

    def is_ending(self, node: int) -> bool:
        """Whether `node` has said that it is about to stop."""
        return self._health.is_ending(node)

    def room_of(self, node: int) -> NodeFigures | None:
        """Return figures of `node` that say how much room its disk has; None: it is not known.

        At the leader those that `node` reported last, elsewhere those of the leader's bulletin.
        """
        if node == self._facts.id:
            return self._own_figures()
        if self._facts.is_leader:
            return self._health.figures(node)
        judgement = self._health.bulletin.members.get(node)
        return None if judgement is None else judgement[2]

    def reported_at(self, node: int) -> float:
        """When `node` last reported its figures, in seconds of `trio.current_time()`."""
        return self._health.reported_at(node)

    def is_short(self, node: int) -> bool:
        """Whether the disk of `node` is known to be short of room."""
        figures = self.room_of(node)
        return figures is not None and figures.is_disk_short

    def shortage_of(self, node: int) -> str:
        """Return a text about the room on the disk of `node`; empty: it is not known to be short."""
        figures, member = self.room_of(node), self._facts.members.get(node)
        if figures is None or not figures.is_disk_short:
            return ""
        name = member.name if member is not None else f"{node:016x}"
        return f"the disk of {name} has {Room(figures.disk_free, figures.disk_needed)}"

    @property
    def structure(self) -> int:
        """How many changes there were that watchers get at once, such as of leader or health."""
        return self.changes.count

    async def wait_change(self, seen: int) -> int:
        """Wait until `structure` is not `seen`, and return it."""
        return await self.changes.wait(seen)

    def refresh(self) -> ClusterInfo:
        """Compare with what was last shown; on a change wake the watchers and renew the view.

        Returns the cluster as it is now.
        """
        facts = self._facts
        if facts.is_leader:
            self._health.note_progress()
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
            # Not shown, but the member itself has to see it (`process/announcing.py`).
            [member.id for member in facts.members.values() if member.stopped],
            # The view for DNS has these, too.
            facts.settings.dns_ttl_s,
            facts.cluster_id,
            [
                (
                    (n.name, n.id, n.address, n.peer_address, n.dns_address),
                    (n.type, n.voter, n.health, n.reason),
                )
                for n in info.nodes
            ],
        )
        if shown == self._shown:
            return info
        self._shown = shown
        self.timeline.look(info)
        self.changes.add()
        self.on_view(self.view())
        if facts.is_leader:
            self._publish()
        return info

    def tick(self) -> None:
        """Time has passed: see what follows from that alone.

        A follower shows what the leader's bulletin says, and only its own contact can lapse.
        """
        self.clocks.look()
        is_in_contact = self.in_contact()
        if is_in_contact or self._was_in_contact:
            # From the first look on: a process that was halted meanwhile has missed no leader yet.
            self._alone_since = trio.current_time()
        if is_in_contact != self._was_in_contact:
            self.refresh()
        self.on_contact()
        if self.timeline.is_unsure:
            self.timeline.look(self.info())
        if not self._facts.is_leader:
            if is_in_contact:
                self._told_alone = ""
            else:
                self._look_alone()
            return
        # At the tick that is next to it, as an interval need not be a multiple of ticks.
        due = self._health.interval_s() - self._replica.tick_seconds() / 2
        if trio.current_time() - self._published_at >= due:
            self.tell()
        elif not self._was_all_well or self._health.is_one_silent():
            self.refresh()

    def info(self) -> ClusterInfo:
        """Return the cluster as this node sees it now."""
        return overview.cluster_info(
            self._facts,
            self._health.judgements(self._own_figures()),
            cluster_id=self._replica.storage.identity.cluster_id,
            in_contact=self.in_contact(),
        )

    def view(self) -> ClusterView | None:
        """Return what the DNS server shall answer from; None: it does not know the zone yet."""
        return overview.dns_view(
            self._facts,
            self.info(),
            serial=self.structure,
            reached_at=self.reached_at,
            is_stopping=self.is_stopping,
        )

    # -- inside -----------------------------------------------------------------------------

    def _contact_regained(self) -> None:
        self.refresh()
        self.on_contact()

    def _look_alone(self) -> None:
        """Without a leader, once in a health-check interval: look at the others, and say why."""
        now, facts = trio.current_time(), self._facts
        if now - self._looked_alone_at < self._health.interval_s():
            return
        self._looked_alone_at = now
        if facts.lost_log:
            # There is no leader to report to, and the others wait for this node's vote in vain.
            report = wire.Report(self._own_figures())
            for peer in facts.peers:
                self._send(peer, report)
        self.refresh()
        why = self.why_no_leader()
        if why != self._told_alone and now - self._alone_since >= _ALONE_SECONDS:
            self._told_alone = why
            _log.error("no leader", why=why)
            self.timeline.note("no leader", why)

    def _interval_between_ticks(self) -> float:
        """How often to publish by a timer of one's own: never, where ticks are frequent enough."""
        interval = self._health.interval_s()
        return interval if self._replica.tick_seconds() > interval else math.inf

    def _own_figures(self) -> NodeFigures:
        facts, space = self._facts, self._replica.disk_space
        state = "recovering" if facts.lost_log else "running"
        if self.is_stopping:
            state = RESTARTING if self.is_restarting else "stopping"
        writes_per_s, fsync_ms = self._speed()
        return NodeFigures(
            state=state,
            term=facts.term,
            commit_index=facts.commit_index,
            applied_index=facts.applied_index,
            version=VERSION,
            uptime_s=int(trio.current_time() - self._started_at),
            reason=facts.lost_log,
            disk_free=space.room.free,
            disk_needed=space.room.needed,
            is_disk_short=space.is_short,
            is_disk_tight=space.is_short and space.room.is_tight,
            writes_per_s=writes_per_s,
            fsync_ms=fsync_ms,
            clock_ms=self.clocks.now_ms(),
            alarms=tuple(kind for kind, holds in self.alarms().items() if holds),
        )

    def _speed(self) -> tuple[float | None, float | None]:
        """Return writes per second, and the median of the flushes in ms; measured twice a second."""
        now = trio.current_time()
        if now - self._measured_at >= SAMPLE_S:
            self._measured_at = now
            self._measured = (
                self._write_rate.at(
                    now, self._facts.applied_index, self._replica.snapshots_installed
                ),
                self._replica.flushes.median_ms(),
            )
        return self._measured

    def _publish(self) -> None:
        self._published_at = trio.current_time()
        judgements = self._health.judgements(self._own_figures())
        self._health.bulletin = wire.Bulletin(self._facts.term, judgements)
        for peer in self._facts.followers:
            self._send(peer, self._health.bulletin)


__all__ = ["VERSION", "Status"]
