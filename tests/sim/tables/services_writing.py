"""What the commands of the catalog do on a page of the book: services, checks, nodes that are no members.

Each effect says why the command may be refused, any of these reasons being right where there are
several, or that it takes effect. The last index of each answer is not counted here: the book
compares what its pages show (`catalog.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from hstore.node.model.checks import SERF_HEALTH, SERVICE_MAINTENANCE, Check
from hstore.node.model.commands import Denial, Outcome
from hstore.node.model.services import (
    AssignNodes,
    CatalogRegister,
    Deregister,
    DeregisterCritical,
    ExternalNode,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
    UpdateChecks,
)

from .page import Page
from .services_looking import (
    Refusals,
    checks_of,
    external_named,
    folded,
    member_named,
    over_checks,
    over_nodes,
    over_services,
    services_of,
    uuid_of,
)

_BUILT_IN = "consul"
_RUN_BY_MEMBERS = ("ttl", "http", "tcp", "script")


def _found(page: Page, place: Place) -> int | None:
    if place.number:
        return place.number if page.has_node(place.number) else None
    return external_named(page, place.name)


def _is_to_be_made(page: Page, place: Place) -> bool:
    is_free = member_named(page, place.name) is None
    return not place.number and bool(place.address) and is_free


# -- writing --------------------------------------------------------------------------------------


def put_service(page: Page, number: int, given: Service, *, is_catalog: bool = False) -> None:
    """Make a service on a node, or replace it; what is so already stays as it is."""
    before = page.services.get((number, given.id))
    tags, agent_tags = given.tags, None
    if before is not None and before.tag_override and given.tag_override:
        agents = before.tags if before.agent_tags is None else before.agent_tags
        if is_catalog:
            agent_tags = agents if tags != agents else None
        elif tags == agents:
            tags, agent_tags = before.tags, before.agent_tags
    name = page.names.get(folded(given.name), given.name)
    after = msgspec.structs.replace(
        given, node=number, name=name, tags=tags, agent_tags=agent_tags, checks=(),
        create_index=page.index, modify_index=page.index,
    )  # fmt: skip
    if before is not None:
        after = msgspec.structs.replace(after, create_index=before.create_index)
        same = msgspec.structs.replace(
            after, agent_tags=before.agent_tags, modify_index=before.modify_index
        )
        if same == before:
            after = msgspec.structs.replace(before, agent_tags=agent_tags)
    page.services[number, given.id] = after
    page.names[folded(name)] = name
    forget_names(page)


def forget_names(page: Page) -> None:
    """Forget the names of services that have no instance any more."""
    used = {folded(one.name) for one in page.services.values()}
    for name in [name for name in page.names if name not in used]:
        del page.names[name]


def _put_check(
    page: Page, number: int, given: GivenCheck, service: str, *, is_catalog: bool = False
) -> None:
    before = page.checks.get((number, given.id))
    kind = given.definition.kind if given.definition is not None else ""
    status, output, told = given.status or "critical", given.output, 0
    defined = page.index if given.definition is not None else 0
    if before is not None:
        if before.modify_index == page.index:
            page.indexes.twice = page.index
        was = before.definition.kind if before.definition is not None else ""
        if was == kind and not given.status and not is_catalog:
            status, output = before.status, before.output
        told = before.told
        defined = before.defined if before.definition == given.definition else page.index
    if kind and (is_catalog or given.status):
        told = page.index
    since = before.critical_ms if before is not None else 0
    after = Check(
        number, given.id, given.name, status, output, _critical_ms(page, status, since),
        page.index, page.index, service, given.notes, given.definition, defined, told,
    )  # fmt: skip
    if before is not None:
        after = msgspec.structs.replace(after, create_index=before.create_index)
        same = msgspec.structs.replace(after, modify_index=before.modify_index, told=before.told)
        if same == before:
            after = msgspec.structs.replace(before, told=told)
    page.checks[number, given.id] = after


def _critical_ms(page: Page, status: str, since: int) -> int:
    """Return since when a check has been critical; 0: it is not."""
    return (since or max(1, page.time_ms)) if status == "critical" else 0


def put_external(page: Page, node: ExternalNode) -> None:
    """Make an external node, or replace it, unless it is so already."""
    before = page.externals.get(node.number)
    created = before.create_index if before is not None else page.index
    after = msgspec.structs.replace(node, create_index=created, modify_index=page.index)
    if before is not None:
        same = msgspec.structs.replace(after, modify_index=before.modify_index)
        if same == before:
            return
        if before.meta != after.meta:
            page.indexes.meta = page.index
    page.externals[node.number] = after


def _number_of(page: Page, place: Place) -> int:
    """Return the number of the node of a place, which is made where it is not there."""
    found = _found(page, place)
    if found is not None:
        return found
    number = 1 << 63 | page.index << 8
    meta = (("external-node", "true"),)
    put_external(
        page,
        ExternalNode(number, place.name, "", place.address, (), meta, goes_with_last=True),
    )
    return number


def clear_node(page: Page, number: int) -> None:
    """Remove all services and checks of a node that goes."""
    if services_of(page, number):
        page.indexes.cleared = page.index
    page.services = {key: one for key, one in page.services.items() if key[0] != number}
    page.checks = {key: one for key, one in page.checks.items() if key[0] != number}
    page.seen.pop(number, None)
    forget_names(page)


def _remove_external(page: Page, number: int) -> None:
    clear_node(page, number)
    del page.externals[number]
    page.owners.pop(number, None)


def _remove_service(page: Page, number: int, service: str) -> None:
    for check_id in checks_of(page, number, service):
        del page.checks[number, check_id]
    del page.services[number, service]
    forget_names(page)
    node = page.externals.get(number)
    if node is not None and node.goes_with_last and not services_of(page, number):
        _remove_external(page, number)


def _remove_check(page: Page, number: int, check_id: str) -> None:
    del page.checks[number, check_id]
    node = page.externals.get(number)
    is_last = not services_of(page, number) and not checks_of(page, number)
    if node is not None and node.goes_with_last and is_last:
        _remove_external(page, number)


# -- commands ---------------------------------------------------------------------------------------


def _register_service(page: Page, command: RegisterService) -> Refusals:
    given, number = command.service, _found(page, command.place)
    if number is None and not _is_to_be_made(page, command.place):
        return {Denial.NO_NODE}
    ids = {one.id for one in command.checks}
    had = set() if number is None else set(checks_of(page, number, given.id))
    is_there = number is not None and (number, given.id) in page.services
    had = had if is_there else set()
    gone = had - ids if command.replaces_checks else set()
    refusals = over_checks(page, number, ids | had - gone, ids, len(gone))
    if not is_there:
        refusals |= over_services(page, number)
    if number is None:
        refusals |= over_nodes(page)
    if _is_protected(page, number, given, ids):
        refusals.add(Denial.PROTECTED)
    if not refusals:
        number = _number_of(page, command.place)
        put_service(page, number, given)
        for check_id in gone:
            del page.checks[number, check_id]
        for one in command.checks:
            _put_check(page, number, one, given.id)
    return refusals


def _is_protected(
    page: Page, number: int | None, service: Service | None, checks: Iterable[str]
) -> bool:
    is_of_member = number is not None and number not in page.externals
    if is_of_member and SERF_HEALTH in checks:
        return True
    return service is not None and _BUILT_IN in (service.id, folded(service.name))


def _register_check(page: Page, command: RegisterCheck) -> Refusals:
    given, number = command.check, _found(page, command.place)
    if number is None and (given.service or not _is_to_be_made(page, command.place)):
        return {Denial.NO_NODE}
    refusals: Refusals = set()
    of_service: set[str] = set()
    if given.service:
        assert number is not None
        of_service = {given.id, *checks_of(page, number, given.service)}
        if (number, given.service) not in page.services:
            refusals.add(Denial.NO_SERVICE_OF_CHECK)
    refusals |= over_checks(page, number, of_service, [given.id])
    if number is None:
        refusals |= over_nodes(page)
    if _is_protected(page, number, None, [given.id]):
        refusals.add(Denial.PROTECTED)
    if not refusals:
        _put_check(page, _number_of(page, command.place), given, given.service)
    return refusals


def _deregister(page: Page, command: Deregister) -> Refusals:
    number, is_catalog = _found(page, command.place), command.is_catalog
    if number is None and is_catalog and not command.place.number:
        member = member_named(page, command.place.name)
        number = None if member is None else member.number
    is_member = number is not None and number not in page.externals
    if command.service is not None:
        if number is not None and (number, command.service) in page.services:
            _remove_service(page, number, command.service)
            return set()
        if is_catalog:
            is_built_in = is_member and command.service == _BUILT_IN
            return {Denial.PROTECTED} if is_built_in else set()
        return {Denial.NO_SERVICE}
    if command.check is not None:
        is_own = is_member and command.check == SERF_HEALTH
        if is_own:
            return {Denial.PROTECTED if is_catalog else Denial.NO_CHECK}
        if number is not None and (number, command.check) in page.checks:
            _remove_check(page, number, command.check)
            return set()
        return set() if is_catalog else {_of_check(page, number, command.check)}
    if number is None:
        return set() if is_catalog else {Denial.NO_NODE}
    if is_member:
        return {Denial.PROTECTED}
    _remove_external(page, number)
    return set()


def _of_check(page: Page, number: int | None, check: str) -> Denial:
    """Return why a check that is not there cannot be removed."""
    service = check.removeprefix(SERVICE_MAINTENANCE)
    is_there = service == check or (number is not None and (number, service) in page.services)
    return Denial.NO_CHECK if is_there else Denial.NO_SERVICE


def _catalog_register(page: Page, command: CatalogRegister) -> Refusals:
    member = member_named(page, command.node.name)
    if member is not None:
        return _change_tags(page, command, member.number)
    service, number = command.service, external_named(page, command.node.name)
    refusals = _refusals(page, command, number)
    if refusals:
        return refusals
    if number is None:
        number = 1 << 63 | page.index << 8
        put_external(page, msgspec.structs.replace(command.node, number=number))
    elif not command.keeps_node:
        before = page.externals[number]
        uuid = command.node.uuid or before.uuid
        put_external(
            page,
            msgspec.structs.replace(command.node, number=number, name=before.name, uuid=uuid),
        )
    if service is not None:
        put_service(page, number, service, is_catalog=True)
    for one in command.checks:
        _put_check(page, number, one, one.service, is_catalog=True)
    return set()


def _refusals(page: Page, command: CatalogRegister, number: int | None) -> Refusals:
    service, refusals = command.service, set[Denial]()
    ids = [one.id for one in command.checks]
    for one in command.checks:
        if not one.service:
            continue
        is_there = number is not None and (number, one.service) in page.services
        if not is_there and (service is None or service.id != one.service):
            refusals.add(Denial.NO_SERVICE_OF_CHECK)
        more = checks_of(page, number, one.service) if number is not None else []
        same = [other.id for other in command.checks if other.service == one.service]
        refusals |= over_checks(page, number, [*more, *same], ())
    refusals |= over_checks(page, number, (), ids)
    if service is not None and (number is None or (number, service.id) not in page.services):
        refusals |= over_services(page, number)
    if number is None:
        refusals |= over_nodes(page)
    if _is_protected(page, number, service, ids):
        refusals.add(Denial.PROTECTED)
    uuid = command.node.uuid
    is_kept = number is not None and command.keeps_node
    if uuid and not is_kept and _with_uuid(page, uuid) not in (None, number):
        refusals.add(Denial.LIMIT)
    return refusals


def _with_uuid(page: Page, uuid: str) -> int | None:
    of_members = ((uuid_of(one), face.number) for one, face in page.members.items())
    others = ((one.uuid, number) for number, one in page.externals.items())
    return next((number for known, number in (*of_members, *others) if known == uuid), None)


def _fields(service: Service) -> dict[str, object]:
    return {one: getattr(service, one) for one in service.__struct_fields__}


def _change_tags(page: Page, command: CatalogRegister, number: int) -> Refusals:
    """Change the tags of a member's service, where it allows that: all else is its member's."""
    given, before = command.service, None
    if given is not None:
        before = page.services.get((number, given.id))
    if given is None or before is None or command.checks or not before.tag_override:
        return {Denial.MEMBER}
    left_out = Service(given.node, given.id, before.name, given.tags)
    said = {one: value for one, value in _fields(given).items() if value != _fields(left_out)[one]}
    said["name"] = before.name if folded(given.name) == folded(before.name) else given.name
    if any(value != _fields(before)[one] for one, value in said.items()):
        return {Denial.MEMBER}
    put_service(page, number, msgspec.structs.replace(before, tags=given.tags), is_catalog=True)
    return set()


def _update(page: Page, command: UpdateChecks) -> bool:
    """Take results; return whether one of them changes anything."""
    is_changed = False
    for one in command.results:
        check = page.checks.get((one.node, one.id))
        if check is None or check.defined != one.defined or check.definition is None:
            continue
        is_same = (check.status, check.output) == (one.status, one.output)
        if is_same or not _may(page, command.owner, check, check.definition.kind):
            continue
        if check.modify_index == page.index:
            page.indexes.twice = page.index
        page.checks[one.node, one.id] = msgspec.structs.replace(
            check, status=one.status, output=one.output, modify_index=page.index,
            critical_ms=_critical_ms(page, one.status, check.critical_ms),
        )  # fmt: skip
        is_changed = True
    return is_changed


def _may(page: Page, owner: int, check: Check, kind: str) -> bool:
    """Whether a member runs a check."""
    member = page.members.get(owner)
    if member is None or kind not in _RUN_BY_MEMBERS:
        return False
    if check.node in page.externals:
        return kind == "ttl" or page.owners.get(check.node) == owner
    return member.number == check.node


def _deregister_critical(page: Page, command: DeregisterCritical) -> bool:
    check = page.checks.get((command.node, command.check))
    if check is None or check.modify_index != command.modify_index:
        return False
    if check.status != "critical" or check.definition is None or not check.service:
        return False
    after = check.definition.deregister_after_ms
    if not after or page.time_ms < check.critical_ms + after:
        return False
    _remove_service(page, check.node, check.service)
    return True


def _assign(page: Page, command: AssignNodes) -> None:
    for number, owner in command.pairs:
        if number not in page.externals or (owner and owner not in page.members):
            continue
        if owner:
            page.owners[number] = owner
        else:
            page.owners.pop(number, None)


_OF_CLIENTS: dict[type, Callable[[Page, Any], Refusals]] = {
    RegisterService: _register_service,
    RegisterCheck: _register_check,
    Deregister: _deregister,
    CatalogRegister: _catalog_register,
}

COMMANDS = (*_OF_CLIENTS, UpdateChecks, DeregisterCritical, AssignNodes)


def carry_out(page: Page, command: Any, outcome: Outcome) -> str:
    """Let a command of `COMMANDS` take effect; return what is wrong with its outcome; empty: nothing."""
    if isinstance(command, UpdateChecks):
        at = page.index if _update(page, command) else 0
        is_right = outcome.ok and outcome.revision == at
        return "" if is_right else f"should be done, and change something at {at}"
    if isinstance(command, DeregisterCritical):
        is_done = _deregister_critical(page, command)
        return "" if outcome.ok is is_done else f"should be {is_done}"
    if isinstance(command, AssignNodes):
        _assign(page, command)
        return "" if outcome.ok else "should be done"
    refusals = _OF_CLIENTS[type(command)](page, command)
    if not refusals:
        is_at = isinstance(command, Deregister) or outcome.revision == page.index
        return "" if outcome.ok and is_at else "should be done"
    if outcome.ok or outcome.denial not in refusals or not outcome.text:
        return f"should be refused for {sorted(refusals)}"
    return ""
