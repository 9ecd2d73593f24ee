"""Asking the local network for nodes, by multicast DNS: the last of the sources.

One-shot queries from a port of their own (RFC 6762 sections 5.1 and 6.7): replies come to this
socket alone, beside whatever else on this machine has port 5353.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import random
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

import trio

from . import multicast, multicast_sockets
from .finder import API, Attempt, Findings, HostPort, Rank, Service, Sighting
from .message import MalformedError
from .records import Name, RRType, Txt, name_of
from .wire import parse_reply

# Nodes answer in a millisecond. A slower one is asked again in the next round of the search.
BROWSE_S = 0.5
# How long to wait after the first reply for other nodes, which may belong to another cluster.
OTHERS_S = 0.1
# A machine may have an interface for each container; its own come first.
_INTERFACES_MAX = 16
_REPLIES_MAX = 64
_ANCILLARY_BYTES = 64

_NAME = "multicast DNS"
_QUESTION = f"PTR {b'.'.join(multicast.SERVICE).decode('ascii')}"
_HEX = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What a node on the local network says of itself, unproved."""

    cluster_id: str
    node_id: str
    zone: Name
    api: HostPort
    peer: HostPort


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nodes that answer on the networks of this machine."""

    rank: int = Rank.LINK
    service: Service = API

    async def look(self, zone: Name, findings: Findings) -> None:
        """Ask once on each interface; each query becomes an attempt."""
        links = [
            (index, name, family)
            for index, name in multicast_sockets.interfaces()[:_INTERFACES_MAX]
            for family in (socket.AF_INET, socket.AF_INET6)
        ]
        if not links:
            reason = "this machine is on no network"
            findings.attempts.append(Attempt(_NAME, "any interface", _QUESTION, reason))
        heard: dict[HostPort, str] = {}
        clock = trio.CancelScope(deadline=trio.current_time() + BROWSE_S)
        inquiries = [_Inquiry(index, name, family) for index, name, family in links]

        def hear(interface: str, neighbour: Neighbour) -> None:
            if neighbour.zone == zone:
                address = neighbour.api if self.service is API else neighbour.peer
                heard.setdefault(address, interface)
                clock.deadline = min(clock.deadline, trio.current_time() + OTHERS_S)

        try:
            with clock:
                async with trio.open_nursery() as nursery:
                    for one in inquiries:
                        nursery.start_soon(one.run, hear)
        finally:
            findings.attempts += [one.attempt() for one in inquiries]
            findings.sightings += [
                Sighting(_NAME, interface, (address,), None) for address, interface in heard.items()
            ]


_Hear = Callable[[str, Neighbour], None]
"""Called with the interface and the node, for each node that answers."""


class _Inquiry:
    """One question on one interface, in one family."""

    def __init__(self, index: int, name: str, family: int) -> None:
        self._index, self._name, self._family = index, name, family
        self._replies = 0
        self._error = ""

    async def run(self, hear: _Hear) -> None:
        ident = random.SystemRandom().randrange(1 << 16)
        try:
            link, group = multicast_sockets.open_asker(self._index, self._family)
            with contextlib.closing(link):
                link.sendto(multicast.pack_query(multicast.SERVICE, RRType.PTR, ident), group)
                for _ in range(_REPLIES_MAX):
                    await self._read(link, ident, hear)
        except OSError as error:
            self._error = _reason(error)

    async def _read(self, link: socket.socket, ident: int, hear: _Hear) -> None:
        await trio.lowlevel.wait_readable(link)
        with contextlib.suppress(BlockingIOError):
            packet, ancillary, _flags, _source = link.recvmsg(
                multicast.PACKET_MAX, _ANCILLARY_BYTES
            )
            if multicast_sockets.is_from_link(ancillary):
                for neighbour in neighbours_in(packet, ident):
                    self._replies += 1
                    hear(self._name, neighbour)

    def attempt(self) -> Attempt:
        """Return the query and its result in words."""
        version = " (IPv6)" if self._family == socket.AF_INET6 else ""
        count = self._replies
        heard = f"{count} node{'' if count == 1 else 's'}" if count else "nobody answered"
        return Attempt(_NAME, f"{self._name}{version}", _QUESTION, self._error or heard)


def neighbours_in(packet: bytes, ident: int) -> list[Neighbour]:
    """Return the nodes in a reply to the query `ident`; none for any other packet."""
    try:
        reply = parse_reply(packet)
    except MalformedError:
        return []
    if reply.ident != ident:
        return []
    found = []
    for record in (*reply.answers, *reply.additional):
        if isinstance(record.rdata, Txt) and record.owner[1:] == multicast.SERVICE:
            with contextlib.suppress(ValueError, KeyError):
                found.append(_neighbour(record.rdata))
    return found


def _neighbour(txt: Txt) -> Neighbour:
    """Read the facts of a node.

    Raises:
        ValueError, KeyError: They are not in the form that `multicast.py` writes.
    """
    pairs = (one.decode("ascii").partition("=") for one in txt.strings)
    facts = {key: value for key, _, value in pairs}
    if not _HEX.fullmatch(facts["cluster"]) or not _HEX.fullmatch(facts["id"]):
        raise ValueError("not an id")
    return Neighbour(
        facts["cluster"],
        facts["id"],
        name_of(facts["zone"]),
        _address(facts["api"]),
        _address(facts["peer"]),
    )


def _address(text: str) -> HostPort:
    host, _, port = text.rpartition(":")
    number = int(port)
    if not 1 <= number <= 65535:
        raise ValueError("not a port")
    return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), number


def _reason(error: OSError) -> str:
    if error.errno in {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENETDOWN}:
        return "it has no address there"
    return os.strerror(error.errno).lower() if error.errno else str(error)
