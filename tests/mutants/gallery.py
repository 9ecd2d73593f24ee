"""The gallery: mistakes that others have made before; those in the core are here.

The numbers are those of the list of real bugs that the project keeps its tests against; each is
explained in one line here, and by what `python -m tests.sim --replay` shows of its failure.
"""

from __future__ import annotations

from .catalog import CATALOG
from .driver import DRIVER
from .figures import FIGURES
from .locks import LOCKS
from .mutant import Mutant
from .own import BY_TEST, OWN, RARE
from .quiet import QUIET
from .services import SERVICES
from .storage import STORAGE

_CORE = "node/raft/core.py"
_TERMS = "node/raft/terms.py"
_ELECTION = "node/raft/election.py"
_LOG = "node/raft/log.py"
_MEMBERSHIP = "node/raft/membership.py"
_PROGRESS = "node/raft/progress.py"
_QUORUM = "node/raft/quorum.py"
_READS = "node/raft/reads.py"
_RECONFIGURE = "node/raft/reconfigure.py"
_REPLICATION = "node/raft/replication.py"
_TRANSFER = "node/raft/transfer.py"


def _mutant(name: str, bugs: tuple[int, ...], about: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, bugs, about, ((file, old, new),))


_DURABILITY = (
    _mutant(
        "answers-leave-before-the-flush", (5, 44), "Votes and acknowledgements do not wait.",
        _CORE, "self.gated.append(message)", "self.update.messages.append(message)",
    ),
    _mutant(
        "leader-counts-itself-before-its-flush", (4, 5), "Its own match is the end of its log.",
        _REPLICATION, "return log.persisted", "return log.last_index",
    ),
    _mutant(
        "applied-before-it-is-durable-here", (4, 14), "A cluster of one acknowledges, then forgets.",
        _LOG, "high = min(self.commit, self.persisted)", "high = self.commit",
    ),
    _mutant(
        "vote-is-not-written", (44, 17), "Only a new term makes the hard state worth a write.",
        _CORE, "if hard_state != self._saved or self._restored is not None:\n            self._saved",
        "if self.term != self._saved[0] or self._restored is not None:\n            self._saved",
    ),
    _mutant(
        "vote-is-lost-by-a-restart", (44, 51), "A node starts with its term, but without its vote.",
        _CORE, "self.vote = hard_state.vote if self.term == hard_state.term else 0", "self.vote = 0",
    ),
    _mutant(
        "term-is-taken-from-the-log-at-start", (45,), "What the hard state says is not looked at.",
        _CORE, "self.term = max(hard_state.term, snapshot.term)",
        "self.term = entries[-1].term if entries else snapshot.term",
    ),
    _mutant(
        "newcomer-does-not-write-its-vote", (67,), "No hard state before the first entry.",
        _CORE, "or hard_state != self._saved\n            or self._restored",
        "or (hard_state != self._saved and log.last_index > 0)\n            or self._restored",
    ),
    _mutant(
        "rewritten-entry-counts-as-durable", (65,), "The flush of what was cut off vouches for more.",
        _LOG, "write[1] = min(write[1], self.last_index)", "pass",
    ),
    _mutant(
        "truncation-is-not-written", (56, 71), "The disk keeps what the log has cut off.",
        _LOG, "return truncated, entries", "return None, entries",
    ),
    _mutant(
        "snapshot-counts-before-it-is-stored", (57, 13), "Its entries are durable once restored.",
        _LOG, "self.persisted = 0\n", "self.persisted = meta.index\n",
    ),
    _mutant(
        "own-vote-counts-before-it-is-durable",
        (44, 55),
        "A cluster of one leads a term that it may forget.",
        _ELECTION,
        "*last, is_transfer))\n",
        "*last, is_transfer))\n    record_vote(core, core.id, granted=True)\n",
    ),
    _mutant(
        "flush-of-an-older-vote-counts", (65, 55), "A late flush stands for the newer vote.",
        _ELECTION, "    core.own_vote_seq = 0\n    core.elapsed = 0", "    core.elapsed = 0",
    ),
    _mutant(
        "candidate-asks-before-its-term-is-durable", (44, 45), "Vote requests leave at once.",
        _ELECTION, "core.send_durably(VoteRequest(", "core.send(VoteRequest(",
    ),
)  # fmt: skip

