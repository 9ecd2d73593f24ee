"""Where the command line looks for a cluster: the sources of contract section 6, in their order.

An address in `HSTORE_HOST` belongs to the first source. With `-h ADDR` there is no search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.dns.ip_literals import is_ip
from hstore.node.config.settings import load_search

from .find import Finder
from .local import recorded_dns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from hstore.dns.finder import HostPort, Source
    from hstore.node.config.settings import Discovery


def finder_of(flags: Mapping[str, object], env: Mapping[str, str]) -> Finder:
    """Return the finder of the cluster that flags and environment describe.

    Raises:
        ConfigError: One of the settings of a search is bad.
    """
    search = load_search(flags, env)
    return Finder(
        search.zone,
        sources=lambda: sources(search.discovery, search.data_dir, recorded_dns(env)),
        named=lambda: named(search.discovery, search.data_dir),
    )


def named(discovery: Discovery, data_dir: Path | None) -> list[str]:
    """Return the addresses of the first two sources; none where a host has to be resolved first."""
    from hstore.node.discovery import saved_members

    saved = saved_members.read(data_dir) if data_dir is not None else None
    addresses = [*discovery.hosts, *(saved.api_addresses() if saved else ())]
    if not all(is_ip(one.host) for one in addresses):
        return []
    return list(dict.fromkeys(map(str, addresses)))


def sources(
    discovery: Discovery, data_dir: Path | None = None, recorded: Iterable[HostPort] = ()
) -> list[Source]:
    """Return all sources.

    Args:
        discovery: What the settings name.
        data_dir: A data directory, for the members saved in it; None: there is none.
        recorded: DNS servers of nodes that run on this machine by their records.
    """
    from hstore.dns.browser import Neighbours
    from hstore.dns.finder import DnsServers, Rank, local_nodes
    from hstore.dns.resolver import Hosts, SystemNames, SystemServers
    from hstore.node.discovery import saved_members

    found: list[Source] = [Hosts("HSTORE_HOST, discovery.hosts", discovery.hosts)]
    saved = saved_members.read(data_dir) if data_dir is not None else None
    if saved is not None:
        found.append(Hosts(f"members saved in {data_dir}", saved.api_addresses()))
    found += [
        DnsServers("DNS server", discovery.dns, Rank.SERVERS),
        local_nodes(recorded),
        SystemServers(),
        SystemNames(),
    ]
    if discovery.mdns:
        found.append(Neighbours())
    return found
