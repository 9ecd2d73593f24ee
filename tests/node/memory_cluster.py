"""Whole nodes in one process: real drivers over a network and disks in memory, in virtual time.

    async with running(3) as cluster:
        await cluster.write(2, "key", "value")
        cluster.crash(cluster.leader.id)
        await cluster.until(lambda: cluster.has_leader)

Node ids are 1, 2, 3, ...; node 1 founds the cluster as `node/process/main.py` does, the others join it.
Every node's storage records what is asked of it (`tests/fakes/recording.py`), and the network
checks with it that nothing leaves a node which vouches for what is not durable there (rule D1):
so every test of this harness is one of that rule, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import trio

from hstore.node.checks.probes import NO_CHECK_SETTINGS, CheckSettings
from hstore.node.config.settings import NodeSettings
from hstore.node.errors import HstoreError
from hstore.node.model.cluster_info import PROTOCOL, JoinReply, JoinRequest, NodeInfo
from hstore.node.model.commands import ClusterSettings, Outcome, Put
from hstore.node.model.values import Address
from hstore.node.node import Life, Node
from hstore.node.peers import wire
from hstore.node.process.announcing import keep_announced
from hstore.node.process.main import _cause
from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind, HardState
from hstore.node.raft.errors import CoreBug
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import AppendResponse, VoteResponse
from hstore.node.raft.roles import Role
from hstore.node.storage.interface import Identity
from tests.fakes.recording import RecordingStorage
from tests.fakes.storage import MemoryDisk
from tests.node.memory_network import Listener, Network

CLUSTER_ID = "00112233445566aa"
SETTINGS = ClusterSettings(heartbeat_ms=100)
"""Of the clusters here, unless a test has its own: its times are those of ticks of 100 ms."""
PATIENCE_S = 5.0
"""The deadline of requests here, as it is of those of a user who names none."""


class Member:
    """One node and its disk. The disk outlives the node, as it does outside.

    Attributes:
        node: The node that runs, or ran last.
        storage: Its storage, which records.
        error: What it ended with, by itself; None: it runs, or was ended by the test.
        ended: Set when it has ended.
    """

    node: Node
    storage: RecordingStorage

    def __init__(self, cluster: Cluster, node_id: int) -> None:
        self.id = node_id
        self.settings = NodeSettings(
            Path(f"/nowhere/{node_id}"),
            Address(f"10.0.0.{node_id}", 8500),
            8300,
            8600,
            cluster=cluster.settings,
        )
        self.disk = MemoryDisk(Identity(CLUSTER_ID, node_id))
        self.listener = Listener(node_id)
        self.error: BaseException | None = None
        self.ended = trio.Event()
        self.starts = 0
        self.is_founder = False
        self._cluster = cluster
        self._scope = trio.CancelScope()

    @property
    def address(self) -> str:
        return self.settings.api_address

    @property
    def core(self):
        return self.node.replica.core

    @property
    def is_up(self) -> bool:
        return self.starts > 0 and not self.ended.is_set() and not self._scope.cancel_called

    @property
    def is_leader(self) -> bool:
        return self.is_up and self.core.role is Role.LEADER

    def request(self, *, name: str = "", learner: bool = False, replace: str = "") -> JoinRequest:
        """Return what this node says to be let in."""
        s = self.settings
        return JoinRequest(
            f"{self.id:016x}",
            s.api_address,
            s.peer_address,
            s.dns_address,
            PROTOCOL,
            name,
            learner,
            replace,
        )

    def found(self) -> None:
        """Prepare the disk of a cluster's first node, as `node/process/main.py` does."""
        config = membership.encode(Configuration(voters=(self.id,)))
        first = Entry(1, 1, EntryKind.CONFIG, config)
        self.is_founder = True
        self.disk = MemoryDisk(
            self.disk.identity, hard_state=HardState(1, self.id, 1), entries=[first]
        )

    async def start(self, hints: dict[int, str] | None = None) -> None:
        """Start the node on what its disk holds."""
        cluster = self._cluster
        self.starts += 1
        self.error, self.ended = None, trio.Event()
        self.storage = RecordingStorage(self.disk.open())
        self.node = Node(
            self.storage,
            address=self.address,
            dial=cluster.network.dialler(self.id),
            rng=Random(f"{cluster.seed} {self.id} {self.starts}"),
            life=Life(self.starts << 32 | self.id, self.is_founder, checks=cluster.checks(self.id)),
            peer_address=self.settings.peer_address,
        )
        await cluster.nursery.start(self._run, hints)

    async def _run(
        self,
        hints: dict[int, str] | None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        try:
            with trio.CancelScope() as self._scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.node.run, hints)
                    peers = self.node.links
                    self.listener.serve = lambda stream: nursery.start_soon(peers.serve, stream)
                    nursery.start_soon(keep_announced, self.node, self.settings)
                    task_status.started()
                    try:
                        await self.node.process.stop_requested.wait()
                    except trio.Cancelled:
                        self.listener.serve = None  # it takes nobody in any more
                        raise
                    await self.node.say_goodbye()
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = _cause(group)
            if not isinstance(error, (HstoreError, CoreBug)):
                raise
            if not self._scope.cancel_called:  # else: what dying looks like from inside
                self.error = error
        finally:
            self.listener.serve = None
            self.ended.set()

    def crash(self, keep: int = 0) -> None:
        """End the node as a power cut does: the disk first, then all the rest."""
        self.disk.crash(keep)
        self._scope.cancel()
        self.listener.serve = None

    async def stop(self) -> None:
        """End the node as a signal does."""
        self.node.process.request_stop("SIGTERM")
        await self.ended.wait()
        await self.storage.close()

    def take_error(self) -> BaseException:
        """Return what the node ended with, which the test then accounts for."""
        error, self.error = self.error, None
        assert error is not None, f"node {self.id} has not ended by itself"
        return error

    def value(self, key: str) -> str | None:
        """Return what the node's own copy holds."""
        item = self.node.keys.get(key.encode())
        return None if item is None else item.value.decode()

    def sees(self, other: int) -> NodeInfo | None:
        """Return what this node shows of another."""
        wanted = f"{other:016x}"
        return next((n for n in self.node.administration.cluster().nodes if n.id == wanted), None)

    def health_of(self, other: int) -> str | None:
        seen = self.sees(other)
        return seen.health if seen else None


