"""register, deregister, maint: what they send, and to which member.

What is registered belongs to the member that takes it. So without -h and --node it goes to a member on
this machine, and nowhere else.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hstore.node.errors import ConfigError, HstoreError, Refused
from hstore.node.model import durations, values

from ..client import catalog
from ..client.errors import NotFound, Unreachable
from ..client.plain import plain
from ..search.here import address_here, is_this_machine
from ..shell.connection import Connection
from . import files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..client.api import NodeClient
    from ..shell.commands import Context

INTERVAL = "10s"
"""From one run of a check to the next, where no other is given."""

_PAIR = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_NOT_HERE = (
    "no member of this cluster runs on this machine, and a service belongs to the member that takes "
    "it: name that member with -h, or this machine with --node NAME"
)


class Said(NamedTuple):
    """What the options of `register` say; each has the name of its option."""

    service_id: str | None = None
    port: str | None = None
    address: str | None = None
    tags: tuple[str, ...] = ()
    meta: tuple[str, ...] = ()
    ttl: str | None = None
    http: str | None = None
    tcp: str | None = None
    interval: str | None = None
    timeout: str | None = None
    deregister_after: str | None = None
    node: str | None = None
    node_address: str | None = None

    def is_place_only(self) -> bool:
        """Whether nothing is said but on which node."""
        return self._replace(node=None, node_address=None) == Said()


class Done(NamedTuple):
    """What was done, as `--json` prints it.

    Attributes:
        name, id: Of the service; None: it is about all of a node, or only the ID was said.
        node: On which.
        result: What became of it.
    """

    name: object
    id: object
    node: str
    result: str


def register(context: Context, name: str, said: Said, *, as_json: bool) -> None:
    """Register the service that the options describe, or those of a file."""
    if said.node_address and not said.node:
        raise ConfigError("--node-address is the address of the machine that --node names")
    if files.is_file_name(name):
        if not said.is_place_only():
            raise ConfigError(f"{name} is a file, which says all but --node and --node-address")
        bodies = files.read(Path(name))
    else:
        bodies = [body_of(name, said)]
    with _member(context, said.node) as connection:
        for number, body in enumerate(bodies):
            try:
                connection.write(
                    lambda client, body=body: catalog.register(  # type: ignore[misc]
                        client, body, said.node, said.node_address
                    )
                )
            except HstoreError as error:
                if not files.is_file_name(name):
                    raise
                # What the node finds wrong with a service is no wrong usage of this command.
                kind = Refused if isinstance(error, ConfigError) else type(error)
                raise kind(_of_file(name, body, number, error)) from None
            where = said.node or _name_of(connection)
            done = Done(body.get("Name"), body.get("ID"), where, "registered")
            _tell(context, done, f"registered {_label(body)} on {where}", as_json=as_json)


def _of_file(name: str, body: dict[str, object], number: int, error: HstoreError) -> str:
    done = f"; {number} before it {'is' if number == 1 else 'are'} registered" if number else ""
    return f"{name}: service {_label(body)}: {error}{done}"


def deregister(context: Context, service_id: str, node: str | None, *, as_json: bool) -> None:
    """Remove a service."""
    if not service_id:
        raise ConfigError("the ID is empty: `services` shows them")
    with _member(context, node) as connection, _looked_for_on(node, connection):
        connection.write(lambda client: catalog.deregister(client, service_id, node))
        where = node or _name_of(connection)
    done = Done(None, service_id, where, "deregistered")
    _tell(context, done, f"deregistered {service_id} on {where}", as_json=as_json)


def maintain(
    context: Context,
    service_id: str | None,
    node: str | None,
    *,
    is_on: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    """Turn the maintenance of a service, or of a node, on or off."""
    if not is_on and reason:
        raise ConfigError("--reason says why maintenance is on")
    result = "in maintenance" if is_on else "back from maintenance"
    with _member(context, node) as connection, _looked_for_on(node, connection):
        connection.write(
            lambda client: catalog.maintain(client, service_id, node, is_on=is_on, reason=reason)
        )
        where = node or _name_of(connection)
    what = f"all of {where}" if service_id is None else f"{service_id} on {where}"
    _tell(context, Done(None, service_id, where, result), f"{what} is {result}", as_json=as_json)


# --- what is sent --------------------------------------------------------------------------------------


def body_of(name: str, said: Said) -> dict[str, object]:
    """Return the body that options stand for.

    Raises:
        ConfigError: They contradict each other, or one of them is wrong.
    """
    if not name:
        raise ConfigError("the name of the service is empty")
    body: dict[str, object] = {"Name": name, "ID": said.service_id or name}
    if said.port is not None:
        body["Port"] = _port(said.port)
    if said.address is not None:
        body["Address"] = said.address
    if said.tags:
        body["Tags"] = list(said.tags)
    if said.meta:
        body["Meta"] = dict(map(_pair, said.meta))
    check = _check_of(said)
    if check:
        body["Check"] = check
    return body


def _check_of(said: Said) -> dict[str, object]:
    kinds = {"TTL": said.ttl, "HTTP": said.http, "TCP": said.tcp}
    check: dict[str, object] = {kind: value for kind, value in kinds.items() if value is not None}
    options = " and ".join(f"--{kind.lower()}" for kind in check)
    if len(check) > 1:
        raise ConfigError(
            f"{options}: a service that is registered so has one check; a file has more"
        )
    for option, value in (
        ("--ttl", said.ttl),
        ("--interval", said.interval),
        ("--timeout", said.timeout),
        ("--deregister-after", said.deregister_after),
    ):
        _check_duration(option, value)
    more = {"--interval": said.interval, "--timeout": said.timeout}
    given = [option for option, value in more.items() if value is not None]
    if not check:
        given += ["--deregister-after"] if said.deregister_after is not None else []
        if given:
            raise ConfigError(f"{given[0]} is of a check: give --http, --tcp or --ttl too")
        return {}
    if said.ttl is not None:
        if given:
            raise ConfigError(f"{given[0]} is of a check that is run, and nothing runs for --ttl")
    else:
        check["Interval"] = said.interval or INTERVAL
        if said.timeout is not None:
            check["Timeout"] = said.timeout
    if said.deregister_after is not None:
        check["DeregisterCriticalServiceAfter"] = said.deregister_after
    return check


def _check_duration(option: str, value: str | None) -> None:
    if value is not None and (durations.parse(value) or 0) <= 0:
        raise ConfigError(f"{option} {value}: expected a duration such as 500ms, 10s or 1m30s")


def _port(said: str) -> int:
    try:
        return values.integer(0, 65_535)(said)
    except ValueError as error:
        raise ConfigError(f"--port {said}: expected {error}") from None


def _pair(said: str) -> tuple[str, str]:
    found = _PAIR.fullmatch(said)
    if found is None:
        raise ConfigError(f"--meta {said}: expected KEY=VALUE")
    return found[1], found[2]


# --- where it goes, and what is told ---------------------------------------------------------------------


@contextmanager
def _member(context: Context, node: str | None) -> Iterator[Connection]:
    """Yield the connection to the member that takes a registration.

    Raises:
        Unreachable: None was named, and none runs on this machine.
    """
    connection = context.connection
    if node is not None or connection.host is not None or context.is_shell:
        yield connection
        return
    found = connection.begin()
    is_here = is_this_machine(found.address)
    address = found.address if is_here else address_here(found.info, os.environ)
    if not address:
        raise Unreachable(_NOT_HERE)
    with Connection(connection.finder, address, context.out.note, is_brief=True) as own:
        yield own


@contextmanager
def _looked_for_on(node: str | None, connection: Connection) -> Iterator[None]:
    """Say of an ID that is not there on which node it was looked for: it may be on another one."""
    try:
        yield
    except NotFound as error:
        where = node or _name_of(connection)
        raise NotFound(
            f"{error} It was looked for on {plain(where)}; --node names another node"
        ) from None


def _tell(context: Context, done: Done, line: str, *, as_json: bool) -> None:
    """Print what was done."""
    if as_json:
        context.out.json(done._asdict())
    else:
        context.out.line(plain(line))


def _label(body: dict[str, object]) -> str:
    name = body.get("Name")
    return f"{name} (ID {body.get('ID') or name})"


def _name_of(connection: Connection) -> str:
    """Return the name of the member that was asked; its address where it does not say it now."""

    def ask(client: NodeClient) -> str:
        return catalog.own_name(client)

    try:
        return connection.read(ask) or connection.address
    except HstoreError:
        return connection.address
