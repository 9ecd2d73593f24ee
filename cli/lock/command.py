"""`hstore lock`: from what the user asked for to the exit status.

Finds the cluster, and starts Trio, within which `holding.py` does everything.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import trio

from ..messages import tell
from . import child
from .holding import Asked, Holder
from .members import Members

if TYPE_CHECKING:
    from ..search.find import Finder


def run_locked(finder: Finder, host: str | None, asked: Asked) -> int:
    """Run a command under a lock; return its exit status, or `EXIT_LOST`.

    Args:
        finder: Finds the cluster, and makes clients.
        host: `ADDR|NAME` of the member to ask first; None: search for the cluster.
        asked: Which lock, and which command.

    Raises:
        NotRunnable: The command cannot be run.
        Refused: The lock was not free in time, or the cluster refuses the session.
        HstoreError: The cluster cannot be reached.
    """
    child.check(asked.command)
    members = Members(finder.find_at(host), finder.connect, _say)
    holder = Holder(asked, members, child.Child, _say, _say if sys.stderr.isatty() else _be_silent)
    return trio.run(_hold, holder)


def default_name(words: tuple[str, ...]) -> str:
    """Return the name of a session: what runs under the lock, and where."""
    program = os.fsencode(os.path.basename(words[0])).decode(errors="replace")  # noqa: PTH119
    return f"{program} on {socket.gethostname()}, pid {os.getpid()}"


async def _hold(holder: Holder) -> int:
    # What is ignored here, such as SIGHUP under nohup, the command shall ignore, too.
    taken = [one for one in child.PASSED_ON if signal.getsignal(one) is not signal.SIG_IGN]
    with trio.open_signal_receiver(signal.SIGCHLD, *taken) as signals:
        return await holder.hold(signals)


def _say(text: str) -> None:
    tell(f"hstore: {text}", is_error=True)


def _be_silent(_text: str) -> None:
    pass
