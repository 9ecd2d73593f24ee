"""When a session is renewed, and when its command must be ended: pure functions of the time.

The promise (contract-services 6.3): a holder knows that it may hold no longer when its own clock says
that the TTL has passed since it *sent* its last successful renewal. The cluster itself ends a session
after twice its TTL, so a clock that is wrong by less than half does no harm.
"""

from __future__ import annotations

RENEWALS = 5
"""A session is renewed so many times in a TTL: most of them may fail, as when a leader dies (2 s)."""

_GRACE_S_MAX = 30.0
_MARGIN_S_MAX = 1.0


class Lease:
    """The time for which a session lives for certain.

    Attributes:
        every_s: Seconds between two renewals.
        grace_s: How long before the end the command is asked to end (SIGTERM): a quarter of the TTL,
            at most 30 s.

    Args:
        ttl_s: The session's TTL in seconds.
        sent_at: When its creation was sent.
    """

    def __init__(self, ttl_s: float, sent_at: float) -> None:
        self.every_s = ttl_s / RENEWALS
        self.grace_s = min(ttl_s / 4, _GRACE_S_MAX)
        self._ttl_s = ttl_s
        self._margin_s = min(ttl_s / 20, _MARGIN_S_MAX)
        self._sent_at = sent_at

    def renewed(self, sent_at: float) -> None:
        """Count from a renewal that has succeeded; its answer may have come much later."""
        self._sent_at = max(self._sent_at, sent_at)

    @property
    def renew_at(self) -> float:
        """When the next renewal is due."""
        return self._sent_at + self.every_s

    @property
    def terminate_at(self) -> float:
        """From when on the command has to end, unless there is a renewal before."""
        return self._sent_at + self._ttl_s - self.grace_s

    @property
    def kill_at(self) -> float:
        """When it is killed: a process needs a moment to be gone before the lock may be lost."""
        return self._sent_at + self._ttl_s - self._margin_s
