"""The rule of terms: every message from a peer is compared with this node's term before it counts.

Owns what happens to messages of a newer and of an older term (section 5.1 of the Raft paper, with
the two exceptions that pre-votes need), and which function of the role modules handles a message of
the present one. In etcd-raft this is the first half of `Step` in raft.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import election, messages, reads, replication, transfer

if TYPE_CHECKING:
    from .core import Core
    from .events import Receive
    from .messages import Message

_OF_LEADERS = frozenset((messages.Append, messages.Heartbeat, messages.InstallSnapshot))


def on_receive(core: Core, event: Receive) -> None:
    """Compare terms (section 5.1), then call the handler of the message's type."""
    message = event.message
    kind = type(message)
    if message.frm == core.gone:
        # The peer is reachable again, and its vote may be needed for a majority.
        core.gone = 0
    if message.term > core.term:
        if (
            isinstance(message, messages.VoteRequest)
            and not message.transfer
            and election.is_in_lease(core)
        ):
            # Section 6: "if a server receives a RequestVote RPC within the minimum election timeout
            # of hearing from a current leader, it does not update its term or grant its vote."
            # Except when that leader asked for the election itself (thesis section 3.10).
            return
        # A pre-vote only asks about a term that nobody is in yet, and a granted answer repeats
        # that term (etcd-raft/raft.go `Step` has the same two exceptions). All else shows that
        # the sender is in a newer term. Section 5.1: "If a candidate or leader discovers that
        # its term is out of date, it immediately reverts to follower state."
        if kind is messages.PreVoteRequest or (
            isinstance(message, messages.PreVoteResponse) and message.granted
        ):
            pass
        else:
            core.become_follower(message.term, message.frm if kind in _OF_LEADERS else 0)
    elif message.term < core.term:
        _answer_stale(core, message)
        return
    _MESSAGES[kind](core, message)


def _answer_stale(core: Core, message: Message) -> None:
    """Tell a sender in an older term about the newer one, where it would be stuck otherwise."""
    # Section 5.1: "If a server receives a request with a stale term number, it rejects the
    # request." With PreVote and CheckQuorum two cases would never end without an answer
    # (etcd-raft/raft.go `Step`, lower-term branch). A leader ignores the ballots of this node
    # while this node ignores the leader's appends (R4a); and a pre-candidate behind in term
    # asks for ever (R4b, canonical/raft#280). Every answer waits until the term that it shows
    # is durable.
    kind, to = type(message), message.frm
    if kind is messages.InstallSnapshot:
        core.update.snapshot_refused = True
    if kind in _OF_LEADERS:
        core.send_durably(messages.AppendResponse(core.id, to, core.term, 0, rejected=True))
    elif kind is messages.PreVoteRequest:
        core.send_durably(messages.PreVoteResponse(core.id, to, core.term, granted=False))
    elif kind is messages.VoteRequest:
        core.send_durably(messages.VoteResponse(core.id, to, core.term, granted=False))


_MESSAGES: dict[type, Callable[[Core, Any], None]] = {
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
