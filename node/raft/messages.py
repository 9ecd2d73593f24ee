"""The messages that nodes exchange for consensus.

Every message carries its sender, its receiver and the sender's term, and is immutable: it may be
lost, repeated, delayed or overtaken by another (rule D13). Each is a tagged msgpack array; the tags
and the order of the fields are the wire format.
"""

from __future__ import annotations

import msgspec

from .entry import Entry, Number, SnapshotMeta


# `array_like`: fields travel by position, without names. `gc=False`: a message cannot refer to
# itself, so Python's garbage collector need not look at the many that there are.
class Base(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields that all messages share.

    Attributes:
        frm: Id of the sender.
        to: Id of the receiver.
        term: The sender's term; in pre-votes the term that the pre-candidate asks about.
    """

    frm: int
    to: int
    term: Number


class PreVoteRequest(Base, frozen=True, array_like=True, tag=1, gc=False):
    """ "Would you vote for me in `term`?" (thesis section 9.6). Nobody's term changes by it."""

    last_index: Number
    last_term: Number


class PreVoteResponse(Base, frozen=True, array_like=True, tag=2, gc=False):
    """The answer: `term` is the asked term if granted, the responder's own term if not."""

    granted: bool


class VoteRequest(Base, frozen=True, array_like=True, tag=3, gc=False):
    """RequestVote (section 5.2): `last_*` describe the candidate's log (section 5.4.1).

    `transfer`: the leader itself asked for this election, so voters ignore its lease.
    """

    last_index: Number
    last_term: Number
    transfer: bool = False


class VoteResponse(Base, frozen=True, array_like=True, tag=4, gc=False):
    """The answer to a `VoteRequest`; it leaves only once the vote is durable."""

    granted: bool


class Append(Base, frozen=True, array_like=True, tag=5, gc=False):
    """AppendEntries (section 5.3).

    Attributes:
        prev_index: Index of the entry before `entries`.
        prev_term: That entry's term.
        entries: Contiguous, possibly none.
        commit: The leader's commit index.
        is_news: It only brings the commit index: where it fits the log it is not answered, for the
            leader would learn nothing and both nodes would wake up for it.
    """

    prev_index: Number
    prev_term: Number
    entries: list[Entry]
    commit: Number
    is_news: bool = False


class AppendResponse(Base, frozen=True, array_like=True, tag=6, gc=False):
    """The answer to an append or a snapshot, sent once what it promises is durable (rule D1).

    Attributes:
        index: Accepted: the log agrees with the leader's up to here. Rejected: the `prev_index`
            that did not match.
        rejected: Whether it was rejected.
        hint_index: Rejected: the last index at which the logs might agree.
        hint_term: The term of the entry there.
    """

    index: Number
    rejected: bool = False
    hint_index: Number = 0
    hint_term: Number = 0


class Heartbeat(Base, frozen=True, array_like=True, tag=7, gc=False):
    """ "I lead `term`." `round` numbers the broadcasts of a term (reads, thesis section 6.4).

    `commit` is never above the last entry that the leader knows the receiver to have.
    """

    # etcd-raft/raft.go sendHeartbeat has the same minimum of match and commit: a heartbeat does not
    # check that the logs agree, so it may commit only entries that an append has confirmed before.
    commit: Number
    round: Number


class HeartbeatResponse(Base, frozen=True, array_like=True, tag=8, gc=False):
    """The answer, with the heartbeat's round: its sender was then still in the leader's term."""

    round: Number


class InstallSnapshot(Base, frozen=True, array_like=True, tag=9, gc=False):
    """InstallSnapshot (section 7). The core gets it once the whole state has arrived."""

    meta: SnapshotMeta


class ReadIndexRequest(Base, frozen=True, array_like=True, tag=10, gc=False):
    """A follower asks the leader for a read index. It never uses the same `read` id twice."""

    read: int


class ReadIndexResponse(Base, frozen=True, array_like=True, tag=11, gc=False):
    """The answer: the index to wait for, or None when the leader could not register the read."""

    read: int
    index: Number | None


class TimeoutNow(Base, frozen=True, array_like=True, tag=12, gc=False):
    """The leader asks an up-to-date voter to call an election at once (thesis section 3.10)."""


Message = (
    PreVoteRequest
    | PreVoteResponse
    | VoteRequest
    | VoteResponse
    | Append
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | InstallSnapshot
    | ReadIndexRequest
    | ReadIndexResponse
    | TimeoutNow
)
