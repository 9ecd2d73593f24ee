"""What clients ask of the cluster through one node: to see it, to join or leave it, to hand over the lead.

Owns nothing but the order of the steps. The leader judges the requests (`membership.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..driver.replica import Replica
from ..errors import Refused
from ..model.cluster_info import ClusterInfo, JoinReply, JoinRequest
from ..model.commands import Member
from ..peers.wire import ForwardKind
from .handover import Handover
from .shutdown import Shutdown
from .status import Status
from .this_node import ThisNode
from .timeline import Happened


class Administration:
    """The cluster, seen and changed through one node. The HTTP API serves it as `Administration`."""

    def __init__(
        self,
        replica: Replica,
        status: Status,
        handover: Handover,
        this_node: ThisNode,
        shutdown: Shutdown,
    ) -> None:
        self._replica = replica
        self._status = status
        self._handover = handover
        self._this_node = this_node
        self._shutdown = shutdown

    def cluster(self) -> ClusterInfo:
        """Return the cluster as this node sees it now; wakes those who wait for a change of it."""
        return self._status.refresh()

    @property
    def members(self) -> Mapping[int, Member]:
        """All members by id, as the log up to the applied index made them."""
        return self._replica.facts.members

    @property
    def is_as_founded(self) -> bool:
        """Whether no node has joined or left the cluster since it was founded."""
        facts = self._replica.facts
        return len(facts.members) <= 1 and not facts.removed

    async def wait_cluster_change(self, seen: int) -> int:
        """Wait until the structural version is not `seen`, and return it."""
        return await self._status.wait_change(seen)

    def timeline(self, since_ms: int) -> Sequence[Happened]:
        """Return what happened to the cluster at and after a time, as this node saw it."""
        return self._status.timeline.since(since_ms)

    async def cluster_barrier(self, deadline: float) -> None:
        """Wait until this node knows all that was agreed before; also while it waits for nodes.

        Raises:
            NoLeader, Overloaded: No majority confirmed it before the deadline.
        """
        await self._replica.read_barrier(deadline)

    async def join(self, request: JoinRequest, deadline: float) -> JoinReply:
        """Make a newcomer a learner.

        Raises:
            Refused: It is this node, it means another cluster, its name is taken, its id was
                removed, its protocol differs, or the member that it is to replace is alive.
            Unavailable: No leader took it in before the deadline.
        """
        own, address = self._replica.facts.id, self._this_node.address
        if request.id == f"{own:016x}" or request.address == address:
            raise Refused(f"{request.address} is this very node: a node cannot join itself")
        here = self._replica.storage.identity.cluster_id
        if request.cluster_id not in {"", here}:
            raise Refused(
                f"{address} is a node of cluster {here}, not of {request.cluster_id[:32]}: give -h the "
                "address of a member of that one"
            )
        data = msgspec.json.encode(request)
        reply: JoinReply = await self._replica.request(ForwardKind.JOIN, data, deadline)
        return reply

    async def remove(self, node: str, deadline: float) -> None:
        """Remove a member (its name, id or API address) for good.

        Raises:
            Refused: There is no such member, or the rest would have no live majority.
            Unavailable: No leader did it before the deadline.
        """
        await self._replica.request(ForwardKind.REMOVE, node.encode(), deadline)

    async def leave(self, deadline: float) -> None:
        """Remove this node from the cluster for good, then have it stop.

        Raises:
            Refused, Unavailable: As for `remove`.
        """
        # A new leader removes it: so nobody has to find out that the old one is gone.
        await self._handover.give_up_lead()
        await self.remove(f"{self._replica.facts.id:016x}", deadline)
        self._this_node.removed()

    async def transfer(self, to: str, deadline: float) -> str:
        """Have a member lead (its name, id or API address; empty: any); return who leads then.

        Raises:
            Refused: There is no such member, or it cannot lead.
            Unavailable: It does not lead before the deadline.
        """
        return await self._handover.transfer(to, deadline)

    def stop_all(self) -> None:
        """Have all members stop, followers first, and this node with them; returns at once."""
        self._shutdown.asked()
