"""How long the event loop has kept everybody waiting of late (`event_loop_lag`).

While one task works, heartbeats, timers and all clients wait. What is noted here: how long each
batch of sockets took, and how late each tick came. The longest of each of the last 60 seconds is
kept, so that who looks need not have looked all the time.
"""

from __future__ import annotations

from collections import deque

import trio

SECONDS_MAX = 60
"""So far back is known."""


class Lag:
    """The longest wait of each of the last seconds."""

    def __init__(self) -> None:
        """Start with none."""
        self._longest: deque[tuple[int, float]] = deque(maxlen=SECONDS_MAX)

    def note(self, seconds: float) -> None:
        """Take note of a wait that ends now."""
        second = int(trio.current_time())
        if not self._longest or self._longest[-1][0] != second:
            self._longest.append((second, seconds))
        elif self._longest[-1][1] < seconds:
            self._longest[-1] = second, seconds

    def longest_ms(self, seconds: int) -> float:
        """Return the longest wait of the last `seconds` (at most `SECONDS_MAX`), in milliseconds."""
        since = trio.current_time() - seconds
        longest = max((waited for second, waited in self._longest if second + 1 > since), default=0)
        return longest * 1000
