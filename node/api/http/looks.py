"""Small listings of keys that many readers wait for: made once for each change, and told to all.

Owns the listings that are kept for that, and how many they are. Which of them a reader has to be told
of, its handler decides (`api/consul/trees.py`).

Theory of operation: the keys under a prefix are read, and made into an answer, when the first reader
looks. That holds until a key under the prefix changes, which a wait of its own notices in the moment
of the change, before any reader is called, and as long as anybody waits for it. Deletions that are forgotten raise an index and wake
nobody, so the index of deletions is asked for at each look: it is found without reading keys. A
listing that is not small is read by each reader for itself, slice by slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...net.turn import SLICE_BYTES
from ...state.watching.changes import KEYS
from .large import WHOLE_BYTES_MAX
from .listing import KEYS_PER_SLICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...net.turn import Turn
    from ...state.machine import Item
    from ..backend import ChangeWaiter, Keys
    from .listing import Piece

KEYS_MAX = 512
"""Of a small listing: they are read in one go, in about 3 ms."""

BYTES_MAX = 128 * 1024
"""Of the keys and values of a small listing; in base64, and with what is around them, twice as many."""

KEPT_MAX = 16
"""Listings: 4 MiB."""


class Question(NamedTuple):
    """What is asked of the keys with a prefix.

    Attributes:
        prefix: Of the keys.
        separator: Only their names are asked for, up to the first of these; None: values, too.
    """

    prefix: bytes
    separator: bytes | None


class Small(NamedTuple):
    """A small listing.

    Attributes:
        revision: The greatest of its keys; 0: there are none.
        elements: As JSON, without the brackets; empty: there are none.
    """

    revision: int
    elements: bytes


class _TooLarge(Exception):
    """More than is kept."""


class _Kept(NamedTuple):
    """What one question was answered; None: too large."""

    waiter: ChangeWaiter
    small: Small | None


class Looks:
    """The small listings of one server that are kept."""

    def __init__(self) -> None:
        """Keep none."""
        self._kept: dict[Question, _Kept] = {}
        # How many wait for each.
        self._holders: dict[Question, int] = {}

    def hold(self, question: Question) -> None:
        """Note one more reader of a question, before its first look."""
        self._holders[question] = self._holders.get(question, 0) + 1

    def release(self, question: Question) -> None:
        """Note one less; with the last one goes what is kept."""
        self._holders[question] -= 1
        if not self._holders[question]:
            del self._holders[question]
            kept = self._kept.pop(question, None)
            if kept is not None:
                kept.waiter.give_up()

    def look(
        self,
        keys: Keys,
        turn: Turn,
        question: Question,
        render: Callable[[Iterator[Item]], Iterator[Piece]],
    ) -> tuple[int, bytes] | None:
        """Return the index of what is true now, and its elements; None: it is not small.

        Args:
            keys: Of the node.
            turn: Pays for what has to be read.
            question: One that the caller holds.
            render: Makes the elements of items; always the same of one question.
        """
        kept = self._kept.get(question)
        if kept is None or kept.waiter.is_due:
            kept = self._make(keys, turn, question, render)
        if kept.small is None:
            return None
        reader = keys.view()
        try:
            index = max(reader.tree_index(question.prefix), kept.small.revision, 1)
            return index, kept.small.elements
        finally:
            reader.close()

    def _make(
        self,
        keys: Keys,
        turn: Turn,
        question: Question,
        render: Callable[[Iterator[Item]], Iterator[Piece]],
    ) -> _Kept:
        before = self._kept.pop(question, None)
        if before is not None:
            before.waiter.give_up()
        # Before the view is taken, so that no change falls between the two.
        waiter = keys.wait_once(KEYS, question.prefix, _nothing, is_prefix=True)
        reader = keys.view()
        counted = _Counted(reader.scan(question.prefix))
        try:
            pieces = [piece for piece in render(iter(counted)) if isinstance(piece, bytes)]
            small = Small(counted.revision, b",".join(pieces))
        except _TooLarge:
            small = None
        finally:
            reader.close()
        turn.bytes_left -= counted.size + SLICE_BYTES * counted.count // KEYS_PER_SLICE
        kept = self._kept[question] = _Kept(waiter, small)
        if len(self._kept) > KEPT_MAX:
            self._kept.pop(next(iter(self._kept))).waiter.give_up()
        return kept


class _Counted:
    """Items, with how many they are, their bytes, and their greatest revision."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self.count = self.size = self.revision = 0

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            self.count += 1
            self.size += len(item.key) + len(item.value)
            is_large = len(item.value) > WHOLE_BYTES_MAX
            if is_large or self.count > KEYS_MAX or self.size > BYTES_MAX:
                raise _TooLarge
            self.revision = max(self.revision, item.revision)
            yield item


def _nothing() -> None:
    """Called after a change, which was noticed by then."""
