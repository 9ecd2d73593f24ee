"""Limits log lines that come again with each attempt: written once, then once in an interval.

A peer that is refused, for instance, dials again twice a second until an operator mends the cause.
"""

from __future__ import annotations

import trio

INTERVAL_SECONDS = 600.0

_MAX_SUBJECTS = 256
"""Subjects remembered; the one written longest ago is forgotten first, and its next line is written."""


class LogLimit:
    """Decides which of the lines of one module are written.

    Args:
        interval_s: Seconds between two lines about the same subject.
    """

    def __init__(self, interval_s: float = INTERVAL_SECONDS) -> None:
        self._interval_s = interval_s
        self._written: dict[tuple[object, ...], float] = {}

    def is_due(self, *subject: object) -> bool:
        """Whether a line about `subject` is to be written now; if so, it counts as written."""
        now = trio.current_time()
        last = self._written.get(subject)
        if last is not None and now - last < self._interval_s:
            return False
        self._written.pop(subject, None)
        self._written[subject] = now
        if len(self._written) > _MAX_SUBJECTS:
            del self._written[next(iter(self._written))]
        return True
