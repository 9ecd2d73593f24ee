"""The command line: `hstore COMMAND`, with a function for each command.

Each is thin: options in, one call, print. What is heavy (httpx, rich, the node) is imported by the
command that needs it, so that `--help` is quick. `-h` is the host everywhere; help is `--help`. What
becomes of an error is in `running.py`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from hstore.node.errors import ConfigError

from . import keys, locking
from . import options as opt
from .dns.resolvers import RESOLVERS
from .messages import tell
from .running import run_command
from .services import commands as service_commands
from .vocabulary import Commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .client.api import NodeClient
    from .search.find import Finder
    from .search.here import Way
    from .search.local import NamedNode


def run(arguments: Sequence[str]) -> int:
    """Run `hstore` with these arguments; return its exit status."""
    return run_command(cli, arguments, "hstore")


@click.group(cls=Commands, context_settings={"max_content_width": 100}, no_args_is_help=True)
@click.version_option(package_name="hstore", message="hstore %(version)s")
def cli() -> None:
    """A key-value store that agrees by Raft and answers DNS for its own cluster.

    ADDR is HOST:PORT of a node's API, or a host; NAME is a node's name. Without -h, hstore searches
    for the cluster: on this machine, through DNS, and on the local network.

    Exit status: 0 done, 1 refused or nothing found, 2 wrong usage, 3 no node could be reached;
    `hstore lock` has that of its command, and 125 when the lock may have been lost.
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

    With --expect and discovery.hosts all machines start with the same file: each node finds itself
    in that list, the first of it begins the cluster, the others join.
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


for _name, _command in {**keys.NAMES, **locking.NAMES, **service_commands.NAMES}.items():
    cli.add_command(_command, _name)


@cli.command()
@opt.host
@opt.zone
@opt.as_json
def top(*, host: str | None, zone: str | None, as_json: bool) -> None:
    """Show what the nodes do: requests, latencies, memory, of each and together, live.

    On a terminal a picture of the last minutes, drawn each second: q ends it, other keys sort the
    nodes. Elsewhere, and with --json, one reading. Needs no leader.
    """
    from .top.command import top as show_top

    show_top(_finder(zone), opt.of_the_shell(host), as_json=as_json)


@cli.command()
@opt.host_unless_all
@opt.zone
@click.option("--all", "whole", is_flag=True, help="Stop all nodes of the cluster.")
@opt.as_json
def stop(*, host: str | None, zone: str | None, whole: bool, as_json: bool) -> None:
    """Stop a node cleanly; it stays a member.

    With --all every node of a cluster is stopped, followers first, from the machine of any of them;
    -h is not needed then. All keep their votes: any majority that is started again has everything.
    """
    if whole:
        from .process.end_all import stop_all

        stop_all(opt.of_the_shell(host), os.environ, _finder(zone), as_json=as_json)
        return
    if host is None:
        raise click.UsageError("name the node with -h ADDR, or give --all for the whole cluster")
    from .process import ending

    _end(ending.stop, "stopped", _local(host, zone), as_json=as_json)


@cli.command()
@opt.host_required
@opt.zone
@opt.as_json
def kill(*, host: str, zone: str | None, as_json: bool) -> None:
    """End a node's process at once, as a crash would; on this machine also when it hangs."""
    from .process import ending

    _end(ending.kill, "killed", _local(host, zone), as_json=as_json)


@cli.command()
@opt.host_required
@opt.zone
@opt.as_json
def restart(*, host: str, zone: str | None, as_json: bool) -> int:
    """Restart a running node in place, or start a node again that ran on this machine.

    A node that has ended starts in the background, with the settings it had. The command returns
    when the node is healthy.
    """
    from .process.restart import restart_node

    return restart_node(_local(host, zone), os.environ, cli.commands, as_json=as_json)


