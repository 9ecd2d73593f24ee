"""Short ways to make the families of `prometheus-client` from what was counted in plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from ..measure.histogram import Histogram

Labelled = Mapping[Any, float]
"""Values by the values of their labels, which are tuples of texts."""


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a figure as of now."""
    return GaugeMetricFamily(f"hstore_{name}", text, value=float(value))


def gauges(name: str, text: str, labels: tuple[str, ...], values: Labelled) -> Metric:
    """Return figures as of now, by their labels."""
    family = GaugeMetricFamily(f"hstore_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def counter(name: str, text: str, value: float) -> Metric:
    """Return a total that only rises; `name` is without `_total`."""
    return CounterMetricFamily(f"hstore_{name}", text, value=value)


def counters(name: str, text: str, labels: tuple[str, ...], values: Labelled) -> Metric:
    """Return totals that only rise, by their labels."""
    family = CounterMetricFamily(f"hstore_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def histogram(name: str, text: str, observed: Histogram) -> Metric:
    """Return a histogram."""
    family = HistogramMetricFamily(f"hstore_{name}", text)
    family.add_metric((), *_cumulative(observed))
    return family


def histograms(
    name: str, text: str, label: str, observed: Iterable[tuple[str, Histogram]]
) -> Metric:
    """Return histograms, by one label."""
    family = HistogramMetricFamily(f"hstore_{name}", text, labels=(label,))
    for value, one in observed:
        family.add_metric((value,), *_cumulative(one))
    return family


def _cumulative(observed: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Return cumulative buckets, each with its bound as a text, and the sum."""
    bounds = [*map(str, observed.bounds), "+Inf"]
    counts: Iterable[float] = accumulate(observed.counts)
    return list(zip(bounds, counts, strict=True)), observed.total
