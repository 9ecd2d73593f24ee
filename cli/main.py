"""The command line: `hstore COMMAND`, with a function for each command.

Each is thin: options in, one call, print. What is heavy (httpx, rich, the node) is imported by the
command that needs it, so that `--help` is quick. `-h` is the host everywhere; help is `--help`. What
becomes of an error is in `running.py`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from hstore.node.errors import ConfigError

from . import options as opt
from .dns.resolvers import RESOLVERS
from .running import run_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .client.api import NodeClient
    from .search.find import Finder
    from .search.local import NamedNode


def run(arguments: Sequence[str]) -> int:
    """Run `hstore` with these arguments; return its exit status."""
    return run_command(cli, arguments, "hstore")


@click.group(context_settings={"max_content_width": 100}, no_args_is_help=True)
@click.version_option(package_name="hstore", message="hstore %(version)s")
def cli() -> None:
    """A key-value store that agrees by Raft and answers DNS for its own cluster.

    ADDR is HOST:PORT of a node's API, or a host; NAME is a node's name. Without -h, hstore searches
    for the cluster: on this machine, through DNS, and on the local network.

    Exit status: 0 done, 1 refused or nothing found, 2 wrong usage, 3 no node could be reached.
    """


@cli.command()
@click.option(
    "-h",
    "--host",
    "--listen",
    "listen",
    metavar="ADDR",
    help="Address of this node [127.0.0.1:8500].",
)
@click.option("--expect", metavar="N", help="New cluster: serve no client until N voters joined.")
@click.option(
    "--new-cluster",
    is_flag=True,
    help="New cluster, even if another cluster has a member at this address.",
)
@opt.node
@opt.cluster
def start(**options: Any) -> int:
    """Start the first node of a cluster, or the node of a used data directory again.

    On a terminal it opens the shell, and leaving the shell stops the node. Otherwise, and with
    --no-shell, it runs in the foreground and logs to standard error until it is stopped.
    """
    process, settings = opt.split(options)
    return _run_node("start", process, opt.flags(settings), None)


@cli.command()
@opt.host
@click.option(
    "--listen", metavar="ADDR", help="Address of this node [the first free port from 8500]."
)
@click.option("--learner", is_flag=True, help="Join as a learner, which never votes.")
@opt.replace
@opt.node
@opt.zone
def join(*, host: str | None, **options: Any) -> int:
    """Start a node that joins a cluster through any member of it.

    Without -h, hstore searches for the cluster. With --replace the new node takes the name and the
    place of a member that is gone for good. On a terminal it opens the shell, and leaving the shell
    stops the node; otherwise the node runs in the foreground until it is stopped.
    """
    process, settings = opt.split(options)
    return _run_node("join", process, opt.flags(settings), host)


@cli.command("list")
@opt.host
@opt.zone
@click.option("--watch", is_flag=True, help="Follow changes as they happen.")
@click.option("--json", "as_json", is_flag=True, help="Print the /v1/cluster object.")
def list_nodes(*, host: str | None, zone: str | None, watch: bool, as_json: bool) -> int:
    """Show the nodes of a cluster: name, address, health, type. Status 1 when there is no leader."""
    from .show import listing

    finder = _finder(zone)
    if watch:
        return listing.watch(finder, host, as_json=as_json)
    return listing.show_once(finder.find_at(host), finder.connect, as_json=as_json)


@cli.command()
@opt.host
@opt.zone
@click.option("-k", "--key", metavar="KEY", help="The key; without it, all keys and values.")
@click.option("--raw", is_flag=True, help="Print the bytes of the value, without a newline.")
def read(*, host: str | None, zone: str | None, key: str | None, raw: bool) -> None:
    """Print the value of a key, or all of them as one JSON object."""
    from .client.plain import harmless

    is_shown = sys.stdout.isatty() and not raw
    with _client(host, zone) as client:
        pieces = client.read_all() if key is None else iter([client.read(_text("-k", key))])
        for piece in harmless(pieces) if is_shown else pieces:
            click.echo(piece, nl=False)
        if key is None or not raw:
            click.echo()


@cli.command()
@opt.host
@opt.zone
@click.option("-k", "--key", metavar="KEY", required=True)
@click.option("-v", "--value", metavar="VALUE", required=True)
def write(*, host: str | None, zone: str | None, key: str, value: str) -> None:
    """Create or overwrite a key; print its revision."""
    with _client(host, zone) as client:
        click.echo(f"revision {client.write(_text('-k', key), _text('-v', value))}")


@cli.command()
@opt.host
@opt.zone
@click.option("-k", "--key", metavar="KEY", required=True)
@click.option("-v", "--value", metavar="VALUE", required=True)
def update(*, host: str | None, zone: str | None, key: str, value: str) -> None:
    """Overwrite a key that exists; print its revision."""
    with _client(host, zone) as client:
        click.echo(f"revision {client.update(_text('-k', key), _text('-v', value))}")


@cli.command()
@opt.host
@opt.zone
@click.option("-k", "--key", metavar="KEY", required=True)
def delete(*, host: str | None, zone: str | None, key: str) -> None:
    """Delete a key that exists; print the revision of the deletion."""
    with _client(host, zone) as client:
        click.echo(f"revision {client.delete(_text('-k', key))}")


@cli.command()
@opt.host_required
@opt.zone
def stop(*, host: str, zone: str | None) -> None:
    """Stop a node cleanly; it stays a member."""
    from .process import ending

    click.echo(ending.stop(_local(host, zone)))


@cli.command()
@opt.host_required
@opt.zone
def kill(*, host: str, zone: str | None) -> None:
    """End a node's process at once, as a crash would; on this machine also when it hangs."""
    from .process import ending

    click.echo(ending.kill(_local(host, zone)))


