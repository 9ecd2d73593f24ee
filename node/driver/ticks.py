"""Waits whose length is a setting of the cluster, and so may change while they last.

Whoever waits for a heartbeat of ten seconds must not finish it when the cluster has agreed on one
of a tenth of a second: the others would take it for dead.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..net.lag import Lag


class TickTimer:
    """Waits of as many seconds as `seconds` says when they end; `lag` is told how late that was.

    `stretch`: By how much of its length the wait after one that was cut short is longer.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        lag: Lag | None = None,
        stretch: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._seconds = seconds
        self._lag = lag
        self._stretch = stretch
        self._begun = 0.0
        self._factor = 1.0
        self._scope: trio.CancelScope | None = None
        self._changed = trio.Event()

    def look(self) -> None:
        """The length has perhaps changed: a wait under way takes the new one, from its beginning."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def cut_short(self) -> float | None:
        """Do with less than the whole wait, if half of it is over; the next begins now.

        Returns the seconds that have passed, or None: it was too early, or too late. Who waits does
        not notice, and goes on waiting for the end of the next.
        """
        now = trio.current_time()
        passed = now - self._begun
        if self._scope is None or self._scope.cancel_called or passed < self._seconds() / 2:
            return None  # The second: the wait is over, and who waited has only to wake up.
        self._begun = now
        self._factor = 1.0 + self._stretch()
        self._scope.deadline = self._end()
        return passed

    async def wait(self) -> float:
        """Wait once; return the length in seconds, which is that of the wait or shorter."""
        self._begun, self._factor = trio.current_time(), 1.0
        while True:
            with trio.move_on_at(self._end()) as self._scope:
                await self._changed.wait()
                continue
            self._scope = None
            seconds = self._seconds() * self._factor
            if self._lag is not None:
                self._lag.note(trio.current_time() - (self._begun + seconds))
            return seconds

    def _end(self) -> float:
        return self._begun + self._seconds() * self._factor
