"""One node about itself: its name and address, whether it is healthy, and how it ends.

Owns the events that say that the node shall stop, and why. `process/main.py` waits for them and
ends it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import trio

from hstore.dns.zone import host_names, service_hosts

from ..driver.replica import Replica
from ..model.commands import ClusterSettings, Member
from ..model.values import is_address
from ..net.lag import Lag
from .handover import Handover
from .status import Status

_STOP_SECONDS = 2.0
"""For the cluster to agree that it does without this node; a stop takes 5 s in all."""

_FORMER_MAX = 64
"""Names of members that were removed: the log speaks of one for some seconds after that."""


class ThisNode:
    """What a node knows of itself. The HTTP API serves it as `Process`.

    Attributes:
        address: `HOST:PORT` of its API, as advertised.
        stop_requested: Set when the node shall stop; `stop_reason` says why.
        stop_began_at: When it was first asked to stop, in seconds of `trio.current_time()`.
        begins_anew: Whether its process shall start it again once it has stopped.
        kill_requested: Set when the process shall end as by a crash.
        was_removed: Whether it stops because it is no member any more.
    """

    def __init__(
        self,
        replica: Replica,
        status: Status,
        handover: Handover,
        lag: Lag,
        *,
        address: str,
        name: str,
    ) -> None:
        """Stand for the node of `replica`.

        Args:
            replica: Its copy of the state.
            status: Whom it is in contact with.
            handover: Gives its vote to others before it stops.
            lag: The stalls of its event loop.
            address: `HOST:PORT` of its API.
            name: What it is called until the cluster has given it a name.
        """
        self.address = address
        self.stop_requested = trio.Event()
        self.stop_reason = ""
        self.stop_began_at = math.inf
        self.begins_anew = False
        self.kill_requested = trio.Event()
        self.was_removed = False
        self._started_at = trio.current_time()
        self._replica = replica
        self._facts = replica.facts
        self._status = status
        self._handover = handover
        self._lag = lag
        self._given_name = name
        self._members: Mapping[int, Member] = {}
        # Names that the log has looked among, and those of members that are none any more.
        self._named: Mapping[int, Member] = replica.facts.members
        self._former: dict[int, str] = {}
        self._hosts_settings: ClusterSettings | None = None
        self._hosts: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """This node's name; what it was started with, until the cluster has given it one."""
        member = self._facts.members.get(self._facts.id)
        return member.name if member else self._given_name

    def name_of(self, member: int) -> str:
        """Return the name of a member, from any thread; empty: it is none that this node knows.

        One that was removed keeps its last name here: the log has more to say of it.
        """
        members = self._facts.members
        if members is not self._named:
            before, self._named = self._named, members
            gone = {one.id: one.name for one in before.values() if one.id not in members}
            # Replaced, not changed: another thread may just be looking.
            self._former = dict([*self._former.items(), *gone.items()][-_FORMER_MAX:])
        if member == self._facts.id:
            return self.name
        return self._facts.name_of(member) or self._former.get(member, "")

    @property
    def id(self) -> int:
        """This node's permanent id."""
        return self._facts.id

    @property
    def zone(self) -> str:
        """The DNS domain of the cluster."""
        return self._facts.settings.zone

    @property
    def zone_hosts(self) -> frozenset[str]:
        """The names in the cluster's domains that only it has addresses for, in lower case.

        Those of services and of external nodes are not among them: clients can register these. Made anew
        by a change.
        """
        members, settings = self._facts.members, self._facts.settings
        if members is not self._members or settings is not self._hosts_settings:
            self._members, self._hosts_settings = members, settings
            names = [member.name for member in members.values()]
            domains = [settings.zone, *filter(None, settings.alt_domains.split(","))]
            self._hosts = frozenset().union(
                *(host_names(domain, names) | service_hosts(domain) for domain in domains)
            )
        return self._hosts

    def unhealthy(self) -> str | None:
        """Return why this node is not in contact with a leader, or None when it is."""
        if self._status.in_contact():
            return None
        if self._facts.is_leader:
            return "this node leads, but has lost contact with the majority"
        if self._facts.leader:
            return "the leader has not been heard for an election timeout"
        return self._status.why_no_leader()

    @property
    def knows_leader(self) -> bool:
        """Whether this node is in current contact with a leader."""
        return self._status.in_contact()

    @property
    def last_contact_ms(self) -> int:
        """Milliseconds since this node's copy was known to be what the leader had; a leader's is 0.

        A node that has not followed any leader yet counts from its start, and a leader without its
        majority from the last read that a majority confirmed.
        """
        if self._facts.is_leader and self._status.in_contact():
            return 0
        fresh_at = self._replica.fresh_at
        since = self._started_at if fresh_at is None else fresh_at
        return int((trio.current_time() - since) * 1000)

    def lag_ms(self, seconds: int) -> float:
        """Return the longest stall of the event loop in the last `seconds`, in milliseconds."""
        return self._lag.longest_ms(seconds)

    async def stop(self) -> str:
        """Leave the quorum, then request a clean stop, also when cancelled.

        Returns:
            Why the node is still a voter; empty when the others can do without it.
        """
        self.stop_began_at = min(self.stop_began_at, trio.current_time())
        try:
            return await self._handover.leave_quorum(trio.current_time() + _STOP_SECONDS)
        finally:
            self.request_stop("asked to stop")

    def restart(self) -> None:
        """Request a clean stop with the vote kept, after which the process starts the node again.

        A node that is stopping already goes on stopping.
        """
        if not self.stop_requested.is_set():
            self.begins_anew = True
            self.request_stop("asked to restart")

    def kill(self) -> None:
        """Request that the process ends as by a crash, once the answer to this request has left."""
        self.kill_requested.set()

    def removed(self) -> None:
        """Request a clean stop because this node is no member any more."""
        self.was_removed = True
        self.request_stop("this node was removed from the cluster")

    def another_runs(self, peer: int, other: str) -> str:
        """Return why this node ends where another process of it runs, and what its user can do.

        Args:
            peer: The member that says so.
            other: `HOST:PORT` where the other process answers members; perhaps no address.
        """
        members = self._facts.members
        own, said_by = members.get(self._facts.id), members.get(peer)
        where = f"with peer port {other}" if is_address(other) else "elsewhere"
        if own is not None and own.peer_address == other:
            where = f"at {own.address}"
        return (
            f"another process of this node, {self.name or 'without a name'} "
            f"({self._facts.id:016x}), runs {where} (says {said_by.name if said_by else 'a peer'}); "
            "one of the two data directories is a copy of the other\n"
            "stop the process that is not wanted; for one more node, `hstore join` with an empty "
            "--data-dir"
        )

    def request_stop(self, reason: str) -> None:
        """Request a clean stop; the first reason stands."""
        if not self.stop_requested.is_set():
            self.stop_began_at = min(self.stop_began_at, trio.current_time())
            self.stop_reason = reason
            self.stop_requested.set()
