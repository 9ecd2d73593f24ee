"""The driver: one task that owns the core, and alone decides the order of write, send and apply.

Everything that happens to the node's consensus becomes an event in one queue. A *turn* takes all
that has gathered, steps the core once, and carries out the update, without waiting for anything:
so a turn cannot be cancelled half-way, and what arrives during one flush goes into the next.

The rules of the driver, by their numbers:

- D1: `Persist.then` leaves at the end of the flush that covers it (`flushes.py`), never before.
- D2: other messages leave in the turn, before the flush: heartbeats never wait for the disk.
- D3, D4: one `Persist` is one atomic batch of the storage, the snapshot first.
- D5, D6: the core says what must be written; the commit index in it is within the log.
- D7: one batch is applied at a time, in the turn; clients are answered from it, see `State`.
- D8: every `Persist` is answered once, in order, by its number.
- D9, D10, D20: the core's.
- D11, D12: snapshots are sent and received in `cluster/`, which reports every end of one.
- D13: messages are encoded when they are handed over, so nothing can change them.
- D14: links refuse other clusters, other ids and removed nodes (`peers/links.py`); the directory knows
  whose it is (`storage/`).
- D15: requests have deadlines here; a read that is tried again gets a new id.
- D16: reads wait until their index is applied, and fail when the term that confirmed it ends.
- D17: a storage error ends `run`, and with it the node: the core gets no further event.
- D18: ticks come from one timer, or from the leader's heartbeat; a long pause makes one tick.
- D19: the core starts from `Storage.load`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from time import perf_counter

import structlog
import trio

from ..net.flag import Flag
from ..peers import wire
from ..peers.frame_check import TERM_JUMP, TermCheck
from ..peers.links import Links
from ..raft import election, replication
from ..raft import events as happened
from ..raft.entry import SnapshotMeta
from ..raft.messages import Base, Heartbeat, InstallSnapshot, Message
from ..raft.options import Options
from ..raft.roles import Role
from ..raft.update import Persist, Update
from ..state.machine import State
from ..storage.interface import SnapshotInstall, StateReader, Storage
from . import compaction, recovered_core
from .bundles import Bundles
from .cluster_clock import ClusterClock
from .commit_news import CommitNews
from .contact import Contact
from .disk_space import DiskSpace
from .disk_writer import DiskWriter
from .facts import Facts
from .flushes import Flushes
from .intake import Intake
from .leadership import LeadershipNotifier
from .operations import Operations
from .reclaimer import Reclaimer
from .replies import Replies
from .ticks import TickTimer

_TURNS_MAX = 8
"""In a row, before others have their go."""

_TURNS_BYTES = 1024 * 1024
"""Bytes of entries written or applied, after which no further one begins in this turn of the loop."""

_log = structlog.get_logger()


class Replica(Operations):
    """One node's core with everything it needs to be driven.

    Attributes:
        facts: What is known of core and state, for all outside this folder.
        core, state: Only for this folder and for tests; only this class feeds the core.
        storage: The storage it was recovered from.
        disk_log: The part of the log on disk that outlasts the log in memory.
        clock: The cluster's time, as far as this node knows it.
        contact: Whether, and since when, this node is known to follow the present leader.
        heard: By peer: when its last frame arrived, in seconds of `trio.current_time()`.
        leadership: Calls `on_change` after leader, configuration, members or settings changed.
        intake: Takes requests and replies that peers forward.
        waiting: The requests that wait for an answer here.
        flushes: Makes durable what is written, and counts how often.
        snapshots_installed: How many snapshots of the leader it has taken into use.
        disk_space: Refuses writes while disks are short of room.
        on_tick: Called at the end of each tick.
        on_snapshot_wanted: Called with a peer that needs a snapshot.
        on_refused: Called with a peer and why a message of it was not used: it breaks the protocol.
        on_term_jump: Called with a peer and its term, which is far above this node's.
    """

    def __init__(
        self, node_id: int, storage: Storage, state: State, rng: Random, options: Options
    ) -> None:
        """Recover the core from the storage (rule D19).

        Raises:
            StorageError, CoreBug: What is on disk cannot be used.
        """
        super().__init__()
        self.storage = storage
        self.state = state
        self.core, lost_log = recovered_core.core_on(storage, node_id, options, rng)
        self.facts = Facts(self.core, state, lost_log)
        self._is_recovering = self.core.is_recovering
        self.disk_space = DiskSpace(storage)
        facts = self.facts
        self.clock = ClusterClock(state, lambda: facts.is_leader and facts.is_own_term_applied)
        self.heard: dict[int, float] = {}
        self.contact = Contact(self.core, lambda: state.settings.election_timeout_ms / 1000)
        self.on_snapshot_wanted: Callable[[int], None] = lambda _peer: None
        self.on_tick: Callable[[], None] = lambda: None
        self.on_refused: Callable[[int, str], None] = lambda _peer, _why: None
        self.on_term_jump: Callable[[int, int], None] = lambda _peer, _term: None
        self._term_check = TermCheck()
        self._links: Links | None = None
        self._tick_timer: TickTimer | None = None
        self._events: deque[happened.Event] = deque()
        self._wake = Flag()
        self._is_due = self._is_held = self._is_over = False
        self._bytes_left = _TURNS_BYTES
        self.flushes = Flushes(storage, self._send_now, self._flushed)
        self._disk = DiskWriter(storage, state, self.flushes)
        self._reclaimer = Reclaimer(
            storage, self.disk_space, lambda: (state.applied, self.core.log.snapshot_index)
        )
        self.disk_space.on_change = self.room_changed
        self.disk_log = self._disk.log
        self._bundles, self._replies = Bundles(), Replies()
        self.intake = Intake(
            self.core,
            self.waiting,
            self.clock,
            self.disk_space,
            send=self._send_together,
            is_connected=self.is_connected,
            want_turn=self.want_turn,
            first_id=rng.getrandbits(62),
        )
        self.intake.on_index = self.contact.answered
        self._news = CommitNews(self.core, self.feed)
        self.snapshots_installed = 0
        self.leadership = LeadershipNotifier(self.core, state, self._wake.set)
        self._nursery: trio.Nursery | None = None

    # -- what the rooms above ask -------------------------------------------------------------

    def new_id(self) -> int:
        """Return a number that this process has not used yet, for a proposal or a read."""
        return self.intake.new_id()

    def feed(self, event: happened.Event) -> None:
        """Queue an event for the next turn."""
        self._events.append(event)
        self.want_turn()

    def open_snapshot(self) -> tuple[SnapshotMeta, StateReader]:
        """Return the whole state as of now, and what it says of itself; the caller closes it."""
        # Nothing waits in between: state, index and term are of one moment.
        index = self.state.applied
        meta = self.core.meta_at(index)
        chain = self.storage.snapshot_meta_chain(index)
        return SnapshotMeta(meta.index, meta.term, meta.config, chain), self.state.snapshot()

    @property
    def is_installing(self) -> bool:
        """Whether a received snapshot waits for the next turn."""
        return self._disk.is_installing

    def install_snapshot(self, message: InstallSnapshot, staged: SnapshotInstall | None) -> None:
        """Offer a received snapshot to the core, which takes or refuses it in the next turn.

        `staged`: its content; None when its index is committed here, so that it is not needed.
        """
        if staged is not None:
            self._disk.stage(staged)
        self.feed(happened.Receive(message))

    def room_changed(self) -> None:
        """This disk has become short of room, or has room again: tell the core and the reclaimer."""
        self.feed(happened.DiskShort(self.disk_space.is_short))
        self._reclaimer.look()

    def adopt_election_timeout(self) -> None:
        """Have the core keep to the election timeout that the cluster has agreed on."""
        election.adopt_timeout(self.core, recovered_core.election_ticks(self.state.settings))

    # -- what peers send (see `peers.PeerHandler`) ------------------------------------------

    def received(self, peer: int, frame: Message) -> None:
        """Take a consensus message; one that speaks in another's name is dropped.

        Raises:
            BadFrame: Its term is one that no node may take over.
        """
        if frame.term > self.core.term + TERM_JUMP:
            self.check_term(peer, frame.term)
        if frame.frm == peer and frame.to == self.core.id:
            if isinstance(frame, Heartbeat) and frame.term >= self.core.term:
                self._beat()
            self._events.append(happened.Receive(frame))
            if not replication.is_no_news(self.core, frame):
                self.want_turn()

    def check_term(self, peer: int, term: int) -> None:
        """Compare a peer's term with this node's.

        Raises:
            BadFrame: It is one that no node may take over.
        """
        if self._term_check.is_jump(self.core.term, peer, term, trio.current_time()):
            self.on_term_jump(peer, term)

    # -- running ----------------------------------------------------------------------------

    async def run(
        self,
        links: Links,
        tick_timer: TickTimer,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Drive the core until cancelled, with a tick after each wait of `tick_timer`.

        Raises:
            StorageError: The disk failed; nothing that was not durable has been answered for.
            CoreBug: An invariant of consensus is broken.
        """
        self._links, self._tick_timer = links, tick_timer
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self.flushes.run)
            nursery.start_soon(self._tick_forever, tick_timer)
            nursery.start_soon(self._news.run)
            nursery.start_soon(self._reclaimer.run)
            if self.disk_space.is_short:
                self.room_changed()
            task_status.started()
            while True:
                await self._wake.wait()
                self._bytes_left = _TURNS_BYTES
                self.leadership.notify()
                self.take_turns()

    async def _tick_forever(self, tick_timer: TickTimer) -> None:
        while True:
            self._tick(await tick_timer.wait())
            self.take_turns()

    def _beat(self) -> None:
        """A heartbeat came: tick now, so that a node at rest need not wake up once more to tick.

        The tick that counts towards an election comes first, so that the silence begins after it;
        and the next is later than a heartbeat by a random part of one, for followers that would
        all count from the same moment would all ask for votes at the same moment.
        """
        seconds = self._tick_timer.cut_short() if self._tick_timer is not None else None
        if seconds is not None:
            was_held = self._is_held
            self._tick(seconds)
            self._is_held = was_held
            if not was_held:
                self._wake.set()

    def _tick(self, seconds: float) -> None:
        """Let so much time pass; a turn must follow."""
        self.hold()
        self.clock.advance(seconds)
        self.disk_space.tick(seconds)
        self.leadership.release()
        self.contact.ticks()
        self.feed(happened.Tick())
        # Also where nothing is written: a node that starts may have a long log on its disk.
        self._events += self._cuts(self.core.log.applied)
        self._is_recovering = recovered_core.still_recovering(
            self.core, self.storage, before=self._is_recovering
        )
        self.waiting.expire(trio.current_time(), has_leader=self.core.leader != 0)
        self._replies.expire(trio.current_time())
        self.on_tick()

    def _flushed(self, seq: int, then: Sequence[Message]) -> None:
        """All writes up to `seq` are durable: let go what waited for that (rules D1, D8)."""
        if self._is_over:
            return
        for message in then:
            self.send(message.to, message)
        self.leadership.flushed()
        self._events.append(happened.Persisted(seq))
        if self.core.awaits_persisted or self.flushes.is_behind:
            self.want_turn()
        # Else the core has nothing to do because of it before the next event.

    async def flush(self) -> None:
        """Make durable what is written; as `Flushes.now`."""
        await self.flushes.now()

    def hold(self) -> None:
        """Take no turn until the caller asks for it with `take_turns`, before it waits again."""
        self._is_held = True

    def take_turns(self) -> None:
        """Take turns until no event is left, or until others must have their go."""
        self._is_held = True
        turns = _TURNS_MAX
        try:
            self.flushes.take_end()
            while self._is_due and turns and self._bytes_left > 0 and not self._is_over:
                self._is_due = False
                turns -= 1
                self._turn()
                self.flushes.begin()
            if self.flushes.is_under_way:
                self.flushes.want_end(is_wanted=self._needs_flush_end())
        except BaseException:
            self._is_over = True  # Rule D17, whoever called.
            raise
        if not self._is_over:
            for peer, frames in self._bundles.take():
                self._replies.sent(peer, frames, trio.current_time())
                if not self.send(peer, frames[0] if len(frames) == 1 else wire.Bundle(frames)):
                    self.intake.not_sent(frames)
        self._is_held = False
        if self._links is not None:
            self._links.flush()
        if self._bytes_left > 0 or not self._is_due:
            self._bytes_left = _TURNS_BYTES
        # Else `run` goes on, in the next turn of the loop, whoever else asks for a turn before.
        if self._is_due:
            self._wake.set()

    def _needs_flush_end(self) -> bool:
        """Whether anything follows here from the end of a flush, so that it must take a turn.

        At a follower mostly nothing does: its answer leaves from the thread that has flushed, and what
        it may apply comes later, with the news of the commit.
        """
        is_awaited = self.core.awaits_persisted or self.leadership.is_held
        return is_awaited or self.flushes.is_more_written

    def want_turn(self) -> None:
        """Have a turn taken soon; after `hold`, by the caller of `hold`."""
        self._is_due = True
        if not self._is_held:
            self._wake.set()

    def _turn(self) -> None:
        """Handle everything that has gathered."""
        events = self._events
        self._events = deque()
        self.intake.take_writes(events)
        self.intake.take_reads(events)
        if events:
            self._news.add_to(events)
            update = self.core.step_all(events)
            if update.lost_to:
                self._disk.end_as_older_copy(update.lost_to, self.core.log.last_index)
            self._carry_out(update)
            for peer, why in update.refused:
                self.on_refused(peer, why)
        self._notice_changes()

    # -- carrying out -----------------------------------------------------------------------

    def _carry_out(self, update: Update) -> None:
        """Do what the core wants, in the order of `raft/update.py`."""
        if update.messages:
            for message in update.messages:
                self.send(message.to, message)
            if (update.persist is not None or update.apply) and self._links is not None:
                # The others write while this node does (thesis 10.2.1), and hear of a commit before
                # this node applies it.
                self._links.flush()
        if update.persist is not None:
            self._persist(update.persist)
        if update.apply:
            self._apply(update)
        self.intake.resolve(update, self.state.applied)
        for peer in update.snapshots_wanted:
            self.on_snapshot_wanted(peer)
        if update.compact is not None:
            self.disk_log.compact(update.compact)
        if update.early_election is not None and self._nursery is not None:
            self._nursery.start_soon(self._elect_early, *update.early_election)
        if update.snapshot_refused:
            self._disk.drop_staged()

    def _persist(self, persist: Persist) -> None:
        is_leader = self.core.role is Role.LEADER
        self._bytes_left -= self.disk_space.writing(persist.entries, is_leader=is_leader)
        self._disk.write(persist)
        if persist.snapshot is not None:
            self.waiting.in_log.snapshot_installed(persist.snapshot.index)
            self.snapshots_installed += 1

    def _cuts(self, applied: int) -> tuple[happened.Compact, ...]:
        if not self.disk_space.is_short:
            return compaction.cuts(self.core, applied)
        self.disk_log.release_all()
        return compaction.cuts(self.core, applied, is_short=True)

    def _apply(self, update: Update) -> None:
        began = perf_counter()
        self.state.apply(update.apply, self.waiting.in_log.applied)
        self.apply_seconds.observe(perf_counter() - began)
        last = update.apply[-1].index
        self._bytes_left -= self.core.log.size_between(update.apply[0].index - 1, last)
        if self.core.role is Role.LEADER:
            self._news.committed()
        self._events.append(happened.Applied(last))
        cuts = self._cuts(last)
        if cuts or self.core.log.commit > last:
            self._events += cuts
            self.want_turn()
        # Else the core gets it with the next event: until then it has nothing to do because of it.

    async def _elect_early(self, token: int, thousandths: int) -> None:
        await trio.sleep(self.tick_seconds() * thousandths / 1000)
        self.feed(happened.EarlyElection(token))

    @property
    def fresh_at(self) -> float | None:
        """When this node last had applied all that was committed then; None: never."""
        return self.waiting.reads_for_index.fresh_at

    def tick_seconds(self) -> float:
        """Return the length of a tick: the heartbeat interval of the cluster, in seconds."""
        return self.state.settings.heartbeat_ms / 1000

    def link_made(self, peer: int) -> None:
        """Send again the replies that the last link may have lost, then what waited for a link."""
        for replies in self._replies.kept(peer) if peer not in self.state.removed else ():
            self.send(peer, replies[0] if len(replies) == 1 else wire.Bundle([*replies]))
        self.want_turn()

    def link_broken(self, peer: int) -> None:
        """What was sent to `peer` may be lost."""
        self.feed(happened.PeerUnreachable(peer))
        self.waiting.retry_forwarded(peer)

    def peer_down(self, peer: int) -> None:
        """`peer` refuses or is silent: requests forwarded to it as the leader have an unknown outcome."""
        self.feed(happened.PeerDown(peer))
        self.waiting.fail_forwarded(peer, "the link to the leader broke")

    def snapshot_sent(self, peer: int, index: int, *, ok: bool) -> None:
        """Tell the core how a snapshot ended (rule D12)."""
        self.feed(happened.SnapshotSent(peer, index, ok))

    def send(self, peer: int, frame: wire.Frame) -> bool:
        """Encode a frame and hand it to its link; return False when it was dropped.

        The core is told of a dropped message, and sends it again.
        """
        if self._links is None:
            return False
        if not self._is_held:
            self._wake.set()  # It leaves after the next turns.
        sent = self._links.post(peer, wire.encode(frame))
        if not sent and isinstance(frame, Base) and self._links.is_connected(peer):
            self._events.append(happened.PeerUnreachable(peer))
        return sent

    def _send_together(self, peer: int, frame: wire.Forward | wire.ForwardReply) -> None:
        """Send with all others of this turn."""
        self._bundles.add(peer, frame)
        if not self._is_held:
            self._wake.set()

    def _send_now(self, message: Message) -> bool:
        """Send from any thread; False: the peer's link cannot, now."""
        links = None if self._is_over else self._links
        return links is not None and links.send_now(message.to, wire.encode(message))

    def _notice_changes(self) -> None:
        before = self.leadership.known
        if not self.leadership.look():
            return
        now = self.leadership.known
        if now.role is Role.CANDIDATE:
            self.contact.stood()
        if now.leader != before.leader or now.term != before.term:
            self.contact.led_by(now.leader)
            patience = self.core.options.election_ticks * self.tick_seconds()
            self.waiting.hurry_forwarded(now.leader, trio.current_time() + patience)
            self.want_turn()
        if before.role is Role.LEADER and now.role is not Role.LEADER:
            self.intake.give_back()
        if not self.flushes.is_behind:
            self.leadership.flushed()

    def is_connected(self, peer: int) -> bool:
        """Whether what is sent to `peer` leaves now."""
        return self._links is not None and self._links.is_connected(peer)
