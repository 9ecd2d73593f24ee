"""Answers that walk over many keys, sent while they are made.

Owns the pace: slices of a bounded size, each in its turn and after a bounded number of keys, and a
limit to the whole time. The handler passes a renderer, which decides how an item looks.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING

import trio

from .large import GATHERED_BYTES, Large, send_pieces, send_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...state.machine import Item, KeyReader
    from .answers import Send

    Piece = bytes | Large | None
    Render = Callable[[Iterator[Item]], Iterator[Piece]]
    """Turns items into JSON: bytes, what is to be sent in pieces, or None for nothing."""

# The store holds the GIL for each step, some microseconds, so this is about a millisecond.
KEYS_PER_SLICE = 128
# A view pins old data in the store. Each piece has the write deadline of its connection as well.
LISTING_S_MAX = 600.0


class Listing:
    """A JSON array or object of all keys with a prefix, as of the moment of its reader.

    The handler has waited for its turn (`Exchange.slice`) before it opened the reader.

    Closes: the reader, at the end or by `close`.
    """

    is_endless = False
    length: int | None = None

    def __init__(
        self,
        head: bytes,
        reader: KeyReader,
        prefix: bytes,
        render: Render,
        *,
        after: bytes | None = None,
        limit: int | None = None,
        ends: tuple[bytes, bytes] = (b"[", b"]"),
        per_slice: int = KEYS_PER_SLICE,
    ) -> None:
        self.head = head
        self._reader = reader
        self._ends = ends
        self._per_slice = per_slice
        items = reader.scan(prefix, after)
        self._pieces = render(items if limit is None else _first(items, limit))
        self._peeked: Piece = None

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
            with ExitStack() as kept:
                await self._run(send, kept)

    async def _run(self, send: Send, kept: ExitStack) -> None:
        pending, comma = [self._ends[0]], b""
        size = count = 0
        is_counted = False
        for piece in self._all_pieces():
            count += 1
            if isinstance(piece, Large):
                if not is_counted:
                    # The database keeps a block of that size for as long as the reader is open.
                    kept.enter_context(send.holding((), len(piece.value)))
                    is_counted = True
                with send.holding((piece.value,)):
                    await send_pieces(itertools.chain(pending, (comma,), piece), send)
                pending, count = [], self._per_slice
            elif piece is not None:
                pending.append(comma + piece)
                size += len(piece)
            if piece is not None:
                comma = b","
            if size >= GATHERED_BYTES or count >= self._per_slice:
                del piece  # It is not to be held while this waits.
                await send_whole(b"".join(pending), send)
                await send.ready()
                pending, size, count = [], 0, 0
        pending.append(self._ends[1])
        await send_whole(b"".join(pending), send)

    def _all_pieces(self) -> Iterator[Piece]:
        peeked, self._peeked = self._peeked, None
        return itertools.chain((peeked,), self._pieces) if peeked is not None else self._pieces

    def close(self) -> None:
        """Close the reader."""
        self._pieces = iter(())
        self._reader.close()


def _first(items: Iterator[Item], limit: int) -> Iterator[Item]:
    # Not islice, which takes no limit beyond sys.maxsize.
    for _, item in zip(range(limit), items, strict=False):
        yield item
