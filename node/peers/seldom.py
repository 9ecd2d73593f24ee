"""A log line that comes again with each attempt: it is written once, then every ten minutes at most.

A peer that is refused dials again twice a second, for as long as nobody mends what is wrong.
"""

from __future__ import annotations

import trio

INTERVAL_SECONDS = 600.0

_MAX_KEYS = 256
"""What is kept of lines written before; the oldest goes first, and is then written once more."""


class Seldom:
    """Decides which of the lines of one place are written."""

    def __init__(self) -> None:
        self._written: dict[tuple[object, ...], float] = {}

    def is_due(self, *what: object) -> bool:
        """Whether a line about `what` is to be written now; if so, it counts as written."""
        now = trio.current_time()
        last = self._written.get(what)
        if last is not None and now - last < INTERVAL_SECONDS:
            return False
        self._written.pop(what, None)
        self._written[what] = now
        if len(self._written) > _MAX_KEYS:
            del self._written[next(iter(self._written))]
        return True
