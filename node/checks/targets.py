"""What a check may connect to: names become addresses, and `checks.deny` judges each address.

A member makes requests to what it is told, also within its own network (section 9.5 of the contract
of services). What is judged is the address that is connected to, never a name: a name may have another
address the next time, and a redirect may name anything.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

import trio

from ..errors import HstoreError

Network = IPv4Network | IPv6Network

ADDRESSES_MAX = 8
"""Addresses of one name that are tried."""

_LOOKUPS_MAX = 8
"""Names looked up at once, each in a thread: `getaddrinfo` blocks."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""IPv4 addresses as seen by IPv6 (RFC 6052 section 2.1)."""


class BadTarget(HstoreError):
    """There is nothing to connect to, or it must not be connected to; the text says why."""


class Place(NamedTuple):
    """An address to connect to.

    Attributes:
        family: `AF_INET` or `AF_INET6`.
        address: As `socket.connect` takes it.
    """

    family: int
    address: tuple[str, int] | tuple[str, int, int, int]


class Targets:
    """The addresses that checks of one node may connect to."""

    def __init__(self, deny: Sequence[Network]) -> None:
        """Begin.

        Args:
            deny: What `checks.deny` says.
        """
        self._deny = tuple(deny)
        self._limiter = trio.CapacityLimiter(_LOOKUPS_MAX)
        # A few checks ask for the same addresses again and again.
        self._denied = lru_cache(maxsize=4096)(self._is_denied)

    async def find(self, host: str, port: int) -> tuple[Place, ...]:
        """Return where to connect to, in the order in which to try.

        Args:
            host: An IP literal without brackets, or a name.
            port: From 1 to 65535.

        Raises:
            BadTarget: The name has no address, or one of them is in `checks.deny`.

        Cancellation: a thread may go on with the look-up for a while; there are never more than eight.
        """
        places = _literal(host, port)
        if places is None:
            places = await self._look_up(host, port)
        for place in places:
            if self._denied(place.address[0]):
                raise BadTarget(f"target {place.address[0]} is in checks.deny")
        return places

    async def _look_up(self, host: str, port: int) -> tuple[Place, ...]:
        try:
            found = await trio.to_thread.run_sync(
                lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM),
                limiter=self._limiter,
                abandon_on_cancel=True,
            )
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not a host name"
            raise BadTarget(f"cannot find {host[:255]!r}: {why or error}") from None
        places: list[Place] = []
        for family, _, _, _, address in found:
            if len(address) == 2:
                places.append(Place(family, (str(address[0]), port)))
            elif len(address) == 4:
                places.append(Place(family, (str(address[0]), port, *address[2:])))
        if not places:
            raise BadTarget(f"cannot find {host[:255]!r}: it has no address")
        return tuple(dict.fromkeys(places))[:ADDRESSES_MAX]

    def _is_denied(self, address: str) -> bool:
        return any(
            one in network
            for one in _meant(ipaddress.ip_address(address))
            for network in self._deny
            if one.version == network.version
        )


@lru_cache(maxsize=4096)
def _literal(host: str, port: int) -> tuple[Place, ...] | None:
    """Return where an IP literal or `localhost` is; None: it is another name."""
    if host == "localhost":
        # By RFC 6761 section 6.3 it is loopback without asking anybody. IPv4 first: most programs
        # that listen on one family alone listen on that.
        return (
            Place(socket.AF_INET, ("127.0.0.1", port)),
            Place(socket.AF_INET6, ("::1", port, 0, 0)),
        )
    try:
        one = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(one, IPv4Address):
        return (Place(socket.AF_INET, (str(one), port)),)
    if one.scope_id is not None:
        return None  # Which interface that is, the system knows.
    return (Place(socket.AF_INET6, (str(one), port, 0, 0)),)


def _meant(one: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """Return all addresses that a connection to this one can lead to."""
    if isinstance(one, IPv4Address):
        # Linux connects to this machine when it is told to connect to nowhere (ip(7), INADDR_ANY).
        return [one, IPv4Address("127.0.0.1")] if one.is_unspecified else [one]
    bare = IPv6Address(int(one))
    meant: list[IPv4Address | IPv6Address] = [bare]
    within = bare.ipv4_mapped or bare.sixtofour
    if bare in _NAT64:
        within = IPv4Address(int(bare) & 0xFFFFFFFF)
    if within is not None:
        meant += _meant(within)
    if bare.is_unspecified:
        meant.append(IPv6Address("::1"))
    return meant
