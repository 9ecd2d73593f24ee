"""Listings of keys in the dialect: /v1/kv/<prefix>?recurse and ?keys, which may wait for a change.

Owns the index of a listing. It comes before the body, so a first pass over the keys finds it, in
slices as the listing itself; of more than `KEYS_COUNTED` keys it is the last index that changed any
key at all (contract-services, section 2.3).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from ...net.turn import SLICE_BYTES
from ...raft.errors import CoreBug
from ...state.watching.changes import KEYS
from ..dialect.heads import Mode, read, read_head
from ..dialect.queries import AT_ONCE, Blocking, blocking, mode_of, with_jitter
from ..dialect.questions import Signal, Target, refuse_without_leader
from ..http.listing import KEYS_PER_SLICE, Listing
from ..http.looks import Question
from ..http.params import key_start, prefix_from_path
from ..http.waiting import Wait
from ..items import entry, is_large, large_entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...state.machine import Item, Reader
    from ..http.answers import Answer
    from ..http.exchange import Exchange
    from ..http.large import Large
    from ..http.listing import Piece
    from ..http.params import Query
    from ..http.waiting import Due

KEYS_COUNTED = 1_000
"""Of so many keys, each is looked at for the index of a listing."""

_encode = msgspec.json.encode


async def get_many(exchange: Exchange, rest: bytes, query: Query) -> Answer | Wait:
    """`GET /v1/kv/<prefix>` with `?recurse` or `?keys`, and `?index=` with `?wait=`."""
    prefix = prefix_from_path(rest)
    mode, query = mode_of(exchange, query)
    wanted = blocking(query)
    tree = _Tree(exchange, prefix, mode, query)
    await exchange.barrier(query)
    if wanted is AT_ONCE:
        answer = await tree.answer(None)
        if answer is None:
            raise CoreBug("a look that asks for any answer has none")
        return answer
    return await tree.answer_or_wait(wanted, trio.current_time() + with_jitter(wanted.wait_s))


class _Tree:
    """A read of all keys with a prefix."""

    __slots__ = ("_allows_none", "_exchange", "_mode", "_prefix", "_question", "_render")

    def __init__(self, exchange: Exchange, prefix: bytes, mode: Mode, query: Query) -> None:
        self._exchange = exchange
        self._prefix = prefix
        self._mode = mode
        self._render: Callable[[Iterator[Item]], Iterator[Piece]] = _pieces
        # Consul's agent/kvs_endpoint.go, `KVSGetKeys`: all keys are never nothing.
        self._allows_none = False
        separator: bytes | None = None
        if "keys" in query:
            self._allows_none = not prefix
            # Consul has known both spellings from its beginning.
            name = "separator" if "separator" in query else "seperator"
            separator = cut = key_start(query, name) or b""
            self._render = lambda items: _key_pieces(items, len(prefix), cut)
        self._question = Question(prefix, separator)

    async def answer(self, after: int | None) -> Answer | None:
        """Return the answer if its index has passed `after`, or in any case; else None."""
        exchange = self._exchange
        await exchange.slice()
        is_taken = False
        reader = exchange.keys.view()
        try:
            index = await _index_of(exchange, reader, self._prefix)
            if after is not None and index <= after:
                return None
            start = read_head(exchange, self._mode, index)
            listing = Listing(start, reader, self._prefix, self._render)
            is_taken = not listing.is_empty() or self._allows_none
            return listing if is_taken else read(exchange, self._mode, index, None)
        finally:
            if not is_taken:
                reader.close()

    def signal(self) -> Signal:
        """Begin to wait for the next change of a key with the prefix."""
        return Signal(self._exchange.keys, (Target(KEYS, self._prefix, is_prefix=True),))

    def look(self, after: int | None) -> tuple[bool, bytes | None]:
        """Look at a small listing, which all who ask the same question share.

        Returns:
            Whether it is small; then its answer, if its index has passed `after` or in any case.
        """
        exchange = self._exchange
        if not exchange.unsent.has_room:
            return False, None
        small = exchange.looks.look(exchange.keys, exchange.turn, self._question, self._render)
        if small is None:
            return False, None
        index, elements = small
        if after is not None and index <= after:
            return True, None
        body = b"[%b]" % elements if elements or self._allows_none else None
        return True, read(exchange, self._mode, index, body)

    async def answer_or_wait(self, wanted: Blocking, until: float) -> Answer | Wait:
        """Return the answer if its index has passed, else the wait for the next change."""
        await self._exchange.slice()
        # Begun before the view is taken, so that no change falls between the two.
        wait = _TreeWait(self, wanted, until)
        is_kept = False
        try:
            is_small, found = self.look(wanted.after)
            answer: Answer | None = found if is_small else await self.answer(wanted.after)
            is_kept = answer is None
            return wait if answer is None else answer
        finally:
            if not is_kept:
                wait.give_up()

    def hold(self) -> None:
        """Have what is looked at kept for others who ask the same."""
        self._exchange.looks.hold(self._question)

    def release(self) -> None:
        """Keep it no longer for this one."""
        self._exchange.looks.release(self._question)

    def refuse_without_leader(self) -> None:
        """Refuse to say what is true now where nobody knows it."""
        refuse_without_leader(self._exchange, self._mode)


class _TreeWait(Wait):
    """A listing that waits; to look at one that is not small takes a task."""

    __slots__ = ("_is_over", "_signal", "_tree", "_wanted")

    def __init__(self, tree: _Tree, wanted: Blocking, until: float) -> None:
        self.until = until
        self._tree = tree
        self._wanted = wanted
        self._signal = tree.signal()
        self._is_over = False
        tree.hold()

    def begin(self, call: Callable[[], None]) -> bool:
        """Wait for the next change (`Wait`)."""
        if self._signal.has_come:
            return False
        self._signal.call = call
        return True

    def look(self) -> Due | None:
        """Look whether the index has passed; in a task, if it is not small (`Wait`)."""
        # The next wait begins before the look, so that no change falls between the two.
        self._signal.give_up()
        self._signal = self._tree.signal()
        is_small, answer = self._tree.look(self._wanted.after)
        if is_small:
            return answer
        return _Look(self._tree, self._wanted, self.until)

    def over(self) -> Due:
        """Answer with what is true now, in a task (`Wait`)."""
        self._tree.refuse_without_leader()
        return _Look(self._tree, None, self.until)

    def give_up(self) -> None:
        """Wait no more (`Wait`)."""
        if not self._is_over:
            self._is_over = True
            self._signal.give_up()
            self._tree.release()


class _Look:
    """The work that makes the answer, begun only when it is awaited: the client may have gone."""

    __slots__ = ("_tree", "_until", "_wanted")

    def __init__(self, tree: _Tree, wanted: Blocking | None, until: float) -> None:
        self._tree = tree
        self._wanted = wanted
        self._until = until

    def __await__(self) -> Generator[Any, Any, Answer | Wait]:
        return self._run().__await__()

    async def _run(self) -> Answer | Wait:
        if self._wanted is not None:
            return await self._tree.answer_or_wait(self._wanted, self._until)
        answer = await self._tree.answer(None)
        if answer is None:
            raise CoreBug("a look that asks for any answer has none")
        return answer


async def _index_of(exchange: Exchange, reader: Reader, prefix: bytes) -> int:
    """Return the index of all keys with a prefix, looking at them slice by slice."""
    index, size = max(reader.tree_index(prefix), 1), 0
    for count, item in enumerate(reader.scan(prefix), 1):
        if count > KEYS_COUNTED:
            return max(reader.key_change_index, index)
        index = max(index, item.revision)
        size += len(item.value)
        if size >= SLICE_BYTES or not count % KEYS_PER_SLICE:
            await exchange.turn.slice(max(size, SLICE_BYTES))
            size = 0
    return index


def _pieces(items: Iterator[Item]) -> Iterator[Piece]:
    return map(_piece, items)  # Which holds no item while the listing waits.


def _piece(item: Item) -> bytes | Large:
    return large_entry(item) if is_large(item) else entry(item)


def _key_pieces(items: Iterator[Item], start: int, separator: bytes) -> Iterator[bytes | None]:
    """List keys, each cut after the first separator beyond the prefix, each once."""
    last = b""
    for item in items:
        key = item.key
        at = key.find(separator, start) if separator else -1
        if at >= 0:
            key = key[: at + len(separator)]
        # Keys come in order, so those that are cut to the same come together.
        yield None if key == last else _encode(key.decode())
        last = key
