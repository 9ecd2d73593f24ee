"""Majorities, as arithmetic: what is committed, and who has won a vote.

Joint configurations (section 6) need a majority of both halves. The empty set of voters agrees
with everything, which is what makes one code path serve joint and simple configurations.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence

from .membership import Configuration

INFINITE = 2**63 - 1
"""What the empty set of voters has committed: it never holds the other half back."""


class VoteResult(enum.Enum):
    """Where a ballot stands."""

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
    if VoteResult.LOST in (result, other):
        return VoteResult.LOST
    return VoteResult.PENDING