@cli.command()
@opt.host_required
@opt.zone
@opt.as_json
def leave(*, host: str, zone: str | None, as_json: bool) -> None:
    """Remove a node from its cluster for good, and stop it."""
    from .process import ending

    _end(ending.leave, "removed", _local(host, zone), as_json=as_json)


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

    Without a terminal it reads commands from standard input up to the first that fails, and exits
    with its status.
    """
    from .shell.shell import run_shell

    return run_shell(opt.finder(zone), host, cli, command)


@cli.command()
@opt.host
@opt.zone
@click.argument("key", required=False, shell_complete=opt.complete_settings)
@click.argument("value", required=False, shell_complete=opt.complete_setting_values)
@opt.as_json
def config(
    *, host: str | None, zone: str | None, key: str | None, value: str | None, as_json: bool
) -> None:
    """Show the settings of a cluster, or one setting, or change it on all nodes.

    KEY is heartbeat, election_timeout, health_interval, dns_ttl, datacenter, session_ttl_min,
    session_node_grace, alt_domains, check_update_interval, dns.service_ttl, dns.only_passing,
    dns.empty or dns.max_stale; NAME.type (voter or learner) of a node; or log_level, which belongs
    to the node at -h alone.
    """
    from .config import LOG_LEVEL, change_setting, show_settings

    if key is None or value is None:
        with _client(host, zone) as client:
            show_settings(client, key, as_json=as_json)
    elif key == LOG_LEVEL:
        if host is None:
            raise ConfigError(f"{key}: each node has its own; name the node with -h ADDR")
        with _process_order(host, zone, "config", key, value) as client:
            change_setting(client, key, value, as_json=as_json)
    else:
        with _order(host, zone, "config", key, value) as (client, _):
            change_setting(client, key, value, as_json=as_json)


@cli.command()
@opt.host
@opt.zone
@click.option(
    "--level",
    metavar="LEVEL",
    default="info",
    callback=opt.log_level,
    shell_complete=opt.complete_levels,
    help="From this level on: debug, info, warning or error [info].",
)
@opt.as_json
def monitor(*, host: str | None, zone: str | None, level: str, as_json: bool) -> None:
    """Follow the log of a node on this machine, until Ctrl-C.

    It shows lines from LEVEL on, also those that the node does not write to its own log, and goes on
    when the node is started again.
    """
    from .client.api import NodeClient
    from .monitor import show
    from .search.here import explained

    address = _finder(zone).address_at(opt.of_the_shell(host))
    command = f"hstore monitor -h {address}"
    with explained(address, command):
        show(address, NodeClient, level, as_json=as_json)


@cli.command()
@opt.host_required
@opt.zone
@click.argument("name")
@opt.as_json
def rename(*, host: str, zone: str | None, name: str, as_json: bool) -> None:
    """Give a node another NAME, in DNS and everywhere."""
    from .config import rename_node

    with _order(host, zone, "rename", "-h", host, name) as (client, way):
        rename_node(client, name, way.node, as_json=as_json)


@cli.command()
@click.argument("name", required=False, shell_complete=opt.complete_nodes)
@opt.host
@opt.zone
@opt.as_json
def transfer(*, name: str | None, host: str | None, zone: str | None, as_json: bool) -> None:
    """Have the node NAME lead; without NAME, any voter that can.

    NAME is a node's name or address. Where it leads already, nothing is done.
    """
    from .config import transfer_lead

    with _order(host, zone, "transfer", *([name] if name else [])) as (client, _):
        transfer_lead(client, name or "", as_json=as_json)


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
    """Print what makes a resolver forward the zone, or a proxy find the nodes; change nothing.

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
@opt.as_json
def dns_doctor(*, host: str | None, zone: str | None, as_json: bool) -> int:
    """Check where the cluster's names resolve and where not, and say what to do.

    It asks each node, the servers of /etc/resolv.conf and getaddrinfo, and changes nothing. Status 1
    when something does not resolve, 3 when no node could be reached.
    """
    from .dns import doctor

    return doctor.examine(host, _finder(zone), as_json=as_json)


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

        return run_with_shell(said, os.environ, cli)
    from hstore.node.process import log_sink

    from .process.start import end_with_parent, join_cluster, start_node

    log_sink.install()  # before any line can be written: the process must not wait for its reader
    if process.parent_pipe is not None:
        end_with_parent(process.parent_pipe)
    if command == "start":
        return start_node(settings, os.environ, process=process)
    return join_cluster(settings, os.environ, host, process=process)


def _end(end: Callable[[NamedNode], str], result: str, node: NamedNode, *, as_json: bool) -> None:
    """End a node, and say so."""
    from .client.plain import print_json

    name = node.name  # it is known while the node runs
    said = end(node)
    if as_json:
        print_json({"name": name or None, "address": node.address, "result": result})
    else:
        tell(said)


def _local(host: str, zone: str | None) -> NamedNode:
    from .search.local import named_node

    return named_node(opt.of_the_shell(host) or host, os.environ, _finder(zone))


def _finder(zone: str | None) -> Finder:
    return opt.finder(zone)


def _client(host: str | None, zone: str | None) -> NodeClient:
    from .client.api import NodeClient

    return NodeClient(_finder(zone).address_at(host))


@contextlib.contextmanager
def _order(host: str | None, zone: str | None, *words: str) -> Iterator[tuple[NodeClient, Way]]:
    """Connect to the node that takes an order for its cluster from this machine.

    Args:
        host: The node that the user named, if one was.
        zone: As said.
        words: The command, to be repeated on another machine where none here takes it.
    """
    from .client.api import NodeClient
    from .search.here import explained, way_to

    way = way_to(opt.of_the_shell(host), os.environ, _finder(zone))
    with explained(way.address, f"hstore {shlex.join(words)}"), NodeClient(way.address) as client:
        yield client, way


@contextlib.contextmanager
def _process_order(host: str, zone: str | None, *words: str) -> Iterator[NodeClient]:
    """Connect to a node that takes this order for itself, from its own machine only."""
    from .client.api import NodeClient
    from .search.here import explained

    node = _local(host, zone)
    command = f"hstore {words[0]} -h {node.address} {shlex.join(words[1:])}"
    with explained(node.address, command), NodeClient(node.address) as client:
        yield client
