"""Makes durable what turns have written, and sends the messages that wait for it (rule D1).

One flush is under way at a time; what is written meanwhile goes into the next. That is the group
commit. Where the storage can, its thread reports the end to the poller, and no task has to wake up.
Where nothing follows from the end, as mostly at a follower, nothing wakes up at all: the next turn
takes the end (`take_end`).
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Sequence

import structlog
import trio

from ..config.log_limit import LogLimit
from ..measure.histogram import Histogram
from ..net.flag import Flag
from ..raft.errors import CoreBug
from ..raft.messages import Message
from ..raft.update import Persist
from ..storage.interface import Storage

Ended = Callable[[int, Sequence[Message]], None]
"""Called with the number of the last write that a flush has covered, and with those of the messages
that waited for it which have not been sent yet."""

_SLOW_S = 1.0
"""From here on a flush is worth a line of the log (etcd's server/storage/wal/wal.go,
warnSyncDuration): so long, no write is acknowledged by this node."""

_TOLD_AGAIN_S = 10.0

_TIMES_MAX = 64
_RECENT_S = 10.0
"""`median_ms` is of the last 64 flushes, as far as they ended in the last ten seconds."""

_log = structlog.get_logger()

Send = Callable[[Message], bool]
"""Sends a message from any thread, without waiting; False: it cannot."""


class Flushes:
    """The flushes of one node.

    Attributes:
        count: How many there were.
        seconds: How long each took, from its beginning until its messages have left.
    """

    def __init__(self, storage: Storage, send: Send, ended: Ended) -> None:
        """Flush nothing yet; `ended` is called after each flush that covers a write."""
        self.count = 0
        self.seconds = Histogram()
        self._storage = storage
        self._send = send
        self._ended = ended
        self._written_seq = self._covered_seq = 0
        self._then: list[Message] = []
        self._covers: tuple[int, list[Message]] | None = None
        self._to_await = Flag()
        self._lock = trio.Lock()
        self._begun_at = 0.0
        self._ended_at: float | None = None
        self._now: Callable[[], float] = trio.current_time
        self._times: deque[tuple[float, float]] = deque(maxlen=_TIMES_MAX)
        self._log_limit = LogLimit(_TOLD_AGAIN_S)

    @property
    def is_behind(self) -> bool:
        """Whether something is written that no flush has covered yet."""
        return self._written_seq != self._covered_seq

    def median_ms(self) -> float | None:
        """Return the median of the last flushes in milliseconds; None: there was none for a while.

        Each is timed from its beginning until its messages have left.
        """
        oldest = trio.current_time() - _RECENT_S
        took = [seconds for ended_at, seconds in self._times if ended_at >= oldest]
        return round(statistics.median(took) * 1000, 3) if took else None

    @property
    def is_under_way(self) -> bool:
        """Whether a flush is under way, or has ended and nobody was told."""
        return self._covers is not None

    @property
    def is_more_written(self) -> bool:
        """Whether the next flush has to begin when the one that is under way has ended."""
        return self._covers is not None and self._covers[0] != self._written_seq

    def take_end(self) -> None:
        """Learn now of the end of a flush that nobody was told of."""
        if self._covers is not None:
            self._storage.take_flush_end()

    def want_end(self, *, is_wanted: bool) -> None:
        """Whether the end of the flush that is under way has to take a turn."""
        self._storage.want_flush_end(is_wanted=is_wanted)

    def written(self, persist: Persist) -> None:
        """Cover this write by a flush that begins from now on: at once, unless one is under way."""
        self._written_seq = persist.seq
        self._then += persist.then
        self.begin()

    def begin(self) -> None:
        """Begin a flush if there is something to cover, and none is under way.

        Raises:
            StorageError: The disk has failed before.
        """
        if self._covers is not None or not self.is_behind:
            return
        self._covers, self._then = (self._written_seq, self._then), []
        # The clock can be asked from any thread, `trio.current_time` from that of the loop.
        self._now = trio.lowlevel.current_clock().current_time
        self._begun_at, self._ended_at = self._now(), None
        if self._storage.flush_soon(self._end, self._let_go):
            self.count += 1
        else:
            self._to_await.set()

    def _let_go(self) -> bool:
        """Send the messages that waited for this flush; in the storage's thread, beside the loop.

        Returns: whether some are left, for the loop.
        """
        is_left = False
        if self._covers is not None and self._covers[1]:
            seq, then = self._covers
            left = [message for message in then if not self._send(message)]
            self._covers, is_left = (seq, left), bool(left)
        self._ended_at = self._now()
        return is_left

    def _end(self) -> None:
        """The flush is over: what was written when it began is durable."""
        if self._covers is None:
            raise CoreBug("a flush has ended that was not begun")
        (seq, then), self._covers = self._covers, None
        self._covered_seq = seq
        ended_at = trio.current_time() if self._ended_at is None else self._ended_at
        took_s = ended_at - self._begun_at
        self._times.append((ended_at, took_s))
        self.seconds.observe(took_s)
        if took_s >= _SLOW_S and self._log_limit.is_due("slow"):
            _log.warning("a flush to disk was slow", took_ms=round(took_s * 1000))
        self._ended(seq, then)

    def look(self) -> None:
        """Time has passed: log a flush that is under way for too long. It may never end."""
        if self._covers is None or self._ended_at is not None:
            return
        under_way_s = trio.current_time() - self._begun_at
        if under_way_s >= _SLOW_S and self._log_limit.is_due("under way"):
            _log.warning("a flush to disk does not end", under_way_ms=round(under_way_s * 1000))

    async def run(self) -> None:
        """Await the flushes whose end the storage does not report by itself."""
        while True:
            await self._to_await.wait()
            await self.now()
            self._end()

    async def now(self) -> None:
        """Make durable what is written; one flush at a time, as the storage requires.

        Raises:
            StorageError: The node must stop.

        Cancellation: nothing may be concluded from it.
        """
        async with self._lock:
            await self._storage.flush()
        self.count += 1
