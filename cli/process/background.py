"""A node in a process of its own, without a terminal: start it, wait until it serves, stop it.

The node has a session of its own, so neither Ctrl-C nor the end of a terminal reaches it. It logs to
our standard error until it knows its data directory, and from then on to a file in it
(`hstore.node.process.log_file`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from hstore.node.discovery.run_record import RunRecord
from hstore.node.errors import Refused
from hstore.node.process.launch import LogStart, Waiting

from ..client.plain import print_json
from ..messages import tell
from ..search.sources import finder_of_started
from .healthy import Healthy, Part, wait_healthy
from .launching import PROGRAM

# A start checks the log, which may be large, and a join may wait for an election. Both are bounded.
_START_S = 120.0

# A node that waits for others (`together.py`) says so; then its user need not wait with it.
_WAITS_S = 10.0
# Four months: `select` takes no infinity.
_FOR_EVER_S = 10.0**7

_STOP_S = 8.0
"""A clean stop takes at most 5 s (contract, section 3)."""

_SAID_BYTES = 64 << 10
_LAST_WORDS_BYTES = 16 << 10
_LAST_WORDS_LINES = 5


class Ended(Exception):
    """The node has ended.

    Attributes:
        status: Its exit status; 1 when a signal ended it.
        words: Its last words in its log; empty: it gave the reason on our standard error.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class Child:
    """A started node in a process of its own.

    Attributes:
        process: The child's Popen handle.
        log: The log file, and the byte in it where this run begins; None: not known yet.
    """

    def __init__(self, process: subprocess.Popen[bytes], ready: int) -> None:
        """Take the child, and the read end of its `--ready-pipe`, which `wait_serving` closes."""
        self.process = process
        self.log: LogStart | None = None
        self._ready = ready

    def wait_serving(self, on_waiting: Callable[[str], None] | None = None) -> RunRecord:
        """Wait until the node serves, and return its run record.

        Args:
            on_waiting: Called with what the node waits for, when that changes, and then the node is
                waited for without end; None: for `_WAITS_S`.

        Raises:
            Ended: It has ended.
            Refused: It does not serve after `_START_S`, or waits; it keeps on starting.
        """
        end = time.monotonic() + _START_S
        why = ""
        with os.fdopen(self._ready, "rb", buffering=0) as pipe:
            rest = b""
            while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                piece = pipe.read(_SAID_BYTES)
                if not piece:
                    raise self.ended(self.process.wait(_STOP_S))
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    news = self._take(line)
                    if isinstance(news, RunRecord):
                        return news
                    if news is not None:
                        end = time.monotonic() + _WAITS_S if not why else end
                        why = news.waits_because
                        if on_waiting is not None:
                            on_waiting(why)
                            end = time.monotonic() + _FOR_EVER_S
        raise self._not_serving(why)

    def _take(self, line: bytes) -> RunRecord | Waiting | None:
        """Take a line of the ready pipe: the log file comes first, the run record last."""
        if self.log is None:
            self.log = msgspec.json.decode(line, type=LogStart)
            return None
        try:
            return msgspec.json.decode(line, type=Waiting)
        except msgspec.ValidationError:
            return msgspec.json.decode(line, type=RunRecord)

    def _not_serving(self, why: str) -> Refused:
        where = f"; it logs to {self.log.log_file}" if self.log else ""
        process = f"(process {self.process.pid}){where}"
        if why:
            return Refused(f"the node waits: {why}\nit goes on waiting in the background {process}")
        return Refused(
            f"the node does not serve yet after {_START_S:g} s, but is still starting {process}"
        )

    def check(self) -> None:
        """Do nothing while the node runs.

        Raises:
            Ended: It has ended.
        """
        status = self.process.poll()
        if status is not None:
            raise self.ended(status)

    def ended(self, status: int) -> Ended:
        """Return the error for a child with this exit status, with its last words."""
        words = last_words(self.log) if self.log else ""
        if status < 0:
            words += f"\nhstore: the node was ended by {signal.Signals(-status).name}"
        return Ended(status if status > 0 else 1, words.strip())

    def stop(self) -> None:
        """Stop the node cleanly, and wait for its end.

        Raises:
            Refused: It did not end within `_STOP_S`, and was killed.
        """
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Refused(f"the node did not stop within {_STOP_S:g} s, and was killed") from None

    @contextlib.contextmanager
    def stopped_when_interrupted(self) -> Iterator[None]:
        """Stop the node when the user interrupts this block with Ctrl-C."""
        try:
            yield
        except KeyboardInterrupt:
            self.stop()
            raise


