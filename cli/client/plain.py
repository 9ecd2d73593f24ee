"""What a node answers, made harmless to a terminal: every text of it, by `plain`.

Keys and values are shown so on a terminal; into a pipe they go as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeGuard, TypeVar

import click
import msgspec

from hstore.node.model.plain import plain

if TYPE_CHECKING:
    from hstore.node.model.cluster_info import ClusterInfo

__all__ = ["plain", "plain_cluster", "plain_fields", "plain_json", "print_json"]

T = TypeVar("T", bound=msgspec.Struct)

# Within JSON these stand in strings only. msgspec has escaped the control characters below U+007F.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def plain_json(text: str) -> str:
    """Return a JSON text with the same meaning that is harmless to a terminal."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_json(content: object) -> None:
    """Print a line of JSON that is harmless to a terminal."""
    click.echo(plain_json(msgspec.json.encode(content).decode()))


def plain_cluster(info: ClusterInfo) -> ClusterInfo:
    """Return the cluster with every text in it made plain."""
    return plain_fields(msgspec.structs.replace(info, nodes=[*map(plain_fields, info.nodes)]))


def plain_fields(one: T) -> T:
    """Return a reply with every text in it made plain."""
    changed: dict[str, str | tuple[str, ...]] = {}
    for name in one.__struct_fields__:
        value = getattr(one, name)
        if _steers(value):
            changed[name] = plain(value)
        elif isinstance(value, tuple) and any(_steers(item) for item in value):
            changed[name] = tuple(plain(item) if _steers(item) else item for item in value)
    return msgspec.structs.replace(one, **changed) if changed else one


def _steers(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not value.isprintable()
