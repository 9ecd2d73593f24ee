"""The zone: which names exist under the cluster's domain, and which RRsets they have.

A pure function of a `ClusterView`. It knows no messages, sockets or sizes.

Theory of operation: `build_zone` lists what is published as (name, RRset) pairs, group by group and
service by service, and `_Builder` turns the pairs into nodes. The names between the apex and a listed
name exist without data (empty non-terminals, RFC 8020). So a new group or service needs one more line
in `_GROUPS` or `_SERVICES`, and nothing else.

Services can be browsed (DNS-SD, RFC 6763): beside its SRV records, `_hstore._tcp` has one PTR for
each instance `<name>._hstore._tcp`, which has an SRV and a TXT record.

The reverse names of members' addresses lie outside the apex. Each of them is an apex of its own,
with its SOA, so that negative answers there have one whose owner they lie under (RFC 2308 section
3); the rest of the reverse tree belongs to other servers.

Names whose answer needs a leader are *unavailable* while there is none. A query for one is held, and
gets SERVFAIL if it has waited in vain, which makes a resolver try another server; NXDOMAIN would be
believed and cached (RFC 2308 section 7.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from .ip_literals import host_and_port, ip_of
from .records import Address, Name, Ns, Ptr, Rdata, Record, RRType, Soa, Srv, Txt, name_of, type_of
from .view import ClusterView, Member

_Build: TypeAlias = Callable[[ClusterView], "Zone"]

# Secondary servers use these three, and this zone has none (AXFR is refused). So they only have to
# satisfy programs that check zones: RIPE-203 recommends them for small, quickly changing zones.
_REFRESH_S = 3600
_RETRY_S = 600
_EXPIRE_S = 86400


@dataclass(frozen=True, slots=True)
class Node:
    """One existing name.

    Attributes:
        rrsets: Contents by type, without duplicates, in a stable order; empty for an empty
            non-terminal.
        available: False: queries for it are held now.
    """

    rrsets: Mapping[int, tuple[Rdata, ...]] = field(default_factory=dict)
    available: bool = True


@dataclass(frozen=True, slots=True)
class Zone:
    """All that is published under one apex at one moment.

    Attributes:
        apex: The zone's own name.
        ttl_s: TTL of every record and minimum of the SOA, in seconds.
        nodes: Every existing name, absolute, and the reverse names of members' addresses.
        soa: Contents of every apex's SOA, for negative answers.
        in_contact: Whether the leader is known, so that what is published is current.
    """

    apex: Name
    ttl_s: int
    nodes: Mapping[Name, Node]
    soa: Soa
    in_contact: bool

    def apex_of(self, name: Name) -> Name | None:
        """Return the apex at or above `name`: the zone's, or a reverse name; else None."""
        if name[-len(self.apex) :] == self.apex:
            return self.apex
        for labels in _REVERSE_LABELS:
            if len(name) >= labels and name[-labels:] in self.nodes:
                return name[-labels:]
        return None

    def glue(self, rdatas: Iterable[Rdata]) -> list[Record]:
        """Return the additional records of an answer.

        For SRV and NS these are the addresses of the hosts that they name; for PTR to an instance of
        a service also its SRV and TXT (RFC 6763 section 12.1).
        """
        rdatas = list(rdatas)
        instances = [r.target for r in rdatas if isinstance(r, Ptr) and _is_instance(r.target)]
        services = self._records(instances, (RRType.SRV, RRType.TXT))
        pointing = [*rdatas, *(record.rdata for record in services)]
        hosts = [r.target for r in pointing if isinstance(r, (Srv, Ns))]
        return services + self._records(hosts, (RRType.A, RRType.AAAA))

    def _records(self, names: Iterable[Name], rtypes: Iterable[RRType]) -> list[Record]:
        return [
            Record(name, rtype, self.ttl_s, rdata)
            for name in dict.fromkeys(names)
            if name in self.nodes
            for rtype in rtypes
            for rdata in self.nodes[name].rrsets.get(rtype, ())
        ]


