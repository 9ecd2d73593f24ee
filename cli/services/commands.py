"""The commands about services and checks, and their options.

All are in the shell, too, with the same spellings. What they do is in `registering.py` and `reading.py`,
each imported when it runs, so that `--help` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .. import options as opt
from ..connected import connected, filled, filled_if_any, texts
from ..vocabulary import KeyCommand, as_key_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..options import Complete
    from ..shell.commands import Context


def _words(complete: Complete) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the arguments of a command, in their order."""
    return click.argument(
        "words", nargs=-1, metavar="", type=click.UNPROCESSED, shell_complete=complete
    )


_node = click.option(
    "--node",
    metavar="NAME",
    shell_complete=opt.complete_nodes,
    help="The node that it is on: a member, or a machine without one [the member that is asked].",
)
_passing = click.option("--passing", "is_passing", is_flag=True, help="Only where all checks pass.")
_watch = click.option("--watch", "is_watch", is_flag=True, help="Follow changes as they happen.")


@as_key_command(
    "services", "[NAME]", examples=("", "web", "web --passing --json", "--watch"),
)  # fmt: skip
@texts
@connected
@_passing
@click.option("--tag", metavar="TAG", help="Only those with this tag.")
@click.option(
    "--node", metavar="NAME", shell_complete=opt.complete_nodes, help="Only those on this node."
)
@_watch
@opt.as_json
@_words(opt.complete_services)
def services(
    context: Context,
    *,
    is_passing: bool,
    tag: str | None,
    node: str | None,
    is_watch: bool,
    as_json: bool,
    words: tuple[str, ...],
) -> int:
    """Show the services, or the instances of one. Status 1 when that has none."""
    from . import reading

    (name,) = filled_if_any(words, None)
    asked = reading.Wanted(name, is_passing=is_passing, tag=tag, node=node)
    return reading.services(context, asked, is_watch=is_watch, as_json=as_json)


@as_key_command(
    "checks", "[ID | NAME]", examples=("", "web", "service:web", "--state critical --watch"),
)  # fmt: skip
@texts
@connected
@click.option(
    "--state",
    type=click.Choice(["passing", "warning", "critical"]),
    help="Only those with this status.",
)
@_watch
@opt.as_json
@_words(opt.complete_services)
def checks(
    context: Context,
    *,
    state: str | None,
    is_watch: bool,
    as_json: bool,
    words: tuple[str, ...],
) -> int:
    """Show the checks: all, one, or those of a service. Status 1 when there is none."""
    from . import reading

    (name,) = filled_if_any(words, None)
    return reading.checks(context, name, state, is_watch=is_watch, as_json=as_json)


@as_key_command(
    "register", "NAME | FILE", is_write=True,
    examples=(
        "web --port 8080 --http http://127.0.0.1:8080/health",
        "db --id db-1 --port 5432 --tag primary --ttl 30s --meta version=16",
        "printer --node hall --node-address 192.0.2.7 --port 9100 --tcp 192.0.2.7:9100",
        "./web.json",
    ),
)  # fmt: skip
@texts
@connected
@click.option("--id", "service_id", metavar="ID", help="Its ID, unlike all others there [NAME].")
@click.option("--port", metavar="PORT", help="Its port.")
@click.option("--address", metavar="ADDR", help="Its address, IP or host name [its node's].")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag; several times: several.")
@click.option("--meta", metavar="KEY=VALUE", multiple=True, help="A pair; several times: several.")
@click.option("--ttl", metavar="TIME", help="It is critical when it says nothing for so long.")
@click.option("--http", metavar="URL", help="It is asked: 2xx is passing, 429 warning.")
@click.option("--tcp", metavar="HOST:PORT", help="It has to take a connection.")
@click.option("--interval", metavar="TIME", help="From one check to the next [10s].")
@click.option("--timeout", metavar="TIME", help="How long a check may take [10s].")
@click.option(
    "--deregister-after", metavar="TIME", help="It goes when it is critical for so long [never]."
)
@_node
@click.option(
    "--node-address", metavar="IP", help="Address of a machine without a member [this machine's]."
)
@opt.as_json
@_words(opt.complete_files)
def register(context: Context, *, as_json: bool, words: tuple[str, ...], **said: object) -> None:
    """Register a service, or those of a file.

    A file is one of Consul's service files in JSON. A service belongs to the member that takes it, which runs its checks: without -h, the one on this machine.
    With --node it belongs to a machine without a member, and the members run its checks. Registered
    again, the same ID is replaced. A word with a `/`, or that ends in .json, names a file if it is one.
    """
    from . import registering

    (name,) = filled(words, None)
    registering.register(context, name, registering.Said(**said), as_json=as_json)  # type: ignore[arg-type]


@as_key_command("deregister", "ID", is_write=True, examples=("web", "db-1 --node hall"))
@texts
@connected
@_node
@opt.as_json
@_words(opt.complete_service_ids)
def deregister(
    context: Context, *, node: str | None, as_json: bool, words: tuple[str, ...]
) -> None:
    """Remove a service with its checks, by its ID. Status 1 when it is not there."""
    from . import registering

    (service_id,) = filled(words, None)
    registering.deregister(context, service_id, node, as_json=as_json)


@as_key_command(
    "maint", "on|off [ID]", is_write=True,
    examples=("on --reason 'new disk'", "off", "on web", "off web --node hall"),
)  # fmt: skip
@texts
@connected
@click.option("--reason", metavar="TEXT", help="Why, for others to see.")
@_node
@opt.as_json
@_words(opt.complete_maintenance)
def maint(
    context: Context,
    *,
    reason: str | None,
    node: str | None,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Turn the maintenance of a service on or off.

    While it is on, the service is not healthy, so nobody finds it. Without ID it is all of a node.
    """
    from . import registering

    said, service_id = filled_if_any(words, None, None)
    if said not in ("on", "off"):
        wrong = "on or off is missing" if said is None else f"{said!r} is neither on nor off"
        raise click.UsageError(f"{wrong}: usage: maint on|off [ID]", click.get_current_context())
    registering.maintain(
        context, service_id, node, is_on=said == "on", reason=reason, as_json=as_json
    )


NAMES: dict[str, KeyCommand] = {
    "services": services, "checks": checks, "register": register, "deregister": deregister,
    "maint": maint,
}  # fmt: skip
"""Every command here by each of its names."""
