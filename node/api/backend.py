"""What the API asks of the node behind it, in protocols, and the `Backend` that holds them.

In a node, `driver/keys.py` (keys and catalog), `cluster/administration.py`, `cluster/this_node.py`,
`cluster/configure.py` and `checks/runner.py` implement them; in the tests, a fake does. What is asked of
a node's figures is in `figures.py`. Deadlines are absolute, in seconds of `trio.current_time()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..model.checks import Word
from .figures import NO_METRICS, NO_STATISTICS, Metrics, Statistics

if TYPE_CHECKING:
    from ..model.checks import Check, CheckStatus
    from ..model.cluster_info import ClusterInfo, ConfigValue, JoinReply, JoinRequest
    from ..model.commands import ClusterSettings, Command, Member, Outcome
    from ..model.locks import Session
    from ..model.services import Registration
    from ..state.machine import Item, Reader
    from ..state.watching.changes import Table
    from ..state.watching.watches import Watch


class Waiter(Protocol):
    """A request under way that no task waits for."""

    def give_up(self) -> None:
        """Cancel the callback. The outcome of a write is unknown then."""
        ...


class ChangeWaiter(Waiter, Protocol):
    """A wait for a change.

    Attributes:
        is_due: The change has come; the callback is called soon after.
    """

    is_due: bool


Tell = Callable[[Any], None]
"""Called once: with the result, or with the HstoreError that `write` or `read_barrier` raise."""


class Keys(Protocol):
    """Keys and values: the local copy, and the way into the log."""

    @property
    def applied_index(self) -> int:
        """Index of the last entry whose effect reads on this node can see."""
        ...

    @property
    def waiting(self) -> str:
        """Why clients must wait for nodes that have yet to join; empty: they need not.

        `write` and `read_barrier` raise NoLeader with this text by themselves. A caller has to ask
        only before a read that uses no barrier.
        """
        ...

    def get(self, key: bytes) -> Item | None:
        """Read one key from the local copy."""
        ...

    def view(self) -> Reader:
        """Return a reader of the local copy as of now; the caller closes it."""
        ...

    def watch(self, prefix: bytes, after: int | None) -> Watch:
        """Begin to watch the changes that take effect on this node; the caller closes it.

        Raises:
            Compacted: The changes after the revision `after` are not all kept any more.
        """
        ...

    def wait_once(
        self, table: Table, key: bytes, call: Callable[[], None], *, is_prefix: bool = False
    ) -> ChangeWaiter:
        """Have `call` called once, soon after the next change of a key of a table takes effect here.

        Args:
            table: Of `state/watching/changes.py`.
            key: As that table names it.
            call: Called in a turn of the loop that has room for it; perhaps without a change that
                matters, for instance when a snapshot was installed.
            is_prefix: Any key that starts with `key` will do.
        """
        ...

    async def write(
        self, command: Command, deadline: float, *, applied_here: bool = False
    ) -> Outcome:
        """Have a command committed and applied; forwarded once when another node leads.

        Args:
            command: What to do.
            deadline: Until when.
            applied_here: Return only when it has taken effect in the local copy, too.

        Raises:
            NoLeader, Overloaded, NotApplied: It certainly took no effect; the cluster may be
                waiting for nodes.
            OutcomeUnknown: It may or may not take effect.
            KeyReused: It is a `Keyed`, and another request was answered under its key.

        Cancellation: the outcome is unknown.
        """
        ...

    def begin_write(
        self, command: Command, deadline: float, tell: Tell, *, applied_here: bool = False
    ) -> Waiter | None:
        """As `write`, without a task that waits; None: this one needs a task.

        Raises:
            Overloaded: It certainly took no effect.
        """
        ...

    async def read_barrier(self, deadline: float) -> None:
        """Return when local reads see every write answered before this call (linearizable).

        Raises:
            NoLeader, Overloaded: No majority confirmed it before the deadline.
        """
        ...

    def begin_read(self, deadline: float, tell: Tell) -> Waiter | None:
        """As `read_barrier`, without a task that waits; None: this one needs a task.

        Raises:
            Overloaded: Too many wait.
        """
        ...

    def is_fresh_since(self, moment: float) -> bool:
        """Whether local reads see all that was answered before `moment`, without asking anybody.

        `moment`: in seconds of `trio.current_time()`. After `freshen` at that moment it becomes true
        soon, while there is a leader.
        """
        ...

    def freshen(self) -> None:
        """Have the leader asked soon, once for all that want it: see `is_fresh_since`."""
        ...

    def stale_ms(self) -> int | None:
        """Milliseconds since this node had applied all that was committed then; None: never."""
        ...


class Catalog(Protocol):
    """What reads of the catalog ask so often that they do it without a `Reader`."""

    def service_index(self, folded: bytes) -> int:
        """Return the index of the answers about one service in the local copy; 0: it has no instance.

        `folded` is its name as `state.catalog.records.fold` returns it.
        """
        ...

    def nodes_of_service(self, folded: bytes) -> tuple[int, ...]:
        """Return the numbers of the nodes that have an instance of a service."""
        ...

    @property
    def own_number(self) -> int:
        """The catalog number of this member; 0: it does not know it yet."""
        ...

    def is_so(self, command: Registration) -> bool:
        """Whether a registration would change nothing in the local copy."""
        ...


class Checks(Protocol):
    """The checks that this node runs."""

    def word(self, number: int, check: str, status: CheckStatus, output: str) -> Word:
        """Take a client's word about a TTL check that this node runs: its time starts again.

        Args:
            number: Of the node of the check.
            check: Its ID.
            status: What it says from now on.
            output: Why.
        """
        ...

    async def word_elsewhere(
        self, number: int, check: str, status: CheckStatus, output: str, deadline: float
    ) -> Word:
        """As `word`, of a check that another member runs: it is asked.

        Raises:
            NoLeader, Overloaded: Perhaps the word was not taken.
        """
        ...

    def newest(self, check: Check) -> Check:
        """Return the check with its newest status and output, if this node runs it; else as it is."""
        ...

    @property
    def scripts(self) -> bool:
        """Whether this node runs scripts (setting `checks.script`)."""
        ...


class NoChecks:
    """The `Checks` of a node that runs none."""

    scripts = False

    def word(self, number: int, check: str, status: CheckStatus, output: str) -> Word:
        """Know no check."""
        return Word.UNKNOWN

    async def word_elsewhere(
        self, number: int, check: str, status: CheckStatus, output: str, deadline: float
    ) -> Word:
        """Know no check."""
        del deadline
        return self.word(number, check, status, output)

    def newest(self, check: Check) -> Check:
        """Return the check as it is."""
        return check


class Sessions(Protocol):
    """The clocks of sessions, which the leader keeps."""

    async def renew(self, session_id: bytes, deadline: float) -> Session | None:
        """Start the time of a session again; return it, or None: there is none.

        The leader has started the clock, and confirmed its lead after that. Where the end of the
        session was proposed already, it waits for that.

        Raises:
            NoLeader, Overloaded: Perhaps it was not renewed.
        """
        ...

    def begin_renew(self, session_id: bytes, deadline: float, tell: Tell) -> Waiter | None:
        """As `renew`, without a task that waits; `tell` gets the session, None or the error.

        Returns:
            None: this one needs a task.

        Raises:
            Overloaded: Too many wait.
        """
        ...

    async def left_ms(self, session_ids: Sequence[bytes], deadline: float) -> list[int | None]:
        """Return of each session the milliseconds until its TTL is over, as the leader has it.

        Negative: it is over, and the session ends after as long again. None: it has no clock.

        Args:
            session_ids: Up to `peers.wire.SESSIONS_ASKED_MAX`.
            deadline: Until when.

        Raises:
            Unavailable: The leader has not said.
        """
        ...


class Administration(Protocol):
    """The cluster: who belongs, who leads."""

    def cluster(self) -> ClusterInfo:
        """Return the cluster as this node sees it now."""
        ...

    @property
    def members(self) -> Mapping[int, Member]:
        """All members by id, as of `Keys.applied_index`. Replaced whole by every change."""
        ...

    @property
    def is_as_founded(self) -> bool:
        """Whether no node has joined or left the cluster since it was founded."""
        ...

    async def wait_cluster_change(self, seen: int) -> int:
        """Wait until the structural version is not `seen`, and return it.

        Structural: leader, term, membership, name, address, type, health; not the figures.
        `seen` -1 returns at once.
        """
        ...

    def timeline(self, since_ms: int) -> Sequence[object]:
        """Return what happened to the cluster at and after a time, as this node saw it.

        Args:
            since_ms: Milliseconds since the epoch.

        Returns:
            Structs with the members `at_ms`, `kind`, `member`, `id` and `text`, oldest first.
        """
        ...

    async def cluster_barrier(self, deadline: float) -> None:
        """Wait until this node knows all that was agreed about the cluster before this call.

        Works as `Keys.read_barrier`, but also while the cluster waits for nodes.

        Raises:
            NoLeader, Overloaded: No majority confirmed it before the deadline.
        """
        ...

    async def join(self, request: JoinRequest, deadline: float) -> JoinReply:
        """Make a newcomer a learner.

        Raises:
            Refused: Its name is taken, its id was removed, or its protocol differs.
            Unavailable: As for `Keys.write`.
        """
        ...

    async def remove(self, node: str, deadline: float) -> None:
        """Remove a member (its name, id or API address) for good.

        Raises:
            Refused: There is no such member, or the rest would have no live majority.
            Unavailable: As for `Keys.write`.
        """
        ...

    async def leave(self, deadline: float) -> None:
        """Remove this node from the cluster, then have it stop (no `Process.stop` is needed).

        Raises:
            Refused, Unavailable: As for `remove`.
        """
        ...

    async def transfer(self, to: str, deadline: float) -> str:
        """Have a member lead (its name, id or API address; empty: any); return who leads then.

        Raises:
            Refused: There is no such member, or it cannot lead.
            Unavailable: It does not lead before the deadline.
        """
        ...

    def stop_all(self) -> None:
        """Have all members stop cleanly, this node among them, soon after the answer is sent.

        Which of them have ended is to be seen at their ports. They keep their votes.
        """
        ...


class Process(Protocol):
    """This node: its name and addresses, its health, its end."""

    @property
    def name(self) -> str:
        """This node's name."""
        ...

    @property
    def id(self) -> int:
        """This node's permanent id."""
        ...

    @property
    def address(self) -> str:
        """`HOST:PORT` of this node's API, as advertised."""
        ...

    @property
    def zone_hosts(self) -> frozenset[str]:
        """The names in the cluster's zone that have addresses, in lower case."""
        ...

    def unhealthy(self) -> str | None:
        """Return why this node is not in contact with a leader, or None when it is."""
        ...

    @property
    def knows_leader(self) -> bool:
        """Whether this node is in current contact with a leader."""
        ...

    @property
    def last_contact_ms(self) -> int:
        """Milliseconds since this node's copy was known to be what the leader had; a leader's is 0."""
        ...

    def lag_ms(self, seconds: int) -> float:
        """Return the longest stall of the event loop in the last `seconds`, in milliseconds."""
        ...

    async def stop(self) -> str:
        """Leave the quorum, then stop cleanly, soon after the answer to this request is sent.

        Returns:
            Why the node is still a voter; empty when the others can do without it.
        """
        ...

    def restart(self) -> None:
        """Stop cleanly with the vote kept, and have the process start the node again.

        Where it is stopping already, it goes on stopping.
        """
        ...

    def kill(self) -> None:
        """End the process as a crash would, soon after the answer to this request is sent."""
        ...


