"""The shapes of partitions are what their names say."""

from __future__ import annotations

import pytest

from .partitions import Cut, bridge, halves, ring, single


def heard(ids: list[int], cut: Cut) -> dict[int, set[int]]:
    return {b: {a for a in ids if (a, b) not in cut} for b in ids}


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7])
def test_on_a_ring_everybody_hears_a_majority_and_nobody_all_the_same(count: int) -> None:
    ids = list(range(1, count + 1))

    sets = heard(ids, ring(ids))

    assert all(len(group) > count // 2 for group in sets.values())
    if count > 3:
        assert len({tuple(sorted(group)) for group in sets.values()}) == count


def test_two_halves_hear_each_other_only_through_the_bridge() -> None:
    sets = heard([1, 2, 3, 4, 5], bridge([1, 2, 3, 4, 5]))

    assert sets == {1: {1, 2, 3}, 2: {1, 2, 3}, 3: {1, 2, 3, 4, 5}, 4: {3, 4, 5}, 5: {3, 4, 5}}


def test_halves_and_single_hear_only_themselves() -> None:
    assert heard([1, 2, 3], halves([1, 2, 3])) == {1: {1}, 2: {2, 3}, 3: {2, 3}}
    assert heard([1, 2, 3], single([2, 1, 3])) == {1: {1, 3}, 2: {2}, 3: {1, 3}}
