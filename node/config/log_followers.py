"""A reader of the log beside standard error: a bounded queue of lines, from a level on.

A line may be logged by any thread; a task of the event loop takes it. Nobody ever waits for a
reader: a line that finds its queue full is dropped and counted, and the reader is told how many were.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque

import trio

from .log_forms import Form

LINES_MAX = 1_000
BYTES_MAX = 256 << 10
"""Of lines that wait for one reader: some seconds of a node at the level `debug`."""

LINE_BYTES_MAX = 32 << 10
"""Of one line; what is longer is cut off. No event of ours comes near, but for a long traceback."""


class Follower:
    """Lines for one reader. To be made, and taken from, in the event loop.

    Attributes:
        level: From which level on it gets lines.
        form: In which form.
    """

    def __init__(self, level: str, form: Form) -> None:
        self.level = level
        self.form = form
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._lock = threading.Lock()
        self._arrived = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def put(self, line: str) -> None:
        """Queue a line, which ends without a newline; drop it when too much is queued. Never waits."""
        data = line.encode("utf-8", "backslashreplace")[:LINE_BYTES_MAX] + b"\n"
        with self._lock:
            is_full = len(self._lines) >= LINES_MAX or self._bytes + len(data) > BYTES_MAX
            # Once one is lost, so is every one until the queue is empty: what is lost is in one place.
            if self._dropped or is_full:
                self._dropped += 1
                return
            self._lines.append(data)
            self._bytes += len(data)
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._arrived.set()

    async def take(self, bytes_max: int) -> tuple[list[bytes], int]:
        """Wait for lines; return some, and how many are lost behind the last of these.

        Args:
            bytes_max: Of the lines together; one line is returned whatever its size.
        """
        while True:
            with self._lock:
                if self._lines:
                    return self._taken(bytes_max)
                self._arrived = trio.Event()
            await self._arrived.wait()

    def _taken(self, bytes_max: int) -> tuple[list[bytes], int]:
        taken: list[bytes] = []
        while self._lines and len(self._lines[0]) <= bytes_max:
            taken.append(self._lines.popleft())
            bytes_max -= len(taken[-1])
        if not taken:
            taken.append(self._lines.popleft())
        self._bytes -= sum(map(len, taken))
        dropped = 0
        if not self._lines:
            dropped, self._dropped = self._dropped, 0
        return taken, dropped
