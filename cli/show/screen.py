"""A terminal that shows one thing and draws it again whenever it changes.

Owns what a full-screen program owes its terminal: the alternate screen, so that nothing of what was
there is overwritten and a change of size leaves no debris; drawing over the old picture, never
clearing it, so that it does not flicker; and leaving the terminal as it was, whatever ends us.
What is shown is the caller's business.
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
        picture: Returns what is to be shown now; asked at each drawing, for the size may differ.
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
        """Draw what is to be shown now."""
        self._is_drawing = True
        try:
            self._live.refresh()
        finally:
            self._is_drawing = False
        while self._asked:
            self._asked.pop()()

    def _soon(self, action: Callable[[], None]) -> None:
        """Do it now; where a signal came in the middle of a drawing, when that is complete."""
        if self._is_drawing:
            self._asked[:] = [action]
        else:
            action()

    def _suspend(self) -> None:
        """Stop as Ctrl-Z asks, with the terminal given back meanwhile."""
        self._live.stop()
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # returns when we are continued
        signal.signal(signal.SIGTSTP, before)
        self._live.start()
        self.draw()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Obey resizing, Ctrl-Z, and what would end us without a last word, for a while."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may have handlers; the picture still follows its changes
            return
        handlers = {
            signal.SIGWINCH: lambda *_: self._soon(self.draw),
            signal.SIGTSTP: lambda *_: self._soon(self._suspend),
        }
        before = {one: signal.signal(one, handler) for one, handler in handlers.items()}
        for one in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(one) is signal.SIG_DFL:  # else whoever called us has its own way
                before[one] = signal.signal(one, _end)
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    """Unwind the stack; the exit status is that of a process which the signal has ended."""
    raise SystemExit(128 + number)


class _Cropped:
    """What fits of a picture, with a last line that says how much does not."""

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
