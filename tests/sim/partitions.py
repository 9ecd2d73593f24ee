"""Shapes of partitions, as (from, to) pairs that lose everything.

Beside two sides that do not hear each other there are those in which everybody hears some
majority, though not the same one, or in which two halves hear each other only through one node:
they make leaders that some follow and others do not know of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Cut = set[tuple[int, int]]


def halves(ids: Sequence[int]) -> Cut:
    """Two halves; of an odd number the first is smaller."""
    first = set(ids[: len(ids) // 2])
    return {(a, b) for a in ids for b in ids if (a in first) != (b in first)}


def single(ids: Sequence[int]) -> Cut:
    """The first one hears nobody, and nobody hears it."""
    return {(a, b) for a in ids for b in ids if (a == ids[0]) != (b == ids[0])}


def ring(ids: Sequence[int]) -> Cut:
    """Everybody hears just a majority: the nearest on a ring. No two majorities are the same."""
    count = len(ids)
    reach = (count // 2 + 1) // 2
    return {
        (a, b)
        for i, a in enumerate(ids)
        for j, b in enumerate(ids)
        if a != b and min((i - j) % count, (j - i) % count) > reach
    }


def bridge(ids: Sequence[int]) -> Cut:
    """Two halves that hear each other only through the node between them."""
    middle = len(ids) // 2
    return {
        (a, b)
        for i, a in enumerate(ids)
        for j, b in enumerate(ids)
        if middle not in (i, j) and (i < middle) != (j < middle)
    }


SHAPES: dict[str, Callable[[Sequence[int]], Cut]] = {
    "halves": halves, "single": single, "ring": ring, "bridge": bridge,
}  # fmt: skip
