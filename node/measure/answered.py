"""What an HTTP server has answered: how often by route, method and status, and how long it took.

A server has one `Tally` for each route and method, so that an answer is counted by one look-up among a
few statuses, and no label is built for it. What a request waited for on purpose (a blocking query, a
watch) is counted and not timed: it says nothing of the node's speed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

from .histogram import SECONDS, Histogram, Reading

OTHER = "other"
"""The route and method of requests for which there is no route, and of what is no request."""

_STATUS = len(b"HTTP/1.1 ")
_TWO = ord("2")

NOT_TIMED = -1.0
"""In place of a moment: how long the answer took says nothing."""


class Tally:
    """The answers to one method of one route.

    Attributes:
        route: The route's pattern, such as `/v1/kv/{key}`.
        method: The method.
        is_write: Whether it changes something.
        count: How many there were.
        failures: Of them, those of another status than 200, by the three digits that were sent.
        seconds: From a whole request until its answer was handed over.
    """

    __slots__ = ("count", "failures", "is_write", "method", "route", "seconds")

    def __init__(self, route: str, method: str, *, is_write: bool = False) -> None:
        self.route = route
        self.method = method
        self.is_write = is_write
        self.count = 0
        self.failures: dict[bytes, int] = {}
        self.seconds = Histogram()

    @property
    def statuses(self) -> dict[str, int]:
        """How many answers there were of each status."""
        failures = {status.decode(): count for status, count in self.failures.items()}
        good = self.count - sum(failures.values())
        return {"200": good, **failures} if good else failures

    def answered(self, whole: bytes, began: float, now: float) -> None:
        """Count an answer.

        Args:
            whole: The answer, or its head.
            began: When its request was whole, in seconds of the clock of `now`; or `NOT_TIMED`.
            now: When the answer is handed over.
        """
        self.count += 1
        if whole[_STATUS] != _TWO:  # Of the statuses that say success only 200 is ever sent.
            status = whole[_STATUS : _STATUS + 3]
            self.failures[status] = self.failures.get(status, 0) + 1
        if began >= 0:
            took, seconds = now - began, self.seconds
            # `Histogram.observe`, without the call: this is for every request.
            seconds.counts[bisect_left(seconds.bounds, took)] += 1
            seconds.total += took


def unknown() -> Tally:
    """Return the tally of what has no route."""
    return Tally(OTHER, OTHER)


class Served(NamedTuple):
    """What a server serves now.

    Attributes:
        connections: How many there are.
        waiting: Reads that wait for a change.
        streams: Answers without end: watches and streams of events.
        evicted: Connections that had to make room for others, since the start.
    """

    connections: int = 0
    waiting: int = 0
    streams: int = 0
    evicted: int = 0


Reason = Literal["connections", "streams", "waits", "bodies", "unsent", "requests"]
"""What a server has too much of, so that it refuses a request."""


class Answered:
    """All that one server has answered, and what it refused for lack of room.

    Attributes:
        tallies: By number of the route; the first is of what has no route.
        shed: Requests that were refused, or cut off, by what there was too much of.
        served: Returns what is served now; set by the server.
    """

    def __init__(self, tallies: Iterable[Tally] = ()) -> None:
        self.tallies = [*tallies] or [unknown()]
        self.shed: dict[Reason, int] = dict.fromkeys(get_args(Reason), 0)
        self.served: Callable[[], Served] = Served

    @property
    def requests(self) -> int:
        """How many requests were answered."""
        return sum(tally.count for tally in self.tallies)

    @property
    def writes(self) -> int:
        """How many of them were to change something."""
        return sum(tally.count for tally in self.tallies if tally.is_write)

    def seconds(self, *, writes_only: bool = False) -> Reading:
        """Return how long the answers took that are timed, of all routes together."""
        counts, total = [0] * (len(SECONDS) + 1), 0.0
        for tally in self.tallies:
            if tally.count and (tally.is_write or not writes_only):
                counts = [a + b for a, b in zip(counts, tally.seconds.counts, strict=True)]
                total += tally.seconds.total
        return Reading(tuple(counts), total)
