"""The series as Consul's `/v1/agent/metrics` shows them: one object of lists by the kind of value.

Consul's are of the last ten seconds (`armon/go-metrics`, `inmem_endpoint.go`); these are since the start
of the process, as Prometheus' are, so that whoever takes the difference of two answers has both.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample


def encode(families: Iterable[Metric]) -> bytes:
    """Return the body of an answer."""
    shown: dict[str, Any] = {
        "Timestamp": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} +0000 UTC",
        "Gauges": [],
        "Points": [],
        "Counters": [],
        "Samples": [],
    }
    for family in families:
        if family.type == "counter":
            shown["Counters"] += [_sampled(s.name, s, s.value, s.value) for s in family.samples]
        elif family.type == "histogram":
            shown["Samples"] += _histograms(family)
        else:
            shown["Gauges"] += [
                {"Name": s.name, "Value": s.value, "Labels": s.labels} for s in family.samples
            ]
    return msgspec.json.encode(shown)


def _histograms(family: Metric) -> list[dict[str, Any]]:
    sums = {tuple(s.labels.items()): s.value for s in family.samples if s.name.endswith("_sum")}
    return [
        _sampled(family.name, sample, sample.value, sums.get(tuple(sample.labels.items()), 0.0))
        for sample in family.samples
        if sample.name.endswith("_count")
    ]


def _sampled(name: str, sample: Sample, count: float, total: float) -> dict[str, Any]:
    """Return a total or a histogram. What is not known of single values is 0."""
    return {
        "Name": name,
        "Count": int(count),
        "Rate": 0.0,
        "Sum": total,
        "Min": 0.0,
        "Max": 0.0,
        "Mean": total / count if count else 0.0,
        "Stddev": 0.0,
        "Labels": sample.labels,
    }
