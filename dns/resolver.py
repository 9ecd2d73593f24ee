"""The cluster as this machine's resolver knows it, asked without blocking the search.

There are two ways to ask, which disagree on many machines. Its DNS servers are asked directly, since
only they give ports (SRV). `getaddrinfo` also knows /etc/hosts, mDNS and the other sources that the
system is configured for. It may block for minutes when a server does not answer, so it runs in a
thread that is abandoned after a timeout.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from .client import ASK_S, LEADER_S, NoAnswer
from .finder import API, Attempt, DnsServers, Findings, HostPort, Rank, Service, Sighting
from .records import Name

RESOLV_CONF = Path("/etc/resolv.conf")
DNS_PORT = 53

# resolv.conf(5): the system itself asks no more than three.
_SERVERS_MAX = 3
_RESOLV_CONF_BYTES_MAX = 65536

# Abandoned threads of one source that still wait; with so many, further look-ups time out.
_THREADS_MAX = 4

_SYSTEM = "the system's resolver"
_GETADDRINFO = "the system's getaddrinfo"
_LABELS = (b"leader", b"nodes")
# resolv.conf(5): the server without a file, or without a nameserver in it.
_DEFAULT_SERVER = ("127.0.0.1", DNS_PORT)


def _limiter() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(_THREADS_MAX)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Nodes at given addresses.

    Attributes:
        name: Where the addresses come from, for messages.
        addresses: Host names or IP literals, each with the port of the service to look for.
        rank: A `Rank`.
    """

    name: str
    addresses: Sequence[HostPort]
    rank: int = Rank.NAMED
    limiter: trio.CapacityLimiter = field(default_factory=_limiter)

    async def look(self, _zone: Name, findings: Findings) -> None:
        """Resolve each address; an unknown name becomes an attempt."""
        async with trio.open_nursery() as nursery:
            for address in self.addresses:
                nursery.start_soon(self._look, address, findings)

    async def _look(self, address: HostPort, findings: Findings) -> None:
        host, port = address
        try:
            found = await resolve(host, self.limiter)
        except NoAnswer as error:
            findings.attempts.append(Attempt(self.name, address, "its address", str(error)))
            return
        nodes = tuple((one, port) for one in found)
        findings.sightings.append(Sighting(self.name, address, nodes, None))


@dataclass(frozen=True, slots=True)
class SystemServers:
    """The DNS servers that this machine uses, asked directly: `getaddrinfo` knows no SRV."""

    rank: int = Rank.SYSTEM
    service: Service = API
    path: Path = RESOLV_CONF

    async def look(self, zone: Name, findings: Findings) -> None:
        """Ask each as `DnsServers` does. The file is read each time, since networks change."""
        servers = read_nameservers(self.path)
        await DnsServers(_SYSTEM, servers, self.rank, self.service).look(zone, findings)


@dataclass(frozen=True, slots=True)
class SystemNames:
    """`getaddrinfo`, which gives addresses without ports."""

    rank: int = Rank.SYSTEM
    service: Service = API
    limiter: trio.CapacityLimiter = field(default_factory=_limiter)

    async def look(self, zone: Name, findings: Findings) -> None:
        """Ask for `leader` and `nodes` at once."""
        known: dict[bytes, list[HostPort]] = {}
        outcomes: dict[bytes, str] = {}

        async def ask(label: bytes) -> None:
            outcomes[label] = f"no answer within {ASK_S:g} s"
            text = b".".join((label, *zone)).decode("ascii", "backslashreplace")
            try:
                found = await resolve(text, self.limiter)
            except NoAnswer as error:
                outcomes[label] = str(error)
            else:
                outcomes[label] = f"{len(found)} address{'' if len(found) == 1 else 'es'}"
                known[label] = [(host, self.service.port) for host in found]
                # Nodes that know no leader hold the question for it: the nodes found are enough.
                scope.deadline = min(scope.deadline, trio.current_time() + LEADER_S)

        try:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    for label in _LABELS:
                        nursery.start_soon(ask, label)
        finally:
            for label in _LABELS:
                question = b".".join((label, *zone)).decode("ascii", "backslashreplace")
                outcome = outcomes.get(label, "not asked")
                findings.attempts.append(Attempt(_GETADDRINFO, "", question, outcome))
        leaders, nodes = (known.get(label, []) for label in _LABELS)
        if leaders or nodes:
            everyone = tuple(dict.fromkeys([*leaders, *nodes]))
            leader = leaders[0] if leaders else None
            findings.sightings.append(Sighting(_GETADDRINFO, "", everyone, leader))


async def resolve(host: str, limiter: trio.CapacityLimiter) -> list[str]:
    """Return the IP literals of a host, in the system's order and without duplicates.

    Raises:
        NoAnswer: It has none, or the system does not answer within `ASK_S`.

    Cancellation: A thread may go on waiting. It holds one token of `limiter` until it ends, and
    does not keep the process alive.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    try:
        with trio.fail_after(ASK_S):
            found = await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=limiter)
    except trio.TooSlowError:
        raise NoAnswer(f"no answer within {ASK_S:g} s") from None
    except socket.gaierror as error:
        known = error.errno in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)}
        raise NoAnswer("no such name" if known else (error.strerror or str(error))) from None
    except (OSError, UnicodeError) as error:
        raise NoAnswer(str(error)) from None
    # No node has an address with a scope (fe80::1%eth0), which has a meaning on one machine only.
    addresses = [str(one[4][0]) for one in found]
    return list(dict.fromkeys(one for one in addresses if "%" not in one))


def read_nameservers(path: Path) -> list[HostPort]:
    """Return the nameservers of a resolv.conf(5), as the system would use them."""
    try:
        with path.open("rb") as file:
            text = file.read(_RESOLV_CONF_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        text = ""
    servers: list[HostPort] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                servers.append((str(ipaddress.ip_address(words[1])), DNS_PORT))
            except ValueError:
                continue  # the system does not use it either
    return servers[:_SERVERS_MAX] or [_DEFAULT_SERVER]
