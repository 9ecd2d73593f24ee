"""A flag that one task waits for and others raise: one wake-up however often it is raised.

For any number of waiting tasks there is `change_counter.py`, and for a fact that happens
once `trio.Event`.
"""

from __future__ import annotations

import trio


class Flag:
    """Raised by anyone, awaited by one task, which lowers it by waking up."""

    __slots__ = ("_lot", "_raised")

    def __init__(self) -> None:
        """Start lowered."""
        self._raised = False
        self._lot = trio.lowlevel.ParkingLot()

    def set(self) -> None:
        """Raise it, and wake the task that waits."""
        if not self._raised:
            self._raised = True
            self._lot.unpark_all()

    async def wait(self) -> None:
        """Wait until it is raised, and lower it. Always lets other tasks run.

        Cancellation: it stays as it is.
        """
        if self._raised:
            await trio.lowlevel.checkpoint()
        while not self._raised:
            await self._lot.park()
        self._raised = False
