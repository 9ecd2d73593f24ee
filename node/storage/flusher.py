"""The thread that flushes: one piece of work, done again and again off the event loop.

Its own thread and not `trio.to_thread`, because a flush is on the path of every write and a hop
into a pool costs as much again as the flush of a good disk: the loop is woken by one byte in a
pipe, not by way of a callback queue; and where a poller watches the pipe, by no task either.
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
"""Called when the work is done, with what it raised, now or ever before."""

Then = Callable[[], None]
"""Called in the flusher's thread as soon as the work is done, if it is; it must not wait."""


def _nothing() -> None:
    """Default for `then`: do nothing."""


class Flusher:
    """Runs `work` in a thread of its own, once for each call of `run` or `begin`.

    Args:
        work: What it does. What it raises is raised by `run`.

    The thread begins with the first piece of work and ends with `close`. It does not keep the
    process alive: a flush that hangs must not hold up the end of a node.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._jobs: queue.SimpleQueue[Then | None] = queue.SimpleQueue()
        self._finished = 0
        self._told = 0
        self._waiting: deque[Done] = deque()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None  # noqa: TID251 - see above
        self._poller: Poller | None = None
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._readable, False)
        os.set_blocking(self._writable, False)

    def attach(self, poller: Poller) -> None:
        """Have the ends of work told by `poller` from now on, until `detach`."""
        self._poller = poller
        poller.watch(self._readable, self._collect)

    def detach(self) -> None:
        """Have nothing told any more but to who awaits `run`. Idempotent."""
        if self._poller is not None:
            self._poller.forget(self._readable)
            self._poller = None

    def begin(self, done: Done, then: Then = _nothing) -> None:
        """Have the work done once, by a run of it that begins after this call.

        `done` is called by the poller; without one, while somebody awaits `run`.
        """
        if self._thread is None:
            self._thread = threading.Thread(  # noqa: TID251 - see above
                target=self._loop, name="flush", daemon=True
            )
            self._thread.start()
        self._waiting.append(done)
        self._jobs.put(then)
        # The thread begins now: else it would wait for the processor, and for the interpreter,
        # until the loop has nothing more to do, and the flush is what everybody waits for.
        os.sched_yield()

    async def run(self) -> None:
        """Have the work done once, by a run of it that begins after this call. One task at a time.

        Cancellation: the work goes on in its thread; the next `run` waits for it, too.
        """
        done = trio.Event()
        self.begin(lambda _: done.set())
        while not done.is_set():
            if self._poller is not None:
                await done.wait()
            else:
                await trio.lowlevel.wait_readable(self._readable)
                self._collect()
        if self._error is not None:
            raise self._error

    def close(self, timeout_s: float) -> bool:
        """End the thread after what it is doing; return whether it has ended in time. Blocks."""
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
        """Tell those whose work is done."""
        if self._readable >= 0:
            with suppress(BlockingIOError):
                os.read(self._readable, 4096)
        while self._told < self._finished:
            self._told += 1
            self._waiting.popleft()(self._error)

    def _loop(self) -> None:
        while (then := self._jobs.get()) is not None:
            try:
                self._work()
                if self._error is None:  # Nothing may follow from what comes after a failure.
                    then()
            except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for
                # Also what is no Exception, as a panic inside rocksdict: a thread that ended of
                # it would leave the node waiting, and leading, for ever.
                self._error = error
            self._finished += 1
            with suppress(BlockingIOError):
                # A full pipe has a byte for the reader already.
                os.write(self._writable, b"\0")
