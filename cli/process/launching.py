"""Runs a node in this process: opens its log, records the command line that starts it again, restarts.

The command line knows what the user typed and the settings made of it. The node only writes that
into its run record (`hstore.node.process.launch`).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import msgspec

from hstore.node.errors import ConfigError, Refused
from hstore.node.process import log_file, log_sink
from hstore.node.process.launch import Launch

from ..options import Process, command_line

if TYPE_CHECKING:
    from hstore.node.config.settings import NodeSettings

_LASTING = frozenset({errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
"""Errors of a data directory that no mount and no restart mends."""

PROGRAM = (sys.executable, "-P", "-m", "hstore.cli")
"""This program. `-P`: Python does not import modules from the working directory."""


def settle(
    command: str,
    flags: Mapping[str, object],
    settings: NodeSettings,
    env: Mapping[str, str],
    process: Process,
) -> Launch:
    """Open the log of this process, and return what starts its node again.

    Args:
        command: `start` or `join`.
        flags: Settings from the command line by key.
        settings: The node's settings, made from flags, environment and file.
        env: The environment.
        process: The options about the process.

    Raises:
        ConfigError, Refused: The log cannot be written.
    """
    settled: dict[str, object] = {
        "listen": str(settings.listen),
        "data_dir": settings.data_dir,
        "replace": None,  # done once, before this node is a member
    }
    if flags.get("config"):
        settled["config"] = os.path.abspath(str(flags["config"]))  # noqa: PTH100 - links stay
    kept = [] if process.parent_pipe is None else [f"--parent-pipe={process.parent_pipe}"]
    if process.background:
        kept.append("--background")
    launch = Launch(
        arguments=tuple(command_line(command, {**flags, **settled})),
        env=env,
        ready_pipe=process.ready_pipe,
        kept=tuple(kept),
    )
    if process.ready_pipe is not None:
        os.set_inheritable(process.ready_pipe, False)
    if process.background:
        launch = msgspec.structs.replace(launch, log_file=_begin_log(settings))
        launch.tell_log()
    return launch


def begin_anew(launch: Launch) -> NoReturn:
    """Execute the program again in this process, which keeps its id, its terminal and its parent.

    The node has closed its sockets and its database. The new program inherits only the pipe to a
    parent; the kernel closes every other descriptor, even one that the node could not close.

    Raises:
        Refused: The program cannot be executed any more.
    """
    words = [*PROGRAM, *launch.arguments, "--resume", "--no-shell", *launch.kept]
    sink = log_sink.installed()
    if sink:
        sink.drain()
    try:
        os.execve(words[0], words, dict(launch.env))  # noqa: S606 - our own program, no shell
    except OSError as error:
        raise Refused(f"{words[0]} cannot be run again: {error.strerror}") from None


def _begin_log(settings: NodeSettings) -> str:
    try:
        return str(log_file.take_over(settings.data_dir))
    except OSError as error:
        # A disk that is not mounted yet, or full, is no wrong setting: the service starts again.
        kind = ConfigError if error.errno in _LASTING else Refused
        raise kind(f"data_dir: {settings.data_dir} cannot be used: {error.strerror}") from None
