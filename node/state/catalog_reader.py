"""Reading the catalog as of one moment: its nodes, services and checks, and the index of each answer.

A part of the `View` of `reader.py`. Owns how records become what the catalog shows: a member and an
external node alike as a `CatalogNode`, and the service `consul` of each member, which is in no record.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..model.checks import Check
from ..model.services import Pairs, Service
from ..storage.interface import StateReader
from . import records
from .batch import Values


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


class CatalogView:
    """The catalog's part of a `Reader`.

    Args:
        view: Of the store; closed with this one.
        values: What tables hold in memory, as of the same moment.
        applied: Index of the last entry that had taken effect.
    """

    def __init__(self, view: StateReader, values: Values, applied: int) -> None:
        self._view = view
        self._values = values
        self._applied = applied

    def catalog_nodes(self) -> list[CatalogNode]:
        """Return all nodes of the catalog, by name."""
        raise NotImplementedError

    def catalog_node(self, text: str) -> CatalogNode | None:
        """Return the node with this name or UUID, or None."""
        raise NotImplementedError

    def node_by_number(self, number: int) -> CatalogNode | None:
        """Return the node with this number, or None."""
        raise NotImplementedError

    def instances(self, folded: bytes) -> list[Instance]:
        """Return the instances of a service."""
        raise NotImplementedError

    def service_name(self, folded: bytes) -> str:
        """Return the name of a service as first written."""
        raise NotImplementedError

    def services_of(self, number: int) -> Iterator[Service]:
        """Iterate over the services of a node, by ID."""
        raise NotImplementedError

    def service(self, number: int, service_id: str) -> Service | None:
        """Return a service of a node, or None."""
        raise NotImplementedError

    def node_checks(self, number: int) -> list[Check]:
        """Return the checks of a node that belong to no service."""
        raise NotImplementedError

    def service_checks(self, service: Service) -> list[Check]:
        """Return the checks of a service."""
        raise NotImplementedError

    def checks(self, node: int) -> Iterator[Check]:
        """Iterate over the checks of a node, by id."""
        start = records.id_key(records.CHECK, node)
        found = self._view.scan(start, records.prefix_end(start))
        return (records.decode_check(record) for _, record in found)

    def every_check(self) -> Iterator[Check]:
        """Iterate over all checks, by number of the node and ID."""
        found = self._view.scan(records.CHECK, records.CHECK_END)
        return (records.decode_check(record) for _, record in found)

    def service_set(self) -> list[tuple[str, list[str]]]:
        """Return the names of all services with their tags."""
        raise NotImplementedError

    def service_index(self, folded: bytes) -> int:
        """Return the index of the answers about one service."""
        raise NotImplementedError

    def service_set_index(self, *, is_narrowed: bool) -> int:
        """Return the index of the names of all services."""
        raise NotImplementedError

    def catalog_node_index(self, text: str) -> int:
        """Return the index of the answer about one node and its services."""
        raise NotImplementedError

    def node_health_index(self, text: str) -> int:
        """Return the index of the checks of one node."""
        raise NotImplementedError

    def check_states_index(self, state: str) -> int:
        """Return the index of the checks with one status."""
        raise NotImplementedError

    def nodes_of_service(self, folded: bytes) -> tuple[int, ...]:
        """Return the numbers of the nodes that have an instance of a service."""
        raise NotImplementedError

    def nodes_index(self) -> int:
        """Return the index of the list of the catalog's nodes."""
        return self._index(records.NODES_CHANGE_KEY)

    def _index(self, key: bytes) -> int:
        return records.decode_index(self._view.get(key), 1)

    def _as_of_now(self, index: int) -> int:
        return max(1, min(index, self._applied))
