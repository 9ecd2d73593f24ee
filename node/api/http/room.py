"""Room for connections: how many may be served at once, and which one has to go when a new one comes.

Theory of operation. Where all places are taken, a new connection gets the place of the one whose
client has been silent for longest: first of those that are idle, then of those that have sent a part
of a request and no more for a second. A connection with a request in progress is never ended. Where
all of them have one, a last few places are left: for clients on this machine, and for connections *on
trial* (`trial.py`), whose first request may be for the health of the node or from an operator.

Nothing is kept in order while there is room. When it is needed, all silent connections are sorted
once; those that are found first in that order, and have been silent ever since, are the next ones
to go. So a new connection costs the same however many there are, as long as some are idle.
"""

from __future__ import annotations

import enum
from typing import Protocol

import trio

RESERVED = 16
"""Places for this machine and for connections on trial; of few places, a quarter."""

ENDLESS_MAX = 12_000
"""Answers without end: each takes a task, which a read that waits does not."""

STALLED_S = 1.0
"""After this much silence in the middle of a request its connection may have to go."""

_LOOK_AGAIN_S = 1.0
"""After no connection was found that could go."""

Silence = tuple[int, float]
"""0 for an idle connection, 1 for one in the middle of a request; and since when it is silent."""


class Occupant(Protocol):
    """A connection, as far as its place is concerned."""

    def silence(self, now: float) -> Silence | None:
        """Return since when its client is silent; None: it must not be ended."""
        ...

    def has_input(self) -> bool:
        """Whether its client has just sent something that is not read yet."""
        ...

    def evict(self) -> None:
        """End it now, without an answer."""
        ...


class OnTrial(Occupant, Protocol):
    """A connection on trial."""

    @property
    def is_busy(self) -> bool:
        """Whether a request of it is in progress that it may make."""
        ...


class Place(enum.Enum):
    """What a new connection gets."""

    WHOLE = "it is served"
    TRIAL = "it is served if its first request is one that must always be possible"
    NONE = "it is refused"


class Room:
    """The places of a server.

    Attributes:
        most: How many connections are served at once, beside `streams`.
        streams_most: How many connections have an answer without end, or reads that wait.
        streams: How many there are. Their connections have no place here, and neither have those that
            have waited for a change; they share the places of `streams_most`.
        evicted: How many connections had to go, since the start.
    """

    def __init__(self, most: int, streams_most: int) -> None:
        self.most = most
        self.streams_most = streams_most
        self.streams = 0
        self.evicted = 0
        self._ordinary = most - min(RESERVED, most // 4)
        self._served: set[Occupant] = set()
        # Connections that have waited for a change: a client that does so does it again and again.
        self._waiters: set[Occupant] = set()
        self._full_at = -1.0
        self._trials: dict[Occupant, OnTrial] = {}
        self._silent: list[tuple[Silence, Occupant]] = []

    def find_place(self, *, is_local: bool) -> Place:
        """Return what a new connection gets; another connection may be ended for it.

        Args:
            is_local: The other end is on this machine.
        """
        if self._has_place():
            return Place.WHOLE
        if len(self._served) >= self.most and not self._end_oldest_trial():
            return Place.NONE
        return Place.WHOLE if is_local else Place.TRIAL

    def enter(self, one: Occupant) -> None:
        """Give a connection its place."""
        self._served.add(one)

    def enter_on_trial(self, one: OnTrial) -> None:
        """Give a connection a place on trial."""
        self._served.add(one)
        self._trials[one] = one

    def pass_trial(self, one: OnTrial) -> bool:
        """Give a connection on trial a place like any other; return False if there is none."""
        if len(self._served) > self._ordinary and not self._evict_one():
            return False
        self._trials.pop(one, None)
        return True

    def leave(self, one: Occupant) -> None:
        """Give up the place of a connection. Idempotent."""
        self._served.discard(one)
        self._waiters.discard(one)
        self._trials.pop(one, None)

    def begin_wait(self, one: Occupant) -> bool:
        """A connection waits for a change: from now on its place is among those of `streams`.

        Returns:
            False: there is none.
        """
        if one in self._waiters:
            return True
        is_full = self.streams + len(self._waiters) >= self.streams_most
        if is_full and not self._evict_waiter():
            return False
        self._served.discard(one)
        self._waiters.add(one)
        return True

    def _evict_waiter(self) -> bool:
        """End a connection that has waited and is idle; False: there is none."""
        now = trio.current_time()
        if now < self._full_at + _LOOK_AGAIN_S:
            return False  # To look through thousands of them costs milliseconds.
        for one in self._waiters:
            if one.silence(now) is not None and not one.has_input():
                self._evict(one)
                return True
        self._full_at = now
        return False

    @property
    def has_stream_place(self) -> bool:
        """Whether one more answer without end may begin."""
        is_free = self.streams + len(self._waiters) < self.streams_most
        return is_free and self.streams < ENDLESS_MAX

    def begin_stream(self, one: Occupant) -> None:
        """A connection begins an answer without end: it gives up its place."""
        self.streams += 1
        self._served.discard(one)
        self._waiters.discard(one)

    def end_stream(self, one: Occupant) -> None:
        """That answer has ended after all: the connection has a place again."""
        self.streams -= 1
        self._served.add(one)

    def _has_place(self) -> bool:
        if len(self._served) < self._ordinary:
            self._silent = []
            return True
        return self._evict_one()

    def _evict_one(self) -> bool:
        """End the connection that is silent for longest; False: there is none."""
        now = trio.current_time()
        if self._evict_known(now):
            return True
        silent = [(s, one) for one in self._served if (s := one.silence(now)) is not None]
        silent.sort(key=lambda found: found[0], reverse=True)
        self._silent = silent
        return self._evict_known(now)

    def _evict_known(self, now: float) -> bool:
        while self._silent:
            silence, one = self._silent.pop()
            if one in self._served and one.silence(now) == silence and not one.has_input():
                self._evict(one)
                return True
        return False

    def _end_oldest_trial(self) -> bool:
        one = next((trial for trial in self._trials.values() if not trial.is_busy), None)
        if one is not None:
            self._evict(one)
        return one is not None

    def _evict(self, one: Occupant) -> None:
        self.evicted += 1
        self.leave(one)
        one.evict()
