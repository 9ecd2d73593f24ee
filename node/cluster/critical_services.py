"""Services whose check is critical for too long: the leader has them deregistered.

`DeregisterCriticalServiceAfter` of a check says how long that is (contract of services, section 4.3).
Owns when such a service is due. Whether it goes is decided by the entry (`DeregisterCritical`), which
names the `modify_index` of the check: so it goes once, and not if the check has changed meanwhile.

Theory of operation. Since when a check is critical is in its record, in the cluster's time, so neither
a restart of the member that runs it nor another leader starts that again. A node that begins to lead
looks at all checks that are critical, and from then on at each that changes, a few times a second: most
of those that are registered critical are passing by then, and are never read. One heap has what is due.

The cluster's time goes on at every member that runs, but a member that starts knows only what is in the
log. So while a check waits, the leader now and then proposes its end too early: the entry does nothing
but bring the time into the log. After a restart of all members at once, little is counted again.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush

import structlog
import trio

from ..driver.decisions import submit_decision
from ..driver.keys import Keys
from ..driver.replica import Replica
from ..driver.requests import Answer
from ..errors import HstoreError, Overloaded
from ..model.services import DeregisterCritical
from ..net.flag import Flag
from ..state.watching.changes import CHECKS, Table

GATHER_S = 0.2
"""Checks that change are looked at so long after the first of them: the service has to be gone within
1 s of its time."""

UNDER_WAY_MAX = 64
"""Ends that are proposed and not applied yet."""

AGAIN_S = 0.2
"""After this, an end that has failed is looked at again."""

STAMP_MS = 2_000
"""The time is brought into the log when the log is behind by so much, and by a part of what is left."""

_STAMP_PART = 30
"""That part: a check that waits for three days would else cost an entry every 2 s."""

_SHORTEST_S = 0.05
"""Between two looks at what is due: many may be due within moments."""

_LOOKED_AT_ONCE = 256
"""Checks that are looked at before other tasks have their turn, some 2 ms."""

_STALE_ENTRIES = 1_000
"""Entries of the heap that count no more, beyond as many as there are of others: a check may become
critical and pass again without end."""

_NUMBER_BYTES = 8

_log = structlog.get_logger()

_Key = tuple[int, str]
"""A check: the catalog number of its node, and its ID."""


class CriticalServices:
    """The services that are due, as one leader sees them."""

    def __init__(self, replica: Replica, keys: Keys) -> None:
        """Nothing ends before `run`."""
        self._replica = replica
        self._facts = replica.facts
        self._keys = keys
        # The term in which this node leads; 0: it does not, and what follows is empty.
        self._lead = 0
        # Nodes of which all critical checks are looked at, and single checks, with the time of that.
        self._to_scan: list[int] = []
        self._to_look: dict[bytes, None] = {}
        self._look_at = math.inf
        # When each check is due, in the cluster's time; the heap has them, and some that count no more.
        self._waiting: dict[_Key, int] = {}
        self._due: list[tuple[int, int, str]] = []
        self._under_way: set[_Key] = set()
        self._changed = Flag()

    def look(self) -> None:
        """Who leads may have changed: called with each change and each tick."""
        facts = self._facts
        lead = facts.term if facts.is_leader and facts.is_own_term_applied else 0
        if lead != self._lead:
            self._begin(lead)

    def _begin(self, lead: int) -> None:
        self._lead = lead
        self._to_look.clear()
        self._look_at = math.inf
        self._waiting.clear()
        self._due.clear()
        self._under_way.clear()
        self._to_scan = list(self._keys.numbers_with_critical()) if lead else []
        self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Have services deregistered while this node leads, until cancelled."""
        listener = self._keys.watches.listen((CHECKS,), self._wake, self._restarted)
        try:
            task_status.started()
            while True:
                with trio.move_on_at(self._next_at()):
                    await self._changed.wait()
                await self._scan()
                if trio.current_time() >= self._look_at:
                    await self._look_at_changed()
                if self._lead:
                    self._end_due()
        finally:
            listener.close()

    # -- which checks there are -----------------------------------------------------------------

    def _wake(self, _table: Table, key: bytes) -> None:
        """An entry has changed a check."""
        if self._lead:
            self._look_soon(key, GATHER_S)

    def _restarted(self) -> None:
        """A snapshot was installed; this node does not lead, but for the moment of hearing that."""
        self._begin(self._lead)

    def _look_soon(self, key: bytes, after_s: float) -> None:
        self._to_look[key] = None
        if self._look_at == math.inf:
            self._look_at = trio.current_time() + after_s
            self._changed.set()

    async def _scan(self) -> None:
        """Look at all checks that were critical when this node began to lead."""
        count = 0
        while self._to_scan:
            number = self._to_scan.pop()
            for check_id in tuple(self._keys.critical_ids(number)):
                self._look_at_check(number, check_id)
                count += 1
                if count % _LOOKED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()

    async def _look_at_changed(self) -> None:
        changed, self._to_look = self._to_look, {}
        self._look_at = math.inf
        for count, key in enumerate(changed, 1):
            number = int.from_bytes(key[:_NUMBER_BYTES], "big")
            self._look_at_check(number, key[_NUMBER_BYTES:].decode())
            if count % _LOOKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _look_at_check(self, number: int, check_id: str) -> None:
        """Note when a check is due, if it is due at some time."""
        key = number, check_id
        due_ms = self._due_ms(number, check_id) if self._lead else None
        if due_ms is None:
            self._waiting.pop(key, None)
        elif due_ms != self._waiting.get(key):
            self._waiting[key] = due_ms
            heappush(self._due, (due_ms, number, check_id))
            self._drop_stale()

    def _due_ms(self, number: int, check_id: str) -> int | None:
        if not self._keys.is_critical(number, check_id):
            return None
        check = self._keys.check(number, check_id)
        if check is None or check.definition is None or not check.service:
            return None
        after_ms = check.definition.deregister_after_ms
        return check.critical_ms + after_ms if after_ms else None

    def _drop_stale(self) -> None:
        due, waiting = self._due, self._waiting
        if len(due) > 2 * len(waiting) + _STALE_ENTRIES:
            due[:] = [(at, *key) for key, at in waiting.items()]
            heapify(due)

    # -- time -------------------------------------------------------------------------------------

    def _next_at(self) -> float:
        """Return when to look again, if nothing changes before."""
        now = trio.current_time()
        if not self._due or len(self._under_way) >= UNDER_WAY_MAX:
            return self._look_at
        now_ms = self._replica.clock.ms
        left_ms = self._due[0][0] - now_ms
        if not self._under_way:
            behind_ms = now_ms - self._facts.time_ms
            left_ms = min(left_ms, _stamped_after_ms(left_ms) - behind_ms)
        return min(self._look_at, now + max(left_ms / 1000, _SHORTEST_S))

    def _end_due(self) -> None:
        """Propose the end of services that are due, as many as may be under way."""
        now_ms = self._replica.clock.ms
        while self._due and len(self._under_way) < UNDER_WAY_MAX:
            due_ms, *_ = self._due[0]
            left_ms = due_ms - now_ms
            if left_ms > 0 and not self._is_to_be_stamped(left_ms, now_ms):
                return
            _, number, check_id = heappop(self._due)
            key = number, check_id
            if self._waiting.get(key) != due_ms:
                continue  # It has another time by now, or none.
            del self._waiting[key]
            if key not in self._under_way:  # Else it is looked at when that is answered.
                self._propose(key)

    def _is_to_be_stamped(self, left_ms: int, now_ms: int) -> bool:
        """Whether to bring the time into the log now: see the text of the module."""
        return not self._under_way and now_ms - self._facts.time_ms >= _stamped_after_ms(left_ms)

    def _propose(self, key: _Key) -> None:
        number, check_id = key
        check, lead = self._keys.check(number, check_id), self._lead
        if check is None:
            return
        place = {"service": check.service, "check": check_id, "node": self._keys.name_of(number)}

        def tell(answer: Answer) -> None:
            if lead == self._lead:
                self._told(key, place, answer)

        command = DeregisterCritical(number, check_id, check.modify_index)
        self._under_way.add(key)
        try:
            submit_decision(self._replica, command, lead, tell)
        except Overloaded as error:
            tell(error)

    def _told(self, key: _Key, place: dict[str, str], answer: Answer) -> None:
        """Take the outcome of a proposal. Called while entries are applied: the state must not be read.

        Args:
            key: Of the check.
            place: What the log says if the service has gone.
            answer: The outcome or the error.
        """
        self._under_way.discard(key)
        if isinstance(answer, HstoreError):
            self._look_soon(_encoded(key), AGAIN_S)
        elif answer.ok:
            _log.info("deregistered a service: its check was critical for too long", **place)
        else:  # It was not due yet, or the check has changed.
            self._look_soon(_encoded(key), 0.0)
        self._changed.set()


def _stamped_after_ms(left_ms: int) -> int:
    """Return by how much the log's time may be behind while this is left of the next check's time."""
    return max(STAMP_MS, left_ms // _STAMP_PART)


def _encoded(key: _Key) -> bytes:
    number, check_id = key
    return number.to_bytes(_NUMBER_BYTES, "big") + check_id.encode()