@cli.command()
@opt.host_required
@opt.zone
def restart(*, host: str, zone: str | None) -> int:
    """Restart a running node in place, or start a node again that ran on this machine.

    A node that has ended starts in the background, with the settings it had. The command returns
    when the node is healthy.
    """
    from .process.restart import restart_node

    return restart_node(_local(host, zone), os.environ, cli.commands)


@cli.command()
@opt.host_required
@opt.zone
def leave(*, host: str, zone: str | None) -> None:
    """Remove a node from its cluster for good, and stop it."""
    from .process import ending

    click.echo(ending.leave(_local(host, zone)))


@cli.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Directory of a stopped node.",
)
@click.option("--as-only-voter", is_flag=True, help="Make its node a new cluster of one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what it holds as JSON.")
def recover(*, data_dir: Path, as_only_voter: bool, yes: bool, as_json: bool) -> int:
    """Show what the directory of a stopped node holds, after a majority of the voters was lost.

    With --as-only-voter its node becomes a cluster of one: the same data, a new cluster id. What
    other members had beyond it is lost, and they are refused from then on.
    """
    from .process.recover import recover as recover_directory

    return recover_directory(
        data_dir, os.environ, as_only_voter=as_only_voter, yes=yes, as_json=as_json
    )


@cli.command("cli", context_settings={"allow_interspersed_args": False})
@opt.host
@opt.zone
@click.argument("command", metavar="[COMMAND ...]", nargs=-1, type=click.UNPROCESSED)
def open_shell(*, host: str | None, zone: str | None, command: tuple[str, ...]) -> int:
    """Open a shell on a cluster, or run one command of it: `hstore cli help` lists them.

    Without a terminal it reads commands from standard input, goes on after a command that fails,
    and exits with the status of the last one that failed.
    """
    from .shell.shell import run_shell

    return run_shell(_finder(zone), host, command)


@cli.command()
@opt.host
@opt.zone
@click.argument("key", required=False)
@click.argument("value", required=False)
def config(*, host: str | None, zone: str | None, key: str | None, value: str | None) -> None:
    """Show the settings of a cluster, or one setting, or change it on all nodes.

    KEY is heartbeat, election_timeout, health_interval or dns_ttl; NAME.type (voter or learner) of
    a node; or log_level, which belongs to the node at -h alone.
    """
    from .config import LOG_LEVEL, change_setting, show_settings

    if key == LOG_LEVEL and value is not None and host is None:
        raise ConfigError(f"{key}: each node has its own; name the node with -h ADDR")
    with _client(host, zone) as client:
        if key is None or value is None:
            show_settings(client, key)
        else:
            change_setting(client, key, value)


