"""Other names for the same commands: `hstore-server`, `hstore-cli`, and the table of `mgmt.py`.

Each is an arrangement of what `main.py` has. No command is implemented here. `mgmt.py` declares
-n, -h, -k and -v once more, although the commands have them: click splits an option it does not know
into letters, so `-hserver1` would be read as `-r ver1`. Which command takes which of them, and needs
it, is asked of the commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .main import cli
from .running import run_command
from .vocabulary import Commands, KeyCommand, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVER_COMMANDS = ("start", "join", "list", "kill", "stop", "restart")
CLIENT_COMMANDS = ("read", "write", "update", "delete")

# Their other names, which the messages leave out.
_SERVER_NAMES = (*SERVER_COMMANDS, "nodes")
_CLIENT_NAMES = (*CLIENT_COMMANDS, "get", "set", "del")

_COMMANDS = {"server": SERVER_COMMANDS, "client": CLIENT_COMMANDS}
_NAMES = {"server": _SERVER_NAMES, "client": _CLIENT_NAMES}


def _options(command: click.Command) -> dict[str, bool]:
    needs = command.needs if isinstance(command, KeyCommand) else ()
    options = [one for one in command.params if isinstance(one, click.Option)]
    return {name: one.required or name in needs for one in options for name in one.opts}


_OPTIONS = {name: _options(cli.commands[name]) for name in (*_SERVER_NAMES, *_CLIENT_NAMES)}
"""Of each command: its options, and whether it needs them."""


def run_server(arguments: Sequence[str]) -> int:
    """Run `hstore-server COMMAND`; return the exit status."""
    return run_command(server_group(), arguments, "hstore-server")


def run_shell(arguments: Sequence[str]) -> int:
    """Run `hstore-cli`, which is `hstore cli`; return the exit status."""
    return run_command(cli.commands["cli"], arguments, "hstore-cli")


def run_mgmt(arguments: Sequence[str]) -> int:
    """Run `mgmt.py`, which runs a command of `hstore`; return the exit status."""
    return run_command(mgmt, arguments, "mgmt.py")


def server_group() -> click.Group:
    """Return the commands that are about nodes, as a command line of their own."""
    return Commands(
        "hstore-server",
        {name: cli.commands[name] for name in _SERVER_NAMES},
        help="Starts, lists and ends nodes: the same as `hstore COMMAND`.",
        no_args_is_help=True,
    )


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Other options of a command (--listen, --data-dir, --watch) may follow, as for `hstore`.",
)
@click.option("-r", "--role", metavar="server|client", help="server: nodes. client: keys.")
@click.option("-c", "--command", metavar="COMMAND", help="See above.")
@click.option("-n", "--name", metavar="NAME", help="start, join: name of the node.")
@click.option(
    "-h",
    "--host",
    metavar="ADDR",
    help="start: address of this node; join: a member; others: the node.",
)
@click.option("-k", "--key", metavar="KEY", help="The key; read without it: all of them.")
@click.option("-v", "--value", metavar="VALUE", help="write, update: the value.")
@click.argument("others", nargs=-1, type=click.UNPROCESSED, metavar="")
def mgmt(
    *, role: str | None, command: str | None, others: tuple[str, ...], **options: str | None
) -> int:
    """Manage nodes (-r server) and keys (-r client).

    \b
    -r server -c start|join [-n NAME] [-h ADDR]
    -r server -c list [-h ADDR]
    -r server -c kill|stop|restart -h ADDR
    -r client -c read [-k KEY] [-h ADDR]
    -r client -c write|update -k KEY -v VALUE [-h ADDR]
    -r client -c delete -k KEY [-h ADDR]
    """
    if role not in _COMMANDS:
        raise click.UsageError(f"-r takes {' or '.join(_COMMANDS)}")
    if command not in _NAMES[role]:
        meant = did_you_mean(command or "", _NAMES[role])
        raise click.UsageError(f"-r {role} takes -c {', '.join(_COMMANDS[role])}{meant}")
    takes = _OPTIONS[command]
    given = {f"-{name[0]}": value for name, value in options.items() if value is not None}
    for option in given:
        if option not in takes:
            raise click.UsageError(f"-c {command} takes no {option}")
    needed = [option for option in ("-h", "-k", "-v") if takes.get(option)]
    if command == "stop" and "--all" not in others:
        needed.append("-h")
    missing = [option for option in needed if option not in given]
    if missing:
        raise click.UsageError(f"-c {command} needs {' and '.join(missing)}")
    words = [word for option, value in given.items() for word in (option, value)]
    return run_command(cli, [command, *words, *others], "hstore")
