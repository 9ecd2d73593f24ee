"""`GET /v1/watch`: the changes under a prefix as server-sent events (HTML standard, section 9.2).

Owns how a change looks, and the pace of one client. A slow client is waited for as any client is,
and only the changes that are being sent to it are held in memory for it. Which changes there are, and
how far back they are kept, the node knows.

Theory of operation. An event is one change; its data is JSON in one line. The last change of an
entry carries the entry's revision as the event's `id`, and so does a bare `id:` line at the
beginning and whenever nothing was sent for a while: it says that all up to this revision has been
sent, also where nothing has changed. All other changes of an entry say `"more":true`: a transaction
has made them in one step, and a client that waits for the last of them sees them in one step, too.

The standard has a client keep the last id and send it as `Last-Event-ID` when it connects again, to
this node or another; `?after=` says the same. A client that is cut off among the changes of one
entry has not seen their id yet, and so gets them all again.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
import trio

from ..errors import Compacted
from ..net.turn import SMALL_BYTES
from .http.answers import EVENTS, Answer, HttpError, head
from .http.large import (
    WHOLE_BYTES_MAX,
    base64_piece,
    is_text,
    send_pieces,
    send_whole,
    text_piece,
)
from .http.params import UNSIGNED_64_MAX, key_start, number, parse_query
from .items import value_member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..state.watching.changes import Change
    from ..state.watching.watches import Watch
    from .http.answers import Send
    from .http.connection import Request
    from .http.exchange import Exchange

# As for /v1/events: so we notice a dead client, and the client sees that the node lives.
KEEPALIVE_S = 15.0
_MORE = b',"more":true'
_encode = msgspec.json.encode


async def watch(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/watch`: `?prefix=`, `?after=`, or `Last-Event-ID`, which is the newer of the two."""
    query = parse_query(request.query)
    prefix = key_start(query, "prefix") or b""
    after = number(query, "after")
    last_id = request.headers.get(b"last-event-id")
    if last_id:
        after = _revision(last_id)
    watching = exchange.keys.watch(prefix, after)
    return _Changes(watching, head(exchange.keys.applied_index, content_type=EVENTS))


def _revision(last_id: bytes) -> int:
    if not last_id.isdigit() or len(last_id) > 20 or int(last_id) > UNSIGNED_64_MAX:
        raise HttpError(
            400, "Last-Event-ID is not a revision: send the id of an event of /v1/watch"
        )
    return int(last_id)


class _Changes:
    """The changes of a watch, without end. Closes: the watch."""

    is_endless = True
    length: int | None = None

    def __init__(self, watching: Watch, head: bytes) -> None:
        self.head = head
        self._watch = watching

    async def run(self, send: Send) -> None:
        """Send changes as they come; return only when the next ones are not kept any more."""
        watch = self._watch
        await send(b"id: %d\n\n" % watch.start)
        try:
            while True:
                with trio.move_on_after(KEEPALIVE_S):
                    await watch.wait()
                if not watch.is_behind:
                    await send(b"id: %d\n\n" % watch.seen)
                is_first = True
                while watch.is_behind:
                    await self._send_some(send, is_first=is_first)
                    is_first = False
        except Compacted as error:
            await send(b"event: error\ndata: %b\n\n" % _encode({"error": str(error)}))

    async def _send_some(self, send: Send, *, is_first: bool) -> None:
        taken = self._watch.take()
        values = [change.value for change, _ in taken if change.value]
        size = sum(map(len, values)) + sum(len(change.key) for change, _ in taken)
        if is_first and size <= SMALL_BYTES:  # The watch was woken in its turn for that.
            if taken:
                await send(b"".join(itertools.starmap(_event, taken)))
            await trio.lowlevel.checkpoint()
            return
        with send.holding(values):
            await send.ready()
            if size <= WHOLE_BYTES_MAX:
                await send_whole(b"".join(itertools.starmap(_event, taken)), send)
            else:
                pieces = itertools.chain.from_iterable(itertools.starmap(_pieces, taken))
                await send_pieces(pieces, send)

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()


# All watches of the same change are woken by it one after the other: they share its text.
@lru_cache(maxsize=1)
def _event(change: Change, is_last: bool) -> bytes:
    what = b'"deleted":true' if change.value is None else value_member(change.value)
    data = b'{"key":%b,"revision":%d,%b%b}' % (
        _encode(change.key.decode()),
        change.revision,
        what,
        b"" if is_last else _MORE,
    )
    return b"id: %d\ndata: %b\n\n" % (change.revision, data) if is_last else b"data: %b\n\n" % data


def _pieces(change: Change, is_last: bool) -> Iterator[bytes]:
    """Make what `_event` makes, in pieces of a bounded size."""
    value = change.value
    if value is None or len(value) <= WHOLE_BYTES_MAX:
        yield _event(change, is_last)
        return
    start = b'data: {"key":%b,"revision":%d,' % (_encode(change.key.decode()), change.revision)
    if is_last:
        start = b"id: %d\n%b" % (change.revision, start)
    is_text = _is_text(change)
    yield start + (b'"value":"' if is_text else b'"value_base64":"')
    at = 0
    while at < len(value):
        piece, at = _piece(change, at, is_text)
        yield piece
    yield b'"}\n\n' if is_last else b'"%b}\n\n' % _MORE


# As `_event`: watches of the same change go on side by side, so they share its pieces, too.
@lru_cache(maxsize=4)
def _is_text(change: Change) -> bool:
    return is_text(change.value or b"")


@lru_cache(maxsize=64)
def _piece(change: Change, at: int, is_text: bool) -> tuple[bytes, int]:
    """Return a piece of the value from `at` on, and where the next one begins."""
    value = change.value or b""
    return text_piece(value, at) if is_text else base64_piece(value, at)
