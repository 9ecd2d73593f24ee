"""The sources in which a cluster is searched for (contract section 6), the same for all searches.

The commands, a newcomer, and a member that lost its cluster all take their sources from `sources`.
They differ only in the service that they look for: the API's addresses, or those for other nodes.

What is in files (the saved members, the run records) is read anew at each look, because members
move while a node searches. It is read in a thread, because a disk may hang and a node's event loop
may not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from hstore.dns.browser import Neighbours
from hstore.dns.finder import (
    API,
    LOOK_S,
    DnsServers,
    Findings,
    HostPort,
    Rank,
    Service,
    Source,
    local_nodes,
)
from hstore.dns.records import Name
from hstore.dns.resolver import Hosts, SystemNames, SystemServers

from ..config.settings import DNS_OFFSET, PEER_OFFSET, Discovery
from ..model import values
from . import run_record, saved_members

T = TypeVar("T")


def sources(
    discovery: Discovery,
    data_dir: Path | None,
    env: Mapping[str, str],
    *,
    service: Service = API,
    cluster_id: str | None = None,
) -> list[Source]:
    """Return all sources, in the order of the contract.

    Args:
        discovery: What the settings name.
        data_dir: A data directory, for the members saved in it; None: there is none.
        env: The environment, which says where the run records of this user are.
        service: The service whose addresses are wanted.
        cluster_id: The cluster whose nodes are wanted; None: any cluster of the zone.
    """
    found: list[Source] = list(_named(discovery.hosts, service))
    if data_dir is not None:
        found.append(Saved(data_dir, service))
    found += [
        DnsServers("DNS server", discovery.dns, Rank.SERVERS, service),
        ThisMachine(env, service, cluster_id),
        SystemServers(service=service),
        SystemNames(service=service),
    ]
    if discovery.mdns:
        found.append(Neighbours(service=service))
    return found


def _named(hosts: tuple[values.Address, ...], service: Service) -> list[Source]:
    """Return the sources for nodes that are named by the addresses of their APIs.

    A node's other ports follow from the API's unless they were set. Its DNS server knows them all.
    """
    name = "HSTORE_HOST, discovery.hosts"
    if service is API:
        return [Hosts(name, hosts)]
    peers = [(host, port + PEER_OFFSET) for host, port in hosts]
    servers = [(host, port + DNS_OFFSET) for host, port in hosts]
    return [Hosts(name, peers), DnsServers(name, servers, Rank.NAMED, service)]


def _reader() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(1)


@dataclass(frozen=True, slots=True)
class Saved:
    """The members saved in a data directory.

    Attributes:
        directory: The data directory.
        service: The service whose addresses are wanted.
        rank: A `Rank`.
    """

    directory: Path
    service: Service = API
    rank: int = Rank.NAMED
    limiter: trio.CapacityLimiter = field(default_factory=_reader)

    async def look(self, zone: Name, findings: Findings) -> None:
        """Add the addresses in the file to the findings; without a file there are none."""
        saved = await _read(partial(saved_members.read, self.directory), self.limiter)
        if saved is not None:
            found = saved.api_addresses() if self.service is API else saved.peer_addresses()
            await Hosts(f"members saved in {self.directory}", found).look(zone, findings)


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """The nodes of this machine: DNS servers at the default ports, and what the run records say.

    Attributes:
        env: The environment, which says where the run records are.
        service: The service whose addresses are wanted.
        cluster_id: The cluster whose nodes are wanted; None: those of the zone that is looked for.
        rank: A `Rank`.
    """

    env: Mapping[str, str]
    service: Service = API
    cluster_id: str | None = None
    rank: int = Rank.HERE
    limiter: trio.CapacityLimiter = field(default_factory=_reader)

    async def look(self, zone: Name, findings: Findings) -> None:
        """Add the addresses in the records of running nodes, and ask their DNS servers."""
        records = await _read(partial(run_record.running_here, self.env), self.limiter) or []
        servers = _addresses([one.dns_address for one in records])
        mine = [one for one in records if self._is_wanted(one, zone)]
        is_api = self.service is API
        nodes = _addresses([one.address if is_api else one.peer_address for one in mine])
        recorded = Hosts("nodes recorded as running here", nodes, self.rank)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(recorded.look, zone, findings)
            nursery.start_soon(local_nodes(servers, self.service).look, zone, findings)

    def _is_wanted(self, record: run_record.RunRecord, zone: Name) -> bool:
        if self.cluster_id is not None:
            return record.cluster_id == self.cluster_id
        return record.zone == b".".join(zone).decode("ascii", "replace")


async def _read(read: Callable[[], T], limiter: trio.CapacityLimiter) -> T | None:
    """Read files in a thread; None when that takes longer than a look may.

    Cancellation: The thread may go on reading. It holds the limiter's only token until it ends.
    """
    with trio.move_on_after(LOOK_S):
        return await trio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=limiter)
    return None


def _addresses(written: list[str]) -> list[HostPort]:
    """Return the addresses among texts from a file, which an operator may have edited."""
    return [(one.host, one.port) for one in values.addresses(written)]
