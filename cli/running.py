"""A command from its arguments to its exit status.

Owns the exit statuses and the form of errors: a line or two on standard error that say what to do
next. No traceback reaches a user; HSTORE_DEBUG=1 shows the one of a defect.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from hstore.node.errors import HstoreError

from .messages import tell
from .streams import OutputLost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def run_command(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """Run a command; print what goes wrong in a line or two; return the exit status.

    Args:
        command: The command, or a group of commands.
        arguments: The words after the program's name.
        name: The program's name, for usage errors and help.
    """
    if any(name.endswith("_COMPLETE") for name in os.environ):
        from . import completion

        completion.install(name)
    streams = sys.stdout, sys.stderr
    try:
        return _run(command, arguments, name)
    finally:
        if sys.stderr is not streams[1]:
            # A node has led its output elsewhere (`hstore.node.process.log_sink`).
            sys.stderr.close()
            sys.stdout, sys.stderr = streams


def _run(command: click.Command, arguments: Sequence[str], name: str) -> int:
    try:
        result = command.main(list(arguments), name, standalone_mode=False)
        sys.stdout.flush()  # here, for what is lost only now is an error of this command too
    except click.ClickException as error:
        return _fail_usage(error)
    except HstoreError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except OutputLost as lost:
        # The reader of a pipe ends when it has seen enough (`hstore list | head -1`): all is well.
        return 0 if lost.is_reader_gone else _fail(str(lost), 1)
    except BaseExceptionGroup as group:
        return _fail_group(group)
    except Exception as error:  # noqa: BLE001  # the last handler: a traceback helps no user
        return _fail_unexpectedly(error)
    return result if isinstance(result, int) else 0


def _fail(message: str, status: int) -> int:
    from .client.plain import plain

    shown = plain(message, keep="\n")  # it may quote a node, or what calls itself one
    tell(f"hstore: {shown}", is_error=True)
    return status


def _fail_usage(error: click.ClickException) -> int:
    """Say in a line what click would say in four."""
    message = error.format_message()
    context = error.ctx if isinstance(error, click.UsageError) else None
    if "\n" in message:  # no command was given: the message is all of the help
        error.show()
        return EXIT_USAGE
    if context is None:  # click knows no more of an option without its value
        return _fail(message.rstrip("."), EXIT_USAGE)
    end = "" if message.endswith("?") else ";"
    return _fail(
        f"{message.rstrip('.')}{end} `{context.command_path} --help` shows its usage", EXIT_USAGE
    )


def _fail_unexpectedly(error: BaseException) -> int:
    if os.environ.get("HSTORE_DEBUG"):
        click.echo("".join(traceback.format_exception(error)), err=True)
    if isinstance(error, BaseExceptionGroup):
        error = next(_leaves(error))
    return _fail(
        f"unexpected {type(error).__name__}: {error}\n"
        "this is a defect of hstore; HSTORE_DEBUG=1 shows where",
        1,
    )


def _fail_group(group: BaseExceptionGroup[BaseException]) -> int:
    """Take from a group what a user can act on: an interruption, then an error of ours."""
    if group.subgroup(KeyboardInterrupt):
        return EXIT_INTERRUPTED
    ours = group.subgroup(HstoreError)
    for error in _leaves(ours) if ours else ():
        if isinstance(error, HstoreError):
            return _fail(str(error), error.exit_code)
    return _fail_unexpectedly(group)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
