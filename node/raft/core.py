"""The core: one node's share of Raft, as a state machine without clock, I/O or chance of its own.

Theory of operation. The driver feeds events and carries out the `Update` that comes back. Events
that arrive together are fed together, and what they want is gathered once at the end: one write
for all, one append per peer for all. That is the group commit. It is sound because what leaves
after the write (`then`) leaves after *all* of the write, so the outside sees a run in which the
events came one after another and the answers were a little late.

Nothing counts before it is durable: an acknowledgement or a vote given to another node travels in
`Persist.then`; the leader's own entries and the candidate's own vote count when `Persisted` comes
back. A leader's requests go out at once (thesis, section 10.2.1), and so do pre-votes; a candidate's
wait like answers, see `election.py`.

This module holds the state, the term rule and the gathering. What each role does stands beside it:
`election.py`, `replication.py`, `reads.py`, `reconfigure.py`, `transfer.py`, as functions of a core.

Rule: no trio, no sockets, no files, no clocks, no global randomness, no logging, and no iteration
over a set that reaches the outside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from . import election, membership, messages, reads, reconfigure, replication, transfer
from .entry import Entry, EntryKind, HardState, SnapshotMeta
from .events import (
    Applied,
    Compact,
    EarlyElection,
    Event,
    PeerDown,
    PeerUnreachable,
    Persisted,
    Propose,
    ProposeConfigChange,
    ReadIndex,
    Receive,
    SnapshotSent,
    TellCommit,
    Tick,
    TransferLeader,
)
from .log import RaftLog
from .membership import ConfigHistory, Configuration
from .messages import Message
from .options import Options
from .progress import Progress, ProgressState
from .roles import Role
from .update import Persist, Update

_CONFIG = int(EntryKind.CONFIG)

_STUCK_TIMEOUTS = 1.5
"""Election timeouts that one write may take before the disk counts as stuck.

