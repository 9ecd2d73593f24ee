"""A terminal that shows one picture, drawn again whenever it changes.

Owns the duties of a full-screen program. It uses the alternate screen, so that the user's lines are
not overwritten and a change of size leaves no debris. It draws over the old picture and never clears
it, so that nothing flickers. It leaves the terminal as it was, whatever ends the process. The caller
decides what is shown.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult


class Screen:
    """A live picture on the whole terminal. Closes: leaves the terminal as it was, with the last
    picture on it, at the end of `with`.

    Args:
        console: A terminal.
        picture: Returns what to show; called at each drawing, since the size may have changed.
    """

    def __init__(self, console: Console, picture: Callable[[], RenderableType]) -> None:
        self._console = console
        self._picture = picture
        self._live = Live(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=lambda: _Cropped(picture()),
        )
        self._is_drawing = False
        self._asked: list[Callable[[], None]] = []
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Take the terminal and draw."""
        self._restore.enter_context(self._signals())
        self._live.start()
        self.draw()
        return self

    def __exit__(self, *_error: object) -> None:
        """Give the terminal back."""
        with self._restore:
            self._live.stop()
            self._console.print(self._picture())

    def draw(self) -> None:
        """Draw the present picture."""
        self._is_drawing = True
        try:
            self._live.refresh()
        finally:
            self._is_drawing = False
        while self._asked:
            self._asked.pop()()

    def _soon(self, action: Callable[[], None]) -> None:
        """Do it now; if a signal came in the middle of a drawing, after that drawing."""
        if self._is_drawing:
            self._asked[:] = [action]
        else:
            action()

    def _suspend(self) -> None:
        """Stop the process for Ctrl-Z, with the terminal as it was before in the meantime."""
        self._live.stop()
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # returns at SIGCONT
        signal.signal(signal.SIGTSTP, before)
        self._live.start()
        self.draw()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle a change of size, Ctrl-Z, SIGTERM and SIGHUP within this block."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may have handlers; the picture still follows its changes
            return
        handlers = {
            signal.SIGWINCH: lambda *_: self._soon(self.draw),
            signal.SIGTSTP: lambda *_: self._soon(self._suspend),
        }
        before = {one: signal.signal(one, handler) for one, handler in handlers.items()}
        for one in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(one) is signal.SIG_DFL:  # else the caller has its own handler
                before[one] = signal.signal(one, _end)
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    """Exit with the status that a shell gives to a process ended by this signal."""
    raise SystemExit(128 + number)


class _Cropped:
    """A picture cut to the height of the terminal; its last line counts the lines cut off."""

    def __init__(self, picture: RenderableType) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._picture, options.update(height=None), pad=False)
        if len(lines) > console.height:
            shown = max(0, console.height - 1)
            more = f"... {len(lines) - shown} more lines"[: console.width]
            lines = [*lines[:shown], [Segment(more)]]
        for line in lines:
            yield from line
            yield Segment.line()