class Cluster:
    """See the module's text."""

    def __init__(self, nursery: trio.Nursery, seed: int, settings: ClusterSettings) -> None:
        self.nursery = nursery
        self.seed = seed
        self.settings = settings
        self.checks: Callable[[int], CheckSettings] = lambda _node: NO_CHECK_SETTINGS
        self.network = Network(nursery)
        self.members: dict[int, Member] = {}
        self.network.taps.append(self._check_durability)

    def __getitem__(self, node_id: int) -> Member:
        return self.members[node_id]

    # -- nodes ------------------------------------------------------------------------------

    def add(self) -> Member:
        """Prepare one more node, which does not run yet."""
        member = Member(self, len(self.members) + 1)
        self.members[member.id] = member
        self.network.listeners[member.settings.peer_address] = member.listener
        return member

    def add_copy(self, of: Member) -> Member:
        """Prepare a process at an address of its own, on a copy of another member's disk.

        The key of it in `members` is that of its host; its node id is the other's.
        """
        twin = self.add()
        twin.disk = of.disk.image()
        twin.starts = 1000  # which makes its incarnations its own
        return twin

    async def found(self) -> Member:
        """Start the first node, and wait until it leads a cluster of one."""
        member = self.add()
        member.found()
        await member.start()
        await self.until(lambda: member.health_of(member.id) == "alive")
        return member

    async def join(
        self, via: int = 1, *, name: str = "", learner: bool = False, replace: str = ""
    ) -> Member:
        """Add one more node, and wait until it is as much of a member as it can be."""
        member = self.add()
        await self.let_in(member, via, name=name, learner=learner, replace=replace)
        await self.until(lambda: self.leader.health_of(member.id) == "alive")
        if not learner:
            await self.until(lambda: all(m.core.config.is_voter(member.id) for m in self.up))
        return member

    async def let_in(
        self,
        member: Member,
        via: int,
        *,
        name: str = "",
        learner: bool = False,
        replace: str = "",
    ) -> JoinReply:
        """Ask a member to let another in, and start it."""
        request = member.request(name=name, learner=learner, replace=replace)
        reply = await self[via].node.administration.join(request, trio.current_time() + PATIENCE_S)
        await member.start({int(node, 16): at for node, at in reply.peers.items()})
        return reply

    @property
    def up(self) -> list[Member]:
        return [member for member in self.members.values() if member.is_up]

    @property
    def leader(self) -> Member:
        """The leader of the newest term."""
        return max((m for m in self.up if m.is_leader), key=lambda m: m.core.term)

    @property
    def followers(self) -> list[Member]:
        leader = self.leader
        return [member for member in self.up if member is not leader]

    def agrees(self) -> bool:
        """Whether all that run follow one leader, which is one of them."""
        leaders = {m.core.leader for m in self.up}
        return len(leaders) == 1 and any(m.id in leaders and m.is_leader for m in self.up)

    def others(self, member: Member) -> list[Member]:
        return [other for other in self.members.values() if other is not member]

    def silence(self, node: int, *, of: tuple[int, ...] | None = None) -> None:
        """Hold all bytes between a node and others (all): a host that has lost its power."""
        for other in of or tuple(self.members):
            if other != node:
                for way in self.network.between(node, other):
                    way.hold()

    # -- requests ---------------------------------------------------------------------------

    async def write(self, via: int, key: str, value: str, within_s: float = PATIENCE_S) -> int:
        """Write at a node and return the revision; fails when the answer came too early (D1)."""
        deadline = trio.current_time() + within_s
        outcome: Outcome = await self[via].node.keys.write(
            Put(key.encode(), value.encode()), deadline
        )
        assert outcome.ok
        durable = [m for m in self.up if m.storage.durable_index >= outcome.revision]
        voters = self.leader.core.config.voters if any(m.is_leader for m in self.up) else ()
        assert len([m for m in durable if m.id in voters]) > len(voters) // 2 or not voters
        return outcome.revision

    async def read(self, via: int, key: str, within_s: float = PATIENCE_S) -> str | None:
        """Read at a node what is the newest anywhere."""
        await self[via].node.keys.read_barrier(trio.current_time() + within_s)
        return self[via].value(key)

    # -- waiting ----------------------------------------------------------------------------

    async def until(self, condition: Callable[[], object], within_s: float = 10.0) -> float:
        """Wait until `condition` holds, and return how long that took, in virtual seconds."""
        start = trio.current_time()
        while not condition():
            assert trio.current_time() - start <= within_s, "it has not come to that"
            await trio.sleep(0.005)
        return trio.current_time() - start

    # -- the rule that is always watched ----------------------------------------------------

    def _check_durability(self, frm: int, _to: int, frame: wire.Frame) -> None:
        if isinstance(frame, AppendResponse) and not frame.rejected:
            self[frm].storage.acknowledge(frame.index)
        elif isinstance(frame, VoteResponse) and frame.granted:
            self[frm].storage.acknowledge_vote(frame.term, frame.to)


@asynccontextmanager
async def running(
    count: int = 3,
    *,
    seed: int = 1,
    settings: ClusterSettings | None = None,
    checks: Callable[[int], CheckSettings] | None = None,
) -> AsyncIterator[Cluster]:
    """A cluster of `count` voters that agree on a leader, which is node 1."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(nursery, seed, settings or SETTINGS)
        cluster.checks = checks or cluster.checks
        await cluster.found()
        for _ in range(count - 1):
            await cluster.join()
        yield cluster
        errors = [member.error for member in cluster.members.values() if member.error]
        nursery.cancel_scope.cancel()
    assert errors == []
