"""Answers that walk over many keys, sent while they are made.

Owns the pace: pieces of a bounded size, a yield every so many keys, a limit to the whole time. The
handler passes a renderer, which decides how an item looks.
"""

from __future__ import annotations

import binascii
import itertools
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...state.machine import Item, KeyReader
    from .answers import Send

    Render = Callable[[Iterator[Item]], Iterator[bytes | None]]
    """Turns items into JSON pieces; None for an item that adds nothing."""

PIECE_BYTES = 64 * 1024
# The store holds the GIL for each step, some microseconds, so this is about a millisecond.
KEYS_PER_YIELD = 128
# A view pins old data in the store. Each piece has the write deadline of its connection as well.
LISTING_S_MAX = 600.0


def base64(value: bytes) -> bytes:
    """Encode a value that need not be text."""
    return binascii.b2a_base64(value, newline=False)


class Listing:
    """A JSON array or object of all keys with a prefix, as of the moment of its reader.

    Closes: the reader, at the end or by `close`.
    """

    is_endless = False

    def __init__(
        self,
        head: bytes,
        reader: KeyReader,
        prefix: bytes,
        render: Render,
        *,
        after: bytes | None = None,
        limit: int | None = None,
        ends: bytes = b"[]",
    ) -> None:
        self.head = head
        self._reader = reader
        self._ends = ends
        items = reader.scan(prefix, after)
        self._pieces = render(items if limit is None else _first(items, limit))
        self._peeked: bytes | None = None

    def is_empty(self) -> bool:
        """Return whether there is nothing to list; reads up to the first piece only."""
        self._peeked = next((piece for piece in self._pieces if piece is not None), None)
        return self._peeked is None

    async def run(self, send: Send) -> None:
        """Send it all.

        Raises:
            trio.TooSlowError: It took longer than ten minutes.

        Cancellation: the client has got a part of the body, and no end.
        """
        with trio.fail_after(LISTING_S_MAX):
            await self._run(send)

    async def _run(self, send: Send) -> None:
        pending, size, is_first = [self._ends[:1]], 1, True
        pieces = self._pieces
        if self._peeked is not None:
            pieces = itertools.chain([self._peeked], pieces)
        for count, piece in enumerate(pieces, 1):
            if piece is not None:
                pending.append(piece if is_first else b"," + piece)
                size += len(piece) + 1
                is_first = False
            if size >= PIECE_BYTES:
                await send(b"".join(pending))
                pending, size = [], 0
            if size == 0 or count % KEYS_PER_YIELD == 0:
                await trio.lowlevel.checkpoint()
        pending.append(self._ends[1:])
        await send(b"".join(pending))

    def close(self) -> None:
        """Close the reader."""
        self._pieces = iter(())
        self._reader.close()


def _first(items: Iterator[Item], limit: int) -> Iterator[Item]:
    # Not islice, which takes no limit beyond sys.maxsize.
    for _, item in zip(range(limit), items, strict=False):
        yield item
