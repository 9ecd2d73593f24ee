"""Metrics: /metrics, /v1/agent/metrics, and /v1/sd/prometheus, where scrapers find what they scrape.

Owns the forms of these answers. What the series are is `node/metrics/`. All of it is answered from this
node's own counters and copy: it needs no leader, and waits for nothing but its turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from ..model.checks import NODE_MAINTENANCE, SERVICE_MAINTENANCE
from ..state.catalog.records import fold
from .dialect.heads import EVERY, Mode, done
from .dialect.queries import datacenter
from .dialect.questions import LongBody
from .http.answers import HttpError, answer, ok
from .http.params import parse_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..model.checks import Check
    from ..state.catalog.reader import Instance
    from ..state.reader import Reader
    from .http.answers import Answer
    from .http.connection import Request
    from .http.exchange import Exchange

_INSTANCES_PER_SLICE = 32

_RANKS = ("passing", "warning", "critical", "maintenance")
_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")
_SCHEMES = ("http", "https")

_TEXTS = (b"application/openmetrics-text", b"text/plain")

_encode = msgspec.json.encode


def show(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /metrics`: Prometheus' text, or OpenMetrics where the scraper accepts that."""
    return _text(exchange, request)


def _text(exchange: Exchange, request: Request, extra: bytes = b"") -> Answer:
    accept = request.headers.get(b"accept", b"").decode("latin-1")
    content_type, body = exchange.backend.metrics.text(accept)
    index = exchange.keys.applied_index
    return answer(index, body, content_type=content_type.encode(), extra=extra)


def of_agent(exchange: Exchange, request: Request, _rest: bytes) -> Answer:
    """`GET /v1/agent/metrics`: Consul's JSON; as `/metrics` for `?format=prometheus` or a scraper's `Accept`."""
    is_text = parse_query(request.query).get("format") == "prometheus"
    if is_text or _is_scraper(request.headers.get(b"accept", b"")):
        return _text(exchange, request, EVERY)
    return done(exchange.keys.applied_index, exchange.backend.metrics.consul())


def _is_scraper(accept: bytes) -> bool:
    """Whether an `Accept` asks for Prometheus' text by name, as those of its scrapers do.

    One that names JSON too is a program's: axios sends `application/json, text/plain, */*` by itself.
    """
    wanted = {one.partition(b";")[0].strip().lower() for one in accept.split(b",")}
    return not wanted.isdisjoint(_TEXTS) and b"application/json" not in wanted


def targets(exchange: Exchange, request: Request, _rest: bytes) -> Answer | LongBody:
    """`GET /v1/sd/prometheus`: targets for Prometheus' `http_sd`, also of a service (`?service=`)."""
    name = parse_query(request.query).get("service")
    if name is None:
        return ok(exchange.keys.applied_index, _members(exchange))
    if not name:
        raise HttpError(400, "?service= names a service, such as ?service=web")
    folded, dc = fold(name), datacenter(exchange)

    def render(reader: Reader) -> Iterator[bytes]:
        found = reader.each_instance(folded)
        return (_encode(_target(reader, instance, dc)) for instance in found)

    def index_of(reader: Reader) -> int:
        return max(reader.service_index(folded), 1)

    return LongBody(exchange, Mode.STALE, index_of, render, _INSTANCES_PER_SLICE)


def _members(exchange: Exchange) -> bytes:
    """Return the members of the cluster, each with its name."""
    dc = datacenter(exchange)
    groups = [
        {
            "targets": [member.address],
            "labels": {
                "__metrics_path__": "/metrics",
                "__scheme__": "http",
                "__meta_hstore_id": member.id,
                "__meta_hstore_dc": dc,
                "node": member.name,
            },
        }
        for member in exchange.backend.administration.cluster().nodes
    ]
    return _encode(groups)


def _target(reader: Reader, instance: Instance, dc: str) -> dict[str, object]:
    """Return an instance, with the labels of Prometheus' `discovery/consul/consul.go`."""
    node, service = instance
    host = service.address or node.address
    meta = dict(service.meta)
    path, scheme = meta.get("prometheus_path", ""), meta.get("prometheus_scheme", "")
    checks = [*reader.node_checks(node.number), *reader.service_checks(service)]
    labels = {
        "__scheme__": scheme if scheme in _SCHEMES else "http",
        "__metrics_path__": path if path.startswith("/") else "/metrics",
        "__meta_consul_address": node.address,
        "__meta_consul_dc": dc,
        "__meta_consul_health": _health(checks),
        "__meta_consul_node": node.name,
        "__meta_consul_service": service.name,
        "__meta_consul_service_address": service.address,
        "__meta_consul_service_id": service.id,
        "__meta_consul_service_port": str(service.port),
        # Commas at both ends, so that an expression need not care where in the list a tag stands.
        "__meta_consul_tags": f",{','.join(service.tags)},",
        **_labelled("__meta_consul_metadata_", dict(node.meta)),
        **_labelled("__meta_consul_service_metadata_", meta),
        **_labelled("__meta_consul_tagged_address_", dict(node.tagged)),
    }
    shown = f"[{host}]" if ":" in host else host
    return {"targets": [f"{shown}:{service.port}"], "labels": labels}


def _labelled(prefix: str, values: Mapping[str, str]) -> dict[str, str]:
    return {prefix + _NOT_IN_LABELS.sub("_", name): value for name, value in values.items()}


def _health(checks: list[Check]) -> str:
    """Return the worst status; maintenance counts as worse than any (Consul's `AggregatedStatus`)."""
    statuses = (
        "maintenance"
        if check.id == NODE_MAINTENANCE or check.id.startswith(SERVICE_MAINTENANCE)
        else check.status
        for check in checks
    )
    return max(statuses, key=_RANKS.index, default="passing")
