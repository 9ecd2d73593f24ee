"""What is due when: one heap and one task for thousands of things, and no task for one that waits.

Owns the order of due times and the waking. What a key stands for, and what is done when it is due,
is not known here.

Theory of operation: each key has one entry that counts, the earliest that was asked for. An entry that
comes too early does no harm: `call` looks, and returns when the key is due in truth. So whoever moves a
due time further away need not touch the heap at all; a word of a TTL check is a store to an attribute.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from ..net.flag import Flag

K = TypeVar("K")

GRAIN_S = 0.05
"""Runs are due on a grid of this width: those of one moment share a wake of the loop, which costs more
than most of a run (a third of the processor time at 200 runs a second, measured)."""

_AT_ONCE = 64
"""So many keys are called before other tasks have their turn."""

_STALE_MAX = 1024
"""Entries of the heap that count no more; when there are more of them than of those that count, too,
the heap is made anew."""


_AGAIN_S = 0.001
"""A key that is due again at once waits so long: whatever it answers, it does not hold the task."""


def on_grid(due: float, grain_s: float) -> float:
    """Return `due`, moved to the next point of the grid; never an earlier time, by rounding."""
    return max(math.ceil(due / grain_s - 1e-6) * grain_s, due)


class Schedule(Generic[K]):
    """When each key is due next.

    Args:
        call: Called with a key that is due, soon after; returns when it is due again, None: not
            before the next `at`. It must not wait, nor raise.
    """

    def __init__(self, call: Callable[[K], float | None]) -> None:
        self._call = call
        # The second is a number, so that keys are never compared.
        self._heap: list[tuple[float, int, K]] = []
        # The entry of each key that counts: the same object, since there are thousands.
        self._due: dict[K, tuple[float, int, K]] = {}
        self._count = 0
        self._changed = Flag()

    def __len__(self) -> int:
        """How many keys are due at some time."""
        return len(self._due)

    def at(self, due: float, key: K) -> None:
        """Have a key called at this time, unless it is to be called earlier.

        Args:
            due: In seconds of `trio.current_time()`.
            key: Which.
        """
        before = self._due.get(key)
        if before is not None and before[0] <= due:
            return
        is_first = not self._heap or due < self._heap[0][0]
        self._count += 1
        entry = self._due[key] = (due, self._count, key)
        heapq.heappush(self._heap, entry)
        if is_first:
            self._changed.set()
        if len(self._heap) > 2 * len(self._due) + _STALE_MAX:
            self._heap = list(self._due.values())
            heapq.heapify(self._heap)

    def forget(self, key: K) -> None:
        """Do not call a key any more; also one that is not here."""
        self._due.pop(key, None)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call what is due, until cancelled."""
        task_status.started()
        while True:
            with trio.move_on_at(self._heap[0][0] if self._heap else math.inf):
                await self._changed.wait()
            while self._call_some(trio.current_time()):
                await trio.lowlevel.checkpoint()

    def _call_some(self, now: float) -> bool:
        """Call a bounded number of keys that are due; return whether there may be more."""
        heap, dues = self._heap, self._due
        for _ in range(_AT_ONCE):
            if not heap or heap[0][0] > now:
                return False
            entry = heapq.heappop(heap)
            key = entry[2]
            if dues.get(key) is not entry:
                continue
            del dues[key]
            again = self._call(key)
            if again is not None:
                self.at(max(again, now + _AGAIN_S), key)
            heap = self._heap
        return True
