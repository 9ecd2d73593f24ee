"""The thread that flushes: one piece of work, done again and again off the event loop.

Its own thread and not `trio.to_thread`, because a flush is on the path of every write and a hop
into a pool costs as much again as the flush of a good disk: the loop is woken by one byte in a
pipe, not by way of a callback queue.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

import trio


class Flusher:
    """Runs `work` in a thread of its own, once for each call of `run`.

    Args:
        work: What it does. What it raises is raised by `run`.

    The thread begins with the first `run` and ends with `close`. It does not keep the process
    alive: a flush that hangs must not hold up the end of a node.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._jobs: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._asked = 0
        self._done = 0
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None  # noqa: TID251 - see above
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._readable, False)
        os.set_blocking(self._writable, False)

    async def run(self) -> None:
        """Have the work done once, by a run of it that begins after this call. One task at a time.

        Cancellation: the work goes on in its thread; the next `run` waits for it, too.
        """
        if self._thread is None:
            self._thread = threading.Thread(  # noqa: TID251 - see above
                target=self._loop, name="flush", daemon=True
            )
            self._thread.start()
        self._asked += 1
        ticket = self._asked
        self._jobs.put(True)
        while self._done < ticket:
            await trio.lowlevel.wait_readable(self._readable)
            with suppress(BlockingIOError):
                os.read(self._readable, 4096)
        if self._error is not None:
            raise self._error

    def close(self, timeout_s: float) -> bool:
        """End the thread after what it is doing; return whether it has ended in time. Blocks."""
        if self._thread is not None:
            self._jobs.put(False)
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        for end in (self._readable, self._writable):
            if end >= 0:
                os.close(end)
        self._readable = self._writable = -1
        self._thread = None
        return True

    def _loop(self) -> None:
        while self._jobs.get():
            try:
                self._work()
            except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for
                # Also what is no Exception, as a panic inside rocksdict: a thread that ended of
                # it would leave the node waiting, and leading, for ever.
                self._error = error
            self._done += 1
            with suppress(BlockingIOError):
                # A full pipe has a byte for the reader already.
                os.write(self._writable, b"\0")
