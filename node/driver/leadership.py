"""Notifies of changes of the leader, the configuration, the members and the settings.

What follows from such a change (links, the view for DNS, news for watchers) takes some tenths of a
millisecond of the only thread that runs Python, on a busy machine more. With the first entry of a
new leader, a whole cluster waits for the flush that was begun in the same turn. So a notification is
held until that flush has ended. While no leader is known, an election is under way, which needs the
thread more: then it is held until there is a leader, or until the next tick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from ..raft.core import Core
from ..raft.roles import Role
from ..state.machine import State

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Leadership:
    """The role of this node, and the leader it knows of; 0 when it knows of none."""

    role: Role
    term: int
    leader: int


class LeadershipNotifier:
    """Notices the changes of one node, and calls `on_change` for them.

    Attributes:
        known: The leadership as of the last look.
        changes_total: How often another leader became known, since the start.
        elections_total: How often this node asked for votes.
        on_change: Called once for one or several changes, by `notify`.
    """

    def __init__(self, core: Core, state: State, wake: Callable[[], None]) -> None:
        """`wake` has `notify` called soon."""
        self.known = Leadership(Role.FOLLOWER, core.term, 0)
        self.on_change: Callable[[], None] = lambda: None
        self.changes_total = self.elections_total = 0
        self._core = core
        self._state = state
        self._wake = wake
        self._seen: tuple[object, object, object] = (None, None, None)
        self._is_held = self._is_due = False

    def look(self) -> bool:
        """Return whether anything has changed since the last look. Cheap; for every turn."""
        core, state, before = self._core, self._state, self.known
        # Each is replaced whole when it changes.
        config, members, cluster = self._seen
        if (
            core.history.current is config
            and state.members is members
            and state.cluster is cluster
            and core.leader == before.leader
            and core.term == before.term
            and core.role is before.role
        ):
            return False
        now = Leadership(core.role, core.term, core.leader)
        if now != before:
            self._count(before, now)
            _tell(before, now)
        self.known = now
        self._seen = (core.config, state.members, state.cluster)
        self._is_held = True
        return True

    def _count(self, before: Leadership, now: Leadership) -> None:
        if now.leader and (now.leader != before.leader or now.term != before.term):
            self.changes_total += 1
        # One that is won within a turn, as that of an only voter, is seen as a leader of a new term.
        stood = now.role is Role.CANDIDATE or now.leader == self._core.id
        if stood and now.term != before.term:
            self.elections_total += 1

    @property
    def is_held(self) -> bool:
        """Whether a notification waits for the end of a flush."""
        return self._is_held

    def flushed(self) -> None:
        """Release held notifications, because a flush has ended or there is none to wait for."""
        if self._core.leader:
            self.release()

    def release(self) -> None:
        """Release held leadership notifications: they are due now."""
        if self._is_held:
            self._is_held, self._is_due = False, True
            self._wake()

    def notify(self) -> None:
        """Call `on_change`, if a notification is due."""
        if self._is_due:
            self._is_due = False
            self.on_change()


def _tell(before: Leadership, now: Leadership) -> None:
    """Log what this node has seen of elections: its own part in them; the rest is for looking closely.

    Which member leads is an event of the whole cluster (`cluster/timeline.py`).
    """
    led_by = {"member": now.leader} if now.leader else {}
    if now.role is Role.LEADER:
        _log.info("won an election", term=now.term)
    elif before.role is Role.LEADER:
        _log.info("this node leads no more", term=now.term, **led_by)
    elif before.role is Role.CANDIDATE:
        _log.info("lost an election", term=before.term, **led_by)
    elif now.role is Role.CANDIDATE:
        _log.info("stands for election", term=now.term)
    else:
        _log.debug("leadership", role=now.role.value, term=now.term, **led_by)