A write that begins just after a tick is noticed a tick late: so a leader whose flush hangs is none
any more within two.
"""


class Core:
    """One node's Raft.

    `step` is total: it never raises for anything a peer or a client can send. It raises `CoreBug`
    when an invariant is broken, after which the node must stop.

    Attributes:
        id: This node.
        term, vote: As in Figure 2; 0 is "no vote".
        role: See `Role`.
        leader: Id of the leader of `term` as far as known, 0 for none.
        gone: Id of the last leader while the link of *this* node to it is down, else 0: its
            lease is waived, and its vote is not waited for.
        log: The log and its marks.
        history: The configurations of the log.
        progress: The leader's view of every other member, by id, in the order of ids.
        votes: Answers to the ballot under way, by voter.
        own_vote_seq: Number of the write that makes the vote for itself durable, 0 for none.
        elapsed: Ticks since the last sign of the leader (leader: since the last quorum check).
        timeout: Ticks after which this node calls an election.
        round: Number of the last heartbeat broadcast of this term.
        uncommitted_bytes: Of the leader's entries that are not yet committed.
        unapplied_bytes: Of entries that were committed while it leads, and are not yet applied.
        transfer: The leadership transfer under way at this leader, if any.
    """

    def __init__(
        self,
        node_id: int,
        options: Options,
        rng: Random,
        *,
        hard_state: HardState | None = None,
        snapshot: SnapshotMeta | None = None,
        entries: Sequence[Entry] = (),
        applied: int = 0,
        recover_to: int = 0,
    ) -> None:
        """Start from what was durable (rule D19): without arguments, from nothing.

        Args:
            recover_to: This node has lost entries that it had acknowledged, up to this index; 0:
                none. It begins a term of its own, so that no leader goes on counting on them, and
                neither votes nor stands until it has the log of a later leader up to there, or an
                entry of that leader's own, behind which nothing older can be committed: its vote
                could elect one that lacks what is committed (the rule of PAR, FAST'18).

        Raises:
            CoreBug: What is given does not fit together.
        """
        hard_state = hard_state or HardState()
        snapshot = snapshot or SnapshotMeta()
        self.id = node_id
        self.options = options
        self.rng = rng
        self.term = max(hard_state.term, snapshot.term)
        self.vote = hard_state.vote if self.term == hard_state.term else 0
        self.log = RaftLog(snapshot, entries, max(applied, snapshot.index))
        self.log.commit_to(min(hard_state.commit, self.log.last_index))
        self.history = ConfigHistory(snapshot.index, snapshot.config)
        for entry in entries:
            if entry.kind == EntryKind.CONFIG:
                self.history.push(entry.index, membership.decode(entry.data))
        self._recover_to = recover_to
        if recover_to:
            self.term, self.vote = self.term + 1, 0
        self._recover_term = self.term
        self.role = Role.FOLLOWER
        self.leader = 0
        self.gone = 0
        self.early_token = self.early_attempts = 0
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}
        self.elapsed = 0
        self.timeout = 0
        self.randomize_timeout()
        self.round = 0
        self.noop_index = 0
        self.uncommitted_bytes = self.unapplied_bytes = 0
        self.transfer: transfer.Transfer | None = None
        self.waiting_reads: deque[tuple[int, int]] = deque()
        self.pending_reads: deque[reads.PendingRead] = deque()
        self.forwarded_reads: dict[int, int] = {}
        self.ticks = 0
        self.update = Update()
        self.gated: list[Message] = []
        self._seq = 0
        self._saved = (hard_state.term, hard_state.vote)
        self._restored: SnapshotMeta | None = None
        self._oldest_write = self._oldest_since = 0
        self.own_vote_seq = 0

    # -- the interface ----------------------------------------------------------------------

    def step(self, event: Event) -> Update:
        """Handle one event. See `Update` for what the caller owes."""
        return self.step_all((event,))

    def step_all(self, events: Iterable[Event]) -> Update:
        """Handle events that arrived together, in order, as one group commit.

        Raises:
            CoreBug: An invariant is broken; nothing of this core may be used any more.
        """
        update = self.update = Update()
        for event in events:
            _EVENTS[type(event)](self, event)
        self._gather()
        return update

    @property
    def config(self) -> Configuration:
        """The configuration in force: the newest in the log, committed or not (rule D9)."""
        return self.history.current

    @property
    def leader_gone(self) -> bool:
        """Whether the link to the leader that this node follows is down."""
        return self.gone != 0 and self.gone == self.leader

    @property
    def is_disk_stuck(self) -> bool:
        """Whether one write has been on its way to the disk for ever so long, as of this tick."""
        waited = self.ticks - self._oldest_since
        return self._oldest_write != 0 and waited >= _STUCK_TIMEOUTS * self.options.election_ticks

    @property
    def is_recovering(self) -> bool:
        """Whether this node has lost acknowledged log, and has not got it again (`recover_to`)."""
        return self._recover_to > 0

    def leader_hint(self) -> str:
        """Return who leads as far as this node knows, as 16 hex digits; empty for nobody."""
        return f"{self.leader:016x}" if self.leader else ""

    def is_promotable(self) -> bool:
        """Whether this node may call an election.

        Also when only a change that is not yet committed takes its vote away: it may be the one
        whose log the others need, and then nobody else can win (thesis section 4.2.2). Not while
        its disk is stuck: it could not even vote for itself. Nor while it is recovering.
        """
        if self.is_disk_stuck or self.is_recovering:
            return False
        if self.config.is_voter(self.id):
            return True
        pending = self.history.index > self.log.commit
        return pending and self.history.at(self.history.index - 1).is_voter(self.id)

    def learners_caught_up(self) -> list[int]:
        """Return the learners that could become voters now (thesis section 4.2.1)."""
        if self.role is not Role.LEADER or not reconfigure.is_settled(self):
            return []
        return [n for n in self.config.learners if reconfigure.is_caught_up(self, n)]

    def meta_at(self, index: int) -> SnapshotMeta:
        """Return what a snapshot at `index` says of itself; `index` is applied, not compacted."""
        return SnapshotMeta(index, self.log.term_at(index) or 0, self.history.at(index))

    # -- used by the role modules -----------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send at once: for requests."""
        self.update.messages.append(message)

    def send_durably(self, message: Message) -> None:
        """Send once all that stands now is durable: for acknowledgements and votes (rule D1)."""
        self.gated.append(message)

    def randomize_timeout(self) -> None:
        """Draw a new election timeout in [T, 2T) ticks (section 5.2), or less (`Options`).

        Always out of two at least: voters whose timeouts are always equal ask at the same time
        again and again, and split the vote each time.
        """
        ticks, jitter = self.options.election_ticks, self.options.election_jitter
        self.timeout = ticks + self.rng.randrange(max(int(ticks * jitter), 2))

    def become_follower(self, term: int, leader: int) -> None:
        """Follow `leader` (0: whoever it will be) in `term`, which is not below the present one.

        The vote is forgotten only with its term: erasing it within one would let this node vote
        twice (hazelcast#16643, redpanda#19).
        """
        was = self.role
        if term != self.term:
            self.term, self.vote = term, 0
        if was is Role.LEADER:
            reads.fail_pending(self)
            transfer.finish(self)
        reads.fail_forwarded(self)
        self.role = Role.FOLLOWER
        self.leader = leader
        self.progress = {}
        self.votes = {}
        self.own_vote_seq = 0
        self.elapsed = 0
        self.randomize_timeout()
        if leader:
            self.gone = 0
        elif self.gone and was in (Role.PRE_CANDIDATE, Role.CANDIDATE):
            election.schedule_early(self)

    def append(self, entries: Sequence[Entry]) -> None:
        """Append to the log, and put configurations among the entries into force (rule D9)."""
        self.log.append(entries)
        for entry in entries:
            if entry.kind == _CONFIG:
                self.history.push(entry.index, membership.decode(entry.data))
                reconfigure.follow_configuration(self)

    def append_as_leader(self, kind: EntryKind, payloads: Sequence[bytes]) -> int:
        """Append new entries of this leader's term; return the first one's index."""
        first = self.log.last_index + 1
        term = self.term
        entries = [Entry(index, term, kind, data) for index, data in enumerate(payloads, first)]
        self.append(entries)
        self.uncommitted_bytes += self.log.size_between(first - 1, self.log.last_index)
        return first

    def restore(self, meta: SnapshotMeta) -> None:
        """Replace log and configuration by those of a snapshot (rules D9, D11)."""
        self.log.restore(meta)
        self.history = ConfigHistory(meta.index, meta.config)
        self._restored = meta

    # -- gathering --------------------------------------------------------------------------

    def _gather(self) -> None:
        if self.role is Role.LEADER:
            reconfigure.leave_if_due(self)
            reads.broadcast_if_wanted(self)
            replication.send_appends(self)
            transfer.ask_if_ready(self)
            reconfigure.step_down_if_removed(self)
        self._gather_persist()
        self.update.apply = self.log.take_committed(self.options.max_apply_bytes)

    def _gather_persist(self) -> None:
        log, gated = self.log, self.gated
        hard_state = (self.term, self.vote)
        is_new = (
            log.unsaved <= log.last_index
            or hard_state != self._saved
            or self._restored is not None
            or log.truncated is not None
        )
        if not is_new and not (gated and log.is_write_pending()):
            # Everything these messages vouch for is durable already.
            self.update.messages.extend(gated)
            gated.clear()
            return
        self._seq += 1
        truncated, entries = log.take_unsaved(self._seq)
        saved: HardState | None = None
        if hard_state != self._saved or self._restored is not None:
            self._saved = hard_state
            saved = HardState(self.term, self.vote, log.commit)
            if self.role is Role.CANDIDATE:
                self.own_vote_seq = self._seq
        self.update.persist = Persist(
            self._seq, saved, self._restored, truncated, entries, self.gated
        )
        self._restored = None
        self.gated = []

    # -- events -----------------------------------------------------------------------------

    def on_tick(self, _event: Tick) -> None:
        """Let a heartbeat interval pass."""
        self.ticks += 1
        self.elapsed += 1
        oldest = self.log.oldest_write()
        if oldest != self._oldest_write:
            self._oldest_write, self._oldest_since = oldest, self.ticks
        if self.role is Role.LEADER:
            election.tick_leader(self)
            transfer.tick(self)
        else:
            election.tick_follower(self)
        reads.expire_forwarded(self)

    def on_receive(self, event: Receive) -> None:
        """Compare terms first (section 5.1), then let the message's own handler have it."""
        message = event.message
        kind = type(message)
        if message.frm == self.gone:
            # It is back, and perhaps nobody can be elected without its vote.
            self.gone = 0
        if message.term > self.term:
            if (
                isinstance(message, messages.VoteRequest)
                and not message.transfer
                and election.is_in_lease(self)
            ):
                # Section 6: a server that hears a current leader neither grants the vote nor
                # takes over the term. Unless that leader wishes it (thesis 3.10).
                return
            if kind is messages.PreVoteRequest or (
                isinstance(message, messages.PreVoteResponse) and message.granted
            ):
                pass
            else:
                self.become_follower(message.term, message.frm if kind in _OF_LEADERS else 0)
        elif message.term < self.term:
            self._answer_stale(message)
            return
        _MESSAGES[kind](self, message)

    def _answer_stale(self, message: Message) -> None:
        """Tell a sender of an older term about the newer one, where silence would strand it.

        With PreVote and CheckQuorum a leader may be deaf to this node's ballots while this node
        is deaf to the leader's appends (R4a); and a pre-candidate behind in term would ask in vain
        for ever (R4b, canonical/raft#280). All answers wait until the term they show is durable.
        """
        kind, to = type(message), message.frm
        if kind is messages.InstallSnapshot:
            self.update.snapshot_refused = True
        if kind in _OF_LEADERS:
            self.send_durably(messages.AppendResponse(self.id, to, self.term, 0, rejected=True))
        elif kind is messages.PreVoteRequest:
            self.send_durably(messages.PreVoteResponse(self.id, to, self.term, granted=False))
        elif kind is messages.VoteRequest:
            self.send_durably(messages.VoteResponse(self.id, to, self.term, granted=False))

    def on_persisted(self, event: Persisted) -> None:
        """Count what is durable now: own entries, or the own vote."""
        self.log.persisted_to(event.seq)
        last = self.log.persisted
        if last >= self._recover_to or (self.log.term_at(last) or 0) >= self._recover_term:
            self._recover_to = 0
        if self.role is Role.LEADER:
            replication.advance_commit(self)
        elif self.own_vote_seq and event.seq >= self.own_vote_seq:
            self.own_vote_seq = 0
            election.record_vote(self, self.id, granted=True)

    def on_applied(self, event: Applied) -> None:
        """Take note of how far the state machine is."""
        before = self.log.applied
        self.log.applied_to(event.index)
        if self.role is Role.LEADER:
            self.unapplied_bytes -= self.log.size_between(before, event.index)

    def on_compact(self, event: Compact) -> None:
        """Drop the log up to an index, unless a snapshot has already."""
        if event.index > self.log.snapshot_index:
            index, term = self.log.compact(event.index)
            self.history.compact(index)
            self.update.compact = SnapshotMeta(index, term, self.history.at(index))

    def on_peer_unreachable(self, event: PeerUnreachable) -> None:
        """Feel for a peer again: what was in flight may be lost."""
        progress = self.progress.get(event.peer)
        if progress is not None and progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        if event.peer == self.leader:
            reads.fail_forwarded(self)

    def on_peer_down(self, event: PeerDown) -> None:
        """Waive the lease of a leader whose port is dead, and think of an election."""
        self.on_peer_unreachable(PeerUnreachable(event.peer))
        if event.peer == self.leader:
            self.gone = event.peer
            self.early_attempts = 0
            election.schedule_early(self)

    def on_early_election(self, event: EarlyElection) -> None:
        """Call the election that was put off by a short random time."""
        if event.token == self.early_token and self.gone and self.role is Role.FOLLOWER:
            election.campaign(self)


_Handler = Callable[[Core, Any], None]

_OF_LEADERS = frozenset((messages.Append, messages.Heartbeat, messages.InstallSnapshot))

_EVENTS: dict[type, _Handler] = {
    Tick: Core.on_tick,
    Receive: Core.on_receive,
    Propose: replication.propose,
    ProposeConfigChange: reconfigure.propose_change,
    TransferLeader: transfer.start,
    ReadIndex: reads.read_index,
    Persisted: Core.on_persisted,
    Applied: Core.on_applied,
    Compact: Core.on_compact,
    PeerUnreachable: Core.on_peer_unreachable,
    PeerDown: Core.on_peer_down,
    EarlyElection: Core.on_early_election,
    SnapshotSent: replication.snapshot_sent,
    TellCommit: replication.tell_commit,
}

_MESSAGES: dict[type, _Handler] = {
    messages.PreVoteRequest: election.on_pre_vote_request,
    messages.PreVoteResponse: election.on_pre_vote_response,
    messages.VoteRequest: election.on_vote_request,
    messages.VoteResponse: election.on_vote_response,
    messages.Append: replication.on_append,
    messages.AppendResponse: replication.on_append_response,
    messages.Heartbeat: replication.on_heartbeat,
    messages.HeartbeatResponse: replication.on_heartbeat_response,
    messages.InstallSnapshot: replication.on_install_snapshot,
    messages.ReadIndexRequest: reads.on_read_index_request,
    messages.ReadIndexResponse: reads.on_read_index_response,
    messages.TimeoutNow: transfer.on_timeout_now,
}
