"""Configurations with which resolvers and proxies ask the cluster's own DNS servers for its zone.

There is a template for each system, from plain data to the text of a whole configuration file, with
instructions as comments. Nothing is read, asked or changed here. `configs/dns/` has the files for
the default addresses.

A template names all nodes, so that a node that is down does not stop resolution. It changes nothing
but the zone: an option that would change how other names are resolved is at most a comment, unless
an outage would last without it (`all-servers` of dnsmasq, `servfail-ttl` of BIND).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import Template
from typing import NamedTuple

from hstore.dns.ip_literals import host_and_port, ip_of, is_loopback
from hstore.node.model.values import API_PORT

from . import templates


class Server(NamedTuple):
    """One DNS server: an IP literal and a port."""

    host: str
    port: int


DEFAULT_SERVERS = tuple(Server("127.0.0.1", port) for port in (8600, 8601, 8602))
"""The DNS servers of the first three nodes on one machine, at their default ports."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """A system that resolves names, and what its configuration looks like.

    Attributes:
        title: Its name, as its makers write it.
        file: Name of its file in `configs/dns/`.
        body: The text, with `$zone`, `$servers` and others that `configuration` fills in.
        servers: Returns the lines for `$servers`, from the servers and the zone.
        comment: What a comment begins with.
    """

    title: str
    file: str
    body: Template
    servers: Callable[[Sequence[Server], str], str]
    comment: str = "#"


def configuration(
    system: str,
    zone: str,
    servers: Sequence[Server],
    whose: str = "",
    api_port: int = API_PORT,
) -> str:
    """Return the configuration with which a resolver forwards a zone.

    Args:
        system: A key of `RESOLVERS`.
        zone: A domain name, in lower case and without a final dot.
        servers: The cluster's DNS servers, best first; at least one.
        whose: Describes the servers in a comment of one line.
        api_port: Where the nodes serve clients, for a proxy that looks up no ports.
    """
    resolver = RESOLVERS[system]
    told = whose or "where the first three nodes on a machine answer"
    head = templates.HEAD.substitute(
        comment=resolver.comment, title=resolver.title, zone=zone, whose=told
    )
    is_ipv4 = all(ip_of(one.host).version == 4 for one in servers)
    return head + resolver.body.substitute(
        zone=zone,
        servers=resolver.servers(servers, zone),
        reverse=_reverse(servers),
        port=api_port,
        family="ipv4" if is_ipv4 else "ipv6",
        ipv6=" ipv6=off" if is_ipv4 else "",
        no_ipv6=templates.NO_IPV6 if is_ipv4 else "",
    )


def _each(line: str) -> Callable[[Sequence[Server], str], str]:
    """Return a function for `Resolver.servers` that makes a line for each server.

    Args:
        line: The line, with `{host}`, `{port}`, `{at}` (both), `{zone}`, and `{number}` from 1.
    """

    def write(servers: Sequence[Server], zone: str) -> str:
        return "\n".join(
            line.format(
                host=host, port=port, at=host_and_port(host, port), zone=zone, number=number
            )
            for number, (host, port) in enumerate(servers, start=1)
        )

    return write


def _in_one_line(servers: Sequence[Server], _zone: str) -> str:
    return " ".join(host_and_port(*one) for one in servers)


def _by_port(servers: Sequence[Server], zone: str) -> str:
    """Return nameservers for a file that has one port for all of them.

    Servers at other ports need separate files, whose lines are given as comments.
    """
    port = servers[0].port
    lines = [f"nameserver {one.host}" for one in servers if one.port == port]
    lines.append(f"port {port}")
    others = [one for one in servers if one.port != port]
    if others:
        lines += [
            "",
            "# A file has one port. So that resolution goes on when that node is dead, put the four",
            "# lines of each of these nodes, without the #, into a file of its own beside this one.",
        ]
    for order, one in enumerate(others, start=2):
        lines += [
            f"# -- /etc/resolver/{zone}.{order}",
            f"# domain {zone}",
            f"# nameserver {one.host}",
            f"# port {one.port}",
            f"# search_order {order}",
        ]
    return "\n".join(lines)


def _reverse(servers: Sequence[Server]) -> str:
    """Return a node's reverse name as an example; preferably of one beyond loopback."""
    example = next((one.host for one in servers if not is_loopback(one.host)), "192.0.2.10")
    return ip_of(example).reverse_pointer


RESOLVERS = {
    "systemd-resolved": Resolver(
        "systemd-resolved", "systemd-resolved.conf", templates.SYSTEMD_RESOLVED, _in_one_line
    ),
    "dnsmasq": Resolver(
        "dnsmasq", "dnsmasq.conf", templates.DNSMASQ, _each("server=/{zone}/{host}#{port}")
    ),
    "unbound": Resolver(
        "Unbound", "unbound.conf", templates.UNBOUND, _each("    stub-addr: {host}@{port}")
    ),
    "bind": Resolver("BIND", "bind.conf", templates.BIND, _each("        {host} port {port};")),
    "coredns": Resolver("CoreDNS", "Corefile", templates.COREDNS, _in_one_line),
    "knot": Resolver(
        "Knot Resolver", "knot.conf", templates.KNOT, _each("    '{host}@{port}',"), comment="--"
    ),
    "macos": Resolver("macOS", "macos", templates.MACOS, _by_port),
    "haproxy": Resolver(
        "HAProxy", "haproxy.cfg", templates.HAPROXY, _each("    nameserver n{number} {at}")
    ),
    "nginx": Resolver("nginx", "nginx.conf", templates.NGINX, _in_one_line),
}
"""The systems, by the name that a user gives to `dns setup`; the last two are proxies."""
