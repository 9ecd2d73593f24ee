"""Reads and writes of keys and of the catalog on one node, as its clients ask for them.

Reads come from the local copy; a *barrier* before them makes them linearizable. Writes go through
the log. While the cluster still waits for nodes that have to join, neither is let through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import trio

from ..errors import NoLeader
from ..model.checks import Check
from ..model.commands import Command, Keyed, Outcome
from ..model.locks import Session
from ..model.services import EXTERNAL_NODE_META, Registration
from ..state import idempotency
from ..state.machine import Item, Reader
from ..state.watching.changes import Table
from ..state.watching.waits import Wait
from ..state.watching.watches import Watch, Watches
from .replica import Replica
from .requests import Answer, Request

Tell = Callable[[Answer], None]
"""Called once: with the result, or with the HstoreError that `write` or `read_barrier` raise."""


class Keys:
    """The keys of one node. The HTTP API serves it as `Keys` and `Catalog` of `api/backend.py`.

    Attributes:
        watches: The open watches of this node.
    """

    def __init__(self, replica: Replica, wait_change: Callable[[int], Awaitable[int]]) -> None:
        """Serve the keys of `replica`.

        Args:
            replica: The local copy, and the way into the log.
            wait_change: `Status.wait_change`, for a node that does not know its cluster yet.
        """
        self._replica = replica
        self._state = replica.state
        self._wait_change = wait_change
        self.watches = Watches(replica.state.history)

    @property
    def applied_index(self) -> int:
        """Index of the last entry whose effect reads here can see."""
        return self._state.applied

    def get(self, key: bytes) -> Item | None:
        """Read one key from the local copy."""
        return self._state.get(key)

    def view(self) -> Reader:
        """Return a reader of the local copy as of now; the caller closes it."""
        return self._state.view()

    def session(self, session_id: bytes) -> Session | None:
        """Read one session from the local copy."""
        return self._state.session(session_id)

    def check(self, node: int, check_id: str) -> Check | None:
        """Read one check of a node of the catalog, by its number, from the local copy."""
        return self._state.check(node, check_id)

    def is_so(self, command: Registration) -> bool:
        """Whether a registration would change nothing in the local copy."""
        return self._state.is_so(command)

    def service_index(self, folded: bytes) -> int:
        """Return the index of the answers about one service in the local copy; 0: no instance."""
        return self._state.service_index(folded)

    def nodes_of_service(self, folded: bytes) -> tuple[int, ...]:
        """Return the numbers of the nodes that have an instance of a service."""
        return self._state.nodes_of_service(folded)

    @property
    def own_number(self) -> int:
        """The catalog number of this member; 0: it does not know it yet."""
        own = self._state.members.get(self._replica.core.id)
        return 0 if own is None else own.catalog_number

    def external_numbers(self) -> Collection[int]:
        """Return the numbers of the catalog's nodes that are no members."""
        return self._state.catalog.externals.keys()

    def check_ids(self, number: int) -> Collection[str]:
        """Return the IDs of all checks of a node of the catalog, those of its services too."""
        return self._state.catalog.checks_of.get(number, {}).keys()

    def is_critical(self, number: int, check_id: str) -> bool:
        """Whether a check of a node of the catalog is there and is critical, without reading it."""
        return check_id in self._state.catalog.critical_of.get(number, ())

    def critical_ids(self, number: int) -> Collection[str]:
        """Return the IDs of the checks of a node of the catalog that are critical."""
        return self._state.catalog.critical_of.get(number, {}).keys()

    def numbers_with_critical(self) -> Collection[int]:
        """Return the numbers of the catalog's nodes that have a critical check."""
        return self._state.catalog.critical_of.keys()

    def is_external(self, number: int) -> bool:
        """Whether this is the number of a node of the catalog that is no member."""
        return number in self._state.catalog.externals

    def is_marked(self, number: int) -> bool:
        """Whether an external node has the mark with which members run the checks of its `Definition`s."""
        node = self._state.catalog.externals.get(number)
        return node is not None and EXTERNAL_NODE_META in node.meta

    def name_of(self, number: int) -> str:
        """Return the name of a node of the catalog; empty: there is no such node."""
        return self._state.node_name(number)

    def member_of(self, number: int) -> int:
        """Return the id of the member whose node of the catalog has this number; 0: it is no member's."""
        found = (one.id for one in self._state.members.values() if one.catalog_number == number)
        return next(found, 0)

    def owner_of(self, number: int) -> int:
        """Return the id of the member that runs the checks of an external node; 0: nobody does."""
        return self._state.catalog.owners.get(number, 0)

    def watch(self, prefix: bytes, after: int | None) -> Watch:
        """Open a watch of the changes that take effect on this node; the caller closes it.

        Raises:
            Compacted: The changes after the revision `after` are not all kept any more.
        """
        return self.watches.open(prefix, after)

    def wait_once(
        self, table: Table, key: bytes, call: Callable[[], None], *, is_prefix: bool = False
    ) -> Wait:
        """Have `call` called once, soon after the next change on this node; see `Watches.once`."""
        return self.watches.once(table, key, call, is_prefix=is_prefix)

    def stale_ms(self) -> int | None:
        """Milliseconds since this node had applied all that was committed then; None: never."""
        fresh_at = self._replica.fresh_at
        return None if fresh_at is None else int((trio.current_time() - fresh_at) * 1000)

    @property
    def waiting(self) -> str:
        """Why clients must wait for nodes that have yet to join; empty: they need not."""
        expect = self._state.cluster.expect
        if not expect:
            return ""
        here = len(self._replica.core.config.voters)
        return f"waiting for {expect} nodes, of which {here} can vote by now: let more of them join"

    async def write(
        self, command: Command, deadline: float, *, applied_here: bool = False
    ) -> Outcome:
        """Have a command committed and applied; forwarded once when another node leads.

        Args:
            command: What to do.
            deadline: Until when.
            applied_here: Return only when it has taken effect in the local copy, too.

        Raises:
            NoLeader, Overloaded, NotApplied: It certainly took no effect.
            OutcomeUnknown: It may or may not take effect.
            Refused: It is outside the limits of `config/command_limits.py`.
            KeyReused: It is a `Keyed`, and another request was answered under its key.

        Cancellation: the outcome is unknown.
        """
        await self._admit(deadline)
        outcome = await self._replica.propose(command, deadline, applied_here=applied_here)
        return idempotency.answered(outcome) if isinstance(command, Keyed) else outcome

    async def read_barrier(self, deadline: float) -> None:
        """Return when local reads see every write answered before this call (linearizable).

        Raises:
            NoLeader, Overloaded: No majority confirmed it before the deadline.
        """
        await self._admit(deadline)
        await self._replica.read_barrier(deadline)

    def begin_write(
        self, command: Command, deadline: float, tell: Tell, *, applied_here: bool = False
    ) -> Request | None:
        """Begin a `write` that no task waits for; None: this one needs a task.

        Raises:
            Overloaded: It certainly took no effect.
        """
        if self._is_waiting or isinstance(command, Keyed):
            return None
        return self._replica.begin_propose(command, deadline, tell, applied_here=applied_here)

    def begin_read(self, deadline: float, tell: Tell) -> Request | None:
        """Begin a `read_barrier` that no task waits for; None: this one needs a task.

        Raises:
            Overloaded: Too many wait.
        """
        if self._is_waiting:
            return None
        return self._replica.begin_read(deadline, tell)

    def is_fresh_since(self, moment: float) -> bool:
        """Whether local reads see all that was answered before `moment`, without asking anybody.

        `moment`: in seconds of `trio.current_time()`; after `freshen` at that moment it becomes true
        soon after the next tick.
        """
        fresh_at = self._replica.fresh_at
        return fresh_at is not None and fresh_at > moment

    def freshen(self) -> None:
        """Have the leader asked with the next tick, or together with the next read: see `is_fresh_since`."""
        self._replica.waiting.is_index_wanted = True

    @property
    def _is_waiting(self) -> bool:
        """Whether `_admit` may have to wait, or to refuse."""
        cluster = self._state.cluster
        return not cluster.cluster_id or cluster.expect != 0

    async def _admit(self, deadline: float) -> None:
        """Refuse a client's request while the cluster waits for nodes.

        A node that has not yet learnt of the cluster's creation cannot tell whether it waits, and
        so waits to learn of it first.

        Raises:
            NoLeader: The cluster waits, or its creation is not agreed in time.
        """
        state, seen = self._state, -1
        if not state.cluster_id:
            await self._replica.read_barrier(deadline)
            with trio.move_on_at(deadline):
                while not state.cluster_id:
                    seen = await self._wait_change(seen)
        if not state.cluster_id:
            raise NoLeader("the cluster is only just being founded; try again in a moment")
        if state.cluster.expect:
            raise NoLeader(self.waiting)
