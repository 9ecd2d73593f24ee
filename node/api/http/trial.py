"""Connections on trial: only a reserved place is left for them.

From another machine it cannot be seen who connects, so a request has to be read before it is known
whether it is one of those that must always be possible: for the health of the node, or from an
operator. Such a request is answered, any other gets 503, and both times the connection ends. It goes
on as any other does when there is a place by the time that its first request has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .answers import RETRY_AFTER_S, HttpError
from .dispatch import failed
from .serving import Serving, Shared

if TYPE_CHECKING:
    from ...measure.answered import Tally
    from .connection import Request, RequestError
    from .exchange import Exchange, Form, Found, Router
    from .room import Silence

TRIAL_S = 2.0
"""For the first request to come whole."""


def no_place(most: int, outcome: str | None = None) -> HttpError:
    """Return the 503 of a connection for which there is no place.

    Args:
        most: How many connections the node serves.
        outcome: Of a write: "not applied"; None: the request is no write.
    """
    text = f"this node has {most} connections already: close some"
    return HttpError(503, text, outcome=outcome, retry_after_s=RETRY_AFTER_S, shed="connections")


class Trial(Serving):
    """A connection on trial, which may become one like any other.

    Attributes:
        is_busy: A request of it is in progress that must always be possible.
    """

    def __init__(self, stream: trio.abc.Stream, shared: Shared) -> None:
        super().__init__(stream, shared, is_local=False)
        self._exchange.router = _TrialRouter(self, shared)
        self._ends_at = trio.current_time() + TRIAL_S
        self._is_over = False
        self.is_busy = False

    def end_trial(self) -> None:
        """Go on as any other connection does."""
        self._is_over = True

    def silence(self, now: float) -> Silence | None:
        """Return None while the trial lasts: so long no other connection gets its place."""
        return super().silence(now) if self._is_over else None

    def _set_deadline(self) -> None:
        if self._is_over:
            super()._set_deadline()
        else:
            self._exchange.scope.deadline = self._ends_at

    async def _linger(self) -> None:
        self.is_busy = False
        await super()._linger()


class _TrialRouter:
    """The routes, of which all but some are closed during a trial."""

    def __init__(self, trial: Trial, shared: Shared) -> None:
        self._trial = trial
        self._router: Router = shared.router
        self._room = shared.room

    def begin(self, exchange: Exchange, request: Request) -> Found:
        """Judge the first request."""
        if self._room.pass_trial(self._trial):
            self._trial.end_trial()
            exchange.router = self._router
        elif self._router.is_vital(request):
            self._trial.is_busy = True
            request.keep_alive = False
        else:
            request.keep_alive = False
            outcome = "not applied" if self._router.is_change(request) else None
            return failed(exchange, request, no_place(self._room.most, outcome))
        return self._router.begin(exchange, request)

    def form(self, path: bytes) -> Form:
        """As of the routes."""
        return self._router.form(path)

    def is_change(self, request: Request | RequestError) -> bool:
        """As of the routes."""
        return self._router.is_change(request)

    def body_bytes_max(self, request: Request | RequestError) -> int:
        """As of the routes."""
        return self._router.body_bytes_max(request)

    def is_vital(self, request: Request) -> bool:
        """As of the routes."""
        return self._router.is_vital(request)

    def make_tallies(self) -> list[Tally]:
        """As of the routes."""
        return self._router.make_tallies()
