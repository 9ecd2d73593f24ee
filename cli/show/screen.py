"""A terminal that shows one picture, drawn again whenever it changes, and takes single keys.

Owns the duties of a full-screen program. It uses the alternate screen, so that the user's lines are
not overwritten and a change of size leaves no debris. It draws over the old picture and never clears
it, so that nothing flickers. It reads keys without waiting for Enter and without showing them. It
leaves the terminal as it was, whatever ends the process, SIGKILL aside. The caller decides what is
shown, and what a key does.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from rich.live import Live
from rich.segment import Segment

from .feed import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

_REDRAW_S = 1.0
"""At least so often the picture is drawn again, in case another program has written over it."""


class Shown(Protocol[T_contra]):
    """A picture that follows what comes."""

    def take(self, one: T_contra, /) -> None:
        """Take what came into the picture."""

    def picture(self, *, with_keys: bool) -> RenderableType:
        """Return what to show now; `with_keys` says whether keys are read."""

    def last(self) -> RenderableType:
        """Return what to leave on the terminal."""


def show_live(
    items: Iterable[T],
    console: Console,
    shown: Shown[T],
    *,
    press: Callable[[str], None] | None = None,
) -> None:
    """Show a picture of what comes until the user presses q, or nothing comes any more.

    Args:
        items: Iterated by a thread, so that keys are read meanwhile.
        console: A terminal.
        shown: Takes each item, and returns the picture.
        press: Takes the keys that were pressed, if none of them is q.

    Raises:
        BaseException: What `items` raised, once all items before it are taken.
    """
    keys = keyboard()
    screen = Screen(
        console, lambda: shown.picture(with_keys=keys is not None), last=shown.last, keys=keys
    )
    with Feed(items) as feed, screen:
        is_over = False
        while not is_over:
            has_news, pressed = screen.wait(feed.fileno(), _REDRAW_S)
            if "q" in pressed.lower():
                return
            if press is not None:
                press(pressed)
            if has_news:
                taken, is_over = feed.take()
                for one in taken:
                    shown.take(one)
            screen.draw()


def keyboard() -> int | None:
    """Return the descriptor of standard input if it is a terminal."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stdin.isatty():
            return sys.stdin.fileno()
    return None


class Screen:
    """A live picture on the whole terminal. Closes: leaves the terminal as it was, with the last
    picture on it, at the end of `with`.

    Args:
        console: A terminal.
        picture: Returns what to show; called at each drawing, since the size may have changed.
        last: Returns what to leave on the terminal; None: the picture.
        keys: The descriptor of a terminal from which keys are read; None: no keys.
    """

    def __init__(
        self,
        console: Console,
        picture: Callable[[], RenderableType],
        *,
        last: Callable[[], RenderableType] | None = None,
        keys: int | None = None,
    ) -> None:
        self._console = console
        self._last = last or picture
        self._keys = keys
        self._mode: list[Any] | None = None
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
        with contextlib.ExitStack() as stack:
            # The last that is entered is the first that is undone: the signals, which also end a
            # process while it gives the terminal back, are given back at the very end.
            stack.enter_context(self._signals())
            stack.callback(self._leave)
            self._take()
            self.draw()
            self._restore = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        """Give the terminal back."""
        with self._restore:
            pass
        self._console.print(self._last())

    def draw(self) -> None:
        """Draw the present picture."""
        self._is_drawing = True
        try:
            self._live.refresh()
        finally:
            self._is_drawing = False
        while self._asked:
            self._asked.pop()()

    def wait(self, other: int, seconds: float) -> tuple[bool, str]:
        """Wait until a descriptor is readable, or a key is pressed; at most so many seconds.

        Returns:
            Whether `other` is readable, and the keys.
        """
        typed, keys = self._keys, b""
        watched = [other] if typed is None else [other, typed]
        ready = select.select(watched, [], [], seconds)[0]
        if typed is not None and typed in ready:
            with contextlib.suppress(OSError):
                keys = os.read(typed, 1024)
            if not keys:
                self._keys = None  # the terminal is gone; SIGHUP follows, if anything does
        return other in ready, keys.decode(errors="replace")

    # --- the terminal -----------------------------------------------------------------------------

    def _take(self) -> None:
        """Read single keys, and show the picture. Ctrl-C and Ctrl-Z stay signals."""
        if self._keys is not None:
            with contextlib.suppress(termios.error):
                self._mode = termios.tcgetattr(self._keys)
                changed = termios.tcgetattr(self._keys)
                changed[3] &= ~(termios.ICANON | termios.ECHO)
                changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
                termios.tcsetattr(self._keys, termios.TCSANOW, changed)
        self._live.start()

    def _leave(self) -> None:
        """Undo `_take`; the keys first, since writing to a terminal that is gone raises."""
        if self._keys is not None and self._mode is not None:
            with contextlib.suppress(termios.error):
                # Not TCSADRAIN: it would wait for ever for a terminal that is stopped by Ctrl-S.
                termios.tcsetattr(self._keys, termios.TCSANOW, self._mode)
            self._mode = None
        self._live.stop()

    # --- signals ----------------------------------------------------------------------------------

    def _soon(self, action: Callable[[], None]) -> None:
        """Do it now; if a signal came in the middle of a drawing, after that drawing."""
        if self._is_drawing:
            self._asked[:] = [action]
        else:
            action()

    def _suspend(self) -> None:
        """Stop the process for Ctrl-Z, with the terminal as it was before in the meantime."""
        self._leave()
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # returns at SIGCONT
        signal.signal(signal.SIGTSTP, before)
        self._take()
        self.draw()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle a change of size, Ctrl-Z, and the signals that end a process, within this block."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may have handlers; the picture still follows its changes
            return
        handlers = {
            signal.SIGWINCH: lambda *_: self._soon(self.draw),
            signal.SIGTSTP: lambda *_: self._soon(self._suspend),
        }
        before = {one: signal.signal(one, handler) for one, handler in handlers.items()}
        for one in _ENDING:
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
