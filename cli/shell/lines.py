"""One line of the shell, run: the same commands as those of the command line, and a few of its own.

Owns which words are the shell's own (`help`, `exit`), which commands of the command line are no use in
it, and what is said of a wrong line. What the commands do is in `commands.py` and `cli/main.py`.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import click

from hstore.node.errors import ConfigError

from ..vocabulary import Commands, KeyCommand, by_names, did_you_mean
from .words import as_arguments, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .commands import Context, Output
    from .words import Word

HELP = ("help", "?")
LEAVE = ("exit", "quit")

ELSEWHERE = {"start", "join", "demo", "cli", "completion", "recover", "lock"}
"""Commands that run a node, a shell or another program, or prepare this machine for it."""

_INSTEAD = {"lock": ", or here `acquire KEY VALUE --session ID`"}
"""What the shell has in place of such a command."""

WRITES_OF_SESSION = {"create", "destroy"}

_AT_THE_SHELLS_NODE = {"config", "transfer"}
"""Commands that ask any node, and not the one at -h, when they are given no -h."""

_MORE = (
    "`help COMMAND` has examples. Arguments may stand in their order or behind -k and -v; --json "
    "prints JSON. A line that begins with # is a comment. Tab completes, Ctrl-C clears the line, "
    "Ctrl-D leaves."
)
_WIDTH_MAX = 100

_VALUES = r"""A value with spaces stands in quotes.
"..." knows \n \t \r \0 \\ \" \xHH \uHHHH, '...' nothing.
@FILE is the bytes of a file; "@..." or @@... is text that begins with @."""


class Leave(Exception):
    """The user wants to leave the shell."""


def offered(group: Commands) -> list[str]:
    """Return every word that may begin a line."""
    return sorted({*group.commands, *HELP, *LEAVE} - ELSEWHERE)


def is_write(group: Commands, line: str) -> bool:
    """Tell whether a line is a command that writes."""
    words = line.split(maxsplit=2)[:2]
    command = group.commands.get(words[0]) if words else None
    if isinstance(command, Commands):
        return len(words) > 1 and words[1] in WRITES_OF_SESSION
    return isinstance(command, KeyCommand) and command.is_write


def run(context: Context, group: Commands, words: list[Word]) -> int:
    """Run the command that `words` are; return its exit status.

    Args:
        context: The shell's connection, and where it prints.
        group: The commands of the command line.
        words: At least one.

    Raises:
        Leave: It is `exit`.
        ConfigError: There is no such command, or it does not take these words.
        HstoreError: The command failed.
    """
    said = as_arguments(words)
    if said[0] == "hstore" and len(said) > 1:
        del said[0]  # a line that was copied from a guide
    name, arguments = said[0], said[1:]
    if name in LEAVE:
        raise Leave
    if name in HELP:
        _help(context, group, arguments)
        return 0
    _known(group, name)
    try:
        with group.make_context("", said, obj=context, default_map=_defaults(context)) as ctx:
            status = group.invoke(ctx)
    except click.exceptions.Exit as end:  # of --help
        return end.exit_code
    except click.ClickException as error:
        raise _wrong(error, name) from None
    return status if isinstance(status, int) else 0


def _known(group: Commands, name: str) -> click.Command:
    """Return the command of that name.

    Raises:
        ConfigError: There is none, or it is none of the shell.
    """
    if name in ELSEWHERE:
        instead = _INSTEAD.get(name, "")
        raise ConfigError(
            f"{name} is no command of the shell: `hstore {name}` in a terminal{instead}"
        )
    command = group.commands.get(name)
    if command is None:
        meant = did_you_mean(name, offered(group)) or "; `help` lists the commands"
        raise ConfigError(f"there is no command {quoted(name)}{meant}")
    return command


def _defaults(context: Context) -> dict[str, Any]:
    """Return what options of other commands are without being said: here is the cluster they mean."""
    connection = context.connection
    here: dict[str, Any] = {"host": connection.address or connection.host}
    zone = {"zone": connection.finder.zone} if connection.finder.is_zone_given else {}
    at_node = dict.fromkeys(_AT_THE_SHELLS_NODE, here | zone)
    return at_node | {"dns": dict.fromkeys(("setup", "doctor"), here | zone)}


def _wrong(error: click.ClickException, name: str) -> ConfigError:
    message = error.format_message()
    if "\n" in message:  # no subcommand was given: the message is all of the help
        click.echo(message)
        message = f"{name} needs another word"
    return ConfigError(f"{message.rstrip('.')}; `help {name}` has examples")


def _help(context: Context, group: Commands, names: list[str]) -> None:
    out = context.out
    within = group.commands.get(names[0]) if names else None
    if len(names) == 2 and isinstance(within, Commands):
        _help_on(out, within, names[1], f"{names[0]} {names[1]}")
        return
    if len(names) > 1:
        raise ConfigError("usage: help [COMMAND]")
    if names:
        _help_on(out, group, names[0])
        return
    shell = [
        ("help, ? [COMMAND]", "List the commands, or explain one."),
        ("exit, quit", "Leave."),
    ]
    ours = [(_usage(all_, one), _about(one)) for all_, one in by_names(group) if _is_ours(one)]
    others = [
        (", ".join(all_), _about(one))
        for all_, one in by_names(group)
        if not (_is_ours(one) or one.hidden or all_[0] in ELSEWHERE)
    ]
    # Lines are broken here, between words: a terminal would break them anywhere.
    formatter = click.HelpFormatter(width=min(_WIDTH_MAX, shutil.get_terminal_size().columns))
    formatter.write_dl([*ours, *others, *shell])
    formatter.write_text(_MORE)
    out.line(formatter.getvalue().rstrip())


def _help_on(out: Output, group: Commands, name: str, typed: str = "") -> None:
    """Print the help on one command of a group.

    Args:
        out: Where it is printed.
        group: The commands, all or those of `session`.
        name: Which of them.
        typed: All words that a user types for it; empty: its name.
    """
    if name in (*HELP, *LEAVE):
        out.line("help [COMMAND]\n  > help set" if name in HELP else f"{name}\n  > {name}")
        return
    command = _known(group, name)
    if not isinstance(command, KeyCommand):
        with command.make_context(typed or name, [], resilient_parsing=True) as ctx:
            out.line(command.get_help(ctx))
        return
    out.line(f"{command.usage(name)}\n  {_about(command)}")
    for example in command.examples:
        out.line(f"  > {name} {example}".rstrip())
    options = [one for one in command.params if isinstance(one, click.Option)]
    out.line(
        f"  options: {', '.join(one.opts[0] for one in options)}; `{name} --help` explains them"
    )
    if "VALUE" in command.takes:
        out.line(_VALUES)


def _is_ours(command: click.Command) -> bool:
    return isinstance(command, KeyCommand)


def _usage(names: Iterable[str], command: click.Command) -> str:
    takes = command.takes if isinstance(command, KeyCommand) else ""
    return f"{', '.join(names)} {takes}".rstrip()


def _about(command: click.Command) -> str:
    return command.get_short_help_str(200)
