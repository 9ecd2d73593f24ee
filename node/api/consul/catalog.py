"""The catalog: /v1/catalog/datacenters and /v1/catalog/nodes. So far its nodes are the members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...state.changes import NODES
from ..dialect import filters, heads
from ..dialect.heads import Mode
from ..dialect.queries import datacenter
from ..dialect.questions import Question, Target, ask, ask_checked
from ..http.params import parse_query, values_of
from . import nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...state.machine import Reader
    from ..http.answers import Answer
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found

_encode = msgspec.json.encode


def datacenters(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/catalog/datacenters`: the one there is, without a leader too."""
    return heads.read(exchange, Mode.STALE, None, _encode([datacenter(exchange)]))


def every(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`GET /v1/catalog/nodes`: `?node-meta=<key>:<value>`, several times; `?filter=`."""
    query = parse_query(request.query)
    choice = filters.Choice(query, nodes.FIELDS)
    meta = [pair.partition(":")[::2] for pair in values_of(request.query, "node-meta")]

    def is_wanted(node: dict[str, Any]) -> bool:
        return all(node["Meta"].get(key) == value for key, value in meta)

    def render(_: Reader) -> bytes | Iterator[bytes | None]:
        dc = datacenter(exchange)
        every = (nodes.entry(member, dc) for member in nodes.by_name(exchange))
        found = [node for node in every if is_wanted(node)]
        return choice.among(found) if choice else _encode(found)

    on = (Target(NODES, b"", is_prefix=True),)
    question = Question(on, lambda reader: reader.nodes_index(), render, filters.PER_SLICE)
    if choice:
        return ask_checked(exchange, request, choice.compiled, question)
    return ask(exchange, request, question)
