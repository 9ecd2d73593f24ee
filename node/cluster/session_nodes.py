"""Which sessions end because of their node: it is gone, or a check of it is critical or gone.

The leader looks, by its own clock. The check of a member itself (`serfHealth`) is given the time of the
setting `session_node_grace`, so that a restart in place keeps the sessions made through it. The ends
themselves are proposed in `session_ends.py`.

Theory of operation. Nearly all sessions depend on `serfHealth`, which rarely changes: when it is critical
for too long, all sessions of its node are read. Of the other checks, of nodes and of services, a node may
have 10,000, which may all change all the time: so it is known here which sessions depend on which, and
the change of a check that no session depends on costs one look-up. A session that is made or loaded is
held against its checks as they are then, so nothing is missed that happened before it was known here.
"""

from __future__ import annotations

import math
from collections import deque

import trio

from ..driver.keys import Keys
from ..driver.replica import Replica
from ..model.checks import SERF_HEALTH
from ..model.locks import Session
from ..net.flag import Flag
from ..state.watching.changes import CHECKS, Table
from .session_ends import Check, SessionEnds

SLICE = 256
"""Sessions that are read in one go, some 2 ms."""
PAUSE_S = 0.005
"""Between two slices."""

_NUMBER_BYTES = 8
_SERF_HEALTH = SERF_HEALTH.encode()

_Key = tuple[int, str]
"""A check: the catalog number of its node, and its ID."""


