"""The zone: which names exist under the cluster's domain, and which RRsets they have.

A pure function of a `ClusterView`; nothing here knows of messages, sockets or sizes.

Theory of operation: `build_zone` lists what is published as (name, RRset) pairs, group by group and
service by service, and `_Builder` turns the pairs into nodes. Whatever lies between the apex and a
listed name comes to exist without data (an empty non-terminal, RFC 8020), so a new group or service
is one more line in `_GROUPS` or `_SERVICES`, and nothing else.

Names that only a cluster with a leader can answer are *unavailable* while there is none: the
question gets SERVFAIL, which makes a resolver try another server, where NXDOMAIN would be believed
and cached (RFC 2308 section 7.1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from .records import Address, Name, Ns, Rdata, Record, RRType, Soa, Srv, Txt, name_of
from .view import ClusterView, Member

# Nobody transfers this zone (AXFR is refused), so these three only have to look sensible to checkers
# of the kind of RIPE-203; the values are its recommendations for small, quickly changing zones.
_REFRESH_S = 3600
_RETRY_S = 600
_EXPIRE_S = 86400


@dataclass(frozen=True, slots=True)
class Node:
    """One existing name.

    Attributes:
        rrsets: Contents by type, without duplicates, in a stable order; empty for a name that only
            lies above others.
        available: False when it cannot be answered now, whatever the type.
    """

    rrsets: Mapping[int, tuple[Rdata, ...]] = field(default_factory=dict)
    available: bool = True


@dataclass(frozen=True, slots=True)
class Zone:
    """All that is published under one apex at one moment.

    Attributes:
        apex: The zone's own name.
        ttl_s: TTL of every record and minimum of the SOA, in seconds.
        nodes: Every existing name, absolute.
        soa: Contents of the apex's SOA, which negative answers carry.
    """

    apex: Name
    ttl_s: int
    nodes: Mapping[Name, Node]
    soa: Soa

    def covers(self, name: Name) -> bool:
        """Whether `name` is the apex or below it."""
        return name[-len(self.apex) :] == self.apex

    def glue(self, rdatas: Iterable[Rdata]) -> list[Record]:
        """Addresses of the hosts that SRV and NS contents point to, for the additional section."""
        targets = dict.fromkeys(r.target for r in rdatas if isinstance(r, (Srv, Ns)))
        return [
            Record(target, rtype, self.ttl_s, rdata)
            for target in targets
            if target in self.nodes
            for rtype in (RRType.A, RRType.AAAA)
            for rdata in self.nodes[target].rrsets.get(rtype, ())
        ]


def build_zone(view: ClusterView) -> Zone:
    """Compute what is published for a view.

    Raises:
        ValueError: The zone's or a member's name is not a DNS name.
    """
    apex = name_of(view.zone)
    leader = next((m for m in view.members if m.name == view.leader), None)
    # Being in contact with the leader proves more than the last round of health checks says.
    live = tuple(m for m in view.members if m.live or m is leader)
    ttl_s = view.ttl_s if leader is not None else 0
    soa = _soa(view, apex, ttl_s)

    zone = _Builder(apex)
    zone.add(apex, (soa, *_name_servers(view, live, apex)))
    zone.add((b"node", *apex), ())
    for member in view.members:
        zone.add(_host(member.name, apex), _member_rdatas(view, member, apex))
    zone.add((b"leader", *apex), _member_rdatas(view, leader, apex), available=leader is not None)
    for label, belongs in _GROUPS:
        chosen = [m for m in live if belongs(m)]
        addresses = [address for m in chosen for address in _addresses(m)]
        zone.add((label, *apex), [*addresses, *(_api(m, apex) for m in chosen)])
    for label, rdata_of in _SERVICES:
        zone.add((label, b"_tcp", *apex), [rdata_of(m, apex) for m in live])
    zone.add(
        (b"_hstore-leader", b"_tcp", *apex),
        () if leader is None else (_api(leader, apex),),
        available=leader is not None,
    )
    return Zone(apex, ttl_s, zone.nodes, soa)


class _Builder:
    """Collects nodes, and makes the names between the apex and each of them exist."""

    def __init__(self, apex: Name) -> None:
        self.nodes: dict[Name, Node] = {}
        self._apex = apex

    def add(self, name: Name, rdatas: Iterable[Rdata], *, available: bool = True) -> None:
        rrsets: dict[int, dict[Rdata, None]] = {}
        for rdata in rdatas:
            rrsets.setdefault(_type_of(rdata), {})[rdata] = None
        self.nodes[name] = Node({rtype: tuple(r) for rtype, r in rrsets.items()}, available)
        for depth in range(1, len(name) - len(self._apex)):
            self.nodes.setdefault(name[depth:], Node())


def _soa(view: ClusterView, apex: Name, ttl_s: int) -> Soa:
    return Soa(
        mname=_host(view.self_name, apex),
        rname=(b"hostmaster", *apex),
        serial=view.serial % 2**32,
        refresh_s=_REFRESH_S,
        retry_s=_RETRY_S,
        expire_s=_EXPIRE_S,
        minimum_s=ttl_s,
    )


def _name_servers(view: ClusterView, live: Iterable[Member], apex: Name) -> list[Ns]:
    """Every live node serves the zone; whoever answers does in any case."""
    names = [m.name for m in live]
    if view.self_name not in names:
        names.append(view.self_name)
    return [Ns(_host(name, apex)) for name in names]


def _member_rdatas(view: ClusterView, member: Member | None, apex: Name) -> tuple[Rdata, ...]:
    if member is None:
        return ()
    return (*_addresses(member), _api(member, apex), _facts(view, member))


def _addresses(member: Member) -> tuple[Address, ...]:
    """The member's address, or none when what it is reached at is not an IP literal."""
    try:
        ip = ipaddress.ip_address(member.host)
    except ValueError:
        return ()
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return (Address(ip.ipv4_mapped),)
    return (Address(ip),)


def _api(member: Member, apex: Name) -> Srv:
    return Srv(member.api_port, _host(member.name, apex))


def _facts(view: ClusterView, member: Member) -> Txt:
    """One string per fact, as in DNS-SD (RFC 6763 section 6.3)."""
    host = f"[{member.host}]" if ":" in member.host else member.host
    facts = (
        f"id={member.node_id}",
        f"name={member.name}",
        f"term={view.term}",
        f"api={host}:{member.api_port}",
        f"peer={host}:{member.peer_port}",
    )
    return Txt(tuple(fact.encode("ascii") for fact in facts))


def _host(member_name: str, apex: Name) -> Name:
    return (*name_of(member_name), b"node", *apex)


def _type_of(rdata: Rdata) -> RRType:
    match rdata:
        case Address():
            return rdata.rtype
        case Srv():
            return RRType.SRV
        case Txt():
            return RRType.TXT
        case Ns():
            return RRType.NS
        case Soa():
            return RRType.SOA
        case _:
            return RRType.HINFO


_GROUPS: tuple[tuple[bytes, Callable[[Member], bool]], ...] = ((b"nodes", lambda _member: True),)
"""Names that stand for those of the live members of whom the predicate holds."""

_SERVICES: tuple[tuple[bytes, Callable[[Member, Name], Rdata]], ...] = ((b"_hstore", _api),)
"""Services (under `_tcp`) that every live member offers."""
