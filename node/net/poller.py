"""Many sockets watched by one task: one wake-up for all that has come, and a call for each socket.

Trio wakes one task for each socket, and has the kernel told anew before each wait; on the way of
every request that is more than half of its cost. Here the sockets are in an epoll of their own,
once for all (edge-triggered), which Trio watches as if it were a socket. Whoever is called reads
what has come, and returns without having waited for anything.

After each batch of calls comes one call of `after_batch`: what they have left to be done together.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

import trio

from .lag import Lag

Ready = Callable[[], None]
"""Called when something has come, or the other end is gone. It must not raise, nor wait."""

_EVENTS_MAX = 64
"""Calls in a batch, at some 50 us each with what comes of them."""

_BATCHES_MAX = 4
_BATCHES_S = 0.003
"""So many batches, as long as they take no longer than this, before other tasks have their go."""


def _nothing() -> None:
    """Stand in for what nobody has set."""


class Poller:
    """The sockets of a node that are watched together.

    Attributes:
        before_batch, after_batch: Called around each batch of calls.
        lag: Told how long the batches took.
    """

    def __init__(self) -> None:
        """Watch nothing yet; needs epoll, so Linux (see `can_poll`)."""
        self.before_batch: Ready = _nothing
        self.after_batch: Ready = _nothing
        self.lag = Lag()
        self._epoll = select.epoll()
        self._watched: dict[int, Ready] = {}
        self._again: list[Ready] = []

    def watch(self, fd: int, ready: Ready) -> None:
        """Call `ready` each time that something new has come; at once, if there is something now.

        It is called for what comes, not for what is left: it reads until there is no more, or
        says `again`. It may be called once more after `forget`.
        """
        if self._epoll.closed:
            return  # All is at its end.
        self._watched[fd] = ready
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, fd: int) -> None:
        """Watch it no more; to be said before it is closed."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def again(self, ready: Ready) -> None:
        """Call `ready` in the next batch. Only during a batch: else there may be no next."""
        self._again.append(ready)

    async def run(self) -> None:
        """Watch until cancelled; whatever is called raises through here, and ends the node."""
        while True:
            if self._again:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            began_at = time.perf_counter()
            took = 0.0
            for _ in range(_BATCHES_MAX):
                found = self._epoll.poll(0, _EVENTS_MAX)
                if not found and not self._again:
                    break
                self._batch(found)
                took = time.perf_counter() - began_at
                if took > _BATCHES_S:
                    break
            self.lag.note(took)

    def _batch(self, found: list[tuple[int, int]]) -> None:
        again, self._again = self._again, []
        self.before_batch()
        watched = self._watched
        for fd, events in found:
            ready = watched.get(fd)
            if ready is not None:
                ready()
                if events != select.EPOLLIN:
                    # Its end has come together with the last that it sent, and is told only once.
                    self._again.append(ready)
        for ready in again:
            ready()
        self.after_batch()

    def close(self) -> None:
        """Give the epoll up; the sockets stay their owners'."""
        self._watched.clear()
        self._again.clear()
        if not self._epoll.closed:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()


def can_poll() -> bool:
    """Whether this system has what a poller needs; without it, each socket has its own task."""
    return hasattr(select, "epoll")
