"""What the search for faults of name resolution sees, and what it says: plain data.

Words. What a server *told* is what came of one question to it. A *look-up* is what a program gets.
A *check* is one line of what is shown to the user. `doctor.py` makes the observations,
`diagnosis.py` the checks.
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
"""A name of another zone; it is reserved for such uses (RFC 2606)."""


class Result(enum.Enum):
    """What a check came to."""

    OK = "ok"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table.

    Attributes:
        where: The place that was looked at.
        detail: What was seen, in a few words.
        advice: What it means and what to do; empty where nothing is to be done.
        may_pass: Whether it may be over in a moment: an election, an answer from a cache.
    """

    where: str
    result: Result
    detail: str
    advice: str = ""
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """What a node's DNS server said.

    Attributes:
        node: The node, as the cluster shows it.
        leader, nodes: Of those two names of the zone, by UDP.
        leader_by_tcp: The first of them by TCP.
        foreign: Of a name outside of the zone.
    """

    node: NodeInfo
    leader: Told
    nodes: Told
    leader_by_tcp: Told
    foreign: Told


@dataclass(frozen=True, slots=True)
class ResolverSeen:
    """What a server of resolv.conf said; `by_tcp` only where an answer was truncated."""

    address: str
    leader: Told
    nodes: Told
    by_tcp: Told | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What `getaddrinfo` gave for a name: addresses, or a problem in words."""

    hosts: frozenset[str] = frozenset()
    problem: str = ""
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Observations:
    """All that was seen at one moment.

    Attributes:
        zone: The domain of the cluster.
        info: The cluster; None when no node was reached, and `problem` says why.
        lookups: By the first label of the name: `leader` and `nodes`.
        service: What this machine's files say.
        systemd_version: Where systemd-resolved is asked, and it could be found out.
        routes: What `resolvectl domain` prints, likewise.
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
        """The label that is judged: `leader`, or `nodes` while there is none."""
        return "nodes" if self.info is not None and self.info.leader is None else "leader"

    @property
    def full_name(self) -> str:
        """The name that is judged."""
        return f"{self.name}.{self.zone}"

    def told(self, one: NodeSeen | ResolverSeen) -> Told:
        """What somebody said of that name."""
        return one.nodes if self.name == "nodes" else one.leader

    def leader_hosts(self) -> frozenset[str]:
        """Where the cluster's leader is, as the node says that was asked over HTTP."""
        if self.info is None:
            return frozenset()
        leader = self.info.leader
        return frozenset(_host(node) for node in self.info.nodes if node.name == leader)

    def truth(self) -> frozenset[str]:
        """What the nodes themselves say of the name, or, if none says anything, the cluster."""
        said = frozenset[str]().union(*(self.told(one).hosts for one in self.nodes))
        if said or self.info is None:
            return said
        if self.name == "leader":
            return self.leader_hosts()
        return frozenset(map(_host, self.info.nodes))


def _host(node: NodeInfo) -> str:
    return split_address(node.address).host
