"""Who watches which keys of this node, and what each of them has not seen yet.

Owns the watchers and their waking. What they read is in `changes.py`; how it is sent to a client,
and when a client is too slow, is the API's.

Theory of operation: a watch holds no changes. While it has seen all that is its own, it holds
nothing but its prefix; the first change under that prefix gives it a *cursor*, the number of that
change in the shared history, and wakes it. It reads on from there at its own pace, and when it has
reached the end, it has no cursor again. So a slow watch costs no memory and holds nobody up: it
loses its place when the history has forgotten the change that its cursor is at, and only then, and
it is told so (`Compacted`): nothing is ever left out in silence.

A change finds its watches by looking up the beginnings of its key, one for each length of prefix
that is watched: with ten thousand watches of as many prefixes that is a few steps, not ten
thousand.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

from ..errors import Compacted
from ..net.flag import Flag
from .changes import Change, History

TAKEN_AT_ONCE = 256
"""Changes that a watch looks at in one go: some 50 us, then it is somebody else's turn."""

TAKEN_BYTES_MAX = 64 * 1024
"""Of keys and values in one go, if it is more than one change."""


class Watch:
    """The changes under a prefix, one after the other. One task uses it at a time.

    Attributes:
        prefix: Of the keys.
        start: It gives the changes with a higher revision; it may be one that is yet to come.

    Closes: its place among the watches, by `close`.
    """

    __slots__ = ("_cursor", "_flag", "_is_lost", "_watches", "prefix", "start")

    def __init__(self, watches: Watches, prefix: bytes, start: int, cursor: int | None) -> None:
        self.prefix = prefix
        self.start = start
        self._watches = watches
        self._cursor = cursor
        self._is_lost = False
        self._flag = Flag()
        if cursor is not None:
            self._flag.set()

    @property
    def is_behind(self) -> bool:
        """Whether there is something to take, or to be told."""
        return self._cursor is not None or self._is_lost

    @property
    def seen(self) -> int:
        """The revision up to which all has been taken; to be asked while it is not behind."""
        return max(self.start, self._watches.history.revision)

    async def wait(self) -> None:
        """Wait until it is behind. It may wake up for nothing; always lets other tasks run.

        Cancellation: nothing is lost.
        """
        await self._flag.wait()

    def take(self) -> list[tuple[Change, bool]]:
        """Take the next changes, a bounded number; an empty list does not mean that it is the end.

        Returns:
            Each change with whether it is the last of its revision under the prefix: who has seen
            that one may go on after this revision later, here or on another node.

        Raises:
            Compacted: The history has forgotten what comes next.
        """
        history = self._watches.history
        number = self._cursor
        if self._is_lost or (number is not None and number < history.first):
            raise Compacted(_forgotten(history))
        taken: list[tuple[Change, bool]] = []
        if number is None:
            return taken
        end = history.end
        stop = min(end, number + TAKEN_AT_ONCE)
        size = 0
        while number < stop and size < TAKEN_BYTES_MAX:
            change = history[number]
            number += 1
            if change.key.startswith(self.prefix):
                # Those of one entry come in the order of keys, so those of a prefix are together.
                goes_on = number < end and self._is_followed(change, history[number])
                taken.append((change, not goes_on))
                size += len(change.key) + len(change.value or b"")
        self._cursor = number if number < end else None
        return taken

    def _is_followed(self, change: Change, following: Change) -> bool:
        return following.revision == change.revision and following.key.startswith(self.prefix)

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._watches.forget(self)

    def notice(self, number: int) -> None:
        """Have a cursor at this change, unless there is one at an earlier change."""
        if self._cursor is None:
            self._cursor = number
            self._flag.set()

    def lose(self) -> None:
        """Have no place in the history any more."""
        self._is_lost = True
        self._flag.set()


class Watches:
    """All watches of a node.

    Args:
        history: Where they read; it calls this from now on.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        # Dictionaries instead of sets, for their order: it is who is woken first.
        self._by_prefix: dict[bytes, dict[Watch, None]] = {}
        self._lengths: list[int] = []
        self._count_by_length: dict[int, int] = {}
        history.on_add = self._on_add
        history.on_restart = self._on_restart

    def __len__(self) -> int:
        return sum(map(len, self._by_prefix.values()))

    def open(self, prefix: bytes, after: int | None) -> Watch:
        """Begin to watch.

        Args:
            prefix: Of the keys; the empty one is all.
            after: The revision after which to begin, which may be one that is yet to come; None:
                now, so that every entry is seen that takes effect after this call.

        Raises:
            Compacted: The history does not reach back to there.
        """
        history = self.history
        start = history.revision if after is None else after
        if start < history.floor:
            raise Compacted(_forgotten(history))
        cursor = history.after(start)
        watch = Watch(self, prefix, start, cursor if cursor < history.end else None)
        if prefix not in self._by_prefix:
            self._by_prefix[prefix] = {}
            self._add_length(len(prefix))
        self._by_prefix[prefix][watch] = None
        return watch

    def forget(self, watch: Watch) -> None:
        """Give a watch up; also one that is given up already."""
        same = self._by_prefix.get(watch.prefix, {})
        if watch in same:
            del same[watch]
            if not same:
                del self._by_prefix[watch.prefix]
                self._remove_length(len(watch.prefix))

    def _on_add(self, number: int, changes: Sequence[Change]) -> None:
        if not self._by_prefix:
            return
        for change in changes:
            key = change.key
            for length in self._lengths:
                if length > len(key):
                    break
                for watch in self._by_prefix.get(key[:length], ()):
                    if change.revision > watch.start:
                        watch.notice(number)
            number += 1

    def _on_restart(self) -> None:
        for same in self._by_prefix.values():
            for watch in same:
                # One that begins later than the history does misses nothing.
                if watch.start < self.history.floor:
                    watch.lose()

    def _add_length(self, length: int) -> None:
        count = self._count_by_length.get(length, 0)
        if count == 0:
            insort(self._lengths, length)
        self._count_by_length[length] = count + 1

    def _remove_length(self, length: int) -> None:
        self._count_by_length[length] -= 1
        if self._count_by_length[length] == 0:
            del self._count_by_length[length]
            self._lengths.remove(length)


def _forgotten(history: History) -> str:
    return (
        f"compacted: changes are known here from after revision {history.floor} on. Read the keys "
        "again (GET /read?prefix=), and watch with after= the X-Hstore-Index of that answer; "
        f"after={history.floor} is the oldest that works here now"
    )
