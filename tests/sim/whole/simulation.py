"""One run of whole nodes: faults and clients, then peace, and what must be true at its end."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import trio

from hstore.node.api.consul.bodies import check_body
from hstore.node.api.dialect import heads, ids, queries, questions
from hstore.node.api.http import answers
from hstore.node.cluster import replica_check, session_clocks, session_nodes
from hstore.node.driver import compaction, contact, disk_space, requests
from hstore.node.errors import Unavailable
from hstore.node.model import commands
from hstore.node.model.commands import InitCluster, Member, PutMember
from hstore.node.peers import link, snapshot_transfer
from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind, HardState
from hstore.node.raft.membership import Configuration
from hstore.node.storage.interface import Identity
from tests.fakes.storage import MemoryDisk

from ..configurations import has_majority
from ..invariants import Violation
from ..options import stream
from ..tables.judge import Question
from ..tables.nodes import small_bounds
from . import scheduler
from .arranged import arrange
from .calm import Calm
from .catalogs import Catalogs
from .clients import Clients
from .disaster import Disaster
from .disk import digest
from .faults import Faults
from .healths import Healths
from .hostile import Hostile
from .impostors import Impostors
from .invariants import Checker
from .lockers import renew_one_of_two
from .member import CLUSTER_ID, SimMember
from .onces import Onces
from .operator import Operator
from .options import WholeOptions, draw
from .promptness import Promptness
from .resolvers import Resolvers
from .rooms import Rooms
from .scheduler import Trace
from .targets import Targets
from .waiters import unasked_watched, wait_in_peace
from .wires import Wires

_SETTLE_S = 60.0
"""For the cluster to come to life when nothing goes wrong any more."""

_ROOMY_OUTBOX = 100
"""Frames: with less, also what is sent again may find no room."""

_PATIENT_MS = 500
"""An election timeout in which a silent link is made anew. With less, who waits looks for another leader."""

MOST_STEPS = 400_000
"""Five times what the longest runs take."""


class WholeSimulation:
    """One run.

    Attributes:
        trace: What has run; `digest` is its digest, `core_events` the steps of all tasks.
        members: By id, whether they run or not.
        counts: How often each thing worth counting has happened.
        told_indexes: By question: the greatest index that any client was told of its answer.
        told: By question and index: the answer.
        is_healed: Whether faults and requests are over.
        is_stranded: Whether it has ended early, for no majority was left.
        violation: What has gone wrong first.
    """

    nursery: trio.Nursery

    def __init__(
        self, seed: int, options: WholeOptions | None = None, most_steps: int = MOST_STEPS
    ) -> None:
        self.seed = seed
        self.options = options or draw(seed)
        self.trace = Trace(most_steps, self.fail)
        self.counts: Counter[str] = Counter()
        self.is_healed = False
        self.is_stranded = False
        self.violation: Violation | None = None
        self.members: dict[int, SimMember] = {}
        self.told_indexes: dict[Question, int] = {}
        self.told: dict[tuple[Question, int], bytes] = {}
        self.wires = Wires(self)
        self.faults = Faults(self)
        self.operator = Operator(self)
        self.checker = Checker(self)
        self.promptness = Promptness(self)
        self.clients = Clients(self)
        self.impostors = Impostors(self)
        self.hostile = Hostile(self)
        self.rooms = Rooms(self)
        self.healths = Healths(self)
        self.catalogs = Catalogs(self)
        self.onces = Onces(self)
        self.targets = Targets(self)
        self.resolvers = Resolvers(self)
        self._scope = trio.CancelScope()

    @property
    def digest(self) -> int:
        """Of all that has run."""
        return self.trace.digest

    @property
    def core_events(self) -> int:
        """Steps of tasks: what takes the place of the events of cores."""
        return self.trace.steps

    def fail(self, text: str, cause: BaseException | None = None) -> None:
        """Remember what is wrong, and end the run. May be called anywhere, also between steps."""
        if self.violation is None:
            self.violation = Violation(text)
            self.violation.__cause__ = cause
            self.trace.note(text)
            self._scope.cancel()

    def run(self) -> None:
        """Run to the end; raises Violation."""
        options = self.options
        small = small_bounds(options.deletions_max, options.events_max)
        with _limits(self), small, _quiet(self.counts):
            scheduler.run(self.seed, self._main, self.trace)
        if self.violation is not None:
            raise self.violation

    async def _main(self) -> None:
        with self._scope:
            async with trio.open_nursery() as self.nursery:
                self._found()
                for member in self.members.values():
                    member.start()
                self.faults.begin()
                self.nursery.start_soon(self.rooms.run)
                options = self.options
                if options.registrars:
                    self.nursery.start_soon(self.resolvers.run)
                for number in range(1, sum(options.of_each_kind()) + 1):
                    self.nursery.start_soon(self.clients.run, number)
                await trio.sleep(self.options.seconds)
                await self._end()
                self.nursery.cancel_scope.cancel()

    def _found(self) -> None:
        """Give every member the same log to begin with: the configuration, and who they are."""
        ids = tuple(range(1, self.options.nodes + 1))
        config = membership.encode(Configuration(voters=ids))
        entries = [Entry(1, 1, EntryKind.CONFIG, config)]
        first = [commands.encode(InitCluster(CLUSTER_ID, self.options.settings))]
        for i in ids:
            api, peer, dns = (f"10.0.0.{i}:{port}" for port in (8500, 8300, 8600))
            first.append(commands.encode(PutMember(Member(i, f"n{i}", api, peer, dns))))
        for data in first:
            entries.append(Entry(len(entries) + 1, 1, EntryKind.COMMAND, data))
        for i in ids:
            hard = HardState(1, 0, len(entries))
            disk = MemoryDisk(Identity(CLUSTER_ID, i), hard_state=hard, entries=entries)
            self.members[i] = SimMember(self, i, disk)

    # -- the end ----------------------------------------------------------------------------

    async def _end(self) -> None:
        self.is_healed = True
        self.faults.heal()
        await self.clients.ended()
        await self._settle("after the faults")
        if self.is_stranded:
            return
        await self.rooms.give_back()
        self.clients.finished()
        await self.healths.back()
        await self._in_peace()
        before = await self._write_once()
        await self.impostors.come(self._present())
        await self._settle("after impostors")
        if self._keys(self._present()[0]) != before:
            self.fail("P3: what is in the cluster has changed by impostors")
        for member in self.members.values():
            member.crash("of everybody, at the end")
        await self._settle("after a restart of everybody")
        self._check_same(before)
        if self.options.is_lost and self.violation is None:
            await Disaster(self).run()

    async def _in_peace(self) -> None:
        """Try what nothing may disturb."""
        since = trio.current_time()
        if self.options.lockers:
            await renew_one_of_two(self, self._present()[0])
            if self.options.is_arranged:
                await arrange(self, self._present())
                await self._settle("after what was arranged")
        await self.checker.lifetimes.over(since)
        if self.options.waiters or self.options.followers:
            await wait_in_peace(self, self._present())
        if self.options.registrars and self._present():
            await Calm(self).run()
        if self.options.newcomer_leads:
            await self.operator.have_a_newcomer_lead()
            await self._settle("after a newcomer has led")
        if self.options.removal_cut_short:
            await self.operator.cut_a_removal_short()
            await self._settle("after a removal was cut short")
        if self.options.is_arranged:
            await self.operator.lose_the_leader_as_a_member_goes()
            await self._settle("after a leader was lost as a member went")
            await self.checker.lifetimes.over(trio.current_time())

    async def _settle(self, when: str) -> None:
        """Wait until there is a leader, and all members have applied all there is."""
        with trio.move_on_after(_SETTLE_S):
            while not self._is_settled():
                await trio.sleep(0.05)
                await self.operator.clear_up()
            return
        if self._no_majority_is_left():
            self.counts["no majority was left"] += 1
            self.is_stranded = True
            return
        self.fail(f"L1: no peace {when}: {self.describe()}")
        await trio.sleep_forever()

    def _no_majority_is_left(self) -> bool:
        """Whether a change that was on its way has left a majority to those who have lost log.

        Only who has the longest log of all with a vote could lead; its configuration, which holds
        from its append on, decides. Once it is committed there is a majority that has it.
        """
        up = [m for m in self.members.values() if m.is_up]
        voting = [m for m in up if not m.core.is_recovering]
        if not voting:
            return False
        core = max((m.core for m in voting), key=lambda c: (c.log.last_term, c.log.last_index))
        is_on_its_way = core.log.commit < core.history.index
        was_enough = has_majority(core.config, [m.id for m in up])
        is_enough = has_majority(core.config, [m.id for m in voting])
        return is_on_its_way and was_enough and not is_enough

    def _is_settled(self) -> bool:
        leader = self.leader()
        if leader is None or leader.core.log.commit != leader.core.log.last_index:
            return False
        last, config = leader.core.log.commit, leader.core.config
        wished = leader.node.replica.state.members
        if sorted(wished) != sorted(config.all_members()) or config.outgoing:
            return False
        return all(
            (member := self.members[i]).is_up
            and member.node.keys.applied_index == last
            and config.is_voter(i) is not wished[i].learner
            for i in config.all_members()
        )

    def leader(self) -> SimMember | None:
        """Return who leads the newest term, if a majority follows."""
        leaders = [m for m in self.members.values() if m.is_leader]
        if not leaders:
            return None
        leader = max(leaders, key=lambda m: m.core.term)
        return leader if leader.core.log.commit >= leader.core.noop_index else None

    async def _write_once(self) -> dict[bytes, bytes]:
        """See a write go through at every member, and all hold the same after it."""
        for member in self._present():
            target, leader = f"end-{member.id}", self._stall_reply_to(member)
            with trio.move_on_after(90) as scope:
                # The limits of a run may be so tight that an answer finds no room on its way.
                for attempt in range(3):
                    put = commands.Put(target.encode(), f"{target}.{attempt}".encode())
                    last = "nothing within its time"
                    # Longer than its own: a life that ends just now answers nobody any more.
                    with trio.move_on_after(29):
                        try:
                            outcome = await member.node.keys.write(put, trio.current_time() + 28)
                        except Unavailable as error:
                            last = str(error)
                            self._check_reply_came(leader, member, error)
                            continue
                        last = "" if outcome.ok else str(outcome)
                        break
                if last:
                    self.fail(f"L1: node {member.id} does not write: {last}")
            if scope.cancelled_caught:
                self.fail(f"L1: node {member.id} does not answer a write: {self.describe()}")
        await self._settle("after the last writes")
        for member in self._present():
            self.checker.settled(member)
        states = {member.id: digest(member.disk.live.state) for member in self._present()}
        if len(set(states.values())) != 1:
            self.fail(f"I13: states differ at the end: {states}")
        return self._keys(self._present()[0])

    def _stall_reply_to(self, member: SimMember) -> tuple[int, int] | None:
        """Have the leader's next reply to a member lost on a silent link; return its id and term."""
        leader = self.leader()
        if not self.options.stall_every or leader is None or leader is member:
            return None
        patience_ms = self.options.settings.election_timeout_ms
        if self.options.outbox_frames < _ROOMY_OUTBOX or patience_ms < _PATIENT_MS:
            return None
        self.wires.awaited.add((leader.id, member.id))
        return leader.id, leader.core.term

    def _check_reply_came(
        self, before: tuple[int, int] | None, member: SimMember, error: Unavailable
    ) -> None:
        """L6: a reply that is lost with its link is sent again on the next one."""
        leader = self.leader()
        if before is None or leader is None or (before[0], member.id) in self.wires.awaited:
            return
        if before == (leader.id, leader.core.term) and error.outcome == "unknown":
            self.fail(f"L6: the reply of {leader.id} to {member.id} was lost: {error}")

    def _members(self) -> tuple[int, ...]:
        leader = self.leader()
        return tuple(leader.core.config.all_members()) if leader is not None else ()

    def _present(self) -> list[SimMember]:
        """Return the members that run; one that was removed may be about to end, far behind."""
        known = self._members()
        return [member for member in self.members.values() if member.is_up and member.id in known]

    def _keys(self, member: SimMember) -> dict[bytes, bytes]:
        reader = member.node.keys.view()
        try:
            return {item.key: b"%d %b" % (item.revision, item.value) for item in reader.scan()}
        finally:
            reader.close()

    def _check_same(self, before: dict[bytes, bytes]) -> None:
        """L5: who starts from its disk has what it had."""
        for member in self._present():
            if self._keys(member) != before:
                self.fail(f"L5: node {member.id} has other keys after a restart")

    def describe(self) -> str:
        """Return where everybody stands."""
        lines = [""]
        for member in self.members.values():
            if not member.is_up:
                lines.append(f"{member.id} down")
                continue
            core = member.core
            log = core.log
            lines.append(
                f"{member.id} {core.role.value} term {core.term} leader {core.leader} log "
                f"{log.snapshot_index}..{log.last_index} commit {log.commit} applied {log.applied} "
                f"voters {core.config.voters} learners {core.config.learners}"
            )
        return "\n  ".join(lines)