@cli.command()
@opt.host_required
@opt.zone
@click.argument("name")
def rename(*, host: str, zone: str | None, name: str) -> None:
    """Give a node another NAME, in DNS and everywhere."""
    from .config import rename_node

    with _client(host, zone) as client:
        rename_node(client, name)


@cli.command()
@click.argument("count", metavar="[N]", callback=opt.whole_number(1, 15), default="3")
def demo(*, count: int) -> int:
    """Run N nodes (3) on this machine in a temporary directory, until Ctrl-C."""
    from .process.demo import run_demo

    return run_demo(count, os.environ)


@cli.group(no_args_is_help=True)
def dns() -> None:
    """Make this machine's resolver resolve the cluster's names, and check that it does."""


@dns.command("setup", no_args_is_help=True, epilog=f"SYSTEM is one of {', '.join(RESOLVERS)}.")
@click.argument(
    "system", metavar="SYSTEM", type=click.Choice(list(RESOLVERS), case_sensitive=False)
)
@opt.host
@opt.zone
def dns_setup(*, system: str, host: str | None, zone: str | None) -> None:
    """Print the configuration that makes a resolver ask the cluster for its zone; change nothing.

    Its first lines say how to install and try it. It names the DNS servers of the cluster that is
    found, else those that the first three nodes on a machine have.
    """
    from .dns import setup

    setup.setup(system, host, _finder(zone))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print the script that completes commands, options and node names in a SHELL.

    \b
    bash: eval "$(hstore completion bash)" in ~/.bashrc
    zsh:  eval "$(hstore completion zsh)" in ~/.zshrc, after compinit
    fish: hstore completion fish | source, in ~/.config/fish/config.fish
    """
    from .completion import completion_script

    click.echo(completion_script(shell), nl=False)


@dns.command("doctor")
@opt.host
@opt.zone
def dns_doctor(*, host: str | None, zone: str | None) -> int:
    """Check where the cluster's names resolve and where not, and say what to do.

    It asks each node, the servers of /etc/resolv.conf and getaddrinfo, and changes nothing. Status 1
    when something does not resolve, 3 when no node could be reached.
    """
    from .dns import doctor

    return doctor.examine(host, _finder(zone))


def _run_node(
    command: Literal["start", "join"],
    process: opt.Process,
    settings: dict[str, object],
    host: str | None,
) -> int:
    """Run a node: in the background, beside a shell, or in this process."""
    said = opt.command_line(command, settings | {"host": host})
    if process.daemon:
        from .process.background import run_in_background

        return run_in_background(said, os.environ, parent_pipe=process.parent_pipe)
    if not process.no_shell and sys.stdin is not None and sys.stdin.isatty():
        from .process.attached import run_with_shell

        return run_with_shell(said, os.environ)
    from hstore.node.process import log_sink

    from .process.start import end_with_parent, join_cluster, start_node

    log_sink.install()  # before any line can be written: the process must not wait for its reader
    if process.parent_pipe is not None:
        end_with_parent(process.parent_pipe)
    if command == "start":
        return start_node(settings, os.environ, process=process)
    return join_cluster(settings, os.environ, host, process=process)


def _local(host: str, zone: str | None) -> NamedNode:
    from .search.local import named_node

    return named_node(host, os.environ, _finder(zone))


def _finder(zone: str | None) -> Finder:
    """Return the finder of a command, and warn of variables that it does not know.

    A node refuses to start with one, because a setting would be missing all the time it runs. A
    command goes on: the variable may be for a later version of hstore.
    """
    from hstore.node.config.settings import unknown_variables

    from .search.sources import finder_of

    for name, meant in unknown_variables(os.environ).items():
        perhaps = f"; perhaps {meant} was meant" if meant else ""
        click.echo(f"hstore: {name} is unknown to hstore, and ignored{perhaps}", err=True)
    return finder_of({"cluster.zone": zone}, os.environ)


def _client(host: str | None, zone: str | None) -> NodeClient:
    from .client.api import NodeClient

    return NodeClient(_finder(zone).address_at(host))


def _text(option: str, value: str) -> str:
    """Return an argument as text.

    Raises:
        ConfigError: Its bytes on the command line are not UTF-8.
    """
    try:
        return os.fsencode(value).decode()
    except UnicodeError:
        raise ConfigError(
            f"{option}: {value!r} is not UTF-8; PUT /v1/kv/KEY takes values of any bytes"
        ) from None
