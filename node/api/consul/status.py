"""The state of the cluster in a few words: /v1/status, and the root of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..dialect.heads import EVERY, done
from ..http.answers import TEXT, answer

if TYPE_CHECKING:
    from ..http.answers import Answer
    from ..http.connection import Request
    from ..http.exchange import Exchange

_encode = msgspec.json.encode


async def root(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /`: one line for whoever looks whether something is here."""
    return answer(exchange.keys.applied_index, b"hstore", content_type=TEXT, extra=EVERY)


async def leader(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/status/leader`: its address for other nodes, as in Consul, or `""`."""
    info = exchange.backend.administration.cluster()
    address = next((node.peer_address for node in info.nodes if node.name == info.leader), "")
    return done(exchange.keys.applied_index, _encode(address))


async def peers(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/status/peers`: the addresses of all members for other nodes."""
    addresses = [node.peer_address for node in exchange.backend.administration.cluster().nodes]
    return done(exchange.keys.applied_index, _encode(addresses))
