"""Which member runs the checks of which external node: the leader says so.

A node that is no member, with a check that is run (http or tcp), is given to a live member, and to another
one when that is not live (contract of services, section 4.5). A `Definition` that the catalog was given is
run only where the node has the mark `external-node`, as consul-esm has it. Owns who is given which node, and when it is
moved. The members follow what the log says (`checks/runner.py`).

Theory of operation. Of each such node one check is known that has to be run, its *witness*: so a change
of another check of the node, or of what the witness says, costs a look-up or one read. Who owns what is in
the state alone. A look goes through all nodes and counts them by owner; there is one after what may
make a difference: a node that comes, a change of members, health, leader or owners, and its own last
write. One write is under way at a time, so a look never counts what it has only asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import trio

from ..driver.decisions import submit_decision
from ..driver.keys import Keys
from ..driver.replica import Replica
from ..driver.requests import Answer
from ..errors import HstoreError, Overloaded
from ..model.cluster_info import LIVE
from ..model.services import ASSIGNED_MAX, AssignNodes
from ..net.flag import Flag
from ..state.watching.changes import CHECKS, NODES, OWNERS, Table
from .status import Status

GATHER_S = 0.1
"""A look comes so long after the first change that it is for: another owner is due within 1 s."""

AGAIN_S = 0.2
"""After this, a write that has failed is tried again."""

LEVELLED_FROM = 50
"""Nodes are moved from the member with the most to that with the fewest when it has so many more,"""
LEVELLED_PART = 5
"""and more by a fifth of what it has: a move begins the runs of a check anew."""
LEVELLED_AT_ONCE = 64
LEVEL_S = 1.0
"""So many nodes are moved for that at a time, and so long after the last time."""

_LOOKED_AT_ONCE = 256
"""Checks or nodes that are looked at before other tasks have their turn, some 2 ms."""

_NUMBER_BYTES = 8
_RUN = frozenset(("http", "tcp"))

_Pair = tuple[int, int]
"""Number of a node, and id of a member."""


class CheckOwners:
    """The owners of external nodes, as one leader sees them."""

    def __init__(self, replica: Replica, keys: Keys, status: Status) -> None:
        """Nothing is written before `run`."""
        self._replica = replica
        self._facts = replica.facts
        self._keys = keys
        self._status = status
        # The term in which this node leads; 0: it does not, and what follows is empty.
        self._lead = 0
        # Nodes with a check that has to be run, each with its witness; nodes to be looked at for one.
        self._witness: dict[int, str] = {}
        self._to_scan: dict[int, None] = {}
        self._is_writing = False
        self._look_at = math.inf
        self._levelled_at = -math.inf
        self._changed = Flag()

    def look(self) -> None:
        """Who leads may have changed: called with each change and each tick."""
        facts = self._facts
        lead = facts.term if facts.is_leader and facts.is_own_term_applied else 0
        if lead != self._lead:
            self._begin(lead)

    def _begin(self, lead: int) -> None:
        self._lead = lead
        self._witness.clear()
        self._to_scan = dict.fromkeys(self._keys.external_numbers()) if lead else {}
        self._is_writing = False
        self._look_soon(0.0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Give nodes to members while this node leads, until cancelled."""
        tables = (CHECKS, NODES, OWNERS)
        listener = self._keys.watches.listen(tables, self._wake, self._restarted)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_status)
                task_status.started()
                while True:
                    with trio.move_on_at(self._look_at):
                        await self._changed.wait()
                    if trio.current_time() >= self._look_at:
                        self._look_at = math.inf
                        await self._scan()
                        await self._look_at_all()
        finally:
            listener.close()

    # -- which nodes there are ------------------------------------------------------------------

    async def _follow_status(self) -> None:
        """Look again after each change of leader, members or health."""
        seen = -1
        while True:
            seen = await self._status.wait_change(seen)
            if self._lead:
                self._look_soon(GATHER_S)

    def _wake(self, table: Table, key: bytes) -> None:
        """An entry has changed a check, a node or an owner."""
        if not self._lead:
            return
        number = int.from_bytes(key[:_NUMBER_BYTES], "big")
        witness = self._witness.get(number)
        if witness is None:
            # A node may have been given the mark.
            is_to_scan = table in (CHECKS, NODES) and self._keys.is_external(number)
        else:
            is_witness = table == CHECKS and witness == key[_NUMBER_BYTES:].decode()
            is_to_scan = is_witness or table == NODES
        if is_to_scan:
            self._to_scan[number] = None
        if is_to_scan or table == OWNERS:
            self._look_soon(GATHER_S)

    def _restarted(self) -> None:
        """A snapshot was installed; this node does not lead, but for the moment of hearing that."""
        self._begin(self._lead)

    def _look_soon(self, after_s: float) -> None:
        due = trio.current_time() + after_s
        if due < self._look_at:
            self._look_at = due
            self._changed.set()

    async def _scan(self) -> None:
        """See which of the nodes that are to be looked at have a check that has to be run."""
        count = 0
        while self._to_scan:
            number = next(iter(self._to_scan))
            del self._to_scan[number]
            count += 1
            for check_id in self._candidates(number):
                count += 1
                if self._is_run(number, check_id):
                    self._witness[number] = check_id
                    break
                if count % _LOOKED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            else:
                self._witness.pop(number, None)
            if count % _LOOKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _candidates(self, number: int) -> Iterable[str]:
        """Return the checks of an external node, the witness that it had first."""
        if not self._keys.is_external(number):
            return ()
        ids = list(self._keys.check_ids(number))
        witness = self._witness.get(number)
        return ids if witness is None else [witness, *ids]

    def _is_run(self, number: int, check_id: str) -> bool:
        check = self._keys.check(number, check_id)
        definition = None if check is None else check.definition
        if definition is None or definition.kind not in _RUN or definition.interval_ns <= 0:
            return False
        return not definition.is_shown or self._keys.is_marked(number)

    # -- whose they are -----------------------------------------------------------------------------

    async def _look_at_all(self) -> None:
        """Give away the nodes that no live member has; else move some, if a member has far more."""
        if not self._lead or self._is_writing:
            return  # There is a look after the write.
        lead = self._lead
        owned: dict[int, list[int]] = {member: [] for member in self._members()}
        orphans: list[int] = []
        for count, number in enumerate(sorted(self._witness), 1):
            owned.get(self._keys.owner_of(number), orphans).append(number)
            if count % (4 * _LOOKED_AT_ONCE) == 0:
                await trio.lowlevel.checkpoint()
        if lead != self._lead:
            return  # What was counted is another leader's.
        pairs = _given(orphans[:ASSIGNED_MAX], self._takers(owned))
        if not pairs:
            pairs = self._levelled(owned)
        if pairs:
            self._write(pairs)

    def _members(self) -> list[int]:
        """Return the ids of the members that may own nodes: those that are live and do not stop."""
        status, judged = self._status, self._status.judgements()
        return [
            member.id
            for member in self._facts.members.values()
            if member.id in judged
            and judged[member.id][0] in LIVE
            and not member.stopped
            and not status.is_ending(member.id)
        ]

    def _takers(self, owned: dict[int, list[int]]) -> dict[int, int]:
        """Return which members may be given nodes, and how many each has."""
        own = self._facts.id
        # A new leader takes everyone for alive until that has been silent for long enough.
        return {
            member: len(numbers)
            for member, numbers in owned.items()
            if member == own or self._status.is_heard(member)
        }

    def _levelled(self, owned: dict[int, list[int]]) -> list[_Pair]:
        """Return some nodes of the member with the most, for that with the fewest, if that is due."""
        takers = self._takers(owned)
        if len(takers) < 2:
            return []
        most = min(takers, key=lambda member: (-takers[member], member))
        fewest = min(takers, key=lambda member: (takers[member], member))
        more = takers[most] - takers[fewest]
        if more <= LEVELLED_FROM or more * LEVELLED_PART <= takers[most]:
            return []
        now = trio.current_time()
        if now < self._levelled_at + LEVEL_S:
            self._look_soon(self._levelled_at + LEVEL_S - now)
            return []
        self._levelled_at = now
        count = min(LEVELLED_AT_ONCE, more // 2)
        return [(number, fewest) for number in owned[most][:count]]

    def _write(self, pairs: list[_Pair]) -> None:
        lead = self._lead

        def tell(answer: Answer) -> None:
            if lead == self._lead:
                self._is_writing = False
                self._look_soon(AGAIN_S if isinstance(answer, HstoreError) else 0.0)

        self._is_writing = True
        try:
            submit_decision(self._replica, AssignNodes(tuple(pairs)), lead, tell)
        except Overloaded as error:
            tell(error)


def _given(numbers: list[int], takers: dict[int, int]) -> list[_Pair]:
    """Give each node to the member that has the fewest by then; of several the one with the least id."""
    pairs: list[_Pair] = []
    for number in numbers if takers else ():
        member = min(takers, key=lambda one: (takers[one], one))
        takers[member] += 1
        pairs.append((number, member))
    return pairs
