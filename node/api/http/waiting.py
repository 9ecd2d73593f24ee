"""Reads whose answer is not due yet: they wait for a change, without a task that waits for them.

Owns how many there may be, the time at which each is answered in any case, and their end when the node
stops. What a read waits for, and when its answer is due, the read itself knows (`Wait`); which
connection gets the answer, `parked.py` and `serving.py`.

Theory of operation. The times are in one heap, and one system task sleeps until the earliest of them;
it lives only while something waits. A read that has been answered leaves its entry in the heap until
its time comes, or until most of the heap is such entries: then they are removed together.
"""

from __future__ import annotations

import abc
import heapq
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from ...net.flag import Flag
from .answers import RETRY_AFTER_S, Answer, HttpError

if TYPE_CHECKING:
    from ...net.turn import Turn

WAITING_MAX = 20_000
"""Reads that wait on one node."""

_STALE_ENTRIES = 1_000
"""Entries of the heap whose reads are answered, beyond as many as there are of others."""


class Wait(abc.ABC):
    """A read that waits.

    Attributes:
        until: When it is answered in any case, in seconds of `trio.current_time()`.
    """

    __slots__ = ("until",)

    until: float

    @abc.abstractmethod
    def begin(self, call: Callable[[], None]) -> bool:
        """Have `call` called once after the next change that may matter.

        Returns:
            False: there was one since the read last looked, and `call` is not called.
        """

    @abc.abstractmethod
    def look(self) -> Due | None:
        """Return the answer, or the work that makes it, if it is due; None: not yet.

        Raises:
            HttpError, HstoreError: They become the answer.
        """

    @abc.abstractmethod
    def over(self) -> Due:
        """Return the answer, or the work that makes it, since the time is over.

        Raises:
            HttpError, HstoreError: They become the answer.
        """

    @abc.abstractmethod
    def give_up(self) -> None:
        """Wait for no change any more. Idempotent."""


Due = bytes | Awaitable[Answer | Wait]
"""A whole answer, or the work that makes it: which may find that it is not due after all."""

Tell = Callable[[Due | Exception], None]
"""Called once, in a turn that has room for it: with the answer, or with the error in its place."""


class Pending:
    """One read that waits, from `start` until it is told of its answer or given up."""

    __slots__ = ("_tell", "_wait", "_waits")

    def __init__(self, waits: Waits, wait: Wait, tell: Tell) -> None:
        self._waits = waits
        self._wait = wait
        self._tell: Tell | None = tell

    @property
    def is_over(self) -> bool:
        """Whether it waits no more."""
        return self._tell is None

    def start(self) -> None:
        """Begin to wait; it may be told at once."""
        found: Due | Exception | None = None
        try:
            while found is None and not self._wait.begin(self._changed):
                found = self._wait.look()
        except Exception as error:  # noqa: BLE001 (the boundary: it becomes the answer)
            found = error
        if found is not None:
            self.end(found)

    def _changed(self) -> None:
        """Something has changed that may matter."""
        if self._tell is None:
            return
        found: Due | Exception | None
        try:
            found = self._wait.look()
        except Exception as error:  # noqa: BLE001 (the boundary: it becomes the answer)
            found = error
        if found is None:
            self.start()
        else:
            self.end(found)

    def time_is_over(self) -> None:
        """Answer with what is true now."""
        if self._tell is None:
            return
        found: Due | Exception
        try:
            found = self._wait.over()
        except Exception as error:  # noqa: BLE001 (the boundary: it becomes the answer)
            found = error
        self.end(found)

    def end(self, found: Due | Exception) -> None:
        """Wait no more, and tell."""
        tell = self._tell
        if tell is not None:
            self.give_up()
            tell(found)

    def give_up(self) -> None:
        """Wait no more, and tell nobody. Idempotent."""
        if self._tell is not None:
            self._tell = None
            self._wait.give_up()
            self._waits.remove(self)


class Waits:
    """All reads of a server that wait.

    Args:
        turn: What clients may be served in one turn of the event loop.
        most: Beyond so many a further one gets 503.
    """

    def __init__(self, turn: Turn, most: int = WAITING_MAX) -> None:
        self._turn = turn
        self._most = most
        self._pending: dict[Pending, None] = {}
        self._heap: list[tuple[float, int, Pending]] = []
        self._number = 0
        self._is_sleeping = False
        self._earlier = Flag()
        self._is_stopped = False

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, wait: Wait, tell: Tell) -> Pending:
        """Note one more; the caller starts it when it can be told.

        Raises:
            HttpError: 503, too many wait; 500, the node stops. Then `wait` is given up.
        """
        if self._is_stopped or len(self._pending) >= self._most:
            wait.give_up()
            raise self._refusal()
        pending = Pending(self, wait, tell)
        self._pending[pending] = None
        self._number += 1
        is_first = not self._heap or wait.until < self._heap[0][0]
        heapq.heappush(self._heap, (wait.until, self._number, pending))
        if is_first:
            self._earlier.set()
        if not self._is_sleeping:
            self._is_sleeping = True
            trio.lowlevel.spawn_system_task(self._run, name="the times of waiting reads")
        return pending

    def remove(self, pending: Pending) -> None:
        """Forget one that waits no more. Idempotent."""
        self._pending.pop(pending, None)
        if len(self._heap) > 2 * len(self._pending) + _STALE_ENTRIES:
            self._heap = [entry for entry in self._heap if not entry[2].is_over]
            heapq.heapify(self._heap)
            self._earlier.set()  # So that the task ends, if there is none left.

    def stop(self) -> None:
        """Answer all that wait, and all that would wait from now on, with 500: the node stops."""
        self._is_stopped = True
        for pending in list(self._pending):
            pending.end(self._refusal())

    def _refusal(self) -> HttpError:
        if self._is_stopped:
            # Clients of Consul repeat a read that got 500, and know no other status for this.
            return HttpError(500, "this node stops: ask another one")
        text = f"{self._most} reads wait for a change on this node already: ask another one"
        return HttpError(503, text, retry_after_s=RETRY_AFTER_S, shed="waits")

    async def _run(self) -> None:
        """Tell each whose time is over, until none is left."""
        while self._heap:
            with trio.move_on_at(self._heap[0][0]):
                await self._earlier.wait()
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                pending = heapq.heappop(self._heap)[2]
                if not pending.is_over:
                    self._turn.soon(pending.time_is_over)
        self._is_sleeping = False
