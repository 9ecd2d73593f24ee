"""How long the event loop has kept other tasks waiting (the figure `event_loop_lag`).

While one task works, heartbeats, timers and all clients wait. Two kinds of waits are recorded: how
long each batch of sockets took, and how late each tick came. For each of the last 60 seconds the
longest is kept, so a reader that looks once a minute misses none.
"""

from __future__ import annotations

from collections import deque

import trio

from ..measure.histogram import Histogram

# For how many seconds back the longest wait is known.
SECONDS_MAX = 60


class Lag:
    """The longest wait of each of the last seconds, and how long all waits were.

    Attributes:
        seconds: All waits.
    """

    def __init__(self) -> None:
        """Start without any."""
        self.seconds = Histogram()
        self._longest: deque[tuple[int, float]] = deque(maxlen=SECONDS_MAX)

    def note(self, seconds: float) -> None:
        """Record a wait that ends now."""
        self.seconds.observe(seconds)
        second = int(trio.current_time())
        if not self._longest or self._longest[-1][0] != second:
            self._longest.append((second, seconds))
        elif self._longest[-1][1] < seconds:
            self._longest[-1] = second, seconds

    def longest_ms(self, seconds: int) -> float:
        """Return the longest wait of the last `seconds` (at most `SECONDS_MAX`), in ms."""
        since = trio.current_time() - seconds
        longest = max((waited for second, waited in self._longest if second + 1 > since), default=0)
        return longest * 1000
