"""What is in memory of the catalog: what is where, and the last indexes.

Owns the look-ups that need no read of the store: the instances of a name, the services and checks of
a node, external nodes by name, and the index of each answer. Services and checks themselves are read
where they are shown. `load` makes it from the records; every later change is made in place, and a
savepoint takes it back (`Batch.undo_by`).
"""

from __future__ import annotations

from ..model.services import ExternalNode
from ..storage.interface import StateReader
from . import records
from .batch import InMemory
from .catalog_records import CatalogIndexes, decode_catalog_indexes


class Name:
    """The name of a service that has an instance.

    Attributes:
        folded: As it is found.
        shown: As its first instance wrote it.
        index: Of the last change of an instance, or of a check of one.
        keys: The key of each instance (`catalog_records.instance_key`).
        nodes: By number of each node with an instance: how many it has.
        tags: By tag: how many instances have it.
    """

    __slots__ = ("folded", "index", "keys", "nodes", "shown", "tags")

    def __init__(self, folded: bytes, shown: str, index: int) -> None:
        self.folded = folded
        self.shown = shown
        self.index = index
        self.keys: dict[bytes, None] = {}
        self.nodes: dict[int, int] = {}
        self.tags: dict[str, int] = {}


class CatalogIndex:
    """The catalog in memory. Changed in place.

    Attributes:
        names: By folded name.
        by_instance: By key of an instance: its name.
        services_of: By number of a node: the IDs of its services.
        checks_of: By number of a node: its checks by ID, each with the ID of its service, or with
            nothing where it belongs to the node.
        own_checks: By number of a node: the IDs of those that belong to the node.
        node_indexes: By number of a node: the last indexes of its services, checks, health.
        externals: External nodes by number.
        numbers: Their numbers by folded name.
        uuids: Their numbers by UUID.
        owners: By number of an external node: the id of the member that runs its checks.
        indexes: The last indexes of the whole.
        nodes_index: The last index of the list of nodes.
    """

    def __init__(self) -> None:
        self.names: dict[bytes, Name] = {}
        self.by_instance: dict[bytes, Name] = {}
        self.services_of: dict[int, dict[str, None]] = {}
        self.checks_of: dict[int, dict[str, str]] = {}
        self.own_checks: dict[int, dict[str, None]] = {}
        self.node_indexes: dict[int, tuple[int, int, int]] = {}
        self.externals: dict[int, ExternalNode] = {}
        self.numbers: dict[bytes, int] = {}
        self.uuids: dict[str, int] = {}
        self.owners: dict[int, int] = {}
        self.indexes = CatalogIndexes()
        self.nodes_index = 0

    def service_index(self, folded: bytes) -> int:
        """Return the index of the answers about one service; 0: it has no instance."""
        name = self.names.get(folded)
        if name is None:
            return 0
        index = name.index
        for number in name.nodes:
            health = self.node_indexes.get(number, (0, 0, 0))[2]
            index = max(index, health)
        return index


def _load(view: StateReader) -> CatalogIndex:
    catalog = CatalogIndex()
    catalog.indexes = decode_catalog_indexes(view.get(records.CATALOG_INDEXES_KEY))
    return catalog


CATALOG = InMemory("catalog", _load)

IN_MEMORY = (CATALOG,)
