"""`hstore dns setup`: a resolver's configuration with the addresses of a running cluster.

Owns where the addresses come from: the cluster if one is found, else the defaults. The text of the
file is in `resolvers.py`. Nothing on this machine is changed.
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
    """Print the configuration with which a resolver forwards the zone.

    Args:
        system: A key of `resolvers.RESOLVERS`.
        host: A node (`ADDR|NAME`); None: search for the cluster.
        finder: Finds it; without a cluster, the file is for its zone.

    Raises:
        Unreachable: `host` was given and does not answer.
        Refused: There are two clusters, or the zone that the node gives is no domain.
    """
    found = _look(host, finder)
    servers = dns_servers(found.info) if found else []
    port = values.API_PORT
    if found and servers:
        zone = checked_zone(found)
        ports = api_ports(found.info)
        port = ports[0] if ports else port
        if system == "nginx" and len(ports) > 1:
            click.echo(
                f"hstore: nginx looks up no ports, and the nodes serve clients at {' and '.join(map(str, ports))}: "
                f"it finds a leader at {port} only; haproxy finds them all",
                err=True,
            )
        whose = f"the {len(servers)} nodes of the cluster, the live ones first"
    else:
        zone, whose, servers = finder.zone, "", list(DEFAULT_SERVERS)
        click.echo(
            f"hstore: no cluster of zone {zone} was found, so the addresses are those of the first "
            "three nodes on a machine; -h ADDR names a node of one",
            err=True,
        )
    click.echo(configuration(system, zone, servers, whose, port), nl=False)


def dns_servers(info: ClusterInfo) -> list[Server]:
    """Return the DNS servers of the members, the live ones first.

    root installs the file, and the node that answers may be any program. So only IP literals and
    ports are taken from its answer.
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


def api_ports(info: ClusterInfo) -> list[int]:
    """Return the ports at which the members serve clients, those of live ones first."""
    ports = []
    for node in sorted(info.nodes, key=lambda node: not node.is_live):
        try:
            ports.append(values.split_address(node.address)[1])
        except ValueError:
            continue
    return list(dict.fromkeys(ports))


def checked_zone(found: Found) -> str:
    """Return the zone of a cluster, which need not be the one of the search.

    Raises:
        Refused: The zone that the node gives is no domain.
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
