"""Finding a cluster by name: ask all sources, round by round, until one has found it.

Owns the search. Whether the addresses found belong to a live cluster takes HTTP, so the caller
decides that (`prove`). The search goes on until `prove` says yes or the time is over. It keeps every
attempt, for the error that lists them.

A round asks all sources at the same time. Each source has a rank. `prove` gets what the sources of
one rank have found once all of them have finished, the best rank first. So a node that the user
named wins over a node that merely answers, and a slow resolver delays nothing when a node on this
machine has answered. DNS servers are here; the other sources are in `resolver.py` and `browser.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from .client import ASK_S, LEADER_S, NoAnswer, ask
from .ip_literals import host_and_port
from .records import Address, Name, Rcode, Record, RRType, Srv, name_of
from .wire import Reply

FIND_S = 3.0
# For one round at one source: a server that answers each query only just in time is cut off.
LOOK_S = 1.0
# Between two rounds: short enough to find a starting node soon, long enough to flood no server.
ROUND_PAUSE_S = 0.2
# A node of which only an A record is known is tried at the default port.
API_PORT = 8500
PEER_PORT = 8300
# SRV targets without an address in the additional section that are looked up one by one.
_LOOKUPS_MAX = 16

LOCAL_DNS_PORTS = range(8600, 8616)

HostPort = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a node: its DNS label, and its default port, for nodes with an address only."""

    label: bytes
    port: int


API = Service(b"_hstore", API_PORT)
PEER = Service(b"_hstore-peer", PEER_PORT)


class Rank(enum.IntEnum):
    """How much a source counts, the best first. Two clusters at one rank are an ambiguity."""

    NAMED = 1
    """Addresses of nodes that the user named, or that were members when this node last ran."""
    SERVERS = 2
    """DNS servers that the user named."""
    HERE = 3
    """Nodes on this machine."""
    SYSTEM = 4
    """The system's resolver."""
    LINK = 5
    """Multicast on the local network."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One server's answer that names nodes of the cluster.

    Attributes:
        source: Name of the source that the server belongs to.
        server: Its host and port, or the name of an interface; empty: there is no single server.
        nodes: API addresses of live nodes, without duplicates, at least one.
        leader: The leader's API address; None: the server does not know it.
    """

    source: str
    server: HostPort | str
    nodes: tuple[HostPort, ...]
    leader: HostPort | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One query and its result in words; `source` and `server` as in `Sighting`."""

    source: str
    server: HostPort | str
    question: str
    outcome: str


@dataclass(slots=True)
class Findings:
    """The results of one round.

    Attributes:
        found: Whether `prove` said yes; without a `prove`, whether there is any sighting.
        sightings: In the order of sources and of their servers.
        attempts: Likewise.
    """

    found: bool = False
    sightings: list[Sighting] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def addresses(self) -> list[HostPort]:
        """Return the API addresses to try, without duplicates, leaders first."""
        leaders = [sighting.leader for sighting in self.sightings if sighting.leader is not None]
        nodes = [node for sighting in self.sightings for node in sighting.nodes]
        return list(dict.fromkeys([*leaders, *nodes]))

    def take(self, part: Findings) -> None:
        """Append the sightings and attempts of `part`."""
        self.sightings += part.sightings
        self.attempts += part.attempts


class Source(Protocol):
    """Some place where the cluster may be found."""

    @property
    def rank(self) -> int:
        """A `Rank`."""
        ...

    async def look(self, zone: Name, findings: Findings) -> None:
        """Ask once, in bounded time. Network errors become attempts, and are not raised.

        Cancellation: `findings` has the results until then.
        """
        ...


@dataclass(frozen=True, slots=True)
class DnsServers:
    """DNS servers that are asked directly, all at the same time.

    Attributes:
        name: What messages call them.
        servers: Their addresses.
        rank: A `Rank`.
        service: The service to look for, `_hstore` or `_hstore-peer`.
    """

    name: str
    servers: Sequence[HostPort]
    rank: int = Rank.SERVERS
    service: Service = API

    async def look(self, zone: Name, findings: Findings) -> None:
        """Ask each for SRV `_hstore._tcp`, and without an answer for A and AAAA."""
        inquiries = [_Inquiry(self, server, zone) for server in self.servers]
        try:
            with trio.move_on_after(LOOK_S):
                async with trio.open_nursery() as nursery:
                    for inquiry in inquiries:
                        nursery.start_soon(inquiry.run)
        finally:
            # In the order of the servers, not of their answers.
            for inquiry in inquiries:
                findings.take(inquiry.findings)


def local_nodes(recorded: Iterable[HostPort] = (), service: Service = API) -> DnsServers:
    """Return the DNS servers of nodes on this machine: at the default ports, and those recorded.

    Args:
        recorded: DNS servers of nodes that are known to run here, at any address.
        service: As for `DnsServers`.
    """
    usual = [(host, port) for host in ("127.0.0.1", "::1") for port in LOCAL_DNS_PORTS]
    servers = list(dict.fromkeys([*recorded, *usual]))
    return DnsServers("this machine", servers, Rank.HERE, service)


Prove = Callable[[Findings], Awaitable[bool]]
"""Tells whether the findings of one rank contain a live cluster."""


async def look(zone: str, sources: Sequence[Source], prove: Prove | None = None) -> Findings:
    """Ask all sources together, once; see `find`.

    Raises:
        ValueError: `zone` is no domain name.
    """
    findings = Findings()
    await _round(name_of(zone), sources, findings, prove)
    return findings


async def find(zone: str, sources: Sequence[Source], prove: Prove | None = None) -> Findings:
    """Ask all sources together, round by round, until one round is proved or `FIND_S` are over.

    Args:
        zone: The domain of the cluster.
        sources: The sources to ask.
        prove: Called for each rank that has a sighting, the best first. When it returns True, the
            search ends. Its time counts as the search's, and it may raise to end the search. By
            default any sighting is enough.

    Returns:
        The round in which `prove` returned True; else the last complete one, with `found` False.

    Raises:
        ValueError: `zone` is no domain name.
    """
    apex = name_of(zone)
    whole: Findings | None = None
    current = Findings()
    with trio.move_on_after(FIND_S):
        while True:
            current = Findings()
            await _round(apex, sources, current, prove)
            whole = current
            if whole.found:
                break
            await trio.sleep(ROUND_PAUSE_S)
    return whole if whole is not None else current


def tried(attempts: Iterable[Attempt], zone: str = "") -> list[tuple[str, str]]:
    """Return the attempts as rows of a table: source, queries and servers, and the result.

    Servers of one source with the same result share a row, and so do queries to which they gave the
    same result. Names in `zone` are shown without it.
    """
    servers: dict[tuple[str, str, str], list[HostPort | str]] = {}
    for one in attempts:
        question = one.question.removesuffix(f".{zone}")
        servers.setdefault((one.source, question, one.outcome), []).append(one.server)
    questions: dict[tuple[str, str, str], list[str]] = {}
    for (source, question, outcome), who in servers.items():
        questions.setdefault((source, _several(who), outcome), []).append(question)
    return [
        (f"{source}, {', '.join(asked)}{' at ' if who else ''}{who}", outcome)
        for (source, who, outcome), asked in questions.items()
    ]


async def _round(
    zone: Name, sources: Sequence[Source], findings: Findings, prove: Prove | None
) -> None:
    looks = [_Look(source) for source in sources]
    error: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            for one in looks:
                nursery.start_soon(one.run, zone)
            for rank in sorted({source.rank for source in sources}):
                seen = Findings()
                for one in looks:
                    if one.source.rank == rank:
                        await one.done.wait()
                        seen.take(one.findings)
                if not seen.sightings:
                    continue
                try:
                    findings.found = prove is None or await prove(seen)
                except Exception as raised:  # noqa: BLE001  # raised below: a nursery would wrap it
                    error = raised
                if findings.found or error:
                    break
            nursery.cancel_scope.cancel()
    finally:
        for one in looks:
            findings.take(one.findings)
    if error is not None:
        raise error


class _Look:
    """One source in one round."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.findings = Findings()
        self.done = trio.Event()

    async def run(self, zone: Name) -> None:
        await self.source.look(zone, self.findings)
        self.done.set()