_ELECTIONS = (
    _mutant(
        "vote-is-erased-on-step-down", (68, 51, 35), "Also within its term.",
        _CORE, "            self.term, self.vote = term, 0\n            self.refused_at = 0\n",
        "            self.refused_at = 0\n        self.term, self.vote = term, 0\n",
    ),
    _mutant(
        "votes-for-everybody", (55, 35), "Whoever asks gets the vote.",
        _ELECTION, "is_free = core.vote == message.frm or (core.vote == 0 and core.leader == 0)",
        "is_free = True",
    ),
    _mutant(
        "votes-for-any-log", (32, 37, 45), "The logs are not compared.",
        _LOG, "return (last_term, last_index) >= (self.last_term, self.last_index)", "return True",
    ),
    _mutant(
        "longer-log-wins-whatever-its-term", (32, 70), "Only the lengths are compared.",
        _LOG, "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return last_index >= self.last_index",
    ),
    _mutant(
        "refusal-counts-as-a-vote", (63,), "Any answer is a grant.",
        _ELECTION, "if core.role is Role.CANDIDATE:\n        record_vote(core, message.frm, granted="
        "message.granted)",
        "if core.role is Role.CANDIDATE:\n        record_vote(core, message.frm, granted=True)",
    ),
    _mutant(
        "pre-votes-count-as-votes", (39, 52), "The ballot of the term begins with their answers.",
        _ELECTION, "core.votes = _opening_votes(core)\n    # The flush",
        "core.votes.pop(core.id, None)\n    # The flush",
    ),
    _mutant(
        "votes-of-older-terms-count", (39, 63), "A late answer helps a later candidacy.",
        _TERMS, "elif message.term < core.term:",
        "elif message.term < core.term and kind is not messages.VoteResponse:",
    ),
    _mutant(
        "pre-vote-raises-the-term", (52, 29), "Whoever is asked takes over the term asked about.",
        _TERMS, "if kind is messages.PreVoteRequest or (", "if (",
    ),
    _mutant(
        "no-pre-vote", (29,), "Elections begin without asking whether they make sense.",
        _ELECTION, "if not core.options.pre_vote:", "if core.options.pre_vote or True:",
    ),
    _mutant(
        "no-lease", (29, 26), "Voters depose a leader that they hear.",
        _ELECTION, "core.options.check_quorum\n        and core.leader != 0",
        "core.options.check_quorum\n        and core.leader < 0",
    ),
    _mutant(
        "old-leader-is-not-told", (6,), "An older term gets no answer.",
        _TERMS, "if kind in _OF_LEADERS:\n        core.send_durably(",
        "if kind in _OF_LEADERS and core.role.value == 'leader':\n        core.send_durably(",
    ),
    _mutant(
        "learner-refuses-its-vote", (12,), "It may be a voter in the newer configuration.",
        _ELECTION, "        is_free\n        and not",
        "        is_free and core.config.is_voter(core.id)\n        and not",
    ),
    _mutant(
        "heartbeat-of-an-older-term-is-taken", (24,), "It goes past the comparison of terms.",
        _TERMS, "elif message.term < core.term:",
        "elif message.term < core.term and kind is not messages.Heartbeat:",
    ),
    _mutant(
        "stuck-disk-goes-on-leading", (23,), "Nobody looks how long a write takes.",
        _CORE, "return self._oldest_write != 0 and waited >=", "return False and waited >=",
    ),
)  # fmt: skip

