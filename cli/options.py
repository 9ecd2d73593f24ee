"""The options that commands share, and what they stand for.

`-h` is the host everywhere, so help is `--help` only. Names of settings are those of the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from .messages import tell

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from .search.find import Finder

F = TypeVar("F", bound=Callable[..., Any])

Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]
"""What click calls for Tab: the options so far, the parameter, and what was typed of its value."""

_KEYS = {
    "data_dir": "data_dir",
    "http_hosts": "http.hosts",
    "discovery_hosts": "discovery.hosts",
    "discovery_dns": "discovery.dns",
    "discovery_mdns": "discovery.mdns",
    "zone": "cluster.zone",
    "heartbeat": "cluster.heartbeat",
    "election_timeout": "cluster.election_timeout",
    "health_interval": "cluster.health_interval",
    "dns_ttl": "cluster.dns_ttl",
    "datacenter": "cluster.datacenter",
    "session_ttl_min": "cluster.session_ttl_min",
    "session_node_grace": "cluster.session_node_grace",
    "alt_domains": "cluster.alt_domains",
    "check_update_interval": "cluster.check_update_interval",
}


_SWITCHES = {"discovery.mdns"}
"""Settings that are on unless they are turned off, by `--no-` before their name."""


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _completer(name: str) -> Complete:
    """Return a function of `completion.py`, which is imported only when Tab is pressed."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from . import completion

        found: list[CompletionItem] = getattr(completion, name)(context, parameter, incomplete)
        return found

    return complete


complete_nodes = _completer("nodes")
complete_keys = _completer("keys")
complete_sessions = _completer("sessions")
complete_files = _completer("files")
complete_services = _completer("services")
complete_service_ids = _completer("service_ids")
complete_maintenance = _completer("maintenance")
complete_settings = _completer("settings")
complete_setting_values = _completer("setting_values")
complete_levels = _completer("levels")


def _named_by_variable(
    context: click.Context, _parameter: click.Parameter, said: str | None
) -> str | None:
    """Return what -h names, or the node's name in HSTORE_HOST.

    A name there means this node of the cluster that is found, as with -h. An address there is only
    the first place of the search (`node/discovery/sources.py`): if no node answers, the search goes on
    elsewhere (contract, section 6).
    """
    if said or context.obj is not None or not os.environ.get("HSTORE_HOST"):
        return said or None  # within a shell, its node is meant
    from hstore.node.config.sources import host_variable

    named = host_variable(os.environ)
    return named if isinstance(named, str) else None


def of_the_shell(host: str | None) -> str | None:
    """Return the address that `ADDR|NAME` stands for in a shell; outside of one, `host` itself.

    A name is that of a member of the shell's cluster, and no host is the shell's node: another
    cluster that a search would find is not meant there.
    """
    from .search.find import member

    shell = click.get_current_context().obj
    if shell is None or (host and ":" in host):
        return host
    found = shell.connection.begin()
    if host is None:
        return str(found.address)
    node = member(found.info, host)
    return node.address if node else host


def whole_number(low: int, high: int) -> Callable[[click.Context, click.Parameter, str], int]:
    """Return the callback of a parameter that is a number from `low` to `high`.

    The messages of click's own types do not say what is allowed.
    """

    def parse(context: click.Context, parameter: click.Parameter, said: str) -> int:
        from hstore.node.model import values

        try:
            return values.integer(low, high)(said)
        except ValueError as error:
            message = f"{said!r} is not allowed; allowed: {error}"
            raise click.BadParameter(message, context, parameter) from None

    return parse


def log_level(context: click.Context, parameter: click.Parameter, said: str) -> str:
    """Return a level of the log, which is what a parameter says."""
    from hstore.node.config.log_forms import LEVELS
    from hstore.node.model import values

    try:
        return str(values.choice(*LEVELS)(said))
    except ValueError as error:
        message = f"{said!r} is not allowed; allowed: {error}"
        raise click.BadParameter(message, context, parameter) from None


def finder(zone: str | None) -> Finder:
    """Return the finder of a command, and warn of variables that it does not know.

    A node refuses to start with one, because a setting would be missing all the time it runs. A
    command goes on: the variable may be for a later version of hstore.
    """
    from hstore.node.config.settings import unknown_variables

    from .search.sources import finder_of

    for name, meant in unknown_variables(os.environ).items():
        perhaps = f"; perhaps {meant} was meant" if meant else ""
        tell(f"hstore: {name} is unknown to hstore, and ignored{perhaps}", is_error=True)
    return finder_of({"cluster.zone": zone}, os.environ)


