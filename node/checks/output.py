"""What a check says, cut to what is kept: in bytes, and with a note that says how much there was.

Contract of services, sections 4.3 and 13.9. Consul has two other texts for the note
(`agent/checks/check.go`: ` ... (captured %d of %d bytes)` after a TTL's note, `Captured %d of %d
bytes` before a script's output); here it is one for all kinds, after the text.
"""

from __future__ import annotations

from ..model.checks import OUTPUT_BYTES_MAX, CheckDefinition

URL_BYTES_MAX = 1024
"""Of a URL or an address in an output; a longer one is cut there, with an ellipsis."""

REASON_CHARS_MAX = 200
"""Of what a target, or the system, gives as a reason."""


def limit_of(definition: CheckDefinition) -> int:
    """Return how many bytes of an output are kept."""
    return definition.output_max or OUTPUT_BYTES_MAX


def first_bytes(text: str, limit: int, total: int = 0) -> str:
    """Cut a note to its first bytes: no character is kept in halves.

    Args:
        text: What is at hand of it.
        limit: How many bytes of UTF-8 are kept.
        total: How many there were, if more than those at hand.
    """
    if total <= limit and (len(text) * 4 <= limit or (len(text) <= limit and text.isascii())):
        return text
    whole = text.encode("utf-8", "replace")
    total = max(total, len(whole))
    if total <= limit:
        return text
    kept = whole[:limit].decode("utf-8", "ignore")
    return f"{kept}… (captured {len(kept.encode())} of {total} bytes)"


def last_bytes(whole: bytes, limit: int, total: int = 0) -> str:
    """Cut what a target or a script said to its last bytes.

    Args:
        whole: What is at hand of it; what is not UTF-8 is replaced.
        limit: How many bytes are kept.
        total: How many there were, if more than those at hand.
    """
    total = max(total, len(whole))
    text = _text(whole[-limit:])
    if len(text.encode()) > limit:
        # Each byte that was replaced has become three.
        text = text.encode()[-limit:].decode("utf-8", "ignore")
    return (
        text if total <= limit else f"{text}… (captured {min(len(whole), limit)} of {total} bytes)"
    )


def shortened(text: str, limit: int = URL_BYTES_MAX) -> str:
    """Return a text for one line of an output: printable, and cut with an ellipsis."""
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    line = "".join(char if char.isprintable() else "�" for char in text[: limit + 1])
    whole = line.encode("utf-8", "replace")
    if len(whole) <= limit and len(text) <= limit:
        return line
    return whole[:limit].decode("utf-8", "ignore") + "…"


def _text(piece: bytes) -> str:
    """Decode what may begin within a character."""
    start = 0
    while start < min(3, len(piece)) and piece[start] & 0xC0 == 0x80:
        start += 1
    try:
        return piece[start:].decode()
    except UnicodeDecodeError:
        return piece.decode("utf-8", "replace")
