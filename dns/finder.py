"""Finding a cluster by name: who is asked, how often, and what each said.

Owns the search through DNS. It does not decide whether what was found is a live cluster: that takes
HTTP, so the caller proves it (`prove`), and the search goes on until something is proved or its
time is over. What was tried is kept, for the error that lists it.

A further source (servers named by the user, the system's resolver, multicast) is one more `Source`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from .client import NoAnswer, ask
from .records import Address, Name, Rcode, Record, RRType, Srv, name_of
from .wire import Reply

FIND_S = 3.0
# One round at one source. Who answers each question just before its time is over is cut off here.
LOOK_S = 1.0
# Between two rounds: a node that is just starting is found soon, and nobody is flooded.
ROUND_PAUSE_S = 0.2
# Where an A record is all that is known of a node, it is tried at the default API port.
API_PORT = 8500
# SRV targets without an address in the additional section that are looked up one by one.
_LOOKUPS_MAX = 16

LOCAL_DNS_PORTS = range(8600, 8616)

HostPort = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one server says of the cluster.

    Attributes:
        source: Name of the source it belongs to.
        server: Who said it, host and port.
        nodes: API addresses of live nodes, without duplicates, at least one.
        leader: The leader's API address, when the server knows it.
    """

    source: str
    server: HostPort
    nodes: tuple[HostPort, ...]
    leader: HostPort | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One question that was asked, and what came back, in words."""

    source: str
    server: HostPort
    question: str
    outcome: str


@dataclass(slots=True)
class Findings:
    """What one round of asking brought.

    Attributes:
        found: Whether the caller proved it; without a proof, whether there is any sighting.
        sightings: In the order of sources and of their servers.
        attempts: Likewise.
    """

    found: bool = False
    sightings: list[Sighting] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def addresses(self) -> list[HostPort]:
        """API addresses to try, without duplicates: leaders first."""
        leaders = [sighting.leader for sighting in self.sightings if sighting.leader is not None]
        nodes = [node for sighting in self.sightings for node in sighting.nodes]
        return list(dict.fromkeys([*leaders, *nodes]))

    def take(self, part: Findings) -> None:
        """Append what another one has."""
        self.sightings += part.sightings
        self.attempts += part.attempts


class Source(Protocol):
    """Some place where the cluster may be found."""

    async def look(self, zone: Name, findings: Findings) -> None:
        """Ask once, in bounded time. Network errors become attempts, and are not raised.

        Cancellation: `findings` has what came until then.
        """
        ...


@dataclass(frozen=True, slots=True)
class DnsServers:
    """DNS servers that are asked directly, all at the same time.

    Attributes:
        name: What the user knows them as, for messages.
        servers: Their addresses.
    """

    name: str
    servers: Sequence[HostPort]

    async def look(self, zone: Name, findings: Findings) -> None:
        """Ask each for SRV `_hstore._tcp`, and where that gives nothing for A and AAAA."""
        inquiries = [_Inquiry(self.name, server, zone) for server in self.servers]
        try:
            with trio.move_on_after(LOOK_S):
                async with trio.open_nursery() as nursery:
                    for inquiry in inquiries:
                        nursery.start_soon(inquiry.run)
        finally:
            # In the order of the servers, whoever was first.
            for inquiry in inquiries:
                findings.take(inquiry.findings)


def local_nodes() -> DnsServers:
    """The nodes of this machine, by the DNS ports they have unless told otherwise."""
    servers = [(host, port) for host in ("127.0.0.1", "::1") for port in LOCAL_DNS_PORTS]
    return DnsServers("nodes on this machine", servers)


async def look(zone: str, sources: Sequence[Source]) -> Findings:
    """Ask all sources together, once.

    Raises:
        ValueError: `zone` is no domain name.
    """
    findings = Findings()
    await _round(name_of(zone), sources, findings)
    findings.found = bool(findings.sightings)
    return findings


async def find(
    zone: str,
    sources: Sequence[Source],
    prove: Callable[[Findings], Awaitable[bool]] | None = None,
) -> Findings:
    """Ask all sources together, round by round, until one round is proved or `FIND_S` are over.

    Args:
        zone: The domain of the cluster.
        sources: Whom to ask, best first.
        prove: Given each round with a sighting; says whether one is a live cluster. It shares the
            time of the search, and may raise to end it.

    Returns:
        The proved round; when there is none, the last whole one, with `found` False.

    Raises:
        ValueError: `zone` is no domain name.
    """
    apex = name_of(zone)
    whole: Findings | None = None
    current = Findings()
    with trio.move_on_after(FIND_S):
        while True:
            current = Findings()
            await _round(apex, sources, current)
            whole = current
            if whole.sightings and (prove is None or await prove(whole)):
                whole.found = True
                break
            await trio.sleep(ROUND_PAUSE_S)
    return whole if whole is not None else current


def tried(attempts: Iterable[Attempt]) -> list[tuple[str, str]]:
    """The attempts as rows of a table: what was asked of whom, and what came back.

    Servers of one source to which the same thing happened share a row.
    """
    rows: dict[tuple[str, str, str], list[HostPort]] = {}
    for one in attempts:
        rows.setdefault((one.source, one.question, one.outcome), []).append(one.server)
    return [
        (f"{source}, {question} at {_several(servers)}", outcome)
        for (source, question, outcome), servers in rows.items()
    ]


def written(address: HostPort) -> str:
    """`HOST:PORT`, with brackets around an IPv6 host."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _round(zone: Name, sources: Sequence[Source], findings: Findings) -> None:
    parts = [Findings() for _ in sources]
    try:
        async with trio.open_nursery() as nursery:
            for source, part in zip(sources, parts, strict=True):
                nursery.start_soon(source.look, zone, part)
    finally:
        for part in parts:
            findings.take(part)


