"""The commands about keys and nodes that the command line and the shell share, and their options.

Each has all its spellings here: two names, arguments by options or in their order. What it does is a
function of `shell/commands.py`, which is imported when it runs, so that `--help` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import options as opt
from .connected import connected, filled, filled_if_any, key_first
from .vocabulary import KeyCommand, as_key_command

if TYPE_CHECKING:
    from .shell.commands import Context

SCAN_LIMIT = 100
"""Keys that `scan` shows without a limit."""

_key = click.option(
    "-k",
    "--key",
    metavar="KEY",
    type=click.UNPROCESSED,
    shell_complete=opt.complete_keys,
    help="The key.",
)
_value = click.option(
    "-v",
    "--value",
    metavar="VALUE",
    type=click.UNPROCESSED,
    help="The value; @FILE: the bytes of a file; -: those of standard input; @@...: text with one @.",
)
_prefix = click.option(
    "--prefix",
    metavar="PREFIX",
    type=click.UNPROCESSED,
    shell_complete=opt.complete_keys,
    help="Only keys that begin so.",
)


@as_key_command("read", "[KEY]", examples=("foo", "-k foo --raw", "foo --json"))
@connected
@_key
@click.option("--raw", is_flag=True, help="Print the bytes of the value, without a newline.")
@opt.as_json
@key_first
def read(
    context: Context,
    *,
    key: str | None,
    raw: bool,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Print the value of a key, or all keys and values as one JSON object."""
    from .shell import commands

    (key,) = filled_if_any(words, key)
    commands.read(context, key, is_raw=raw, as_json=as_json)


@as_key_command(
    "write", "KEY VALUE", needs=("-k", "-v"), is_write=True,
    examples=("foo bar", r'greeting "two words\n"', "-k logo -v @logo.png"),
)  # fmt: skip
@connected
@_key
@_value
@opt.as_json
@key_first
def write(
    context: Context,
    *,
    key: str | None,
    value: str | None,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Create or overwrite a key; print its revision."""
    from .shell import commands

    said = filled(words, key, value)
    commands.write(context, said[0], said[1], as_json=as_json)


@as_key_command(
    "update", "KEY VALUE", needs=("-k", "-v"), is_write=True, examples=("foo baz", "-k foo -v baz")
)
@connected
@_key
@_value
@opt.as_json
@key_first
def update(
    context: Context,
    *,
    key: str | None,
    value: str | None,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Overwrite a key that exists; print its revision."""
    from .shell import commands

    said = filled(words, key, value)
    commands.update(context, said[0], said[1], as_json=as_json)


@as_key_command("delete", "KEY", needs=("-k",), is_write=True, examples=("foo", "-k foo"))
@connected
@_key
@opt.as_json
@key_first
def delete(
    context: Context,
    *,
    key: str | None,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Delete a key that exists; print the revision of the deletion."""
    from .shell import commands

    said = filled(words, key)
    commands.delete(context, said[0], as_json=as_json)


@as_key_command(
    "cas", "KEY REVISION VALUE", needs=("-k", "-v"), is_write=True,
    examples=("foo 0 bar", "foo 17 baz", "-k foo --revision 17 -v @file"),
)  # fmt: skip
@connected
@_key
@click.option("--revision", metavar="N", help="The revision that the key must have.")
@_value
@opt.as_json
@key_first
def cas(
    context: Context,
    *,
    key: str | None,
    revision: str | None,
    value: str | None,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Write only if the key has this revision; 0: only if it does not exist."""
    from .shell import commands

    said = filled(words, key, revision, value)
    commands.cas(context, said[0], said[1], said[2], as_json=as_json)


@as_key_command("keys", "[PREFIX]", examples=("", "services/"))
@connected
@_prefix
@opt.as_json
@key_first
def keys(
    context: Context,
    *,
    prefix: str | None,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Print the keys, or those that begin with a prefix."""
    from .shell import commands

    (prefix,) = filled_if_any(words, prefix)
    commands.keys(context, prefix, as_json=as_json)


@as_key_command("scan", "[PREFIX [LIMIT]]", examples=("services/", '"" 1000'))
@connected
@_prefix
@click.option("--limit", metavar="N", help=f"At most so many keys [{SCAN_LIMIT}].")
@opt.as_json
@key_first
def scan(
    context: Context,
    *,
    prefix: str | None,
    limit: str | None,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Print keys with their values, in the order of keys."""
    from .shell import commands

    prefix, limit = filled_if_any(words, prefix, limit)
    commands.scan(context, prefix, limit, SCAN_LIMIT, as_json=as_json)


@as_key_command("watch", "[PREFIX]", examples=("services/",))
@connected
@_prefix
@opt.as_json
@key_first
def watch(
    context: Context,
    *,
    prefix: str | None,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Print each change of the keys that begin with a prefix, as it happens."""
    from .shell import commands

    (prefix,) = filled_if_any(words, prefix)
    commands.watch(context, prefix, as_json=as_json)


@as_key_command("list", "[--watch]", examples=("", "--watch", "--json"))
@connected
@click.option("--watch", "is_watch", is_flag=True, help="Follow changes as they happen.")
@opt.as_json
def list_nodes(context: Context, *, is_watch: bool, as_json: bool) -> int:
    """Show the nodes of a cluster: name, address, health, type. Status 1 when there is no leader."""
    from .shell import commands

    return commands.nodes(context, is_watch=is_watch, as_json=as_json)


@as_key_command("leader", "", examples=("",))
@connected
@opt.as_json
def leader(context: Context, *, as_json: bool) -> None:
    """Print the leader's name and address. Status 1 when there is none."""
    from .shell import commands

    commands.leader(context, as_json=as_json)


NAMES: dict[str, KeyCommand] = {
    "read": read, "get": read, "write": write, "set": write, "update": update, "delete": delete,
    "del": delete, "cas": cas, "keys": keys, "scan": scan, "watch": watch, "list": list_nodes,
    "nodes": list_nodes, "leader": leader,
}  # fmt: skip
"""Every command here by each of its names."""
