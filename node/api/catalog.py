"""The catalog: /v1/catalog/datacenters and /v1/catalog/nodes. So far its nodes are the members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..state.changes import NODES
from . import nodes
from .dialect import filters, heads
from .dialect.heads import Mode
from .dialect.queries import datacenter
from .dialect.questions import Question, Target, ask
from .http.params import parse_query, values_of

if TYPE_CHECKING:
    from ..state.machine import Reader
    from .http.answers import Answer
    from .http.connection import Request
    from .http.exchange import Exchange, Found

_encode = msgspec.json.encode


def datacenters(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/catalog/datacenters`: the one there is, without a leader too."""
    return heads.read(exchange, Mode.STALE, None, _encode([datacenter(exchange)]))


def every(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`GET /v1/catalog/nodes`: `?node-meta=<key>:<value>`, several times; `?filter=`."""
    query = parse_query(request.query)
    fits = filters.wanted(query, nodes.FIELDS)
    meta = [pair.partition(":")[::2] for pair in values_of(request.query, "node-meta")]

    def is_wanted(node: dict[str, Any]) -> bool:
        return all(node["Meta"].get(key) == value for key, value in meta) and fits(node)

    def render(_: Reader) -> bytes:
        dc = datacenter(exchange)
        found = (nodes.entry(member, dc) for member in nodes.by_name(exchange))
        return _encode([node for node in found if is_wanted(node)])

    on = (Target(NODES, b"", is_prefix=True),)
    return ask(exchange, request, Question(on, lambda reader: reader.nodes_index(), render))
