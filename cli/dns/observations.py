"""What `dns doctor` observes, and the checks that it prints: plain data.

Words. What a server *told* is the result of one query to it. A *look-up* is what `getaddrinfo` gives
to programs. A *check* is one line of the output. `doctor.py` makes the observations, `diagnosis.py`
the checks.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from hstore.dns.probe import Told
from hstore.node.model.cluster_info import ClusterInfo, NodeInfo
from hstore.node.model.values import split_address

from .name_service import NameService

FOREIGN = "example.com"
"""A name of another zone, reserved for such uses (RFC 2606)."""

UNASKED = Told(problem="not asked")
"""In place of an answer for the leader while there is none: the question would be held."""


class Result(enum.Enum):
    """The result of a check."""

    OK = "ok"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table.

    Attributes:
        where: The place that was checked.
        result: Whether it is as it should be.
        detail: What was observed, in a few words.
        advice: What it means and what to do; empty: nothing.
        may_pass: Whether it may be over in a moment: an election, an answer from a cache.
    """

    where: str
    result: Result
    detail: str
    advice: str = ""
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """The replies of a node's DNS server.

    Attributes:
        node: The node, as the cluster shows it.
        leader, nodes: For these two names of the zone, by UDP; `UNASKED` where there is no leader.
        by_tcp: For the name that the checks go by, by TCP.
        foreign: For `FOREIGN`, by UDP.
    """

    node: NodeInfo
    leader: Told
    nodes: Told
    by_tcp: Told
    foreign: Told


@dataclass(frozen=True, slots=True)
class ResolverSeen:
    """The replies of a server of resolv.conf; `by_tcp` only if a reply was truncated."""

    address: str
    leader: Told
    nodes: Told
    by_tcp: Told | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What `getaddrinfo` returned for a name: addresses, or a problem in words."""

    hosts: frozenset[str] = frozenset()
    problem: str = ""
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Observations:
    """All that was observed at one moment.

    Attributes:
        zone: The domain of the cluster.
        info: The cluster; None when no node was reached, and `problem` says why.
        nodes, resolvers: The replies.
        lookups: By the first label of the name: `leader` and `nodes`.
        service: What this machine's files say.
        systemd_version: None unless systemd-resolved is in use and its version is known.
        routes: The output of `resolvectl domain`; empty likewise.
    """

    zone: str
    info: ClusterInfo | None = None
    problem: str = ""
    nodes: tuple[NodeSeen, ...] = ()
    resolvers: tuple[ResolverSeen, ...] = ()
    lookups: Mapping[str, Lookup] = field(default_factory=dict)
    service: NameService = field(default_factory=NameService)
    systemd_version: int | None = None
    routes: str = ""

    @property
    def name(self) -> str:
        """The label that the checks go by: `leader`, or `nodes` while there is no leader."""
        return "nodes" if self.info is not None and self.info.leader is None else "leader"

    @property
    def full_name(self) -> str:
        """The name that the checks go by."""
        return f"{self.name}.{self.zone}"

    def told(self, one: NodeSeen | ResolverSeen) -> Told:
        """A server's reply for that name."""
        return one.nodes if self.name == "nodes" else one.leader

    def leader_hosts(self) -> frozenset[str]:
        """The leader's host, as `/v1/cluster` gives it."""
        if self.info is None:
            return frozenset()
        leader = self.info.leader
        return frozenset(_host(node) for node in self.info.nodes if node.name == leader)

    def truth(self) -> frozenset[str]:
        """The right addresses: those of the nodes' replies, or if there are none, `/v1/cluster`'s."""
        said = frozenset[str]().union(*(self.told(one).hosts for one in self.nodes))
        if said or self.info is None:
            return said
        if self.name == "leader":
            return self.leader_hosts()
        return frozenset(map(_host, self.info.nodes))


def _host(node: NodeInfo) -> str:
    return split_address(node.address).host
