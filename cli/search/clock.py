"""The time of the command line, in one place, so that tests can give another.

Only the synchronous commands wait here; a node's time is Trio's.
"""

from __future__ import annotations

import time


class Clock:
    """The real time."""

    def now(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait. The commands are synchronous, so this blocks no event loop."""
        time.sleep(seconds)  # noqa: TID251
