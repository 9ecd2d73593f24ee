"""Tells followers of a commit that no entries follow.

While commits are few, the leader sends the news of each in the very step of the core that commits,
before it applies the entry itself: watches and blocking reads on a follower wait for it.

While they are many, the next entries carry the news. A message for the news alone would be in their
way: a client that writes one key after another sends the next as soon as the last is answered. So
the leader waits a moment to see whether entries follow, and looks ever more rarely while many follow
each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from ..net.flag import Flag
from ..raft import events as happened
from ..raft import replication
from ..raft.core import Core
from ..raft.roles import Role

_WAIT_S, _WAIT_S_MAX = 0.002, 0.016

_ENTRIES_PER_S = 250
"""From this rate on, entries follow each other closely enough to carry the news in time."""

_AT_ONCE_PER_S = 250
"""Up to this rate, the news of each commit is sent at once. One client that writes one key after
another is above it: its next entry comes 1 to 3 ms after the last."""

_AT_ONCE_IN_A_ROW = 8
"""So many commits may come together now and then, where they are few on the whole."""

_TRIES_MAX = 8
"""For followers that have entries to answer; then the next commit or heartbeat tells them."""

_TELL_AT_ONCE = happened.TellCommit(at_once=True)


class CommitNews:
    """Spreads the news of one node's commits while it leads; `feed` gives its core an event."""

    def __init__(self, core: Core, feed: Callable[[happened.Event], None]) -> None:
        self._core = core
        self._feed = feed
        self._committed = Flag()
        self._credit = float(_AT_ONCE_IN_A_ROW)
        self._credit_at = trio.current_time()

    def add_to(self, events: deque[happened.Event]) -> None:
        """Have what the leader's coming step commits told in it, if commits are few."""
        core = self._core
        if core.role is Role.LEADER and core.progress and self._earned() >= 1:
            events.append(_TELL_AT_ONCE)

    def committed(self) -> None:
        """The leader has applied what it has committed: have `run` tell of it, if nothing has yet."""
        core = self._core
        if not core.progress:
            return
        # Every commit uses credit up, told at once or not: it comes back when they are few.
        self._credit = max(self._earned() - 1, -_AT_ONCE_IN_A_ROW)
        self._credit_at = trio.current_time()
        if replication.is_untold(core, core.log.commit):
            self._committed.set()

    def _earned(self) -> float:
        """Return how many commits may be told at once now, one after the other."""
        earned = (trio.current_time() - self._credit_at) * _AT_ONCE_PER_S
        return min(self._credit + earned, _AT_ONCE_IN_A_ROW)

    async def run(self) -> None:
        """Have the core send its commit index where that is needed, until cancelled."""
        core, wait_s = self._core, _WAIT_S
        while True:
            await self._committed.wait()
            for _ in range(_TRIES_MAX):
                commit, last = core.log.commit, core.log.last_index
                await trio.sleep(wait_s)
                if replication.is_untold(core, commit):
                    self._feed(happened.TellCommit())
                    await trio.lowlevel.checkpoint()  # for the turn
                is_busy = core.log.last_index - last >= wait_s * _ENTRIES_PER_S
                wait_s = min(2 * wait_s, _WAIT_S_MAX) if is_busy else _WAIT_S
                if not replication.is_untold(core, core.log.commit):
                    break
