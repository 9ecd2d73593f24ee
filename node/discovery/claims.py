"""Whether a live cluster counts this node's address among its members, before it founds another.

A seed that lost its disk, and that its service starts again with the line it always had, would make
a second cluster at the old address. The hosts and DNS servers that its settings name (contract
section 6, sources 1 and 2) are asked; etcd refuses likewise ("already bootstrapped").

Nothing that is asked here can make a node a member. Where nothing is named, nothing is asked.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import httpx
import msgspec
import trio

from hstore.dns import finder
from hstore.dns.finder import API, PEER, DnsServers, Rank, Source
from hstore.dns.ip_literals import host_and_port
from hstore.dns.resolver import Hosts

from ..config.settings import PEER_OFFSET, NodeSettings
from ..errors import AddressClaimed
from ..model.cluster_info import ClusterInfo
from ..model.values import Address, split_address
from . import joining

_ASK_SECONDS = 1.0
"""For all sources together, and for the members they name."""

_ASKED_MAX = 32
"""Nodes asked in all: enough for a cluster of seven under several names, and some others."""


class Claim(NamedTuple):
    """A cluster that has a member at this node's address. What is not known is empty.

    Attributes:
        cluster_id, zone: Of the cluster.
        name: Of the member.
        said_by: `HOST:PORT` of the node or the DNS server that says so.
    """

    cluster_id: str
    zone: str = ""
    name: str = ""
    said_by: str = ""


def refusal(claim: Claim, settings: NodeSettings) -> AddressClaimed:
    """Return the error that ends a start, with what its user can do."""
    cluster = f"cluster {claim.cluster_id}" if claim.cluster_id else "a live cluster"
    zone = f" of zone {claim.zone}" if claim.zone else ""
    member = f"{claim.name}, a member" if claim.name else "a member"
    said_by = f" (says {claim.said_by})" if claim.said_by else ""
    node = claim.name or settings.api_address
    return AddressClaimed(
        f"{settings.api_address} is the address of {member} of {cluster}{zone}{said_by}, "
        "so no new cluster was started there\n"
        "if this node lost its disk: stop its service, then "
        f"`hstore leave -h {node}` where another member runs, and `hstore join` here; "
        f"or, in one step, `hstore join --replace {node}` in place of `hstore start`, with its other "
        "options; if a second cluster is meant: `hstore start --new-cluster`",
        claim.cluster_id,
    )


async def find(settings: NodeSettings) -> Claim | None:
    """Ask the named sources, for about a second; return the first claim that is found."""
    servers = settings.discovery.dns
    search = _Search(settings)
    with trio.move_on_after(_ASK_SECONDS):
        async with trio.open_nursery() as search.nursery:
            start = search.nursery.start_soon
            start(search.look, Hosts("discovery.hosts", settings.discovery.hosts))
            start(search.look, DnsServers("discovery.dns", servers, Rank.SERVERS, API))
            start(search.look_for_peers, DnsServers("discovery.dns", servers, Rank.SERVERS, PEER))
    if search.by_node is not None:
        return await describe(search.by_node, settings)
    return search.by_dns


async def describe(claim: Claim, settings: NodeSettings) -> Claim:
    """Return a claim with all that the node at `said_by` knows of it, if it answers in time."""
    body = b""
    with trio.move_on_after(_ASK_SECONDS):
        body = await _get(claim.said_by, "/v1/cluster")
    try:
        info = msgspec.json.decode(body, type=ClusterInfo)
    except msgspec.MsgspecError:
        return claim
    names = [one.name for one in info.nodes if one.peer_address == settings.peer_address]
    if not names or claim.cluster_id not in {"", info.cluster_id}:
        return claim
    return Claim(info.cluster_id, info.zone, names[0], claim.said_by)


async def greeted(cluster_id: str, peer_address: str, settings: NodeSettings) -> Claim:
    """Return the claim of a cluster whose member dialled this node.

    Args:
        cluster_id: Of the member's hello.
        peer_address: Where the member listens for other nodes; empty: unknown. Its API is taken to
            be 200 ports above; at another port it is not found.
        settings: Of this node.
    """
    claim = Claim(cluster_id)
    if not peer_address:
        return claim
    host, port = split_address(peer_address)
    api = str(Address(host, port - PEER_OFFSET))
    described = await describe(claim._replace(said_by=api), settings)
    return described if described.name else claim


class _Search:
    """One round of questions, in the tasks of `nursery`.

    Attributes:
        by_node, by_dns: The claim that a node, or a DNS server, has made. A node knows more, so its
            claim ends the round.
    """

    nursery: trio.Nursery

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._asked = {settings.api_address}
        self.by_node: Claim | None = None
        self.by_dns: Claim | None = None

    async def look(self, source: Source) -> None:
        """Ask each node that a source names for the members of its cluster."""
        findings = await finder.look(self._settings.cluster.zone, [source])
        for address in (host_and_port(*node) for node in findings.addresses()):
            if address not in self._asked and len(self._asked) <= _ASKED_MAX:
                self._asked.add(address)
                self.nursery.start_soon(self._ask, address)

    async def look_for_peers(self, source: Source) -> None:
        """Look for this node among the peers that a DNS server names."""
        zone = self._settings.cluster.zone
        for sighting in (await finder.look(zone, [source])).sightings:
            if self._settings.peer_address in {host_and_port(*node) for node in sighting.nodes}:
                server = sighting.server
                said_by = server if isinstance(server, str) else host_and_port(*server)
                self.by_dns = Claim("", zone, said_by=said_by)

    async def _ask(self, address: str) -> None:
        body = await _get(address, "/v1/status/peers")
        try:
            peers = msgspec.json.decode(body, type=list[str])
        except msgspec.MsgspecError:
            return
        if self._settings.peer_address in peers:
            self.by_node = Claim("", said_by=address)
            self.nursery.cancel_scope.cancel()


async def _get(address: str, path: str) -> bytes:
    """Return the body of a node's answer; empty when it gives none.

    Cancellation: The request goes on in its thread for up to a second.
    """
    try:
        answer = await trio.to_thread.run_sync(
            partial(joining.request, "GET", f"http://{address}{path}", within_s=_ASK_SECONDS),
            abandon_on_cancel=True,
        )
    except (httpx.HTTPError, httpx.InvalidURL):
        return b""
    return answer.content if answer.status_code == 200 else b""
