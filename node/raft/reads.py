"""Linearizable reads without a log entry (ReadIndex, thesis section 6.4; section 8 of the paper).

1. The leader waits until an entry of its term is committed, for only then it knows what is.
2. It registers the read with its commit index, for the next round of heartbeats.
3. A majority answers that round, or a later one. The round was sent *after* the read was
   registered, so at that time no newer leader could have answered a write.
4. The read may be served once the node that asked has applied the commit index of step 2.

Rule 1: rounds only rise, so the answer to an older round never confirms a newer read (etcd#20418,
where a retry that used an id again was confirmed by a delayed answer).
Rule 2: only voters confirm (`confirmed_round`), only in the same term (`terms.on_receive`).
Rule 3: a read that is not answered fails; it is never silently kept past its leader (rule D16).

At most one round is on its way for reads: those that arrive meanwhile share the next. A follower
asks the leader for the index and then serves the read itself. Lease reads, which save the round,
would trust clocks: a pause of a virtual machine breaks them, so there are none here (R6).
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
    """A read that is registered at the leader.

    Attributes:
        round: Confirmed once a quorum has answered this round or a later one.
        index: The commit index when it was registered.
        frm: The follower that asked, or the leader's own id.
        rid: The id that the asking node gave the read.
    """

    round: int
    index: int
    frm: int
    rid: int


def read_index(core: Core, event: ReadIndex) -> None:
    """Start a read that this node's own client asked for."""
    rid = event.rid
    if core.role is Role.LEADER:
        _register(core, core.id, rid)
    elif core.leader == 0 or core.leader_gone:
        # At once: a request to a dead leader would only be answered by `expire_forwarded`.
        core.update.reads_failed.append((rid, Reason.NOT_LEADER))
    elif len(core.forwarded_reads) >= core.options.max_pending_reads:
        core.update.reads_failed.append((rid, Reason.OVERLOADED))
    else:
        core.forwarded_reads[rid] = core.ticks
        core.send(ReadIndexRequest(core.id, core.leader, core.term, rid))


def on_read_index_request(core: Core, message: ReadIndexRequest) -> None:
    """Register a follower's read, or answer at once that this node does not lead."""
    if core.role is Role.LEADER:
        _register(core, message.frm, message.read)
    else:
        core.send(ReadIndexResponse(core.id, message.frm, core.term, message.read, None))


def on_read_index_response(core: Core, message: ReadIndexResponse) -> None:
    """Report the leader's answer to the driver; ignore it if the read has failed meanwhile."""
    if core.forwarded_reads.pop(message.read, None) is None:
        return
    if message.index is None:
        core.update.reads_failed.append((message.read, Reason.LOST_LEADER))
    else:
        core.update.reads_ready.append((message.read, message.index))


def start_waiting(core: Core) -> None:
    """Register the reads that arrived before this leader had committed an entry of its term."""
    if core.waiting_reads and _has_committed_in_term(core):
        while core.waiting_reads:
            frm, rid = core.waiting_reads.popleft()
            _enqueue(core, frm, rid)


def broadcast_if_wanted(core: Core) -> None:
    """Send a round of heartbeats for the newest reads, unless an earlier one is unconfirmed."""
    is_wanted = core.pending_reads and core.pending_reads[-1].round > core.round
    if is_wanted and confirmed_round(core) >= core.round:
        replication.broadcast_heartbeat(core)


def answer_confirmed(core: Core) -> None:
    """Answer the reads whose round a quorum has confirmed."""
    if not core.pending_reads:
        return
    confirmed = confirmed_round(core)
    while core.pending_reads and core.pending_reads[0].round <= confirmed:
        read = core.pending_reads.popleft()
        if read.frm == core.id:
            core.update.reads_ready.append((read.rid, read.index))
        else:
            core.send(ReadIndexResponse(core.id, read.frm, core.term, read.rid, read.index))


def fail_pending(core: Core) -> None:
    """Fail every read registered here: this node does not lead any more (rule D16)."""
    reads = [(read.frm, read.rid) for read in core.pending_reads]
    for frm, rid in [*reads, *core.waiting_reads]:
        _fail(core, frm, rid, Reason.LOST_LEADER)
    core.pending_reads.clear()
    core.waiting_reads.clear()


def fail_forwarded(core: Core) -> None:
    """Fail every read that was sent to the former leader (rule D16)."""
    for rid in core.forwarded_reads:
        core.update.reads_failed.append((rid, Reason.LOST_LEADER))
    core.forwarded_reads.clear()


def expire_forwarded(core: Core) -> None:
    """Fail reads sent to the leader that got no answer in an election timeout (rule D15)."""
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
        # Section 8: a leader "must have the latest information on which entries are committed. ...
        # at the start of its term, it may not know which those are. To find out, it needs to commit
        # an entry from its term." This holds for a cluster of one, too (etcd-io/raft#105).
        core.waiting_reads.append((frm, rid))


def _enqueue(core: Core, frm: int, rid: int) -> None:
    # The next round, not one that is out: its answers may be older than this read.
    core.pending_reads.append(PendingRead(core.round + 1, core.log.commit, frm, rid))


def _fail(core: Core, frm: int, rid: int, reason: Reason) -> None:
    if frm == core.id:
        core.update.reads_failed.append((rid, reason))
    else:
        core.send(ReadIndexResponse(core.id, frm, core.term, rid, None))


def _has_committed_in_term(core: Core) -> bool:
    return core.log.commit >= core.noop_index


def confirmed_round(core: Core) -> int:
    """Return the highest round that a quorum of voters has answered; learners do not count."""

    def answered(node: int) -> int:
        if node == core.id:
            return core.round
        progress = core.progress.get(node)
        return progress.round if progress else 0

    return min(quorum.committed(core.config, answered), core.round)