class _LastLine(msgspec.Struct, tag_field="event", tag="the process ends"):
    """The last line of a log in JSON (`node/config/logs.py`)."""

    why: str


_LAST_LINE = msgspec.json.Decoder(_LastLine)


def run_in_background(
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    directory: str = "",
    parent_pipe: int | None = None,
    as_json: bool = False,
) -> int:
    """Start a node in the background; print where it is once it is healthy; return the status.

    Args:
        arguments: Those of `hstore`, the command first.
        env: Its environment.
        directory: Its working directory; empty: this one.
        parent_pipe: As of `spawn`.
        as_json: Print an object.

    Raises:
        Refused: It is not healthy in time; it keeps running.
    """
    child = spawn(arguments, env, directory=directory, parent_pipe=parent_pipe)
    try:
        with child.stopped_when_interrupted():
            record = child.wait_serving()
            finder = finder_of_started(record.zone, env)
            health = wait_healthy(Part.of(record), finder, child.check)
    except Ended as end:
        if end.words:
            tell(end.words, is_error=True)
        return end.status
    print_healthy(health, record, as_json=as_json)
    return 0


def spawn(
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    directory: str = "",
    parent_pipe: int | None = None,
) -> Child:
    """Start a node, and return at once; `Child.wait_serving` has to follow.

    Args:
        arguments: Those of `hstore`, the command first.
        env: Its environment.
        directory: Its working directory; empty: this one.
        parent_pipe: The read end of a pipe: the node ends when its last writer is gone.
    """
    ready, write_end = os.pipe()
    kept = [write_end]
    words = [*PROGRAM, *arguments, "--no-shell", "--background", f"--ready-pipe={write_end}"]
    if parent_pipe is not None:
        kept.append(parent_pipe)
        words.append(f"--parent-pipe={parent_pipe}")
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            words,
            stdin=subprocess.DEVNULL,
            env=dict(env),
            cwd=directory or None,
            pass_fds=kept,
            start_new_session=True,
        )
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(write_end)
    return Child(process, ready)


def print_healthy(health: Healthy, record: RunRecord | None, *, as_json: bool) -> None:
    """Say that a node is healthy, and where it is."""
    info, node = health
    if as_json:
        name, type_, address = (node.name, node.type, node.address) if node else (None, None, None)
        process = record.process.pid if record else None
        whose = {"name": name, "address": address, "result": "runs", "type": type_}
        print_json({**whose, "cluster_id": info.cluster_id, "process": process})
    else:
        click.echo(describe(health, record))


def describe(health: Healthy, record: RunRecord | None) -> str:
    """Return lines for the user: a healthy node's role, addresses and files."""
    info, node = health
    role = f"{node.type} of" if node and info.leader else "waits for other nodes of"
    lines = [f"{node.name if node else 'the node'} runs, {role} cluster {info.cluster_id}"]
    if node:
        lines.append(f"  API      http://{node.address}")
        lines.append(f"  DNS      {node.dns_address}, zone {info.zone}")
    if record:
        lines.append(f"  data     {record.data_dir}")
        lines.append(f"  log      {record.log_file or 'its standard error'}")
        lines.append(f"  process  {record.process.pid}")
    return "\n".join(lines)


def last_words(log: LogStart) -> str:
    """Return the error with which a node ended, or the last lines of its log."""
    try:
        with Path(log.log_file).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # A shorter log is a new file: the node begins one when the old is too large.
            begin = log.bytes_before if size >= log.bytes_before else 0
            file.seek(max(begin, size - _LAST_WORDS_BYTES))
            lines = file.read(_LAST_WORDS_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return ""
    lines = [_said_in_json(line) or line for line in lines]
    errors = [number for number, line in enumerate(lines) if line.startswith("hstore: ")]
    return "\n".join(lines[errors[-1] :] if errors else lines[-_LAST_WORDS_LINES:])


def _said_in_json(line: str) -> str:
    """Return the error with which a node ended that logs as JSON; empty: the line is none."""
    if not line.startswith("{"):
        return ""
    try:
        return f"hstore: {_LAST_LINE.decode(line).why}"
    except msgspec.DecodeError:
        return ""
