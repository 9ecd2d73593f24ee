"""IP literals: which address a text means, whether it is this machine only, how it is written.

The one place of these rules. `node` and `cli` use them too, mostly by way of `hstore.node.model.values`.
No host name is looked up here.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TypeAlias

IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAPPED = bytes(10) + b"\xff\xff"
"""How IPv4-mapped IPv6 addresses begin."""


def ip_of(host: str) -> IP:
    """Return the address that an IP literal means.

    An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) is the IPv4 address in it: a socket that
    serves both families gives IPv4 clients in that form. A zone index (`fe80::1%eth0`) is left out:
    it names an interface of this machine, and is no part of the address.

    Raises:
        ValueError: `host` is no IP literal.
    """
    ip = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def packed_ip(host: str) -> bytes | None:
    """Return the 4 or 16 bytes of the address that `ip_of` returns; None: `host` is no IP literal.

    The C library reads it in a tenth of the time.
    """
    bare = host.partition("%")[0]
    try:
        if ":" not in bare:
            return socket.inet_pton(socket.AF_INET, bare)
        packed = socket.inet_pton(socket.AF_INET6, bare)
    except (OSError, ValueError):  # the latter: bytes that no C string can hold
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed


def is_ip(text: str) -> bool:
    """Tell whether a text is an IP literal, without brackets; a zone index may follow."""
    if "%" not in text:
        return packed_ip(text) is not None
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell whether an IP literal is an address of this machine only: 127.0.0.0/8 or ::1.

    What is no IP literal is not, `localhost` included: only a resolver knows what it means.
    """
    try:
        return ip_of(host).is_loopback
    except ValueError:
        return False


def host_and_port(host: str, port: int) -> str:
    """Return `HOST:PORT`, with brackets around an IPv6 literal (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
