"""The shell: `hstore cli`, and what `start` and `join` open on a terminal.

Owns the reading of lines (from a terminal, a pipe, the command line), the history, and the form of
errors: a line or two on standard error, and the exit status. What a line does is in `lines.py`.
Everything is synchronous and runs on the main thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import click

from hstore.node.config import own_files
from hstore.node.errors import HstoreError, Refused

from ..client.plain import plain
from ..messages import tell
from .commands import Context, Output, of_standard_input
from .connection import Connection
from .lines import Leave, is_write, run
from .words import Unreadable, from_arguments, read_words, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History

    from ..search.find import Finder
    from ..vocabulary import Commands
    from .words import Word

HISTORY_BYTES_MAX = 1 << 20
"""When a shell begins and the file is larger, only the newest half of this is kept."""


def run_shell(
    finder: Finder, host: str | None, group: Commands, commands: Sequence[str] = ()
) -> int:
    """Run a shell, or one command; return the exit status.

    Without `commands` it reads lines. On a terminal it prompts for them until Ctrl-D or `exit`, goes
    on after a line that fails, and the status is 0. Otherwise it reads standard input up to the first
    line that fails, whose status is returned: what follows may need what that line should have done.

    Args:
        finder: Finds the cluster, and makes clients.
        host: `ADDR|NAME` of the node to talk to first; None: search for the cluster.
        group: The commands of the command line.
        commands: The words of one command, without quotes.

    Raises:
        HstoreError: The one command failed, or a terminal's shell finds no cluster.
    """
    out = Output(is_terminal=sys.stdout.isatty())
    with Connection(finder, host, out.note) as connection:
        if commands:
            with contextlib.suppress(Leave):
                context = Context(connection, out, more=of_standard_input)
                return run(context, group, from_arguments(list(commands)))
            return 0
        if sys.stdin.isatty() and sys.stdout.isatty():
            return _talk(Context(connection, out, is_interactive=True, is_shell=True), group)
        return _read_lines(Context(connection, out, is_shell=True), group, sys.stdin.buffer)


def _talk(context: Context, group: Commands) -> int:
    """Prompt for lines at a terminal and run them."""
    connection = context.connection
    found = connection.connect()
    context.out.line(
        f"cluster {found.info.cluster_id} of zone {found.info.zone}, through {found.address}\n"
        "`help` shows the commands, Ctrl-D leaves"
    )
    prompt = _prompt(context, group)
    with _every_key_kept(sys.stdin.fileno()), _Interrupts() as interrupts:
        context = context._replace(more=lambda: _next_line(prompt, interrupts))
        while True:
            try:
                # While the prompt reads, the terminal is raw: Ctrl-C is a key, and no signal.
                line = prompt.prompt(f"{connection.address}> ", handle_sigint=False)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            try:
                interrupts.are_raised = True
                _one(lambda line=line: split(line), context, group)  # type: ignore[misc]
                interrupts.are_raised = False
            except Leave:
                return 0
            except KeyboardInterrupt:
                interrupts.are_raised = False
                click.echo()
                if is_write(group, line):
                    context.out.note("interrupted; the write may or may not take effect")


def _next_line(prompt: PromptSession[str], interrupts: _Interrupts) -> list[Word]:
    """Prompt for another line of the command that runs."""
    interrupts.are_raised = False
    try:
        return split(prompt.prompt("... ", handle_sigint=False))
    except (KeyboardInterrupt, EOFError):
        raise Refused("given up; nothing was sent") from None
    finally:
        interrupts.are_raised = True


def _read_lines(context: Context, group: Commands, lines: BinaryIO) -> int:
    """Run the lines of a pipe or a file, up to the first that fails; return its status."""
    number, status, is_over = 0, 0, False

    def following() -> list[Word] | None:
        nonlocal number
        number += 1
        return read_words(lines)

    def first() -> list[Word]:
        nonlocal is_over
        words = following()
        is_over = words is None
        return words or []

    while not status and not is_over:
        try:
            where = f"line {number + 1}: "
            status = _one(first, context._replace(more=following), group, where)
        except Leave:
            break
    return status


def _one(read: Callable[[], list[Word]], context: Context, group: Commands, where: str = "") -> int:
    """Run one line; print an error; return the exit status."""
    try:
        words = read()
        if words:
            return run(context, group, words)
    except HstoreError as error:
        said = plain(str(error), keep="\n")
        line = "" if isinstance(error, Unreadable) else where
        tell(f"hstore: {line}{said}", is_error=True)
        return error.exit_code
    return 0


# -- the terminal -----------------------------------------------------------------------------


class _Interrupts:
    """Lets Ctrl-C at a terminal end the command that runs, and nothing else.

    Between a command and the prompt SIGINT is ignored. Raised there, KeyboardInterrupt would hit
    the event loop of the prompt while it begins or ends, and that hangs or shows a traceback.
    """

    def __init__(self) -> None:
        self.are_raised = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, *_error: object) -> None:
        self.are_raised = False
        signal.signal(signal.SIGINT, self._before)

    def _take(self, _signal: int, _frame: object) -> None:
        if self.are_raised:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _every_key_kept(terminal: int) -> Iterator[None]:
    """Have Ctrl-D that is typed while a command runs reach the next prompt.

    Between two prompts a terminal is in canonical mode (termios(3)), where the kernel keeps Ctrl-D
    as a mark and not as a character; the prompt, which reads in raw mode, would get NUL in its place
    (findings/ctrl-d-typed-ahead.sh). Without canonical mode it stays what it is. Ctrl-C goes on to
    be a signal.
    """
    before = termios.tcgetattr(terminal)
    changed = termios.tcgetattr(terminal)
    changed[3] &= ~termios.ICANON
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    termios.tcsetattr(terminal, termios.TCSANOW, changed)
    try:
        yield
    finally:
        # A terminal that was closed meanwhile has nothing to be restored.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _prompt(context: Context, group: Commands) -> PromptSession[str]:
    from prompt_toolkit import PromptSession

    from .suggestions import ShellCompleter

    return PromptSession(
        history=open_history(history_path(os.environ)),
        completer=ShellCompleter(context, group),
        complete_in_thread=True,
        complete_while_typing=False,
    )


def history_path(environ: Mapping[str, str]) -> Path:
    """Return the file of the history."""
    given = environ.get("XDG_STATE_HOME", "")
    # XDG Base Directory Specification: a relative path is to be ignored.
    state = Path(given) if given.startswith("/") else Path("~/.local/state").expanduser()
    return state / "hstore" / "history"


def open_history(path: Path) -> History:
    """Return the history in a file that only its owner can read; in memory where that fails."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Kept(FileHistory):
        """A history that leaves out lines which begin with a space, as other shells do."""

        def append_string(self, string: str) -> None:
            if not string.startswith(" "):
                super().append_string(string)

        def store_string(self, string: str) -> None:
            with contextlib.suppress(OSError):  # A full disk must not end the shell.
                super().store_string(string)

    try:
        own_files.make_directory(path.parent)
        fd = own_files.open_own(path, os.O_RDWR | os.O_CREAT)
        os.fchmod(fd, 0o600)
        os.close(fd)
        _shorten(path)
    except OSError:
        return InMemoryHistory()
    return Kept(path)


def _shorten(path: Path) -> None:
    """Drop the oldest lines of a file that has grown too long."""
    if path.stat().st_size <= HISTORY_BYTES_MAX:
        return
    # An entry begins with an empty line and `# time`.
    _, mark, newest = path.read_bytes()[-HISTORY_BYTES_MAX // 2 :].partition(b"\n# ")
    path.write_bytes(mark + newest)
