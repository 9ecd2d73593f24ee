"""The adapter: a core driven in the batches in which the files drive theirs.

The files know a node as something that is stepped, and asked now and then for all that has become
due since it was last asked: its *ready* batch. Until then nothing leaves it, nothing is written and
nothing is applied. Here a core is stepped by event, and what its updates want is collected until
the file asks. With asynchronous storage a batch only queues its writes and its entries to apply;
the file says when each is done, and the word of it comes back as a message.

What our core does on purpose otherwise is met here, where that can be done without touching what
must agree:

- Answers that the files' protocol leaves unsaid are lost on the way (`_unsaid`), and noted.
- A vote request waits for the disk in our core. With asynchronous storage it leaves with the batch,
  as in the files: nothing crashes in them.
- A refused membership change is an empty entry in the files, and none here: one is proposed.
- A change that our core takes later (after the no-op of the term is committed) is held until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import cast

from hstore.node.raft import election, messages
from hstore.node.raft.core import Core
from hstore.node.raft.entry import Entry, EntryKind, HardState, SnapshotMeta
from hstore.node.raft.errors import Reason
from hstore.node.raft.events import (
    Applied,
    Compact,
    Event,
    PeerUnreachable,
    Persisted,
    Propose,
    ProposeConfigChange,
    Receive,
    Tick,
    TransferLeader,
)
from hstore.node.raft.membership import ConfigChange, Configuration, Transition
from hstore.node.raft.messages import Message
from hstore.node.raft.options import Options
from hstore.node.raft.progress import ProgressState
from hstore.node.raft.roles import Role
from hstore.node.raft.update import Persist, Update
from tests.node.raft.harness import Disk, Longest

from .waivers import LET_IN, OLD_LEADER, OLD_VOTE, REFUSED

ELECTION_TICKS = 3
"""Of the files' nodes; a heartbeat takes one tick."""

UNLIMITED = 2**62

KINDS: dict[type[Message], str] = {
    messages.PreVoteRequest: "MsgPreVote",
    messages.PreVoteResponse: "MsgPreVoteResp",
    messages.VoteRequest: "MsgVote",
    messages.VoteResponse: "MsgVoteResp",
    messages.Append: "MsgApp",
    messages.AppendResponse: "MsgAppResp",
    messages.Heartbeat: "MsgHeartbeat",
    messages.HeartbeatResponse: "MsgHeartbeatResp",
    messages.InstallSnapshot: "MsgSnap",
    messages.ReadIndexRequest: "MsgReadIndex",
    messages.ReadIndexResponse: "MsgReadIndexResp",
    messages.TimeoutNow: "MsgTimeoutNow",
}

LOCAL_KINDS = ("MsgProp", "MsgTransferLeader", "MsgStorageAppendResp", "MsgStorageApplyResp")

ANSWERS = (messages.AppendResponse, messages.VoteResponse, messages.PreVoteResponse)
"""What the files' nodes say only after a write, even if nothing is to be written."""

DROPPED = "raft proposal dropped"


@dataclass(frozen=True, slots=True)
class Settings:
    """What `add-nodes` says of its nodes, beside the options of the core."""

    is_async: bool = False
    is_validating: bool = True


@dataclass(frozen=True, slots=True)
class Proposal:
    """A command, or a membership change; `text` is how its entry reads in a file."""

    text: str
    data: bytes = b""
    changes: tuple[ConfigChange, ...] | None = None
    transition: Transition = Transition.AUTO


