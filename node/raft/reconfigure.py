"""Membership changes at the leader, one at a time (section 6, thesis chapter 4).

A change of one voter takes one entry. A change of several goes through a joint configuration, in
which the old and the new majority must both agree; once that one is committed, the leader appends
the entry that leaves it.

Rule 1: a configuration is in force from the moment it is appended (rule D9). etcd-raft changes at
apply; etcd#7280, #12582 and #21694 are bugs of that choice.
Rule 2: no change before the last one and this term's no-op are committed (`is_settled`).
Rule 3: a removed leader leads until its removal is committed, and is not counted (`Configuration`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import membership, replication
from .entry import EntryKind
from .errors import Reason
from .membership import ConfigChangeKind, Configuration, InvalidConfigChange
from .progress import Progress, ProgressState
from .roles import Role

if TYPE_CHECKING:
    from .core import Core
    from .events import ProposeConfigChange


def is_settled(core: Core) -> bool:
    """Whether a new change may be proposed (rule D10)."""
    # The last change must be committed: else two changes could together differ by more than one
    # voter. So must the no-op of this term: without it, two leaders of different terms can each
    # commit a change by a quorum that does not know the other's (Ongaro, raft-dev mailing list,
    # 2015).
    return core.log.commit >= max(core.history.index, core.noop_index)


def is_caught_up(core: Core, learner: int) -> bool:
    """Whether a learner lacks so few entries that, as a voter, it would not hold commits back."""
    # Thesis section 4.2.1 has the leader replicate to a new server in rounds before it counts. Here
    # the bound is a number of entries (`promotion_gap`), and an entry of this term must have
    # arrived.
    progress = core.progress.get(learner)
    return (
        progress is not None
        and progress.state is ProgressState.REPLICATE
        and progress.match + core.options.promotion_gap >= core.log.last_index
        and progress.match >= core.noop_index
    )


def propose_change(core: Core, event: ProposeConfigChange) -> None:
    """Append the configuration that results from the changes, or refuse them with a reason."""
    refusal = _refusal(core, event)
    if refusal is not None:
        core.update.rejected.append((event.rid, *refusal))
        return
    config = membership.next_configuration(core.config, event.changes, event.transition)
    core.update.appended.append((event.rid, core.term, _append(core, config)))


def leave_if_due(core: Core) -> None:
    """Append the entry that leaves a joint configuration, once the joint one is committed."""
    # Any leader does this for a configuration with `auto_leave`: the one that began may have
    # failed.
    config = core.config
    if config.auto_leave and is_settled(core):
        _append(core, membership.leave_joint(config))


def _append(core: Core, config: Configuration) -> int:
    index = core.append_as_leader(EntryKind.CONFIG, [membership.encode(config)])
    # The new quorum may be smaller, and may have entries already that the old one had not.
    replication.advance_commit(core)
    return index


def _refusal(core: Core, event: ProposeConfigChange) -> tuple[Reason, str] | None:
    if core.role is not Role.LEADER or not core.config.is_voter(core.id):
        return Reason.NOT_LEADER, core.leader_hint()
    if core.transfer is not None:
        return Reason.TRANSFERRING, "leadership is being handed over"
    if not is_settled(core):
        return Reason.CHANGE_PENDING, "another membership change is under way"
    for change in event.changes:
        is_promotion = (
            change.kind is ConfigChangeKind.ADD_VOTER and change.node in core.config.learners
        )
        if is_promotion and not is_caught_up(core, change.node):
            return Reason.INVALID_CHANGE, "the learner has not caught up"
    try:
        membership.next_configuration(core.config, event.changes, event.transition)
    except InvalidConfigChange as error:
        return Reason.INVALID_CHANGE, str(error)
    return None


def follow_configuration(core: Core) -> None:
    """At the leader: replicate to exactly the members of the configuration in force."""
    if core.role is not Role.LEADER:
        return
    # A new peer is probed from the entry before this configuration: most often it has nothing, and
    # names its end in the rejection.
    members = [node for node in core.config.all_members() if node != core.id]
    core.progress = {
        node: core.progress.get(node) or Progress(core.log.last_index) for node in members
    }


def step_down_if_removed(core: Core) -> None:
    """Step down as leader once the removal of this node is committed (thesis section 4.2.2)."""
    # Section 6: the leader "steps down (returns to follower state) once it has committed the C_new
    # log entry"; until then "it replicates log entries but does not count itself in majorities".
    # The appends that carry this commit index were gathered just before.
    if not core.config.is_voter(core.id) and core.log.commit >= core.history.index:
        core.become_follower(core.term, 0)
