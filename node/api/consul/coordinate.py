"""Network coordinates: /v1/coordinate/nodes, datacenters, node, update.

There are none: each node is at the origin, as a new agent of Consul is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...state.watching.changes import NODES
from ..dialect import heads
from ..dialect.heads import Mode
from ..dialect.queries import datacenter
from ..dialect.questions import Question, Target, ask
from ..http.params import text_from_path
from . import nodes

if TYPE_CHECKING:
    from ...state.machine import Reader
    from ..http.answers import Answer
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found

# As serf's coordinate/config.go has a new one: its dimensions, `VivaldiErrorMax`, `HeightMin`.
_ORIGIN = {"Vec": [0] * 8, "Error": 1.5, "Adjustment": 0, "Height": 0.00001}
_ON = (Target(NODES, b"", is_prefix=True),)

_encode = msgspec.json.encode


def every(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`GET /v1/coordinate/nodes`."""

    def render(_: Reader) -> bytes:
        return _encode(_all(exchange))

    return ask(exchange, request, Question(_ON, _index, render))


def datacenters(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/coordinate/datacenters`."""
    dc = datacenter(exchange)
    places = [{**place, "Node": f"{place['Node']}.{dc}"} for place in _all(exchange)]
    body = [{"Datacenter": dc, "AreaID": "wan", "Coordinates": places}]
    return heads.read(exchange, Mode.STALE, None, _encode(body))


def one(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`GET /v1/coordinate/node/<node>`: a list of one; 404 where there is none.

    A name that `datacenters` has given is known here too, and comes back as it was asked for:
    py-consul's tests read a node's coordinates by the name that they found there.
    """
    name = text_from_path(rest, "node name")

    def render(_: Reader) -> bytes | None:
        short = name.removesuffix(f".{datacenter(exchange)}")
        node = nodes.find_member(exchange, short)
        if node is None:
            return None
        return _encode([_place(node.name if short == name else name)])

    return ask(exchange, request, Question(_ON, _index, render))


def update(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`PUT /v1/coordinate/update`: taken, and not used."""
    return heads.empty(exchange.keys.applied_index)


def _index(reader: Reader) -> int:
    return reader.nodes_index()


def _all(exchange: Exchange) -> list[dict[str, Any]]:
    return [_place(member.name) for member in nodes.members_by_name(exchange)]


def _place(name: str) -> dict[str, Any]:
    return {"Node": name, "Segment": "", "Coord": _ORIGIN}
