"""Nodes that are no members, and what is written to the catalog directly.

Owns what `CatalogRegister` does: a node, at most one service on it and checks, in one write. On a
member's node it changes nothing but the tags of a service that allows that; all else there is
registered through the member itself.
"""

from __future__ import annotations

import msgspec

from ...model.commands import Denial, Member, Outcome
from ...model.services import CatalogRegister, ExternalNode, Service
from ...raft.entry import Entry
from ..batch import Batch, Effects
from . import nodes, services, writes
from .index import CATALOG
from .records import fold, instance_key


def _register(batch: Batch, entry: Entry, command: CatalogRegister) -> Outcome:
    catalog, given, folded = batch.value(CATALOG), command.node, fold(command.node.name)
    member = nodes.member_named(batch.values, folded)
    if member is not None:
        return _register_at_member(batch, entry, command, member)
    number = catalog.numbers.get(folded, 0)
    before = catalog.externals.get(number)
    denial = _denial(batch, command, number)
    if denial is not None:
        return denial
    index = entry.index
    if before is None:
        number = services.new_number(batch, index)
        node = msgspec.structs.replace(given, number=number)
        writes.put_external(batch, index, None, node)
    elif not command.keeps_node:
        _replace_node(batch, index, before, given)
    service = command.service
    if service is not None:
        known = writes.service_at(batch, instance_key(number, service.id))
        checks = () if known is None else known.checks
        services.put_service(
            batch, index, known, service, number=number, checks=checks, is_catalog=True
        )
    for each in command.checks:
        if each.service:
            # Each by itself: two of them may have one ID, and the later one counts.
            writes.list_checks(batch, instance_key(number, each.service), [each.id])
        services.upsert(batch, index, number, each, service=each.service, is_catalog=True)
    return Outcome(True, index)


def _replace_node(batch: Batch, index: int, before: ExternalNode, given: ExternalNode) -> None:
    """Replace an external node, unless it is so already."""
    after = replaced(before, given)
    if after != before:
        writes.put_external(batch, index, before, after)
    if after.uuid != before.uuid:
        nodes.forget_names(batch, index, before.uuid)


def replaced(before: ExternalNode, given: ExternalNode) -> ExternalNode:
    """Return an external node as given; it keeps its number, its name as first written, and a UUID."""
    return msgspec.structs.replace(
        given,
        number=before.number,
        name=before.name,
        uuid=given.uuid or before.uuid,
        create_index=before.create_index,
        modify_index=before.modify_index,
    )


def _denial(batch: Batch, command: CatalogRegister, number: int) -> Outcome | None:
    """Return why this is refused; None: it is not. `number`: of the node; 0: it is made."""
    service = command.service
    ids = [one.id for one in command.checks]
    text = services.protected(batch, number, service, ids)
    if text:
        return Outcome(False, 0, text, Denial.PROTECTED)
    by_service: dict[str, list[str]] = {}
    for one in command.checks:
        if one.service:
            by_service.setdefault(one.service, []).append(one.id)
    for service_id, more in by_service.items():
        known = writes.service_at(batch, instance_key(number, service_id))
        if known is not None:
            more.extend(known.checks)
        elif service is None or service.id != service_id:
            return Outcome(False, 0, service_id, Denial.NO_SERVICE_OF_CHECK)
    limit = _uuid_taken(batch, command, number)
    if not number:
        limit = limit or services.node_limit(batch)
    if service is not None and not _is_there(batch, number, service):
        limit = limit or services.service_limit(batch, number)
    for of_service in by_service.values():
        limit = limit or services.check_limit(batch, number, of_service, ())
    limit = limit or services.check_limit(batch, number, (), ids)
    return Outcome(False, 0, limit, Denial.LIMIT) if limit else None


def _is_there(batch: Batch, number: int, service: Service) -> bool:
    return instance_key(number, service.id) in batch.value(CATALOG).by_instance


def _uuid_taken(batch: Batch, command: CatalogRegister, number: int) -> str:
    """Return whose UUID the node would have; empty: nobody else's."""
    uuid = command.node.uuid
    if not uuid or (number and command.keeps_node):
        return ""
    other = batch.value(CATALOG).uuids.get(uuid)
    if other is not None and other != number:
        name = nodes.name_of(batch.values, other)
        return f'Invalid node ID: "{uuid}" is that of {name}'
    members = batch.value(nodes.MEMBERS).values()
    name = next((one.name for one in members if nodes.member_uuid(one.id) == uuid), "")
    return f'Invalid node ID: "{uuid}" is that of {name}' if name else ""


def _register_at_member(
    batch: Batch, entry: Entry, command: CatalogRegister, member: Member
) -> Outcome:
    """Change the tags of a member's service, where it allows that, and refuse all else."""
    given = command.service
    refusal = Outcome(
        False, 0, f"{member.name} is a member: register through its agent", Denial.MEMBER
    )
    if given is None or command.checks:
        return refusal
    number = member.catalog_number
    before = writes.service_at(batch, instance_key(number, given.id))
    if before is None or not before.tag_override or not _is_about_tags(before, given):
        return refusal
    services.put_service(
        batch,
        entry.index,
        before,
        msgspec.structs.replace(before, tags=given.tags),
        number=number,
        checks=before.checks,
        is_catalog=True,
    )
    return Outcome(True, entry.index)


_OWN = ("address", "port", "tagged", "meta", "weight_passing", "weight_warning", "tag_override")
_NOT_GIVEN = Service(0, "", "")


def _is_about_tags(before: Service, given: Service) -> bool:
    """Whether what is given of a service is as it is, but for its tags. What is left out stays."""
    return fold(before.name) == fold(given.name) and all(
        getattr(given, name) in (getattr(before, name), getattr(_NOT_GIVEN, name)) for name in _OWN
    )


EFFECTS: Effects = {CatalogRegister: _register}
