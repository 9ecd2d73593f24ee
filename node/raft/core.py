"""The core: one node's share of Raft, as a state machine without clock, I/O or own randomness.

Theory of operation. The driver feeds events and carries out the `Update` that comes back. Events
that arrived together are fed together, and their effects are gathered once at the end: one write
for all of them, one append per peer. That is group commit. It is sound because the messages in
`then` leave after *all* of the write: to other nodes it looks as if the events had come one after
another and the answers had been a little slow.

Nothing counts before it is durable. A vote or an acknowledgement for another node travels in
`Persist.then`; the leader's own entries and the candidate's own vote count when `Persisted` comes
back. A leader's requests leave at once (thesis section 10.2.1), and so do pre-votes; a candidate's
vote requests wait, see `election.py`.

This module holds the state and the gathering. Messages from peers enter by the rule of terms
(`terms.py`); the behaviour of the roles is in `election.py`, `replication.py`, `reads.py`,
`reconfigure.py` and `transfer.py`.

Rule 1: no trio, sockets, files, clocks, global randomness or logging.
Rule 2: no iteration over a set decides anything that leaves the core.
Rule 3: no message raises, however late or malformed; a broken invariant does (`CoreBug`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from . import election, membership, reads, reconfigure, replication, terms, transfer
from .entry import Entry, EntryKind, HardState, SnapshotMeta
from .events import (
    Applied,
    Compact,
    DiskShort,
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
from .progress import Progress
from .roles import Role
from .update import Persist, Update

_CONFIG = int(EntryKind.CONFIG)

# Election timeouts that one write may take before the disk counts as stuck. A write that begins
# just after a tick is seen one tick late, so a leader whose flush hangs steps down within two.
_STUCK_TIMEOUTS = 1.5

# Election timeouts by which a node stands later whose disk is short of room. Until then a voter with
# room has asked twice at least: each of its own timeouts is less than two of them.
_SHORT_TIMEOUTS = 3


class Core:
    """One node's Raft.

    `step` is total: it never raises for anything a peer or a client can send. It raises `CoreBug`
    when an invariant is broken, after which the node must stop.

    Attributes:
        id: This node.
        term, vote: As in Figure 2; 0 is "no vote".
        role: See `Role`.
        leader: Id of the leader of `term` as far as known, 0 for none.
        gone: Id of the last leader while the link of *this* node to it is down, else 0. Its lease
            is then ignored, and a ballot does not wait for its vote.
        log: The log and its marks.
        history: The configurations of the log.
        progress: The leader's record of every other member, by id, in the order of ids.
        votes: Answers to the ballot of this node, by voter.
        own_vote_seq: Number of the write that makes the vote for itself durable, 0 for none.
        elapsed: Ticks since the leader was last heard (leader: since the last quorum check).
        leaderless: Ticks since this node last led or heard a leader. Unlike `elapsed`, no ballot
            begins it anew.
        refused_at: The highest `prev_index` of an append that this node has refused in this term.
        is_short: Whether its disk is short of room: it leaves the lead to others where it can.
        timeout: Ticks after which this node calls an election.
        round: Number of the last heartbeat broadcast of this term.
        uncommitted_bytes: Of the leader's entries that are not yet committed.
        unapplied_bytes: Of entries that were committed while it leads, and are not yet applied.
        transfer: The leadership transfer in progress at this leader, if any.
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
        """Start from what was durable (rule D19); without arguments, from an empty log.

        Args:
            recover_to: 0, or this node lost entries that it had acknowledged, up to this index. It
                then raises its term, so that no leader counts on its old acknowledgements, and
                neither votes nor stands for election before it again has the log up to there, or an
                entry of that term or later: nothing older can become committed behind that one. Its
                vote could else elect a leader without committed entries (PAR, FAST'18).

        Raises:
            CoreBug: The arguments do not fit together.
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
        self.elapsed = self.leaderless = 0
        self.refused_at = 0
        self.pre_votes_refused = 0
        self.is_short = False
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
        """Handle one event. See `Update` for what the caller must do with the result."""
        return self.step_all((event,))

    def step_all(self, events: Iterable[Event]) -> Update:
        """Handle events that arrived together, in order, as one group commit.

        Raises:
            CoreBug: An invariant is broken; this core must not be used any more.
        """
        update = self.update = Update()
        for event in events:
            _EVENTS[type(event)](self, event)
        self._gather()
        return update

    @property
    def config(self) -> Configuration:
        """The configuration in force: the newest in the log, committed or not (rule D9)."""
        # Section 6: "a server always uses the latest configuration in its log, regardless of
        # whether the entry is committed". etcd-raft differs: its configuration changes when the
        # entry is applied.
        return self.history.current

    @property
    def leader_gone(self) -> bool:
        """Whether the link to the leader that this node follows is down."""
        return self.gone != 0 and self.gone == self.leader

    @property
    def is_disk_stuck(self) -> bool:
        """Whether the oldest unfinished write has taken longer than `_STUCK_TIMEOUTS` allows."""
        waited = self.ticks - self._oldest_since
        return self._oldest_write != 0 and waited >= _STUCK_TIMEOUTS * self.options.election_ticks

    @property
    def is_recovering(self) -> bool:
        """Whether this node still lacks entries that it had acknowledged (`recover_to`)."""
        return self._recover_to > 0

    @property
    def awaits_persisted(self) -> bool:
        """Whether something follows from the next `Persisted` here, so that it cannot wait.

        A leader counts its own entries by it, a candidate its own vote, and any node applies what is
        committed already. At a follower mostly nothing does: `Persisted` may come with its next event.
        """
        return self.role is not Role.FOLLOWER or self.log.commit > self.log.handed_out

    def leader_hint(self) -> str:
        """Return the id of the leader as 16 hex digits; empty if this node knows none."""
        return f"{self.leader:016x}" if self.leader else ""

    def is_promotable(self) -> bool:
        """Whether this node may call an election.

        A voter may; so may a node that only an uncommitted change takes out of the voters, for it
        may be the only one with a log that can win (thesis section 4.2.2). A node whose disk is
        stuck may not, since it could not make its own vote durable; nor one that is recovering.
        """
        if self.is_disk_stuck or self.is_recovering:
            return False
        if self.config.is_voter(self.id):
            return True
        pending = self.history.index > self.log.commit
        return pending and self.history.at(self.history.index - 1).is_voter(self.id)

    def may_stand(self) -> bool:
        """Whether this node may call an election now.

        One whose disk is short waits, so that a voter with room wins first: as a leader it would
        refuse every write. It does not wait for ever, for perhaps no voter with room can win, and
        then nobody would answer reads or take the deletions that give room back.
        """
        patience = _SHORT_TIMEOUTS * self.options.election_ticks + self.timeout
        if self.is_short and self.leaderless < patience:
            return False
        return self.is_promotable()

    def learners_caught_up(self) -> list[int]:
        """Return the learners that could become voters now (thesis section 4.2.1)."""
        if self.role is not Role.LEADER or not reconfigure.is_settled(self):
            return []
        return [n for n in self.config.learners if reconfigure.is_caught_up(self, n)]

    def meta_at(self, index: int) -> SnapshotMeta:
        """Describe a snapshot at `index`, which must be applied and not compacted."""
        return SnapshotMeta(index, self.log.term_at(index) or 0, self.history.at(index))

    # -- used by the role modules -----------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send at once: for requests."""
        self.update.messages.append(message)

    def send_durably(self, message: Message) -> None:
        """Send once everything that stands now is durable: for answers and votes (rule D1)."""
        # The same split as in etcd-raft's raft.go `send`: MsgAppResp, MsgVoteResp and
        # MsgPreVoteResp go to `msgsAfterAppend`. Rejections wait as well, because they show a term
        # that must be durable.
        self.gated.append(message)

    def randomize_timeout(self) -> None:
        """Draw a new election timeout, in ticks: see `Options.election_ticks` and `election_jitter`.

        Out of two values at least: voters whose timeouts are always equal ask at the same time
        again and again, and split the vote each time.
        """
        # Section 5.2: "Raft uses randomized election timeouts to ensure that split votes are rare
        # and that they are resolved quickly."
        ticks, jitter = self.options.election_ticks, self.options.election_jitter
        self.timeout = ticks + self.rng.randrange(max(int(ticks * jitter), 2))

    def become_follower(self, term: int, leader: int) -> None:
        """Follow `leader` (0: not known yet) in `term`, which is not below the present one."""
        was = self.role
        # The vote is forgotten only together with its term. To forget it within a term would let
        # this node vote twice (hazelcast#16643, redpanda#19).
        if term != self.term:
            self.term, self.vote = term, 0
            self.refused_at = 0
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
        # Leader Append-Only (Figure 3): "a leader never overwrites or deletes entries in its log;
        # it only appends new entries."
        first = self.log.last_index + 1
        term = self.term
        entries = [Entry(index, term, kind, data) for index, data in enumerate(payloads, first)]
        self.append(entries)
        self.uncommitted_bytes += self.log.size_between(first - 1, self.log.last_index)
        return first

    def restore(self, meta: SnapshotMeta) -> None:
        """Replace log and configuration by those of a snapshot (rules D9, D11)."""
        self.log.restore(meta)
        # The configuration comes from the snapshot and nothing else: one that survived an install
        # from the old log gave openraft two disjoint quorums (openraft#1808).
        self.history = ConfigHistory(meta.index, meta.config)
        self._restored = meta

    # -- gathering --------------------------------------------------------------------------

    def _gather(self) -> None:
        if self.role is Role.LEADER:
            # The order matters: what these append and commit must be in the appends; a transfer
            # asks its target only behind the appends of the same step; and a removed leader still
            # sends them.
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
            # Everything that these messages promise is durable already.
            self.update.messages.extend(gated)
            gated.clear()
            return
        self._seq += 1
        truncated, entries = log.take_unsaved(self._seq)
        saved: HardState | None = None
        # Rule D5: the commit index alone is no reason to write. When it is written, `log.commit` is
        # at most the last entry of this same write (rule D6).
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
        """Count one heartbeat interval, and do what is due with it."""
        self.ticks += 1
        self.elapsed += 1
        self.leaderless = 0 if self.role is Role.LEADER else self.leaderless + 1
        oldest = self.log.oldest_write()
        if oldest != self._oldest_write:
            self._oldest_write, self._oldest_since = oldest, self.ticks
        if self.role is Role.LEADER:
            election.tick_leader(self)
            transfer.tick(self)
        else:
            election.tick_follower(self)
        reads.expire_forwarded(self)

    def on_disk_short(self, event: DiskShort) -> None:
        """Note whether the disk is short of room: see `may_stand` and `transfer.on_timeout_now`."""
        self.is_short = event.is_short

    def on_persisted(self, event: Persisted) -> None:
        """Count what is durable now: the own entries, or the own vote."""
        self.log.persisted_to(event.seq)
        last = self.log.persisted
        # See `recover_to`: the lost entries are here again, or an entry of a later leader is.
        if last >= self._recover_to or (self.log.term_at(last) or 0) >= self._recover_term:
            self._recover_to = 0
        if self.role is Role.LEADER:
            replication.advance_commit(self)
        elif self.own_vote_seq and event.seq >= self.own_vote_seq:
            self.own_vote_seq = 0
            election.record_vote(self, self.id, granted=True)

    def on_applied(self, event: Applied) -> None:
        """Record how far the state machine is."""
        before = self.log.applied
        self.log.applied_to(event.index)
        if self.role is Role.LEADER:
            self.unapplied_bytes -= self.log.size_between(before, event.index)

    def on_compact(self, event: Compact) -> None:
        """Drop the log up to an index, unless a snapshot has replaced it already."""
        if event.index > self.log.snapshot_index:
            index, term = self.log.compact(event.index)
            self.history.compact(index)
            self.update.compact = SnapshotMeta(index, term, self.history.at(index))


_Handler = Callable[[Core, Any], None]

_EVENTS: dict[type, _Handler] = {
    Tick: Core.on_tick,
    Receive: terms.on_receive,
    Propose: replication.propose,
    ProposeConfigChange: reconfigure.propose_change,
    TransferLeader: transfer.start,
    ReadIndex: reads.read_index,
    Persisted: Core.on_persisted,
    Applied: Core.on_applied,
    Compact: Core.on_compact,
    PeerUnreachable: replication.on_peer_unreachable,
    PeerDown: election.on_peer_down,
    EarlyElection: election.on_early_election,
    SnapshotSent: replication.snapshot_sent,
    TellCommit: replication.tell_commit,
    DiskShort: Core.on_disk_short,
}
