"""Answers that are an object with a member for each ID: the services and the checks of one node.

They come from this node's copy as it is, without a leader too. A long one is made while it is sent.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from ...net.turn import BYTES_MAX, SLICE_BYTES
from ..dialect import filters, heads
from ..dialect.heads import Mode
from ..http.answers import JSON, head
from ..http.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ...filter.predicate import Predicate
    from ...state.reader import Reader
    from ..http.answers import Answer
    from ..http.exchange import Exchange, Found
    from .shown import Shown

    Entries = Callable[[Reader], Iterable[tuple[str, Shown]]]

WHOLE_MAX = 128
"""Members of an object that is made in one go, in about a millisecond."""

_encode = msgspec.json.encode


def show(exchange: Exchange, choice: filters.Choice, entries: Entries) -> Found:
    """Answer with an object.

    Args:
        exchange: Of the connection.
        choice: Which of its members are wanted.
        entries: Returns IDs and what is shown of each, in order.
    """
    if choice:
        return _show_chosen(exchange, choice, entries)
    reader = exchange.keys.view()
    try:
        some: list[bytes] = []
        size = 0
        for piece in itertools.islice(_pieces(entries(reader), None), WHOLE_MAX + 1):
            some.append(piece or b"")
            size += len(some[-1])
            if size > SLICE_BYTES:
                break
        else:
            if len(some) <= WHOLE_MAX:
                body = b"{%b}" % b",".join(some)
                return heads.read(exchange, Mode.STALE, None, body)
    finally:
        reader.close()
    return _listing(exchange, entries, None)


async def _show_chosen(exchange: Exchange, choice: filters.Choice, entries: Entries) -> Answer:
    await exchange.slice(BYTES_MAX)  # For the compilation of the filter.
    return await _listing(exchange, entries, choice.compiled())


async def _listing(exchange: Exchange, entries: Entries, fits: Predicate | None) -> Answer:
    await exchange.slice()
    reader = exchange.keys.view()
    lines = heads.read_lines(exchange, Mode.STALE)
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
