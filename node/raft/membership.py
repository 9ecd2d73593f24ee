"""The configuration: which nodes vote, which learn, and how one configuration becomes the next.

A membership entry carries the whole configuration that results from it, so the configuration in
force is the newest one in the log. It takes effect when its entry is appended (thesis section 4.1),
and is taken back when that entry is truncated; `ConfigHistory` keeps the ones to go back to.

Why whole configurations and not single changes: a change means something only together with its
predecessor, and would have to be undone when its entry is truncated (canonical/raft#250 and #323
are failures of that). Here the predecessor is just the configuration below it on a stack.
`simple`, `enter_joint` and `leave_joint` follow etcd-raft's confchange/confchange.go.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

import msgspec

MEMBERS_MAX = 1024
"""Of all groups together. Every heartbeat goes to each, so no cluster comes near it."""

_ID_MAX = (1 << 64) - 1


class Configuration(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The members of the cluster. All tuples are sorted, so that equal sets are equal values.

    Attributes:
        voters: Ids of the nodes whose majority decides.
        learners: Ids of the nodes that receive the log and do not vote.
        outgoing: The old voters while a joint change is in progress, else empty.
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
        """Return all nodes that receive the log, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners, *self.learners_next}))


class ConfigChangeKind(enum.IntEnum):
    """What a change does to one node."""

    ADD_VOTER = 0
    """Make the node a voter, even if it is a learner."""
    ADD_LEARNER = 1
    """Make the node a learner, even if it is a voter."""
    REMOVE = 2
    """Remove the node. To remove one that is not a member changes nothing."""


class ConfigChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step of a membership change. A step for node 0 changes nothing."""

    kind: ConfigChangeKind
    node: int


class InvalidConfigChange(Exception):
    """The change cannot be made; the text says why."""


class Transition(enum.Enum):
    """Whether a change takes one step, or goes through a joint configuration."""

    AUTO = "auto"
    """One step if at most one voter changes, else as JOINT_IMPLICIT."""
    JOINT_IMPLICIT = "implicit"
    """Through a joint configuration, which the leader leaves by itself."""
    JOINT_EXPLICIT = "explicit"
    """Through a joint configuration, until a change without any steps leaves it."""


def simple(config: Configuration, changes: Iterable[ConfigChange]) -> Configuration:
    """Return `config` after `changes` that alter at most one voter (thesis section 4.1).

    Raises:
        InvalidConfigChange: More than one voter changes, none is left, or `config` is joint.
    """
    if config.outgoing:
        raise InvalidConfigChange("can't apply simple config change in joint config")
    changed = _changed(config, changes)
    # Any majority of n voters and any majority of n plus or minus one overlap in a node, which
    # makes a joint configuration between them unnecessary (thesis section 4.1).
    if len(set(changed.voters).symmetric_difference(config.voters)) > 1:
        raise InvalidConfigChange("more than one voter changed without entering joint config")
    return changed


def enter_joint(
    config: Configuration, changes: Iterable[ConfigChange], *, auto_leave: bool
) -> Configuration:
    """Return the joint configuration between `config` and the result of `changes`.

    Until it is left, both halves must agree (section 6).

    Raises:
        InvalidConfigChange: No voter is left, or `config` is joint or has no voters.
    """
    if config.outgoing:
        raise InvalidConfigChange("config is already joint")
    if not config.voters:
        raise InvalidConfigChange("can't make a zero-voter config joint")
    both = msgspec.structs.replace(config, outgoing=config.voters)
    return msgspec.structs.replace(_changed(both, changes), auto_leave=auto_leave)


def leave_joint(config: Configuration) -> Configuration:
    """Return the configuration that follows a joint one: its new half alone.

    Raises:
        InvalidConfigChange: `config` is not joint.
    """
    if not config.outgoing:
        raise InvalidConfigChange("can't leave a non-joint config")
    learners = {*config.learners, *config.learners_next}
    return Configuration(voters=config.voters, learners=tuple(sorted(learners)))


def next_configuration(
    config: Configuration, changes: Sequence[ConfigChange], transition: Transition = Transition.AUTO
) -> Configuration:
    """Return the configuration that follows `config` in the log; no changes leave a joint one.

    Raises:
        InvalidConfigChange: The changes cannot be made from `config`.
    """
    if not changes:
        return leave_joint(config)
    if transition is not Transition.AUTO:
        is_auto = transition is Transition.JOINT_IMPLICIT
        return enter_joint(config, changes, auto_leave=is_auto)
    if config.outgoing:
        raise InvalidConfigChange("can't apply simple config change in joint config")
    after = set(_changed(config, changes).voters)
    if len(after.symmetric_difference(config.voters)) > 1:
        return enter_joint(config, changes, auto_leave=True)
    return simple(config, changes)


def _changed(config: Configuration, changes: Iterable[ConfigChange]) -> Configuration:
    voters, learners = set(config.voters), set(config.learners)
    learners_next = set(config.learners_next)
    for change in changes:
        node = change.node
        if node == 0 or (change.kind is ConfigChangeKind.ADD_LEARNER and node in learners):
            continue
        for group in (voters, learners, learners_next):
            group.discard(node)
        if change.kind is ConfigChangeKind.ADD_VOTER:
            voters.add(node)
        elif change.kind is ConfigChangeKind.ADD_LEARNER:
            # A node that votes in the old half stays a voter until that half is gone, and is a
            # learner only then (etcd-raft calls this set `LearnersNext`, too).
            (learners_next if node in config.outgoing else learners).add(node)
    if not voters:
        raise InvalidConfigChange("removed all voters")
    return Configuration(
        voters=tuple(sorted(voters)),
        learners=tuple(sorted(learners)),
        outgoing=config.outgoing,
        learners_next=tuple(sorted(learners_next)),
    )


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
    """Whether `data` is a configuration that a cluster can have.

    Asked of a whole message before any entry of it is used.
    """
    try:
        return is_sound(decode(data))
    except msgspec.DecodeError:
        return False


def is_sound(config: Configuration) -> bool:
    """Whether a cluster can have this configuration: `next_configuration` made it, or may have."""
    voters, outgoing, learners = set(config.voters), set(config.outgoing), set(config.learners)
    later = set(config.learners_next)
    groups = (config.voters, config.learners, config.outgoing, config.learners_next)
    return (
        bool(voters)
        and sum(map(len, groups)) <= MEMBERS_MAX
        and all(0 < node <= _ID_MAX for group in groups for node in group)
        and all(list(group) == sorted(set(group)) for group in groups)
        and not learners & (voters | outgoing)
        and later <= outgoing - voters
        and (bool(outgoing) or not config.auto_leave)
    )


class ConfigHistory:
    """The configurations in the log with their indexes, as a stack.

    The first one belongs to the snapshot that the log starts after; the last one is in force.

    Attributes:
        index, current: The configuration in force, and the index of its entry.
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
        """Forget the configurations at `index` and above; return whether there were any."""
        before = len(self._stack)
        while len(self._stack) > 1 and self._stack[-1][0] >= index:
            self._stack.pop()
        self._top()
        return len(self._stack) != before

    def compact(self, index: int) -> None:
        """Forget the configurations before the one that is in force at `index`."""
        keep = len([i for i, _ in self._stack if i <= index]) - 1
        del self._stack[: max(keep, 0)]

    def at(self, index: int) -> Configuration:
        """Return the configuration in force at `index`, which must not be compacted away."""
        return next(config for i, config in reversed(self._stack) if i <= index)

    def items(self) -> Sequence[tuple[int, Configuration]]:
        """Return all configurations with their indexes, oldest first."""
        return tuple(self._stack)

    def _top(self) -> None:
        self.index, self.current = self._stack[-1]
