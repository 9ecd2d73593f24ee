"""Configurations with which six resolvers ask the cluster's own DNS servers for its zone.

There is a template for each system, from plain data to the text of a whole configuration file, with
instructions as comments. Nothing is read, asked or changed here. `configs/dns/` has the files for
the default addresses.

A template names all nodes, so that a node that is down does not stop resolution. It changes nothing
but the zone: an option that would change how other names are resolved is at most a comment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import Template
from typing import NamedTuple

from hstore.dns.ip_literals import host_and_port, ip_of, is_loopback


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
        body: The text, with `$zone`, `$servers` and `$reverse`.
        servers: Returns the lines for `$servers`, from the servers and the zone.
    """

    title: str
    file: str
    body: Template
    servers: Callable[[Sequence[Server], str], str]


def configuration(system: str, zone: str, servers: Sequence[Server], whose: str = "") -> str:
    """Return the configuration with which a resolver forwards a zone.

    Args:
        system: A key of `RESOLVERS`.
        zone: A domain name, in lower case and without a final dot.
        servers: The cluster's DNS servers, best first; at least one.
        whose: Describes the servers in a comment of one line.
    """
    resolver = RESOLVERS[system]
    told = whose or "where the first three nodes on a machine answer"
    head = _HEAD.substitute(title=resolver.title, zone=zone, whose=told)
    return head + resolver.body.substitute(
        zone=zone, servers=resolver.servers(servers, zone), reverse=_reverse(servers)
    )


def _each(line: str) -> Callable[[Sequence[Server], str], str]:
    """Return a function for `Resolver.servers` that makes a line for each server.

    Args:
        line: The line, with `{host}`, `{port}` and `{zone}`.
    """

    def write(servers: Sequence[Server], zone: str) -> str:
        return "\n".join(line.format(host=one.host, port=one.port, zone=zone) for one in servers)

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


_HEAD = Template("""\
# $title: questions for $zone go to the DNS servers of the hstore cluster.
# Servers: $whose.
#
""")

_SYSTEMD_RESOLVED = Template("""\
# Install: hstore dns setup systemd-resolved | sudo tee /etc/systemd/resolved.conf.d/hstore.conf
#          (sudo mkdir -p /etc/systemd/resolved.conf.d first, where it is not there)
# Reload:  sudo systemctl restart systemd-resolved
# Try:     resolvectl query leader.$zone
#
# It takes systemd 246 or newer (systemctl --version): before, DNS= knew no ports. From 258 on the
# same lines below [Delegate] in /etc/systemd/dns-delegate.d/hstore.dns-delegate are better: then
# no other question is sent to hstore. Here some are, and get REFUSED at once. If another file has
# a DNS= without a domain of its own, use a delegate or dnsmasq: systemd-resolved takes all servers
# of DNS= for equals, and asks only one of them. While loopback is the only network of a machine,
# it answers nothing.
[Resolve]
DNS=$servers
# The ~ makes it a route for these names, and no search domain. It is needed: names in .local go to
# multicast DNS unless there is such a line for them.
Domains=~$zone
# The zone is not signed. With DNSSEC=yes and a zone outside of .local, put its name into
# /etc/dnssec-trust-anchors.d/hstore.negative.
# Names of addresses (PTR) are optional: add ~$reverse and so on to Domains=.
""")

_DNSMASQ = Template("""\
# Install: hstore dns setup dnsmasq | sudo tee /etc/dnsmasq.d/hstore.conf
# Reload:  sudo dnsmasq --test && sudo systemctl restart dnsmasq
# Try:     dig @127.0.0.1 leader.$zone && getent hosts leader.$zone
#
# /etc/dnsmasq.conf has to include the folder (conf-dir=/etc/dnsmasq.d; Debian does), and
# /etc/resolv.conf has to name dnsmasq (nameserver 127.0.0.1).
$servers
# Where stop-dns-rebind is set, answers with private addresses are dropped, but not these.
rebind-domain-ok=/$zone/
# A node that goes down may cost one look-up a few seconds: the others are asked when the question
# is repeated. With all-servers, which is for every name, all are asked at once.
# Absent names are remembered for the zone's TTL (1 s) and no longer. Leave min-cache-ttl and
# use-stale-cache unset: they would keep a leader that has gone.
# Names of addresses (PTR) are optional: server=/$reverse/... as above.
""")

