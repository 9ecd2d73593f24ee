"""Takes a node's totals once a second, and makes points of their differences.

Owns which points are true. Each ring has a point for what happened between two readings of the
totals: rates are a mean, and quantiles come from all that was observed in that time, whatever the
step. Where the readings are not as far apart as the step the point is left out: after a start, after
the process was suspended, and where the clock was set. A gap in a chart is right, and a peak that
never was is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import trio

from ...measure.histogram import SECONDS, Reading, quantile
from ..figures import Totals
from .rings import Ring, Rings

_STALL_S = 2.5
"""A turn of the loop that takes so long, and no longer, still counts as running: the seconds that it
took share one point. A stall is what the statistics are for."""

_JUMP_S = 0.5
"""Between two readings the time of day and the time that has passed differ by less, or it was set."""

_FAR_S = 120.0
"""A clock that was set by more is not believed for `_DOUBT_S`: the time before the first answer of
NTP, or one mistaken second, must not overwrite seven days."""

_DOUBT_S = 60.0


class _Base(NamedTuple):
    """A reading of the totals, the second in which it was taken, and the time that had passed."""

    totals: Totals
    second: int
    at: float


class Sampler:
    """Fills the rings of one node.

    Args:
        rings: Where points go.
        totals: Reads the counters of the node; called once a second.
        wall: The time of day, in seconds since 1970.
    """

    def __init__(
        self, rings: Rings, totals: Callable[[], Totals], wall: Callable[[], float]
    ) -> None:
        self._rings = rings
        self._totals = totals
        self._wall = wall
        self._wall_before = self._at_before = math.nan
        self._second_before = -1
        self._bases: dict[int, _Base] = {}
        self._doubt_until = -math.inf

    def begin(self) -> None:
        """Begin after the rings were read from a file: is the clock one that goes on from there?"""
        ring = self._rings.rings[-1]
        if ring.last >= 0:
            since = self._wall() - (ring.last + 1) * ring.step
            if not -_FAR_S <= since <= ring.size * ring.step:
                self._doubt_until = trio.current_time() + _DOUBT_S

    async def run(self) -> None:
        """Take a reading at each full second, until cancelled."""
        while True:
            wall = self._wall()
            await trio.sleep(round(wall) + 1 - wall)  # Never for nearly nothing: it may wake early.
            self.sample()

    def sample(self) -> None:
        """Take a reading now; write the points of the slots that are over."""
        wall, at = self._wall(), trio.current_time()
        second = round(wall)
        passed = at - self._at_before
        jump = abs(wall - self._wall_before - passed)
        if second == self._second_before and jump < _JUMP_S:
            return  # The clock was set back a little.
        self._wall_before, self._at_before, self._second_before = wall, at, second
        base = _Base(self._totals(), second, at)
        if jump > _FAR_S:
            self._doubt_until = at + _DOUBT_S
        if not jump <= _JUMP_S or at < self._doubt_until:
            self._bases = {ring.step: base for ring in self._rings.rings}
            return
        for ring in self._rings.rings:
            before = self._bases[ring.step]
            if second // ring.step != before.second // ring.step:
                _write(ring, before, base)
                self._bases[ring.step] = base


def _write(ring: Ring, before: _Base, now: _Base) -> None:
    """Write the slots between two readings, if those are as far apart as they should be."""
    passed = now.at - before.at
    if ring.step / 2 <= passed <= ring.step + _STALL_S:
        point = _point(before.totals, now.totals, passed)
        for slot in range(before.second // ring.step, now.second // ring.step):
            ring.put(slot, point)


def _point(before: Totals, now: Totals, seconds: float) -> tuple[float, ...]:
    """Return the figures between two readings, in the order of `SERIES`."""
    http = _counts(before.request_seconds, now.request_seconds)
    writes = _counts(before.write_seconds, now.write_seconds)
    fsyncs = _counts(before.fsync_seconds, now.fsync_seconds)
    return (
        round((now.requests - before.requests) / seconds, 2),
        round((now.writes - before.writes) / seconds, 2),
        _ms(http, 0.5),
        _ms(http, 0.99),
        _ms(writes, 0.5),
        _ms(writes, 0.99),
        _ms(fsyncs, 0.5),
        _ms(fsyncs, 0.99),
        _ms(_counts(before.loop_lag, now.loop_lag), 0.99),
        round((now.dns_queries - before.dns_queries) / seconds, 2),
        float(now.memory_bytes),
        float(now.disk_used_bytes),
        math.nan if now.keys is None else float(now.keys),
    )


def _counts(before: Reading, now: Reading) -> tuple[int, ...]:
    return now.since(before).counts


def _ms(counts: tuple[int, ...], share: float) -> float:
    """Return a quantile in milliseconds; NaN: nothing was observed."""
    seconds = quantile(SECONDS, counts, share)
    return math.nan if seconds is None else round(seconds * 1000, 3)