_REPLICATIONS = (
    _mutant(
        "older-term-is-committed-by-counting", (70,), "Figure 8.",
        _REPLICATION, "if index <= log.commit or log.term_at(index) != core.term:",
        "if index <= log.commit:",
    ),
    _mutant(
        "even-quorums-are-a-half", (31,), "Of four, two suffice.",
        _QUORUM, "return indexes[count - (count // 2 + 1)]", "return indexes[count // 2]",
    ),
    _mutant(
        "heartbeat-commits-what-is-not-verified", (64,), "It carries the leader's commit index.",
        _REPLICATION, "commit = min(progress.match, core.log.commit)", "commit = core.log.commit",
    ),
    _mutant(
        "late-append-is-acknowledged-to-the-end", (64, 63), "The answer vouches for the whole log.",
        _REPLICATION, "log has everything that is committed here.\n"
        "        if not message.is_news:\n            _accept(core, message.frm, log.commit)",
        "log has everything that is committed here.\n"
        "        if not message.is_news:\n            _accept(core, message.frm, log.last_index)",
    ),
    _mutant(
        "previous-term-is-not-compared", (41, 64), "Only the index of the entry before is.",
        _REPLICATION, "if log.term_at(prev) != message.prev_term:", "if log.term_at(prev) is None:",
    ),
    _mutant(
        "every-append-cuts-the-log-off", (51,), "Also one that is late and says nothing new.",
        _REPLICATION, "    for position, entry in enumerate(entries):\n"
        "        if log.term_at(entry.index) != entry.term:\n            return entries[position:]\n"
        "    return []",
        "    return entries",
    ),
    _mutant(
        "only-the-first-entry-is-compared", (51, 71), "If it is known, all are.",
        _REPLICATION, "in enumerate(entries):", "in enumerate(entries[:1]):",
    ),
    _mutant(
        "cut-off-entries-stay-in-memory", (71,), "Truncation forgets to delete.",
        _LOG, "del self.entries[cut:]", "self.entries[cut:]",
    ),
    _mutant(
        "match-goes-back", (47,), "An older acknowledgement counts as the newest.",
        _PROGRESS, "if index <= self.match:\n            return False",
        "if index == self.match:\n            return False",
    ),
    _mutant(
        "commit-goes-back", (47,), "A late message says the last word.",
        _LOG, "self.commit = max(self.commit, index)", "self.commit = index",
    ),
    _mutant(
        "acknowledgements-of-older-terms-count", (63,), "Since then the log may have been cut off.",
        _TERMS, "elif message.term < core.term:",
        "elif message.term < core.term and kind is not messages.AppendResponse:",
    ),
    _mutant(
        "new-peers-are-believed-to-match", (59, 47), "Before they have answered anything.",
        _PROGRESS, "self.match = 0\n", "self.match = next_index - 1\n",
    ),
    _mutant(
        "full-window-is-never-felt-for", (10,), "Lost answers stop replication for ever.",
        _REPLICATION, "elif progress.state is ProgressState.REPLICATE and progress.match < "
        "core.log.last_index:",
        "elif progress.state is None and progress.match < core.log.last_index:",
    ),
    _mutant(
        "window-is-never-freed", (10,), "Acknowledged messages stay in flight.",
        _PROGRESS, "self.inflight_bytes -= self._inflight.popleft()[1]", "break",
    ),
    _mutant(
        "probe-is-sent-once", (9, 61), "One that was lost is not sent again.",
        _REPLICATION, "if progress.state is ProgressState.PROBE:\n        progress.probe_sent = False",
        "if progress.state is ProgressState.PROBE:\n        pass",
    ),
    _mutant(
        "leader-stays-overloaded", (22,), "What is committed still counts as not committed.",
        _REPLICATION, "core.uncommitted_bytes -= newly", "core.uncommitted_bytes += 0",
    ),
    _mutant(
        "applied-bytes-stay-counted", (22,), "What is applied still counts as not applied.",
        _CORE, "self.unapplied_bytes -= self.log", "self.unapplied_bytes -= 0 * self.log",
    ),
    _mutant(
        "applied-before-it-is-committed",
        (32, 64),
        "What is durable here counts as agreed on.",
        _LOG,
        "high = min(self.commit, self.persisted)",
        "high = self.persisted",
    ),
    _mutant(
        "refused-writes-are-appended",
        (51, 38),
        "A leader that is overloaded refuses what it appends.",
        _REPLICATION,
        "for rid, _ in event.items)\n        return",
        "for rid, _ in event.items)\n        if reason is not Reason.OVERLOADED:\n            return",
    ),
    _mutant(
        "two-batches-are-applied-at-once", (14,), "The next one does not wait for the last.",
        _LOG, "if self.handed_out != self.applied:\n            return []", "pass",
    ),
)  # fmt: skip

_SNAPSHOTS = (
    _mutant(
        "snapshot-failure-is-not-noticed", (9,), "The peer waits for it for ever.",
        _REPLICATION, "if progress is None or progress.state is not ProgressState.SNAPSHOT:\n"
        "        return\n    progress.snapshot",
        "if progress is None or not event.ok:\n        return\n    progress.snapshot",
    ),
    _mutant(
        "slow-follower-gets-no-snapshot", (11, 61), "What it lacks is compacted, and that was that.",
        _REPLICATION, "_want_snapshot(core, peer, progress)\n        return False", "return False",
    ),
    _mutant(
        "old-snapshot-is-installed", (69, 36), "What it lacks of the log is lost.",
        _REPLICATION, "if meta.index <= log.commit or log.term_at(meta.index) == meta.term:",
        "if log.term_at(meta.index) == meta.term:",
    ),
    _mutant(
        "snapshot-keeps-the-old-members", (60, 48), "The configuration is not taken from it.",
        _CORE, "self.history = ConfigHistory(meta.index, meta.config)",
        "self.history = ConfigHistory(meta.index, self.history.current)",
    ),
    _mutant(
        "snapshot-speaks-of-later-members", (60, 16), "It carries the newest configuration.",
        _CORE, "return SnapshotMeta(index, self.log.term_at(index) or 0, self.history.at(index))",
        "return SnapshotMeta(index, self.log.term_at(index) or 0, self.config)",
    ),
    _mutant(
        "compaction-speaks-of-later-members", (16, 48), "A restart finds the newest configuration.",
        _CORE, "self.update.compact = SnapshotMeta(index, term, self.history.at(index))",
        "self.update.compact = SnapshotMeta(index, term, self.config)",
    ),
    _mutant(
        "compaction-takes-one-too-many", (36,), "The log begins behind the snapshot's end.",
        _LOG, "del self.entries[:cut]", "del self.entries[: cut + 1]",
    ),
    _mutant(
        "snapshot-does-not-reach-the-disk", (57,), "It replaces the log in memory only.",
        _CORE, "self._seq, saved, self._restored, truncated", "self._seq, saved, None, truncated",
    ),
)  # fmt: skip

