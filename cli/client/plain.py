"""Text from the network as a terminal may show it: nothing in it can steer the terminal.

A node's name is a DNS label, but what calls itself a node may send anything. Control characters
(ESC above all), line breaks and what turns the direction of writing become `\\x1b` and the like;
letters of every script stay as they are. Values of keys are data and do not come through here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from hstore.node.model.cluster_info import ClusterInfo

T = TypeVar("T", bound=msgspec.Struct)

# For JSON only what has no meaning outside its strings; below U+0080 msgspec has escaped it already.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def plain(text: str, *, keep: str = "") -> str:
    """Return `text` with what a terminal would not print written as escapes.

    Args:
        text: From anywhere.
        keep: Characters that stay although they do not print, such as a newline.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escaped(one) for one in text)


def plain_json(text: str) -> str:
    """Return a JSON text that means the same, and that a terminal may show."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain_cluster(info: ClusterInfo) -> ClusterInfo:
    """Return the cluster with every text in it made plain."""
    return _plain_fields(msgspec.structs.replace(info, nodes=[*map(_plain_fields, info.nodes)]))


def _plain_fields(one: T) -> T:
    changed = {
        name: plain(value)
        for name in one.__struct_fields__
        if isinstance(value := getattr(one, name), str) and not value.isprintable()
    }
    return msgspec.structs.replace(one, **changed) if changed else one


def _escaped(character: str) -> str:
    # A surrogate, half of a character, cannot even be encoded; it is escaped like the rest.
    return character.encode("unicode_escape").decode("ascii")
