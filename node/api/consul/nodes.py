"""The catalog's nodes, as handlers name and choose them; how they look is in `shown.py`.

Used by the handlers of `catalog`, `health`, `coordinate`, `session`, `operator` and `agent`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...model.services import CONSUL
from ...state.catalog.records import fold
from ...state.watching.changes import NODES
from ..dialect import ids
from ..dialect.questions import Target
from ..http.params import values_of
from . import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...model.checks import Check
    from ...model.commands import Member
    from ...model.services import Service
    from ...state.catalog.reader import CatalogNode
    from ...state.reader import Reader
    from ...state.watching.changes import Table
    from ..http.exchange import Exchange
    from ..http.params import Query
    from .shown import Shown

_CONSUL = fold(CONSUL)

Meta = Sequence[tuple[str, str]]
"""Pairs that a node must have."""


def uuid_of(node_id: int) -> str:
    """Return the UUID of a member: its id is the last 64 bits."""
    return str(uuid.UUID(int=node_id))


def uuid_from(text: str) -> uuid.UUID | None:
    """Read a UUID as it is written in paths and bodies, 36 characters; None: it is none."""
    found = ids.parse(text)
    return None if found is None else uuid.UUID(bytes=found)


def members_by_name(exchange: Exchange) -> list[Member]:
    """Return all members in the order of every list: by name, bytewise."""
    members = exchange.backend.administration.members
    return sorted(members.values(), key=lambda member: member.name)


def find_member(exchange: Exchange, text: str) -> Member | None:
    """Find a member by its name, without regard to case, or by its UUID."""
    name, found = fold(text).decode(), uuid_from(text)
    for member in exchange.backend.administration.members.values():
        if member.name == name or (found is not None and member.id == found.int):
            return member
    return None


def find(exchange: Exchange, text: str) -> int | None:
    """Find a node by its name, without regard to case, or by its UUID; return its catalog number."""
    member = find_member(exchange, text)
    if member is not None:
        return member.catalog_number
    reader = exchange.keys.view()
    try:
        node = reader.catalog_node(text)
    finally:
        reader.close()
    return None if node is None else node.number


def name_of(exchange: Exchange, number: int) -> str:
    """Return the name of the node with a catalog number; its UUID where there is none any more."""
    member = exchange.backend.administration.members.get(number)
    if member is not None and member.catalog_number == number:
        return member.name
    # A member that took another one's place has that one's number; or it is no member.
    reader = exchange.keys.view()
    try:
        node = reader.node_by_number(number)
    finally:
        reader.close()
    return uuid_of(number) if node is None else node.name


def services_on(reader: Reader, node: CatalogNode) -> Iterator[Service]:
    """Iterate over the services of a node, by ID; of a member, its own `consul` is one."""
    consul = _consul(reader, node.number) if node.is_member else None
    for service in reader.services_of(node.number):
        if consul is not None and consul.id < service.id:
            yield consul
            consul = None
        yield service
    if consul is not None:
        yield consul


def _consul(reader: Reader, number: int) -> Service | None:
    members = reader.instances(_CONSUL)
    return next((one.service for one in members if one.node.number == number), None)


def checks_on(reader: Reader, node: CatalogNode) -> Iterator[Shown]:
    """Iterate over the checks of a node as they are shown: its own, then by service, each by ID."""
    checks = sorted(reader.checks(node.number), key=_place)
    services = {}
    if checks and checks[-1].service:
        services = {service.id: service for service in reader.services_of(node.number)}
    return (shown.check(check, node.name, services.get(check.service)) for check in checks)


def _place(check: Check) -> tuple[str, str]:
    return check.service, check.id  # Texts are compared as their UTF-8 is.


def targets(exchange: Exchange, text: str, table: Table) -> list[Target]:
    """Return what a result about one node depends on: its record, and what it has in a table."""
    number = find(exchange, text)
    if number is None:
        return [Target(NODES, b"", is_prefix=True)]
    key = number.to_bytes(8)
    return [Target(NODES, key), Target(table, key)]


def wanted_meta(raw: bytes) -> Meta:
    """Return what `?node-meta=<key>:<value>` says in a query, several times."""
    pairs = (text.partition(":") for text in values_of(raw, "node-meta"))
    return [(key, value) for key, _, value in pairs]


def has_meta(node: CatalogNode, wanted: Meta) -> bool:
    """Whether a node has all these pairs."""
    return not wanted or set(node.meta).issuperset(wanted)


def is_elsewhere(query: Query) -> bool:
    """Whether `?peer=` asks for what a peer has: there are no peers."""
    return bool(query.get("peer"))
