"""Text from anywhere made harmless to a terminal.

A node's name is a DNS label, but a program that only pretends to be a node may send anything.
Control characters (ESC above all), line breaks and characters that change the direction of writing
become `\\x1b` and the like; letters of every script stay. The shell shows keys and values so on a
terminal; into a pipe they go as they are.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hstore.node.model.cluster_info import ClusterInfo

T = TypeVar("T", bound=msgspec.Struct)

# Within JSON these stand in strings only. msgspec has escaped the control characters below U+007F.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


# The shell reads `\xHH` as a byte, so from U+0080 on a character is `\uHHHH`: what it prints can be
# typed into it again (`shell/words.py`).
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def plain(text: str, *, keep: str = "", also: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return text with escapes in place of the characters that a terminal obeys or hides.

    Args:
        text: From anywhere.
        keep: Characters that stay although they do not print, such as a newline.
        also: More characters to replace, each with its replacement.
    """
    if text.isprintable() and not also:
        return text
    return "".join(
        also[one] if one in also
        else one if one.isprintable() or one in keep
        else _SHORT.get(one) or _code(one)
        for one in text
    )  # fmt: skip


def plain_json(text: str) -> str:
    """Return a JSON text with the same meaning that is harmless to a terminal."""
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


def _code(one: str) -> str:
    """Return the escape of a character; half of one (a surrogate) has the same form."""
    number = ord(one)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
