"""Reads what the rooms of one node have counted: the same figures for metrics and statistics."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from hstore.dns.server import DnsServer

from ..measure.answered import Answered
from ..measure.histogram import Histogram, Reading
from .sources import Sources

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Totals(NamedTuple):
    """What a node has done since its process started, and how it is now.

    The readings are of `measure.histogram.SECONDS`. All but the last four only rise.

    Attributes:
        requests: HTTP requests that were answered.
        writes: Of these, those that were to change something.
        dns_queries: DNS queries that came in.
        request_seconds: How long answers took, but those that waited for a change on purpose.
        write_seconds: Of these, the writes.
        fsync_seconds: How long each flush of the log took.
        loop_lag: How long the event loop kept others waiting, at each time that it did.
        memory_bytes: Of the process, resident.
        disk_used_bytes: Of the database's tables and logs.
        disk_free_bytes: What this process may still write.
        keys: Keys of users; None: they are being counted.
    """

    requests: int
    writes: int
    dns_queries: int
    request_seconds: Reading
    write_seconds: Reading
    fsync_seconds: Reading
    loop_lag: Reading
    memory_bytes: int
    disk_used_bytes: int
    disk_free_bytes: int
    keys: int | None


class Figures:
    """The figures of one node.

    Attributes:
        sources: The rooms that count.
        started_at: When it was made, in seconds since the epoch.
        http: What its HTTP server has answered; set by whoever makes the server.
        dns: Its DNS server; likewise.
        dns_seconds: How long DNS queries took that were answered at once; whoever makes the server has
            it observe here.
        log_lines_dropped: Returns how many lines of the log were lost; set by whoever has the log.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.started_at = time.time()
        self.log_lines_dropped: Callable[[], int] = lambda: 0
        self.http = Answered()
        self.dns: DnsServer | None = None
        self.dns_seconds = Histogram()

    def totals(self) -> Totals:
        """Return the totals; takes less than a millisecond.

        Raises:
            StorageError: The disk has failed.
        """
        http, replica = self.http, self.sources.replica
        disk = replica.storage.figures()
        return Totals(
            requests=http.requests,
            writes=http.writes,
            dns_queries=self.dns.stats.queries if self.dns is not None else 0,
            request_seconds=http.seconds(),
            write_seconds=http.seconds(writes_only=True),
            fsync_seconds=replica.flushes.seconds.read(),
            loop_lag=self.sources.loop_lag.read(),
            memory_bytes=memory_bytes(),
            disk_used_bytes=disk.used_bytes,
            disk_free_bytes=replica.disk_space.room.free,
            keys=self.sources.replica.facts.key_count,
        )

    def quorum(self) -> tuple[int, bool]:
        """Return the live voters less those that a quorum needs, and whether any voter is not live."""
        config, live = self.sources.replica.facts.config, self.sources.status.live_members()
        halves = [half for half in (config.voters, config.outgoing) if half]
        margins = [len(live.intersection(half)) - (len(half) // 2 + 1) for half in halves]
        is_missing = any(not live.issuperset(half) for half in halves)
        return min(margins, default=0), is_missing

    def descriptors(self) -> dict[str, int]:
        """Return how many file descriptors are in use, by use.

        `rest` has the database's files and the process's own; the system tells it since Linux 6.2.
        """
        http, dns, sources = self.http.served(), self.dns, self.sources
        found = {
            "clients": http.connections - http.streams,
            "streams": http.streams,
            "dns": dns.connections if dns is not None else 0,
            "recursors": dns.in_flight if dns is not None else 0,
            "peers": sources.links.connections(),
            "checks": sources.checks.descriptors,
        }
        rest = open_files() - sum(found.values())
        return {**found, "rest": rest} if rest > 0 else found


def open_files() -> int:
    """Return how many file descriptors this process has; 0: the system does not tell without a list."""
    with suppress(OSError):
        return os.stat("/proc/self/fd").st_size  # noqa: PTH116 - as below
    return 0


def memory_bytes() -> int:
    """Return the resident memory of this process; 0: the system does not tell."""
    with suppress(OSError, ValueError, IndexError), open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - twice as fast
        return int(file.read().split()[1]) * _PAGE_BYTES
    return 0