class Zones:
    """The zone of a view, and the same names below each alternative domain.

    Each is built when it is first asked for. Reverse names belong to the zone alone, and so name it.

    Args:
        build: Builds the zone of a view whose names have been checked.
        view: The cluster.
        alt_domains: The alternative domains.
    """

    def __init__(self, view: ClusterView, alt_domains: Iterable[Name], build: _Build) -> None:
        self._view = view
        self._build = build
        self._own = name_of(view.zone)
        apexes = sorted({self._own, *alt_domains}, key=len, reverse=True)
        self._ends = [(-len(apex), apex) for apex in apexes]
        self._built: dict[Name, Zone] = {}

    def find(self, name: Name) -> tuple[Zone, Name] | None:
        """Return the zone that a name belongs to, and the apex at or above the name."""
        # One of the domains may lie below another: the longest is the closest.
        for start, apex in self._ends:
            if name[start:] == apex:
                zone = self._built.get(apex) or self._zone(apex)
                return zone, zone.apex
        zone = self._zone(self._own)
        reverse = zone.apex_of(name)
        return None if reverse is None else (zone, reverse)

    def _zone(self, apex: Name) -> Zone:
        zone = self._built.get(apex)
        if zone is None:
            if apex == self._own:
                zone = self._build(self._view)
            else:
                text = b".".join(apex).decode("ascii")
                zone = build_zone(replace(self._view, zone=text), with_reverse=False)
            self._built[apex] = zone
        return zone


def check_names(view: ClusterView) -> None:
    """Check that a zone can be built for a view, without building it, which takes much longer.

    Raises:
        ValueError: The zone's or a member's name is not a DNS name.
    """
    for name in (view.zone, view.self_name, *(member.name for member in view.members)):
        name_of(name)


def may_be_unavailable(name: Name) -> bool:
    """Tell whether a name may be one that needs a leader, for a server that knows no zone yet."""
    return name[:1] == (b"leader",) or _LEADER_SERVICE in name


def build_zone(view: ClusterView, *, with_reverse: bool = True) -> Zone:
    """Build the zone of a view whose names have been checked (`check_names`).

    Args:
        view: The cluster.
        with_reverse: Whether the zone has the reverse names of members' addresses, too.
    """
    apex = name_of(view.zone)
    leader = next((m for m in view.members if m.name == view.leader), None)
    # Being in contact with the leader proves more than the last round of health checks says.
    live = tuple(m for m in view.members if m.live or m is leader)
    ttl_s = view.ttl_s if leader is not None else 0
    soa = _soa(view, apex, ttl_s)

    zone = _Builder(apex)
    name_servers = _name_servers(view, live, apex)
    zone.add(apex, (soa, *name_servers))
    zone.add((b"node", *apex), ())
    for member in view.members:
        zone.add(_host(member.name, apex), _member_rdatas(view, member, apex))
    zone.add((b"leader", *apex), _member_rdatas(view, leader, apex), available=leader is not None)
    for label, belongs in _GROUPS:
        chosen = [m for m in live if belongs(m, leader)]
        addresses = [address for m in chosen for address in _addresses(m)]
        zone.add((label, *apex), [*addresses, *(_api(m, apex) for m in chosen)])
    for label, srv_of in _SERVICES:
        _add_service(zone, view, (label, b"_tcp", *apex), live, srv_of)
    _add_leader_service(zone, view, leader, apex)
    browsing = (b"_dns-sd", b"_udp", *apex)
    for label in _BROWSED_BY:
        zone.add((label, *browsing), (Ptr(apex),))
    types = [*(label for label, _ in _SERVICES), _LEADER_SERVICE]
    zone.add((b"_services", *browsing), [Ptr((label, b"_tcp", *apex)) for label in types])
    for name, members in _reverse(view.members).items() if with_reverse else ():
        hosts = [Ptr(_host(member.name, apex)) for member in members]
        zone.add_apex(name, (soa, *name_servers, *hosts))
    return Zone(apex, ttl_s, zone.nodes, soa, leader is not None)


def _add_service(
    zone: _Builder,
    view: ClusterView,
    service: Name,
    members: Iterable[Member],
    srv_of: Callable[[Member, Name], Srv],
) -> None:
    """Add a service with its instances, each under the name of the member that offers it."""
    apex = service[2:]
    found: list[Rdata] = []
    for member in members:
        instance, srv = (*name_of(member.name), *service), srv_of(member, apex)
        zone.add(instance, (srv, _facts(view, member)))
        found += (srv, Ptr(instance))
    zone.add(service, found)


def _add_leader_service(
    zone: _Builder, view: ClusterView, leader: Member | None, apex: Name
) -> None:
    """Add the leader's service: one instance, or without a leader only unavailable names."""
    service = (_LEADER_SERVICE, b"_tcp", *apex)
    if leader is not None:
        _add_service(zone, view, service, (leader,), _api)
        return
    for name in (service, *((*name_of(member.name), *service) for member in view.members)):
        zone.add(name, (), available=False)


