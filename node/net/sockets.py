"""The four listening sockets of a node, bound before anything else of it starts.

A port is reserved by binding it, never by looking whether it is free and binding it later: of
several nodes that start at the same moment each gets its own. Serving the sockets is not done here.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.settings import at_port
from ..errors import ConfigError, HstoreError, Refused
from ..model.values import API_PORT, Address, is_wildcard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..config.settings import NodeSettings

# Nodes that look for a cluster try ports 8500 to 8599; above those lie the default DNS ports of the
# first nodes.
PORTS_TRIED = 100

# What a restart does not mend: the address is none, or of a family that this machine has not.
_LASTING = frozenset({errno.EINVAL, errno.EAFNOSUPPORT})

# As long as the kernel allows: it applies its own limit (net.core.somaxconn) anyway.
_BACKLOG = 4096


class AddressTaken(Refused):
    """Another socket is bound to this port.

    Attributes:
        role: `API`, `peer` or `DNS`.
        address: The address that could not be bound.
    """

    def __init__(self, role: str, address: Address) -> None:
        super().__init__(
            f"the {role} port {address} is taken by another program; "
            "stop it, or choose another address"
        )
        self.role = role
        self.address = address


@dataclass(frozen=True, slots=True)
class NodeSockets:
    """Bound and non-blocking; the TCP sockets are listening. The owner closes them."""

    api: socket.socket
    peer: socket.socket
    dns_udp: socket.socket
    dns_tcp: socket.socket

    def close(self) -> None:
        """Close all four. Idempotent."""
        for one in (self.api, self.peer, self.dns_udp, self.dns_tcp):
            one.close()


def bind_node_sockets(settings: NodeSettings) -> NodeSockets:
    """Bind the ports of the settings: all of them or none.

    Raises:
        AddressTaken: Another socket has one of the ports.
        Refused: The address is not up on this machine, or the system has no sockets left.
        ConfigError: This user may not bind it, or no machine like this can.
    """
    host = settings.listen.host
    peer, dns = Address(host, settings.peer_port), Address(host, settings.dns_port)
    bound: list[socket.socket] = []
    try:
        bound.append(_bind("API", settings.listen, socket.SOCK_STREAM))
        bound.append(_bind("peer", peer, socket.SOCK_STREAM))
        bound.append(_bind("DNS", dns, socket.SOCK_DGRAM))
        bound.append(_bind("DNS", dns, socket.SOCK_STREAM))
    except BaseException:
        for one in bound:
            one.close()
        raise
    return NodeSockets(*bound)


def bind_first_free(
    settings: NodeSettings, env: Mapping[str, str]
) -> tuple[NodeSettings, NodeSockets]:
    """Bind the first k below 100 for which port 8500+k, its peer port and its DNS port are free.

    Returns:
        The settings with that port, and the sockets.

    Raises:
        Refused: There is no such k.
        ConfigError: As for `bind_node_sockets`.
    """
    taken: AddressTaken | None = None
    for k in range(PORTS_TRIED):
        candidate = at_port(settings, API_PORT + k, env)
        try:
            return candidate, bind_node_sockets(candidate)
        except AddressTaken as error:
            taken = error
    raise Refused(
        f"none of the {PORTS_TRIED} API ports from {API_PORT} is free with its peer and DNS port "
        f"({taken}); name an address with --listen HOST:PORT"
    )


def _bind(role: str, address: Address, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    one = socket.socket(family, kind)
    try:
        one.setblocking(False)
        if family == socket.AF_INET6:
            # `::` means every address, IPv4 included, and a node may advertise an IPv4 address: so
            # do not leave it to the default of the machine (net.ipv6.bindv6only).
            every = is_wildcard(address.host)
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not every))
        if kind == socket.SOCK_STREAM:
            # For TCP: lets a node start again while connections of its last run are in TIME_WAIT.
            # With this option two sockets may be bound to one port as long as neither listens; so
            # this one listens at once, and the second then fails. For UDP the option would let two
            # sockets share the port.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(address)
        if kind == socket.SOCK_STREAM:
            one.listen(_BACKLOG)
    except OSError as error:
        one.close()
        raise _translated(role, address, error) from None
    except BaseException:
        one.close()
        raise
    return one


def _translated(role: str, address: Address, error: OSError) -> HstoreError:
    if error.errno == errno.EADDRINUSE:
        return AddressTaken(role, address)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return ConfigError(
            f"the {role} port {address} is not allowed to this user; take one from 1024 up"
        )
    # The numbers of `socket.gaierror`, such as for a zone of IPv6 that is none, are below 0.
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    message = f"cannot listen on the {role} address {address}: {reason}"
    if error.errno == errno.EADDRNOTAVAIL:
        # At boot a service may start before its address is up, and is started again.
        return Refused(f"{message}; this machine has no such address now")
    return ConfigError(message) if error.errno in _LASTING else Refused(message)
