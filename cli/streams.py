"""Descriptors 0 to 2 of this process: they are always open, and lost output is an error.

A cron job, a supervisor or `>&-` may start a program with any of them closed. The next file that is
opened then gets that number: a node's listening socket or database would become its standard output,
into which everything is printed. So `secure` runs before anything else is opened.

A result that could not be printed is not a success, so writing to standard output raises `OutputLost`,
which `running.py` makes an exit status of. Standard error has only remarks: what is lost there changes
nothing. This module is imported by every program at once, so it imports next to nothing.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import stat
import sys
import threading
from select import poll
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOK_MS = 1_000
_AGAIN_S = 0.05
"""Between two signals to a main thread that could not end when the last one came."""


class OutputLost(Exception):
    """Standard output takes no more.

    Attributes:
        is_reader_gone: It is a pipe whose reader has ended, as `head` does when it has seen enough.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {error.strerror}")
        self.is_reader_gone = error.errno == errno.EPIPE


class _Output(io.BufferedWriter):
    """A buffer before a descriptor that raises `OutputLost` once, and then takes and discards all.

    Otherwise the bytes that are left in it would fail again when Python flushes them at exit, with a
    message of Python's own. It is the buffer that does this, and not the file below: if Ctrl-C raises
    in a `write` of Python that has just written, the buffer does not know, and writes it again
    (findings/python-output-repeats-after-ctrl-c.sh).

    Attributes:
        is_lost: It takes and discards all.
    """

    def __init__(self, fd: int, *, is_silent: bool) -> None:
        super().__init__(io.FileIO(fd, "w", closefd=False))
        self._is_silent = is_silent
        self.is_lost = False

    def write(self, data: Any, /) -> int:
        """Take all of it.

        Raises:
            OutputLost: It is lost, and this is the first time.
        """
        if not self.is_lost:
            try:
                return super().write(data)
            except OSError as error:
                self._lose(error)
        return len(data)

    def flush(self) -> None:
        """Write what was taken.

        Raises:
            OutputLost: It is lost, and this is the first time.
        """
        if not self.is_lost:
            try:
                super().flush()
            except OSError as error:
                self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.is_lost = True
        if not self._is_silent:
            raise OutputLost(error) from None


def secure() -> None:
    """Open what is closed of descriptors 0 to 2, and see to it that lost output is noticed."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # Of all free numbers a file gets the lowest, which is this one. For reading only: to
            # print a result into it must fail, because nobody gets that result.
            os.open(os.devnull, os.O_RDONLY)
            os.set_inheritable(fd, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = _text(1, sys.stdout, is_silent=False)
    sys.stderr = _text(2, sys.stderr, is_silent=True)


@contextlib.contextmanager
def ending_with_reader() -> Iterator[None]:
    """End this block when the reader of standard output has ended, also while nothing is printed.

    For commands that run until they are stopped, such as `hstore list --watch | head -1`. Other
    commands notice it when they print.

    Raises:
        OutputLost: The reader has ended.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not stat.S_ISFIFO(os.fstat(1).st_mode):
        yield
        return
    own = threading.get_ident()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set() and not _is_reader_gone(_LOOK_MS):
            pass
        while not is_over.wait(_AGAIN_S):
            signal.pthread_kill(own, signal.SIGPIPE)  # ends what the main thread waits for

    def end(_number: int, _frame: object) -> None:
        # SIGPIPE comes for a connection that a node has closed, too.
        if not is_over.is_set() and _is_reader_gone() and not _is_within_trio():
            is_over.set()  # raise once: cleaning up on the way out must not be interrupted
            output = getattr(sys.stdout, "buffer", None)
            if isinstance(output, _Output):
                if output.is_lost:
                    return  # it was noticed by printing, and the block is ending
                output.is_lost = True
            raise OutputLost(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    before = signal.signal(signal.SIGPIPE, end)
    # In a thread: the main thread waits for a node, or for a terminal.
    threading.Thread(target=look, daemon=True, name="reader").start()  # noqa: TID251
    try:
        yield
    finally:
        is_over.set()
        signal.signal(signal.SIGPIPE, before)


def _is_reader_gone(wait_ms: int = 0) -> bool:
    poller = poll()
    # POLLERR is reported, unasked, of a pipe that no reader is left of (poll(2)).
    poller.register(1, 0)
    return bool(poller.poll(wait_ms))


def _is_within_trio() -> bool:
    """Tell whether Trio runs, in which nothing may be raised by a signal. The signal comes again."""
    trio = sys.modules.get("trio")
    return trio is not None and trio.lowlevel.in_trio_run()


def _text(fd: int, before: object, *, is_silent: bool) -> io.TextIOWrapper:
    """Return a text stream to a descriptor, with the properties that Python gave the one before."""
    output = _Output(fd, is_silent=is_silent)
    if not isinstance(before, io.TextIOWrapper):
        return io.TextIOWrapper(
            output, encoding="utf-8", errors="backslashreplace", line_buffering=fd == 2
        )
    return io.TextIOWrapper(
        output,
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
