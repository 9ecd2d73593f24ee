"""The shell as a person uses it, at a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from contextlib import contextmanager

from .cluster import HSTORE, WAIT_S, Cluster, eventually

_ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r")


class Terminal:
    """A program at a terminal: what is typed, and all that it shows without its colours."""

    def __init__(self, fd):
        self._fd = fd
        self._raw = b""
        self._read = 0

    def type(self, keys):
        os.write(self._fd, keys.encode())

    def shows(self, pattern):
        """Whether it is shown by now, after what was waited for before."""
        if select.select([self._fd], [], [], 0.2)[0]:
            self._raw += self._more()
        text = _ANSI.sub("", self._raw.decode(errors="replace"))
        return re.compile(pattern).search(text, self._read) is not None

    def wait_for(self, pattern):
        """Return the match of what is shown, after what was waited for before."""
        end = time.monotonic() + WAIT_S
        while True:
            text = _ANSI.sub("", self._raw.decode(errors="replace"))
            found = re.compile(pattern).search(text, self._read)
            if found:
                self._read = found.end()
                return found
            assert time.monotonic() < end, f"{pattern!r} is not in {text[self._read :]!r}"
            if select.select([self._fd], [], [], 0.2)[0]:
                self._raw += self._more()

    def is_raw(self):
        """Whether Ctrl-C is a key, as it is while the prompt reads."""
        return not termios.tcgetattr(self._fd)[3] & termios.ISIG

    def _more(self):
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # what Linux says when nobody has the other end any more
            data = b""
        # prompt_toolkit asks where the cursor is, as each terminal can say.
        for _ in range(data.count(b"\x1b[6n")):
            os.write(self._fd, b"\x1b[1;1R")
        return data


def _take_terminal():
    """Have Ctrl-C come from the terminal, and not be ignored where who runs the tests does so."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def at_terminal(cluster, *arguments, program=HSTORE, env=None, cwd=None):
    """Run hstore, or another program, at a terminal."""
    ours, theirs = pty.openpty()
    env = {**(env or cluster.env), "TERM": "xterm", "COLUMNS": "200", "LINES": "24"}
    env["XDG_STATE_HOME"] = str(cluster.folder / "state")
    process = subprocess.Popen(
        [*program, *arguments], cwd=cwd,
        stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - no threads yet
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours), process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_ctrl_c_right_after_an_answer_neither_ends_nor_hangs_the_shell(shared: Cluster):
    """Between an answer and the prompt Ctrl-C is a signal, in the midst of an event loop's start."""
    first = shared.nodes[1]
    with at_terminal(shared, "cli", "-h", first.address) as (terminal, process):
        terminal.wait_for(f"{first.address}>")
        for _ in range(40):
            terminal.type("help get\r")
            terminal.wait_for(r"  > get foo\n")
            terminal.type("nothing\x03help exit\r")
            terminal.wait_for(r"  > exit\n")
        terminal.type("\x04")
        assert process.wait(WAIT_S) == 0


def test_ctrl_d_while_a_command_runs_leaves_the_shell_after_it(shared: Cluster):
    """It was lost: the prompt read NUL in its place, and waited for more."""
    first = shared.nodes[1]
    with at_terminal(shared, "cli", "-h", first.address) as (terminal, process):
        terminal.wait_for(f"{first.address}>")
        first.signal(signal.SIGSTOP)
        terminal.type("get nothing\r")
        terminal.wait_for(r"get nothing\n")
        eventually(lambda: not terminal.is_raw(), "the command runs")
        terminal.type("\x04")
        first.signal(signal.SIGCONT)
        terminal.wait_for("there is no key")
        assert process.wait(WAIT_S) == 0


def test_a_session_at_a_terminal(three: Cluster):
    """Set, get, Tab, watch and Ctrl-C; the node dies; it goes on at another; it leaves."""
    first = three.nodes[1]
    with at_terminal(three, "cli", "-h", first.address) as (terminal, process):
        terminal.wait_for(rf"through {first.address}.*\n")
        terminal.wait_for(f"{first.address}>")  # The space behind it is a movement.
        terminal.type('set services/web "up \\x1b[31m"\r')
        terminal.wait_for(r"revision \d+\n")
        # Tab completes the command, then the key.
        terminal.type("ge\t")
        terminal.wait_for("t")
        terminal.type("serv")
        # The node has a moment to answer, and may be late on a busy machine: then Tab again.
        eventually(
            lambda: terminal.type("\t") or terminal.shows("ices/web"), "Tab completes the key"
        )
        terminal.wait_for("ices/web")
        terminal.type("\r")
        terminal.wait_for(r"up \\x1b\[31m\n\(revision \d+\)\n")
        terminal.type("get nothing\x03")  # Ctrl-C clears the line.
        terminal.type("watch services/\r")
        terminal.wait_for("Ctrl-C ends it")
        # The watch begins a moment after it is asked for, and shows what comes from then on.
        eventually(
            lambda: (
                first.write("services/db", "1").status == 200
                and terminal.shows(r"set services/db 1\n")
            ),
            "the watch shows a write",
        )
        seen = terminal.wait_for(r"(\d+) set services/db 1\n")
        # The node dies under the watch, which goes on elsewhere and misses nothing.
        first.kill()
        left = three.nodes[2]
        eventually(lambda: left.write("services/db", "2").status == 200, "a write")
        terminal.wait_for("now at")
        assert int(terminal.wait_for(r"(\d+) set services/db 2\n")[1]) > int(seen[1])
        terminal.type("\x03")
        terminal.wait_for(r"\^C\s+\S+>")
        terminal.type("del services/db\r")
        terminal.wait_for(r"revision \d+\n")
        terminal.type("get services/db\r")
        terminal.wait_for("hstore: there is no key")
        terminal.type("exit\r")
        assert process.wait(WAIT_S) == 0
    history = three.folder / "state" / "hstore" / "history"
    assert "del services/db" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600