class _Inquiry:
    """All questions to one server, one after the other, for it is one place that may be slow."""

    def __init__(self, source: str, server: HostPort, zone: Name) -> None:
        self._source = source
        self._server = server
        self._zone = zone
        self._is_use_asking = True
        self.findings = Findings()

    async def run(self) -> None:
        nodes = await self._service(b"_hstore")
        leaders: list[HostPort] = []
        if nodes:
            leaders = await self._service(b"_hstore-leader")
        elif self._is_use_asking:
            leaders = await self._host((b"leader", *self._zone))
            nodes = await self._host((b"nodes", *self._zone)) or leaders
        if nodes:
            leader = leaders[0] if leaders else None
            self.findings.sightings.append(
                Sighting(self._source, self._server, tuple(dict.fromkeys(nodes)), leader)
            )

    async def _service(self, label: bytes) -> list[HostPort]:
        """Addresses and ports behind an SRV name."""
        reply = await self._ask((label, b"_tcp", *self._zone), RRType.SRV)
        if reply is None:
            return []
        found: list[HostPort] = []
        lookups = 0
        for record in reply.answers:
            if isinstance(record.rdata, Srv):
                target, port = record.rdata.target, record.rdata.port
                hosts = _hosts(r for r in reply.additional if r.owner == target)
                if not hosts and lookups < _LOOKUPS_MAX:
                    lookups += 1
                    hosts = [host for host, _port in await self._host(target)]
                found += [(host, port) for host in hosts]
        return found

    async def _host(self, name: Name) -> list[HostPort]:
        """Addresses of a name, with the default API port."""
        found: list[HostPort] = []
        for rtype in (RRType.A, RRType.AAAA):
            reply = await self._ask(name, rtype) if self._is_use_asking else None
            if reply is not None:
                found += [(host, API_PORT) for host in _hosts(reply.answers)]
        return found

    async def _ask(self, name: Name, rtype: RRType) -> Reply | None:
        try:
            reply = await ask(*self._server, name, rtype)
        except NoAnswer as error:
            # Who is not there, or serves other zones, need not be asked for other names.
            self._is_use_asking = error.rcode in {Rcode.SERVFAIL, Rcode.NXDOMAIN}
            self._note(name, rtype, str(error))
            return None
        count = len(reply.answers)
        self._note(name, rtype, f"{count} record{'' if count == 1 else 's'}")
        return reply

    def _note(self, name: Name, rtype: RRType, outcome: str) -> None:
        question = f"{rtype.name} {b'.'.join(name).decode('ascii', 'backslashreplace')}"
        self.findings.attempts.append(Attempt(self._source, self._server, question, outcome))


def _hosts(records: Iterable[Record]) -> list[str]:
    return [str(record.rdata.ip) for record in records if isinstance(record.rdata, Address)]


def _several(servers: Sequence[HostPort]) -> str:
    """Servers in few words: neighbouring ports of one host as a range."""
    ranges: list[list[HostPort]] = []
    for host, port in servers:
        if ranges and ranges[-1][-1] == (host, port - 1):
            ranges[-1].append((host, port))
        else:
            ranges.append([(host, port)])
    return ", ".join(
        written(one[0]) + (f" to {one[-1][1]}" if len(one) > 1 else "") for one in ranges
    )
