"""The clocks of sessions: the leader ends each that was not renewed for twice its TTL.

Owns who may still renew: a renewal is answered only by a leader that still leads. How long a session
is kept is in the contract of services, section 6.2.
"""

from __future__ import annotations

from collections.abc import Callable

from ..driver.replica import Replica
from ..driver.requests import Answer, Request
from ..model.locks import Session


class SessionClocks:
    """The clocks of one node's sessions. The HTTP API serves it as `Sessions`."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def renew(self, session_id: bytes, deadline: float) -> Session | None:
        """Start the time of a session again; return it, or None: there is none."""
        raise NotImplementedError

    def begin_renew(
        self, session_id: bytes, deadline: float, tell: Callable[[Answer], None]
    ) -> Request | None:
        """As `renew`, without a task that waits; None: this one needs a task."""
        raise NotImplementedError
