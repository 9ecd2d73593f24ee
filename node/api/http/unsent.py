"""What clients have not taken yet: how much memory it may use, and which client is cut off beyond that.

A client that does not read costs memory: a piece of its answer, and the value that the rest of it is
made from. All connections of a server share one bound.

- Before a connection holds one more large value, it waits until there is room (`room`). Where a
  client has taken nothing for `PATIENCE_S` by then, its connection is cut off.
- What is held beyond the bound all the same (many small pieces) cuts the slowest off at once.

The slowest client is the one that has been waited for longest; the wait for a turn does not count. A
value that several connections send is in memory once, and is counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
import trio

from ...config.log_limit import LogLimit

UNSENT_BYTES_MAX = 160 * 1024 * 1024
"""What all connections may hold of unsent answers. The contract allows 256 MiB; a node has large bodies
and its database to hold beside it."""

VALUES_BYTES_MAX = 64 * 1024 * 1024
"""Up to so much being held, one more connection may begin to hold a large value. The rest is for the
pieces that are on their way."""

PATIENCE_S = 3.0
"""For how long a client may take nothing while others wait for its room."""

KERNEL_BYTES = 128 * 1024
"""What the kernel may hold of answers that a client's window has no room for. By default that is up to
4 MiB for each connection, and no part of the bound here."""

_LARGE_BYTES = 4 * 1024
"""Values from this size on are counted once, however many connections send them."""

_LOG_INTERVAL_S = 10.0

_log = structlog.get_logger(__name__)


class Holder:
    """What one connection holds.

    Attributes:
        own: Bytes that only this connection holds.
        values: Values that others may hold as well.
        waits_since: Since when its client has taken nothing, while it is waited for.
        is_cut_off: It has been cut off: what it holds is not counted any more.
        cut_off: Ends the connection soon.
        client: Its address, for the log.
    """

    __slots__ = ("client", "cut_off", "is_cut_off", "own", "values", "waits_since")

    def __init__(self, cut_off: Callable[[], None], client: Callable[[], str]) -> None:
        self.own = 0
        self.values: list[bytes] = []
        self.waits_since = 0.0
        self.is_cut_off = False
        self.cut_off = cut_off
        self.client = client

    @property
    def holds(self) -> bool:
        """Whether it holds anything."""
        return bool(self.own or self.values)


class Unsent:
    """What all connections of a server hold of answers that are not sent yet.

    Attributes:
        held: Bytes, all together.
        cut_off: How many clients were cut off.
    """

    def __init__(self, most: int = UNSENT_BYTES_MAX, values_most: int = VALUES_BYTES_MAX) -> None:
        """Hold at most `most` bytes; no further large value from `values_most` on."""
        self.held = 0
        self.cut_off = 0
        self._most = most
        self._values_most = values_most
        # Connections that hold something and wait for their clients, the longest wait first.
        self._waiting: dict[Holder, None] = {}
        # By identity: how many hold a value.
        self._values: dict[int, int] = {}
        self._queue = trio.Lock()
        self._freed = trio.lowlevel.ParkingLot()
        self._log_limit = LogLimit(_LOG_INTERVAL_S)

    @property
    def has_room(self) -> bool:
        """Whether one more large value can be held."""
        return self.held < self._values_most

    async def room(self) -> None:
        """Wait until there is room for one more large value, in the order of the calls.

        The caller holds nothing yet, and takes it before it waits for anything else.

        Cancellation: the next caller is let through.
        """
        async with self._queue:
            while not self.has_room:
                slowest, now = next(iter(self._waiting), None), trio.current_time()
                until = PATIENCE_S + (now if slowest is None else slowest.waits_since)
                if slowest is not None and until <= now:
                    self._cut_off(slowest)
                    continue
                with trio.CancelScope(deadline=until):
                    await self._freed.park()

    def wait_begins(self, holder: Holder) -> None:
        """From now on, `holder` waits for its client to take something."""
        if holder.holds:
            holder.waits_since = trio.current_time()
            self._waiting[holder] = None
            if self.held > self._most:
                self._cut_off(next(iter(self._waiting)))

    def wait_ends(self, holder: Holder) -> None:
        """The client has taken something, or the wait was cancelled."""
        self._waiting.pop(holder, None)

    def take(self, holder: Holder, size: int) -> None:
        """Count `size` more bytes."""
        if not holder.is_cut_off:
            holder.own += size
            self.held += size

    def give_back(self, holder: Holder, size: int) -> None:
        """What `take` has counted is sent."""
        if not holder.is_cut_off:
            holder.own -= size
            self._free(size)

    @contextmanager
    def holding(self, holder: Holder, values: Sequence[bytes], beside: int = 0) -> Iterator[None]:
        """Count values, and `beside` bytes, for as long as the context lasts.

        Of contexts of one holder within each other, only one may have large values.
        """
        small = beside
        for value in values:
            if len(value) < _LARGE_BYTES:
                small += len(value)
            elif not holder.is_cut_off:
                holder.values.append(value)
                count = self._values.get(id(value), 0)
                self._values[id(value)] = count + 1
                self.held += 0 if count else len(value)
        self.take(holder, small)
        try:
            yield
        finally:
            self._drop_values(holder)
            self.give_back(holder, small)

    def _drop_values(self, holder: Holder) -> None:
        for value in holder.values:
            count = self._values[id(value)] - 1
            if count:
                self._values[id(value)] = count
            else:
                del self._values[id(value)]
                self._free(len(value))
        holder.values.clear()

    def _free(self, size: int) -> None:
        self.held -= size
        if self.has_room:
            self._freed.unpark()

    def _cut_off(self, holder: Holder) -> None:
        """End the connection of a client; what it holds counts as free, and is so very soon."""
        self._drop_values(holder)
        self._free(holder.own)
        holder.own = 0
        holder.is_cut_off = True
        del self._waiting[holder]
        self.cut_off += 1
        holder.cut_off()
        if self._log_limit.is_due():
            _log.warning(
                "cut off a client that does not read its answer",
                client=holder.client(),
                silent_s=round(trio.current_time() - holder.waits_since, 1),
                count=self.cut_off,
            )