def host_names(zone: str, members: Iterable[str]) -> frozenset[str]:
    """Return the names that have addresses in a zone, as text in lower case: groups and members."""
    apex = zone.lower().rstrip(".")
    groups = (label.decode() for label, _ in _GROUPS)
    hosts = (f"{name.lower()}.node" for name in members)
    return frozenset(f"{name}.{apex}" for name in ("leader", *groups, *hosts))


def service_hosts(zone: str) -> frozenset[str]:
    """Return the names of the cluster's own service in a zone, by which clients of Consul ask for it."""
    return frozenset({f"consul.service.{zone.lower().rstrip('.')}"})


class _Builder:
    """Collects nodes, and makes the names between the apex and each of them exist."""

    def __init__(self, apex: Name) -> None:
        self.nodes: dict[Name, Node] = {}
        self._apex = apex

    def add(self, name: Name, rdatas: Iterable[Rdata], *, available: bool = True) -> None:
        self.add_apex(name, rdatas, available=available)
        for depth in range(1, len(name) - len(self._apex)):
            self.nodes.setdefault(name[depth:], Node())

    def add_apex(self, name: Name, rdatas: Iterable[Rdata], *, available: bool = True) -> None:
        """Add the name alone: the names above it are not ours."""
        rrsets: dict[int, dict[Rdata, None]] = {}
        for rdata in rdatas:
            rrsets.setdefault(type_of(rdata), {})[rdata] = None
        self.nodes[name] = Node({rtype: tuple(r) for rtype, r in rrsets.items()}, available)


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
    """Return an NS for each live node, and for the node that answers, live or not."""
    names = [m.name for m in live]
    if view.self_name not in names:
        names.append(view.self_name)
    return [Ns(_host(name, apex)) for name in names]


def _member_rdatas(view: ClusterView, member: Member | None, apex: Name) -> tuple[Rdata, ...]:
    if member is None:
        return ()
    return (*_addresses(member), _api(member, apex), _facts(view, member))


def _addresses(member: Member) -> tuple[Address, ...]:
    """Return the member's address; none if its host is no IP literal."""
    try:
        return (Address(ip_of(member.host)),)
    except ValueError:
        return ()


def _reverse(members: Iterable[Member]) -> dict[Name, list[Member]]:
    """Return the members at each address, by its name under in-addr.arpa or ip6.arpa."""
    found: dict[Name, list[Member]] = {}
    for member in members:
        for address in _addresses(member):
            found.setdefault(name_of(address.ip.reverse_pointer), []).append(member)
    return found


def _is_instance(name: Name) -> bool:
    """Tell whether it is a service's instance: `<name>._hstore._tcp`, and not `<name>.node`."""
    return len(name) > 1 and name[1].startswith(b"_")


def _api(member: Member, apex: Name) -> Srv:
    return Srv(member.api_port, _host(member.name, apex))


def _peer(member: Member, apex: Name) -> Srv:
    return Srv(member.peer_port, _host(member.name, apex))


def _facts(view: ClusterView, member: Member) -> Txt:
    """Return one string per fact, as in DNS-SD (RFC 6763 section 6.3), each of at most 255 bytes."""
    facts = (
        f"id={member.node_id}",
        f"name={member.name}",
        f"term={view.term}",
        f"api={host_and_port(member.host, member.api_port)}",
        f"peer={host_and_port(member.host, member.peer_port)}",
    )
    return Txt(tuple(fact.encode("ascii")[:255] for fact in facts))


def _host(member_name: str, apex: Name) -> Name:
    return (*name_of(member_name), b"node", *apex)


_GROUPS: tuple[tuple[bytes, Callable[[Member, Member | None], bool]], ...] = (
    (b"nodes", lambda _member, _leader: True),
    (b"voters", lambda member, _leader: member.voter),
    (b"followers", lambda member, leader: member.voter and member is not leader),
    (b"learners", lambda member, leader: not member.voter and member is not leader),
)
"""Names of groups of live members. The predicate takes a member and the leader. A leader that is
leaving the cluster is no voter any more, but counts as no learner."""

_SERVICES: tuple[tuple[bytes, Callable[[Member, Name], Srv]], ...] = (
    (b"_hstore", _api),
    (b"_hstore-peer", _peer),
)
"""Services (under `_tcp`) that every live member offers."""

_LEADER_SERVICE = b"_hstore-leader"

_BROWSED_BY = (b"b", b"lb")
"""RFC 6763 section 11: names at which a browsing client learns that this domain has services."""

_REVERSE_LABELS = (4 + 2, 32 + 2)
"""How many labels a reverse name has under in-addr.arpa, and under ip6.arpa."""