@contextmanager
def _limits(sim: WholeSimulation) -> Iterator[None]:
    """Give the driver the bounds of this run: its own are for real loads, and never reached here.

    What nodes draw by themselves, the names of sessions and how long a read waits, is the seed's, too.
    """
    options = sim.options
    names = stream(sim.seed, "names")
    date_line = answers._Date(lambda: 0.0).line
    changes: list[tuple[Any, str, object]] = [
        (compaction, "KEEP_ENTRIES", options.keep_entries),
        (compaction, "STRAGGLER_ENTRIES", 2),
        (link, "_MAX_OUTBOX_FRAMES", options.outbox_frames),
        (requests, "MAX_WAITING", options.max_waiting),
        (disk_space, "_CHECK_BYTES", options.capacity // 40 or disk_space._CHECK_BYTES),
        (disk_space, "_SPENT_BYTES", options.capacity // 1000),
        (compaction, "KEEP_BYTES", options.capacity // 8 or compaction.KEEP_BYTES),
        (snapshot_transfer, "CHUNK_PAIRS", options.chunk_pairs),
        (check_body, "DEREGISTER_AFTER_MS_MIN", 1000),
        (replica_check, "INTERVAL_S", 1.0),
        (replica_check, "PATIENCE_S", 5.0),
        (trio.to_thread, "run_sync", sim.trace.thread),
        # No machine sleeps: of a busy one, two clocks that are read one after the other say so.
        (contact.Contact.__init__, "__defaults__", (lambda: 0.0,)),
        *((module, "SLICE", options.session_slice) for module in (session_clocks, session_nodes)),
        *((module, "PAUSE_S", options.session_pause) for module in (session_clocks, session_nodes)),
        (answers, "date_line", date_line),
        (heads, "date_line", date_line),
        (questions, "WHILE_S", options.while_s),
        *unasked_watched(sim),
        (uuid, "uuid4", lambda: uuid.UUID(int=names.getrandbits(128), version=4)),
        (ids, "new", lambda: uuid.UUID(int=names.getrandbits(128), version=4).bytes),
        (queries, "random", names),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@contextmanager
def _quiet(counts: Counter[str]) -> Iterator[None]:
    """Count what nodes log, and show nothing of it."""

    def count(_logger: object, _method: str, event: Any) -> Any:
        counts[f"log: {event['event']}"] += 1
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[count], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)
