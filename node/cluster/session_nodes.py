"""Which sessions end because of their node: it is gone, or a check of it is critical.

The leader looks, by its own clock. A check of a member itself (`serfHealth`) is given the time of the
setting `session_node_grace`, so that a restart in place keeps the sessions made through it. The ends
themselves are proposed in `session_ends.py`.
"""

from __future__ import annotations

import math
from collections import deque

import trio

from ..driver.keys import Keys
from ..driver.replica import Replica
from ..errors import Compacted
from ..model.checks import SERF_HEALTH
from ..model.locks import Session
from ..net.flag import Flag
from ..state.changes import CHECKS
from .session_ends import Check, SessionEnds

SLICE = 256
"""Sessions that are read in one go, some 2 ms."""
PAUSE_S = 0.005
"""Between two slices."""

_NUMBER_BYTES = 8


class SessionNodes:
    """The nodes and the checks that sessions depend on, as one leader sees them."""

    def __init__(self, replica: Replica, keys: Keys, ends: SessionEnds) -> None:
        self._facts = replica.facts
        self._keys = keys
        self._ends = ends
        self._numbers: frozenset[int] = frozenset()
        # By node and ID of a critical check: its `modify_index`, and since when it is critical here.
        self._critical: dict[tuple[int, str], tuple[int, float]] = {}
        # Critical checks whose sessions were ended, with the `modify_index` that they had then; none
        # that depends on them can be made.
        self._done: dict[tuple[int, str], int] = {}
        self._gone: deque[int] = deque()
        self._is_one_gone = Flag()

    def begin(self) -> None:
        """This node leads: look at all anew."""
        self._numbers = self._facts.node_numbers
        self._critical.clear()
        self._done.clear()
        self._gone.clear()

    def look(self) -> None:
        """Nodes may have changed."""
        numbers = self._facts.node_numbers
        if numbers is not self._numbers:
            self._gone.extend(sorted(self._numbers - numbers))
            self._numbers = numbers
            if self._gone:
                self._is_one_gone.set()

    def loaded(self, session: Session) -> None:
        """A session was there when this node began to lead: it ends if its node is gone already."""
        if session.node not in self._numbers:
            self._ends.decide(session.id)

    async def run(self) -> None:
        """Have sessions end while this node leads, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_of_gone)
            while True:
                watch = self._keys.watches.open(b"", None, CHECKS)
                try:
                    for number in sorted(self._numbers):
                        self._look_at(number)
                    while True:
                        for change, _ in watch.take():
                            self._look_at(int.from_bytes(change.key[:_NUMBER_BYTES]))
                        if watch.is_behind:
                            await trio.lowlevel.checkpoint()
                            continue
                        await self._end_of_critical()
                        with trio.move_on_at(self._next_due()):
                            await watch.wait()
                except Compacted:
                    pass  # All are looked at again.
                finally:
                    watch.close()

    def _look_at(self, number: int) -> None:
        """Note which checks of a node are critical."""
        now = trio.current_time()
        view = self._keys.view()
        try:
            checks = {c.id: c.modify_index for c in view.checks(number) if c.status == "critical"}
        finally:
            view.close()
        for key in [key for key in self._critical if key[0] == number and key[1] not in checks]:
            del self._critical[key]
            self._done.pop(key, None)
        for check_id, index in checks.items():
            _, since = self._critical.get((number, check_id), (0, now))
            self._critical[number, check_id] = index, since

    def _grace_s(self, check_id: str) -> float:
        grace_ms = self._facts.settings.session_node_grace_ms
        return grace_ms / 1000 if check_id == SERF_HEALTH else 0.0

    def _open(self) -> list[tuple[float, Check]]:
        """Return when sessions are to end because of a check, and of which, first those due first."""
        return sorted(
            (since + self._grace_s(check_id), (number, check_id, index))
            for (number, check_id), (index, since) in self._critical.items()
            if self._done.get((number, check_id)) != index
        )

    def _next_due(self) -> float:
        open_ = self._open()
        # The setting may change meanwhile.
        return min(open_[0][0], trio.current_time() + 1.0) if open_ else math.inf

    async def _end_of_critical(self) -> None:
        for due, check in self._open():
            if due > trio.current_time():
                return
            self._done[check[:2]] = check[2]
            await self._end_all(check[0], check)

    async def _end_of_gone(self) -> None:
        while True:
            await self._is_one_gone.wait()
            while self._gone:
                await self._end_all(self._gone.popleft(), None)

    async def _end_all(self, number: int, check: Check | None) -> None:
        """Decide the end of the sessions of a node, of all or of those that depend on a check."""
        view = self._keys.view()
        try:
            for count, session in enumerate(view.sessions(number), 1):
                if check is None or check[1] in session.node_checks:
                    self._ends.decide(session.id, check)
                if count % SLICE == 0:
                    await trio.sleep(PAUSE_S)
        finally:
            view.close()
