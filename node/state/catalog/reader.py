"""Reading the catalog as of one moment: its nodes, services and checks, and the index of each answer.

A part of the `View` of `reader.py`. Owns how records become what the catalog shows: a member and an
external node alike as a `CatalogNode`, and the service `consul` of each member, which is in no record.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ...model import values
from ...model.checks import SERF_HEALTH, Check
from ...model.commands import Member
from ...model.services import CONSUL, ExternalNode, Pairs, Service
from ...storage.interface import StateReader
from .. import records
from ..batch import Values
from ..kv.deletions import DELETIONS
from ..watching.changes import NODES, SERVICES
from .browsing import Browse
from .index import (
    AT_CHECKS,
    AT_HEALTH,
    AT_INSTANCES,
    AT_MEMBERS,
    AT_NAMES,
    AT_NODE_CHECKS,
    AT_SERVICES,
    AT_STATUS,
    CATALOG,
    NO_INDEXES,
    CatalogIndex,
)
from .nodes import MEMBERS, member_at, member_named, member_uuid
from .records import decode_service, fold, instance_key, node_of

CONSUL_FOLDED = CONSUL.encode()

_split = lru_cache(maxsize=1024)(values.split_address)
"""To take a member's address apart costs as much as to read a service and its checks."""

_STATES = dict[str, int]({"any": AT_CHECKS}, **AT_STATUS)
"""Where the index of the checks with a status is in `CatalogIndex.indexes`."""


class CatalogNode(NamedTuple):
    """A node as the catalog shows it, member or not.

    Attributes:
        number: Its catalog number.
        name: Its name, as first written.
        uuid: Its UUID as text; empty: an external node without one.
        address: IP or host name, without a port.
        tagged: Tagged addresses: (key, address).
        meta: Pairs, sorted by key.
        create_index, modify_index: Raft indexes.
        is_member: Whether it is a member.
    """

    number: int
    name: str
    uuid: str
    address: str
    tagged: Pairs
    meta: Pairs
    create_index: int
    modify_index: int
    is_member: bool


class Instance(NamedTuple):
    """A service, and the node that it is on."""

    node: CatalogNode
    service: Service


def consul_index(values_: Values) -> int:
    """Return the index of the answers about the service `consul`, which each member is."""
    catalog: CatalogIndex = values_[CATALOG]
    members: dict[int, Member] = values_[MEMBERS]
    of_nodes = catalog.node_indexes
    healths = (of_nodes.get(one.catalog_number, NO_INDEXES)[AT_HEALTH] for one in members.values())
    # Where no member has changed since there are services, nothing but the list of nodes was noted.
    return max(catalog.indexes[AT_MEMBERS], max(healths, default=0)) or catalog.nodes_index


def nodes_with(values_: Values, folded: bytes) -> tuple[int, ...]:
    """Return the numbers of the nodes that have an instance of a service."""
    if folded == CONSUL_FOLDED:
        members: dict[int, Member] = values_[MEMBERS]
        return tuple(one.catalog_number for one in members.values())
    catalog: CatalogIndex = values_[CATALOG]
    name = catalog.names.get(folded)
    return () if name is None else tuple(name.nodes)


def of_member(member: Member) -> CatalogNode:
    """Return a member as the catalog shows it."""
    return CatalogNode(
        member.catalog_number,
        member.name,
        member_uuid(member.id),
        _split(member.address).host,
        (),
        (),
        member.create_index,
        member.modify_index,
        is_member=True,
    )


def of_external(node: ExternalNode) -> CatalogNode:
    """Return an external node as the catalog shows it."""
    return CatalogNode(
        node.number,
        node.name,
        node.uuid,
        node.address,
        node.tagged,
        node.meta,
        node.create_index,
        node.modify_index,
        is_member=False,
    )


