"""Requests to any member of a cluster: to the next one when a member does not answer or has no leader.

A request may therefore be sent more than once. All that are sent here may be: each leads to the same
state again, except the creation of a session, and one session too many ends by itself.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from hstore.node.errors import HstoreError, Unavailable

from ..client.errors import Unreachable
from ..search.find import live_addresses

if TYPE_CHECKING:
    from hstore.node.model.cluster_info import ClusterInfo

    from ..client.api import NodeClient
    from ..search.find import Connect, Found

T = TypeVar("T")
Request = Callable[["NodeClient"], T]
Run = Callable[[Callable[[], object]], Awaitable[object]]
"""Runs a function that waits for a node, so that nothing else has to wait."""

_PAUSE_S = 0.2
"""After all members were asked in vain."""

_TICK_S = 0.25
"""No sleep is longer. Trio's clock stands still while a machine is suspended, this module's does not:
after the machine wakes up, whoever sleeps notices within this time that its hour has passed."""

_TICK_S_MIN = 0.001


def clock() -> float:
    """Return seconds of a clock that never goes back and counts while the machine is suspended."""
    # On macOS, which has no CLOCK_BOOTTIME, CLOCK_MONOTONIC counts then.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def in_thread(function: Callable[[], object]) -> object:
    """Run a request in a thread.

    Cancellation: the request is left to itself. It ends by its own time-out.
    """
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)


class Members:
    """The members of a cluster that can be asked.

    Args:
        found: The cluster.
        connect: Makes a client for an address, with a time-out in seconds.
        tell: Called with a line for the user when no member answers.
        now: The clock; it may jump ahead of Trio's.
        run: Runs requests.
    """

    def __init__(
        self,
        found: Found,
        connect: Connect,
        tell: Callable[[str], None],
        *,
        now: Callable[[], float] = clock,
        run: Run = in_thread,
    ) -> None:
        self.now = now
        self._connect = connect
        self._tell = tell
        self._run = run
        self._is_told = False
        self._addresses = [found.address]
        self.learn(found.info)

    def learn(self, info: ClusterInfo) -> None:
        """Take the members from what one of them says; the one that is asked now stays the first."""
        first = self._addresses[0]
        every = [*live_addresses(info), *(node.address for node in info.nodes)]
        self._addresses = list(dict.fromkeys([first, *every]))

    async def ask(
        self, request: Request[T], attempt_s: float, patience_s: float | None = None
    ) -> tuple[T, float]:
        """Return what the first member that can do it answers, and when that was asked for.

        Args:
            request: What is asked; see the module's docstring.
            attempt_s: How long one member may take.
            patience_s: After so many seconds the last error is raised; None: it goes on for ever.

        Raises:
            HstoreError: A member has refused it, or the time is over.
        """
        begun_at = self.now()
        while True:
            for _ in range(len(self._addresses)):
                address, sent_at = self._addresses[0], self.now()
                try:
                    answer = await self._run(partial(self._attempt, address, request, attempt_s))
                except (Unreachable, Unavailable) as error:
                    failure: HstoreError = error
                else:
                    self._is_told = False
                    return answer, sent_at  # type: ignore[return-value]  # as the request's
                if patience_s is not None and self.now() - begun_at >= patience_s:
                    raise failure
                self._pass_over(address)
            if not self._is_told:
                self._is_told = True
                self._tell(f"{str(failure).partition('; ')[0]}: trying again, at all members")
            await trio.sleep(_PAUSE_S)

    async def sleep_until(self, when: float) -> None:
        """Wait until the clock says `when`, or a little later."""
        while (left := when - self.now()) > 0:  # noqa: ASYNC110 - this clock is not Trio's
            await trio.sleep(max(min(left, _TICK_S), _TICK_S_MIN))

    def _attempt(self, address: str, request: Request[T], attempt_s: float) -> T:
        with self._connect(address, attempt_s) as client:
            return request(client)

    def _pass_over(self, address: str) -> None:
        """Ask the next member first, unless another request has found this one out before."""
        if self._addresses[0] == address:
            self._addresses.append(self._addresses.pop(0))
