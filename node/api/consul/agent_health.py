"""The health of one node's services in one status: /v1/agent/health/service/id and name.

For load balancers, which look at the status alone: 200 passing, 429 warning, 503 critical, 404 unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...model.checks import SERF_HEALTH
from ...state.catalog.records import fold
from ..dialect import heads
from ..dialect.forms import refused
from ..dialect.queries import datacenter
from ..http.answers import JSON, TEXT, answer
from ..http.params import parse_query, text_from_path
from . import place, shown
from .bodies.parts import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...model.checks import Check
    from ...model.services import Service
    from ...state.catalog.reader import CatalogNode
    from ...state.reader import Reader
    from ..dialect.heads import Mode
    from ..http.answers import Answer
    from ..http.connection import Request
    from ..http.exchange import Exchange
    from .shown import Shown

INSTANCES_MAX = 256
"""Instances of one name that are looked at: more of them on one node no load balancer asks for."""

_MAINTENANCE = "maintenance"
# Consul's agent/agent_endpoint.go, `agentHealthService`.
_STATUSES = {"passing": 200, "warning": 429, "critical": 503, _MAINTENANCE: 503}
_WORST = tuple(reversed(_STATUSES))

_encode = msgspec.json.encode


async def by_id(exchange: Exchange, request: Request, rest: bytes) -> Answer:
    """`GET /v1/agent/health/service/id/<id>`: `?format=text`, `?node=`."""
    service_id = text_from_path(rest, "service ID")
    mode = await place.freshen(exchange, parse_query(request.query))
    reader = exchange.keys.view()
    try:
        node = _node(exchange, request, reader)
        service = None if node is None else reader.service(node.number, service_id)
        if node is None or service is None:
            raise refused(404, f"ServiceId {cut(service_id)} not found")
        word, object_ = _health(exchange, reader, node, service)
    finally:
        reader.close()
    return _answer(exchange, request, mode, word, _encode(object_))


async def by_name(exchange: Exchange, request: Request, rest: bytes) -> Answer:
    """`GET /v1/agent/health/service/name/<name>`: of all instances here, with the worst status."""
    name = text_from_path(rest, "service name")
    folded = fold(name)
    mode = await place.freshen(exchange, parse_query(request.query))
    reader = exchange.keys.view()
    try:
        node = _node(exchange, request, reader)
        found = [] if node is None else _instances(reader, node, folded)
        if node is None or not found:
            raise refused(404, f"ServiceName {cut(name)} Not Found")
        healths = [_health(exchange, reader, node, one) for one in found]
    finally:
        reader.close()
    word = worst([word for word, _ in healths])
    return _answer(exchange, request, mode, word, _encode([object_ for _, object_ in healths]))


def _node(exchange: Exchange, request: Request, reader: Reader) -> CatalogNode | None:
    number = place.number_of(exchange, parse_query(request.query))
    return None if number is None else reader.node_by_number(number)


def _instances(reader: Reader, node: CatalogNode, folded: bytes) -> list[Service]:
    found = (one.service for one in reader.instances(folded) if one.node.number == node.number)
    return [one for one, _ in zip(found, range(INSTANCES_MAX), strict=False)]


def _health(
    exchange: Exchange, reader: Reader, node: CatalogNode, service: Service
) -> tuple[str, Shown]:
    newest = exchange.backend.checks.newest
    own = [
        (newest(one), None)
        for one in reader.node_checks(node.number)
        if not (node.is_member and one.id == SERF_HEALTH)
    ]
    checks = [*own, *((newest(one), service) for one in reader.service_checks(service))]
    word = worst([_word(check) for check, _ in checks])
    dc = datacenter(exchange)
    return word, {
        "AggregatedStatus": word,
        "Service": {**shown.service(service), "Datacenter": dc},
        "Checks": [shown.check(check, node.name, of) for check, of in checks],
    }


def _word(check: Check) -> str:
    definition = check.definition
    is_maintenance = definition is not None and definition.kind == _MAINTENANCE
    return _MAINTENANCE if is_maintenance else check.status


def worst(words: Sequence[str]) -> str:
    """Return the worst of these; without any it is passing."""
    return next((word for word in _WORST if word in words), "passing")


def _answer(exchange: Exchange, request: Request, mode: Mode, word: str, body: bytes) -> bytes:
    lines = heads.read_lines(exchange, mode) + b"X-Consul-Reason: %b\r\n" % word.encode()
    content_type = JSON
    if _wants_text(request):
        body, content_type = word.encode(), TEXT
    return answer(exchange.keys.applied_index, body, _STATUSES[word], content_type, lines)


def _wants_text(request: Request) -> bool:
    is_asked = parse_query(request.query).get("format") == "text"
    return is_asked or b"text/plain" in request.headers.get(b"accept", b"")
