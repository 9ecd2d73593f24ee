"""What is in memory of the catalog: what is where, and the last indexes.

Owns the look-ups that need no read of the store: the instances of a name, the services and checks of
a node, external nodes by name, and the index of each answer. Services and checks themselves are read
where they are shown. `load` makes it from the records. Every later change is made in place by the
methods here, which tell the batch how to take it back (`Batch.undo_by`) while a savepoint is open;
the records that belong to it are put by `writes.py`.

The order of what is in these dictionaries differs between nodes, so nothing depends on it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from functools import partial
from typing import Any

from ...errors import StorageError
from ...model.checks import CheckStatus
from ...model.services import ExternalNode
from ...storage.interface import StateReader
from .. import records
from ..batch import Batch, InMemory
from .records import (
    CATALOG_INDEXES,
    decode_catalog_indexes,
    decode_external,
    decode_name_index,
    decode_named,
    decode_node_indexes,
    fold,
    node_of,
)

AT_NAMES, AT_INSTANCES, AT_CHECKS = 0, 1, 2
AT_STATUS: dict[CheckStatus, int] = {"passing": 3, "warning": 4, "critical": 5}
"""Where the last index is in `CatalogIndex.indexes` of: the set of names of services and their tags,
and the meta of external nodes; any instance; any check; those that have, or had, one status."""
AT_MEMBERS = 6
"""Likewise, of the members, each of which is the service `consul`."""

AT_SERVICES, AT_NODE_CHECKS, AT_HEALTH = 0, 1, 2
"""Where the last indexes of a node are in `CatalogIndex.node_indexes`."""

NO_INDEXES = [0, 0, 0]
"""Of a node of which nothing is noted. Never changed."""


class Name:
    """The name of a service that has an instance.

    Attributes:
        folded: As it is found.
        shown: As its first instance wrote it.
        index: Of the last change of an instance, or of a check of one.
        keys: The key of each instance (`records.instance_key`).
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

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, to be compared."""
        return {slot: getattr(self, slot) for slot in self.__slots__}


class CatalogIndex:
    """The catalog in memory. Changed in place.

    Attributes:
        names: By folded name.
        order: Those folded names, sorted: a page of them is found without a look at all others.
        by_instance: By key of an instance: its name.
        services_of: By number of a node: the IDs of its services.
        checks_of: By number of a node: its checks by ID, each with the ID of its service, or with
            nothing where it belongs to the node.
        own_checks: By number of a node: the IDs of those that belong to the node.
        critical_of, warning_of: By number of a node: the IDs of its checks with that status.
        node_indexes: By number of a node: the last indexes of its services, checks, health: see
            `AT_SERVICES`.
        externals: External nodes by number.
        numbers: Their numbers by folded name.
        uuids: Their numbers by UUID.
        owners: By number of an external node: the id of the member that runs its checks.
        indexes: The last indexes of the whole: see `AT_NAMES`.
        nodes_index: The last index of the list of nodes.
        unwritten_names, unwritten_nodes, is_unwritten: Whose indexes may differ from their records:
            these are put once for all entries of a batch (`writes.note_catalog`).
        externals_version: Grows with each external node that comes or goes; of this process only.
    """

    def __init__(self) -> None:
        self.names: dict[bytes, Name] = {}
        self.order: list[bytes] = []
        self.by_instance: dict[bytes, Name] = {}
        self.services_of: dict[int, dict[str, None]] = {}
        self.checks_of: dict[int, dict[str, str]] = {}
        self.own_checks: dict[int, dict[str, None]] = {}
        self.critical_of: dict[int, dict[str, None]] = {}
        self.warning_of: dict[int, dict[str, None]] = {}
        self.node_indexes: dict[int, list[int]] = {}
        self.externals: dict[int, ExternalNode] = {}
        self.numbers: dict[bytes, int] = {}
        self.uuids: dict[str, int] = {}
        self.owners: dict[int, int] = {}
        self.indexes = [0] * CATALOG_INDEXES
        self.nodes_index = 0
        self.unwritten_names: dict[bytes, None] = {}
        self.unwritten_nodes: dict[int, None] = {}
        self.is_unwritten = False
        self.externals_version = 0

    @classmethod
    def load(cls, view: StateReader) -> CatalogIndex:
        """Return what the records amount to.

        Raises:
            StorageError: They are damaged, or do not belong together.
        """
        catalog = cls()
        catalog.indexes = decode_catalog_indexes(view.get(records.CATALOG_INDEXES_KEY))
        catalog.nodes_index = records.decode_index(view.get(records.NODES_CHANGE_KEY))
        names = {}
        for key, record in view.scan(records.NAME_INDEX, records.NAME_INDEX_END):
            index, shown = decode_name_index(record)
            names[key[1:]] = Name(key[1:], shown, index)
        for _, record in view.scan(records.EXTERNAL, records.EXTERNAL_END):
            node = decode_external(record)
            catalog._set_external(node.number, node)
        for key, record in view.scan(records.NODE_INDEXES, records.NODE_INDEXES_END):
            catalog.node_indexes[records.id_of(key)] = decode_node_indexes(record)
        for key, record in view.scan(records.OWNER, records.OWNER_END):
            catalog.owners[records.id_of(key)] = records.decode_index(record)
        for key, record in view.scan(records.SERVICE, records.SERVICE_END):
            service = decode_named(record)
            name = names.get(fold(service.name))
            if name is None:
                raise StorageError(f"the index of the service {service.name[:64]!r} is missing")
            catalog._add_instance(key[1:], service.id, name, service.tags)
        for _, record in view.scan(records.CHECK, records.CHECK_END):
            check = records.decode_check_once(record)
            catalog._set_check(check.node, check.id, check.service, check.status)
        return catalog

    def as_dict(self) -> dict[str, Any]:
        """Return all of it that follows from the records, to be compared."""
        found = dict(vars(self))
        for name in ("externals_version", "unwritten_names", "unwritten_nodes", "is_unwritten"):
            del found[name]
        found["names"] = {folded: name.as_dict() for folded, name in self.names.items()}
        found["by_instance"] = {key: name.folded for key, name in self.by_instance.items()}
        return found

    def service_index(self, folded: bytes) -> int:
        """Return the index of the answers about one service; 0: it has no instance."""
        name = self.names.get(folded)
        if name is None:
            return 0
        index, of_nodes = name.index, self.node_indexes
        for number in name.nodes:
            if number in of_nodes:
                health = of_nodes[number][2]
                index = max(index, health)
        return index

    # --- instances ------------------------------------------------------------------------------

    def add_instance(
        self, batch: Batch, key: bytes, service_id: str, name: Name, tags: Iterable[str]
    ) -> bool:
        """Add an instance; return whether the set of names and tags changes."""
        if batch.undo is not None:
            batch.undo_by(lambda: self._remove_instance(key, service_id, tags))
        return self._add_instance(key, service_id, name, tags)

    def remove_instance(
        self, batch: Batch, key: bytes, service_id: str, tags: Iterable[str]
    ) -> bool:
        """Remove an instance; return whether the set of names and tags changes."""
        name = self.by_instance[key]
        if batch.undo is not None:
            batch.undo_by(lambda: self._add_instance(key, service_id, name, tags))
        return self._remove_instance(key, service_id, tags)

    def _add_instance(self, key: bytes, service_id: str, name: Name, tags: Iterable[str]) -> bool:
        is_new = not name.keys
        if is_new:
            self.names[name.folded] = name
            insort(self.order, name.folded)
        self.by_instance[key] = name
        name.keys[key] = None
        number = node_of(key)
        nodes = name.nodes
        nodes[number] = nodes.get(number, 0) + 1
        same = self.services_of.get(number)
        if same is None:
            same = self.services_of[number] = {}
        same[service_id] = None
        return _count(name.tags, tags) or is_new

    def _remove_instance(self, key: bytes, service_id: str, tags: Iterable[str]) -> bool:
        name = self.by_instance.pop(key)
        del name.keys[key]
        number = node_of(key)
        name.nodes[number] -= 1
        if not name.nodes[number]:
            del name.nodes[number]
        same = self.services_of[number]
        del same[service_id]
        if not same:
            del self.services_of[number]
        is_other = _uncount(name.tags, tags)
        if not name.keys:
            del self.names[name.folded]
            del self.order[bisect_left(self.order, name.folded)]
            return True
        return is_other

    def retag(self, batch: Batch, name: Name, before: Iterable[str], after: Iterable[str]) -> bool:
        """Count the new tags of an instance; return whether the set of tags of the name changes."""
        if batch.undo is not None:
            batch.undo_by(lambda: self.retag_now(name, after, before))
        return self.retag_now(name, before, after)

    def retag_now(self, name: Name, before: Iterable[str], after: Iterable[str]) -> bool:
        """As `retag`, where it is not taken back."""
        is_added = _count(name.tags, after)
        return _uncount(name.tags, before) or is_added

    def set_name_index(self, batch: Batch, name: Name, index: int) -> None:
        """Note the last change of an instance of a name, or of a check of one."""
        if batch.undo is not None:
            before = name.index
            batch.undo_by(lambda: setattr(name, "index", before))
        name.index = index
        self.unwritten_names[name.folded] = None

    # --- checks ---------------------------------------------------------------------------------

    def set_check(
        self, batch: Batch, number: int, check: str, service: str | None, status: CheckStatus
    ) -> None:
        """Note where a check belongs, and its status.

        Args:
            batch: What has taken effect.
            number: Of the node.
            check: The ID.
            service: The ID of its service; empty: it belongs to the node; None: it goes.
            status: As it is from now on; of one that goes it does not count.
        """
        if batch.undo is not None:
            before = self.checks_of.get(number, {}).get(check)
            was = self.status_of(number, check)
            batch.undo_by(lambda: self._set_check(number, check, before, was))
        self._set_check(number, check, service, status)

    def status_of(self, number: int, check: str) -> CheckStatus:
        """Return the status of a check; one that is not there counts as passing."""
        if check in self.critical_of.get(number, ()):
            return "critical"
        return "warning" if check in self.warning_of.get(number, ()) else "passing"

    def _set_check(self, number: int, check: str, service: str | None, status: CheckStatus) -> None:
        if service is None:
            status = "passing"
            _drop(self.checks_of, number, check)
        else:
            of_node = self.checks_of.get(number)
            if of_node is None:
                of_node = self.checks_of[number] = {}
            of_node[check] = service
        _mark(self.own_checks, number, check, service == "")
        _mark(self.critical_of, number, check, status == "critical")
        _mark(self.warning_of, number, check, status == "warning")

    def forget_checks(self, batch: Batch, number: int) -> None:
        """Forget all checks of a node that goes."""
        tables: tuple[dict[int, Any], ...] = (
            self.checks_of,
            self.own_checks,
            self.critical_of,
            self.warning_of,
        )
        for where in tables:
            before = where.pop(number, None)
            if batch.undo is not None and before is not None:
                batch.undo_by(partial(where.__setitem__, number, before))

    # --- nodes ----------------------------------------------------------------------------------

    def indexes_of(self, batch: Batch, number: int) -> list[int]:
        """Return the last indexes of a node, which are going to be changed in place."""
        found = self.node_indexes.get(number)
        if found is None:
            found = self.node_indexes[number] = NO_INDEXES.copy()
            if batch.undo is not None:
                batch.undo_by(lambda: self.node_indexes.pop(number))
        elif batch.undo is not None:
            before = found.copy()
            batch.undo_by(lambda: self.node_indexes.update({number: before}))
        self.unwritten_nodes[number] = None
        return found

    def forget_indexes(self, batch: Batch, number: int) -> None:
        """Forget the last indexes of a node that goes."""
        before = self.node_indexes.pop(number, None)
        if batch.undo is not None and before is not None:
            batch.undo_by(lambda: self.node_indexes.update({number: before}))
        self.unwritten_nodes[number] = None

    def set_owner(self, batch: Batch, number: int, owner: int) -> None:
        """Note which member runs the checks of an external node; 0: nobody."""
        if batch.undo is not None:
            before = self.owners.get(number, 0)
            batch.undo_by(lambda: _set(self.owners, number, before, 0))
        _set(self.owners, number, owner, 0)

    def set_external(self, batch: Batch, number: int, after: ExternalNode | None) -> None:
        """Note an external node, or that it is gone."""
        if batch.undo is not None:
            before = self.externals.get(number)
            batch.undo_by(lambda: self._set_external(number, before))
        self._set_external(number, after)

    def _set_external(self, number: int, after: ExternalNode | None) -> None:
        before = self.externals.pop(number, None)
        if before is not None:
            del self.numbers[fold(before.name)]
            self.uuids.pop(before.uuid, None)
        if after is not None:
            self.externals[number] = after
            self.numbers[fold(after.name)] = number
            if after.uuid:
                self.uuids[after.uuid] = number
        if (before is None) is not (after is None):
            self.externals_version += 1

    def set_nodes_index(self, batch: Batch, index: int) -> None:
        """Note the last change of the list of nodes."""
        if batch.undo is not None:
            before = self.nodes_index
            batch.undo_by(lambda: setattr(self, "nodes_index", before))
        self.nodes_index = index

    def all_indexes(self, batch: Batch) -> list[int]:
        """Return the last indexes of the whole, which are going to be changed in place."""
        if batch.undo is not None:
            before = self.indexes.copy()
            batch.undo_by(lambda: setattr(self, "indexes", before))
        self.is_unwritten = True
        return self.indexes


def _count(tags: dict[str, int], more: Iterable[str]) -> bool:
    """Count tags; return whether one is new. A tag that is given twice is counted twice."""
    is_new = False
    for tag in more:
        count = tags.get(tag, 0)
        tags[tag] = count + 1
        is_new = is_new or not count
    return is_new


def _uncount(tags: dict[str, int], less: Iterable[str]) -> bool:
    """Count tags no more; return whether one is gone."""
    is_gone = False
    for tag in less:
        tags[tag] -= 1
        if not tags[tag]:
            del tags[tag]
            is_gone = True
    return is_gone


def _set(where: dict[int, Any], number: int, value: object, absent: object) -> None:
    if value == absent:
        where.pop(number, None)
    else:
        where[number] = value


def _mark(where: dict[int, dict[str, None]], number: int, one: str, is_in: bool) -> None:
    if is_in:
        same = where.get(number)
        if same is None:
            same = where[number] = {}
        same[one] = None
    else:
        _drop(where, number, one)


def _drop(where: dict[int, dict[str, Any]], number: int, one: str) -> None:
    same = where.get(number)
    if same is not None and one in same:
        del same[one]
        if not same:
            del where[number]


CATALOG = InMemory("catalog", CatalogIndex.load)

IN_MEMORY = (CATALOG,)
