"""How this process runs a node: where it logs, what would start it again, and starting it again.

The command line knows what was said and what came of it; the node only passes that on, into its run
record (`hstore.node.process.launch`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import msgspec

from hstore.node.errors import ConfigError, Refused
from hstore.node.process import log_file
from hstore.node.process.launch import Launch

from ..options import Process, command_line

if TYPE_CHECKING:
    from hstore.node.config.settings import NodeSettings

PROGRAM = (sys.executable, "-P", "-m", "hstore.cli")
"""This program. `-P`: what lies in the working directory is not imported in place of it."""


def settle(
    command: str,
    flags: Mapping[str, object],
    settings: NodeSettings,
    env: Mapping[str, str],
    process: Process,
) -> Launch:
    """Begin to log where this process shall, and say what would start its node again.

    Args:
        command: `start` or `join`.
        flags: Settings from the command line by key.
        settings: What came of them.
        env: The environment.
        process: How the process is held.

    Raises:
        ConfigError: The log cannot be written.
    """
    settled: dict[str, object] = {
        "listen": str(settings.listen),
        "data_dir": settings.data_dir,
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
    """Run the program again in this process, which so keeps its id, its terminal and its parent.

    The node has closed its sockets and its database. No descriptor of ours is inherited but the
    pipe to a parent, so what it could not close in time is closed by this.

    Raises:
        Refused: The program is not there any more.
    """
    words = [*PROGRAM, *launch.arguments, "--resume", "--no-shell", *launch.kept]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(words[0], words, dict(launch.env))  # noqa: S606 - our own program, no shell
    except OSError as error:
        raise Refused(f"{words[0]} cannot be run again: {error.strerror}") from None


def _begin_log(settings: NodeSettings) -> str:
    try:
        return str(log_file.take_over(settings.data_dir))
    except OSError as error:
        raise ConfigError(
            f"data_dir: {settings.data_dir} cannot be used: {error.strerror}"
        ) from None
