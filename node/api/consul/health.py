"""Checks, and services with their checks: /v1/health/service, checks, node, state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...state.watching.changes import CHECK_STATES, NODE_CHECKS
from ..dialect import filters
from ..dialect.forms import refused
from ..dialect.questions import Question, Target, ask, ask_checked, gathered
from ..http.params import parse_query, text_from_path
from . import instances, nodes, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...state.catalog.reader import CatalogNode, Instance
    from ...state.reader import Reader
    from ..dialect.questions import Body, On
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found
    from .shown import Shown

_STATES = frozenset({"any", "passing", "warning", "critical"})

_encode = msgspec.json.encode


# -- one service -----------------------------------------------------------------------------------


def _with_checks(reader: Reader, instance: Instance, node: Shown) -> tuple[Shown]:
    checks = [
        shown.check(one, node["Node"], None) for one in reader.node_checks(instance.node.number)
    ]
    checks += _checks(reader, instance, node)
    return ({"Node": node, "Service": shown.service(instance.service), "Checks": checks},)


def _checks(reader: Reader, instance: Instance, node: Shown) -> Sequence[Shown]:
    found = instance.service
    return [shown.check(one, node["Node"], found) for one in reader.service_checks(found)]


_SERVICE = instances.Kind(b"health", shown.HEALTH_FIELDS, _with_checks, has_passing=True)
_CHECKS = instances.Kind(b"checks", shown.CHECK_FIELDS, _checks)


def service(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`GET /v1/health/service/<name>`: `?passing`, `?tag=`, `?node-meta=`, `?filter=`."""
    return instances.ask(exchange, request, rest, _SERVICE)


def checks(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`GET /v1/health/checks/<name>`: of its instances, without their nodes'; `?node-meta=`, `?filter=`."""
    return instances.ask(exchange, request, rest, _CHECKS)


# -- the checks of a node, and all with a status ---------------------------------------------------


def node(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`GET /v1/health/node/<name or UUID>`: `?filter=`."""
    text = text_from_path(rest, "node name")
    if not text:
        raise refused(400, "Missing node name")

    def found(reader: Reader) -> Iterator[Shown | None]:
        node = reader.catalog_node(text)
        return iter(()) if node is None else nodes.checks_on(reader, node)

    def on() -> list[Target]:
        return nodes.targets(exchange, text, NODE_CHECKS)

    return _listed(exchange, request, on, lambda reader: reader.node_health_index(text), found)


def state(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`GET /v1/health/state/<status or "any">`: `?node-meta=`, `?filter=`; another word has no checks."""
    text = text_from_path(rest, "check state")
    if not text:
        raise refused(400, "Missing check state")
    meta = nodes.wanted_meta(request.query)

    def found(reader: Reader) -> Iterator[Shown | None]:
        every = reader.catalog_nodes() if text in _STATES else []
        return _in_state(reader, every, text, meta)

    on = (Target(CHECK_STATES, text.encode()),)
    return _listed(exchange, request, on, lambda reader: reader.check_states_index(text), found)


def _in_state(
    reader: Reader, every: Sequence[CatalogNode], state: str, meta: nodes.Meta
) -> Iterator[Shown | None]:
    """Iterate over the checks of nodes; None: one that is not wanted, or a node that has none."""
    for node in every:
        yield None
        if nodes.has_meta(node, meta):
            for one in nodes.checks_on(reader, node):
                yield one if state in {"any", one["Status"]} else None


def _listed(
    exchange: Exchange,
    request: Request,
    on: On,
    index: Callable[[Reader], int],
    found: Callable[[Reader], Iterator[Shown | None]],
) -> Found:
    """Answer with a list of checks; None: one that is not wanted."""
    query = parse_query(request.query)
    choice = filters.Choice(query, shown.CHECK_FIELDS)

    def render(reader: Reader) -> Body:
        if nodes.is_elsewhere(query):
            return b"[]"
        if choice:
            return choice.among(found(reader))
        every = (None if one is None else _encode(one) for one in found(reader))
        return gathered(every, most=instances.WHOLE_MAX)

    per_slice = filters.PER_SLICE if choice else instances.LONG_PER_SLICE
    question = Question(on, index, render, per_slice)
    if choice:
        return ask_checked(exchange, request, choice.compiled, question)
    return ask(exchange, request, question)
