"""Linearizable reads without writing to the log (ReadIndex, thesis section 6.4).

A read takes the commit index of a leader that has committed in its term, and waits until a
majority has answered a heartbeat that was sent *after* the read was registered: then that leader
was still the leader, and no newer one can have answered a write before. Heartbeats carry rising
round numbers, so an answer to an older round can never be mistaken for one (etcd#20418).

At most one round is out for reads: those that arrive meanwhile share the next. A follower sends
its read to the leader and waits for the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import quorum, replication
from .errors import Reason
from .messages import ReadIndexRequest, ReadIndexResponse
from .roles import Role

if TYPE_CHECKING:
    from .core import Core
    from .events import ReadIndex


@dataclass(frozen=True, slots=True)
class PendingRead:
    """A read at the leader.

    Attributes:
        round: Confirmed once a quorum has answered this round or a later one.
        index: The commit index when it was registered.
        frm: The follower that asked, or the leader's own id.
        rid: The asker's id of the read.
    """

    round: int
    index: int
    frm: int
    rid: int


def read_index(core: Core, event: ReadIndex) -> None:
    """Start a read of this node's own."""
    rid = event.rid
    if core.role is Role.LEADER:
        _register(core, core.id, rid)
    elif core.leader == 0 or core.leader_gone:
        core.update.reads_failed.append((rid, Reason.NOT_LEADER))
    elif len(core.forwarded_reads) >= core.options.max_pending_reads:
        core.update.reads_failed.append((rid, Reason.OVERLOADED))
    else:
        core.forwarded_reads[rid] = core.ticks
        core.send(ReadIndexRequest(core.id, core.leader, core.term, rid))


def on_read_index_request(core: Core, message: ReadIndexRequest) -> None:
    """Register a follower's read, or tell it at once that this is the wrong place."""
    if core.role is Role.LEADER:
        _register(core, message.frm, message.read)
    else:
        core.send(ReadIndexResponse(core.id, message.frm, core.term, message.read, None))


def on_read_index_response(core: Core, message: ReadIndexResponse) -> None:
    """Pass the leader's answer on; a read that was given up is not there any more."""
    if core.forwarded_reads.pop(message.read, None) is None:
        return
    if message.index is None:
        core.update.reads_failed.append((message.read, Reason.LOST_LEADER))
    else:
        core.update.reads_ready.append((message.read, message.index))


def start_waiting(core: Core) -> None:
    """Register the reads that came before this leader had committed in its term."""
    if core.waiting_reads and _has_committed_in_term(core):
        while core.waiting_reads:
            frm, rid = core.waiting_reads.popleft()
            _enqueue(core, frm, rid)


def broadcast_if_wanted(core: Core) -> None:
    """Send a round for the newest read, unless one is still out."""
    is_wanted = core.pending_reads and core.pending_reads[-1].round > core.round
    if is_wanted and _confirmed_round(core) >= core.round:
        replication.broadcast_heartbeat(core)


def answer_confirmed(core: Core) -> None:
    """Answer the reads whose round a quorum has confirmed."""
    if not core.pending_reads:
        return
    confirmed = _confirmed_round(core)
    while core.pending_reads and core.pending_reads[0].round <= confirmed:
        read = core.pending_reads.popleft()
        if read.frm == core.id:
            core.update.reads_ready.append((read.rid, read.index))
        else:
            core.send(ReadIndexResponse(core.id, read.frm, core.term, read.rid, read.index))


def fail_pending(core: Core) -> None:
    """Fail every read at this leader, which leads no more (rule D16)."""
    reads = [(read.frm, read.rid) for read in core.pending_reads]
    for frm, rid in [*reads, *core.waiting_reads]:
        _fail(core, frm, rid, Reason.LOST_LEADER)
    core.pending_reads.clear()
    core.waiting_reads.clear()


def fail_forwarded(core: Core) -> None:
    """Fail every read sent to a leader that is not this node's leader any more (rule D16)."""
    for rid in core.forwarded_reads:
        core.update.reads_failed.append((rid, Reason.LOST_LEADER))
    core.forwarded_reads.clear()


def expire_forwarded(core: Core) -> None:
    """Fail forwarded reads that nobody answered: messages may be lost (rule D15)."""
    if not core.forwarded_reads:
        return
    oldest = core.ticks - core.options.election_ticks
    for rid in [rid for rid, at in core.forwarded_reads.items() if at <= oldest]:
        del core.forwarded_reads[rid]
        core.update.reads_failed.append((rid, Reason.LOST_LEADER))


def _register(core: Core, frm: int, rid: int) -> None:
    waiting = len(core.pending_reads) + len(core.waiting_reads)
    if waiting >= core.options.max_pending_reads:
        _fail(core, frm, rid, Reason.OVERLOADED)
    elif _has_committed_in_term(core):
        _enqueue(core, frm, rid)
    else:
        # Section 8: until its no-op is committed, a leader may not know what is committed; this
        # holds for a cluster of one, too (etcd-io/raft#105).
        core.waiting_reads.append((frm, rid))


def _enqueue(core: Core, frm: int, rid: int) -> None:
    core.pending_reads.append(PendingRead(core.round + 1, core.log.commit, frm, rid))


def _fail(core: Core, frm: int, rid: int, reason: Reason) -> None:
    if frm == core.id:
        core.update.reads_failed.append((rid, reason))
    else:
        core.send(ReadIndexResponse(core.id, frm, core.term, rid, None))


def _has_committed_in_term(core: Core) -> bool:
    return core.log.commit >= core.noop_index


def _confirmed_round(core: Core) -> int:
    """Return the highest round that a quorum of voters has answered; learners do not count."""

    def answered(node: int) -> int:
        if node == core.id:
            return core.round
        progress = core.progress.get(node)
        return progress.round if progress else 0

    return min(quorum.committed(core.config, answered), core.round)
