"""`hstore dns setup`: the forwarding of the zone, with the addresses that a running cluster has.

Owns where the servers come from: the cluster when there is one, else the defaults. How a file looks
is the business of `resolvers.py`. Nothing is changed on this machine.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import click

from hstore.node.errors import Refused
from hstore.node.model import values

from .resolvers import DEFAULT_SERVERS, Server, configuration

if TYPE_CHECKING:
    from hstore.node.model.cluster_info import ClusterInfo

    from ..search.find import Finder, Found


def setup(system: str, host: str | None, finder: Finder) -> None:
    """Print what makes a resolver forward the zone.

    Args:
        system: A key of `resolvers.RESOLVERS`.
        host: A node (`ADDR|NAME`), or None to look for a cluster on this machine.
        finder: Finds it; its zone is that of the file when there is no cluster.

    Raises:
        Unreachable: `host` was given and does not answer.
        Refused: There are two clusters, or what a node says is no domain.
    """
    found = _look(host, finder)
    servers = dns_servers(found.info) if found else []
    if found and servers:
        zone = checked_zone(found)
        whose = f"the {len(servers)} nodes of the cluster, those first that were live"
    else:
        zone, whose, servers = finder.zone, "", list(DEFAULT_SERVERS)
        click.echo(
            f"hstore: no cluster of zone {zone} was found, so the addresses are those of the first "
            "three nodes on a machine; -h ADDR names a node of one",
            err=True,
        )
    click.echo(configuration(system, zone, servers, whose), nl=False)


def dns_servers(info: ClusterInfo) -> list[Server]:
    """Return the DNS servers of the members, those that are live first.

    What another program says goes into files that root installs, so nothing is taken from it but
    what is an IP literal and a port.
    """
    nodes = sorted(info.nodes, key=lambda node: not node.is_live)
    servers = []
    for node in nodes:
        try:
            host, port = values.split_address(node.dns_address)
            servers.append(Server(str(ipaddress.ip_address(host)), port))
        except ValueError:
            continue
    return list(dict.fromkeys(servers))


def checked_zone(found: Found) -> str:
    """Return the zone of a cluster: it may be another than the one that was looked for.

    Raises:
        Refused: What the node says is no domain.
    """
    try:
        return values.zone(found.info.zone)
    except ValueError as error:
        raise Refused(
            f"the node at {found.address} gives a zone that is none: {found.info.zone!r} is not "
            f"{error}"
        ) from None


def _look(host: str | None, finder: Finder) -> Found | None:
    if host is None:
        return finder.find_if_any()
    return finder.find_at(host)
