"""What is wrong with the resolution of a cluster's names, and what to do: from observations.

A pure function. A name is resolved on a way of several places: the nodes, the servers that
/etc/resolv.conf names, the files that say which of them programs ask, and `getaddrinfo`. There is a
check for each. A fault shows at all later places too, so the checks come in this order, and one that
only follows from an earlier fault says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hstore.dns.ip_literals import is_loopback
from hstore.dns.records import Rcode

from .name_service import is_resolved, multicast_keeper
from .observations import FOREIGN, Check, Lookup, NodeSeen, Observations, ResolverSeen, Result

# A node sends REFUSED within a millisecond. A resolver does not wait so long as this: it asks
# another server.
_FAST_S = 0.5

# A look-up takes so long only if glibc has waited for a server that does not answer.
_SLOW_S = 2.0

# The first version of systemd that takes `DNS=ADDRESS:PORT`.
_PORTS_IN_RESOLVED = 246


def explain(seen: Observations) -> list[Check]:
    """Return the checks, from the nodes to the programs on this machine."""
    checks = [_cluster(seen), *(_node(seen, one) for one in seen.nodes)]
    checks += [
        _resolver(seen, one, rest=seen.resolvers[place + 1 :])
        for place, one in enumerate(seen.resolvers)
    ]
    checks += [*_ignored(seen), _sources(seen), _getaddrinfo(seen)]
    return checks


def status(seen: Observations, checks: Iterable[Check]) -> int:
    """Return the exit status: 0 all is well, 1 something is wrong, 3 no node was reached."""
    if seen.info is None:
        return 3
    return int(any(check.result is Result.WRONG for check in checks))


# --- the cluster and its nodes ----------------------------------------------------------------


def _cluster(seen: Observations) -> Check:
    info = seen.info
    if info is None:
        return Check("cluster", Result.WRONG, "no node was reached", seen.problem)
    where = f"cluster {info.cluster_id}"
    if info.leader is None:
        return Check(
            where,
            Result.WRONG,
            "no leader",
            f"Questions for leader.{seen.zone} wait until there is one, and get SERVFAIL after 2 s. It "
            f"takes {info.quorum} live voters: `hstore list` shows who is missing. The rest was "
            f"checked with nodes.{seen.zone}.",
        )
    count = len(info.nodes)
    return Check(where, Result.OK, f"{count} node{'s' * (count != 1)}, {info.leader} leads")


def _node(seen: Observations, one: NodeSeen) -> Check:
    node = one.node
    where = f"node {node.name}, {node.dns_address}"
    if not node.is_live:
        return Check(where, Result.SKIPPED, f"it is {node.health}, as the leader sees it")
    udp, tcp = seen.told(one), one.by_tcp
    port = node.dns_address.rpartition(":")[2]
    if udp.rcode is None and tcp.rcode is None:
        return Check(
            where,
            Result.WRONG,
            udp.problem,
            f"{_alive(seen)}its DNS server is not reached from here at {node.dns_address}: "
            f"let UDP and TCP to port {port} through, or see in its log whether it could bind it.",
        )
    if udp.rcode is None:
        return Check(
            where,
            Result.WRONG,
            f"UDP: {udp.problem}",
            f"TCP to port {port} goes through, UDP does not, and resolvers ask by UDP: let it "
            "through between this machine and the node.",
        )
    if tcp.rcode is None:
        return Check(
            where,
            Result.WRONG,
            f"TCP: {tcp.problem}",
            f"UDP to port {port} goes through, TCP does not. An answer that does not fit into one "
            "datagram (many nodes) is asked for again by TCP: let that through too.",
        )
    return _node_answers(seen, one, where)


def _alive(seen: Observations) -> str:
    """Return how far it is known that a node runs which does not answer here at all."""
    if seen.info is None or seen.info.leader is None:
        return "Without a leader it is not known whether the node runs. If it does, "
    return "The leader hears the node, but "


def _node_answers(seen: Observations, one: NodeSeen, where: str) -> Check:
    """Check a node that answers by UDP and TCP: its leader, and its reply for another zone."""
    told, foreign = seen.told(one), one.foreign
    name = seen.full_name
    if told.rcode == Rcode.SERVFAIL and seen.name == "leader":
        return Check(
            where,
            Result.WRONG,
            f"SERVFAIL for {name}",
            "The node is not in contact with the leader, and says so rather than name one that may "
            "be gone. Resolvers ask the next node; look at the links between the nodes.",
            may_pass=True,
        )
    if told.rcode != Rcode.NOERROR or not told.hosts:
        return Check(
            where,
            Result.WRONG,
            f"{told.said} for {name}",
            f"What listens there does not serve {seen.zone}: is it the node, and is it in this "
            "cluster? `dig` and `hstore list` show who it is.",
        )
    leaders = seen.leader_hosts()
    if seen.name == "leader" and leaders and not told.hosts & leaders:
        return Check(
            where,
            Result.WRONG,
            f"{name} is {told.said}",
            f"The cluster's leader is at {', '.join(leaders)}. The node's view is old: is it cut "
            "off from the others?",
            may_pass=True,
        )
    if foreign.rcode is None:
        return Check(where, Result.WRONG, f"{FOREIGN}: {foreign.problem}", _FOREIGN_ADVICE)
    if foreign.rcode == Rcode.SERVFAIL:
        return Check(
            where,
            Result.WRONG,
            f"SERVFAIL for {FOREIGN}",
            "It forwards queries for other zones to its recursors, and none of them answers. Take "
            "them out of its settings, or mend them.",
        )
    if foreign.took_s > _FAST_S:
        seconds = f"{foreign.said} for {FOREIGN} took {foreign.took_s:.1f} s"
        return Check(where, Result.WRONG, seconds, _FOREIGN_ADVICE, may_pass=True)
    outside = "REFUSED" if foreign.rcode == Rcode.REFUSED else "forwarded to recursors"
    return Check(where, Result.OK, f"UDP and TCP: {told.said}; other zones: {outside}")


_FOREIGN_ADVICE = (
    "A resolver such as systemd-resolved may send a node a query for any name, and asks another "
    "server as soon as it gets REFUSED. Without that, every look-up on its machine waits. Is the "
    "node overloaded?"
)


# --- the servers of resolv.conf ---------------------------------------------------------------


def _resolver(seen: Observations, one: ResolverSeen, rest: tuple[ResolverSeen, ...]) -> Check:
    where = f"resolver {one.address}"
    told = seen.told(one)
    if told.rcode == Rcode.NOERROR and told.hosts:
        return _resolver_answers(seen, one, where)
    if told.rcode is None:
        return Check(where, Result.WRONG, told.problem, _not_there(seen, one, rest))
    return Check(
        where,
        Result.WRONG,
        f"{told.said} for {seen.full_name}",
        _explained_rcode(seen, one),
        may_pass=told.rcode == Rcode.SERVFAIL,
    )


def _resolver_answers(seen: Observations, one: ResolverSeen, where: str) -> Check:
    told, truth = seen.told(one), seen.truth()
    if truth and not told.hosts & truth:
        return Check(
            where,
            Result.WRONG,
            f"{seen.full_name} is {told.said}",
            f"The nodes say {', '.join(sorted(truth))}. It keeps answers longer than their TTL "
            "(min-cache-ttl, serve-expired, stale-answer-enable), or forwards to another cluster.",
            may_pass=True,
        )
    if one.by_tcp is not None and one.by_tcp.rcode is None:
        return Check(
            where,
            Result.WRONG,
            f"a truncated answer, and by TCP: {one.by_tcp.problem}",
            "An answer that does not fit into one datagram is asked for again by TCP, and TCP does "
            f"not get through to port 53 of {one.address}.",
        )
    return Check(where, Result.OK, told.said)


def _not_there(seen: Observations, one: ResolverSeen, rest: tuple[ResolverSeen, ...]) -> str:
    """Return the advice for a server of resolv.conf that does not answer at all."""
    told = seen.told(one)
    advice = [f"/etc/resolv.conf names {one.address}, and nothing answers at port 53 of it."]
    if any(seen.told(other).rcode is not None for other in rest):
        advice.append(
            "It stands before a server that answers, so each look-up waits for it (5 s if it is "
            "silent, unless options timeout: is less): take it out, or put it last."
        )
    if is_resolved(one.address):
        advice.append("That is systemd-resolved: `systemctl status systemd-resolved` says more.")
    elif is_loopback(one.address):
        advice.append(
            "That file cannot carry a port, so it cannot name a node's DNS server: let a resolver "
            f"that forwards {seen.zone} listen there (`hstore dns setup dnsmasq`, or unbound)."
        )
    elif told.problem and not rest:
        advice.append("No name at all resolves until it does.")
    return " ".join(advice)


def _explained_rcode(seen: Observations, one: ResolverSeen) -> str:
    """Return the advice for a server of resolv.conf that answers, but not with the address."""
    rcode = seen.told(one).rcode
    if is_resolved(one.address):
        return _resolved(seen, rcode)
    how = (
        f"It has to forward {seen.zone} to the nodes: `hstore dns setup SYSTEM` prints how, for "
        "dnsmasq, unbound, bind, coredns and others, and where to put it."
    )
    if rcode == Rcode.NXDOMAIN:
        return how
    if rcode == Rcode.NOERROR:
        return (
            f"It knows {seen.full_name} and gives no address. If it forwards the zone, its "
            "protection from DNS rebinding has dropped the address, which is in a private network: "
            "the output of `hstore dns setup` has the exemption (rebind-domain-ok, private-domain). "
            f"Else: {how}"
        )
    if rcode == Rcode.SERVFAIL:
        return (
            "It could not get an answer that it trusts. Either it forwards to addresses where no "
            "node answers (compare them with the nodes above), or it validates DNSSEC: the zone is "
            "not signed, and needs an exemption (domain-insecure of unbound, "
            f"validate-except of BIND). {how}"
        )
    if rcode == Rcode.REFUSED:
        return f"It does not resolve names for this machine, or only zones of its own. {how}"
    return f"That is no answer of a resolver: which program listens at port 53 of {one.address}?"


def _resolved(seen: Observations, rcode: int | None) -> str:
    """Return the advice for systemd-resolved, when it answers, but not with the address."""
    version, route = seen.systemd_version, f"~{seen.zone}"
    if version is not None and version < _PORTS_IN_RESOLVED:
        return (
            f"That is systemd-resolved {version}, whose DNS= takes a port only from "
            f"{_PORTS_IN_RESOLVED} on: put a dnsmasq between (`hstore dns setup dnsmasq`), and "
            f"name that in DNS=, with Domains={route}."
        )
    if route in seen.routes.split():
        advice = (
            f"That is systemd-resolved, and it has the route {route}, so its DNS= must have other "
            "addresses than the nodes'. `hstore dns setup systemd-resolved` prints theirs."
        )
    else:
        advice = (
            f"That is systemd-resolved, and it needs Domains={route} beside DNS=: without it, it "
            "asks multicast DNS for names in .local, and other servers for other names. `hstore dns "
            "setup systemd-resolved` prints both."
        )
    if rcode == Rcode.SERVFAIL:
        advice += " (While loopback is the only network of this machine, it answers nothing.)"
    return advice


# --- the files, and what programs get ---------------------------------------------------------


def _ignored(seen: Observations) -> Iterator[Check]:
    """Check for ignored lines of resolv.conf; no fault as long as the name resolves anyway."""
    if seen.service.ignored:
        found = seen.lookups.get(seen.name, Lookup(problem="not asked"))
        yield Check(
            "/etc/resolv.conf",
            Result.WRONG if found.problem else Result.SKIPPED,
            f"ignored: {'; '.join(seen.service.ignored)}",
            "`nameserver` takes an IP address and nothing else: the file cannot carry a port, and "
            "only its first three servers are ever asked. A resolver at port 53 has to forward "
            "the zone (`hstore dns setup SYSTEM`).",
        )


def _sources(seen: Observations) -> Check:
    service = seen.service
    where = "/etc/nsswitch.conf"
    keeper = multicast_keeper(service, seen.full_name)
    if keeper is not None:
        return Check(
            where,
            Result.WRONG,
            f"{keeper} resolves {seen.full_name} by multicast DNS only",
            f"Such names never reach DNS. Take the entry for {seen.zone} out of /etc/mdns.allow, or "
            f"put `dns` before {keeper}, or use its _minimal form, which leaves names of three labels "
            "and more to DNS; the zone must have two labels then.",
        )
    if not {"dns", "resolve"} & set(service.sources):
        return Check(
            where,
            Result.WRONG,
            f"hosts: {' '.join(service.sources)}",
            "Programs that use getaddrinfo never ask DNS: put `dns` at the end of that line.",
        )
    keeper = multicast_keeper(service, seen.zone)
    if keeper is not None:
        return Check(
            where,
            Result.OK,
            f"{keeper} resolves {seen.zone} itself by multicast DNS only; names below it reach DNS",
        )
    return Check(where, Result.OK, f"hosts: {' '.join(service.sources)}")


def _getaddrinfo(seen: Observations) -> Check:
    where = f"getaddrinfo {seen.full_name}"
    found = seen.lookups.get(seen.name)
    if found is None:
        return Check(where, Result.SKIPPED, "not asked")
    working = [one.address for one in seen.resolvers if seen.told(one).hosts]
    if found.problem:
        return Check(where, Result.WRONG, found.problem, _not_found(seen, working))
    said = ", ".join(sorted(found.hosts))
    truth = seen.truth()
    if truth and not found.hosts & truth:
        fixed = [ip for name, ip in seen.service.fixed if name == seen.full_name]
        advice = (
            f"/etc/hosts has a line for it with {', '.join(fixed)}, which wins over DNS: take it out."
            if fixed
            else f"The nodes say {', '.join(sorted(truth))}: a cache has an old answer (nscd, or "
            "a resolver above)."
        )
        return Check(where, Result.WRONG, said, advice, may_pass=not fixed)
    if not working and seen.resolvers:
        said += ", though no resolver above gives it"
        advice = (
            "It comes from elsewhere (/etc/hosts, or systemd-resolved through nss-resolve). "
            "Programs with a resolver of their own, such as dig, Go programs and containers, do "
            "not get it."
        )
        return Check(where, Result.WRONG, said, advice)
    if found.took_s > _SLOW_S:
        said += f", after {found.took_s:.1f} s"
    return Check(where, Result.OK, said)


def _not_found(seen: Observations, working: list[str]) -> str:
    """Return why programs get no address, or that a line above explains it."""
    if not working:
        return "That follows from the above: no resolver that it asks has an answer."
    sources = seen.service.sources
    if multicast_keeper(seen.service, seen.full_name) or not {"dns", "resolve"} & set(sources):
        return "That follows from /etc/nsswitch.conf."
    if "resolve" in sources:
        return (
            "/etc/nsswitch.conf has `resolve`, so programs ask systemd-resolved, whatever "
            f"/etc/resolv.conf says: it needs Domains=~{seen.zone} and DNS= "
            "(`hstore dns setup systemd-resolved`)."
        )
    if working[0] != seen.resolvers[0].address:
        return (
            f"{seen.resolvers[0].address} is asked first, and its negative answer is final. "
            f"{working[0]}, which has the answer, would be asked only if the first were silent."
            if seen.told(seen.resolvers[0]).rcode is not None
            else f"{seen.resolvers[0].address} is asked first and is silent, and the wait for it "
            "is longer than this command's."
        )
    return (
        f"{working[0]} has the answer, but was not asked in time, or not at all: does a cache "
        "(nscd) or another word in the hosts: line of /etc/nsswitch.conf answer before it?"
    )
