"""Sockets of multicast DNS, the part of it that differs from system to system.

`responder.py` and `browser.py` use them.

Packets from beyond the link are neither accepted nor answered (RFC 6762 section 11). The responder's
socket is bound to the group's address, which routers do not forward, so it gets no packet that was
sent to this machine's own address; `SO_DONTROUTE` keeps its replies on the link, even when the source
of a query is forged. A search takes only replies with a TTL of 255: every router lowers it by one.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from .multicast import GROUP4, GROUP6, PORT

# Linux's numbers (ip(7)), which Python's socket module does not name.
_IP_RECVTTL = 12
_IP_MULTICAST_ALL = 49
_IS_LINUX = sys.platform == "linux"

_TTL = 255
_INT = struct.Struct("@i")
_INTERFACE_ADDRESSES = Path("/proc/net/if_inet6")


def open_responder(host: str) -> tuple[socket.socket, tuple[str | int, ...]]:
    """Return a socket on port 5353 for the network of an address of this machine, and its group.

    Other programs that answer multicast DNS on this machine share the port.

    Raises:
        OSError: There is no such address, or the port is not shared.
    """
    is_ipv6 = ":" in host
    link = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        group = _join6(link, host) if is_ipv6 else _join4(link, host)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
    except BaseException:
        link.close()
        raise
    return link, group


def _join4(link: socket.socket, host: str) -> tuple[str | int, ...]:
    own, group = socket.inet_aton(host), (GROUP4, PORT)
    link.bind(group)
    if _IS_LINUX:
        # Otherwise it gets packets of each interface on which any program has joined the group.
        link.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
    link.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP4) + own)
    link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
    link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _TTL)
    link.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _TTL)
    return group


def _join6(link: socket.socket, host: str) -> tuple[str | int, ...]:
    index = _index_of(host)
    group = (GROUP6, PORT, 0, index)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    link.bind(group)
    wanted = socket.inet_pton(socket.AF_INET6, GROUP6) + _INT.pack(index)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, wanted)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _TTL)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _TTL)
    return group


def _index_of(host: str) -> int:
    """Return the index of the interface with an IPv6 address; 0, the system's choice, if unknown."""
    with contextlib.suppress(OSError):
        for line in _INTERFACE_ADDRESSES.read_text("ascii").splitlines():
            digits, index, *_rest = line.split()
            if ipaddress.IPv6Address(bytes.fromhex(digits)) == ipaddress.IPv6Address(host):
                return int(index, 16)
    return 0


def interfaces() -> list[tuple[int, str]]:
    """Return index and name of the interfaces that may lead to other machines."""
    found: list[tuple[int, str]] = []
    with contextlib.suppress(OSError):
        found = socket.if_nameindex()
    return [(index, name) for index, name in found if not name.startswith("lo")]


def open_asker(index: int, family: int) -> tuple[socket.socket, tuple[str | int, ...]]:
    """Return a socket for queries on one interface, with a port of its own; and the group.

    Raises:
        OSError: The interface has no such family.
    """
    link = socket.socket(family, socket.SOCK_DGRAM)
    try:
        link.setblocking(False)
        if family == socket.AF_INET6:
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _TTL)
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            return link, (GROUP6, PORT, 0, index)
        # struct ip_mreqn: group, local address, index.
        chosen = socket.inet_aton("0.0.0.0") * 2 + _INT.pack(index)  # noqa: S104  # "any", not bound
        link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, chosen)
        link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _TTL)
        if _IS_LINUX:
            link.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    except BaseException:
        link.close()
        raise
    return link, (GROUP4, PORT)


def is_from_link(ancillary: list[Any]) -> bool:
    """Tell by a datagram's ancillary data whether it crossed no router.

    Without a TTL in it, the answer is no on Linux, which always gives one, and yes elsewhere.
    """
    for level, kind, data in ancillary:
        is_ttl = level == socket.IPPROTO_IP and kind in {socket.IP_TTL, _IP_RECVTTL}
        is_hops = level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT
        if is_ttl or is_hops:
            return int.from_bytes(data[:4], sys.byteorder) == _TTL
    return not _IS_LINUX
