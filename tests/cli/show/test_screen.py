"""What a full-screen picture owes the terminal. The signals are real, the terminal is a buffer."""

from __future__ import annotations

import io
import os
import signal

import pytest
from rich.console import Console, Group

from hstore.cli.show.screen import Screen
from hstore.cli.show.watch import show

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

    def sightings():
        yield make.info()
        assert "CONTACT" in written(console)
        console.width = 20
        signal.raise_signal(signal.SIGWINCH)
        narrow = written(console).rpartition("\x1b[H")[2].splitlines()
        assert max(len(line) for line in narrow) <= 20
        assert any(line.strip() == "n2 follower alive" for line in narrow)

    show(sightings(), console)