@dataclass(frozen=True, slots=True)
class Parcel:
    """Something on its way to a node: a message, or word from the node's own storage.

    `entries` is what word of the state machine is about.
    """

    frm: int
    to: int
    kind: str
    content: Message | Event | Proposal
    entries: tuple[Entry, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether this is word from the node's own storage, which cannot be lost."""
        return self.frm == self.to

    @property
    def is_answer(self) -> bool:
        return isinstance(self.content, ANSWERS)


@dataclass(slots=True)
class Write:
    """The append work of one batch: what it comes to, in which writes, and the answers that wait."""

    hard_state: HardState | None
    entries: list[Entry]
    persists: list[Persist]
    answers: list[Parcel]


@dataclass(slots=True)
class Ready:
    """What one batch brought, for the file to be compared with.

    Attributes:
        write, batch: What waits for the disk, and for the state machine, with asynchronous storage.
    """

    is_synced: bool = False
    role: Role | None = None
    leader: int = 0
    hard_state: HardState | None = None
    entries: list[Entry] = field(default_factory=list)
    snapshot: SnapshotMeta | None = None
    committed: list[Entry] = field(default_factory=list)
    parcels: list[Parcel] = field(default_factory=list)
    write: Write | None = None
    batch: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the nodes of one file share: how changes read, and where silence is noted."""

    texts: dict[tuple[int, int], str]
    note: Callable[[str], None]


class Node:
    """One core, its disk, and what waits for the file to ask for it.

    Attributes:
        known: (role, leader, hard state, last index) as of the last batch.
        outbox: What the next batch sends.
        texts: How the entries of membership changes read in a file, by (term, index); all nodes'.
        unreachable, compact_to: What the core is not told yet, see `_late`.
        held: Proposals that the core does not take yet, in order.
        trace: Every hard state the core has passed through.
        roles: Every (role, term) it has been in.
        shown: How many hard states had been passed through at the last batch.
    """

    def __init__(self, core: Core, disk: Disk, settings: Settings, shared: Shared) -> None:
        self.core = core
        self.disk = disk
        self.settings = settings
        self.note = shared.note
        self.texts = shared.texts
        self.outbox: list[Parcel] = []
        self.persists: list[Persist] = []
        self.batch: list[Entry] = []
        self.append_work: deque[Write] = deque()
        self.apply_work: deque[list[Entry]] = deque()
        self.held: deque[Proposal] = deque()
        self.unreachable: set[int] = set()
        self.compact_to = 0
        self.rid = 0
        self.known = (core.role, core.leader)
        self.known_hard = self.hard_state()
        self.known_last = core.log.last_index
        self.trace = [self.known_hard]
        self.shown = 1
        self.roles = {(core.role, core.term)}

    @property
    def id(self) -> int:
        return self.core.id

    def hard_state(self) -> HardState:
        return HardState(self.core.term, self.core.vote, self.core.log.commit)

    def configuration(self) -> Configuration:
        """Return the configuration as of what is applied: what the files speak of (rule R9)."""
        return self.core.history.at(self.core.log.applied)

    # -- events -----------------------------------------------------------------------------

    def step(self, event: Event) -> Update:
        return self.step_all([event])

    def step_all(self, events: Sequence[Event]) -> Update:
        update = self.core.step_all([*self._late(events), *events])
        received = [event.message for event in events if isinstance(event, Receive)]
        answered = {m.frm for m in received if isinstance(m, messages.HeartbeatResponse)}
        self._collect(update, answered)
        if self.core.role is not Role.LEADER:
            self.held.clear()
        for _ in range(len(self.held)):
            if self._offer(self.held[0]) is not None:
                break
            self.held.popleft()
        return update

    def _late(self, events: Sequence[Event]) -> list[Event]:
        """Return what the core is told only now, together with these events.

        Ours feels at once for a peer that is unreachable, and sees at once that one lacks what is
        compacted. The files' leader sees it when something is to be sent to that peer, or when it
        answers.
        """
        late: list[Event] = []
        received = [event.message for event in events if isinstance(event, Receive)]
        if self.unreachable:
            answered = {m.frm for m in received if isinstance(m, messages.HeartbeatResponse)}
            is_for_all = any(isinstance(event, Propose | ProposeConfigChange) for event in events)
            is_for_all = is_for_all or any(isinstance(m, messages.AppendResponse) for m in received)
            due = self.unreachable if is_for_all else self.unreachable & answered
            self.unreachable = self.unreachable - due
            late += [PeerUnreachable(peer) for peer in sorted(due)]
        if self.compact_to and (
            not self._lacking(self.compact_to)
            or any(m.frm in self._lacking(self.compact_to) for m in received)
        ):
            late.append(Compact(self.compact_to))
            self.compact_to = 0
        return late

    def _lacking(self, index: int) -> list[int]:
        """Return the peers that would at once be sent a snapshot if the log began after `index`."""
        streaming = ProgressState.REPLICATE
        progress = self.core.progress.items()
        return [peer for peer, p in progress if p.state is streaming and p.next <= index]

    def _is_idle(self, message: Message, answered: set[int]) -> bool:
        """Whether this is an empty append to a peer whose window is full.

        The files' leader sends one only when the peer answers a heartbeat. One that is refused
        would have the entries sent anew.
        """
        if not isinstance(message, messages.Append) or message.entries:
            return False
        options, progress = self.core.options, self.core.progress.get(message.to)
        limits = options.max_inflight_messages, options.max_inflight_bytes
        if progress is None or progress.is_window_open(*limits):
            return False
        if message.to in answered:
            answered.discard(message.to)
            return False
        progress.sent_commit = 0
        return True

    def _collect(self, update: Update, answered: set[int]) -> None:
        # The files' leader asks for an election after it has told what is committed.
        wanted = [m for m in update.messages if not self._is_idle(m, answered)]
        in_order = sorted(wanted, key=lambda m: isinstance(m, messages.TimeoutNow))
        self.outbox += map(parcel_of, in_order)
        if update.persist is not None:
            self.persists.append(update.persist)
        if update.apply:
            self.batch = update.apply
        for peer in update.snapshots_wanted:
            self.outbox.append(parcel_of(self.snapshot_for(peer)))
        if self.hard_state() != self.trace[-1]:
            self.trace.append(self.hard_state())
        self.roles.add((self.core.role, self.core.term))

    def snapshot_for(self, peer: int) -> messages.InstallSnapshot:
        """Return a snapshot of what is applied here."""
        meta = self.core.meta_at(self.core.log.applied)
        return messages.InstallSnapshot(self.id, peer, self.core.term, meta)

    def receive_all(self, parcels: Sequence[Parcel]) -> Iterator[str]:
        """Take in what has arrived together; say of each proposal that is dropped that it is.

        Acknowledgements are stepped together, as the driver does.
        """
        for is_joint, group in groupby(parcels, key=lambda p: p.kind == "MsgAppResp"):
            if is_joint:
                self.step_all([Receive(cast("Message", p.content)) for p in group])
                continue
            for parcel in group:
                answer = self.receive(parcel)
                if answer is not None:
                    yield answer

    def receive(self, parcel: Parcel) -> str | None:
        """Take in a parcel; return what the sender of a proposal would be told, if anything."""
        content = parcel.content
        if isinstance(content, Proposal):
            return self.propose(content)
        if not isinstance(content, Message):
            self.step(content)
            return None
        reason = self._unsaid(content)
        before = len(self.outbox), len(self.persists)
        self.step(Receive(content))
        if reason is not None:
            self._forget_answers(content.frm, before, reason)
        return None

    def _unsaid(self, message: Message) -> str | None:
        """Return why the files' nodes keep silent where ours answers this, if they do."""
        core = self.core
        kind = type(message)
        is_ahead = message.term > core.term
        if kind is messages.PreVoteRequest and is_ahead and election.is_in_lease(core):
            return REFUSED
        if message.term < core.term:
            if kind is messages.VoteRequest:
                return OLD_VOTE
            is_told = core.options.pre_vote or core.options.check_quorum
            is_told = is_told and kind is not messages.InstallSnapshot
            if kind in (messages.Append, messages.Heartbeat, messages.InstallSnapshot):
                return None if is_told else OLD_LEADER
        return None

    def _forget_answers(self, to: int, before: tuple[int, int], reason: str) -> None:
        said, written = before
        kept = [p for p in self.outbox[said:] if not (p.is_answer and p.to == to)]
        is_found = len(kept) < len(self.outbox) - said
        self.outbox[said:] = kept
        for persist in self.persists[written:]:
            then = [m for m in persist.then if not (isinstance(m, ANSWERS) and m.to == to)]
            is_found = is_found or len(then) < len(persist.then)
            persist.then[:] = then
        if is_found:
            self.note(reason)

    def tick(self, count: int) -> None:
        for _ in range(count):
            self.step(Tick())
            # A write waits until the file asks for it: that is no disk that hangs.
            self.core._oldest_since = self.core.ticks

    def campaign(self) -> None:
        """Let the election timeout pass, if this node may call an election at all.

        In the files it may not before it has applied every committed change of membership.
        """
        core = self.core
        log = core.log
        committed = log.entries[log.applied - log.snapshot_index : log.commit - log.snapshot_index]
        is_changing = any(entry.kind == EntryKind.CONFIG for entry in committed)
        if core.role is not Role.LEADER and core.is_promotable() and not is_changing:
            core.timeout = core.elapsed + 1
            self.step(Tick())

    # -- proposals --------------------------------------------------------------------------

    def propose(self, proposal: Proposal) -> str | None:
        """Offer a proposal to the core; return the word that it is dropped, if it is."""
        is_pending = any(held.changes is not None for held in self.held)
        if proposal.changes is not None and self._is_refused(proposal.changes, is_pending):
            proposal = Proposal('EntryNormal ""')
        if self.held:
            self.held.append(proposal)
            return None
        core = self.core
        if core.role is Role.FOLLOWER and core.leader:
            self.outbox.append(Parcel(self.id, core.leader, "MsgProp", proposal))
            return None
        is_removed = core.role is Role.LEADER and not core.config.is_voter(core.id)
        if is_removed and proposal.changes is None:
            self._let_in(proposal)
            return None
        reason = self._offer(proposal)
        if reason in (Reason.NOT_LEADER, Reason.TRANSFERRING):
            return DROPPED
        if reason is not None:
            self.held.append(proposal)
        return None

    def _is_refused(self, changes: tuple[ConfigChange, ...], is_pending: bool) -> bool:
        """Whether the files' leader would put an empty entry in the place of this change."""
        core = self.core
        if not self.settings.is_validating or core.role is not Role.LEADER:
            return False
        if is_pending or core.log.applied < core.history.index:
            return True
        return bool(core.config.outgoing) == bool(changes)

    def _let_in(self, proposal: Proposal) -> None:
        """Append a command that the core would keep for the next leader.

        Who may still propose is policy; what becomes of the entry is compared.
        """
        self.core.append_as_leader(EntryKind.COMMAND, [proposal.data])
        self.note(LET_IN)
        self.step(Applied(self.core.log.applied))

    def _offer(self, proposal: Proposal) -> Reason | None:
        """Return why the core does not take it now, if so."""
        self.rid += 1
        event: Event
        if proposal.changes is None:
            event = Propose([(self.rid, proposal.data)])
        else:
            event = ProposeConfigChange(self.rid, proposal.changes, proposal.transition)
        update = self.core.step_all([*self._late([event]), event])
        for _, term, index in update.appended:
            self.texts[term, index] = proposal.text
        self._collect(update, set())
        return update.rejected[0][1] if update.rejected else None

    def transfer(self, to: int) -> None:
        """Hand leadership over, or pass the wish on to who leads."""
        self.rid += 1
        core, event = self.core, TransferLeader(self.rid, to)
        if core.role is Role.FOLLOWER and core.leader:
            self.outbox.append(Parcel(self.id, core.leader, "MsgTransferLeader", event))
        else:
            self.step(event)

    def compact(self, index: int) -> None:
        """Drop the log on the disk up to an index, and tell the core, perhaps a little later."""
        term = self.core.log.term_at(index)
        if term is None or index <= self.disk.snapshot.index:
            return
        meta = SnapshotMeta(index, term, self.core.history.at(index))
        del self.disk.entries[: index - self.disk.snapshot.index]
        self.disk.snapshot = meta
        self.compact_to = index
        if not self._lacking(index):
            self.step_all(())

    # -- batches ----------------------------------------------------------------------------

    def has_ready(self) -> bool:
        core = self.core
        return bool(
            self.outbox
            or self.persists
            or self.batch
            or (core.role, core.leader) != self.known
            or self.hard_state() != self.known_hard
        )

    def ready(self) -> Ready:
        """Hand out what has become due, and carry it out or queue it."""
        core = self.core
        ready = Ready(leader=core.leader)
        if (core.role, core.leader) != self.known:
            self.known = core.role, core.leader
            ready.role = core.role
        self.shown = len(self.trace)
        is_hard_new = self.hard_state() != self.known_hard
        if is_hard_new:
            ready.hard_state = self.known_hard = self.hard_state()
        persists, self.persists = self.persists, []
        for persist in persists:
            is_synced = bool(persist.hard_state or persist.entries)
            ready.is_synced = ready.is_synced or is_synced
            if persist.snapshot is not None:
                ready.snapshot, ready.entries = persist.snapshot, []
            if persist.truncate_from is not None:
                cut = persist.truncate_from
                ready.entries = [e for e in ready.entries if e.index < cut]
            ready.entries += persist.entries
        self.known_last = core.log.last_index
        ready.committed, self.batch = self.batch, []
        gated = [parcel_of(m) for persist in persists for m in persist.then]
        ready.parcels, self.outbox = [*self.outbox, *gated], []
        if self.settings.is_async:
            self._queue(ready, persists, is_hard_new=is_hard_new)
        else:
            self._write(persists)
            if (
                not ready.committed
                and self.batch
                and self.batch[-1].index <= self.known_hard.commit
            ):
                # What was committed when it was written is applied with the same batch.
                ready.committed, self.batch = self.batch, []
            self._apply(ready.committed)
        return ready

    def _queue(self, ready: Ready, persists: list[Persist], *, is_hard_new: bool) -> None:
        answers = [p for p in ready.parcels if p.is_answer]
        ready.parcels = [p for p in ready.parcels if not p.is_answer]
        # The files' nodes vote for themselves through their disk, before a ballot, too.
        is_ballot = any(p.kind == "MsgPreVote" for p in ready.parcels)
        if persists or answers or is_hard_new or is_ballot:
            ready.write = Write(ready.hard_state, ready.entries, persists, answers)
            self.append_work.append(ready.write)
        if ready.committed:
            ready.batch = ready.committed
            self.apply_work.append(ready.batch)

    def _write(self, persists: list[Persist]) -> None:
        for persist in persists:
            self.disk.write(persist)
        if persists:
            self.step(Persisted(persists[-1].seq))

    def _apply(self, batch: list[Entry]) -> None:
        if batch:
            self.step(Applied(batch[-1].index))

    def append(self) -> list[Parcel]:
        """Do the oldest append work; return what it lets go, word to this node included."""
        work = self.append_work.popleft()
        for persist in work.persists:
            self.disk.write(persist)
        word = []
        if work.persists:
            event = Persisted(work.persists[-1].seq)
            word = [Parcel(self.id, self.id, "MsgStorageAppendResp", event)]
        return [*work.answers, *word]

    def apply(self) -> list[Parcel]:
        """Do the oldest apply work; return the word of it."""
        return [self.word_of(self.apply_work.popleft())]

    def word_of(self, batch: Sequence[Entry]) -> Parcel:
        """Return the word that a batch is applied."""
        event = Applied(batch[-1].index)
        return Parcel(self.id, self.id, "MsgStorageApplyResp", event, tuple(batch))


def make_node(
    number: int, options: Options, settings: Settings, start: SnapshotMeta, shared: Shared
) -> Node:
    """Return a node that has nothing but a snapshot, and has seen no term yet."""
    core = Core(number, options, Longest(), snapshot=start)
    # The files' nodes begin in term 0 with a snapshot of term 1. Ours would begin in that term.
    core.term = 0
    return Node(core, Disk(HardState(), start, ()), settings, shared)


def parcel_of(message: Message) -> Parcel:
    return Parcel(message.frm, message.to, KINDS[type(message)], message)
