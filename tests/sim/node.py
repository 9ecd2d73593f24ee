"""The driver of one core, in the order that `hstore.node.raft.update` prescribes.

Writes, sends, applies, in this order and before the next events; `then` messages leave only when
the flush that covers their write has ended. A crash may strike between any two of these steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from hstore.node.raft.core import Core
from hstore.node.raft.entry import Entry
from hstore.node.raft.events import (
    Applied,
    Compact,
    EarlyElection,
    Event,
    Persisted,
    ProposeConfigChange,
    ReadIndex,
    Receive,
    SnapshotSent,
    TellCommit,
    Tick,
)
from hstore.node.raft.messages import Append, InstallSnapshot, Message
from hstore.node.raft.roles import Role
from hstore.node.raft.update import Persist, Update

from . import rare
from .disk import Image, Received, SimDisk
from .machine import Content
from .options import TICK, stream
from .snapshots import Staging
from .tables.nodes import NodeTables

if TYPE_CHECKING:
    from .simulation import Simulation

_TICK = Tick()
_TELL_AT_ONCE = TellCommit(at_once=True)


class Crash(BaseException):
    """The node dies here. Not an `Exception`: no handler may take it for an error."""


class SimNode:
    """A node: core, disk, state machine, and what its process holds in memory.

    Attributes:
        core: None while the node is down.
        disk: Outlives crashes.
        boot: Counts starts; what was planned for an earlier life does not happen.
        is_wiped: Its disk is lost: it does not come back.
        rate: Time between ticks.
        content: The state machine, as far as this process has applied.
        waiting: rid and term of proposals by index.
        reads: Highest commit index anywhere when each read began, by rid, until it is answered.
        staging: What has come of a snapshot, if one is coming in.
        tables: The real state machine, in runs that have one.
        short_until: Until then its disk has no room.
        offered: Where one is staged that the core is about to hear of, or 0.
        due: (index, rid) of reads that wait for the state machine to come so far.
        seen: What `invariants` remembers of this life.
    """

    __slots__ = (
        "_applying",
        "_draining",
        "_flush_began",
        "_flushing",
        "_inbox",
        "_installing",
        "_missed",
        "_to_flush",
        "_untaken",
        "boot",
        "content",
        "core",
        "disk",
        "due",
        "id",
        "is_paused",
        "is_retired",
        "is_wiped",
        "offered",
        "rate",
        "reads",
        "received",
        "seen",
        "short_until",
        "sim",
        "staging",
        "tables",
        "waiting",
    )  # fmt: skip

    def __init__(self, sim: Simulation, node_id: int, disk: SimDisk) -> None:
        self.sim = sim
        self.id = node_id
        self.disk = disk
        self.core: Core | None = None
        self.boot = 0
        self.rate = TICK
        self.is_paused = False
        self.is_retired = False
        self.is_wiped = False
        self.short_until = 0
        self._reset()

    def _reset(self) -> None:
        self.content = self.disk.image.content
        tables = self.sim.tables
        self.tables = NodeTables(tables, self.id, self.content.pairs) if tables else None
        self.waiting: dict[int, tuple[int, int]] = {}
        self.reads: dict[int, int] = {}
        self.due: list[tuple[int, int]] = []
        self.received: dict[tuple[int, int], tuple[Content, int] | int] = {}
        self.staging: Staging | None = None
        self.offered = 0
        self._installing = 0
        self.seen = self.sim.checker.new_life()
        self._inbox: list[Event] = []
        self._draining = False
        self._missed = 0
        self._to_flush: deque[tuple[int, int, Sequence[Message]]] = deque()
        self._flush_began = 0
        self._flushing = False
        self._untaken = 0
        self._applying: list[Entry] = []

    # -- life and death ---------------------------------------------------------------------

    def start(self) -> None:
        """Start from what is on the disk (rule D19)."""
        sim = self.sim
        self.disk.remembered = 12 if sim.options.damage else 0
        if not sim.damages.recover(self):
            return
        if self.disk.drop_staged():
            sim.counts["states left half staged by a crash"] += 1
        self._reset()
        self.boot += 1
        rng = stream(sim.seed, f"core/{self.id}/{self.boot}")
        self.core = self.made_core(self.disk.image, rng)
        sim.checker.started(self)
        sim.disks.tell(self)
        sim.disks.crash_soon(self)
        self.rate, phase = sim.faults.draw_clock(self.id)
        sim.after(phase, self._tick, self.boot)

    def made_core(self, image: Image, rng: Random) -> Core:
        """Return the core that an image of the disk makes."""
        options = self.sim.options.core
        if self.sim.options.is_mixed:
            options = replace(options, pre_vote=rng.random() < 0.5)
        return Core(
            self.id,
            options,
            rng,
            hard_state=image.hard,
            snapshot=image.base,
            entries=list(image.entries),
            applied=image.content.applied,
            recover_to=image.loss.recover_to if image.loss else 0,
        )

    def is_sound(self) -> bool:
        """Whether the disk has kept all it had promised to."""
        return not self.is_wiped and not self.disk.owed and self.disk.durable.loss is None

    def crash(self) -> None:
        """Die: what is not flushed is lost, entirely or from some write on."""
        if self.core is not None:
            rare.crashed(self.sim.counts, self, self.core)
        self.core = None
        self.staging = None
        self.is_paused = False
        disks, unsynced = self.sim.disks, len(self.disk.unsynced)
        kept = self.sim.faults.draw_kept(self.id, unsynced)
        self.disk.crash(disks.torn(self, kept), disks.witness_lag(self))
        self.sim.counts["witnesses behind the last flush"] += self.disk.is_witness_late
        self.sim.crashed(self)

    def pause(self) -> None:
        """Neither tick nor hear, until `resume`. The disk goes on by itself."""
        self.is_paused = True
        self._missed = 0

    def resume(self, boot: int) -> None:
        """Hear at once what has come meanwhile."""
        if self.is_alive(boot) and self.is_paused:
            self.is_paused = False
            self._inbox.extend([_TICK] * self.sim.faults.draw_burst(self.id, self._missed))
            self._drain(boot)

    def is_alive(self, boot: int) -> bool:
        """Whether the life in which something was planned still lasts."""
        return self.core is not None and boot == self.boot

    # -- events -----------------------------------------------------------------------------

    def give(self, event: Event) -> None:
        """Let something happen to the node."""
        if self.core is None:
            return
        if type(event) is ReadIndex:
            self.reads[event.rid] = self.sim.checker.committed
        window = self.sim.window
        if not window and not self.is_paused:
            self._step((event,))
            return
        self._inbox.append(event)
        if not self._draining and not self.is_paused:
            self._draining = True
            self.sim.after(self.sim.faults.draw_window(self.id, window), self._drain, self.boot)

    def receive(self, message: Message, content: tuple[Content, int] | None) -> None:
        """Let a message arrive, with the content of its snapshot, if it is one."""
        if self.core is None:
            return
        if content is not None and isinstance(message, InstallSnapshot):
            rare.snapshot_received(self.sim.counts, self, message.meta)
            self.received[message.meta.index, message.meta.term] = content
        if isinstance(message, Append) and message.is_news:
            rare.news_received(self.sim.counts, self.core, message)
        self.give(Receive(message))

    def offer(self, message: InstallSnapshot, place: int) -> None:
        """Let the core hear of a snapshot that is staged."""
        if self.core is None:
            return
        rare.snapshot_received(self.sim.counts, self, message.meta)
        self.received[message.meta.index, message.meta.term] = self.offered = place
        self.give(Receive(message))

    def forget_unheard(self) -> None:
        """Lose the messages and changes that wait to be heard: they could surprise a healed core."""
        self._inbox = [e for e in self._inbox if type(e) not in (Receive, ProposeConfigChange)]
        self.offered = 0

    def _drain(self, boot: int) -> None:
        if not self.is_alive(boot) or self.is_paused:
            if boot == self.boot:
                self._draining = False
            return
        self._draining = False
        if self._inbox:
            events, self._inbox = self._inbox, []
            self._step(events)

    def _tick(self, boot: int) -> None:
        if not self.is_alive(boot):
            return
        self.sim.after(self.rate, self._tick, boot)
        if self.is_paused:
            self._missed += 1
        else:
            self.give(_TICK)
            if self.core is not None:
                self.sim.checker.ticked(self, self.core)
                if self.disk.owed and not self.core.is_recovering:
                    self._has_recovered()
                self._maybe_compact(self.core)

    def _early(self, planned: tuple[int, int]) -> None:
        boot, token = planned
        if self.is_alive(boot):
            self.give(EarlyElection(token))

    # -- carrying out -----------------------------------------------------------------------

    def _step(self, events: Sequence[Event]) -> None:
        core = self.core
        assert core is not None
        sim = self.sim
        if self._untaken:
            events = (*events, Persisted(self._untaken))
            self._untaken = 0
        if sim.options.tells_in_step and core.role is Role.LEADER:
            events = (*events, _TELL_AT_ONCE)
        sim.core_events += len(events)
        sim.digest = hash((sim.digest, sim.now, self.id, core.term, core.log.last_index))
        was = core.role, core.is_short
        try:
            update = core.step_all(events)
            sim.checker.stands(self, core, was, events)
            self._carry_out(core, update)
            if self._applying and not sim.apply_mean:
                self._applied(self.boot)
            self.offered = 0
        except Crash:
            sim.counts["crash at a boundary"] += 1
            self.crash()

    def _carry_out(self, core: Core, update: Update) -> None:
        sim, disk, checker = self.sim, self.disk, self.sim.checker
        boundary = sim.faults.draw_boundary(self.id)
        if boundary == 1:
            raise Crash
        if update.persist is not None:
            self._write(update.persist)
        if update.compact is not None:
            disk.write_compact(update.compact)
        checker.stepped(self, core)
        if boundary == 2:
            raise Crash
        self._send(update.messages, len(update.messages) // 2 if boundary == 3 else None)
        if boundary == 4:
            raise Crash
        if self._to_flush:
            self._flush()
        if update.apply:
            checker.handed_out(self, update.apply)
            self._apply(update.apply)
            if boundary == 5:
                raise Crash
        self._rest(core, update)

    def _write(self, persist: Persist) -> None:
        received: Received = None
        if self.sim.disks.is_refused(self, "write"):
            raise Crash
        if persist.snapshot is not None:
            if self.sim.snapshots.dies(self, "before the write"):
                raise Crash
            self.sim.counts["snapshots installed"] += 1
            received = self.received.get((persist.snapshot.index, persist.snapshot.term))
            self.sim.checker.installing(self, received)
        rare.writing(self.sim.counts, self, persist)
        self.sim.checker.writing(self, persist)
        self.disk.write_persist(persist, received)
        if persist.snapshot is not None:
            self._installed()
        self._to_flush.append((self.disk.position, persist.seq, persist.then))
        for message in persist.then:
            self.sim.checker.promised(self, message)

    def _installed(self) -> None:
        """A snapshot is written: the state is another one from now on."""
        self.content = self.disk.image.content
        if self.tables is not None:
            self.tables.install(self.content.pairs)
        self.seen.shown = self.content.applied
        self.sim.checker.installed(self)
        self._applying = []
        # What became of these nobody here will ever know.
        self.waiting = {i: w for i, w in self.waiting.items() if i > self.content.applied}
        self._installing = self.disk.position
        if self.sim.snapshots.dies(self, "before the flush"):
            raise Crash

    def _send(self, messages: Sequence[Message], die_after: int | None) -> None:
        for position, message in enumerate(messages):
            if position == die_after:
                raise Crash
            self.sim.checker.leaving(self, message)
            self.sim.network.send(message)

    def _rest(self, core: Core, update: Update) -> None:
        sim = self.sim
        self.sim.checker.hung_up(self, update)
        for rid, term, index in update.appended:
            self.waiting[index] = (rid, term)
        for rid, reason, _text in update.rejected:
            sim.clients.rejected(rid, reason)
        for rid in update.transferred:
            sim.operator.transferred(rid)
        for rid, index in update.reads_ready:
            sim.checker.read_ready(self, rid, index)
            self.due.append((index, rid))
        if self.due:
            self._serve_reads()
        for rid, _reason in update.reads_failed:
            del self.reads[rid]
            sim.counts["reads failed"] += 1
        for peer in update.snapshots_wanted:
            self._send_snapshot(core, peer)
        if update.early_election is not None:
            token, delay = update.early_election
            sim.counts["early elections planned"] += 1
            sim.after(delay, self._early, (self.boot, token))
        if update.snapshot_refused:
            sim.counts["snapshots refused"] += 1

    # -- the disk ---------------------------------------------------------------------------

    def _flush(self) -> None:
        if not self._flushing and self.core is not None:
            self._flushing = True
            self._flush_began = self.core.ticks
            self.sim.after(
                self.sim.disks.flush_time(self), self._flushed, (self.boot, self.disk.position)
            )

    def _flushed(self, planned: tuple[int, int]) -> None:
        boot, position = planned
        if not self.is_alive(boot):
            return
        if self.sim.disks.is_refused(self, "flush"):
            # Never tried again: what a second one says is not true (rule D17).
            self.crash()
            return
        self.disk.sync(position)
        if self.sim.options.lost_witness:
            self.disk.note_witness()
        if self.is_paused:
            # The disk goes on, but nobody takes note of it.
            self.sim.after(TICK, self._flushed, planned)
            return
        self._flushing = False
        try:
            self._after_flush(position)
        except Crash:
            self.crash()

    def _after_flush(self, position: int) -> None:
        """Let go what has waited for a flush, and tell the core."""
        is_installed = 0 < self._installing <= position
        if is_installed and self.sim.snapshots.dies(self, "before the answer"):
            raise Crash
        seq = 0
        while self._to_flush and self._to_flush[0][0] <= position:
            _, seq, then = self._to_flush.popleft()
            for message in then:
                self.sim.checker.answered(self, message)
                self.sim.network.send(message)
        if is_installed:
            self._installing = 0
            if self.sim.snapshots.dies(self, "after the answer"):
                raise Crash
        if self._to_flush:
            self._flush()
        if seq:
            self._tell_of_end(seq)

    def _tell_of_end(self, seq: int) -> None:
        """Tell the core that a flush has ended, now or with its next event."""
        core = self.core
        is_wanted = core is None or core.awaits_persisted or bool(self._to_flush)
        if is_wanted or not self.sim.options.silent_ends:
            self.give(Persisted(seq))
            return
        assert core is not None
        self.sim.checker.not_told(self, core)
        self.sim.counts["ends of flushes that nobody is told of"] += 1
        self._untaken = seq

    def _has_recovered(self) -> None:
        """What was lost is here again: from now on it counts as any other."""
        self.sim.counts["lost log recovered"] += 1
        self.sim.checker.recovered(self)
        self.disk.owed = {}
        self.disk.write_recovered()

    def is_flushing(self) -> bool:
        """Whether a flush is under way."""
        return self._flushing

    def flushing_since(self) -> int | None:
        """Return the core's tick at which the flush began that is under way."""
        return self._flush_began if self._flushing else None

    def end_flush(self) -> None:
        """Let a flush that is under way take no longer."""
        if self._flushing:
            self.sim.after(TICK // 10, self._flushed, (self.boot, self.disk.position))

    # -- the state machine ------------------------------------------------------------------

    def _apply(self, entries: list[Entry]) -> None:
        if self._applying:
            self.sim.checker.fail("I8", self, "hands out a batch while one is out (rule D7)")
        self._applying = entries
        if self.sim.apply_mean:
            self.sim.after(self.sim.faults.draw_apply(self.id), self._applied, self.boot)

    def _applied(self, boot: int) -> None:
        """Apply the batch that is out, and say so, which may bring the next one.

        A batch that a snapshot has overtaken is gone: what it would have brought is there.
        """
        while self.is_alive(boot) and self._applying:
            entries, self._applying = self._applying, []
            content, waiting = self.content, self.waiting
            for entry in entries:
                self.sim.checker.applying(self, content.applied, entry)
                content, is_done = content.after(entry)
                if entry.index in waiting:
                    rid, term = waiting.pop(entry.index)
                    if term == entry.term:
                        self.sim.clients.acknowledged(rid, entry, is_done=is_done)
            if self.tables is not None:
                content = content._replace(pairs=self.tables.apply(entries))
            self.content = content
            applied = content.applied
            self.sim.checker.applied(self)
            self.disk.write_content(content)
            self.sim.news.applied(self)
            if self.due:
                self._serve_reads()
            if self.sim.apply_mean:
                self.give(Applied(applied))
                return
            core = self.core
            assert core is not None
            self.sim.core_events += 1
            self._carry_out(core, core.step(Applied(applied)))

    def _serve_reads(self) -> None:
        """Answer the reads that the state machine has come far enough for."""
        applied = self.content.applied
        for index, rid in self.due:
            if index <= applied:
                value = self.sim.checker.read_served(self, rid)
                self.sim.clients.read(rid, value)
        self.due = [read for read in self.due if read[0] > applied]

    def _maybe_compact(self, core: Core) -> None:
        options = self.sim.options
        if core.log.applied - core.log.snapshot_index > options.compact_above:
            self.sim.counts["compactions"] += 1
            self.give(Compact(core.log.applied - options.compact_keep))

    def _send_snapshot(self, core: Core, peer: int) -> None:
        """Send the state as it is now, in the name of the term in which it was asked for."""
        if self.sim.options.chunk_pairs:
            self.sim.snapshots.send(self, core, peer)
            return
        meta = core.meta_at(self.content.applied)
        chain = self.disk.image.chain_at(meta.index)
        assert chain is not None
        self.sim.checker.snapshot_taken(self, meta, chain)
        message = InstallSnapshot(self.id, peer, core.term, meta)
        self.sim.after(
            self.sim.faults.draw_snapshot(self.id),
            self._snapshot_through,
            (self.boot, message, (self.content, chain)),
        )

    def _snapshot_through(self, planned: tuple[int, InstallSnapshot, tuple[Content, int]]) -> None:
        boot, message, content = planned
        if not self.is_alive(boot):
            return
        is_ok = not self.sim.faults.draw_snapshot_loss(self.id)
        if self.core is not None and self.core.term != message.term:
            self.sim.counts["snapshots whose sender has gone on to another term"] += 1
        if is_ok:
            self.sim.checker.leaving(self, message)
            self.sim.network.send(message, content)
        self.give(SnapshotSent(message.to, message.meta.index, is_ok))
