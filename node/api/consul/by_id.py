"""Answers that are an object with a member for each ID: the services and the checks of one node.

They come from this node's copy: as it is where no leader can say what else there is. A long one is made
while it is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...net.turn import BYTES_MAX, SLICE_BYTES
from ..dialect import filters, heads
from ..http.answers import JSON, head
from ..http.listing import Listing
from . import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ...filter.predicate import Predicate
    from ...state.reader import Reader
    from ..dialect.heads import Mode
    from ..http.answers import Answer
    from ..http.exchange import Exchange
    from ..http.params import Query
    from .shown import Shown

    Entries = Callable[[Reader], Iterable[tuple[str, Shown]]]

WHOLE_MAX = 128
"""Members of an object that is made in one go, in about a millisecond."""

_encode = msgspec.json.encode


async def show(
    exchange: Exchange, query: Query, choice: filters.Choice, entries: Entries
) -> Answer:
    """Answer with an object.

    Args:
        exchange: Of the connection.
        query: Of the request.
        choice: Which of its members are wanted.
        entries: Returns IDs and what is shown of each, in order.

    Raises:
        HttpError: 400 for a bad query, 503.
    """
    fits = None
    if choice:
        await exchange.slice(BYTES_MAX)  # For the compilation of the filter.
        fits = choice.compiled()
    mode = await place.freshen(exchange, query)
    body = _whole(exchange, entries) if fits is None else None
    if body is not None:
        return heads.read(exchange, mode, None, body)
    return await _listing(exchange, mode, entries, fits)


def _whole(exchange: Exchange, entries: Entries) -> bytes | None:
    """Return a short object in one piece; None: it is long."""
    reader = exchange.keys.view()
    try:
        some: list[bytes] = []
        size = 0
        for piece in _pieces(entries(reader), None):
            some.append(piece or b"")
            size += len(some[-1])
            if size > SLICE_BYTES or len(some) > WHOLE_MAX:
                return None
        return b"{%b}" % b",".join(some)
    finally:
        reader.close()


async def _listing(
    exchange: Exchange, mode: Mode, entries: Entries, fits: Predicate | None
) -> Answer:
    await exchange.slice()
    reader = exchange.keys.view()
    lines = heads.read_lines(exchange, mode)
    return Listing(
        head(exchange.keys.applied_index, 200, JSON, lines),
        reader,
        b"",
        lambda _keys: _pieces(entries(reader), fits),
        ends=(b"{", b"}"),
        per_slice=WHOLE_MAX if fits is None else filters.PER_SLICE,
    )


def _pieces(entries: Iterable[tuple[str, Shown]], fits: Predicate | None) -> Iterator[bytes | None]:
    for name, shown in entries:
        if fits is None or fits(shown):
            yield b"%b:%b" % (_encode(name), _encode(shown))
        else:
            yield None
