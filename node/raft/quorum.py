"""The arithmetic of majorities: which index is committed, and who has won a vote.

Joint configurations (section 6) need a majority of both halves: "Agreement (for elections and
entry commitment) requires separate majorities from both the old and new configurations." An empty
half agrees with everything, so one code path serves joint and simple configurations, as in
etcd-raft's quorum/majority.go and joint.go.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence

from .membership import Configuration

# The index that an empty set of voters has committed: a minimum with it is always the other half's.
INFINITE = 2**63 - 1


class VoteResult(enum.Enum):
    """The state of a ballot."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def majority_committed(voters: Sequence[int], acked: Callable[[int], int]) -> int:
    """Return the largest index that a majority of `voters` has acknowledged.

    Args:
        voters: Distinct ids.
        acked: Gives the index a voter has acknowledged, 0 for none.
    """
    count = len(voters)
    if not count:
        return INFINITE
    # Sorted ascending, the majority's index is at position n - (n // 2 + 1): that voter and all
    # behind it, a majority, have acknowledged at least as much. Even sizes are where this goes
    # wrong elsewhere (hashicorp/raft#188): with four voters three must have it.
    indexes = sorted(map(acked, voters))
    return indexes[count - (count // 2 + 1)]


def majority_vote(voters: Sequence[int], votes: Mapping[int, bool]) -> VoteResult:
    """Return the result of a ballot among `voters`; votes of others do not count."""
    granted = rejected = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is True:
            granted += 1
        elif vote is False:
            rejected += 1
    needed = len(voters) // 2 + 1
    # An empty half wins, so that it never decides a joint ballot.
    if not voters or granted >= needed:
        return VoteResult.WON
    if len(voters) - rejected < needed:
        return VoteResult.LOST
    return VoteResult.PENDING


def committed(config: Configuration, acked: Callable[[int], int]) -> int:
    """Return the largest index acknowledged by a quorum of `config`: of both halves in joint."""
    index = majority_committed(config.voters, acked)
    if config.outgoing:
        index = min(index, majority_committed(config.outgoing, acked))
    return index


def vote_result(config: Configuration, votes: Mapping[int, bool]) -> VoteResult:
    """Return the result of a ballot under `config`: lost when either half is lost."""
    result = majority_vote(config.voters, votes)
    if not config.outgoing:
        return result
    other = majority_vote(config.outgoing, votes)
    if result is other:
        return result
    # The halves differ: one lost half loses the ballot; else one half is still pending.
    if VoteResult.LOST in (result, other):
        return VoteResult.LOST
    return VoteResult.PENDING
