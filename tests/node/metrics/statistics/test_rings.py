"""Rings of points: what is there, and what is not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.metrics.statistics import rings
from hstore.node.metrics.statistics.rings import Ring, Rings
from hstore.node.model.statistics import SERIES, SPANS, Question, Span, numbers_of, step_for

NODE = f"{1:016x}"


def ring_of(*slots: int, size: int = 5) -> Ring:
    ring = Ring(Span(1, size), ("a",))
    for slot in slots:
        ring.put(slot, (float(slot),))
    return ring


def seen(ring: Ring, start: int, end: int) -> list[float | None]:
    return [None if math.isnan(one) else one for one in ring.points(("a",), start, end)["a"]]


def filled() -> Rings:
    """Rings whose finest has a point for each of the last ten seconds before 2,000 s."""
    found = Rings()
    for second in range(1990, 2000):
        found.rings[0].put(second, tuple(float(second) for _ in SERIES))
    return found


def test_what_was_left_out_is_not_known():
    assert seen(ring_of(10, 12, 13), 10, 15) == [10, None, 12, 13, None]


def test_the_newest_points_take_the_place_of_the_oldest():
    ring = ring_of(*range(10, 18))
    assert ring.oldest == 13
    assert seen(ring, 13, 18) == [13, 14, 15, 16, 17]


def test_a_gap_longer_than_the_ring_leaves_nothing_of_before():
    ring = ring_of(10, 11, 40)
    assert (ring.oldest, seen(ring, 36, 41)) == (40, [None, None, None, None, 40])


def test_points_of_a_time_that_comes_again_are_forgotten():
    ring = ring_of(10, 11, 12, 13)
    ring.put(11, (99.0,))
    assert seen(ring, 10, 14) == [10, 99, None, None]
    assert ring.last == 11


def test_a_clock_far_in_the_past_begins_anew():
    ring = ring_of(10, 11, 12, 3)
    assert (ring.oldest, ring.last, seen(ring, 3, 5)) == (3, 3, [3, None])


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.integers(1, 7))
def test_a_ring_shows_what_a_list_of_all_points_would(slots, size):
    ring = Ring(Span(1, size), ("a",))
    known: dict[int, float] = {}
    for value, slot in enumerate(slots):
        ring.put(slot, (float(value),))
        known = {at: one for at, one in known.items() if slot - size < at < slot}
        known[slot] = float(value)
        if ring.oldest == slot:
            known = {slot: float(value)}
    last = slots[-1]
    assert ring.last == last
    expected = [known.get(at) for at in range(ring.oldest, last + 1)]
    assert seen(ring, ring.oldest, last + 1) == expected


def test_all_rings_together_are_far_below_their_bound():
    sizes = [len(data) for ring in Rings().rings for data in ring.packed().values()]
    assert sum(sizes) == 7080 * 13 * 8 < (8 << 20) / 10
    assert [(span.step * span.points) for span in SPANS] == [600, 6 * 3600, 7 * 86400]


def test_an_answer_begins_with_the_first_point_there_is():
    found = filled().answer(Question(("keys",), 1), 2_000_000)
    assert (found.step, found.since_ms) == (1, 1_990_000)
    assert list(numbers_of(found.series["keys"])) == [float(at) for at in range(1990, 2000)]


def test_an_answer_has_only_what_was_asked_for():
    found = filled().answer(Question(("keys", "dns_per_s"), 1, 1_996_001), 2_000_000)
    assert found.since_ms == 1_997_000
    assert {name: len(data) // 8 for name, data in found.series.items()} == {
        "keys": 3,
        "dns_per_s": 3,
    }
    assert filled().answer(Question(("keys",), 1, 10**15), 2_000_000).series == {"keys": b""}
    assert Rings().answer(Question(("keys",), 1), 2_000_000).series == {"keys": b""}


def test_the_second_that_is_about_to_be_written_is_not_shown_as_unknown():
    found = filled().answer(Question(("keys",), 1, 1_999_000), 2_001_010)
    assert len(found.series["keys"]) == 8


def test_a_node_that_counts_no_more_shows_that():
    found = filled().answer(Question(("keys",), 1, 1_998_000), 2_005_500)
    assert [math.isnan(one) for one in numbers_of(found.series["keys"])] == [False] * 2 + [True] * 4
    much_later = filled().answer(Question(("keys",), 1), 9_000_000)
    assert len(much_later.series["keys"]) == 600 * 8
    assert all(math.isnan(one) for one in numbers_of(much_later.series["keys"]))


def test_a_step_that_is_not_kept_is_answered_with_the_finest():
    assert filled().answer(Question(("keys",), 7), 2_000_000).step == 1


@pytest.mark.parametrize(
    ("ago_s", "step"), [(5, 1), (600, 1), (601, 15), (21600, 15), (21601, 120), (10**6, 120)]
)
def test_the_finest_step_that_reaches_back_is_taken(ago_s, step):
    assert step_for(2_000_000_000 - ago_s * 1000, 2_000_000_000) == step
    assert step_for(0, 2_000_000_000) == 1


@pytest.mark.parametrize(("ago_s", "step"), [(600, 1), (21600, 15), (604800, 120)])
@pytest.mark.parametrize("on_the_way_ms", [1, 40, 999])
def test_a_question_for_the_whole_of_a_ring_is_not_too_late_for_it(ago_s, step, on_the_way_ms):
    asked_ms = 2_000_000_000
    assert step_for(asked_ms - ago_s * 1000, asked_ms + on_the_way_ms) == step


def test_what_is_packed_comes_out_again():
    before, after = filled(), Rings()
    assert rings.unpack(after, rings.pack(before, NODE), NODE) == ""
    question = Question(SERIES, 1)
    assert after.answer(question, 2_000_000) == before.answer(question, 2_000_000)
    assert after.newest() == before.newest() == (1_999_000, dict.fromkeys(SERIES, 1999.0))


def test_the_figures_of_another_node_are_not_taken_over():
    found = Rings()
    assert "is of node" in rings.unpack(found, rings.pack(filled(), f"{2:016x}"), NODE)
    assert found.newest() == (0, {})


@given(st.binary(max_size=200))
def test_bytes_that_are_no_rings_are_not_taken_over(content):
    found = Rings()
    assert rings.unpack(found, content, NODE)
    assert found.newest() == (0, {})


def test_a_ring_of_another_size_is_left_out():
    ring = ring_of(1, 2, 3)
    assert not ring.load(1, 3, {"a": b"12345678"})
    assert not ring.load(3, 1, {"a": bytes(5 * 8)})
    assert seen(ring, 1, 4) == [1, 2, 3]
    assert ring.load(7, 8, {"unknown": bytes(5 * 8)})
