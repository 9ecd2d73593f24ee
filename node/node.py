"""One node, put together from its rooms.

The one place that knows all of them: makes them, hands each frame to the room it is for, and puts
together the `Backend` of the HTTP API (`api/backend.py`). Decides nothing about consensus.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import structlog
import trio

from .api.backend import Backend
from .checks.probes import NO_CHECK_SETTINGS, CheckSettings
from .checks.runner import CheckRunner
from .cluster.administration import Administration
from .cluster.alarms import Alarms
from .cluster.catalog_duties import CatalogDuties
from .cluster.configure import Configure
from .cluster.dns_lookup import CatalogLookup
from .cluster.founding import Founding
from .cluster.handover import Handover
from .cluster.membership import Membership
from .cluster.replica_check import ReplicaCheck
from .cluster.rooms import Rooms
from .cluster.session_clocks import SessionClocks
from .cluster.shutdown import Shutdown
from .cluster.snapshot_receiver import Reply, SnapshotReceiver
from .cluster.snapshot_sender import SnapshotSender
from .cluster.status import Status
from .cluster.this_node import ThisNode
from .config.log_limit import LogLimit
from .driver import recovered_core
from .driver.freshness import Freshness
from .driver.key_counting import count_keys
from .driver.keys import Keys
from .driver.replica import Replica
from .driver.ticks import TickTimer
from .errors import AddressClaimed, BadFrame, BadNumber, DuplicateProcess
from .metrics.exposition import Exposition
from .metrics.figures import Figures
from .metrics.sources import Sources
from .metrics.statistics.history import History
from .net.lag import Lag
from .net.poller import Poller, can_poll
from .peers import wire
from .peers.greeting import Dial, LocalNode, is_cluster_id
from .peers.links import Links
from .raft.membership import MEMBERS_MAX
from .raft.messages import Base
from .state.machine import State
from .storage.interface import Storage

_GOODBYE_SECONDS = 0.05
"""For the last frames to leave; their answers are not waited for."""

_FAREWELL_SECONDS = 1.0
"""How long a member that was removed keeps its links: for the answer to its own request, and for
the others to see its end at once, should it have led."""

_SUSPECT = (
    "that member runs another version of hstore, or something that is no hstore: look at it, and "
    "upgrade or remove it"
)

_FATAL = (wire.Refusal.REMOVED, wire.Refusal.DUPLICATE)
"""Refusals that end this node."""

_MAX_SAID = 128  # Addresses remembered of nodes that said hello; the oldest goes first.

_log = structlog.get_logger()


class Life(NamedTuple):
    """One run of a node.

    Attributes:
        incarnation: A random number of 64 bits, another one for each run (`peers/incarnations.py`).
        is_founder: Whether this process has made what is in the storage, for a new cluster.
        data_dir: Where the storage is, for texts that name a command; empty: nowhere.
        checks: What its health checks may do, and what runs them.
    """

    incarnation: int
    is_founder: bool = False
    data_dir: str = ""
    checks: CheckSettings = NO_CHECK_SETTINGS


class Node:
    """A node without its listeners: give it connections of peers, and requests.

    Attributes:
        replica, status, links: Its rooms.
        alarms: What an operator has to mend.
        statistics: Its figures over time; whoever runs the node runs them beside it.
        keys, administration, process, settings: What clients ask of it; together, the `backend`.
        poller: Watches the sockets of peers and clients; None: each has a task of its own.
        figures: What its rooms have counted; whoever makes its servers adds theirs.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        address: str,
        dial: Dial,
        rng: Random,
        life: Life,
        name: str = "",
        peer_address: str = "",
        log_level: str = "info",
    ) -> None:
        """Recover from `storage`; nothing runs before `run`.

        Args:
            storage: Owned by the caller, who closes it.
            address: `HOST:PORT` of the node's API.
            dial: How others are reached.
            rng: For timeouts.
            life: This run of the node.
            name: What it is called until the cluster has given it a name.
            peer_address: `HOST:PORT` where others reach it; empty: they know already.
            log_level: What the process logs from the start.

        Raises:
            StorageError, CoreBug: What is on disk cannot be used.
        """
        identity = storage.identity
        state = State(storage.state)
        options = recovered_core.core_options(state.settings)
        self.replica = Replica(identity.node_id, storage, state, rng, options)
        self._facts = self.replica.facts
        self.status = Status(self.replica, self.replica.send, life.data_dir)
        self.status.reached_at = (address, peer_address) if peer_address else None
        self.membership = Membership(self.replica, self.status)
        self.rooms = Rooms(self.replica, self.status, self.membership)
        self.settings = Configure(self.replica, self.status, log_level)
        self.handover = Handover(self.replica, self.status, self.membership)
        me = LocalNode(identity.cluster_id, identity.node_id, name, peer_address, life.incarnation)
        self.poller = Poller() if can_poll() else None
        beat_s = self.replica.tick_seconds
        self.links = Links(me, self, dial=dial, heartbeat_s=beat_s, rng=rng, poller=self.poller)
        self.snapshot_sender = SnapshotSender(self.replica, self.links, rng)
        self.snapshot_receiver = SnapshotReceiver(self.replica)
        self._founding = Founding(self._facts, is_founder=life.is_founder)
        self._log_limit = LogLimit()
        self.check = ReplicaCheck(self.replica, self.replica.send)
        self.alarms = Alarms(self.replica, self.check)
        self.freshness = Freshness(self.replica)
        lag = self.poller.lag if self.poller is not None else Lag()
        self.keys = Keys(self.replica, self.status.wait_change)
        self.process = ThisNode(
            self.replica, self.status, self.handover, lag, address=address, name=name
        )
        self.shutdown = Shutdown(self.replica, self.status, self.process.request_stop)
        self.administration = Administration(
            self.replica, self.status, self.handover, self.process, self.shutdown
        )
        self.sessions = SessionClocks(self.replica, self.keys)
        self._duties = CatalogDuties(self.replica, self.keys, self.status)
        self.checks = CheckRunner(self.replica, self.keys, life.checks, rng)
        self._addresses: dict[int, str] = {}
        self._said: dict[int, str] = {}
        self._going: dict[int, float] = {}
        tick_s = lambda: self.replica.tick_seconds()  # noqa: E731, PLW0108 - a test has its own
        self._tick_timer = TickTimer(tick_s, lag, rng.random)
        self._adopted, self._key_count = state.settings, state.key_count
        self._connect_rooms(state, lag)

    def _connect_rooms(self, state: State, lag: Lag) -> None:
        """Have the rooms below call this node, or each other; gather what the API is given."""
        sources = Sources(
            self.replica,
            self.links,
            lag.seconds,
            self.snapshot_sender,
            self.sessions,
            self.checks,
            self.status,
            self.alarms,
        )
        self.figures = Figures(sources)
        self.statistics = History(self._facts.id, self.replica, self.figures.totals)
        self.backend = Backend(
            self.keys,
            self.administration,
            self.process,
            self.settings,
            self.sessions,
            catalog=self.keys,
            checks=self.checks,
            metrics=Exposition(self.figures),
            statistics=self.statistics,
        )
        if self.poller is not None:
            self.keys.watches.wake = self.poller.turn.soon
            self.status.changes.later = self.poller.turn.in_turns
        self.replica.waiting.why_no_leader = self.status.why_no_leader
        self.replica.leadership.on_change = self._on_change
        self.replica.on_tick = self._on_tick
        self.replica.disk_space.on_change = self._on_room_changed
        self.replica.intake.on_admin = self.membership.handle
        self.replica.intake.on_renew = self.sessions.handle
        self.replica.intake.on_word = self.checks.handle
        self.replica.on_snapshot_wanted = self.snapshot_sender.send
        self.replica.on_refused = self._refused_by_core
        self.replica.on_term_jump = self._term_jumped
        self.alarms.on_line = self.status.timeline.sounded
        self.status.clocks.sound = self.alarms.sound
        self.status.alarms = lambda: self.alarms.now(1, is_voter_missing=False)
        state.on_checkpoint = self.check.checkpoint

    def dns_lookup(self) -> CatalogLookup:
        """Return what a DNS server asks about services; each server has its own."""
        return CatalogLookup(
            self.keys.view,
            self.keys.watches.listen,
            lambda: self._facts.settings,
            self.status.contact_at,
        )

    async def run(
        self,
        hints: dict[int, str] | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Take part in the cluster until cancelled.

        Args:
            hints: Peer addresses by id, for a node that knows no members yet.

        Raises:
            StorageError, CoreBug: The node must stop (rule D17).
            StateDiverged: Its copy is not what the majority has (`cluster/replica_check.py`).
            DuplicateProcess: Another process of this node runs.
            AddressClaimed: It founded a cluster where another cluster has a member.
        """
        self._addresses.update(hints or {})
        if self.poller is not None:
            self.replica.storage.attach(self.poller)  # before anything is flushed
        async with trio.open_nursery() as nursery:
            if self.poller is not None:
                nursery.start_soon(self._poll, self.poller)
            await nursery.start(self.links.run)
            nursery.start_soon(self.snapshot_receiver.run)
            nursery.start_soon(count_keys, self._key_count)
            first = (self.snapshot_sender, self.membership, self.rooms, self.check, self.sessions)
            for room in (*first, self._duties, self.shutdown):
                await nursery.start(room.run)
            await nursery.start(self.replica.run, self.links, self._tick_timer)
            await nursery.start(self.status.run)
            await nursery.start(self.checks.run)
            self.status.timeline.started()
            self._on_change()
            task_status.started()

    async def say_goodbye(self) -> None:
        """Hand the lead over and tell the others that this node stops on purpose.

        Returns soon, also when no other node listens.
        """
        self.status.timeline.stopping(self.process.stop_reason)
        await self.handover.give_up_lead()
        self.status.say_goodbye(begins_anew=self.process.begins_anew)
        await trio.sleep(_GOODBYE_SECONDS)

    # -- as `peers.PeerHandler` -------------------------------------------------------------

    def received(self, peer: int, frames: Sequence[wire.Frame]) -> None:
        """Hand each frame to the room it is for.

        Raises:
            BadFrame: One holds what no node may use; the frames after it are not used either.
        """
        now = trio.current_time()
        self.replica.heard[peer] = now
        self.replica.contact.heard(peer, now)
        self.status.port_answered(peer)
        self._hand_out(peer, frames)

    def _hand_out(self, peer: int, frames: Sequence[wire.Frame]) -> None:
        for frame in frames:
            if isinstance(frame, Base):
                self.replica.received(peer, frame)
            elif isinstance(frame, wire.Forward):
                self.replica.intake.forward_received(peer, frame)
            elif isinstance(frame, wire.ForwardReply):
                self.replica.intake.reply_received(peer, frame)
            elif isinstance(frame, wire.Bundle):
                self._hand_out(peer, frame.frames)
            elif isinstance(frame, wire.Report):
                self.status.reported(peer, frame)
                self.rooms.look()
            elif isinstance(frame, wire.Bulletin):
                self.replica.check_term(peer, frame.term)
                self.status.bulletin(frame)
            else:
                self._hand_out_seldom(peer, frame)

    def _hand_out_seldom(self, peer: int, frame: wire.Frame) -> None:
        if isinstance(frame, wire.StateDigest):
            self.check.reported(peer, frame)
        elif isinstance(frame, wire.StopAll):
            self.shutdown.ordered(peer)
        elif isinstance(frame, (wire.AskStatistics, wire.StatisticsReply)):
            self.statistics.received(peer, frame)
        else:
            self._not_for_here(peer, type(frame).__name__)

    def said_hello(self, peer: int, address: str) -> None:
        """Learn the address of a peer that may have no record here, and is needed all the same.

        A member that is being removed: its record has gone before its vote. A leader that joined
        later than this node's log ends: without an answer it does not know what to send.
        """
        heard, facts = self.replica.heard, self._facts
        if len(heard) > MEMBERS_MAX:  # A hello may have any id.
            known = {*facts.members, *facts.config.all_members()}
            self.replica.heard = {node: at for node, at in heard.items() if node in known}
        self._said.pop(peer, None)
        self._said[peer] = address
        if len(self._said) > _MAX_SAID:
            del self._said[next(iter(self._said))]
        self._set_links()

    def is_removed(self, peer: int) -> bool:
        """Whether `peer` was removed, and that is in force."""
        facts = self._facts
        is_member = peer in facts.config.all_members() or not facts.is_config_committed
        return peer in facts.removed and not is_member

    async def receive_snapshot(
        self, peer: int, frames: trio.MemoryReceiveChannel[wire.Frame], reply: Reply
    ) -> None:
        """Take a snapshot in."""
        await self.snapshot_receiver.receive(peer, frames, reply)

    def link_made(self, peer: int) -> None:
        """`peer` has welcomed this node."""
        self.status.welcomed(peer)
        self.rooms.look()
        self.replica.link_made(peer)

    def link_broken(self, peer: int) -> None:
        """What was sent to `peer` may be lost."""
        self.replica.link_broken(peer)

    def peer_down(self, peer: int, *, refused: bool) -> None:
        """`peer` refuses connections, or does not answer."""
        if refused:
            self.status.port_refused(peer)
        self.replica.peer_down(peer)

    def refused(self, peer: int, refusal: str, other: str = "") -> None:
        """`peer` does not want this node. It is asked again all the time, and says so each time.

        Raises:
            DuplicateProcess: Because another process of this node runs.
        """
        if self._log_limit.is_due(peer, refusal):
            _log.warning("a peer refused this node", member=peer, why=refusal)
        if refusal in _FATAL and peer != self._facts.leader and self.status.in_contact():
            # The leader, or the majority that this node leads, still counts it as the one it is:
            # what one other member says does not end it. If that is right, contact ends soon.
            return
        if refusal == wire.Refusal.REMOVED:
            self.process.removed()
        elif refusal == wire.Refusal.DUPLICATE:
            raise DuplicateProcess(self.process.another_runs(peer, other))
        elif refusal == wire.Refusal.CLUSTER:
            self.status.stranger_answered(peer)

    def broke_protocol(self, peer: int, error: BadFrame) -> None:
        """`peer` sent what no node may use. Nothing of it was used, and its connection is closed."""
        if isinstance(error, BadNumber):
            why = f"refused: {error}"
            self.alarms.sound("term_jump", peer, member=peer, why=why, hint=_SUSPECT)
        elif self._log_limit.is_due("broke protocol", peer):
            _log.error("refused a frame", member=peer, why=str(error), hint=_SUSPECT)

    def _term_jumped(self, peer: int, term: int) -> None:
        """`peer` is in a term that no cluster reaches by elections so soon."""
        why = f"its term is {term}, this node's is {self._facts.term}"
        self.alarms.sound("term_jump", peer, member=peer, why=why, hint=_SUSPECT)

    def _refused_by_core(self, peer: int, why: str) -> None:
        self.links.hang_up(peer)
        self.broke_protocol(peer, BadFrame(why))

    def claimed(self, hello: wire.Hello) -> None:
        """A member of another cluster takes this node for one of its own.

        Raises:
            AddressClaimed: This node has just founded its cluster, and nothing is lost with it.
        """
        if not is_cluster_id(hello.cluster_id):
            return
        own = self.links.me.cluster_id
        if self._founding.is_fresh():
            raise AddressClaimed(
                f"cluster {hello.cluster_id} counts this node's address among its members, so "
                f"the new cluster {own} is given up",
                hello.cluster_id,
                hello.address,
            )
        self.alarms.sound(
            "address_claimed",
            hello.cluster_id,
            cluster=own,
            other_cluster=hello.cluster_id,
            said_by=hello.address,
            hint="let one of them go: `hstore leave -h NAME` in the other cluster removes its "
            "member at this address; if this cluster was recovered from the other, stop that node",
        )

    def _not_for_here(self, peer: int, kind: str) -> None:
        if self._log_limit.is_due(peer, kind):
            _log.warning("a frame that does not belong here", member=peer, frame=kind)

    async def _poll(self, poller: Poller) -> None:
        """Watch sockets, and take one turn for each batch of them."""
        poller.before_batch = self.replica.hold
        poller.after_batch = self._after_batch
        try:
            await poller.run()
        finally:
            poller.close()

    def _after_batch(self) -> None:
        """The handlers of all sockets with new bytes have run."""
        self.checks.flush()
        self.replica.take_turns()

    def _on_change(self) -> None:
        """Leadership, configuration, members or settings have changed: all that follows from it."""
        self._adopt_settings()
        self._set_links()
        self.membership.look()
        self.sessions.look()
        self._duties.look()
        self.checks.look()
        self.status.refresh()
        if self.replica.disk_space.is_short:
            self.status.room_changed()  # A new leader does not know it yet.

    def _on_room_changed(self) -> None:
        """This node's disk is short of room, or has room again."""
        self.replica.room_changed()
        self.status.room_changed()
        self.rooms.look()

    def _set_links(self) -> None:
        """Have a link to each member, and to each node that was one a moment ago.

        A configuration holds from its append on, but a node that it leaves out is needed until it
        is committed (a leader that leaves must hear that), and has to be told.
        """
        facts = self._facts
        known, leader = facts.members, facts.leader
        for member in known.values():
            self._addresses[member.id] = member.peer_address
        members = facts.config.all_members()
        for peer in (*members, leader):
            if peer not in self._addresses and peer in self._said:
                self._addresses[peer] = self._said[peer]
        if members and facts.is_config_committed:
            now = trio.current_time()
            for peer in list(self._addresses):
                if peer in members or peer in known or peer == leader:
                    self._going.pop(peer, None)
                elif self._going.setdefault(peer, now + _FAREWELL_SECONDS) <= now:
                    del self._going[peer], self._addresses[peer]
        self.links.set_addresses({n: a for n, a in self._addresses.items() if n != facts.id})

    def _adopt_settings(self) -> None:
        """Keep to the cluster's times, which a new node only learns from the log."""
        settings = self._facts.settings
        if settings is not self._adopted:
            self._adopted = settings
            self.replica.adopt_election_timeout()
            self._tick_timer.look()
            self.status.settings_changed()

    def _on_tick(self) -> None:
        self._set_links()
        self.links.look()
        self.replica.flushes.look()
        self.status.tick()
        self.freshness.tick()
        self.membership.tick()
        self.sessions.tick()
        self._duties.look()
        self.checks.look()
        self.rooms.look()
