"""Questions that are held: their names are not available now, and may be in a moment.

An early error costs more than the wait: systemd-resolved keeps a SERVFAIL for 10 s, unbound for 5 s,
and BIND stays with the server that gave the last answer. A question that waits costs them nothing.

Owns how many questions are held, how long, and in which order they are let go. What a name needs to
be available is the zone's matter, what the answer is `answers.py`'s, and how it travels the asker's.

Theory of operation: `run` sleeps until the oldest question has waited for `HOLD_S`, or until `look`
says that names may have become available. It lets go so many questions in a turn of the loop as
take about two milliseconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import trio

from .message import Query
from .records import Name

# Stub resolvers wait 5 s for an answer (resolv.conf(5)), and resolvers ask again after 1 s or so. An
# election takes less than a second, and no query is held longer than a client would wait.
HOLD_S = 2.0
HELD_MAX = 1000
# Of one client address, which may be that of a resolver for many.
HELD_OF_ONE_MAX = 500
# Answering so many, one by one, takes a millisecond or two.
RELEASED_PER_TURN = 128


class Asker(Protocol):
    """The client that a reply goes to, and the way to it."""

    @property
    def key(self) -> Hashable:
        """Equal for all that comes from one port to one address, or over one connection."""

    @property
    def host(self) -> str:
        """The client's IP literal."""

    @property
    def over_tcp(self) -> bool:
        """Whether it asks over TCP."""

    def send(self, reply: bytes) -> None:
        """Send a reply; never wait, and never raise because the client has gone."""

    def forward(self, query: Query) -> None:
        """Have a recursor answer the query, and send its reply."""


@dataclass(frozen=True, slots=True)
class _Question:
    query: Query
    asker: Asker
    until: float


Key = tuple[Hashable, bytes, bytes]


class Held:
    """The questions that wait.

    Args:
        is_available: Tells whether a question for a name can be answered now.
        answer: Answers a question to its asker; returns False if its name is not available after all.
        fail: Answers a question to its asker with an error, because it has waited in vain.

    Attributes:
        is_stopped: Nothing is held any more; see `stop`.
    """

    def __init__(
        self,
        is_available: Callable[[Name], bool],
        answer: Callable[[Query, Asker], bool],
        fail: Callable[[Query, Asker], None],
    ) -> None:
        """Hold nothing yet."""
        self._is_available = is_available
        self._answer = answer
        self._fail = fail
        # In the order in which they came, which is that of their ends.
        self._questions: dict[Key, _Question] = {}
        self._by_host: Counter[str] = Counter()
        self._by_asker: Counter[Hashable] = Counter()
        self._wake = trio.Event()
        self.is_stopped = False

    def __len__(self) -> int:
        """Return how many questions are held."""
        return len(self._questions)

    def hold(self, query: Query, asker: Asker) -> bool:
        """Hold a question; return False if there is no room, or none is held any more.

        A question that is held already is not held twice: a client that has lost patience sends
        the same again, with the same id. With another id it is another question.
        """
        key = (asker.key, query.ident, query.question)
        if key in self._questions:
            return True
        has_room = len(self._questions) < HELD_MAX and self._by_host[asker.host] < HELD_OF_ONE_MAX
        if self.is_stopped or not has_room:
            return False
        if not self._questions:
            self._wake.set()  # `run` sleeps without a deadline.
        self._questions[key] = _Question(query, asker, trio.current_time() + HOLD_S)
        self._by_host[asker.host] += 1
        self._by_asker[asker.key] += 1
        return True

    def has(self, key: Hashable) -> bool:
        """Tell whether a question of this asker is held."""
        return key in self._by_asker

    def look(self) -> None:
        """Names may have become available: have `run` answer what it can, in the next turn."""
        if self._questions:
            self._wake.set()

    def drop(self, key: Hashable) -> None:
        """Forget the questions of an asker that has gone."""
        if key in self._by_asker:
            for one in [one for one in self._questions if one[0] == key]:
                self._take(one)

    def stop(self) -> None:
        """Answer all with an error, and hold none from now on."""
        self.is_stopped = True
        for key in list(self._questions):
            question = self._take(key)
            self._fail(question.query, question.asker)

    async def run(self) -> None:
        """Let go what can be answered, and what has waited for too long, until cancelled.

        Cancellation: as `stop`.
        """
        try:
            while True:
                first = next(iter(self._questions.values()), None)
                with trio.move_on_at(first.until if first is not None else math.inf):
                    await self._wake.wait()
                self._wake = trio.Event()
                await self._fail_late()
                await self._release()
        finally:
            self.stop()

    async def _fail_late(self) -> None:
        while True:
            now = trio.current_time()
            late = [
                key
                for key, question in islice(self._questions.items(), RELEASED_PER_TURN)
                if question.until <= now
            ]
            for key in late:
                question = self._take(key)
                # After a turn of the loop that took long, its name may have become available too.
                if not self._answer(question.query, question.asker):
                    self._fail(question.query, question.asker)
            if len(late) < RELEASED_PER_TURN:
                return
            await trio.lowlevel.checkpoint()

    async def _release(self) -> None:
        names = {question.query.name for question in self._questions.values()}
        available = {name for name in names if self._is_available(name)}
        ready = [key for key, one in self._questions.items() if one.query.name in available]
        for number, key in enumerate(ready, 1):
            question = self._questions.get(key)
            # Meanwhile its asker may have gone, and its name may be unavailable again.
            if question is not None and self._answer(question.query, question.asker):
                self._take(key)
            if number % RELEASED_PER_TURN == 0:
                await trio.lowlevel.checkpoint()

    def _take(self, key: Key) -> _Question:
        question = self._questions.pop(key)
        _count_down(self._by_host, question.asker.host)
        _count_down(self._by_asker, key[0])
        return question


_One = TypeVar("_One", bound=Hashable)


def _count_down(counts: Counter[_One], one: _One) -> None:
    counts[one] -= 1
    if not counts[one]:
        del counts[one]
