"""A counter of changes that any number of tasks wait on, each for a change it has not seen."""

from __future__ import annotations

import trio


class ChangeCounter:
    """Raised by anyone, awaited by any number of tasks. For one waiting task there is `Flag`.

    A task keeps the count it has seen, looks at what it is interested in, and waits with that count:
    a change between the look and the wait is not missed.

    Attributes:
        count: How many changes there were.
    """

    __slots__ = ("_lot", "count")

    def __init__(self) -> None:
        """Start at 0."""
        self.count = 0
        self._lot = trio.lowlevel.ParkingLot()

    def add(self) -> None:
        """Count a change, and wake every task that waits."""
        self.count += 1
        self._lot.unpark_all()

    async def wait(self, seen: int) -> int:
        """Wait until `count` is not `seen`, and return it. Always lets other tasks run.

        Cancellation: nothing is lost.
        """
        if self.count != seen:
            await trio.lowlevel.checkpoint()
        while self.count == seen:
            await self._lot.park()
        return self.count
