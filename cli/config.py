"""`config`, `rename` and `transfer`: what a cluster agrees on, shown and changed through one node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hstore.node.errors import ConfigError, NotApplied

from .client.plain import print_json
from .messages import tell

if TYPE_CHECKING:
    from hstore.node.model.cluster_info import ConfigValue, NodeInfo

    from .client.api import NodeClient

LOG_LEVEL = "log_level"

_EMPTY = '""'
"""How a value that is empty is shown beside others."""


def show_settings(client: NodeClient, key: str | None, *, as_json: bool = False) -> None:
    """Print one value, or a table of all; as JSON what `GET /v1/config` answers of them.

    Raises:
        ConfigError: There is no such key.
    """
    settings = _settings(client)
    if as_json and (key is None or key in settings):
        print_json(settings if key is None else settings[key])
    elif key is None:
        for line in table(settings):
            click.echo(line)
    elif key in settings:
        click.echo(settings[key].value)
    else:
        raise ConfigError(f"{key}: unknown key; there are {', '.join(settings)}")


def change_setting(client: NodeClient, key: str, value: str, *, as_json: bool = False) -> None:
    """Change a setting, and print its new value."""
    changed = client.configure(key, value)
    if as_json:
        print_json(changed)
        return
    click.echo(f"{key} is {changed.value or _EMPTY} ({changed.source})")
    if changed.note:
        click.echo(changed.note)


def rename_node(
    client: NodeClient, name: str, node: NodeInfo | None = None, *, as_json: bool = False
) -> None:
    """Give the node another name, or the member `node` through it."""
    was = client.rename(name, node.id if node else "")
    if as_json:
        print_json({"was": was, "name": name})
    else:
        click.echo(f"{was} is {name} now")


def transfer_lead(client: NodeClient, to: str, *, as_json: bool = False) -> None:
    """Have a member lead (its name or address; empty: any that can), and say which node does."""
    leader = client.transfer(to)
    if as_json:
        print_json({"leader": leader})
    else:
        click.echo(f"{leader} leads")


def table(settings: dict[str, ConfigValue]) -> list[str]:
    """Return the lines of a table, which programs can split at spaces."""
    rows = [("KEY", "VALUE", "SOURCE")]
    rows += [(key, one.value or _EMPTY, one.source) for key, one in settings.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{key:{widths[0]}}  {value:{widths[1]}}  {source}" for key, value, source in rows]


def _settings(client: NodeClient) -> dict[str, ConfigValue]:
    """Return the settings; without a leader, this node's own copy of them."""
    try:
        return client.config()
    except NotApplied as error:
        tell(f"hstore: {error}; what the node at {client.address} knows:", is_error=True)
        return client.config(is_stale=True)
