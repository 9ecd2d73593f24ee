"""The series of one node for scrapers: Prometheus' text, OpenMetrics, and Consul's JSON.

A registry per node, with one collector that reads the counters when it is asked; so nothing is global,
and several nodes in one process do not mix. There are no `_created` series: a collector of its own
makes none, and each would double the number of lines.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from . import consul_form, series
from .figures import Figures
from .process import process


class Exposition(Collector):
    """Shows the figures of one node.

    Args:
        figures: What is shown.
    """

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self, accept: str) -> tuple[str, bytes]:
        """Return all series in the form that a scraper accepts best.

        Args:
            accept: The `Accept` header; empty, or not to be understood: plain Prometheus text.

        Returns:
            The content type, and the body.
        """
        try:
            # The answer's type repeats what it takes for a version.
            encode, content_type = choose_encoder(accept if accept.isascii() else "")
        except (TypeError, ValueError):  # It names a version that is no number.
            encode, content_type = choose_encoder("")
        return content_type, encode(self._registry)

    def consul(self) -> bytes:
        """Return all series as Consul's `/v1/agent/metrics` has them."""
        return consul_form.encode(self._registry.collect())

    def collect(self) -> Iterator[Metric]:
        """Read all counters (`prometheus_client.registry.Collector`)."""
        figures = self._figures
        of = figures.sources
        margin, is_voter_missing = figures.quorum()
        yield from series.build(figures.started_at)
        yield from series.consensus(of, margin)
        yield from series.peers(of)
        yield from series.disk(of)
        yield from series.keys(of)
        yield from series.http(figures.http)
        yield from series.dns(figures.dns, figures.dns_seconds)
        yield from series.services(of)
        yield from series.loop(of, figures.log_lines_dropped(), figures.descriptors())
        yield from series.alarms(of, margin, is_voter_missing=is_voter_missing)
        yield from process()
