"""What nodes say to each other about consensus.

Every message carries its sender, its receiver and the sender's term, and is immutable: it may be
lost, repeated, delayed or overtaken (rule D13). Each is a tagged msgpack array; the tags and the
order of the fields are the wire format.
"""

from __future__ import annotations

import msgspec

from .entry import Entry, SnapshotMeta


class Base(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What all messages share.

    Attributes:
        frm: Id of the sender.
        to: Id of the receiver.
        term: The sender's term, except in pre-votes, which speak of the term they ask about.
    """

    frm: int
    to: int
    term: int


class PreVoteRequest(Base, frozen=True, array_like=True, tag=1, gc=False):
    """ "Would you vote for me in `term`?" (thesis section 9.6). Changes nobody's term."""

    last_index: int
    last_term: int


class PreVoteResponse(Base, frozen=True, array_like=True, tag=2, gc=False):
    """The answer: `term` is the asked one when granted, the responder's own when not."""

    granted: bool


class VoteRequest(Base, frozen=True, array_like=True, tag=3, gc=False):
    """RequestVote (section 5.2): `last_*` describe the candidate's log (section 5.4.1).

    `transfer`: the leader itself has asked for this election, so its lease does not count.
    """

    last_index: int
    last_term: int
    transfer: bool = False


class VoteResponse(Base, frozen=True, array_like=True, tag=4, gc=False):
    """The answer, sent only when the vote is durable."""

    granted: bool


class Append(Base, frozen=True, array_like=True, tag=5, gc=False):
    """AppendEntries (section 5.3).

    Attributes:
        prev_index: Index of the entry before `entries`.
        prev_term: That entry's term.
        entries: Contiguous, possibly none.
        commit: The leader's commit index.
    """

    prev_index: int
    prev_term: int
    entries: list[Entry]
    commit: int


class AppendResponse(Base, frozen=True, array_like=True, tag=6, gc=False):
    """The answer, sent only when everything it vouches for is durable (rule D1).

    Attributes:
        index: Accepted: the log agrees with the leader's up to here. Rejected: the `prev_index`
            that did not match.
        rejected: Whether it was rejected.
        hint_index: Rejected: the last index at which the logs might agree.
        hint_term: The term of the entry there.
    """

    index: int
    rejected: bool = False
    hint_index: int = 0
    hint_term: int = 0


class Heartbeat(Base, frozen=True, array_like=True, tag=7, gc=False):
    """ "I lead `term`." `round` numbers the broadcasts of a term (reads, section 6.4 of the thesis).

    `commit` is never above what the receiver is known to have.
    """

    commit: int
    round: int


class HeartbeatResponse(Base, frozen=True, array_like=True, tag=8, gc=False):
    """Echoes the round: at some moment after it was sent, the sender still led for us."""

    round: int


class InstallSnapshot(Base, frozen=True, array_like=True, tag=9, gc=False):
    """InstallSnapshot (section 7), given to the core when the whole content has arrived."""

    meta: SnapshotMeta


class ReadIndexRequest(Base, frozen=True, array_like=True, tag=10, gc=False):
    """A follower asks the leader for a read index; `read` is never used twice by it."""

    read: int


class ReadIndexResponse(Base, frozen=True, array_like=True, tag=11, gc=False):
    """The answer: the index to wait for, or None when the leader could not take it."""

    read: int
    index: int | None


class TimeoutNow(Base, frozen=True, array_like=True, tag=12, gc=False):
    """The leader asks a voter with the whole log to call an election at once (thesis 3.10)."""


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
