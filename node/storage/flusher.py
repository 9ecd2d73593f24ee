"""The thread that flushes: one piece of work, done again and again off the event loop.

Why not `trio.to_thread`: every write waits for a flush, and a hop into Trio's pool costs as much
again as a flush of a good disk. Here the loop is woken by one byte in a pipe, without a callback
queue; if a poller watches that pipe, without a task, too.

Not every end matters to the loop at once: a follower's acknowledgement has left from the thread. Waking
up is what a write at a low rate costs, so the loop may say that it does not want to be woken
(`Ends.want`), and takes such an end when it wakes up for something else (`Ends.take`).
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import trio

from ..net.poller import Poller

Done = Callable[[BaseException | None], None]
"""Called on the event loop when the work is done, with the error of this or any earlier work."""

Then = Callable[[], bool]
"""Called in the flusher's thread as soon as the work has succeeded. Must not wait.

Returns whether the event loop has to be woken even where it does not want to be."""


def _nothing() -> bool:
    """Do nothing: the default of `then`."""
    return False


class Ends:
    """Which work has ended, and whether the event loop is woken for it.

    Args:
        wake: Has `take` called on the event loop, soon; called from any thread.

    Attributes:
        awaited: How many tasks wait for an end: then each end wakes the loop.
        error: That of the first work that failed: an end after it proves nothing (rule D17).
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.awaited = 0
        self.error: BaseException | None = None
        self._wake = wake
        self._waiting: deque[Done] = deque()
        # Only the thread counts `_finished`, only the loop's thread `_reported`: no lock is needed.
        self._finished = self._reported = 0
        self._is_wanted = True

    def begun(self, done: Done) -> None:
        """Work begins whose end `done` is called with."""
        self._waiting.append(done)

    def ended(self, error: BaseException | None = None, *, must_tell: bool = False) -> None:
        """The oldest work has ended; in the thread that did it.

        Args:
            error: Why it failed.
            must_tell: Wake the loop, wanted or not.
        """
        if self.error is None:
            self.error = error
        self._finished += 1
        if must_tell or self._is_wanted or self.awaited or self.error is not None:
            self._wake()

    def want(self, *, is_wanted: bool) -> None:
        """Whether work that ends from now on wakes the event loop; failed work always does.

        Work that has ended unnoticed is reported soon, if it is wanted.
        """
        # First this, then the look: the thread counts what it has done first, and looks at this then.
        # So one of the two sees the other, and no end is lost.
        self._is_wanted = is_wanted
        if is_wanted and self._reported < self._finished:
            self._wake()

    def take(self) -> None:
        """Call `done` now for all work that has ended."""
        while self._reported < self._finished:
            self._reported += 1
            self._waiting.popleft()(self.error)


class Flusher:
    """Runs `work` in a thread of its own, once for each call of `run` or `begin`.

    Args:
        work: The function to run. `run` raises what it raises.

    The thread starts with the first work and ends with `close`. It is a daemon: a flush that hangs
    must not keep a stopping process alive.

    Attributes:
        ends: Of its work.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._jobs: queue.SimpleQueue[Then | None] = queue.SimpleQueue()
        self.ends = Ends(self._tell)
        self._thread: threading.Thread | None = None  # noqa: TID251 - see above
        self._poller: Poller | None = None
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._readable, False)
        os.set_blocking(self._writable, False)

    def attach(self, poller: Poller) -> None:
        """Call each `done` through `poller` from now on, until `detach`."""
        self._poller = poller
        poller.watch(self._readable, self._collect)

    def detach(self) -> None:
        """Stop calling `done` through the poller; a task in `run` does it then. Idempotent."""
        if self._poller is not None:
            self._poller.forget(self._readable)
            self._poller = None

    def begin(self, done: Done, then: Then = _nothing) -> None:
        """Run the work once more, beginning after this call, without waiting for it.

        `done` is called by the poller; without one, only while a task is in `run`.
        """
        if self._thread is None:
            self._thread = threading.Thread(  # noqa: TID251 - see above
                target=self._loop, name="flush", daemon=True
            )
            self._thread.start()
        # First the callback, then the work: the thread may be done with it at once.
        self.ends.begun(done)
        self._jobs.put(then)
        # Give the processor to the thread now. It would else wait until the event loop has nothing
        # more to do, although every write waits for the flush.
        os.sched_yield()

    async def run(self, then: Then = _nothing) -> None:
        """Run the work once more, beginning after this call, and wait for it. One task at a time.

        Cancellation: the work continues in its thread; the next `run` waits for that, too.
        """
        done = trio.Event()
        self.ends.awaited += 1
        try:
            self.begin(lambda _: done.set(), then)
            while not done.is_set():
                if self._poller is not None:
                    await done.wait()
                else:
                    await trio.lowlevel.wait_readable(self._readable)
                    self._collect()
        finally:
            self.ends.awaited -= 1
        if self.ends.error is not None:
            raise self.ends.error

    def close(self, timeout_s: float) -> bool:
        """End the thread after its present work; return whether it ended in time. Blocks."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        for end in (self._readable, self._writable):
            if end >= 0:
                os.close(end)
        self._readable = self._writable = -1
        self._thread = None
        return True

    def _collect(self) -> None:
        """Call `done` for all work that has ended."""
        if self._readable >= 0:
            with suppress(BlockingIOError):
                os.read(self._readable, 4096)
        self.ends.take()

    def _loop(self) -> None:
        ends = self.ends
        while (then := self._jobs.get()) is not None:
            try:
                self._work()
                must_tell = then() if ends.error is None else False
            except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for
                # Also errors that are no `Exception`, such as a panic inside rocksdict: if the
                # thread ended of one, the node would wait for it for ever, and go on as leader.
                ends.ended(error)
            else:
                ends.ended(must_tell=must_tell)

    def _tell(self) -> None:
        """Wake the event loop. From any thread."""
        if self._writable >= 0:
            with suppress(BlockingIOError):
                # A full pipe wakes the reader anyway.
                os.write(self._writable, b"\0")
