"""How many entries of the log a node applies per second. Knows no clock: it is told the time."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 5.0
SAMPLE_S = 0.4
"""Between two samples: less than the health-check interval in which a node reports."""


class WriteRate:
    """The rate over the last five seconds, from samples of the applied index."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._snapshots = 0

    def at(self, now: float, applied: int, snapshots: int) -> float | None:
        """Take a sample and return the rate in entries per second; None: it cannot be known yet.

        Args:
            now: The time, in seconds.
            applied: The applied index.
            snapshots: How many snapshots were installed. Each moves the index without any entry, so
                the samples before it say nothing.
        """
        samples = self._samples
        if snapshots != self._snapshots:
            self._snapshots = snapshots
            samples.clear()
        samples.append((now, applied))
        while len(samples) > 2 and now - samples[1][0] >= _WINDOW_S:
            samples.popleft()
        since, before = samples[0]
        if now - since < SAMPLE_S:
            return None
        return round((applied - before) / (now - since), 1)
