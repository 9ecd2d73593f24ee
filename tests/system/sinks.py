"""Logs that block: a pipe for each node, whose reader can pause and go on.

What is read goes to the node's file, so that `Node.log` has it as always. A test that starts a node
anew starts it with the same pipe, blocked or not, as a supervisor does.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

_F_SETPIPE_SZ = 1031  # Linux, fcntl(2)
PIPE_BYTES = 4096
_LOOK_S = 0.05


def fill(pipe: int, byte: bytes = b"x") -> None:
    """Fill a pipe, so that who writes to it next has to wait for its reader."""
    own = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(own, byte)
    os.close(own)


def make_small(pipe: int) -> None:
    """Give a pipe the smallest size there is, so that little fills it."""
    fcntl.fcntl(pipe, _F_SETPIPE_SZ, PIPE_BYTES)


class Sink:
    """A pipe and its reader, which writes all that comes to a file.

    Attributes:
        fd: What a node logs to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader, self.fd = os.pipe()
        make_small(self.fd)
        self._flows = threading.Event()
        self._flows.set()
        self._is_over = threading.Event()
        self._reading = threading.Lock()

    @property
    def is_blocked(self) -> bool:
        """Whether it is read no more."""
        return not self._flows.is_set()

    def block(self) -> None:
        """Read no more, and fill the pipe."""
        with self._reading:
            self._flows.clear()
        fill(self.fd, b"\n")

    def flow(self) -> None:
        """Read on."""
        self._flows.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Read until the end of `with`. Closes: the pipe."""
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(self._run)
            try:
                yield
            finally:
                self._is_over.set()
                self._flows.set()
            done.result()
        os.close(self._reader)
        os.close(self.fd)

    def _run(self) -> None:
        with self._path.open("ab", 0) as log:
            while not self._is_over.is_set():
                self._flows.wait()
                with self._reading:
                    if not self._flows.is_set():
                        continue
                    if select.select([self._reader], [], [], _LOOK_S)[0]:
                        log.write(os.read(self._reader, PIPE_BYTES))