class CatalogView:
    """The catalog's part of a `Reader`.

    What is in memory of the catalog goes on while this view does not. Its records are those of the
    moment of the view, so what has gone meanwhile is left out; an index is at most that of this
    moment, so who waits for a higher one sees every change from here on.

    Args:
        view: Of the store; closed with this one.
        values: What tables hold in memory, as of the same moment.
        applied: Index of the last entry that had taken effect.
    """

    def __init__(self, view: StateReader, values: Values, applied: int) -> None:
        self._view = view
        self._values = values
        self._applied = applied
        self._catalog: CatalogIndex = values[CATALOG]

    # --- nodes ----------------------------------------------------------------------------------

    def catalog_nodes(self) -> list[CatalogNode]:
        """Return all nodes of the catalog, by name."""
        members: dict[int, Member] = self._values[MEMBERS]
        found = [of_member(member) for member in members.values()]
        found += map(of_external, self._catalog.externals.values())
        return sorted(found, key=_name)

    def catalog_node(self, text: str) -> CatalogNode | None:
        """Return the node with this name, without regard to case, or this UUID; or None."""
        folded = fold(text)
        member = member_named(self._values, folded)
        if member is not None:
            return of_member(member)
        catalog = self._catalog
        number = catalog.numbers.get(folded)
        if number is None:
            uuid = text.lower()
            number = catalog.uuids.get(uuid)
            if number is None:
                return self._member_with(uuid)
        external = catalog.externals.get(number)
        return None if external is None else of_external(external)

    def _member_with(self, uuid: str) -> CatalogNode | None:
        members: dict[int, Member] = self._values[MEMBERS]
        found = (one for one in members.values() if member_uuid(one.id) == uuid)
        member = next(found, None)
        return None if member is None else of_member(member)

    def node_by_number(self, number: int) -> CatalogNode | None:
        """Return the node with this number, or None."""
        external = self._catalog.externals.get(number)
        if external is not None:
            return of_external(external)
        member = member_at(self._values, number)
        return None if member is None else of_member(member)

    def nodes_of_service(self, folded: bytes) -> tuple[int, ...]:
        """Return the numbers of the nodes that have an instance of a service."""
        return nodes_with(self._values, folded)

    # --- services -------------------------------------------------------------------------------

    def browse(self) -> Browse:
        """Return a look at services by pages."""
        return Browse(self._catalog, self._values[MEMBERS])

    def each_instance(self, folded: bytes) -> Iterator[Instance]:
        """Iterate over the instances of a service, as `instances`; each is read when it is its turn."""
        if folded == CONSUL_FOLDED:
            return iter(self._consul())
        name = self._catalog.names.get(folded)
        if name is None:
            return iter(())
        nodes = {number: self.node_by_number(number) for number in name.nodes}

        def place(key: bytes) -> tuple[bytes, bytes]:
            node = nodes[node_of(key)]
            return b"" if node is None else node.name.encode(), key

        keys = sorted(name.keys, key=place) if len(name.keys) > 1 else list(name.keys)
        return self._each_at(keys, nodes)

    def _each_at(
        self, keys: list[bytes], nodes: dict[int, CatalogNode | None]
    ) -> Iterator[Instance]:
        for key in keys:
            service, node = self._service(key), nodes[node_of(key)]
            if service is not None and node is not None:
                yield Instance(node, service)

    def instances(self, folded: bytes) -> list[Instance]:
        """Return the instances of a service, by name of the node and then by ID."""
        return list(self.each_instance(folded))

    def _consul(self) -> list[Instance]:
        members: dict[int, Member] = self._values[MEMBERS]
        found = []
        for member in members.values():
            port = _split(member.address).port
            service = Service(
                member.catalog_number,
                CONSUL,
                CONSUL,
                port=port,
                create_index=member.create_index,
                modify_index=member.modify_index,
            )
            found.append(Instance(of_member(member), service))
        return sorted(found, key=_place)

    def service_name(self, folded: bytes) -> str:
        """Return the name of a service as first written; empty: it has no instance."""
        if folded == CONSUL_FOLDED:
            return CONSUL
        name = self._catalog.names.get(folded)
        return "" if name is None else name.shown

    def services_of(self, number: int) -> Iterator[Service]:
        """Iterate over the services of a node, by ID."""
        start = records.id_key(records.SERVICE, number)
        found = self._view.scan(start, records.prefix_end(start))
        return (decode_service(record) for _, record in found)

    def service(self, number: int, service_id: str) -> Service | None:
        """Return a service of a node, or None."""
        return self._service(instance_key(number, service_id))

    def _service(self, key: bytes) -> Service | None:
        record = self._view.get(records.SERVICE + key)
        return None if record is None else decode_service(record)

    def service_set(self) -> list[tuple[str, list[str]]]:
        """Return the names of all services, `consul` among them, each with its tags; all sorted."""
        found = [(name.shown, sorted(name.tags)) for name in self._catalog.names.values()]
        if self._values[MEMBERS]:
            found.append((CONSUL, []))
        return sorted(found)

    # --- checks ---------------------------------------------------------------------------------

    def counts(self, number: int) -> tuple[int, int]:
        """Return how many services and checks are registered on a node: neither has its own."""
        checks = self._catalog.checks_of.get(number, {})
        services = len(self._catalog.services_of.get(number, ()))
        return services, len(checks) - (checks.get(SERF_HEALTH) == "")

    def node_checks(self, number: int, most: int | None = None) -> list[Check]:
        """Return the checks of a node that belong to no service, by ID; at most `most` of them."""
        get = self._view.get
        ids = sorted(self._catalog.own_checks.get(number, ()))[:most]
        found = (get(records.check_key(number, check_id)) for check_id in ids)
        checks = (records.decode_check(record) for record in found if record is not None)
        return [check for check in checks if not check.service]

    def service_checks(self, service: Service) -> list[Check]:
        """Return the checks of a service, by ID."""
        get = self._view.get
        found = (get(records.check_key(service.node, check_id)) for check_id in service.checks)
        return [records.decode_check_once(record) for record in found if record is not None]

    def checks(self, node: int) -> Iterator[Check]:
        """Iterate over the checks of a node, by ID."""
        start = records.id_key(records.CHECK, node)
        found = self._view.scan(start, records.prefix_end(start))
        return (records.decode_check(record) for _, record in found)

    def every_check(self) -> Iterator[Check]:
        """Iterate over all checks, by number of the node and ID."""
        found = self._view.scan(records.CHECK, records.CHECK_END)
        return (records.decode_check_once(record) for _, record in found)

    # --- the index of each answer ---------------------------------------------------------------

    def service_index(self, folded: bytes) -> int:
        """Return the index of the answers about one service, which need not exist."""
        if folded == CONSUL_FOLDED:
            return self._as_of_now(consul_index(self._values))
        index = self._catalog.service_index(folded)
        return self._as_of_now(index or self._values[DELETIONS].of(SERVICES).key_index(folded))

    def service_set_index(self, *, is_narrowed: bool) -> int:
        """Return the index of the names of all services; `is_narrowed`: by nodes or by a filter."""
        indexes = self._catalog.indexes
        index = indexes[AT_NAMES]
        if is_narrowed:
            index = max(index, indexes[AT_INSTANCES], self._catalog.nodes_index)
        return self._as_of_now(index)

    def catalog_node_index(self, text: str) -> int:
        """Return the index of the answer about one node and its services; it need not exist."""
        return self._node_index(text, AT_SERVICES)

    def node_health_index(self, text: str) -> int:
        """Return the index of the checks of one node, which need not exist."""
        return self._node_index(text, AT_NODE_CHECKS)

    def _node_index(self, text: str, at: int) -> int:
        node = self.catalog_node(text)
        if node is None:
            return self._as_of_now(self._values[DELETIONS].of(NODES).key_index(fold(text)))
        of_node = self._catalog.node_indexes.get(node.number, NO_INDEXES)
        return self._as_of_now(max(node.modify_index, of_node[at]))

    def check_states_index(self, state: str) -> int:
        """Return the index of the checks with one status, or with `any`; of another word it is 1."""
        at = _STATES.get(state)
        return 1 if at is None else self._as_of_now(self._catalog.indexes[at])

    def nodes_index(self) -> int:
        """Return the index of the list of the catalog's nodes."""
        return self._index(records.NODES_CHANGE_KEY)

    def _index(self, key: bytes) -> int:
        return records.decode_index(self._view.get(key), 1)

    def _as_of_now(self, index: int) -> int:
        return max(1, min(index, self._applied))


def _name(node: CatalogNode) -> bytes:
    return node.name.encode()


def _place(instance: Instance) -> tuple[bytes, bytes]:
    return instance.node.name.encode(), instance.service.id.encode()
