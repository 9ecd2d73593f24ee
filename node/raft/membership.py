"""The configuration: who votes, who learns, and how one configuration becomes the next."""

from __future__ import annotations

import msgspec


class Configuration(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who belongs to the cluster. All tuples are sorted, so that equal sets are equal values.

    Attributes:
        voters: Ids of the nodes whose majority decides.
        learners: Ids of the nodes that receive the log and do not vote.
        outgoing: The old voters while a joint change is under way, else empty.
        learners_next: Voters of `outgoing` that become learners when the joint change ends.
        auto_leave: Whether the leader ends the joint change by itself.
    """

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False
