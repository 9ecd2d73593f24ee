"""Which points are true: rates, quantiles, and the gaps where nothing is known."""

from __future__ import annotations

import math

import pytest
import trio

from hstore.node.measure.histogram import Histogram
from hstore.node.metrics.figures import Totals
from hstore.node.metrics.statistics.rings import Rings
from hstore.node.metrics.statistics.sampler import Sampler
from hstore.node.model.statistics import SERIES

EPOCH = 120_000.0


class FakeNode:
    """Counts, on a clock that can be set: its time of day is `EPOCH` at the start."""

    def __init__(self) -> None:
        self.requests = self.keys = 0
        self.http, self.other = Histogram(), Histogram()
        self.set_by = self.began_at = 0.0
        self.rings = Rings()
        self.sampler = Sampler(self.rings, self.totals, self.wall)

    def wall(self) -> float:
        return EPOCH + trio.current_time() - self.began_at + self.set_by

    def totals(self) -> Totals:
        none = self.other.read()
        return Totals(self.requests, 0, 0, self.http.read(), none, none, none, 5, 6, 7, self.keys)

    async def run(self, seconds: float, per_second: int = 0) -> None:
        """Let time pass, with requests spread evenly over it."""
        for _ in range(round(seconds * 10)):
            self.requests += per_second // 10
            await trio.sleep(0.1)

    def points(self, ring: int, name: str) -> list[float | None]:
        one = self.rings.rings[ring]
        if one.last < 0:
            return []
        found = one.points((name,), one.oldest, one.last + 1)[name]
        return [None if math.isnan(value) else value for value in found]

    def when(self, ring: int) -> tuple[int, int]:
        """Return the first and the last second of the points, counted from the start."""
        one = self.rings.rings[ring]
        return one.oldest * one.step - int(EPOCH), (one.last + 1) * one.step - int(EPOCH)


@pytest.fixture
async def node(nursery):
    found = FakeNode()
    found.began_at = trio.current_time() + 0.6
    nursery.start_soon(found.sampler.run)
    await trio.sleep(0.65)  # The first reading is at `EPOCH`.
    return found


async def test_a_rate_is_the_difference_of_two_readings(node, autojump_clock):
    await node.run(5.5, per_second=50)
    assert node.points(0, "requests_per_s") == [pytest.approx(50, abs=5)] * 5
    assert node.when(0) == (0, 5)


async def test_coarser_rings_have_the_mean_and_the_quantiles_of_their_whole_step(
    node, autojump_clock
):
    for second in range(31):
        node.http.observe(0.002)
        node.http.observe(0.2 if second in {20, 21} else 0.002)
        node.keys = second
        await node.run(1, per_second=20 if second < 15 else 200)
    first, second = node.points(1, "requests_per_s")
    assert first == pytest.approx(20, abs=2)
    assert second == pytest.approx(200, abs=2)
    low, high = node.points(1, "http_p99_ms")
    assert low is not None
    assert high is not None
    assert low <= 2.5
    assert 100 < high <= 250
    assert node.points(1, "http_p50_ms")[1] <= 2.5
    assert node.points(1, "keys")[1] >= 29  # the last, not the mean
    assert node.points(2, "keys") == []  # two minutes are not over


async def test_what_was_not_observed_has_no_quantile(node, autojump_clock):
    await node.run(3.5)
    assert node.points(0, "http_p50_ms") == [None] * 3
    assert node.points(0, "requests_per_s") == [0.0] * 3
    assert node.points(0, "memory_bytes") == [5.0] * 3
    assert set(SERIES) == set(node.rings.rings[0].packed())


async def test_a_process_that_was_suspended_leaves_a_gap_and_no_peak(node, autojump_clock):
    await node.run(20.2, per_second=10)
    node.requests += 10_000  # while nobody could look
    autojump_clock.jump(9.0)
    await node.run(20, per_second=10)
    rates = node.points(0, "requests_per_s")
    assert max(one for one in rates if one is not None) < 20
    assert rates[20:29].count(None) >= 8
    assert rates[30] is not None
    coarse = node.points(1, "requests_per_s")
    assert coarse[0] == pytest.approx(10, abs=1)
    assert coarse[1] is not None  # the reading at its end came in time


async def test_a_suspension_beyond_the_end_of_a_step_leaves_that_step_out(node, autojump_clock):
    await node.run(25.2, per_second=10)
    node.requests += 10_000
    autojump_clock.jump(30.0)
    await node.run(22, per_second=10)
    first, *gap, last = node.points(1, "requests_per_s")
    assert gap == [None] * 3
    assert (first, last) == (pytest.approx(10, abs=1), pytest.approx(10, abs=1))


async def test_a_short_stall_is_spread_over_its_seconds(node, autojump_clock):
    await node.run(5.2, per_second=10)
    autojump_clock.jump(2.0)
    await node.run(3)
    assert None not in node.points(0, "requests_per_s")


@pytest.mark.parametrize("by", [30.0, -30.0])
async def test_a_clock_that_is_set_makes_no_wrong_point(node, autojump_clock, by):
    await node.run(20.2, per_second=10)
    node.set_by = by
    await node.run(30, per_second=10)
    rates = [one for one in node.points(0, "requests_per_s") if one is not None]
    assert max(rates) < 20
    assert min(rates[1:-1]) > 5
    assert node.when(0)[1] == 50 + by
    if by > 0:
        assert node.points(0, "requests_per_s")[21:50] == [None] * 29


@pytest.mark.parametrize("by", [86400.0 * 365, -86400.0])
async def test_a_clock_that_is_far_off_for_a_moment_overwrites_nothing(node, autojump_clock, by):
    await node.run(20.2, per_second=10)
    node.set_by = by
    await node.run(30)
    node.set_by = 0.0
    await node.run(30)
    assert node.when(0) == (0, 20)
    await node.run(60, per_second=10)
    assert node.when(0)[0] == 0
    assert node.when(0)[1] >= 138
    assert node.points(0, "requests_per_s")[15] == pytest.approx(10, abs=5)


async def test_a_clock_that_stays_where_it_was_set_is_believed_after_a_minute(node, autojump_clock):
    await node.run(20.2)
    node.set_by = 86400.0
    await node.run(70)
    assert node.when(0)[0] > 86400
    assert len(node.points(0, "requests_per_s")) < 12


async def test_after_a_restart_in_another_time_the_clock_is_doubted(node, autojump_clock, nursery):
    node.rings.rings[2].put(int(EPOCH / 120) + 5000, [1.0] * len(SERIES))
    node.sampler.begin()
    await node.run(30.2)
    assert node.rings.rings[0].last == -1
    await node.run(40)
    assert node.rings.rings[0].last > 0


async def test_after_a_usual_restart_it_is_not(node, autojump_clock):
    node.rings.rings[2].put(int(EPOCH / 120) - 10, [1.0] * len(SERIES))
    node.sampler.begin()
    await node.run(5)
    assert node.rings.rings[0].last > 0
