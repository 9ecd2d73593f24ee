"""Membership changes at the leader, one at a time (thesis chapter 4, paper section 6).

A change of one voter takes one entry. One of several goes through a joint configuration, in which
both the old and the new majority decide; once that is committed the leader appends the entry that
leaves it.
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
    """Whether a new change may be proposed (rule D10).

    The last one must be committed, and so must the no-op of this term: without the latter, two
    leaders could each commit a change that the other's quorum knows nothing of (Ongaro 2015).
    """
    return core.log.commit >= max(core.history.index, core.noop_index)


def is_caught_up(core: Core, learner: int) -> bool:
    """Whether a learner lacks so little that its vote would not hold commits back (4.2.1)."""
    progress = core.progress.get(learner)
    return (
        progress is not None
        and progress.state is ProgressState.REPLICATE
        and progress.match + core.options.promotion_gap >= core.log.last_index
        and progress.match >= core.noop_index
    )


def propose_change(core: Core, event: ProposeConfigChange) -> None:
    """Append the configuration that results from the changes, or say why not."""
    refusal = _refusal(core, event)
    if refusal is not None:
        core.update.rejected.append((event.rid, *refusal))
        return
    config = membership.next_configuration(core.config, event.changes, event.transition)
    core.update.appended.append((event.rid, core.term, _append(core, config)))


def leave_if_due(core: Core) -> None:
    """Leave a joint configuration that says so, once it is committed (section 6).

    Whoever leads then does it: the leader that began may be gone.
    """
    config = core.config
    if config.auto_leave and is_settled(core):
        _append(core, membership.leave_joint(config))


def _append(core: Core, config: Configuration) -> int:
    index = core.append_as_leader(EntryKind.CONFIG, [membership.encode(config)])
    # A smaller quorum may already have what the larger one had not.
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
    """At the leader: feed exactly the members of the configuration now in force."""
    if core.role is not Role.LEADER:
        return
    members = [node for node in core.config.all_members() if node != core.id]
    core.progress = {
        node: core.progress.get(node) or Progress(core.log.last_index) for node in members
    }


def step_down_if_removed(core: Core) -> None:
    """A leader that is not a voter any more leads on until that is committed (4.2.2).

    The appends that carry the commit have been gathered just before.
    """
    if not core.config.is_voter(core.id) and core.log.commit >= core.history.index:
        core.become_follower(core.term, 0)
