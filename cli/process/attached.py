"""`hstore start` and `join` on a terminal: the node as a child process, and the shell in this one.

The child has a session of its own, so Ctrl-C in the shell does not reach it. It watches a pipe whose
writing end only this process holds, so it ends when this process ends, whatever the reason.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from hstore.node.errors import Refused

from ..messages import tell
from ..search.sources import finder_of_started
from .background import Child, Ended, describe, spawn
from .healthy import Part, wait_healthy

if TYPE_CHECKING:
    from types import FrameType

    from ..search.find import Finder
    from ..vocabulary import Commands


def run_with_shell(arguments: Sequence[str], env: Mapping[str, str], group: Commands) -> int:
    """Run a node and the shell; stop the node when the user leaves the shell; return the status.

    A clean stop hands leadership over and keeps the node's vote.

    Args:
        arguments: Those of `hstore`, the command first.
        env: The environment.
        group: The commands of the command line, for the shell.

    Raises:
        Refused: The node did not stop in time, and was killed.
    """
    # Imported before the node starts: should it fail, no node is left behind.
    from ..shell.shell import run_shell

    read_end, write_end = os.pipe()
    try:
        child = spawn(arguments, env, parent_pipe=read_end)
    finally:
        os.close(read_end)
    try:
        return _run(child, env, lambda finder, host: run_shell(finder, host, group))
    except Ended as end:
        if end.words:
            tell(end.words, is_error=True)
        return end.status
    except BaseException:
        if child.process.poll() is None:
            child.stop()
        raise
    finally:
        os.close(write_end)


def _run(child: Child, env: Mapping[str, str], run_shell: Callable[[Finder, str], int]) -> int:
    record = child.wait_serving(_say_waiting)
    finder = finder_of_started(record.zone, env)
    name = record.name or record.address
    try:
        health = wait_healthy(Part.of(record), finder, child.check)
        name = health.node.name if health.node else name
        click.echo(describe(health, record))
    except Refused as not_yet:
        tell(f"hstore: {not_yet}", is_error=True)
    with _end_is_reported(child):
        status = run_shell(finder, record.address)
    return _end(child, name, status)


def _say_waiting(why: str) -> None:
    tell(f"hstore: the node waits: {why} (Ctrl-C ends it)", is_error=True)


def _end(child: Child, name: str, status: int) -> int:
    """Stop the node; the exit status is the shell's, unless the node had failed before."""
    ended = child.process.poll()
    if ended is not None:
        return status if ended == 0 else child.ended(ended).status
    click.echo(f"stopping {name}", err=True)
    child.stop()
    return status


@contextlib.contextmanager
def _end_is_reported(child: Child) -> Iterator[None]:
    """While the shell is open, tell the user at once when the node ends."""

    def report(_number: int, _frame: FrameType | None) -> None:
        # SIGCHLD comes for a stopped or continued child, too.
        try:
            child.check()
        except Ended as end:
            signal.signal(signal.SIGCHLD, before)
            why = f":\n{end.words}" if end.words else ""
            tell(f"\nhstore: the node of this shell has ended{why}", is_error=True)

    before = signal.signal(signal.SIGCHLD, report)
    try:
        report(0, None)  # it may have ended just before
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)
