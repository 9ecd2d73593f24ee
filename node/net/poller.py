"""Watches many sockets with one task: one wake-up for all with input, one call for each of them.

Trio wakes one task for each socket, and registers the socket with the kernel again for each wait;
that is more than half of what a small request costs. Here the sockets are registered once, in an
epoll of their own, and Trio watches that epoll as if it were a socket. The function called for a
socket reads what has arrived and returns without waiting.

Rule 1: edge-triggered, so input is reported once. A reader that leaves some of it unread must ask
for another call itself (`again`).
Rule 2: after each batch of calls `after_batch` is called, to do at once what those calls left to be
done together, such as one write for several requests.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

import trio

from .lag import Lag
from .turn import EVENTS_MAX, Turn

Ready = Callable[[], None]
"""Called when a socket has input, or its other end is gone. Must neither raise nor wait."""

# Calls in one batch; each takes some 50 us with all that follows from it.
_EVENTS_MAX = 64

# After so many batches, so many seconds, or `EVENTS_MAX` of `turn.py` calls, the poller lets the
# other tasks run. What it has not asked the kernel for by then it finds in its next run.
_BATCHES_MAX = 4
_BATCHES_S = 0.003


def _nothing() -> None:
    """Do nothing: the default of `before_batch` and `after_batch`."""


class Poller:
    """Watches the sockets of one node.

    Attributes:
        before_batch, after_batch: Called before and after each batch of calls.
        lag: Records how long the batches took.
        turn: What clients may still be served in this turn of the event loop.
    """

    def __init__(self) -> None:
        """Watch nothing yet. Needs epoll, so Linux (see `can_poll`)."""
        self.before_batch: Ready = _nothing
        self.after_batch: Ready = _nothing
        self.lag = Lag()
        self.turn = Turn()
        self._epoll = select.epoll()
        self._watched: dict[int, Ready] = {}
        self._again: list[Ready] = []

    def watch(self, fd: int, ready: Ready) -> None:
        """Call `ready` each time that `fd` gets new input; soon, if it has some already.

        `ready` is not called again for input that it left unread: it must read until nothing is
        left, or call `again`. It may be called once more after `forget`.
        """
        if self._epoll.closed:
            return  # The node is stopping: nothing polls any more.
        self._watched[fd] = ready
        # EPOLLRDHUP tells the end of the connection from input, see `_batch`.
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`. Must be called before it is closed."""
        # The kernel gives the number of a closed descriptor to the next socket, so it must not stay
        # in `_watched`.
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def again(self, ready: Ready) -> None:
        """Call `ready` in the next batch, too. Only during a batch: else there may be no next."""
        self._again.append(ready)

    async def run(self) -> None:
        """Watch until cancelled. What a called function raises is raised here and ends the node."""
        while True:
            # With calls left over it must not wait for input, but other tasks get their turn.
            if self._again:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            began_at = time.perf_counter()
            took, left = 0.0, EVENTS_MAX
            self.turn.begin()
            for _ in range(_BATCHES_MAX):
                found = self._epoll.poll(0, min(_EVENTS_MAX, left))
                if not found and not self._again:
                    break
                self._batch(found)
                took = time.perf_counter() - began_at
                left -= len(found)
                if took > _BATCHES_S or left <= 0:
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
                    # The other end closed. An edge is reported once, and a `ready` that has just
                    # read data may not have seen the end behind it: call it once more.
                    self._again.append(ready)
        for ready in again:
            ready()
        self.after_batch()

    def close(self) -> None:
        """Close the epoll. The sockets stay open: their owners close them."""
        self._watched.clear()
        self._again.clear()
        if not self._epoll.closed:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()


def can_poll() -> bool:
    """Whether this system has epoll. Without it each socket gets a task of its own."""
    return hasattr(select, "epoll")
