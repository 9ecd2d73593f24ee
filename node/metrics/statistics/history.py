"""One node's statistics put together: filled once a second, saved now and then, asked for by clients.

The API serves it as `Statistics` (`api/backend.py`). A node that runs in a test without `run` answers
with no points.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog
import trio

from ...config.log_limit import LogLimit
from ...model.statistics import Points, Question
from ...peers import wire
from ..figures import Totals
from . import rings, saved
from .asked import Peers, Questions
from .sampler import Sampler

FILE = "statistics"
"""In the data directory."""

SAVE_S = 300.0
_LAST_SAVE_S = 1.0
"""For the last one at a stop, which must not wait for a disk that hangs."""

_KIND, _VERSION = "statistics", 1

_log = structlog.get_logger()


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
        self._log_limit = LogLimit()
        self._writer = trio.CapacityLimiter(1)  # also while a write that was given up goes on

    async def run(self, directory: Path | None) -> None:
        """Fill the rings until cancelled, and save them every five minutes and at the end.

        Args:
            directory: The data directory; None: nothing is saved.
        """
        if directory is not None:
            await self._load(directory / FILE)
        self._sampler.begin()
        async with trio.open_nursery() as nursery:
            if directory is not None:
                nursery.start_soon(self._keep_saved, directory / FILE)
            await self._sampler.run()

    # -- as `api.backend.Statistics` ------------------------------------------------------------

    def now_ms(self) -> int:
        """Return the time of day of this node, in milliseconds since 1970."""
        return int(self._wall() * 1000)

    def newest(self) -> tuple[int, dict[str, float]]:
        """Return the newest point: when its second began, in ms since 1970, and its known figures."""
        return self._rings.newest()

    async def gather(self, members: Iterable[int], question: Question) -> dict[int, Points]:
        """Return the answers of members, by id; one that did not answer within 2 s is left out.

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

    async def _load(self, file: Path) -> None:
        content = await trio.to_thread.run_sync(saved.read, file, _KIND, _VERSION)
        if content is not None:
            fault = rings.unpack(self._rings, content, f"{self._node:016x}")
            if fault:
                await trio.to_thread.run_sync(saved.set_aside, file, fault)

    async def _keep_saved(self, file: Path) -> None:
        try:
            while True:
                await trio.sleep(SAVE_S)
                await self._save(file)
        finally:
            with trio.move_on_after(_LAST_SAVE_S, shield=True):
                await self._save(file)

    async def _save(self, file: Path) -> None:
        """Save all points as of now. A disk that refuses is warned of: the node goes on."""
        content = rings.pack(self._rings, f"{self._node:016x}")
        try:
            await trio.to_thread.run_sync(
                saved.write,
                file,
                _KIND,
                _VERSION,
                content,
                abandon_on_cancel=True,
                limiter=self._writer,
            )
        except OSError as error:
            if self._log_limit.is_due("unsaved"):
                _log.warning("the statistics cannot be saved", file=str(file), error=str(error))