_MEMBERS = (
    _mutant(
        "learners-count-for-commits", (52, 28), "Their acknowledgements make a majority.",
        _QUORUM, "index = majority_committed(config.voters, acked)",
        "index = majority_committed(config.all_members(), acked)",
    ),
    _mutant(
        "change-before-the-no-op", (72,), "Two leaders each commit one, with disjoint majorities.",
        _RECONFIGURE, "return core.log.commit >= max(core.history.index, core.noop_index)",
        "return core.log.commit >= core.history.index",
    ),
    _mutant(
        "change-before-the-last-is-committed", (43, 7), "Several are under way at once.",
        _RECONFIGURE, "return core.log.commit >= max(core.history.index, core.noop_index)",
        "return core.log.commit >= core.noop_index",
    ),
    _mutant(
        "configuration-counts-once-committed", (7, 33), "Until then the old one decides.",
        _CORE, "return self.history.current", "return self.history.at(self.log.commit)",
    ),
    _mutant(
        "cut-off-configuration-stays", (53,), "Truncation does not take it back.",
        _REPLICATION, "core.history.truncate(new[0].index)", "pass",
    ),
    _mutant(
        "joint-commits-by-one-half", (59, 43), "The new majority alone decides.",
        _QUORUM, "    if config.outgoing:\n        index = min(index, majority_committed("
        "config.outgoing, acked))\n    return index",
        "    return index",
    ),
    _mutant(
        "joint-elects-by-one-half", (33, 35), "The new majority alone elects.",
        _QUORUM, "if not config.outgoing:\n        return result\n    other",
        "if not config.outgoing or result is VoteResult.WON:\n        return result\n    other",
    ),
    _mutant(
        "joint-is-left-before-it-is-committed", (8, 43), "The leaving entry follows at once.",
        _RECONFIGURE, "if config.auto_leave and is_settled(core):", "if config.auto_leave:",
    ),
    _mutant(
        "joint-is-left-by-who-entered-it", (8, 43), "After a change of leader it lasts for ever.",
        _RECONFIGURE, "if config.auto_leave and is_settled(core):",
        "if config.auto_leave and is_settled(core) and core.history.index > core.noop_index:",
    ),
    _mutant(
        "many-voters-change-at-once", (33, 72), "No joint configuration stands between.",
        _MEMBERSHIP, "if len(after.symmetric_difference(config.voters)) > 1:\n        return enter_joint"
        "(config, changes, auto_leave=True)\n    return simple(config, changes)",
        "return _changed(config, changes)",
    ),
    _mutant(
        "old-half-is-not-asked-for-votes", (43,), "A joint configuration cannot elect.",
        _MEMBERSHIP, "return tuple(sorted({*self.voters, *self.outgoing})) if self.outgoing else "
        "self.voters",
        "return self.voters",
    ),
    _mutant(
        "removed-in-doubt-never-stands", (43, 50), "Though only it may have the log they need.",
        _CORE, "pending = self.history.index > self.log.commit\n        return pending and",
        "pending = self.history.index > self.log.commit\n        return False and",
    ),
    _mutant(
        "new-member-is-never-fed", (50, 61), "The leader has no progress for it.",
        _RECONFIGURE, "for node in members\n    }", "for node in members if node in core.progress\n    }",
    ),
    _mutant(
        "removed-leader-leads-on", (29, 50), "Though its removal is committed.",
        _RECONFIGURE, "if not core.config.is_voter(core.id) and core.log.commit >= core.history.index:",
        "if not core.config.is_voter(core.id) and core.log.commit < 0:",
    ),
    _mutant(
        "demoted-voters-learn-too-early", (43, 48), "They still vote in the old half.",
        _MEMBERSHIP, "(learners_next if node in config.outgoing else learners).add(node)",
        "learners.add(node)",
    ),
    _mutant(
        "demoted-voters-are-dropped", (16, 48), "Who should become a learner is out.",
        _MEMBERSHIP, "learners = {*config.learners, *config.learners_next}",
        "learners = {*config.learners}",
    ),
)  # fmt: skip

