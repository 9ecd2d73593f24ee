"""A histogram of fixed buckets: an observation costs one search among them and two additions.

No lock and no labels: one thread observes, and the reader takes what is there. The exporter makes
cumulative buckets of it only when it is asked (`hstore.node.metrics`), and the statistics take the
difference of two readings, from which a quantile of the time between them is estimated.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
"""Upper bounds, in seconds, for what takes from a tenth of a millisecond to ten seconds."""


class Reading(NamedTuple):
    """A histogram as of one moment.

    Attributes:
        counts: Observations per bucket, not cumulative; the last is of those above every bound.
        total: The sum of all observations, in their unit.
    """

    counts: tuple[int, ...]
    total: float

    def since(self, before: Reading) -> Reading:
        """Return what was observed after `before`, an earlier reading of the same histogram."""
        counts = tuple(new - old for new, old in zip(self.counts, before.counts, strict=True))
        return Reading(counts, self.total - before.total)


class Histogram:
    """Observations by size.

    Attributes:
        bounds: Upper bounds of the buckets, inclusive and ascending.
        counts: Observations per bucket, not cumulative; the last is of those above every bound.
        total: The sum of all observations.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, value: float, count: int) -> None:
        """Count so many observations of one value: what was done together took equally long."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count

    def read(self) -> Reading:
        """Return what was observed until now."""
        return Reading(tuple(self.counts), self.total)


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Estimate a quantile, as Prometheus' `histogram_quantile` does: linear within its bucket.

    Args:
        bounds: Upper bounds of the buckets; the first bucket begins at 0.
        counts: Observations per bucket, not cumulative, one more than there are bounds.
        share: From 0 to 1; 0.99 is p99.

    Returns:
        In the unit of the bounds; the highest bound where it lies above all of them; None where
        nothing was observed.
    """
    wanted = share * sum(counts)
    if not any(counts):
        return None
    passed, low = 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and passed + count >= wanted:
            return low + (bound - low) * max(wanted - passed, 0.0) / count
        passed, low = passed + count, bound
    return bounds[-1]
