"""Waits whose length is a setting of the cluster, and so may change while they last.

A node that waits for a heartbeat of ten seconds must not finish that wait when the cluster has
agreed on a tenth of a second: the others would take it for dead.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..net.flag import Flag
from ..net.lag import Lag


class TickTimer:
    """Waits for ticks, one after another; one task waits.

    Args:
        seconds: Returns the length of a wait; asked again at its end, as it may have changed.
        lag: Takes note of how late each wait ended; None: it is not noted.
        stretch: Returns by how much of its length the wait after one that was cut short is longer.
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
        self._changed = Flag()

    def look(self) -> None:
        """The length may have changed: a wait under way takes the new one, from its beginning."""
        self._changed.set()

    def cut_short(self) -> float | None:
        """A heartbeat came: end this tick early if at least half of it is over, and begin the next.

        The task in `wait` is not woken: it goes on to wait for the end of the next tick.

        Returns:
            The seconds that have passed; None: the tick goes on, because less than half of it is
            over, or because it has ended, and the task in `wait` only has to wake up.
        """
        now = trio.current_time()
        passed = now - self._begun
        if self._scope is None or self._scope.cancel_called or passed < self._seconds() / 2:
            return None
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
