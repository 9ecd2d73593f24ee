"""Registrations of what is so already: nothing has to be committed for them.

An application that registers itself again and again, as those with a time to live do, would else have
every node write and flush an entry that changes nothing (contract of services, sections 3.2 and 10). This
says no where it is in doubt: an entry is never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...errors import StorageError
from ...model.checks import Check
from ...model.services import (
    CatalogRegister,
    GivenCheck,
    RegisterCheck,
    RegisterService,
    Registration,
    Service,
)
from .. import records
from ..records import SERVICE
from . import externals, services
from .index import CatalogIndex
from .records import decode_service, fold, instance_key

Get = Callable[[bytes], bytes | None]
"""Reads one record as it is now."""


def is_so(get: Get, catalog: CatalogIndex, command: Registration) -> bool:
    """Whether a registration would change nothing.

    Args:
        get: Of the store.
        catalog: As of the same moment.
        command: The registration.
    """
    now = _Now(get, catalog)
    if isinstance(command, RegisterService):
        return now.has_service(command)
    if isinstance(command, RegisterCheck):
        number = now.number(command.place.number, command.place.name)
        return now.has_check(number, command.check, command.check.service)
    return now.has_entry(command)


class _Now:
    """What there is."""

    def __init__(self, get: Get, catalog: CatalogIndex) -> None:
        self._get = get
        self._catalog = catalog

    def number(self, number: int, name: str) -> int:
        """Return the catalog number of a node; 0: there is no external node of this name."""
        return number or self._catalog.numbers.get(fold(name), 0)

    def has_service(self, command: RegisterService) -> bool:
        """Whether an agent's service is so, and its checks."""
        number = self.number(command.place.number, command.place.name)
        before = self._service(number, command.service.id)
        if before is None or not _has_ids(before, command.checks):
            return False
        if command.replaces_checks and len(command.checks) < len(before.checks):
            return False
        if not _is_service_so(before, command.service, is_catalog=False):
            return False
        return all(self.has_check(number, one, before.id) for one in command.checks)

    def has_check(self, number: int, given: GivenCheck, service: str) -> bool:
        """Whether an agent's check is so. A status that is given starts a TTL again: that is never so."""
        check = None if given.status else self._check(number, given.id)
        return check is not None and _said(check, check.service) == _said(given, service)

    def has_entry(self, command: CatalogRegister) -> bool:
        """Whether what the catalog is told of an external node is so."""
        number = self.number(0, command.node.name)
        node = self._catalog.externals.get(number)
        if node is None or not (
            command.keeps_node or externals.replaced(node, command.node) == node
        ):
            return False
        service = command.service
        if service is not None:
            before = self._service(number, service.id)
            if before is None or not _is_service_so(before, service, is_catalog=True):
                return False
        if len({one.id for one in command.checks}) < len(command.checks):
            return False
        return all(self._has_told(number, one) for one in command.checks)

    def _has_told(self, number: int, given: GivenCheck) -> bool:
        """Whether a check of the catalog is so. For one that is run each status counts anew."""
        if given.definition is not None and given.definition.kind:
            return False
        check = self._check(number, given.id)
        said = given.status or "critical", given.output
        if check is None or (check.status, check.output) != said:
            return False
        return _said(check, check.service) == _said(given, given.service)

    def _service(self, number: int, service_id: str) -> Service | None:
        key = instance_key(number, service_id)
        if key not in self._catalog.by_instance:
            return None
        record = self._get(SERVICE + key)
        if record is None:
            raise StorageError(f"the record of the service {service_id[:64]!r} is missing")
        return decode_service(record)

    def _check(self, number: int, check_id: str) -> Check | None:
        if check_id not in self._catalog.checks_of.get(number, ()):
            return None
        record = self._get(records.check_key(number, check_id))
        if record is None:
            raise StorageError(f"the record of the check {check_id[:64]!r} is missing")
        return records.decode_check(record)


def _has_ids(service: Service, given: Iterable[GivenCheck]) -> bool:
    """Whether a service has these checks, each once."""
    ids = [one.id for one in given]
    return len(set(ids)) == len(ids) and set(ids).issubset(service.checks)


def _is_service_so(before: Service, given: Service, *, is_catalog: bool) -> bool:
    after = services.wanted(
        before, given, number=before.node, checks=before.checks, is_catalog=is_catalog
    )
    return before.agent_tags == after.agent_tags and services.is_same(before, after)


def _said(check: Check | GivenCheck, service: str) -> tuple[object, ...]:
    return service, check.name, check.notes, check.definition
