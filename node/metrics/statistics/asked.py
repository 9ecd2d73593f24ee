"""Questions about the statistics of other members, over the links between nodes.

A question and its answer are one frame each, and either may be lost: the one that asks waits for 2 s
and does without. A member that has let one pass unanswered gets a quarter of a second from then on,
until a frame of its answers comes: who asks each second (`hstore top`) must not wait 2 s each time. Answers are made at once from the rings of the member that is asked. Nothing of this
needs a leader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from ...errors import Overloaded
from ...model.statistics import Points, Question
from ...peers import wire

ANSWER_S = 2.0
"""How long an answer is waited for."""

SILENT_S = 0.25
"""Likewise, of a member that has not answered the last question."""

_SILENT_MAX = 256
"""Members that are remembered as silent, those that are none any more among them."""

GATHERED_MAX = 16
"""Requests of clients that gather answers at the same time; others wait as long for one of them to end.
All nodes together answer with at most 5 MiB."""


class Peers(Protocol):
    """The links to the other members, as `Replica` has them."""

    def new_id(self) -> int:
        """Return a number that this process has not used yet."""
        ...

    def send(self, peer: int, frame: wire.Frame) -> bool:
        """Send a frame; False: it was dropped."""
        ...


class _Asked:
    """One question that waits.

    Attributes:
        peer: Which member was asked.
        is_answered: Set with the answer.
        points: The answer.
    """

    def __init__(self, peer: int) -> None:
        self.peer = peer
        self.is_answered = trio.Event()
        self.points: Points | None = None


class Questions:
    """The questions of this node to others, and theirs to it.

    Args:
        peers: The links.
        answer: Answers a question from this node's own rings.
    """

    def __init__(self, peers: Peers, answer: Callable[[Question], Points]) -> None:
        self._peers = peers
        self._answer = answer
        self._waiting: dict[int, _Asked] = {}
        self._places = trio.Semaphore(GATHERED_MAX)
        # Members that have not answered the last question.
        self._silent: set[int] = set()

    async def gather(self, peers: Iterable[int], question: Question) -> dict[int, Points]:
        """Ask members at the same time; return the answers that came in time, by member.

        Raises:
            Overloaded: Too many requests gather answers.

        Cancellation: answers that come later are dropped.
        """
        with trio.move_on_after(ANSWER_S) as scope:
            await self._places.acquire()
        if scope.cancelled_caught:
            raise Overloaded("too many requests for statistics are waiting; try again in a moment")
        asked: dict[int, _Asked] = {}
        try:
            for peer in peers:
                number = self._peers.new_id()
                # Not sent: there is no way to it now, and nothing to wait for.
                if self._peers.send(peer, wire.AskStatistics(number, question)):
                    asked[number] = self._waiting[number] = _Asked(peer)
            await self._wait(list(asked.values()))
        finally:
            for number in asked:
                del self._waiting[number]
            self._places.release()
        return {
            one.peer: one.points
            for one in asked.values()
            if one.points is not None and _fits(one.points, question)
        }

    async def _wait(self, asked: list[_Asked]) -> None:
        """Wait until all are answered, or it takes too long."""
        began, silent = trio.current_time(), self._silent.copy()
        with trio.move_on_at(began + ANSWER_S):
            for one in asked:
                if one.peer not in silent:
                    await one.is_answered.wait()
        with trio.move_on_at(began + SILENT_S):
            for one in asked:
                if one.peer in silent:
                    await one.is_answered.wait()
        late = {one.peer for one in asked if not one.is_answered.is_set()}
        # Of former members nothing is remembered for long.
        self._silent = late | self._silent if len(self._silent) < _SILENT_MAX else late

    def received(self, peer: int, frame: wire.AskStatistics | wire.StatisticsReply) -> None:
        """Take a question of a member, or its answer to one of this node's."""
        if isinstance(frame, wire.AskStatistics):
            self._peers.send(peer, wire.StatisticsReply(frame.id, self._answer(frame.question)))
            return
        self._silent.discard(peer)
        asked = self._waiting.get(frame.id)
        if asked is not None and asked.peer == peer:
            asked.points = frame.points
            asked.is_answered.set()


def _fits(points: Points, question: Question) -> bool:
    """Whether an answer is one to that question: of another version, it may be none."""
    sizes = {len(data) for data in points.series.values()}
    return (
        points.step == question.step
        and points.series.keys() <= set(question.series)
        and (not sizes or (len(sizes) == 1 and not sizes.pop() % 8))
    )