class Settings(Protocol):
    """The settings of the cluster and of this node, and the names of its members."""

    @property
    def cluster_settings(self) -> ClusterSettings:
        """The settings that all nodes share, as this node knows them; costs nothing."""
        ...

    def show(self) -> dict[str, ConfigValue]:
        """Return every setting by key, as this node knows it."""
        ...

    async def change(self, key: str, value: str, deadline: float) -> ConfigValue:
        """Change a setting, on every node but for `log_level`; return what it is then.

        Raises:
            ConfigError: There is no such key, or the value is not allowed.
            Refused: It does not fit what was agreed meanwhile; there is no such member; or
                without that voter there would be no live majority.
            Unavailable: As for `Keys.write`.
        """
        ...

    async def rename(self, node: str, name: str, deadline: float) -> str:
        """Rename a member (its name, id or API address; empty: this node); return the old name.

        Raises:
            ConfigError: It is not a name.
            Refused: Another member has it, or there is no such member.
            Unavailable: As for `Keys.write`.
        """
        ...


_NO_CHECKS = NoChecks()


@dataclass(frozen=True, slots=True)
class Backend:
    """The node behind the API."""

    keys: Keys
    administration: Administration
    process: Process
    settings: Settings
    sessions: Sessions
    catalog: Catalog
    checks: Checks = _NO_CHECKS
    metrics: Metrics = NO_METRICS
    statistics: Statistics = NO_STATISTICS
