"""Tells followers of a commit that no entries follow.

Entries carry the commit index of the leader, and so the news of what was committed before them. A
message for the news alone, sent at once, would be in the way of the next entries: a client that
writes one key after another sends the next as soon as the last is answered. So the leader waits a
moment to see whether entries carry the news, and looks ever more rarely while many follow each other.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..net.flag import Flag
from ..raft import events as happened
from ..raft import replication
from ..raft.core import Core

_WAIT_S, _WAIT_S_MAX = 0.002, 0.016

_ENTRIES_PER_S = 250
"""From this rate on, entries follow each other closely enough to carry the news in time."""

_TRIES_MAX = 8
"""For followers that have entries to answer; then the next commit or heartbeat tells them."""


class CommitNews:
    """Spreads the news of one node's commits while it leads; `feed` gives its core an event."""

    def __init__(self, core: Core, feed: Callable[[happened.Event], None]) -> None:
        self._core = core
        self._feed = feed
        self._committed = Flag()

    def committed(self) -> None:
        """The leader has committed something."""
        self._committed.set()

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
