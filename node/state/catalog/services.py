"""Services and their checks: what the commands of agents do.

Owns the rules of a registration: on which node it is, why it is refused, and what stays of what was
there. How it is written is in `writes.py`. Each effect first finds the node, then refuses or
not, and only then changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ...model.checks import SERF_HEALTH, SERVICE_MAINTENANCE, Check
from ...model.commands import Denial, Outcome
from ...model.services import (
    CHECKS_OF_NODE_MAX,
    CHECKS_OF_SERVICE_MAX,
    CONSUL,
    EXTERNAL_NODE_META,
    EXTERNAL_NODES_MAX,
    INSTANCES_MAX,
    SERVICES_OF_NODE_MAX,
    Deregister,
    ExternalNode,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
)
from ...raft.entry import Entry
from .. import cluster_time
from ..batch import Batch, Effects
from . import nodes, writes
from .checks import NO_NODE
from .index import CATALOG
from .records import fold, instance_key

_EXTERNAL = 1 << 63
_NOTHING: dict[str, str] = {}
_FOLDED_CONSUL = CONSUL.encode()


# --- where ----------------------------------------------------------------------------------------


def find_place(batch: Batch, place: Place, *, makes: bool = False) -> int | None:
    """Return the number of the node of a place; 0: it has to be made; None: there is no such node."""
    number = place.number
    if number:
        member = batch.values[nodes.MEMBERS].get(number)
        # Most are members whose number is their id: without the calls of `is_node`.
        is_there = (member is not None and not member.number) or nodes.is_node(batch, number)
        return number if is_there else None
    folded = fold(place.name)
    found = batch.value(CATALOG).numbers.get(folded)
    if found is not None:
        return found
    # A member's name is no external node's, and the API resolves it before.
    is_new = makes and place.address and nodes.member_named(batch.values, folded) is None
    return 0 if is_new else None


def new_number(batch: Batch, index: int) -> int:
    """Return the catalog number of an external node that this entry makes."""
    # Ids of members are drawn at random, so one may be the same.
    number = _EXTERNAL | index << 8
    while nodes.is_node(batch, number) or number in batch.value(nodes.MEMBERS):
        number += 1
    return number


def _make_node(batch: Batch, index: int, place: Place) -> int:
    number = new_number(batch, index)
    node = ExternalNode(
        number, place.name, address=place.address, meta=(EXTERNAL_NODE_META,), goes_with_last=True
    )
    writes.put_external(batch, index, None, node)
    return number


def no_node() -> Outcome:
    """Return the refusal where there is no such node."""
    return Outcome(False, 0, NO_NODE, Denial.NO_NODE)


def _go_with_last(batch: Batch, index: int, number: int, *, was_service: bool) -> None:
    """Remove a node that was made by registrations on it, when the last of these has gone."""
    catalog = batch.value(CATALOG)
    node = catalog.externals.get(number)
    if node is None or not node.goes_with_last or number in catalog.services_of:
        return
    if was_service or number not in catalog.checks_of:
        writes.remove_external(batch, index, node)


# --- refusals ----------------------------------------------------------------------------------------


def node_limit(batch: Batch) -> str:
    """Return why one more external node cannot be made; empty: it can."""
    count = len(batch.value(CATALOG).externals)
    if count < EXTERNAL_NODES_MAX:
        return ""
    return f"there are {count:,} external nodes, and there may not be more"


def service_limit(batch: Batch, number: int) -> str:
    """Return why one more instance cannot be made on a node; empty: it can."""
    catalog = batch.value(CATALOG)
    count = len(catalog.services_of.get(number, ()))
    if count >= SERVICES_OF_NODE_MAX:
        return f"this node has {count:,} services, and may not have more"
    count = len(catalog.by_instance)
    if count >= INSTANCES_MAX:
        return f"there are {count:,} instances of services, and there may not be more"
    return ""


def check_limit(
    batch: Batch, number: int, of_service: Sequence[str], given: Sequence[str], gone: int = 0
) -> str:
    """Return why these checks cannot be made; empty: they can.

    Args:
        batch: What has taken effect.
        number: Of the node.
        of_service: The IDs of all checks that one service is going to have.
        given: The IDs that are made or changed.
        gone: How many checks of the node go.
    """
    known = batch.values[CATALOG].checks_of.get(number, {})
    if len(of_service) <= CHECKS_OF_SERVICE_MAX and len(known) + len(given) <= CHECKS_OF_NODE_MAX:
        return ""  # Nearly always: without the sets below.
    count = len(set(of_service))
    if count > CHECKS_OF_SERVICE_MAX:
        return f"a service may have {CHECKS_OF_SERVICE_MAX} checks, and this one would have {count}"
    count = len(known) + len({one for one in given if one not in known}) - gone
    if count > CHECKS_OF_NODE_MAX:
        return f"a node may have {CHECKS_OF_NODE_MAX:,} checks, and this one would have {count:,}"
    return ""


def _limit(text: str) -> Outcome:
    return Outcome(False, 0, text, Denial.LIMIT)


def protected(batch: Batch, number: int, service: Service | None, checks: Iterable[str]) -> str:
    """Return what of this nobody can register; empty: nothing."""
    if service is not None and (service.id == CONSUL or fold(service.name) == _FOLDED_CONSUL):
        return "the service consul is that of the members: give it another name and ID"
    if SERF_HEALTH in checks and number and number not in batch.value(CATALOG).externals:
        return "serfHealth is kept by the leader: give the check another ID"
    return ""


# --- checks ------------------------------------------------------------------------------------------


def upsert(
    batch: Batch,
    index: int,
    number: int,
    given: GivenCheck,
    *,
    service: str,
    is_catalog: bool = False,
) -> None:
    """Make a check, or change it; what is so already moves no index.

    A check of the same kind keeps its status and output unless a status is given. One that another
    service has becomes this service's, as in Consul.

    Args:
        batch: What has taken effect.
        index: Of the entry.
        number: Of the node.
        given: As its client gave it.
        service: The ID of its service; empty: it belongs to the node.
        is_catalog: No status counts as critical, and the output is the given one.
    """
    before = writes.check_at(batch, number, given.id)
    after = _after(
        batch, index, given, before, number=number, service=service, is_catalog=is_catalog
    )
    if before is None:
        writes.put_check(batch, index, None, after)
    elif after != before:
        if msgspec.structs.replace(after, told=before.told) == before:
            writes.write_check(batch, after)
        else:
            after = msgspec.structs.replace(after, modify_index=index)
            writes.put_check(batch, index, before, after)


def _after(
    batch: Batch,
    index: int,
    given: GivenCheck,
    before: Check | None,
    *,
    number: int,
    service: str,
    is_catalog: bool,
) -> Check:
    """Return a check as `upsert` makes it, with the `modify_index` that it has so far."""
    definition = given.definition
    kind = "" if definition is None else definition.kind
    status, output = given.status or "critical", given.output
    created = modified = index
    critical_ms = told = 0
    defined = 0 if definition is None else index
    if before is not None:
        is_same_kind = kind == ("" if before.definition is None else before.definition.kind)
        if is_same_kind and not given.status and not is_catalog:
            status, output = before.status, before.output
        created, modified = before.create_index, before.modify_index
        critical_ms, told = before.critical_ms, before.told
        defined = before.defined if before.definition == definition else index
    if status != "critical":
        critical_ms = 0
    elif not critical_ms:
        critical_ms = max(1, cluster_time.now_ms(batch.values))
    if kind and (given.status or is_catalog):
        told = index
    return Check(
        number,
        given.id,
        given.name,
        status,
        output,
        critical_ms,
        created,
        modified,
        service,
        given.notes,
        definition,
        defined,
        told,
    )


# --- registering -------------------------------------------------------------------------------------


def _register_service(batch: Batch, entry: Entry, command: RegisterService) -> Outcome:
    index, place, given = entry.index, command.place, command.service
    number = find_place(batch, place, makes=True)
    if number is None:
        return no_node()
    before = writes.service_at(batch, instance_key(number, given.id))
    ids = [one.id for one in command.checks]
    had = () if before is None else before.checks
    gone = [one for one in had if one not in ids] if command.replaces_checks else []
    checks = tuple(sorted({*ids, *had}.difference(gone))) if had or len(ids) > 1 else tuple(ids)
    refusal = protected(batch, number, given, ids)
    if refusal:
        return Outcome(False, 0, refusal, Denial.PROTECTED)
    limit = service_limit(batch, number) if before is None else ""
    limit = limit or check_limit(batch, number, checks, ids, len(gone))
    if not number:
        limit = limit or node_limit(batch)
    if limit:
        return _limit(limit)
    number = number or _make_node(batch, index, place)
    known = batch.values[CATALOG].checks_of.get(number, _NOTHING)
    if before is None and len(checks) == len(ids) and not any(one in known for one in ids):
        _make_service(batch, index, number, command, checks)
        return Outcome(True, index)
    put_service(batch, index, before, given, number=number, checks=checks)
    for one in gone:
        check = writes.check_at(batch, number, one)
        if check is not None:
            writes.drop_check(batch, index, check)
            writes.touch_after_drop(batch, index, check)
    for each in command.checks:
        upsert(batch, index, number, each, service=given.id)
    return Outcome(True, index)


def _make_service(
    batch: Batch, index: int, number: int, command: RegisterService, ids: tuple[str, ...]
) -> None:
    """Write a service that is made, with checks none of which its node has yet."""
    service = command.service
    checks = [
        _after(batch, index, one, None, number=number, service=service.id, is_catalog=False)
        for one in command.checks
    ]
    writes.make_service(batch, index, number, service, ids=ids, checks=checks)


def put_service(
    batch: Batch,
    index: int,
    before: Service | None,
    given: Service,
    *,
    number: int,
    checks: tuple[str, ...],
    is_catalog: bool = False,
) -> None:
    """Write a service as it was given, unless it is so already.

    Args:
        batch: What has taken effect.
        index: Of the entry.
        before: As it was; None: it is made.
        given: As its client gave it.
        number: Of the node.
        checks: The IDs of all checks that it is going to have, sorted.
        is_catalog: It is no agent's: its tags do not give way to those that the catalog has set.
    """
    after = wanted(before, given, number=number, checks=checks, is_catalog=is_catalog)
    if before is None or not is_same(before, after):
        writes.put_service(batch, index, before, after)
    elif before.checks != checks or before.agent_tags != after.agent_tags:
        kept = msgspec.structs.replace(before, checks=checks, agent_tags=after.agent_tags)
        writes.rewrite_service(batch, kept)


def wanted(
    before: Service | None,
    given: Service,
    *,
    number: int,
    checks: tuple[str, ...],
    is_catalog: bool = False,
) -> Service:
    """Return a service as `put_service` writes it; the arguments are the same. Its indexes are not set."""
    tags, agent_tags = given.tags, None
    if before is not None and before.tag_override and given.tag_override:
        known = before.tags if before.agent_tags is None else before.agent_tags
        if is_catalog:
            agent_tags = None if tags == known else known
        elif tags == known:
            tags, agent_tags = before.tags, before.agent_tags
    return msgspec.structs.replace(
        given, node=number, tags=tags, agent_tags=agent_tags, checks=checks
    )


def is_same(before: Service, after: Service) -> bool:
    """Whether two services on one node are equal but for their checks, indexes and `agent_tags`."""
    return (
        before.tags == after.tags
        and fold(before.name) == fold(after.name)
        and before
        == msgspec.structs.replace(
            after,
            name=before.name,
            agent_tags=before.agent_tags,
            checks=before.checks,
            create_index=before.create_index,
            modify_index=before.modify_index,
        )
    )


def _register_check(batch: Batch, entry: Entry, command: RegisterCheck) -> Outcome:
    index, given = entry.index, command.check
    number = find_place(batch, command.place, makes=not given.service)
    if number is None:
        return no_node()
    service, checks = None, [given.id]
    if given.service:
        service = writes.service_at(batch, instance_key(number, given.service))
        if service is None:
            return Outcome(False, 0, given.service, Denial.NO_SERVICE_OF_CHECK)
        checks += service.checks
    refusal = protected(batch, number, None, [given.id])
    if refusal:
        return Outcome(False, 0, refusal, Denial.PROTECTED)
    limit = check_limit(batch, number, checks if given.service else (), [given.id])
    if not number:
        limit = limit or node_limit(batch)
    if limit:
        return _limit(limit)
    number = number or _make_node(batch, index, command.place)
    if service is not None:
        writes.list_checks(batch, instance_key(number, service.id), [given.id])
    upsert(batch, index, number, given, service=given.service)
    return Outcome(True, index)


# --- deregistering -----------------------------------------------------------------------------------


def _deregister(batch: Batch, entry: Entry, command: Deregister) -> Outcome:
    is_catalog = command.is_catalog
    number = find_place(batch, command.place)
    if number is None and is_catalog and not command.place.number:
        number = nodes.find(batch.values, fold(command.place.name))
    if command.service is not None:
        return _deregister_service(batch, entry.index, number, command.service, is_catalog)
    if command.check is not None:
        return _deregister_check(batch, entry.index, number, command.check, is_catalog)
    if number is None:
        return Outcome(True, 0) if is_catalog else no_node()
    node = batch.value(CATALOG).externals.get(number)
    if node is None:
        name = nodes.name_of(batch.values, number)
        return Outcome(False, 0, f"{name} is a member: use leave", Denial.PROTECTED)
    writes.remove_external(batch, entry.index, node)
    return Outcome(True, entry.index)


def _deregister_service(
    batch: Batch,
    index: int,
    number: int | None,
    service_id: str,
    is_catalog: bool,
) -> Outcome:
    service = None
    if number is not None:
        service = writes.service_at(batch, instance_key(number, service_id))
    if service is not None:
        remove_service(batch, index, service)
        return Outcome(True, index)
    if not is_catalog:
        return Outcome(False, 0, service_id, Denial.NO_SERVICE)
    if service_id == CONSUL and number is not None and _is_member(batch, number):
        text = "the service consul of a member cannot be removed"
        return Outcome(False, 0, text, Denial.PROTECTED)
    return Outcome(True, 0)


def remove_service(batch: Batch, index: int, service: Service) -> None:
    """Remove a service with its checks, and its node, if that was made for it and it is the last."""
    writes.remove_service(batch, index, service)
    _go_with_last(batch, index, service.node, was_service=True)


def _deregister_check(
    batch: Batch,
    index: int,
    number: int | None,
    check_id: str,
    is_catalog: bool,
) -> Outcome:
    check = None if number is None else writes.check_at(batch, number, check_id)
    if check is not None and check_id == SERF_HEALTH and _is_member(batch, check.node):
        if is_catalog:
            text = "serfHealth of a member cannot be removed"
            return Outcome(False, 0, text, Denial.PROTECTED)
        check = None
    if check is None:
        if is_catalog:
            return Outcome(True, 0)
        denial = Denial.NO_CHECK if _may_have(batch, number, check_id) else Denial.NO_SERVICE
        return Outcome(False, 0, check_id, denial)
    writes.remove_check(batch, index, check)
    _go_with_last(batch, index, check.node, was_service=False)
    return Outcome(True, index)


def _may_have(batch: Batch, number: int | None, check_id: str) -> bool:
    """Whether a check could be on a node: that of a service's maintenance, where there is the service.

    Of a keyed command this is remembered: later it cannot be found out any more.
    """
    service_id = check_id.removeprefix(SERVICE_MAINTENANCE)
    if service_id == check_id:
        return True
    key = None if number is None else instance_key(number, service_id)
    return key is not None and key in batch.values[CATALOG].by_instance


def _is_member(batch: Batch, number: int) -> bool:
    return number not in batch.value(CATALOG).externals


EFFECTS: Effects = {
    RegisterService: _register_service,
    RegisterCheck: _register_check,
    Deregister: _deregister,
}
