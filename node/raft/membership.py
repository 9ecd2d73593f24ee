"""The configuration: who votes, who learns, and how one configuration becomes the next.

A membership entry carries the whole configuration that results from it, so that the configuration
in force is simply the newest one in the log. It takes effect when the entry is appended (section
4.1 of the thesis) and is taken back when the entry is truncated: `History` is that fold.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

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

    def is_voter(self, node: int) -> bool:
        """Whether `node` votes, in either half."""
        return node in self.voters or node in self.outgoing

    def all_voters(self) -> tuple[int, ...]:
        """Return the voters of both halves, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing})) if self.outgoing else self.voters

    def all_members(self) -> tuple[int, ...]:
        """Return everybody who receives the log, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners, *self.learners_next}))


class ChangeKind(enum.IntEnum):
    """What a change does to one node."""

    ADD_VOTER = 0
    """Make it a voter, whatever it was."""
    ADD_LEARNER = 1
    """Make it a learner, whatever it was."""
    REMOVE = 2
    """Take it out. Removing who is not there changes nothing."""


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step of a membership change. Node 0 is nobody: such a step changes nothing."""

    kind: ChangeKind
    node: int


class InvalidChange(Exception):
    """The change cannot be made; the text says why."""


def simple(config: Configuration, changes: Iterable[Change]) -> Configuration:
    """Return `config` after `changes` that alter at most one voter (thesis section 4.1).

    Consecutive configurations that differ by one voter have overlapping majorities, so no joint
    configuration is needed between them.

    Raises:
        InvalidChange: The change alters more than one voter, leaves none, or `config` is joint.
    """
    if config.outgoing:
        raise InvalidChange("can't apply simple config change in joint config")
    voters, learners = set(config.voters), set(config.learners)
    for change in changes:
        if change.node == 0:
            continue
        voters.discard(change.node)
        learners.discard(change.node)
        if change.kind is ChangeKind.ADD_VOTER:
            voters.add(change.node)
        elif change.kind is ChangeKind.ADD_LEARNER:
            learners.add(change.node)
    if not voters:
        raise InvalidChange("removed all voters")
    if len(voters.symmetric_difference(config.voters)) > 1:
        raise InvalidChange("more than one voter changed without entering joint config")
    return Configuration(voters=tuple(sorted(voters)), learners=tuple(sorted(learners)))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Configuration)

encode = _encoder.encode
"""Encode a configuration as the payload of a membership entry."""


def decode(data: bytes) -> Configuration:
    """Decode the payload of a membership entry.

    Raises:
        msgspec.DecodeError: It is not a configuration.
    """
    config: Configuration = _decoder.decode(data)
    return config


def is_configuration(data: bytes) -> bool:
    """Whether `decode` would take it: a message must be looked at before any of it is used."""
    try:
        decode(data)
    except msgspec.DecodeError:
        return False
    return True


class History:
    """Configurations by the index of the entry that brought them, oldest first.

    The first one belongs to the snapshot that the log starts after; the last one is in force.
    """

    __slots__ = ("_stack", "current", "index")

    def __init__(self, index: int, config: Configuration) -> None:
        """Start with the configuration of a snapshot at `index`."""
        self._stack = [(index, config)]
        self.index = index
        self.current = config

    def push(self, index: int, config: Configuration) -> None:
        """Put the configuration of a newly appended entry into force."""
        self._stack.append((index, config))
        self._top()

    def truncate(self, index: int) -> bool:
        """Forget configurations of entries at or after `index`; return whether any was."""
        before = len(self._stack)
        while len(self._stack) > 1 and self._stack[-1][0] >= index:
            self._stack.pop()
        self._top()
        return len(self._stack) != before

    def compact(self, index: int) -> None:
        """Forget what lies before the configuration in force at `index`."""
        keep = len([i for i, _ in self._stack if i <= index]) - 1
        del self._stack[: max(keep, 0)]

    def at(self, index: int) -> Configuration:
        """Return the configuration in force at `index`, which must not be compacted away."""
        return next(config for i, config in reversed(self._stack) if i <= index)

    def items(self) -> Sequence[tuple[int, Configuration]]:
        """Return all of them with their indexes, oldest first."""
        return tuple(self._stack)

    def _top(self) -> None:
        self.index, self.current = self._stack[-1]
