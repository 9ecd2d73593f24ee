"""Registrations of what is so already: nothing has to be committed for them.

An application that registers itself again and again, as those with a time to live do, would else have
every node write and flush an entry that changes nothing (contract of services, section 3.2). This says
no where it is in doubt: an entry is never wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import StorageError
from ...model.services import GivenCheck, RegisterCheck, RegisterService
from .. import records
from ..records import SERVICE
from . import services
from .index import CatalogIndex
from .records import decode_service, fold, instance_key

Get = Callable[[bytes], bytes | None]
"""Reads one record as it is now."""


def is_so(get: Get, catalog: CatalogIndex, command: RegisterService | RegisterCheck) -> bool:
    """Whether a registration through an agent would change nothing.

    Args:
        get: Of the store.
        catalog: As of the same moment.
        command: The registration.
    """
    place = command.place
    number = place.number or catalog.numbers.get(fold(place.name), 0)
    if isinstance(command, RegisterCheck):
        return _is_check_so(get, catalog, number, command.check, command.check.service)
    given = command.service
    key = instance_key(number, given.id)
    if key not in catalog.by_instance:
        return False
    record = get(SERVICE + key)
    if record is None:
        raise StorageError(f"the record of the service {given.id[:64]!r} is missing")
    before = decode_service(record)
    ids = {one.id for one in command.checks}
    if len(ids) < len(command.checks) or not ids.issubset(before.checks):
        return False
    if command.replaces_checks and len(ids) < len(before.checks):
        return False
    after = services.wanted(before, given, number=number, checks=before.checks)
    if before.agent_tags != after.agent_tags or not services.is_same(before, after):
        return False
    return all(_is_check_so(get, catalog, number, one, given.id) for one in command.checks)


def _is_check_so(
    get: Get, catalog: CatalogIndex, number: int, given: GivenCheck, service: str
) -> bool:
    """Whether a check is as it was given. A status that is given starts a TTL again, so it is never so."""
    if given.status or given.id not in catalog.checks_of.get(number, ()):
        return False
    record = get(records.check_key(number, given.id))
    if record is None:
        raise StorageError(f"the record of the check {given.id[:64]!r} is missing")
    check = records.decode_check(record)
    said = (service, given.name, given.notes, given.definition)
    return (check.service, check.name, check.notes, check.definition) == said
