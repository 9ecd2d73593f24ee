r"""Text from anywhere made harmless to a terminal and to a log.

A node's name is a DNS label, but a program that only pretends to be a node may send anything.
Control characters (ESC above all, and those from U+0080 to U+009F), line breaks and characters that
change the direction of writing become `\x1b` and the like; letters of every script stay. Everything
that shows or logs what another program sent uses this one function.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# The shell reads `\xHH` as a byte, so from U+0080 on a character is `\uHHHH`: what it prints can be
# typed into it again (`cli/shell/words.py`).
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


def _code(one: str) -> str:
    """Return the escape of a character; half of one (a surrogate) has the same form."""
    number = ord(one)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