class SessionNodes:
    """The nodes and the checks that sessions depend on, as one leader sees them."""

    def __init__(self, replica: Replica, keys: Keys, ends: SessionEnds) -> None:
        self._facts = replica.facts
        self._keys = keys
        self._ends = ends
        self._numbers: frozenset[int] = frozenset()
        # By number of a node: the `modify_index` of its critical `serfHealth`, and since when that is
        # critical here.
        self._critical: dict[int, tuple[int, float]] = {}
        # The same whose sessions were ended, with the `modify_index` that it had then; none that
        # depends on it can be made.
        self._done: dict[int, int] = {}
        # The sessions that depend on each other check, and the checks of each of them.
        self._dependent: dict[_Key, dict[bytes, None]] = {}
        self._checks: dict[bytes, tuple[_Key, ...]] = {}
        # Checks that have changed, and are to be looked at.
        self._changed: dict[_Key, None] = {}
        self._is_one_changed = Flag()
        self._gone: deque[int] = deque()
        self._is_one_gone = Flag()

    def begin(self) -> None:
        """This node leads: look at all anew."""
        self._numbers = self._facts.node_numbers
        self._critical.clear()
        self._done.clear()
        self._changed.clear()
        self._gone.clear()

    def look(self) -> None:
        """Nodes may have changed."""
        numbers = self._facts.node_numbers
        if numbers is not self._numbers:
            self._gone.extend(sorted(self._numbers - numbers))
            self._numbers = numbers
            if self._gone:
                self._is_one_gone.set()

    # -- sessions ---------------------------------------------------------------------------

    def forget_sessions(self) -> None:
        """This node leads no more, or all sessions are going to be loaded again."""
        self._dependent.clear()
        self._checks.clear()

    def loaded(self, session: Session) -> None:
        """A session was there when this node began to lead: it ends if its node is gone already."""
        if session.node not in self._facts.node_numbers:
            self._ends.decide(session.id)
        else:
            self.made(session)

    def made(self, session: Session) -> None:
        """A session is known from now on: it ends if a check that it depends on is not passing any more."""
        if session.id in self._checks:
            return
        node, checks = session.node, {*session.node_checks, *(session.service_checks or ())}
        others = tuple((node, check) for check in sorted(checks) if check != SERF_HEALTH)
        if others:
            self._checks[session.id] = others
        for key in others:
            self._dependent.setdefault(key, {})[session.id] = None
        there = self._keys.check_ids(node)
        for check in sorted(checks):
            if check not in there or (check != SERF_HEALTH and self._keys.is_critical(node, check)):
                self._is_changed((node, check))

    def ended(self, session_id: bytes) -> None:
        """A session is gone."""
        for key in self._checks.pop(session_id, ()):
            dependent = self._dependent[key]
            del dependent[session_id]
            if not dependent:
                del self._dependent[key]

    # -- checks -----------------------------------------------------------------------------

    def refused(self, check: Check) -> None:
        """An end had no effect, for this check has changed: it may be critical all the same."""
        self._is_changed(check[:2])

    async def run(self) -> None:
        """Have sessions end while this node leads, until cancelled."""
        listener = self._keys.watches.listen((CHECKS,), self._wake, self._look_at_all)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_of_gone)
                self._look_at_all()
                while True:
                    await self._end_of_changed()
                    await self._end_of_critical()
                    with trio.move_on_at(self._next_due()):
                        await self._is_one_changed.wait()
        finally:
            listener.close()

    def _wake(self, _table: Table, key: bytes) -> None:
        """An entry has changed a check."""
        is_serf_health = key[_NUMBER_BYTES:] == _SERF_HEALTH
        if not is_serf_health and not self._dependent:
            return
        check = int.from_bytes(key[:_NUMBER_BYTES]), key[_NUMBER_BYTES:].decode()
        if is_serf_health or check in self._dependent:
            self._is_changed(check)

    def _look_at_all(self) -> None:
        """Any check may have changed."""
        keys = self._keys
        critical = (n for n in keys.numbers_with_critical() if keys.is_critical(n, SERF_HEALTH))
        for number in sorted({*self._critical, *critical}):
            self._changed[number, SERF_HEALTH] = None
        self._changed.update(dict.fromkeys(self._dependent))
        self._is_one_changed.set()

    def _is_changed(self, check: _Key) -> None:
        self._changed[check] = None
        self._is_one_changed.set()

    async def _end_of_changed(self) -> None:
        """Look at checks that have changed; end what depends on those that are critical or gone."""
        while self._changed:
            number, check_id = key = next(iter(self._changed))
            del self._changed[key]
            record = self._keys.check(number, check_id)
            index = 0 if record is None else record.modify_index
            is_bad = record is None or record.status == "critical"
            if check_id == SERF_HEALTH:
                await self._note_serf_health(number, index if is_bad else None)
            elif is_bad:
                for count, session_id in enumerate(tuple(self._dependent.get(key, ())), 1):
                    self._ends.decide(session_id, (number, check_id, index))
                    if count % SLICE == 0:
                        await trio.sleep(PAUSE_S)
            await trio.lowlevel.checkpoint()

    async def _note_serf_health(self, number: int, index: int | None) -> None:
        """Note that `serfHealth` of a node is critical, at this index, or gone (0), or passes (None)."""
        if index:
            _, since = self._critical.get(number, (0, trio.current_time()))
            self._critical[number] = index, since
            return
        self._critical.pop(number, None)
        self._done.pop(number, None)
        if index == 0:
            await self._end_all(number, (number, SERF_HEALTH, 0))

    def _open(self) -> list[tuple[float, int, int]]:
        """Return when sessions are to end because of which node, and the index, those due first."""
        grace_s = self._facts.settings.session_node_grace_ms / 1000
        return sorted(
            (since + grace_s, number, index)
            for number, (index, since) in self._critical.items()
            if self._done.get(number) != index
        )

    def _next_due(self) -> float:
        open_ = self._open()
        # The setting may change meanwhile.
        return min(open_[0][0], trio.current_time() + 1.0) if open_ else math.inf

    async def _end_of_critical(self) -> None:
        for due, number, index in self._open():
            if due > trio.current_time():
                return
            self._done[number] = index
            await self._end_all(number, (number, SERF_HEALTH, index))

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
                if check is None or _depends(session, check[1]):
                    self._ends.decide(session.id, check)
                if count % SLICE == 0:
                    await trio.sleep(PAUSE_S)
        finally:
            view.close()


def _depends(session: Session, check_id: str) -> bool:
    return check_id in session.node_checks or check_id in (session.service_checks or ())
