"""A counter of changes that any number of tasks wait on, each for a change it has not seen."""

from __future__ import annotations

from collections.abc import Callable

import trio

from .turn import WAITED_MAX

WOKEN_AT_ONCE = WAITED_MAX
"""How many tasks `add` wakes in one turn of the loop, where it has `later`: each then takes about as
long as a request."""


class ChangeCounter:
    """Raised by anyone, awaited by any number of tasks. For one waiting task there is `Flag`.

    A task keeps the count it has seen, looks at what it is interested in, and waits with that count:
    a change between the look and the wait is not missed.

    Attributes:
        count: How many changes there were.
        later: Calls a function in a later turn of the event loop; None: all are woken at once.
    """

    __slots__ = ("_due", "_lot", "count", "later")

    def __init__(self) -> None:
        """Start at 0."""
        self.count = 0
        self.later: Callable[[Callable[[], None]], None] | None = None
        self._lot = trio.lowlevel.ParkingLot()
        self._due = 0

    def add(self) -> None:
        """Count a change, and wake every task that waits."""
        self.count += 1
        waiting = len(self._lot)
        if self.later is None or waiting <= WOKEN_AT_ONCE:
            self._lot.unpark_all()
            return
        if not self._due:
            self.later(self._wake_some)
        self._due = waiting

    def _wake_some(self) -> None:
        """Wake those that have waited longest, of those that waited at the last change."""
        self._lot.unpark(count=min(self._due, WOKEN_AT_ONCE))
        self._due = max(self._due - WOKEN_AT_ONCE, 0)
        if self._due and self.later is not None:
            self.later(self._wake_some)

    async def wait(self, seen: int) -> int:
        """Wait until `count` is not `seen`, and return it. Always lets other tasks run.

        Cancellation: nothing is lost.
        """
        if self.count != seen:
            await trio.lowlevel.checkpoint()
        while self.count == seen:
            await self._lot.park()
        return self.count
