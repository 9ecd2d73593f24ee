"""Script checks: a program of this machine, started without a shell in a process group of its own.

Whatever becomes of a run, its group is gone after it: when the program has ended, when the time is
over, when its check goes and when the node stops. What a script leaves in the background would
otherwise grow with each run; a daemon that is to live begins a session of its own, as daemons do.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress

import trio

from ..model.checks import CheckDefinition, CheckStatus
from .output import last_bytes, limit_of, shortened
from .timeouts import timeout_s
from .verdict import Progress, Verdict

SAID_BYTES_MAX = 64 * 1024
"""Of what a script says; then its output is closed, and its exit status counts (section 9.5 of the
contract). A script that goes on writing gets SIGPIPE."""

_REAP_S = 2.0
"""For a process that was killed to be gone."""

_DISABLED = "Scripts are disabled on this agent; to enable, configure 'checks.script' to true"


class _Said:
    """What a script says, read from a pipe: all of it up to the limit."""

    def __init__(self, reader: int) -> None:
        os.set_blocking(reader, False)
        self._reader = reader
        self._is_open = True
        self.pieces = bytearray()

    async def listen(self) -> None:
        """Read until the limit, or until nobody can write any more; then close the pipe."""
        while self._is_open:
            await trio.lowlevel.wait_readable(self._reader)
            self.take()

    def take(self) -> None:
        """Read what is there."""
        while self._is_open:
            try:
                piece = os.read(self._reader, SAID_BYTES_MAX)
            except BlockingIOError:
                return
            self.pieces += piece
            if not piece or len(self.pieces) > SAID_BYTES_MAX:
                self.close()

    def close(self) -> None:
        """Close the pipe. Idempotent."""
        if self._is_open:
            self._is_open = False
            os.close(self._reader)

    def text(self, definition: CheckDefinition) -> str:
        """Return it, cut to what is kept."""
        return last_bytes(bytes(self.pieces), limit_of(definition))


class ScriptProbe:
    """Runs scripts, where the node's settings allow it."""

    def __init__(self, *, is_allowed: bool) -> None:
        self._is_allowed = is_allowed

    async def run(self, definition: CheckDefinition, progress: Progress) -> Verdict:
        """Carry out one check, as `Probes.run` says.

        Cancellation: the group is killed, and waited for at most 2 s.
        """
        if not self._is_allowed:
            return Verdict("critical", _DISABLED)
        try:
            process, said = await _start(definition)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            name = shortened(definition.args[0] if definition.args else "")
            return Verdict("critical", f"cannot run {name!r}: {(why or str(error)).lower()}")
        progress.so_far = lambda: _timed_out(definition, said)
        try:
            return await _finish(process, said, definition)
        finally:
            if process.returncode is None:
                with trio.move_on_after(_REAP_S, shield=True):
                    await process.wait()
            said.close()


def _timed_out(definition: CheckDefinition, said: _Said) -> Verdict:
    text = f"Timed out ({timeout_s(definition):g}s) running check"
    return Verdict("critical", f"{text}\n\n{said.text(definition)}" if said.pieces else text)


async def _start(definition: CheckDefinition) -> tuple[trio.Process, _Said]:
    """Start the program; raises OSError or ValueError where it cannot be."""
    if not definition.args:
        raise ValueError("no program is named")
    reader, writer = os.pipe()
    try:
        process = await trio.lowlevel.open_process(
            list(definition.args),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return process, _Said(reader)


async def _finish(process: trio.Process, said: _Said, definition: CheckDefinition) -> Verdict:
    """Wait until the program has ended, and end what it has left in its group.

    Cancellation: the whole group is killed, also if the program itself has just ended.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(said.listen)
        try:
            code = await process.wait()
        finally:
            _kill_group(process.pid)
        # What it said is in the pipe by now. One that left its session may hold that open for ever.
        nursery.cancel_scope.cancel()
    said.take()
    return Verdict(_status(code), said.text(definition))


def _kill_group(leader: int) -> None:
    # A group that has no process any more is none, and no other has its number while it has one.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _status(code: int) -> CheckStatus:
    return "passing" if code == 0 else "warning" if code == 1 else "critical"
