"""What the API asks of the node behind it.

`node/node.py` stands behind this in a node, a fake in the tests. Deadlines are absolute, in seconds
of `trio.current_time()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..model.cluster_info import ClusterInfo, ConfigValue, JoinReply, JoinRequest
    from ..model.commands import Command, Outcome
    from ..state.machine import Item, KeyReader
    from ..state.watches import Watch


class Waiter(Protocol):
    """A request under way that no task waits for."""

    def give_up(self) -> None:
        """Want to be told nothing any more. What becomes of a write is unknown."""
        ...


Tell = Callable[[Any], None]
"""Called once: with the result, or with the HstoreError that `write` or `read_barrier` raise."""


class Backend(Protocol):
    """The node, as its HTTP API sees it."""

    @property
    def name(self) -> str:
        """This node's name."""
        ...

    @property
    def address(self) -> str:
        """`HOST:PORT` of this node's API, as advertised."""
        ...

    @property
    def zone(self) -> str:
        """The DNS domain of the cluster."""
        ...

    @property
    def applied_index(self) -> int:
        """Index of the last entry whose effect reads on this node can see."""
        ...

    @property
    def waiting(self) -> str:
        """Why clients must wait for nodes that have yet to join; empty: they need not.

        While it is said, `write` and `read_barrier` raise it; only local reads have to ask.
        """
        ...

    def get(self, key: bytes) -> Item | None:
        """Read one key from the local copy."""
        ...

    def view(self) -> KeyReader:
        """Return a reader of the local copy as of now; the caller closes it."""
        ...

    def watch(self, prefix: bytes, after: int | None) -> Watch:
        """Begin to watch the changes that take effect on this node; the caller closes it.

        Raises:
            Compacted: It is not known any more what has changed after the revision `after`.
        """
        ...

    async def write(self, command: Command, deadline: float) -> Outcome:
        """Have a command committed and applied; forwarded once when another node leads.

        Raises:
            NoLeader, Overloaded, NotApplied: It certainly took no effect; the cluster may be
                waiting for nodes.
            OutcomeUnknown: It may or may not take effect.
            KeyReused: It is a `Keyed`, and another request was answered under its key.

        Cancellation: the outcome is unknown.
        """
        ...

    def begin_write(self, command: Command, deadline: float, tell: Tell) -> Waiter | None:
        """As `write`, without a task that waits; None: this one needs a task.

        Raises:
            Overloaded: It certainly took no effect.
        """
        ...

    def begin_read(self, deadline: float, tell: Tell) -> Waiter | None:
        """As `read_barrier`, without a task that waits; None: this one needs a task.

        Raises:
            Overloaded: Too many wait.
        """
        ...

    async def read_barrier(self, deadline: float) -> None:
        """Return when local reads see every write answered before this call (linearizable).

        Raises:
            NoLeader, Overloaded: No majority confirmed it before the deadline.
        """
        ...

    def stale_ms(self) -> int | None:
        """Milliseconds since this node had applied all that was committed then; None: never."""
        ...

    def unhealthy(self) -> str | None:
        """Return why this node is not in contact with a leader, or None when it is."""
        ...

    def lag_ms(self, seconds: int) -> float:
        """Return the longest stall of the event loop in the last `seconds`, in milliseconds."""
        ...

    def cluster(self) -> ClusterInfo:
        """Return the cluster as this node sees it now."""
        ...

    async def wait_cluster_change(self, seen: int) -> int:
        """Wait until the structural version is not `seen`, and return it.

        Structural: leader, term, membership, name, address, type, health; not the figures.
        `seen` -1 returns at once.
        """
        ...

    async def join(self, request: JoinRequest, deadline: float) -> JoinReply:
        """Make a newcomer a learner.

        Raises:
            Refused: Its name is taken, its id was removed, or its protocol differs.
            Unavailable: As for `write`.
        """
        ...

    async def remove(self, node: str, deadline: float) -> None:
        """Remove a member (its name, id or API address) for good.

        Raises:
            Refused: There is no such member, or the rest would have no live majority.
            Unavailable: As for `write`.
        """
        ...

    def config(self) -> dict[str, ConfigValue]:
        """Return every setting by key, as this node knows it."""
        ...

    async def cluster_barrier(self, deadline: float) -> None:
        """As `read_barrier`, for what is known of the cluster itself; also while it waits."""
        ...

    async def configure(self, key: str, value: str, deadline: float) -> ConfigValue:
        """Change a setting, on every node but for `log_level`; return what it is then.

        Raises:
            ConfigError: There is no such key, or the value is not allowed.
            Refused: It does not fit what was agreed meanwhile; there is no such member; or
                without that voter there would be no live majority.
            Unavailable: As for `write`.
        """
        ...

    async def rename(self, node: str, name: str, deadline: float) -> str:
        """Rename a member (its name, id or API address; empty: this node); return the old name.

        Raises:
            ConfigError: It is not a name.
            Refused: Another member has it, or there is no such member.
            Unavailable: As for `write`.
        """
        ...

    async def leave(self, deadline: float) -> None:
        """Remove this node from the cluster, then stop it (`stop` is called by this)."""
        ...

    async def transfer(self, to: str, deadline: float) -> str:
        """Have a member lead (its name, id or API address; empty: any); return who leads then.

        Raises:
            Refused: There is no such member, or it cannot lead.
            Unavailable: It has not come to that in time.
        """
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
