"""The catalog: /v1/catalog/datacenters, nodes, services, service, node, connect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...state.watching.changes import INSTANCES, NODE_SERVICES, NODES, SERVICE_SET
from ..dialect import filters, heads
from ..dialect.forms import refused
from ..dialect.heads import Mode
from ..dialect.queries import datacenter
from ..dialect.questions import Long, Question, Target, ask, ask_checked, gathered
from ..http.params import parse_query, text_from_path
from . import instances, nodes, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...state.catalog.reader import CatalogNode, Instance
    from ...state.reader import Reader
    from ..dialect.questions import Body
    from ..http.answers import Answer
    from ..http.connection import Request
    from ..http.exchange import Exchange, Found
    from .shown import Shown

_NAMES_AT_ONCE = 4096

_EVERY_NODE = Target(NODES, b"", is_prefix=True)

_encode = msgspec.json.encode


def datacenters(exchange: Exchange, _request: Request, _rest: bytes) -> Answer:
    """`GET /v1/catalog/datacenters`: the one there is, without a leader too."""
    return heads.read(exchange, Mode.STALE, None, _encode([datacenter(exchange)]))


def every(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`GET /v1/catalog/nodes`: `?node-meta=<key>:<value>`, several times; `?filter=`."""
    query = parse_query(request.query)
    choice = filters.Choice(query, shown.NODE_FIELDS)
    meta = nodes.wanted_meta(request.query)

    def render(reader: Reader) -> Body:
        if nodes.is_elsewhere(query):
            return b"[]"
        dc = datacenter(exchange)

        def found() -> Iterator[Shown]:
            every = reader.catalog_nodes()
            return (shown.node(node, dc) for node in every if nodes.has_meta(node, meta))

        if choice:
            return choice.among(found())
        return gathered(map(_encode, found()))

    question = Question((_EVERY_NODE,), lambda reader: reader.nodes_index(), render, _slice(choice))
    return _asked(exchange, request, choice, question)


def _slice(choice: filters.Choice) -> int:
    return filters.PER_SLICE if choice else instances.LONG_PER_SLICE


def _asked(
    exchange: Exchange, request: Request, choice: filters.Choice, question: Question
) -> Found:
    if choice:
        return ask_checked(exchange, request, choice.compiled, question)
    return ask(exchange, request, question)


# -- the names of all services ---------------------------------------------------------------------


def services(exchange: Exchange, request: Request, _rest: bytes) -> Found:
    """`GET /v1/catalog/services`: an object of names with tags; `?node-meta=`, `?filter=`."""
    query = parse_query(request.query)
    choice = filters.Choice(query, shown.FLAT_FIELDS)
    meta = nodes.wanted_meta(request.query)
    is_narrowed = bool(choice or meta)

    def index(reader: Reader) -> int:
        return reader.service_set_index(is_narrowed=is_narrowed)

    def render(reader: Reader) -> Body:
        if nodes.is_elsewhere(query):
            return b"{}"
        if not is_narrowed:
            return _every_name(exchange, reader)
        wanted = [node for node in reader.catalog_nodes() if nodes.has_meta(node, meta)]
        found = _narrowed(reader, wanted, datacenter(exchange), choice)
        return Long(found, b"{", b"}") if choice else gathered(found, b"{", b"}")

    on = [Target(SERVICE_SET, b"")]
    if is_narrowed:
        on += [Target(INSTANCES, b""), _EVERY_NODE]
    return _asked(exchange, request, choice, Question(on, index, render, _slice(choice)))


def _every_name(exchange: Exchange, reader: Reader) -> Body:
    """Return the names of all services: thousands may wait for a change of them."""
    kept, index = exchange.rendered.names, reader.service_set_index(is_narrowed=False)
    if kept is not None and kept[0] == index:
        return kept[1]
    names = reader.service_set()
    body = gathered((_named(*one) for one in names), b"{", b"}", most=_NAMES_AT_ONCE)
    if isinstance(body, bytes):
        exchange.rendered.names = index, body
    return body


def _named(name: str, tags: Sequence[str]) -> bytes:
    return b"%b:%b" % (_encode(name), _encode(tags))


def _narrowed(
    reader: Reader, wanted: Sequence[CatalogNode], dc: str, choice: filters.Choice
) -> Iterator[bytes | None]:
    """Iterate over the services that fit: None for each node and instance, and then over their names."""
    fits = choice.compiled() if choice else None
    found: dict[str, set[str]] = {}
    for node in wanted:
        yield None
        on = shown.node(node, dc)
        for service in nodes.services_on(reader, node):
            if fits is None or fits(shown.flat(service, on)):
                found.setdefault(service.name, set()).update(service.tags)
            yield None
    for name in sorted(found):
        yield _named(name, sorted(found[name]))


# -- one node --------------------------------------------------------------------------------------


def node(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`GET /v1/catalog/node/<name or UUID>`: the node and its services; `?filter=` for these."""
    text = text_from_path(rest, "node name")
    if not text:
        raise refused(400, "Missing node name")
    query = parse_query(request.query)
    choice = filters.Choice(query, shown.SERVICE_FIELDS)

    def render(reader: Reader) -> Body:
        node = reader.catalog_node(text)
        if node is None or nodes.is_elsewhere(query):
            return b"null"
        opening = b'{"Node":%b,"Services":{' % _encode(shown.node(node, datacenter(exchange)))

        def found() -> Iterator[bytes | None]:
            fits = choice.compiled() if choice else None
            for service in nodes.services_on(reader, node):
                one = shown.service(service)
                is_wanted = fits is None or fits(one)
                yield b"%b:%b" % (_encode(service.id), _encode(one)) if is_wanted else None

        if choice:
            return Long(found(), opening, b"}}")
        return gathered(found(), opening, b"}}", most=instances.WHOLE_MAX)

    def on() -> list[Target]:
        return nodes.targets(exchange, text, NODE_SERVICES)

    question = Question(on, lambda reader: reader.catalog_node_index(text), render, _slice(choice))
    return _asked(exchange, request, choice, question)


# -- one service -----------------------------------------------------------------------------------


def _entries(_reader: Reader, instance: Instance, node: Shown) -> tuple[Shown]:
    return (shown.flat(instance.service, node),)


_SERVICE = instances.Kind(b"catalog", shown.FLAT_FIELDS, _entries)
_NOTHING = instances.Kind(b"", shown.FLAT_FIELDS, _entries, is_empty=True)


def service(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`GET /v1/catalog/service/<name>`: `?tag=` and `?node-meta=`, several times; `?filter=`."""
    return instances.ask(exchange, request, rest, _SERVICE)


def nothing(exchange: Exchange, request: Request, rest: bytes) -> Found:
    """`GET /v1/catalog/connect/<name>` and `/v1/health/connect/<name>`: there is no mesh."""
    return instances.ask(exchange, request, rest, _NOTHING)
