"""A look at services by pages, from what is in memory of the catalog.

Owns the order of the pages and the status of an instance. Nothing of the store is read, so 50,000
instances can be counted in one request. What is seen is as of now: who goes on later may find other
names and instances, but each name and instance that was there all the time is seen once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

from ...model.checks import NODE_MAINTENANCE, SERVICE_MAINTENANCE, CheckStatus
from ...model.commands import Member
from ...model.services import CONSUL
from .index import CatalogIndex
from .records import instance_key, node_of

_CONSUL = CONSUL.encode()
_KEY_AT = len(instance_key(0, ""))

WORST: tuple[CheckStatus, ...] = ("critical", "warning", "passing")
"""The statuses, the worst first. That of an instance is the worst of its checks and of its node's."""


class Named(NamedTuple):
    """A service.

    Attributes:
        shown: Its name as its first instance wrote it.
        tags: By tag of any instance: how many have it. Not to be changed.
        instances: How many there are.
    """

    shown: str
    tags: Mapping[str, int]
    instances: int


class Browse:
    """The services as of now. The status of a node's services is noted once, at the first look at it.

    Args:
        catalog: What is in memory.
        members: By id; each is an instance of the service `consul`.
    """

    def __init__(self, catalog: CatalogIndex, members: Mapping[int, Member]) -> None:
        self._catalog = catalog
        self._members = members
        # By number of a node: the worst status of each service that is not passing, by ID; and that of
        # the node itself, by the empty ID.
        self._unwell: dict[int, dict[str, CheckStatus]] = {}

    def count(self) -> int:
        """Return how many services there are."""
        return len(self._catalog.order) + bool(self._members)

    def names(self, after: bytes, most: int) -> list[bytes]:
        """Return the folded names that come after `after`, in order, at most `most` (1 or more)."""
        order = self._catalog.order
        start = bisect_right(order, after)
        found = order[start : start + most]
        if self._members and after < _CONSUL and (len(found) < most or found[-1] > _CONSUL):
            found = sorted([*found, _CONSUL])[:most]
        return found

    def named(self, folded: bytes) -> Named | None:
        """Return a service; None: it is gone."""
        if folded == _CONSUL:
            return Named(CONSUL, {}, len(self._members)) if self._members else None
        name = self._catalog.names.get(folded)
        return None if name is None else Named(name.shown, name.tags, len(name.keys))

    def instances(self, folded: bytes) -> list[bytes]:
        """Return the keys of the instances of a service (`records.instance_key`), unsorted."""
        if folded == _CONSUL:
            return [instance_key(one.catalog_number, CONSUL) for one in self._members.values()]
        name = self._catalog.names.get(folded)
        return [] if name is None else list(name.keys)

    def is_well(self, folded: bytes) -> bool:
        """Whether all instances are passing, as far as a look at their nodes can tell."""
        critical, warning = self._catalog.critical_of, self._catalog.warning_of
        if not critical and not warning:
            return True
        numbers: Mapping[int, object]
        if folded == _CONSUL:
            numbers = {one.catalog_number: one for one in self._members.values()}
        else:
            name = self._catalog.names.get(folded)
            numbers = {} if name is None else name.nodes
        return critical.keys().isdisjoint(numbers) and warning.keys().isdisjoint(numbers)

    def status(self, key: bytes) -> CheckStatus:
        """Return the status of an instance."""
        number = node_of(key)
        unwell = self._unwell.get(number)
        if unwell is None:
            unwell = self._unwell[number] = self._unwell_of(number)
        if not unwell:
            return "passing"
        of_node = unwell.get("", "passing")
        if of_node == "critical":
            return of_node
        of_service = unwell.get(id_in(key), "passing")
        return of_node if of_service == "passing" else of_service

    def _unwell_of(self, number: int) -> dict[str, CheckStatus]:
        catalog = self._catalog
        warning, critical = catalog.warning_of.get(number), catalog.critical_of.get(number)
        if not warning and not critical:
            return {}
        checks = catalog.checks_of.get(number, {})
        found: dict[str, CheckStatus] = {}
        for one in warning or ():
            found[checks[one]] = "warning"
        for one in critical or ():
            found[checks[one]] = "critical"
        return found

    def maintenance(self, key: bytes) -> str:
        """Return what of an instance is in maintenance: `node`, `service`, or nothing."""
        checks = self._catalog.checks_of.get(node_of(key), {})
        if NODE_MAINTENANCE in checks:
            return "node"
        return "service" if SERVICE_MAINTENANCE + id_in(key) in checks else ""


def id_in(key: bytes) -> str:
    """Return the ID of the service in the key of an instance."""
    return key[_KEY_AT:].decode()