def complete_first_key(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a key that stands where the first argument does, unless an option has given it."""
    is_given = any(context.params.get(name) for name in ("key", "prefix", "words"))
    return [] if is_given else complete_keys(context, parameter, incomplete)


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

zone = click.option("--zone", metavar="ZONE", help="DNS domain of the cluster [hstore.local].")

host = click.option(
    "-h",
    "--host",
    metavar="ADDR|NAME",
    callback=_named_by_variable,
    shell_complete=complete_nodes,
    help="The node: HOST:PORT, HOST or name [HSTORE_HOST, else a search].",
)


def _named_host(*, required: bool) -> Callable[[F], F]:
    """Return -h of a command that takes no node from a variable: it ends one, or renames it."""
    return click.option(
        "-h",
        "--host",
        metavar="ADDR|NAME",
        required=required,
        shell_complete=complete_nodes,
        help="The node: HOST:PORT, HOST or name.",
    )


host_required = _named_host(required=True)
host_unless_all = _named_host(required=False)

replace = click.option(
    "--replace",
    metavar="NAME",
    shell_complete=complete_nodes,
    help="Take the place and the name of this member, which is gone for good.",
)

node = _all(
    click.option("-n", "--name", metavar="NAME", help="Name of the node [chosen by the leader]."),
    click.option("--data-dir", type=click.Path(path_type=Path), help="Directory of its data."),
    click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings."),
    click.option("--advertise", metavar="ADDR", help="Address at which others reach it."),
    click.option("--peer-port", metavar="PORT", help="Port for other nodes [API port - 200]."),
    click.option("--dns-port", metavar="PORT", help="Port of its DNS server [API port + 100]."),
    click.option("--cache-mb", metavar="MIB", help="Memory for hot keys and values [64]."),
    click.option(
        "--log-level",
        metavar="LEVEL",
        shell_complete=_completer("levels"),
        help="debug, info, warning or error [info].",
    ),
    click.option(
        "--log-format",
        metavar="FORM",
        shell_complete=_completer("log_formats"),
        help="json, text or journal [text].",
    ),
    click.option("--http-hosts", metavar="NAMES", help="More `Host` names that its API accepts."),
    click.option(
        "--recursors", metavar="IPS", help="DNS servers to ask for names outside the zone."
    ),
    click.option("--discovery-hosts", metavar="ADDRS", help="Addresses of nodes to search at."),
    click.option("--discovery-dns", metavar="ADDRS", help="DNS servers to search in."),
    click.option(
        "--discovery-mdns/--no-discovery-mdns", default=None, help="Search by multicast DNS [yes]."
    ),
    click.option("--daemon", is_flag=True, help="Run in the background; return when healthy."),
    click.option("--no-shell", is_flag=True, help="Stay in the foreground and log to stderr."),
    # hstore itself gives these to the nodes that it starts: see `Process`.
    click.option("--parent-pipe", type=int, hidden=True),
    click.option("--ready-pipe", type=int, hidden=True),
    click.option("--background", is_flag=True, hidden=True),
    click.option("--resume", is_flag=True, hidden=True),
)

cluster = _all(
    zone,
    click.option("--heartbeat", metavar="TIME", help="Leader's heartbeat, at creation [200ms]."),
    click.option("--election-timeout", metavar="TIME", help="At creation of the cluster [1s]."),
    click.option("--health-interval", metavar="TIME", help="At creation of the cluster [500ms]."),
    click.option("--dns-ttl", metavar="TIME", help="At creation of the cluster [1s]."),
    click.option("--datacenter", metavar="NAME", help="Its name for Consul's clients [dc1]."),
    click.option(
        "--session-ttl-min", metavar="TIME", help="Shortest TTL of sessions, at creation [10s]."
    ),
    click.option(
        "--session-node-grace",
        metavar="TIME",
        help="How long sessions outlive their node, at creation [10s].",
    ),
    click.option("--alt-domains", metavar="NAMES", help="Other DNS domains of services [consul]."),
    click.option(
        "--check-update-interval",
        metavar="TIME",
        help="How often outputs of checks are written, at creation [5m].",
    ),
)


class Process(NamedTuple):
    """The options about a node's process; each has the name of its option.

    Attributes:
        daemon: Start another process in the background, and return when its node is healthy.
        no_shell: Run the node in this process, also on a terminal.
        parent_pipe: The read end of a pipe: when its last writer is gone, the node stops.
        ready_pipe: The write end of a pipe: the node writes its run record there once it serves.
        background: The process has no terminal, so it logs to the file in its data directory.
        resume: Run the node of this data directory without a search; never make a new node.
    """

    daemon: bool = False
    no_shell: bool = False
    parent_pipe: int | None = None
    ready_pipe: int | None = None
    background: bool = False
    resume: bool = False


def split(options: dict[str, Any]) -> tuple[Process, dict[str, Any]]:
    """Split a command's options into those about the process, and the rest."""
    names = Process._fields
    process = Process(**{name: value for name, value in options.items() if name in names})
    return process, {name: value for name, value in options.items() if name not in names}


def command_line(command: str, settings: Mapping[str, object]) -> list[str]:
    """Return the arguments that mean `command` with these settings, given by `flags`' keys."""
    names = {key: name for name, key in _KEYS.items()}
    words = [command]
    for key, value in settings.items():
        option = "--" + names.get(key, key).replace("_", "-")
        if value is True:
            words.append(option)
        elif value is False and key in _SWITCHES:
            words.append(option.replace("--", "--no-", 1))
        elif value not in (None, False):
            every = value if isinstance(value, (list, tuple)) else [value]
            words += [f"{option}={one}" for one in every]
    return words


def flags(options: dict[str, Any]) -> dict[str, object]:
    """Return the settings among a command's options by their keys in the file."""
    return {_KEYS.get(name, name): value for name, value in options.items()}
