"""Waits whose length is a setting of the cluster, and so may change while they last.

Whoever waits for a heartbeat of ten seconds must not finish it when the cluster has agreed on one
of a tenth of a second: the others would take it for dead.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from .lag import Lag


class Pace:
    """Waits of as many seconds as `seconds` says when they end; `lag` is told how late that was."""

    def __init__(self, seconds: Callable[[], float], lag: Lag | None = None) -> None:
        self._seconds = seconds
        self._lag = lag
        self._changed = trio.Event()

    def look(self) -> None:
        """The length has perhaps changed: a wait under way takes the new one, from its beginning."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def wait(self) -> float:
        """Wait once; return the length in seconds, which is that of the wait or shorter."""
        begun = trio.current_time()
        while True:
            seconds = self._seconds()
            with trio.move_on_at(begun + seconds):
                await self._changed.wait()
                continue
            if self._lag is not None:
                self._lag.note(trio.current_time() - (begun + seconds))
            return seconds