_READ = (
    _mutant(
        "old-round-confirms-a-new-read", (1,), "Any answer counts for the newest round.",
        _REPLICATION, "progress.round = max(progress.round, min(message.round, core.round))",
        "progress.round = core.round",
    ),
    _mutant(
        "round-under-way-confirms-a-read", (1, 19), "It was sent before the read came.",
        _READS, "PendingRead(core.round + 1,", "PendingRead(core.round,",
    ),
    _mutant(
        "reads-before-the-no-op", (2, 21, 34), "A new leader may not know what is committed.",
        _READS, "return core.log.commit >= core.noop_index", "return True",
    ),
    _mutant(
        "reads-of-one-node-before-its-no-op", (3,), "A cluster of one answers from its old mark.",
        _READS, "elif _has_committed_in_term(core):\n        _enqueue",
        "elif _has_committed_in_term(core) or not core.progress:\n        _enqueue",
    ),
    _mutant(
        "reads-without-a-quorum", (19, 20, 34), "Whoever believes to lead answers.",
        _READS, "    while core.pending_reads and core.pending_reads[0].round <= confirmed:",
        "    while core.pending_reads and core.pending_reads[0].round <= core.round:",
    ),
    _mutant(
        "learners-confirm-reads", (28, 20), "They do not elect, and cannot know.",
        _READS, "return min(quorum.committed(core.config, answered), core.round)",
        "return min(quorum.majority_committed(core.config.all_members(), answered), core.round)",
    ),
    _mutant(
        "reads-outlive-their-leader", (1, 62), "They wait for the next time it leads.",
        _CORE, "reads.fail_pending(self)\n            transfer", "transfer",
    ),
    _mutant(
        "forwarded-reads-never-expire", (22, 61), "A lost answer is waited for for ever.",
        _READS, "for rid in [rid for rid, at in core.forwarded_reads.items() if at <= oldest]:",
        "for rid in [rid for rid, at in core.forwarded_reads.items() if at < 0 * oldest]:",
    ),
    _mutant(
        "early-reads-are-never-answered", (22,), "Those that came before the no-op.",
        _READS, "if core.waiting_reads and _has_committed_in_term(core):", "if False:",
    ),
    _mutant(
        "no-no-op", (34, 52), "A new leader appends nothing of its own.",
        _ELECTION, "core.noop_index = core.append_as_leader(EntryKind.NOOP, [b\"\"])",
        "core.noop_index = core.log.last_index",
    ),
)  # fmt: skip

_HANDOVER = (
    _mutant(
        "transfer-is-never-given-up", (25,), "Proposals are refused for ever.",
        _TRANSFER, "if transfer is not None and core.ticks - transfer.since >= core.options.election_ticks:",
        "if transfer is not None and core.ticks < transfer.since:",
    ),
    _mutant(
        "transfer-does-not-override-the-lease", (25, 26), "Nobody votes for the chosen one.",
        _TERMS, "and not message.transfer\n", "",
    ),
    _mutant(
        "recovering-node-stands", (18, 39), "Though it has lost what it acknowledged.",
        _CORE, "if self.is_disk_stuck or self.is_recovering:", "if self.is_disk_stuck:",
    ),
    _mutant(
        "recovering-node-votes", (18, 39), "Though it has lost what it acknowledged.",
        _ELECTION, "        is_free\n        and not core.is_recovering\n", "        is_free\n",
    ),
    _mutant(
        "recovery-ends-with-the-first-write", (18,), "It votes before it has its log again.",
        _CORE, "if last >= self._recover_to or (self.log.term_at(last) or 0) >= self._recover_term:",
        "if True:",
    ),
)  # fmt: skip

GALLERY = (
    *_DURABILITY, *_ELECTIONS, *_REPLICATIONS, *_SNAPSHOTS, *_MEMBERS, *_READ, *_HANDOVER, *STORAGE,
    *DRIVER, *OWN, *LOCKS, *CATALOG, *QUIET, *SERVICES, *FIGURES,
)  # fmt: skip


def named(name: str) -> Mutant:
    """Return the one with this name.

    Raises:
        KeyError: There is none.
    """
    by_test = (mutant for mutant, _ in BY_TEST)
    return {mutant.name: mutant for mutant in (*GALLERY, *RARE, *by_test)}[name]