class _Inquiry:
    """All queries to one server, one after the other."""

    def __init__(self, source: DnsServers, server: HostPort, zone: Name) -> None:
        self._source = source.name
        self._server = server
        self._zone = zone
        self._wanted = source.service
        self._is_use_asking = True
        self._within_s = ASK_S
        self.findings = Findings()

    async def run(self) -> None:
        began = trio.current_time()
        nodes = await self._service(self._wanted.label)
        has_services, leaders = bool(nodes), list[HostPort]()
        if not nodes and self._is_use_asking:
            nodes = await self._host((b"nodes", *self._zone))
        if nodes:
            self._within_s = min(max(LEADER_S, 2 * (trio.current_time() - began)), ASK_S)
        if has_services and self._wanted is API:
            leaders = await self._service(b"_hstore-leader")
        elif not has_services and self._is_use_asking:
            leaders = await self._host((b"leader", *self._zone))
            nodes = nodes or leaders
        if nodes:
            leader = leaders[0] if leaders else None
            self.findings.sightings.append(
                Sighting(self._source, self._server, tuple(dict.fromkeys(nodes)), leader)
            )

    async def _service(self, label: bytes) -> list[HostPort]:
        """Return the addresses and ports behind an SRV name."""
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
        """Return the addresses of a name, with the default port."""
        found: list[HostPort] = []
        for rtype in (RRType.A, RRType.AAAA):
            reply = await self._ask(name, rtype) if self._is_use_asking else None
            if reply is not None:
                found += [(host, self._wanted.port) for host in _hosts(reply.answers)]
        return found

    async def _ask(self, name: Name, rtype: RRType) -> Reply | None:
        try:
            reply = await ask(*self._server, name, rtype, self._within_s)
        except NoAnswer as error:
            # A server that does not answer, or serves other zones only, is asked no further names.
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


def _several(servers: Sequence[HostPort | str]) -> str:
    """Return servers in few words: neighbouring ports of one host as a range."""
    ranges: list[list[HostPort]] = []
    names: list[str] = []
    for server in servers:
        if isinstance(server, str):
            names.append(server)
        elif ranges and ranges[-1][-1] == (server[0], server[1] - 1):
            ranges[-1].append(server)
        else:
            ranges.append([server])
    numbers = [
        host_and_port(*one[0]) + (f" to {one[-1][1]}" if len(one) > 1 else "") for one in ranges
    ]
    return ", ".join(dict.fromkeys([*numbers, *names]))
