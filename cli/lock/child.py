"""The process of a command: in a process group of its own, which gets the terminal where there is one.

Owns everything that is said to the kernel about it: how it starts, signals to its group, how it ended,
and job control. When is decided in `holding.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from hstore.node.errors import Refused

PASSED_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
)

_STOPPED_AT_TERMINAL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_PR_SET_PDEATHSIG = 1  # prctl(2)
_STDIN = 0


class NotRunnable(Refused):
    """The command cannot be run. The exit statuses are those of `sh`, `env` and `timeout`."""

    exit_code = 126


class NoProgram(NotRunnable):
    """There is no such program."""

    exit_code = 127


def check(words: Sequence[str]) -> None:
    """See whether a command can be run, before anybody waits for a lock.

    Raises:
        NoProgram: It cannot.
    """
    if shutil.which(words[0]) is None:
        raise _no_program(words[0])


class Child:
    """A command that runs. Ended by `kill`, or by itself.

    Attributes:
        status: Its exit status as a shell has it: 128 and the number of a signal that ended it;
            None: it runs.

    Raises:
        NotRunnable: It could not be started.
    """

    def __init__(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        self.status: int | None = None
        self._has_terminal = _is_in_foreground()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - what the user typed, without a shell
                words,
                env=env,
                process_group=0,
                # Threads exist, but all are idle, and what runs here takes no lock of theirs.
                preexec_fn=_Prepare(has_terminal=self._has_terminal),  # noqa: PLW1509
            )
        except FileNotFoundError:
            self._take_terminal()
            raise _no_program(words[0]) from None
        except (OSError, subprocess.SubprocessError) as error:
            self._take_terminal()
            reason = getattr(error, "strerror", None) or error
            raise NotRunnable(f"{words[0]} cannot be run: {reason}") from None

    def signal(self, number: int) -> None:
        """Send a signal to its whole group; after `bury` nobody gets it."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def look(self) -> bool:
        """Take note of what has become of it, after SIGCHLD; tell whether its terminal has stopped it.

        Its id stays taken until `bury`, so a signal to its group cannot hit another.
        """
        if self.status is not None:
            return False
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        ended = os.waitid(os.P_PID, self._process.pid, flags)
        if ended is not None:
            is_exit = ended.si_code == os.CLD_EXITED
            self.status = ended.si_status if is_exit else 128 + ended.si_status
            return False
        stopped = os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOHANG)
        if stopped is None:
            return False
        # `suspend` in a shell is SIGSTOP. Who has no terminal is stopped so by somebody else.
        by_user = {*_STOPPED_AT_TERMINAL, *([signal.SIGSTOP] if self._has_terminal else [])}
        return stopped.si_status in by_user

    def stop_with_it(self) -> None:
        """Stop this process too, as the user's Ctrl-Z means; return when it is continued."""
        self._take_terminal()
        os.kill(os.getpid(), signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the stopped group go on."""
        self._has_terminal = _is_in_foreground()
        if self._has_terminal:
            _give_terminal(self._process.pid)
        self.signal(signal.SIGCONT)

    def bury(self) -> None:
        """Give up its id, once it has ended, and take the terminal back."""
        self._process.wait()
        self._take_terminal()

    def _take_terminal(self) -> None:
        if self._has_terminal:
            _give_terminal(os.getpgrp())


def _no_program(name: str) -> NoProgram:
    return NoProgram(f"there is no program {name!r}; the command follows the key, without a shell")


class _Prepare:
    """What the new process does before it becomes the command.

    The kernel kills it when its parent dies, even by SIGKILL: nobody would renew its session any more.
    """

    def __init__(self, *, has_terminal: bool) -> None:
        self._has_terminal = has_terminal
        self._parent = os.getpid()
        # Looked up here: a process that was just forked should do as little as it can.
        self._prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def __call__(self) -> None:
        if self._prctl is not None:
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != self._parent:
                os._exit(NotRunnable.exit_code)  # it died before it could be told
        if self._has_terminal:
            _give_terminal(os.getpid())


def _is_in_foreground() -> bool:
    """Tell whether standard input is a terminal that is ours, and not that of another job."""
    try:
        return os.isatty(_STDIN) and os.tcgetpgrp(_STDIN) == os.getpgrp()
    except OSError:
        return False


def _give_terminal(group: int) -> None:
    with _unstopped(), contextlib.suppress(OSError):  # it may be closed by now
        os.tcsetpgrp(_STDIN, group)


@contextlib.contextmanager
def _unstopped() -> Iterator[None]:
    """Who gives a terminal away from the background would be stopped (tcsetpgrp(3))."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTTOU, before)
