"""Things found by the beginnings of a key, one lookup for each length of prefix that there is."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

from ..records import prefix_end

T = TypeVar("T")


class SortedNames:
    """Names in their order, each once, so that those under a prefix are found without a walk."""

    def __init__(self) -> None:
        self._names: list[bytes] = []

    def add(self, name: bytes) -> None:
        """Add a name that is not here."""
        insort(self._names, name)

    def remove(self, name: bytes) -> None:
        """Remove a name that is here."""
        del self._names[bisect_left(self._names, name)]

    def take_under(self, prefix: bytes) -> list[bytes]:
        """Remove and return those that start with `prefix`."""
        names, end = self._names, prefix_end(prefix)
        start = bisect_left(names, prefix)
        stop = len(names) if end is None else bisect_left(names, end, start)
        taken = names[start:stop]
        del names[start:stop]
        return taken


class ByPrefix(Generic[T]):
    """Things of prefixes, to be found by the beginnings of a key."""

    def __init__(self) -> None:
        # Dictionaries instead of sets, for their order: it is the order of waking.
        self._by_prefix: dict[bytes, dict[T, None]] = {}
        self._names = SortedNames()
        self._lengths: list[int] = []
        self._count_by_length: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._by_prefix)

    def __len__(self) -> int:
        return sum(map(len, self._by_prefix.values()))

    def __iter__(self) -> Iterator[T]:
        for same in self._by_prefix.values():
            yield from same

    def add(self, prefix: bytes, one: T) -> None:
        """Add one under a prefix; once, however often it is added."""
        same = self._by_prefix.get(prefix)
        if same is None:
            same = self._by_prefix[prefix] = {}
            self._names.add(prefix)
            self._add_length(len(prefix))
        same[one] = None

    def remove(self, prefix: bytes, one: T) -> None:
        """Remove one; also one that is not here."""
        same = self._by_prefix.get(prefix, {})
        if one in same:
            del same[one]
            if not same:
                del self._by_prefix[prefix]
                self._names.remove(prefix)
                self._remove_length(len(prefix))

    def found(self, key: bytes) -> Iterator[T]:
        """Iterate over those whose prefix this key has; nothing is added or removed meanwhile."""
        for length in self._lengths:
            if length > len(key):
                break
            yield from self._by_prefix.get(key[:length], ())

    def take(self, key: bytes) -> list[T]:
        """Remove and return those whose prefix this key has."""
        taken: list[T] = []
        for length in tuple(self._lengths):
            if length > len(key):
                break
            same = self._by_prefix.pop(key[:length], None)
            if same is not None:
                taken += same
                self._names.remove(key[:length])
                self._remove_length(length)
        return taken

    def take_under(self, prefix: bytes) -> list[T]:
        """Remove and return those whose prefix starts with this one."""
        taken: list[T] = []
        for longer in self._names.take_under(prefix):
            taken += self._by_prefix.pop(longer)
            self._remove_length(len(longer))
        return taken

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
