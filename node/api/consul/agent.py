"""The node that is asked, as Consul's clients see an agent: /v1/agent/self, members, leave, reload.

Answered from what this node knows, also without a leader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...filter.fields import INTEGER, TEXT, TEXT_MAP, Object
from ...model import durations
from ...model.values import split_address
from ...net.turn import BYTES_MAX
from ..dialect import filters, heads
from ..dialect.heads import Mode
from ..dialect.queries import datacenter
from ..http.params import parse_query
from . import nodes

if TYPE_CHECKING:
    from ...model.cluster_info import ClusterInfo, NodeInfo
    from ..http.answers import Answer
    from ..http.connection import Request
    from ..http.exchange import Exchange

CONSUL_VERSION = "1.20.0"
"""Clients compare numbers: this one has the API that they find here."""

# Serf's `MemberStatus`: alive 1, leaving 2, left 3, failed 4. No member is ever seen leaving: it is
# one until it is gone.
_STATUS = {"alive": 1, "suspect": 1, "joining": 1, "stopped": 3, "failed": 4, "recovering": 4}
# Of Serf and of its protocol for delegates, as Consul's agents say.
_PROTOCOLS = {
    "ProtocolMin": 1,
    "ProtocolMax": 5,
    "ProtocolCur": 2,
    "DelegateMin": 2,
    "DelegateMax": 5,
    "DelegateCur": 4,
}
_MEMBER = Object(
    {
        "Name": TEXT,
        "Addr": TEXT,
        "Port": INTEGER,
        "Tags": TEXT_MAP,
        "Status": INTEGER,
        **dict.fromkeys(_PROTOCOLS, INTEGER),
    }
)

_encode = msgspec.json.encode


def show(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/agent/self`."""
    process, info = exchange.backend.process, exchange.backend.administration.cluster()
    own = next((node for node in info.nodes if int(node.id, 16) == process.id), None)
    name, dc = process.name, datacenter(exchange)
    version = own.version if own is not None and own.version else ""
    ttl_min_ns = exchange.backend.settings.cluster_settings.session_ttl_min_ms * 1_000_000
    body = {
        "Config": {
            "Datacenter": dc,
            "NodeName": name,
            "NodeID": nodes.uuid_of(process.id),
            "Server": True,
            "Revision": version,
            "Version": _version(version),
            "SessionTTLMin": ttl_min_ns,
        },
        "Coord": None,
        "DebugConfig": {
            "SessionTTLMin": durations.show(ttl_min_ns),
            "Datacenter": dc,
            "NodeName": name,
        },
        "Member": {} if own is None else _member(own, dc),
        "Meta": {},
        "Stats": _stats(info, own, _counts(exchange)),
        "xDS": None,
    }
    return heads.read(exchange, Mode.STALE, None, _encode(body))


async def members(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/agent/members`: `?wan`, `?filter=`."""
    query = parse_query(request.query)
    choice = filters.Choice(query, _MEMBER)
    if choice:
        await exchange.slice(BYTES_MAX)  # For the compilation of the filter.
    dc = datacenter(exchange)
    found = [_member(node, dc) for node in exchange.backend.administration.cluster().nodes]
    found.sort(key=lambda member: str(member["Name"]))
    if "wan" in query:
        found = [member | {"Name": f"{member['Name']}.{dc}"} for member in found]
    if choice:
        found = list(filter(choice.compiled(), found))
    return heads.read(exchange, Mode.STALE, None, _encode(found))


async def leave(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`PUT /v1/agent/leave`: stop cleanly, as `hstore stop` does, and stay a member.

    Consul's agent leaves for good or stays by its setting `leave_on_terminate`; a service manager
    that sends this at each stop must not remove a member.
    """
    await exchange.begin_wait(parse_query(request.query))
    await exchange.backend.process.stop()
    request.keep_alive = False
    return heads.empty(exchange.keys.applied_index)


def reload(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`PUT /v1/agent/reload`: nothing is to be read again, since settings are changed while it runs."""
    return heads.empty(exchange.keys.applied_index)


def _version(version: str) -> str:
    return f"{CONSUL_VERSION}+hstore.{version or '0'}"


def _member(node: NodeInfo, dc: str) -> dict[str, Any]:
    address = split_address(node.peer_address)
    version = node.version or ""
    return {
        "Name": node.name,
        "Addr": split_address(node.address).host,
        "Port": address.port,
        "Tags": {
            "role": "consul",
            "dc": dc,
            "id": nodes.uuid_of(int(node.id, 16)),
            "port": str(address.port),
            "build": f"{_version(version)}:{version or '0'}",
            "vsn": "2",
            "vsn_min": "2",
            "vsn_max": "3",
        },
        "Status": _STATUS[node.health],
        **_PROTOCOLS,
    }


def _counts(exchange: Exchange) -> tuple[int, int]:
    reader = exchange.keys.view()
    try:
        return reader.counts(exchange.backend.catalog.own_number)
    finally:
        reader.close()


def _stats(
    info: ClusterInfo, own: NodeInfo | None, counts: tuple[int, int]
) -> dict[str, dict[str, str]]:
    leader = next((node.peer_address for node in info.nodes if node.name == info.leader), "")
    raft = {"state": "Leader" if own is not None and own.name == info.leader else "Follower"}
    for name in ("term", "commit_index", "applied_index"):
        raft[name] = str((getattr(own, name, None)) or 0)
    return {
        "consul": {"leader_addr": leader},
        "raft": raft,
        "agent": {"services": str(counts[0]), "checks": str(counts[1])},
    }
