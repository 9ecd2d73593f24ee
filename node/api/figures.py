"""What the API asks of the figures of a node: as they are now, and over time.

In a node, `metrics/exposition.py` and `metrics/statistics/history.py` implement the protocols.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..model.statistics import Points, Question


class Metrics(Protocol):
    """The figures of this node for other programs; they cost a few milliseconds, and need no leader."""

    def text(self, accept: str) -> tuple[str, bytes]:
        """Return all series for a scraper, in the form that its `Accept` header asks for.

        Returns:
            The content type, and the body.
        """
        ...

    def consul(self) -> bytes:
        """Return all series as Consul's `/v1/agent/metrics` has them."""
        ...


class NoMetrics:
    """The `Metrics` of a node that counts nothing."""

    def text(self, accept: str) -> tuple[str, bytes]:
        """Show nothing."""
        return "text/plain; version=0.0.4; charset=utf-8", b""

    def consul(self) -> bytes:
        """Show nothing."""
        return b"{}"


class Statistics(Protocol):
    """The figures that each member keeps of itself over time."""

    def now_ms(self) -> int:
        """Return the time of day of this node, in milliseconds since 1970."""
        ...

    def newest(self) -> tuple[int, dict[str, float]]:
        """Return the newest point: when its second began, in ms since 1970, and its known figures."""
        ...

    async def gather(self, members: Iterable[int], question: Question) -> dict[int, Points]:
        """Return the answers of members, by id; one that did not answer in time is left out.

        Raises:
            Overloaded: Too many requests wait for such answers.
        """
        ...


class NoStatistics:
    """The `Statistics` of a node that keeps none."""

    def now_ms(self) -> int:
        """Return the beginning of time."""
        return 0

    def newest(self) -> tuple[int, dict[str, float]]:
        """Return no point."""
        return 0, {}

    async def gather(self, members: Iterable[int], question: Question) -> dict[int, Points]:
        """Return no answer."""
        del members, question
        return {}


NO_METRICS = NoMetrics()
NO_STATISTICS = NoStatistics()
