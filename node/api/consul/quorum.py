"""Who votes, as an operator of Consul sees and changes it: /v1/operator/raft/….

The names of the paths are Consul's; what they do is what `admin.py` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...errors import NoLeader, Refused, Unavailable
from ..dialect import heads
from ..dialect.forms import refused
from ..dialect.queries import mode_of
from ..http.exchange import Deferred
from ..http.params import parse_query
from . import nodes

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ...model.commands import Outcome
    from ..http.answers import Answer
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found

# Consul's agent/consul/operator_raft_endpoint.go: version 3 names servers by their id.
_PROTOCOL_VERSION = "3"

_encode = msgspec.json.encode


def configuration(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`GET /v1/operator/raft/configuration`."""
    mode, query = mode_of(exchange, parse_query(request.query))

    def finish(_: Outcome) -> bytes:
        administration = exchange.backend.administration
        info = administration.cluster()
        servers = [
            {
                "ID": nodes.uuid_of(int(node.id, 16)),
                "Node": node.name,
                "Address": node.peer_address,
                "Leader": node.name == info.leader,
                "ProtocolVersion": _PROTOCOL_VERSION,
                "Voter": node.voter,
                "LastIndex": node.applied_index or 0,
            }
            for node in info.nodes
        ]
        index = 0 if administration.is_as_founded else _nodes_index(exchange)
        body = _encode({"Servers": servers, "Index": index})
        return heads.read(exchange, mode, None, body)

    return Deferred(None, query, finish)


def _nodes_index(exchange: Exchange) -> int:
    reader = exchange.keys.view()
    try:
        return reader.nodes_index()
    finally:
        reader.close()


async def remove(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`DELETE /v1/operator/raft/peer`: `?id=` or `?address=`; remove a member for good."""
    query = parse_query(request.query)
    given = [name for name in ("id", "address") if name in query]
    if not given:
        raise refused(400, "Must specify either ?id with the server's ID or ?address of it")
    if len(given) == 2:
        raise refused(400, "Must specify only one of ?id or ?address")
    text = query[given[0]]
    deadline = await exchange.begin_wait(query)
    administration = exchange.backend.administration
    await administration.cluster_barrier(deadline)
    for member in administration.members.values():
        if text.lower() == nodes.uuid_of(member.id) or text == member.peer_address:
            node = f"{member.id:016x}"
            break
    else:
        raise refused(500, f"{given[0]} {text[:100]!r} was not found in the Raft configuration")
    await _done(administration.remove(node, deadline))
    return heads.empty(exchange.keys.applied_index)


async def transfer(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`POST` or `PUT /v1/operator/raft/transfer-leader`: `?id=`; without it any that can lead."""
    query = parse_query(request.query)
    deadline = await exchange.begin_wait(query)
    text = query.get("id", "")
    node = nodes.find_member(exchange, text) if text else None
    if text and node is None:
        raise refused(500, f"id {text[:100]!r} was not found in the Raft configuration")
    to = "" if node is None else f"{node.id:016x}"
    await _done(exchange.backend.administration.transfer(to, deadline))
    return heads.done(exchange.keys.applied_index, b'{"Success":true}')


async def _done(change: Awaitable[object]) -> None:
    """Wait for a change of who votes or leads; what is refused is 500 here, as in Consul.

    Raises:
        HttpError: 500.
        NoLeader: As of `Administration`.
    """
    try:
        await change
    except NoLeader:
        raise
    except (Refused, Unavailable) as error:
        raise refused(500, str(error)) from None
