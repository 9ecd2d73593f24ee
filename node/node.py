"""One node, put together from its rooms.

The one place that knows all of them: hands each frame to the room it is for, and serves the HTTP API
as its `Backend` (`api/backend.py`). Decides nothing about consensus.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import msgspec
import structlog
import trio

from .api.backend import Tell, Waiter
from .cluster.configure import Configure
from .cluster.handover import Handover
from .cluster.membership import Membership
from .cluster.replica_check import ReplicaCheck
from .cluster.snapshot_receiver import Reply, SnapshotReceiver
from .cluster.snapshot_sender import SnapshotSender
from .cluster.status import Status
from .driver import recovered_core
from .driver.freshness import Freshness
from .driver.replica import Replica
from .driver.ticks import TickTimer
from .errors import NoLeader, Refused
from .model.cluster_info import ClusterInfo, ConfigValue, JoinReply, JoinRequest
from .model.commands import Command, Keyed, Outcome
from .net.lag import Lag
from .net.poller import Poller, can_poll
from .peers import wire
from .peers.link import Dial, LocalNode
from .peers.links import Links
from .peers.wire import ForwardKind
from .raft.messages import Base
from .state import idempotency
from .state.machine import Item, KeyReader, State
from .state.watches import Watch, Watches
from .storage.interface import Storage

_GOODBYE_SECONDS = 0.05
"""For the last frames to leave; their answers are not waited for."""

_FAREWELL_SECONDS = 1.0
"""How long a member that was removed keeps its links: for the answer to its own request, and for
the others to see its end at once, should it have led."""

_MAX_SAID = 128  # Addresses remembered of nodes that said hello; the oldest goes first.

_STOP_SECONDS = 2.0
"""For the cluster to agree that it does without this node; a stop takes 5 s in all."""

_log = structlog.get_logger()


class Node:
    """A node without its listeners: give it connections of peers, and requests.

    Attributes:
        replica, status, links, watches: Its rooms.
        poller: Watches the sockets of peers and clients; None: each has a task of its own.
        stop_requested: Set when the node shall stop; `stop_reason` says why.
        stop_began_at: When it was first asked to, in seconds of `trio.current_time()`.
        begins_anew: Whether its process shall start it again once it has stopped.
        kill_requested: Set when the process shall end as by a crash.
        was_removed: Whether it stops because it is no member any more.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        address: str,
        dial: Dial,
        rng: Random,
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
            name: What it is called until the cluster has given it a name.
            peer_address: `HOST:PORT` where others reach it; empty: they know already.
            log_level: What the process logs from the start.

        Raises:
            StorageError, CoreBug: What is on disk cannot be used.
        """
        identity = storage.identity
        state = self._state = State(storage.state)
        options = recovered_core.core_options(state.settings)
        self.address = address
        self.replica = Replica(identity.node_id, storage, state, rng, options)
        self._facts = self.replica.facts
        self.status = Status(self.replica, self.replica.send)
        self.status.reached_at = (address, peer_address) if peer_address else None
        self.membership = Membership(self.replica, self.status)
        self.settings = Configure(self.replica, self.status, log_level)
        self.handover = Handover(self.replica, self.status, self.membership)
        me = LocalNode(identity.cluster_id, identity.node_id, name, peer_address)
        self.poller = Poller() if can_poll() else None
        self.links = Links(
            me,
            self,
            dial=dial,
            heartbeat_s=self.replica.tick_seconds,
            rng=rng,
            poller=self.poller,
        )
        self.snapshot_sender = SnapshotSender(self.replica, self.links, dial, rng)
        self.snapshot_receiver = SnapshotReceiver(self.replica)
        self.check = ReplicaCheck(self.replica, self.replica.send)
        self.watches = Watches(state.history)
        self.freshness = Freshness(self.replica)
        self.stop_requested = trio.Event()
        self.stop_reason = ""
        self.stop_began_at = math.inf
        self.begins_anew = False
        self.kill_requested = trio.Event()
        self.was_removed = False
        self._addresses: dict[int, str] = {}
        self._said: dict[int, str] = {}
        self._going: dict[int, float] = {}
        self._lag = self.poller.lag if self.poller is not None else Lag()
        self._tick_timer = TickTimer(
            lambda: self.replica.tick_seconds(),  # noqa: PLW0108 - a test has its own
            self._lag,
            rng.random,
        )
        self._given_name = name
        self._adopted = state.settings
        self.replica.leadership.on_change = self._on_change
        self.replica.on_tick = self._on_tick
        self.replica.intake.on_admin = self.membership.handle
        self.replica.on_snapshot_wanted = self.snapshot_sender.send
        state.on_checkpoint = self.check.checkpoint

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
        """
        self._addresses.update(hints or {})
        if self.poller is not None:
            self.replica.storage.attach(self.poller)  # before anything is flushed
        async with trio.open_nursery() as nursery:
            if self.poller is not None:
                nursery.start_soon(self._poll, self.poller)
            await nursery.start(self.links.run)
            await nursery.start(self.snapshot_sender.run)
            nursery.start_soon(self.snapshot_receiver.run)
            await nursery.start(self.membership.run)
            await nursery.start(self.check.run)
            await nursery.start(self.replica.run, self.links, self._tick_timer)
            await nursery.start(self.status.run)
            self._on_change()
            task_status.started()

    async def say_goodbye(self) -> None:
        """Hand the lead over and tell the others that this node stops on purpose.

        Returns soon, also when no other node listens.
        """
        await self.handover.give_up_lead()
        self.status.say_goodbye()
        await trio.sleep(_GOODBYE_SECONDS)

    # -- as `api.backend.Backend` -----------------------------------------------------------

    @property
    def name(self) -> str:
        """This node's name; what it was started with, until the cluster has given it one."""
        member = self._facts.members.get(self._facts.id)
        return member.name if member else self._given_name

    @property
    def zone(self) -> str:
        """The DNS domain of the cluster."""
        return self._facts.settings.zone

    @property
    def applied_index(self) -> int:
        """Index of the last entry whose effect reads here can see."""
        return self._state.applied

    def get(self, key: bytes) -> Item | None:
        """Read one key from the local copy."""
        return self._state.get(key)

    def view(self) -> KeyReader:
        """Return a reader of the local copy as of now; the caller closes it."""
        return self._state.view()

    @property
    def waiting(self) -> str:
        """See `Backend.waiting`."""
        expect = self._facts.expect
        if not expect:
            return ""
        here = len(self._facts.config.voters)
        return f"waiting for {expect} nodes, of which {here} can vote by now: let more of them join"

    def watch(self, prefix: bytes, after: int | None) -> Watch:
        """See `Backend.watch`."""
        return self.watches.open(prefix, after)

    async def write(self, command: Command, deadline: float) -> Outcome:
        """See `Backend.write`."""
        await self._admit(deadline)
        outcome = await self.replica.propose(command, deadline)
        return idempotency.answered(outcome) if isinstance(command, Keyed) else outcome

    async def read_barrier(self, deadline: float) -> None:
        """See `Backend.read_barrier`."""
        await self._admit(deadline)
        await self.replica.read_barrier(deadline)

    def begin_write(self, command: Command, deadline: float, tell: Tell) -> Waiter | None:
        """See `Backend.begin_write`."""
        if self._is_waiting or isinstance(command, Keyed):
            return None
        return self.replica.begin_propose(command, deadline, tell)

    def begin_read(self, deadline: float, tell: Tell) -> Waiter | None:
        """See `Backend.begin_read`."""
        if self._is_waiting:
            return None
        return self.replica.begin_read(deadline, tell)

    def stale_ms(self) -> int | None:
        """Milliseconds since this node had applied all that was committed then; None: never."""
        fresh_at = self.replica.fresh_at
        return None if fresh_at is None else int((trio.current_time() - fresh_at) * 1000)

    def unhealthy(self) -> str | None:
        """Return why this node is not in contact with a leader, or None when it is."""
        if self.status.in_contact():
            return None
        if self._facts.is_leader:
            return "this node leads, but has lost contact with the majority"
        if self._facts.leader:
            return "the leader has not been heard for an election timeout"
        return "there is no leader, or this node cannot reach it"

    def lag_ms(self, seconds: int) -> float:
        """See `Backend.lag_ms`."""
        return self._lag.longest_ms(seconds)

    def cluster(self) -> ClusterInfo:
        """Return the cluster as this node sees it now; what is new in it, watchers are told, too."""
        return self.status.refresh()

    async def wait_cluster_change(self, seen: int) -> int:
        """Wait until the structural version is not `seen`, and return it."""
        return await self.status.wait_change(seen)

    async def join(self, request: JoinRequest, deadline: float) -> JoinReply:
        """See `Backend.join`."""
        if request.id == f"{self._facts.id:016x}" or request.address == self.address:
            raise Refused(f"{request.address} is this very node: a node cannot join itself")
        data = msgspec.json.encode(request)
        reply: JoinReply = await self.replica.request(ForwardKind.JOIN, data, deadline)
        return reply

    async def remove(self, node: str, deadline: float) -> None:
        """See `Backend.remove`."""
        await self.replica.request(ForwardKind.REMOVE, node.encode(), deadline)

    def config(self) -> dict[str, ConfigValue]:
        """See `Backend.config`."""
        return self.settings.show()

    async def cluster_barrier(self, deadline: float) -> None:
        """See `Backend.cluster_barrier`."""
        await self.replica.read_barrier(deadline)

    async def configure(self, key: str, value: str, deadline: float) -> ConfigValue:
        """See `Backend.configure`."""
        return await self.settings.change(key, value, deadline)

    async def rename(self, node: str, name: str, deadline: float) -> str:
        """See `Backend.rename`."""
        return await self.settings.rename(node, name, deadline)

    async def leave(self, deadline: float) -> None:
        """See `Backend.leave`."""
        # The next leader removes it: nobody has to find out that the old one is gone.
        await self.handover.give_up_lead()
        await self.remove(f"{self._facts.id:016x}", deadline)
        self._removed()

    async def transfer(self, to: str, deadline: float) -> str:
        """See `Backend.transfer`."""
        return await self.handover.transfer(to, deadline)

    async def stop(self) -> str:
        """See `Backend.stop`."""
        self.stop_began_at = min(self.stop_began_at, trio.current_time())
        try:
            return await self.handover.leave_quorum(trio.current_time() + _STOP_SECONDS)
        finally:
            self.request_stop("asked to stop")

    def restart(self) -> None:
        """See `Backend.restart`."""
        if not self.stop_requested.is_set():
            self.begins_anew = True
            self.request_stop("asked to restart")

    def kill(self) -> None:
        """End the process as a crash would, once the answer to who asked has left."""
        self.kill_requested.set()

    # -- as `peers.PeerHandler` -------------------------------------------------------------

    def received(self, peer: int, frames: Sequence[wire.Frame]) -> None:
        """Hand each frame to the room it is for."""
        self.replica.heard[peer] = trio.current_time()
        self.status.port_answered(peer)
        for frame in frames:
            if isinstance(frame, Base):
                self.replica.received(peer, frame)
            elif isinstance(frame, wire.Forward):
                self.replica.intake.forward_received(peer, frame)
            elif isinstance(frame, wire.ForwardReply):
                self.replica.intake.reply_received(frame)
            elif isinstance(frame, wire.Bundle):
                self.received(peer, frame.frames)
            elif isinstance(frame, wire.Report):
                self.status.reported(peer, frame)
            elif isinstance(frame, wire.Bulletin):
                self.status.bulletin(frame)
            elif isinstance(frame, wire.StateDigest):
                self.check.reported(peer, frame)
            else:
                _log.warning("a frame that does not belong here", frame=type(frame).__name__)

    def said_hello(self, peer: int, address: str) -> None:
        """Learn the address of a peer that may have no record here, and is needed all the same.

        A member that is being removed: its record has gone before its vote. A leader that joined
        later than this node's log ends: without an answer it does not know what to send.
        """
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
        self.replica.link_made()

    def link_broken(self, peer: int) -> None:
        """What was sent to `peer` may be lost."""
        self.replica.link_broken(peer)

    def peer_down(self, peer: int, *, refused: bool) -> None:
        """`peer` refuses connections, or does not answer."""
        if refused:
            self.status.port_refused(peer)
        self.replica.peer_down(peer)

    def refused(self, peer: int, refusal: str) -> None:
        """`peer` does not want this node."""
        _log.warning("a peer refused this node", peer=f"{peer:016x}", why=refusal)
        if refusal == wire.Refusal.REMOVED:
            self._removed()

    # -- inside -----------------------------------------------------------------------------

    async def _poll(self, poller: Poller) -> None:
        """Watch sockets, and take one turn for each batch of them."""
        poller.before_batch = self.replica.hold
        poller.after_batch = self.replica.take_turns
        try:
            await poller.run()
        finally:
            poller.close()

    @property
    def _is_waiting(self) -> bool:
        """Whether `_admit` may have to wait, or to refuse."""
        cluster = self._state.cluster
        return not cluster.cluster_id or cluster.expect != 0

    async def _admit(self, deadline: float) -> None:
        """Let no client's request through while the cluster waits for nodes.

        A node that has not yet learnt of the cluster's creation does not know whether it waits.

        Raises:
            NoLeader: It waits, or its creation is not agreed in time.
        """
        facts, seen = self._facts, -1
        if not facts.cluster_id:
            await self.replica.read_barrier(deadline)
            with trio.move_on_at(deadline):
                while not facts.cluster_id:
                    seen = await self.status.wait_change(seen)
        if not facts.cluster_id:
            raise NoLeader("the cluster is only just being founded; try again in a moment")
        if facts.expect:
            raise NoLeader(self.waiting)

    def _on_change(self) -> None:
        """Leadership, configuration, members or settings have changed: all that follows from it."""
        self._adopt_settings()
        self._set_links()
        self.membership.look()
        self.status.refresh()

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
        self.status.tick()
        self.freshness.tick()
        self.membership.tick()

    def _removed(self) -> None:
        self.was_removed = True
        self.request_stop("this node was removed from the cluster")

    def request_stop(self, reason: str) -> None:
        """Ask the node to stop cleanly; the first reason stands."""
        if not self.stop_requested.is_set():
            self.stop_began_at = min(self.stop_began_at, trio.current_time())
            self.stop_reason = reason
            self.stop_requested.set()
