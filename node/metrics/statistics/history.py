"""One node's statistics put together: filled once a second, saved now and then, asked for by clients.

The API serves it as `Statistics` (`api/backend.py`). A node that runs in a test without `run` answers
with no points.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import trio

from ...model.statistics import Points, Question
from ...peers import wire
from ..figures import Totals
from . import rings
from .asked import Peers, Questions
from .sampler import Sampler
from .saved import Saved

FILE = "statistics"
"""In the data directory."""

_KIND, _VERSION = "statistics", 1


class History:
    """The statistics of one node, and questions to the others about theirs.

    Args:
        node: The id of this node.
        peers: The links to the others.
        totals: Reads the counters of this node.
        wall: The time of day, in seconds since 1970.
    """

    def __init__(
        self,
        node: int,
        peers: Peers,
        totals: Callable[[], Totals],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._wall = wall
        self._rings = rings.Rings()
        self._sampler = Sampler(self._rings, totals, wall)
        self._questions = Questions(peers, self._own)

    async def run(
        self, directory: Path | None, has_room: Callable[[], bool] = lambda: True
    ) -> None:
        """Fill the rings until cancelled, and save them every five minutes and at the end.

        Args:
            directory: The data directory; None: nothing is saved.
            has_room: As of `Saved`.
        """
        saved = self._saved(directory, has_room) if directory is not None else None
        if saved is not None:
            await saved.load()
        self._sampler.begin()
        async with trio.open_nursery() as nursery:
            if saved is not None:
                nursery.start_soon(saved.keep)
            await self._sampler.run()

    # -- as `api.backend.Statistics` ------------------------------------------------------------

    def now_ms(self) -> int:
        """Return the time of day of this node, in milliseconds since 1970."""
        return int(self._wall() * 1000)

    def newest(self) -> tuple[int, dict[str, float]]:
        """Return the newest point: when its second began, in ms since 1970, and its known figures."""
        return self._rings.newest()

    async def gather(self, members: Iterable[int], question: Question) -> dict[int, Points]:
        """Return the answers of members, by id; one that did not answer in time is left out.

        Raises:
            Overloaded: Too many requests wait for such answers.
        """
        wanted = set(members)
        others = wanted - {self._node}
        answers = await self._questions.gather(others, question) if others else {}
        if self._node in wanted:
            answers[self._node] = self._own(question)
        return answers

    # -- inside -----------------------------------------------------------------------------------

    def received(self, peer: int, frame: wire.AskStatistics | wire.StatisticsReply) -> None:
        """Take a frame of a member."""
        self._questions.received(peer, frame)

    def _own(self, question: Question) -> Points:
        return self._rings.answer(question, self.now_ms())

    def _saved(self, directory: Path, has_room: Callable[[], bool]) -> Saved:
        owner = f"{self._node:016x}"
        return Saved(
            directory / FILE,
            _KIND,
            _VERSION,
            pack=lambda: rings.pack(self._rings, owner),
            unpack=lambda content: rings.unpack(self._rings, content, owner),
            has_room=has_room,
        )
