"""I9: what one configuration may become in one entry, so that their majorities always meet.

Either nothing but learners changes, or one voter, or the change goes through a joint
configuration, in which both the old and the new majority decide (section 6 of the paper).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from hstore.node.raft.membership import Configuration


def fault_of(config: Configuration) -> str | None:
    """Return what is wrong with a configuration by itself."""
    voters, learners = set(config.voters), set(config.learners)
    if not voters:
        return "has no voters"
    if learners & set(config.all_voters()):
        return "counts voters as learners"
    if not set(config.learners_next) <= set(config.outgoing) - voters:
        return "holds learners back that are no voters of the old half alone"
    if not config.outgoing and config.auto_leave:
        return "is to leave what is not joint"
    return None


def fault_between(before: Configuration, after: Configuration) -> str | None:
    """Return what is wrong with a configuration as the next one of another."""
    if before.outgoing and after.outgoing:
        return "is joint after a joint one"
    if after.outgoing:
        if after.outgoing != before.voters:
            return "has another old half than the voters of before"
    elif before.outgoing:
        if after.voters != before.voters:
            return "has other voters than the new half of before"
        if set(after.learners) != {*before.learners, *before.learners_next}:
            return "has other learners than were there, or were held back"
    elif len(set(before.voters) ^ set(after.voters)) > 1:
        return "changes more than one voter at once"
    return None


def count(counts: Counter[str], before: Configuration, after: Configuration) -> None:
    """Take note of what kind of step this is, once it is committed."""
    if after.outgoing:
        counts["joint configurations entered"] += 1
        both = set(after.voters) ^ set(after.outgoing)
        if len(both) > 1:
            counts["joint configurations of several changes"] += 1
    elif before.outgoing:
        counts["joint configurations left"] += 1
        counts["learners held back until a joint one was left"] += bool(before.learners_next)


def has_majority(config: Configuration, nodes: Collection[int]) -> bool:
    """Whether `nodes` are a majority of each half."""
    return all(
        len(set(half) & set(nodes)) > len(half) // 2
        for half in (config.voters, config.outgoing)
        if half
    )
