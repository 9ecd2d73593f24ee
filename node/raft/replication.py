"""Replication: the leader's appends and commits, the follower's log (sections 5.3 and 5.4).

Rule 1: the leader never waits. It keeps a window of unanswered messages per peer, and fills it each
time that events are gathered.
Rule 2: an entry is committed when a quorum has it durably and it is of the leader's own term;
entries of older terms are committed with it, never by counting (section 5.4.2, Figure 8).
Rule 3: a follower commits only entries that a message of this leader has verified.
Rule 4: a follower truncates only at an entry whose term differs, and never a committed one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import membership, quorum, reads
from .entry import Entry, EntryKind
from .errors import Reason
from .messages import Append, AppendResponse, Heartbeat, HeartbeatResponse, InstallSnapshot
from .progress import Progress, ProgressState
from .roles import Role

if TYPE_CHECKING:
    from .core import Core
    from .events import PeerUnreachable, Propose, SnapshotSent, TellCommit
    from .messages import Message

_CONFIG = int(EntryKind.CONFIG)

# -- leader ---------------------------------------------------------------------------------


def start_leading(core: Core) -> None:
    """Begin a record of every peer: nothing is known of their logs yet."""
    log = core.log
    # Figure 2: nextIndex is "initialized to leader last log index + 1", matchIndex "to 0".
    core.progress = {
        peer: Progress(log.last_index + 1) for peer in core.config.all_members() if peer != core.id
    }
    core.uncommitted_bytes = log.size_between(log.commit, log.last_index)
    core.unapplied_bytes = log.size_between(log.applied, log.commit)


def propose(core: Core, event: Propose) -> None:
    """Append the payloads as entries, all of them or none."""
    # A leader that is being removed still replicates, but takes no new proposals: it could not
    # count itself for them. The bound on uncommitted bytes is etcd-raft's
    # MaxUncommittedEntriesSize; without one, a leader cut off from its quorum would fill its
    # memory.
    reason: Reason | None = None
    if core.role is not Role.LEADER or core.id not in core.config.all_voters():
        reason = Reason.NOT_LEADER
    elif core.transfer is not None:
        reason = Reason.TRANSFERRING
    elif (
        core.uncommitted_bytes > core.options.max_uncommitted_bytes
        or core.unapplied_bytes > core.options.max_unapplied_bytes
    ):
        reason = Reason.OVERLOADED
    if reason is not None:
        hint = core.leader_hint() if reason is Reason.NOT_LEADER else ""
        core.update.rejected.extend((rid, reason, hint) for rid, _ in event.items)
        return
    if not event.items:
        return
    first = core.append_as_leader(EntryKind.COMMAND, [data for _, data in event.items])
    core.update.appended.extend(
        (rid, core.term, index) for index, (rid, _) in enumerate(event.items, first)
    )


def broadcast_heartbeat(core: Core) -> None:
    """Send every peer a heartbeat of a new round. Waits for nothing, not even the disk (R3)."""
    core.round += 1
    for peer, progress in core.progress.items():
        commit = min(progress.match, core.log.commit)
        core.send(Heartbeat(core.id, peer, core.term, commit, core.round))
    reads.answer_confirmed(core)


def send_appends(core: Core) -> None:
    """Send every peer as many entries as its window has room for."""
    for peer, progress in core.progress.items():
        while _send_append(core, peer, progress):
            pass


def _send_append(core: Core, peer: int, progress: Progress) -> bool:
    """Send at most one message; return whether another may follow."""
    log, options = core.log, core.options
    if progress.state is ProgressState.SNAPSHOT or progress.probe_sent:
        return False
    prev = progress.next - 1
    prev_term = log.term_at(prev)
    if prev_term is None:
        _want_snapshot(core, peer, progress)
        return False
    is_probe = progress.state is ProgressState.PROBE
    entries: list[Entry] = []
    is_open = is_probe or progress.is_window_open(
        options.max_inflight_messages, options.max_inflight_bytes
    )
    if prev < log.last_index and is_open:
        entries = log.slice(prev + 1, log.last_index, options.max_append_bytes)
    # Nothing is sent past a full window, not even a commit index. If the messages in flight were
    # lost or overtaken, each such message would be rejected, and the whole window sent once more.
    is_news = options.eager_commit and is_open and progress.sent_commit < log.commit
    if not entries and not is_probe and not is_news:
        return False
    core.send(Append(core.id, peer, core.term, prev, prev_term, entries, log.commit))
    progress.sent_commit = log.commit
    if is_probe:
        progress.probe_sent = True
        return False
    if entries:
        last = entries[-1].index
        progress.sent(last, log.size_between(prev, last))
    return bool(entries)


def is_untold(core: Core, commit: int) -> bool:
    """Whether some peer in replication was not sent `commit` as commit index by this leader yet."""
    return any(
        progress.state is ProgressState.REPLICATE and progress.sent_commit < commit
        for progress in core.progress.values()
    )


def tell_commit(core: Core, event: TellCommit) -> None:
    """Send the commit index, without entries, to followers that have nothing in flight.

    With `event.at_once` also to those that have, as far as their window is open.
    """
    # A follower with entries in flight will get the commit index with what follows its answer; if
    # those entries were lost, an append behind them would be rejected. Where commits are few, one
    # such message does no harm, and the follower can apply as soon as its own disk has the entry.
    log, options = core.log, core.options
    for peer, progress in core.progress.items():
        may_hear = not progress.is_awaited or (
            event.at_once
            and progress.is_window_open(options.max_inflight_messages, options.max_inflight_bytes)
        )
        is_untold = progress.sent_commit < log.commit and may_hear
        prev = progress.next - 1
        prev_term = log.term_at(prev)
        if progress.state is ProgressState.REPLICATE and is_untold and prev_term is not None:
            core.send(
                Append(core.id, peer, core.term, prev, prev_term, [], log.commit, is_news=True)
            )
            progress.sent_commit = log.commit


def _want_snapshot(core: Core, peer: int, progress: Progress) -> None:
    """Ask the driver for a snapshot: entries that the peer lacks are compacted (section 7)."""
    # Only for a peer that answers: one that is away could not take the snapshot.
    if progress.active:
        progress.become_snapshot(core.log.snapshot_index)
        core.update.snapshots_wanted.append(peer)


def snapshot_sent(core: Core, event: SnapshotSent) -> None:
    """Probe a peer again after its snapshot, or after a failure to send it (rule D12)."""
    progress = core.progress.get(event.peer)
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    progress.snapshot = event.index if event.ok else 0
    progress.become_probe()
    # Wait for its next answer, as etcd-raft does after MsgSnapStatus: the peer may need a while to
    # take the snapshot in.
    progress.probe_sent = True


def on_append_response(core: Core, message: AppendResponse) -> None:
    """Update the record of the peer and, with it, the commit index."""
    progress = core.progress.get(message.frm)
    if core.role is not Role.LEADER or progress is None:
        return
    progress.active = True
    if message.rejected:
        # Both sides skip whole terms (section 5.3). The follower names its last index whose term is
        # at most that of our `prev` entry; we take our last index whose term is at most that of its
        # entry there.
        candidate, _ = core.log.find_conflict(message.hint_index, message.hint_term)
        progress.rejected(message.index, min(candidate, message.hint_index))
        return
    # Clamped (rule R7), as `match` must never be beyond this log.
    index = min(message.index, core.log.last_index)
    is_news = progress.acknowledged(index)
    # An accepted probe shows where the logs agree, so from there on entries are sent ahead.
    if progress.state is ProgressState.PROBE:
        if is_news or index == progress.match:
            progress.become_replicate()
    elif progress.state is ProgressState.SNAPSHOT and progress.match >= core.log.snapshot_index:
        progress.become_replicate()
    if is_news:
        advance_commit(core)


def on_heartbeat_response(core: Core, message: HeartbeatResponse) -> None:
    """Record that the peer answers, and in which round; make sure that its replication goes on."""
    progress = core.progress.get(message.frm)
    if core.role is not Role.LEADER or progress is None:
        return
    progress.active = True
    progress.round = max(progress.round, min(message.round, core.round))
    if progress.state is ProgressState.PROBE:
        progress.probe_sent = False
    elif progress.state is ProgressState.REPLICATE and progress.match < core.log.last_index:
        # If the messages in flight were lost, only an answer to a further message can show it, and
        # a full window holds that back for ever (etcd#14633). An append without entries needs no
        # window.
        prev = progress.next - 1
        prev_term = core.log.term_at(prev)
        if prev_term is not None:
            core.send(Append(core.id, message.frm, core.term, prev, prev_term, [], core.log.commit))
    reads.answer_confirmed(core)


def is_no_news(core: Core, message: Message) -> bool:
    """Whether handling this answer can wait until the next event, because it changes nothing.

    True at a leader that has sent this peer all its entries and its commit index: then the answer
    only shows that the peer lives. That counts in quorum checks, and those are ticks, which are
    events too.
    """
    progress = core.progress.get(message.frm)
    if progress is None or progress.state is not ProgressState.REPLICATE:
        return False
    if message.term != core.term or core.transfer is not None:
        return False
    if isinstance(message, AppendResponse):
        is_all_sent = progress.next > core.log.last_index
        is_told = progress.sent_commit >= core.log.commit or not core.options.eager_commit
        is_committed = core.log.commit >= message.index
        return not message.rejected and is_all_sent and is_told and is_committed
    is_all_there = progress.match == core.log.last_index
    return isinstance(message, HeartbeatResponse) and not core.pending_reads and is_all_there


def advance_commit(core: Core) -> None:
    """Commit what a quorum has durably, if it is of this term (section 5.4.2, Figure 8)."""
    log = core.log

    # The leader counts itself only up to what its own disk has (thesis section 10.2.1).
    def match(node: int) -> int:
        if node == core.id:
            return log.persisted
        progress = core.progress.get(node)
        return progress.match if progress else 0

    # Section 5.4.2: "Raft never commits log entries from previous terms by counting replicas. Only
    # log entries from the leader's current term are committed by counting replicas". The same check
    # is in etcd-raft's `maybeCommit`; logcabin#44 is a leader without it.
    index = quorum.committed(core.config, match)
    if index <= log.commit or log.term_at(index) != core.term:
        return
    newly = log.size_between(log.commit, index)
    core.uncommitted_bytes -= newly
    core.unapplied_bytes += newly
    log.commit_to(index)
    reads.start_waiting(core)


# -- follower -------------------------------------------------------------------------------


def _refuse(core: Core, peer: int, why: str) -> None:
    """Take nothing from this message: its sender breaks the protocol (see `Update.refused`)."""
    core.update.refused.append((peer, why))


def _hear_leader(core: Core, leader: int) -> bool:
    """Record that the leader of the present term has been heard; return whether it can be that."""
    # Election Safety (Figure 3): "at most one leader can be elected in a given term." So one of two
    # lies or is broken; this node cannot know which, stays with the first, and may not die of it.
    if core.role is Role.LEADER or core.leader not in (0, leader):
        _refuse(core, leader, f"{core.leader:016x} leads term {core.term} already")
        return False
    if core.role is not Role.FOLLOWER or core.leader == 0:
        core.become_follower(core.term, leader)
    core.elapsed = core.leaderless = 0
    core.gone = 0
    return True


def _is_well_formed(message: Append) -> bool:
    """Whether the entries are contiguous and readable, in terms that never fall."""
    index, term = message.prev_index, message.prev_term
    if index < 0 or not 0 <= term <= message.term:
        return False
    for entry in message.entries:
        index += 1
        if entry.index != index or not term <= entry.term <= message.term:
            return False
        if entry.kind == _CONFIG and not membership.is_configuration(entry.data):
            return False
        term = entry.term
    return True


def on_append(core: Core, message: Append) -> None:
    """AppendEntries, receiver (Figure 2): check, truncate a conflict, append, commit, answer."""
    if not _is_well_formed(message):
        _refuse(core, message.frm, "an append whose entries do not follow one another")
        return
    log, prev = core.log, message.prev_index
    conflict = _conflict_with_committed(core, message) if prev < log.commit else 0
    if conflict:
        _refuse(core, message.frm, f"another entry {conflict} than the one committed here")
        return
    if not _hear_leader(core, message.frm):
        return
    if prev < log.commit:
        # A late or repeated message: the leader's log has everything that is committed here.
        if not message.is_news:
            _accept(core, message.frm, log.commit)
        return
    # Figure 2, step 2: "Reply false if log doesn't contain an entry at prevLogIndex whose term
    # matches prevLogTerm".
    if log.term_at(prev) != message.prev_term:
        hint_index, hint_term = log.find_conflict(prev, message.prev_term)
        core.refused_at = max(core.refused_at, prev)
        core.send_durably(
            AppendResponse(
                core.id,
                message.frm,
                core.term,
                prev,
                rejected=True,
                hint_index=hint_index,
                hint_term=hint_term,
            )
        )
        return
    # Figure 2, step 3: "If an existing entry conflicts with a new one (same index but different
    # terms), delete the existing entry and all that follow it". Not at every overlap: a delayed
    # append would then erase entries that were acknowledged since.
    new = _without_known(core, message.entries)
    if new:
        if new[0].index <= log.last_index:
            log.truncate(new[0].index)
            core.history.truncate(new[0].index)
        core.append(new)
    last = prev + len(message.entries)
    # Figure 2, step 5: "set commitIndex = min(leaderCommit, index of last new entry)". Entries of
    # this log behind that one are not verified by this message (scylla#9965, rabbitmq/ra#508).
    log.commit_to(max(log.commit, min(message.commit, last)))
    if not message.is_news:
        _accept(core, message.frm, last)


def _conflict_with_committed(core: Core, message: Append) -> int:
    """Return the index of an entry of the message where another one is committed here; 0: of none."""
    # Leader Completeness (Figure 3): "if a log entry is committed in a given term, then that entry
    # will be present in the logs of the leaders for all higher-numbered terms."
    log = core.log
    if message.prev_index and log.term_at(message.prev_index) not in (message.prev_term, None):
        return message.prev_index
    for entry in message.entries:
        if entry.index > log.commit:
            break
        if log.term_at(entry.index) not in (entry.term, None):
            return entry.index
    return 0


def _without_known(core: Core, entries: list[Entry]) -> list[Entry]:
    """Return the entries from the first one on that this log lacks or has with another term."""
    log = core.log
    if entries and entries[0].index > log.last_index:
        return entries
    for position, entry in enumerate(entries):
        if log.term_at(entry.index) != entry.term:
            return entries[position:]
    return []


def _accept(core: Core, to: int, index: int) -> None:
    core.send_durably(AppendResponse(core.id, to, core.term, index))


def on_heartbeat(core: Core, message: Heartbeat) -> None:
    """Follow the sender, take over its commit index, answer with the round."""
    if not _hear_leader(core, message.frm):
        return
    # Only a node that lost acknowledged log has less than that, since the leader has its
    # acknowledgement of `commit` from this term. etcd-raft panics there ("tocommit is out of range",
    # etcd#10166). A node that is recovering knows of its loss. Else the disk is an older one, such
    # as a copy that was put back, on which nothing seems to be missing; and the leader, which never
    # goes back behind what was acknowledged, would ask in vain for ever. It asks at the end of that
    # or behind it: so everything that was acknowledged is at or below the append that was refused.
    if message.commit <= core.log.last_index:
        core.log.commit_to(message.commit)
    elif core.refused_at >= message.commit and not core.is_recovering:
        core.update.lost_to = core.refused_at
    # Sent at once, though the term may not be durable on this node yet. It is durable on the
    # majority that elected the leader, and an older leader could commit nothing without one of
    # those.
    core.send(HeartbeatResponse(core.id, message.frm, core.term, message.round))


def on_install_snapshot(core: Core, message: InstallSnapshot) -> None:
    """InstallSnapshot, receiver (section 7): use it only if this log does not have its entries."""
    log, meta = core.log, message.meta
    if meta.term > message.term or not membership.is_sound(meta.config):
        _refuse(core, message.frm, "a snapshot that no leader of its term can have made")
        core.update.snapshot_refused = True
        return
    if not _hear_leader(core, message.frm):
        core.update.snapshot_refused = True
        return
    if meta.index <= log.commit or log.term_at(meta.index) == meta.term:
        # Section 7: if the snapshot "describes a prefix of its log ... entries following the
        # snapshot are still valid and must be retained". To restore it would also take back what is
        # applied since.
        log.commit_to(max(log.commit, meta.index))
        core.update.snapshot_refused = True
    else:
        core.restore(meta)
    _accept(core, message.frm, log.commit)


def on_peer_unreachable(core: Core, event: PeerUnreachable) -> None:
    """Probe a peer again: the messages in flight may be lost."""
    progress = core.progress.get(event.peer)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()
    if event.peer == core.leader:
        reads.fail_forwarded(core)
