"""Writes log lines to standard error: a bounded queue, and one thread that writes.

Standard error may be a pipe whose reader has ended or reads no more, a terminal that Ctrl-S has
stopped, or a file on a disk that is full. None of these may hold up or end a node: logging only puts
a line into the queue. A line that finds the queue full, or that cannot be written, is dropped
and counted. When a line can be written again, the log says how many were dropped.

`install` sends everything that Python code of this process prints this way (log lines, warnings, the
report of an uncaught error), because any `sys.stderr.write` would wait.
"""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable

from ..config import logs

LINES_MAX = 1_000
BYTES_MAX = 1 << 20
"""Of lines that wait to be written: some hundred times what a node logs in an election."""

DRAIN_SECONDS = 0.5
"""How long the end of the process waits for queued lines; a sink that works needs less than 1 ms."""

_TEXT_MAX = 64 << 10
"""Printed text without a newline that is kept for the rest of its line."""

Write = Callable[[int, bytes], int]
"""As `os.write`: may block, may write a part only, may raise OSError."""


class LogSink:
    """Writes whole lines to a descriptor, in a thread of its own. Writing them never waits.

    Attributes:
        dropped: Lines lost since the start.

    Args:
        fd: Where to write; `dup2` may make it another file meanwhile.
        tell_dropped: Returns the line that says how many lines were dropped.
        write: For tests.
    """

    def __init__(
        self, fd: int, tell_dropped: Callable[[int], str], write: Write = os.write
    ) -> None:
        self.dropped = 0
        self._told = 0
        self._fd = fd
        self._tell_dropped = tell_dropped
        self._write_some = write
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._is_writing = False
        self._is_mid_line = False
        self._changed = threading.Condition()
        # In a thread, because a write to a pipe or a terminal may wait for ever. A daemon thread, so
        # that the process ends all the same.
        threading.Thread(target=self._run, daemon=True, name="log").start()  # noqa: TID251

    def put(self, line: str) -> None:
        """Queue a line, which ends with a newline; drop it when too much is queued. Never waits."""
        data = line.encode("utf-8", "backslashreplace")
        with self._changed:
            if len(self._queue) >= LINES_MAX or self._queued_bytes + len(data) > BYTES_MAX:
                self.dropped += 1
                return
            self._queue.append(data)
            self._queued_bytes += len(data)
            self._changed.notify_all()

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait until all is written, at most `seconds`. Not for the event loop: it blocks."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queue and not self._is_writing, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue)
                data = self._queue.popleft()
                self._queued_bytes -= len(data)
                self._is_writing = True
            if not self._write(data):
                with self._changed:
                    self.dropped += 1
            elif not self._queue:
                self._report()

    def _report(self) -> None:
        """Say how many lines were lost since the last report; next time, if that fails too."""
        dropped = self.dropped
        if dropped > self._told and self._write(self._tell_dropped(dropped - self._told).encode()):
            self._told = dropped

    def _write(self, data: bytes) -> bool:
        """Write a line; return whether all of it was written."""
        rest = b"\n" + data if self._is_mid_line else data
        try:
            while rest:
                rest = rest[self._write_or_wait(rest) :]
                self._is_mid_line = bool(rest)
        except OSError:
            return False
        return True

    def _write_or_wait(self, data: bytes) -> int:
        try:
            return self._write_some(self._fd, data)
        except BlockingIOError:
            # Another process that has this pipe or terminal too has made it non-blocking.
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll()
            return 0


class _Text(io.TextIOBase):
    """A text stream in place of `sys.stderr`: what is printed goes into a sink, line by line.

    Attributes:
        sink: That sink.
    """

    def __init__(self, sink: LogSink) -> None:
        self.sink = sink
        self._begun = ""

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Tell whether the lines go to a terminal in the end."""
        return os.isatty(2)

    def write(self, text: str) -> int:
        """Queue the lines that end in `text`, and keep what follows for the next call."""
        *whole, self._begun = (self._begun + text).split("\n")
        if len(self._begun) > _TEXT_MAX:
            whole.append(self._begun)
            self._begun = ""
        for line in whole:
            self.sink.put(f"{line}\n")
        return len(text)

    def close(self) -> None:
        """Wait until all is written, at most `DRAIN_SECONDS`."""
        if not self.closed:
            self.sink.drain()
        super().close()


def install() -> LogSink:
    """Send the log, and all else that Python prints in this process, through a sink to standard error.

    For a process that only runs a node. A caller that puts the former streams back closes `sys.stderr`
    first, which waits up to `DRAIN_SECONDS` for queued lines.
    """
    sink = LogSink(2, lambda count: logs.line("warning", "log lines dropped", count=count) + "\n")
    sys.stdout = sys.stderr = _Text(sink)
    return sink


def installed() -> LogSink | None:
    """Return the sink of this process; None: it prints as other programs do."""
    return sys.stderr.sink if isinstance(sys.stderr, _Text) else None
