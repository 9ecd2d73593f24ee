"""How much one turn of the event loop serves to all clients together, and which request is next.

A *turn* is one round of Trio's loop: it looks for input, then runs every task that can go on. While
a turn lasts, heartbeats, DNS and all other clients wait, so what clients can ask for must not make
it long. Each turn serves at most `REQUESTS_MAX` requests and `BYTES_MAX` of answers; whatever comes
beyond that waits in one of two queues, first come, first served:

- `_small`: requests, and answers that are small. A connection has at most one place here.
- `_slices`: connections in the middle of a large answer, each for its next slice.

In every turn the small ones come first, then at least one of `_slices`, then further ones as far as
there is room. So neither a flood of small requests nor one of large answers keeps the other from
going on.

Nothing waits as long as there is less to do than a turn may serve: then the cost is an addition. The
queues are served by a task of Trio's system nursery, which lives only while something waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

BYTES_MAX = 256 * 1024
"""Bytes of answers in one turn, and of requests that are received: no turn may last 100 ms."""

REQUESTS_MAX = 128
"""Requests that are served in one turn."""

WAITED_MAX = 32
"""Of these, how many may have waited in a queue, or for a task to take them."""

EVENTS_MAX = REQUESTS_MAX - WAITED_MAX
"""Of these, how many may be events of the poller: each brings at most one request, or more which
then wait for their turn."""

SLICE_BYTES = 64 * 1024
"""How much of a large answer is made and sent at once."""

SMALL_BYTES = 512
"""What an answer takes of the turn beside its bytes, and so does each of several requests that came in
one piece: for the calls that it costs, however short it is."""

SHARE = 4
"""How many requests of one connection are let through together, at most."""


class _Waiter:
    """A task that waits for its turn, and what it will take of it."""

    __slots__ = ("requests", "size", "task", "turn")

    def __init__(self, turn: Turn, size: int, requests: int) -> None:
        self.turn = turn
        self.size = size
        self.requests = requests
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()

    def __call__(self) -> None:
        """Let it go on, unless it was cancelled."""
        if self.task is not None:
            self.turn.bytes_left -= self.size
            self.turn.requests_left -= self.requests
            trio.lowlevel.reschedule(self.task)


class Turn:
    """What is left of the turn that is under way.

    Attributes:
        bytes_left: Of `BYTES_MAX`; may fall below 0 by the last that was served.
        requests_left: Of `WAITED_MAX`.
        now: When it began, in seconds of `trio.current_time()`: to ask for the time once for each
            request costs as much as to route it. Where the poller does not run in a turn, it is
            when it last ran, at least as late as any request came.
    """

    __slots__ = ("_is_serving", "_slices", "_small", "bytes_left", "now", "requests_left")

    def __init__(self) -> None:
        """Begin with a whole turn."""
        self.bytes_left = BYTES_MAX
        self.requests_left = WAITED_MAX
        self.now = 0.0
        self._small: deque[Callable[[], None]] = deque()
        self._slices: deque[Callable[[], None]] = deque()
        self._is_serving = False

    def begin(self) -> None:
        """A new turn has begun. The poller says so, once in each turn in which it runs."""
        self.now = trio.current_time()
        if not self._is_serving:
            self.bytes_left = BYTES_MAX
            self.requests_left = WAITED_MAX

    def later(self, call: Callable[[], None]) -> None:
        """Have `call` called in a later turn; it must neither raise nor wait.

        `call` itself subtracts from `bytes_left` what it sends. It does not count as a request: that
        was counted when it arrived.
        """
        self._small.append(call)
        self._serve_soon()

    def soon(self, call: Callable[[], None]) -> None:
        """Call `call`, as one request, in this turn if it has room for one more, else later."""

        def count_and_call() -> None:
            self.requests_left -= 1
            call()

        if self._small or self.requests_left <= 0 or self.bytes_left <= 0:
            self.later(count_and_call)
        else:
            count_and_call()

    def in_turns(self, call: Callable[[], None]) -> None:
        """Call `call` in a later turn, which then serves no other request that had to wait."""

        def count_and_call() -> None:
            self.requests_left = 0
            call()

        self.later(count_and_call)

    def take_share(self, wanted: int) -> int:
        """Take `wanted` requests of this turn; return 0 where `wait_share` has to wait for them."""
        if self._small or self.bytes_left <= 0 or self.requests_left < wanted:
            return 0
        self.requests_left -= wanted
        return wanted

    async def wait_share(self, wanted: int) -> int:
        """Wait for a turn that has room for further requests, and return `wanted`.

        Cancellation: nothing was taken.
        """
        await self._wait(self._small, 0, wanted)
        return wanted

    async def receive(self, size: int) -> None:
        """Take `size` received bytes, which are about to be parsed; wait where there is no room.

        Cancellation: nothing was taken.
        """
        if self._small or self.bytes_left <= 0:
            await self._wait(self._small, size, 1)
        else:
            self.bytes_left -= size

    async def small(self) -> None:
        """Wait for a turn that has room for a further small answer; there is none in this one.

        Cancellation: nothing was taken.
        """
        await self._wait(self._small, 0, 1)

    async def slice(self, size: int = SLICE_BYTES) -> None:
        """Wait until this caller may make and send so much of a large answer.

        A `size` beyond `BYTES_MAX` gets a turn of its own. Not always a checkpoint.

        Cancellation: nothing was taken.
        """
        if self._slices or self.bytes_left <= 0:
            await self._wait(self._slices, size, 0)
        else:
            self.bytes_left -= size

    async def _wait(self, queue: deque[Callable[[], None]], size: int, requests: int) -> None:
        waiter = _Waiter(self, size, requests)
        queue.append(waiter)
        self._serve_soon()

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            waiter.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _serve_soon(self) -> None:
        if not self._is_serving:
            self._is_serving = True
            trio.lowlevel.spawn_system_task(self._serve, name="the turn of clients")

    async def _serve(self) -> None:
        """Serve one turn after the other, from the next one on, until nothing waits."""
        while self._small or self._slices:
            self.now = trio.current_time()
            self.bytes_left = BYTES_MAX
            self.requests_left = WAITED_MAX
            self._let_through()
            await trio.lowlevel.checkpoint()
        self._is_serving = False

    def _let_through(self) -> None:
        small, slices = self._small, self._slices
        while small and self.requests_left > 0 and self.bytes_left > 0:
            small.popleft()()
        if slices:
            slices.popleft()()
        while slices and self.bytes_left > 0:
            slices.popleft()()
