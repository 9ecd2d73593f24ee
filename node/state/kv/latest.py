"""The latest deletion of each name, in the order of the names, to find the greatest under a prefix.

A part of `deletions.py`: how it looks things up in memory. Nothing of it is stored.

Theory of operation: the names are a sorted list that is cut into buckets, and of each bucket the
greatest index is known. A question about a prefix looks at the names in the two buckets in which the
prefix begins and ends, and at one number of each bucket between them: with 65,536 names that is
some 50 us at most, and nothing is walked that the prefix does not cover. A new deletion is greater
than all before it, so it is the greatest of its bucket.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

import msgspec

from ..records import prefix_end

_BUCKET_NAMES = 512
"""A bucket that has twice as many is cut in two."""


class Deletion(msgspec.Struct, frozen=True, gc=False):
    """A kept deletion.

    Attributes:
        index: The Raft index of its entry.
        number: Which deletion of its entry it is, from 0.
        is_prefix: It is a recursive one.
        lock_index: The greatest that a key which it deleted may have had.
        name: The key, or the prefix.
    """

    index: int
    number: int
    is_prefix: bool
    lock_index: int
    name: bytes


class Latest:
    """The latest deletion of each name."""

    def __init__(self, deletions: Iterable[Deletion] = ()) -> None:
        """Begin with these, which come in the order of their index."""
        self._by_name = {one.name: one for one in deletions}
        names = sorted(self._by_name)
        self._buckets = [
            names[at : at + _BUCKET_NAMES] for at in range(0, len(names), _BUCKET_NAMES)
        ]
        self._firsts = [bucket[0] for bucket in self._buckets]
        self._greatest = [self._greatest_of(bucket) for bucket in self._buckets]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._by_name)

    def get(self, name: bytes) -> Deletion | None:
        """Return the latest deletion of `name`, or None."""
        return self._by_name.get(name)

    def add(self, deletion: Deletion) -> Deletion | None:
        """Add a deletion that is later than all others; return the one of its name that was here."""
        name = deletion.name
        before = self._by_name.get(name)
        self._by_name[name] = deletion
        if not self._buckets:
            self._buckets, self._firsts, self._greatest = [[name]], [name], [deletion.index]
            return None
        at = self._bucket_of(name)
        self._greatest[at] = deletion.index
        if before is None:
            bucket = self._buckets[at]
            insort(bucket, name)
            if len(bucket) >= 2 * _BUCKET_NAMES:
                self._cut(at)
        return before

    def undo(self, deletion: Deletion, before: Deletion | None) -> None:
        """Undo the latest `add`, which returned `before`."""
        name = deletion.name
        at = self._bucket_of(name)
        bucket = self._buckets[at]
        if before is not None:
            self._by_name[name] = before
        else:
            del self._by_name[name]
            bucket.remove(name)
        if bucket:
            self._firsts[at], self._greatest[at] = bucket[0], self._greatest_of(bucket)
        else:
            del self._buckets[at], self._firsts[at], self._greatest[at]

    def greatest_under(self, prefix: bytes) -> int:
        """Return the greatest index of the names that start with `prefix`; 0: there is none."""
        if not self._buckets:
            return 0
        end = prefix_end(prefix)
        first = self._bucket_of(prefix)
        last = len(self._buckets) - 1 if end is None else self._bucket_of(end)
        found = self._greatest[first + 1 : last]
        for at in {first, last}:  # Only the greatest counts, so their order does not.
            bucket = self._buckets[at]
            stop = len(bucket) if end is None else bisect_left(bucket, end)
            found += [
                self._by_name[name].index for name in bucket[bisect_left(bucket, prefix) : stop]
            ]
        return max(found, default=0)

    def _bucket_of(self, name: bytes) -> int:
        """Return in which bucket `name` is, or would be."""
        return max(bisect_right(self._firsts, name) - 1, 0)

    def _cut(self, at: int) -> None:
        bucket = self._buckets[at]
        halves = [bucket[:_BUCKET_NAMES], bucket[_BUCKET_NAMES:]]
        self._buckets[at : at + 1] = halves
        self._firsts[at : at + 1] = [half[0] for half in halves]
        self._greatest[at : at + 1] = map(self._greatest_of, halves)

    def _greatest_of(self, bucket: list[bytes]) -> int:
        return max(self._by_name[name].index for name in bucket)