_UNBOUND = Template("""\
# Install: hstore dns setup unbound | sudo tee /etc/unbound/unbound.conf.d/hstore.conf
# Reload:  sudo unbound-checkconf && sudo systemctl restart unbound
# Try:     dig @127.0.0.1 leader.$zone && getent hosts leader.$zone
#
# /etc/unbound/unbound.conf has to include the folder (Debian's does), and /etc/resolv.conf has to
# name unbound (nameserver 127.0.0.1).
server:
    # The zone is not signed, and the root says that it does not exist.
    domain-insecure: "$zone."
    # Wins over a local-zone for local. or another domain above, which would answer by itself.
    local-zone: "$zone." transparent
    # Where private-address is set, answers with such addresses are emptied, but not these.
    private-domain: "$zone."
    # Without it no server on this machine is ever asked.
    do-not-query-localhost: no

# A stub, not a forward: the nodes have the authority for the zone, and do not recurse.
stub-zone:
    name: "$zone."
$servers
    # A leader that has gone, or a SERVFAIL of an election, shall not be remembered. (Leave
    # cache-min-ttl at 0 all the same: it raises the TTL that whoever asks unbound goes by.)
    stub-no-cache: yes
# Names of addresses (PTR) are optional: for $reverse and so on the same stub-zone,
# the same domain-insecure, and a local-zone of type transparent.
""")

_BIND = Template("""\
# Install: hstore dns setup bind | sudo tee /etc/bind/hstore.conf
#          then add this line to /etc/bind/named.conf.local:    include "/etc/bind/hstore.conf";
#          and this one inside options { } of named.conf.options, because the zone is not signed
#          (BIND 9.13.3 or newer):                              validate-except { "$zone"; };
# Reload:  sudo named-checkconf && sudo rndc reconfig
# Try:     dig @127.0.0.1 leader.$zone && getent hosts leader.$zone
#
# A static-stub would suit an authority better, but its server-addresses take no ports.
zone "$zone" {
    type forward;
    forward only;
    forwarders {
$servers
    };
};
# With stale-answer-enable, named may give a leader that has gone.
# Names of addresses (PTR) are optional: the same zone for $reverse and so on.
""")

_COREDNS = Template("""\
# Install: hstore dns setup coredns | sudo tee -a /etc/coredns/Corefile
# Reload:  by itself where the Corefile has `reload`, else: sudo pkill -USR1 coredns
# Try:     dig @127.0.0.1 leader.$zone
#
# No `cache` on purpose: a leader that has gone shall not be remembered.
$zone {
    errors
    forward . $servers {
        # A node that is down is left out until it answers again.
        health_check 1s
        max_fails 1
    }
}
# Names of addresses (PTR) are optional: the same block for $reverse and so on.
""")

_MACOS = Template("""\
# Install: hstore dns setup macos | sudo tee /etc/resolver/$zone
#          (sudo mkdir -p /etc/resolver first, where it is not there)
# Reload:  sudo killall -HUP mDNSResponder
# Try:     dscacheutil -q host -a name leader.$zone
#          (dig and host do not look at /etc/resolver; scutil --dns shows whether it was read)
#
# The name of the file is the zone. Names in .local belong to multicast DNS (RFC 6762); should
# look-ups take seconds here, give the cluster another zone (hstore start --zone hstore.internal).
$servers
""")

RESOLVERS = {
    "systemd-resolved": Resolver(
        "systemd-resolved", "systemd-resolved.conf", _SYSTEMD_RESOLVED, _in_one_line
    ),
    "dnsmasq": Resolver("dnsmasq", "dnsmasq.conf", _DNSMASQ, _each("server=/{zone}/{host}#{port}")),
    "unbound": Resolver("Unbound", "unbound.conf", _UNBOUND, _each("    stub-addr: {host}@{port}")),
    "bind": Resolver("BIND", "bind.conf", _BIND, _each("        {host} port {port};")),
    "coredns": Resolver("CoreDNS", "Corefile", _COREDNS, _in_one_line),
    "macos": Resolver("macOS", "macos", _MACOS, _by_port),
}
"""The systems, by the name that a user gives to `dns setup`."""
