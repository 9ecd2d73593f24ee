"""One node and its lives: started on what its disk holds, watched, ended by itself or by others.

A node dies as a machine that loses its power does: first its disk takes nothing more, then nothing
leaves it, then its tasks are cancelled. So what they do on their way out has no effect.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from hstore.node.api.http.server import ApiServer
from hstore.node.api.routes import ROUTES
from hstore.node.checks.probes import CheckSettings
from hstore.node.config.settings import NodeSettings
from hstore.node.driver.requests import Request
from hstore.node.errors import BadFrame, HstoreError, StorageError
from hstore.node.model.commands import Outcome
from hstore.node.model.values import Address
from hstore.node.node import Life, Node
from hstore.node.peers import wire
from hstore.node.process.announcing import keep_announced
from hstore.node.process.main import _STOP_SECONDS, _cause
from hstore.node.raft.core import Core
from hstore.node.raft.entry import Entry
from hstore.node.raft.errors import CoreBug
from hstore.node.raft.roles import Role
from hstore.node.state.machine import Tell
from hstore.node.storage.interface import Identity
from tests.fakes.storage import MemoryDisk

from .disk import WatchedStorage
from .scheduler import OWNER

if TYPE_CHECKING:
    from .simulation import WholeSimulation

CLUSTER_ID = "00112233445566aa"


class SimMember:
    """One node. Its disk outlives it.

    Attributes:
        id: From 1.
        node, api, storage: Of the life that is, or was last.
        is_frozen: Whether its power is off while its tasks still end.
        is_gone: Whether it has been removed, or never got in: it is not started again.
        is_held: Whether it is not to be started now.
        lives: How often it was started.
        started_at: When its last life began to run.
        is_full: Whether it has ended for lack of room.
        short_since: Since when its disk has had no room; never: infinity.
        has_lost: Whether its disk lost what it had flushed, and it has not started since.
        has_ever_lost: Whether its disk ever did, with entries of the log or after all were compacted.
        may_fail: Why it may end by itself; empty: it may not.
        ended: Set when it does not run.
    """

    node: Node
    api: ApiServer
    storage: WatchedStorage

    def __init__(self, sim: WholeSimulation, node_id: int, disk: MemoryDisk | None = None) -> None:
        self.sim = sim
        self.id = node_id
        self.disk = disk or MemoryDisk(Identity(CLUSTER_ID, node_id))
        self.settings = NodeSettings(
            Path(f"/nowhere/{node_id}"),
            Address(f"10.0.0.{node_id}", 8500),
            8300,
            8600,
            cluster=sim.options.settings,
        )
        self._runs = self.is_frozen = self.is_gone = self.is_starting = False
        self.is_held = False
        self.lives = 0
        self.started_at = 0.0
        self.may_fail = ""
        self.has_lost = self.has_ever_lost = self._stopped_before = False
        self.lost: set[tuple[int, bytes]] = set()
        if sim.options.lose_every:
            self.disk.remember = 40
        if sim.options.capacity:
            # Of different sizes, as those of real machines.
            self.disk.capacity = sim.options.capacity * (2, 3, 8)[node_id % 3] // 2
        self.short_since = math.inf
        self.is_full = False
        self.ended = trio.Event()
        self.ended.set()
        self.hints: dict[int, str] = {}
        self.skew = sim.faults.draw_skew()
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        sim.wires.listeners[self.settings.peer_address] = node_id, self._peer_port
        sim.wires.listeners[self.settings.api_address] = node_id, self._api_port

    @property
    def core(self) -> Core:
        """Of the node that runs."""
        return self.node.replica.core

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self._runs and not self.is_frozen

    @property
    def was_removed(self) -> bool:
        """Whether it knows that it is a member no more."""
        return self.lives > 0 and self.node.process.was_removed

    @property
    def has_stopped(self) -> bool:
        """Whether it was asked to stop, in this life or the last.

        A node that is asked by `POST /v1/node/stop` says so to the others at once, and ends only when
        it has left the quorum.
        """
        return (self.lives > 0 and self._is_stopping()) or self._stopped_before

    def _is_stopping(self) -> bool:
        return self.node.process.stop_began_at < math.inf

    @property
    def is_short_of_log(self) -> bool:
        """Whether it lost log, and does not have it again."""
        durable = self.disk.durable
        lost = self.has_lost or bool(durable.loss) or bool(durable.damaged)
        return lost or not self.is_up or self.core.is_recovering

    @property
    def is_leader(self) -> bool:
        """Whether it runs and believes that it leads."""
        return self.is_up and self.core.role is Role.LEADER

    def start_soon(self, run: Callable[[], Awaitable[None]]) -> None:
        """Start a task of the node that runs."""
        if self._nursery is not None:
            self._nursery.start_soon(run)

    # -- lives ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start on what the disk holds."""
        if self.is_up or self.is_starting or self.is_gone or not self.ended.is_set():
            return
        if self.is_held:
            return
        self.is_starting = True
        self.ended = trio.Event()
        self.sim.nursery.start_soon(self._live, name=f"node {self.id}")

    async def _live(self) -> None:
        OWNER.set(self.id)
        self.lives += 1
        self.may_fail, self.is_frozen = "", False
        disk = self.disk
        disk.flush_gate = disk.flush_error = disk.write_error = None
        disk.flush_error_once = disk.read_error = None
        self.sim.trace.note(f"start {self.id}")
        self._scope = trio.CancelScope()
        error: BaseException | None = None
        try:
            with self._scope:
                await self._run()
        except BaseExceptionGroup as group:
            error = _cause(group)
            if not isinstance(error, Exception):
                raise
        except Exception as alone:  # noqa: BLE001 - whatever it is, it is looked at below
            error = alone
        finally:
            self._runs = self.is_starting = False
            self._nursery = None
        self._ended(error)

    async def _run(self) -> None:
        self.storage = WatchedStorage(self, self.disk.open())
        self._stopped_before = self.lives > 1 and self._is_stopping()
        options = self.sim.options
        self.node = Node(
            self.storage,
            address=self.settings.api_address,
            dial=self.sim.wires.dialler(self.id),
            rng=Random(f"{self.sim.seed}/node/{self.id}/{self.lives}"),
            life=Life(
                self.lives << 32 | self.id,
                checks=CheckSettings(probes=self.sim.targets.probes(self)),
            ),
            peer_address=self.settings.peer_address,
        )
        core = self.core
        core.options = dataclasses.replace(
            core.options,
            pre_vote=options.pre_vote,
            check_quorum=options.check_quorum,
            max_inflight_messages=options.max_inflight,
            max_uncommitted_bytes=options.max_uncommitted,
            max_apply_bytes=options.max_apply,
        )
        if self.storage.thread is not None:
            self.node.replica.flushes._send = self.storage.thread.send_now
        # What they show travels in frames, and a run must be the same each time.
        self.node.status.clocks.wall = self.node.status.clocks.steady = trio.current_time
        self.api = ApiServer(self.node.backend, ROUTES)
        self._watch()
        self.sim.checker.started(self)
        self.sim.resolvers.follow(self)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.node.run, self.hints)
            self._runs, self.is_starting = True, False
            self.started_at = trio.current_time()
            self.sim.faults.started(self)
            nursery.start_soon(keep_announced, self.node, self.settings)
            nursery.start_soon(self._end_as_asked, nursery.cancel_scope)

    async def _end_as_asked(self, scope: trio.CancelScope) -> None:
        """What `node/process/main.py` does when a node shall stop."""
        await self.node.process.stop_requested.wait()
        with trio.move_on_after(_STOP_SECONDS):
            await self.node.say_goodbye()
            self.api.close()
        scope.cancel()

    def _watch(self) -> None:
        """Look over the shoulder of the driver, at its seams."""
        replica = self.node.replica
        turn, send, ticks = replica._turn, replica.send, replica.tick_seconds
        apply = replica.state.apply

        def watched_turn() -> None:
            turn()
            if not self.is_frozen:
                self.sim.checker.turned(self)

        def watched_send(peer: int, frame: wire.Frame) -> bool:
            self.sim.checker.leaves(self, frame)
            return send(peer, frame)

        def watched_apply(entries: Sequence[Entry], tell: Tell) -> Any:
            self.sim.checker.applies(self)

            def watched_tell(told: Sequence[Entry], outcomes: list[Outcome | None]) -> None:
                self.sim.checker.told(self, told, outcomes)
                tell(told, outcomes)

            outcomes = apply(entries, watched_tell)
            self.sim.checker.applied(self, entries, outcomes)
            return outcomes

        received, on_tick = self.node.received, replica.on_tick

        def watched_received(peer: int, frames: Sequence[wire.Frame]) -> None:
            self.sim.healths.hears(self, peer)
            received(peer, frames)

        def watched_on_tick() -> None:
            self.sim.healths.ticked(self)
            on_tick()

        self.node.received = watched_received  # type: ignore[method-assign]
        replica.on_tick = watched_on_tick

        self._watch_sessions()

        broke_protocol = self.node.broke_protocol

        def watched_broke_protocol(peer: int, error: BadFrame) -> None:
            self.sim.hostile.broke_protocol(self, peer, error)
            broke_protocol(peer, error)

        self.node.broke_protocol = watched_broke_protocol  # type: ignore[method-assign]
        replica._turn = watched_turn  # type: ignore[method-assign]
        replica.send = watched_send  # type: ignore[method-assign]
        replica.state.apply = watched_apply  # type: ignore[method-assign,assignment]
        replica.tick_seconds = lambda: ticks() * self.skew  # type: ignore[method-assign]

    def _watch_sessions(self) -> None:
        ends, intake = self.node.sessions._ends, self.node.replica.intake
        decide, renew = ends.decide, intake.on_renew

        def watched_decide(session_id: bytes, check: Any = None, *, by_clock: bool = False) -> None:
            self.sim.checker.decides_end(self, session_id, by_clock)
            decide(session_id, check, by_clock=by_clock)

        def watched_renew(request: Request) -> None:
            self.sim.checker.renews(self, request.data)
            renew(request)

        ends.decide = watched_decide  # type: ignore[method-assign]
        intake.on_renew = watched_renew

    def crash(self, why: str) -> None:
        """Cut the power."""
        if not (self._runs or self.is_starting) or self.is_frozen:
            return
        sim = self.sim
        sim.counts["crash"] += 1
        sim.counts[f"crash {why}"] += 1
        if self._runs:
            sim.checker.crashes(self)
        self.is_frozen = True
        sim.trace.note(f"crash {self.id}")
        self.disk.crash(sim.faults.draw_kept(len(self.disk.unflushed)))
        sim.wires.crash(self.id, sim.faults.cuts)
        self._scope.cancel()

    def _ended(self, error: BaseException | None) -> None:
        """It runs no more; say so when it should."""
        sim = self.sim
        if self.is_frozen:
            # What dying looks like from inside; but only errors of the disk look like that.
            if error is not None and not isinstance(error, (StorageError, trio.Cancelled)):
                sim.fail(f"I14: node {self.id} dies of a crash by {type(error).__name__}: {error}")
        else:
            sim.wires.crash(self.id, sim.faults.cuts)
            if error is not None:
                self._ended_by(error)
            elif self.node.process.was_removed:
                sim.counts["ended: removed"] += 1
                self.is_gone = True
            self.disk.crash(len(self.disk.unflushed) if error is None else sim.faults.draw_kept(0))
        sim.trace.note(f"ended {self.id}")
        self.ended.set()
        sim.faults.ended(self)

    def _ended_by(self, error: BaseException) -> None:
        sim = self.sim
        if isinstance(error, StorageError) and self.disk.capacity and "No space" in str(error):
            sim.counts["ended: no room"] += 1
            sim.rooms.ended(self)
        elif isinstance(error, StorageError) and self.has_lost:
            sim.counts["ended: its disk is of no use any more"] += 1
            self.is_gone = True
        elif isinstance(error, StorageError) and self.may_fail:
            sim.counts[f"ended: {self.may_fail}"] += 1
        elif isinstance(error, (HstoreError, CoreBug)):
            sim.fail(f"I14: node {self.id} ends by {type(error).__name__}: {error}", error)
        else:
            sim.fail(f"I14: node {self.id} falls over {type(error).__name__}: {error}", error)

    # -- ports ------------------------------------------------------------------------------

    def _port(
        self, serve: Callable[[Node, trio.abc.Stream], Any]
    ) -> Callable[[trio.abc.Stream], None] | None:
        nursery = self._nursery
        if nursery is None or not self.is_up or self.is_frozen:
            return None
        node = self.node

        async def served(stream: trio.abc.Stream) -> None:
            OWNER.set(self.id)
            await serve(node, stream)

        return lambda stream: nursery.start_soon(served, stream, name=f"serve {self.id}")

    def _peer_port(self) -> Callable[[trio.abc.Stream], None] | None:
        return self._port(lambda node, stream: node.links.serve(stream))

    def _api_port(self) -> Callable[[trio.abc.Stream], None] | None:
        if self.is_up and self.node.process.stop_requested.is_set():
            return None
        api = self.api if self.is_up else None
        return self._port(lambda _, stream: api.serve_stream(stream, is_local=True))  # type: ignore[union-attr]
