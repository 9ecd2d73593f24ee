"""Server-sent events from bytes (HTML standard, section 9.2.6). Knows no node and no HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT_BYTES_MAX = 16 << 20
"""No node sends a longer event: a value has at most 1 MiB, a cluster some hundred bytes a node."""


class TooLargeError(Exception):
    """An event is longer than `EVENT_BYTES_MAX`."""


def data_of(pieces: Iterator[bytes], event: str) -> Iterator[str]:
    """Yield the data of each event of one type.

    Raises:
        TooLargeError: See `EVENT_BYTES_MAX`.
    """
    for block in blocks(pieces):
        if block.get("event") == event and "data" in block:
            yield block["data"]


def blocks(pieces: Iterator[bytes]) -> Iterator[dict[str, str]]:
    """Yield the fields of each event, and of each block that has an id and no data.

    Raises:
        TooLargeError: See `EVENT_BYTES_MAX`.
    """
    block: dict[str, str] = {}
    size = 0
    for line in lines(pieces):
        size = size + len(line) if line else 0
        if size > EVENT_BYTES_MAX:
            raise TooLargeError
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data" and "data" in block:
            block["data"] += "\n" + value
        elif field:
            block[field] = value
        elif not line:
            if block:
                yield block
            block = {}


def lines(pieces: Iterator[bytes]) -> Iterator[str]:
    """Yield lines. Only a line feed ends one: a value may contain any other line separator.

    Raises:
        TooLargeError: One is longer than `EVENT_BYTES_MAX`.
    """
    rest: list[bytes] = []
    size = 0
    for piece in pieces:
        *whole, last = piece.split(b"\n")
        for part in whole:
            yield b"".join([*rest, part]).decode()
            rest, size = [], 0
        rest.append(last)
        size += len(last)
        if size > EVENT_BYTES_MAX:
            raise TooLargeError
