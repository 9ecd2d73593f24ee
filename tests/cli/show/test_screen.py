"""What a full-screen picture owes the terminal. The signals are real, the terminal is a buffer."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import termios
import time

import pytest
from rich.console import Console, Group

from hstore.cli.show import screen as screens
from hstore.cli.show.screen import Screen, show_live
from hstore.cli.show.watch import _Live, local_time

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
HIDE, UNHIDE = "\x1b[?25l", "\x1b[?25h"
SIGNALS = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGTERM, signal.SIGHUP)


def terminal(width=60, height=10):
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
    )


def written(console):
    return console.file.getvalue()


def test_the_terminal_is_taken_and_given_back_with_the_last_picture_on_it():
    console = terminal()
    handlers = [signal.getsignal(one) for one in SIGNALS]
    with Screen(console, lambda: "now"):
        assert ENTER in written(console)
        assert HIDE in written(console)
    _, _, after = written(console).partition(LEAVE)
    assert after == "now\n"
    assert UNHIDE in written(console)
    assert [signal.getsignal(one) for one in SIGNALS] == handlers


def test_a_picture_is_drawn_over_the_old_one_and_never_cleared():
    console = terminal()
    with Screen(console, lambda: "now") as screen:
        screen.draw()
    assert "\x1b[2J" not in written(console)
    assert written(console).count("\x1b[H") >= 2


def test_a_change_of_size_is_drawn_at_once():
    console = terminal(width=60)
    with Screen(console, lambda: f"width {console.width}"):
        console.width = 30
        signal.raise_signal(signal.SIGWINCH)
        assert "width 30" in written(console)


def test_a_signal_in_the_middle_of_a_drawing_waits_for_its_end():
    console = terminal()
    drawn = []
    is_signalled = False

    def picture():
        nonlocal is_signalled
        drawn.append(written(console).count("\x1b[H"))
        if is_signalled:
            is_signalled = False
            signal.raise_signal(signal.SIGWINCH)
        return "now"

    with Screen(console, picture) as screen:
        drawn.clear()
        is_signalled = True
        screen.draw()
        # The second began when the first was on the terminal.
        assert drawn == [drawn[0], drawn[0] + 1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_would_end_it_without_a_last_word_gives_the_terminal_back(number):
    console = terminal()
    before = signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore it
    try:
        with pytest.raises(SystemExit) as ended, Screen(console, lambda: "now"):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert ended.value.code == 128 + number
    assert written(console).endswith(LEAVE + "now\n")


def test_whoever_has_a_way_to_end_keeps_it():
    got = []
    before = signal.signal(signal.SIGTERM, lambda *_: got.append("theirs"))
    try:
        with Screen(terminal(), lambda: "now"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == ["theirs"]


def test_an_interruption_gives_the_terminal_back():
    console = terminal()
    with pytest.raises(KeyboardInterrupt), Screen(console, lambda: "now"):
        raise KeyboardInterrupt
    assert written(console).endswith(LEAVE + "now\n")


def test_while_it_is_suspended_the_terminal_is_the_shells(monkeypatch):
    console = terminal()
    seen = []

    def stop(pid, number):
        seen.append((pid, number, signal.getsignal(number), written(console).endswith(LEAVE)))

    monkeypatch.setattr(os, "kill", stop)
    with Screen(console, lambda: "now"):
        signal.raise_signal(signal.SIGTSTP)
        assert seen == [(os.getpid(), signal.SIGTSTP, signal.SIG_DFL, True)]
        again = written(console).rpartition(LEAVE)[2]
        assert again.startswith(ENTER)
        assert "now" in again
        signal.raise_signal(signal.SIGTSTP)
    assert len(seen) == 2


def test_what_does_not_fit_is_counted_in_the_last_line():
    console = terminal(height=5)
    with Screen(console, lambda: Group(*(f"line {number}" for number in range(9)))):
        shown = written(console)
    assert "line 3" in shown
    assert "line 4" not in shown
    assert "... 5 more lines" in shown
    assert "line 8" in written(console).rpartition(LEAVE)[2]


def test_a_resize_shows_the_table_at_the_new_width(make):
    console = terminal(width=100)
    live = _Live(console, None, "ends it", local_time)
    live.take(make.info())
    with Screen(console, lambda: live.picture(with_keys=True)):
        assert "CONTACT" in written(console)
        console.width = 20
        signal.raise_signal(signal.SIGWINCH)
        narrow = written(console).rpartition("\x1b[H")[2].splitlines()
        assert max(len(line) for line in narrow) <= 20
        assert any(line.strip() == "n2 follower alive" for line in narrow)


@pytest.fixture
def keyboard():
    """Both ends of a terminal: where a person types, and where a program reads."""
    ours, theirs = os.openpty()
    yield ours, theirs
    for one in (ours, theirs):
        with contextlib.suppress(OSError):
            os.close(one)


def is_ordinary(fd):
    mode = termios.tcgetattr(fd)[3]
    return bool(mode & termios.ICANON) and bool(mode & termios.ECHO)


def test_a_key_is_read_without_enter_and_is_not_shown_until_the_end(keyboard):
    typed, read = keyboard
    quiet = os.pipe()[0]
    with Screen(terminal(), lambda: "now", keys=read) as screen:
        assert not is_ordinary(read)
        assert termios.tcgetattr(read)[3] & termios.ISIG  # Ctrl-C stays what it is
        assert screen.wait(quiet, 0) == (False, "")
        os.write(typed, b"xq")
        assert screen.wait(quiet, 5) == (False, "xq")
    assert is_ordinary(read)
    os.close(quiet)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_whatever_ends_it_the_terminal_reads_lines_again(keyboard, number):
    before = signal.signal(number, signal.SIG_DFL)
    if number == signal.SIGINT:
        signal.signal(number, signal.default_int_handler)
    console = terminal()
    try:
        with (
            pytest.raises((SystemExit, KeyboardInterrupt)),
            Screen(console, lambda: "now", keys=keyboard[1]),
        ):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert is_ordinary(keyboard[1])
    assert UNHIDE in written(console)


def test_while_it_is_suspended_the_terminal_reads_lines(keyboard, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "kill", lambda *_: seen.append(is_ordinary(keyboard[1])))
    with Screen(terminal(), lambda: "now", keys=keyboard[1]):
        signal.raise_signal(signal.SIGTSTP)
        assert seen == [True]
        assert not is_ordinary(keyboard[1])


def test_a_keyboard_that_is_gone_is_not_asked_again_and_again(keyboard):
    quiet = os.pipe()[0]
    with Screen(terminal(), lambda: "now", keys=keyboard[1]) as screen:
        os.close(keyboard[0])
        assert screen.wait(quiet, 5) == (False, "")
        began = time.monotonic()
        assert screen.wait(quiet, 0.2) == (False, "")
        assert time.monotonic() - began > 0.15
    os.close(quiet)


def test_an_error_amid_the_first_drawing_gives_the_terminal_back(keyboard):
    def broken():
        raise ZeroDivisionError

    console = terminal()
    with pytest.raises(ZeroDivisionError), Screen(console, broken, keys=keyboard[1]):
        pass
    assert is_ordinary(keyboard[1])
    assert written(console).count(ENTER) == written(console).count(LEAVE)


# --- a live picture --------------------------------------------------------------------------------


class Shown:
    """A picture of the last number; keeps what it was given."""

    def __init__(self):
        self.taken, self.pressed = [], []

    def take(self, one):
        self.taken.append(one)

    def picture(self, *, with_keys):
        return f"{self.taken[-1:]} keys {with_keys} pressed {''.join(self.pressed)}"

    def last(self):
        return f"last {self.taken[-1]}"

    def press(self, keys):
        self.pressed.append(keys)


@pytest.mark.parametrize("with_keys", [True, False])
def test_a_live_picture_ends_with_what_it_shows_once_all_of_it_was_taken(
    keyboard, monkeypatch, with_keys
):
    monkeypatch.setattr(screens, "keyboard", lambda: keyboard[1] if with_keys else None)
    console, shown = terminal(), Shown()
    show_live(iter(range(200)), console, shown)
    assert shown.taken == list(range(200))
    assert f"keys {with_keys}" in written(console)
    assert written(console).rpartition(LEAVE)[2] == "last 199\n"


def test_a_live_picture_hands_on_each_key_but_the_one_that_ends_it(keyboard, monkeypatch):
    monkeypatch.setattr(screens, "keyboard", lambda: keyboard[1])
    console, shown = terminal(), Shown()

    def numbers():
        yield 0
        os.write(keyboard[0], b"w")
        for number in range(1, 2000):
            time.sleep(0.01)  # noqa: TID251 - what a node sends, and a person types meanwhile
            yield number
            if "pressed w" in written(console):
                os.write(keyboard[0], b"xQ")

    show_live(numbers(), console, shown, press=shown.press)
    assert "".join(shown.pressed) == "w"
    assert is_ordinary(keyboard[1])
