"""How services and checks are written: their records, their indexes, and who is told.

The commands of `services.py`, `externals.py`, `results.py` and `checks.py` refuse or decide;
what they have decided is written here. Owns which indexes each change moves and which waits and
listeners are told of it, so that no index of a result ever falls and none moves without need:

- an instance: the index of its name, the services of its node, all instances; the set of names and
  tags where that changes; the states that its checks have, where they show another name or tags;
- a check of a service: the index of the service's name, the checks of its node, the states that it
  had and has;
- a check of a node: the same, and in place of a name the *health* of its node, which counts for all
  services there. So it is one record, however many services the node has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from ...errors import StorageError
from ...model.checks import Check, CheckStatus
from ...model.services import CONSUL, ExternalNode, Service
from ...raft.errors import CoreBug
from .. import records
from ..batch import Batch
from ..kv import deletions
from ..records import CHECK, NAME_INDEX, NODE_INDEXES, SERVICE, encode_index, encode_msgpack
from ..watching.changes import (
    CHECK_STATES,
    CHECKS,
    INSTANCES,
    NODE_CHECKS,
    NODE_HEALTH,
    NODE_SERVICES,
    OWNERS,
    SERVICE_SET,
    SERVICES,
)
from . import nodes
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
    CatalogIndex,
    Name,
)
from .records import (
    Named,
    decode_named,
    decode_service,
    decode_status,
    encode_catalog_indexes,
    encode_name_index,
    encode_node_indexes,
    fold,
    instance_key,
)

_STATE_WAKES = {status: (CHECK_STATES, status.encode()) for status in AT_STATUS}
_ANY_STATE_WAKE = (CHECK_STATES, b"any")
_INSTANCES_WAKE = (INSTANCES, b"")
_SET_WAKE = (SERVICE_SET, b"")
_CONSUL_WAKE = (SERVICES, fold(CONSUL))
_SCANNED_ABOVE = 32
"""Records of one kind that a node has: so many are read one by one."""


# --- reading ---------------------------------------------------------------------------------------


def service_at(batch: Batch, key: bytes) -> Service | None:
    """Return the instance with this key as the batch has left it, or None."""
    if key not in batch.values[CATALOG].by_instance:
        return None
    record = batch.get(SERVICE + key)
    if record is None:
        raise StorageError(f"the record of the service {key[8:72]!r} is missing")
    return decode_service(record)


def check_at(batch: Batch, number: int, check_id: str) -> Check | None:
    """Return a check of a node as the batch has left it, or None."""
    of_node = batch.values[CATALOG].checks_of.get(number)
    if of_node is None or check_id not in of_node:
        return None
    record = batch.get(records.check_key(number, check_id))
    if record is None:
        raise StorageError(f"the record of the check {check_id[:64]!r} is missing")
    return records.decode_check_once(record)


# --- services --------------------------------------------------------------------------------------


def put_service(batch: Batch, index: int, before: Service | None, after: Service) -> None:
    """Write an instance that is made or changed; its checks are written apart.

    Args:
        batch: What has taken effect.
        index: Of the entry.
        before: As it was; None: it is made.
        after: As it shall be. Its name is set to how it is shown, and its indexes are set.
    """
    catalog: CatalogIndex = batch.values[CATALOG]
    number, folded = after.node, fold(after.name)
    key = instance_key(number, after.id)
    name = catalog.names.get(folded)
    is_other_set, create_index = False, index
    if before is not None:
        create_index = before.create_index
        if catalog.by_instance[key] is not name:
            is_other_set = _leave_name(batch, index, key, before)
            _touch_shown(batch, index, before)
        elif before.tags != after.tags:
            is_other_set = catalog.retag(batch, name, before.tags, after.tags)
            _touch_shown(batch, index, before)
    if name is None:
        name = Name(folded, after.name, index)
    if key not in catalog.by_instance:
        is_other_set |= catalog.add_instance(batch, key, after.id, name, after.tags)
    after = msgspec.structs.replace(
        after, name=name.shown, create_index=create_index, modify_index=index
    )
    batch.put(SERVICE + key, encode_msgpack(after))
    touch_name(batch, index, name)
    touch_node(batch, index, number, services=True)
    _touch_instances(batch, index, is_other_set=is_other_set)


def make_service(
    batch: Batch,
    index: int,
    number: int,
    given: Service,
    *,
    ids: tuple[str, ...],
    checks: Sequence[Check],
) -> None:
    """Write an instance that is made, with checks none of which its node has yet.

    The same as `put_service` and `put_check`, which take twice as long: it is what most
    registrations are.

    Args:
        batch: What has taken effect.
        index: Of the entry.
        number: Of the node.
        given: The service, as its client gave it.
        ids: Of its checks, sorted.
        checks: They.
    """
    catalog: CatalogIndex = batch.values[CATALOG]
    folded = fold(given.name)
    node_key = encode_index(number)
    key = node_key + given.id.encode()
    name = catalog.names.get(folded)
    if name is None:
        name = Name(folded, given.name, index)
    is_other_set = catalog.add_instance(batch, key, given.id, name, given.tags)
    service = msgspec.structs.replace(
        given,
        node=number,
        name=name.shown,
        agent_tags=None,
        checks=ids,
        create_index=index,
        modify_index=index,
    )
    batch.put(SERVICE + key, encode_msgpack(service))
    catalog.set_name_index(batch, name, index)
    of_node, of_all = catalog.indexes_of(batch, number), catalog.all_indexes(batch)
    of_node[AT_SERVICES] = of_all[AT_INSTANCES] = index
    wakes = batch.wakes
    wakes += ((SERVICES, folded), (NODE_SERVICES, node_key), _INSTANCES_WAKE)
    if is_other_set:
        of_all[AT_NAMES] = index
        wakes.append(_SET_WAKE)
    for check in checks:
        key = node_key + check.id.encode()
        batch.put(CHECK + key, encode_msgpack(check))
        catalog.set_check(batch, number, check.id, service.id, check.status)
        of_all[AT_STATUS[check.status]] = index
        wakes += ((CHECKS, key), _STATE_WAKES[check.status])
    if checks:
        of_node[AT_NODE_CHECKS] = of_all[AT_CHECKS] = index
        wakes += ((NODE_CHECKS, node_key), _ANY_STATE_WAKE)


def rewrite_service(batch: Batch, service: Service) -> None:
    """Write the record of an instance of which nothing has changed that anybody is shown."""
    batch.put(SERVICE + instance_key(service.node, service.id), encode_msgpack(service))


def list_checks(batch: Batch, key: bytes, add: Iterable[str], drop: Iterable[str] = ()) -> None:
    """Change the list of checks in the record of an instance, which moves no index of it."""
    service = service_at(batch, key)
    if service is None:
        raise StorageError(f"the service {key[8:72]!r} of a check is missing")
    checks = tuple(sorted({*service.checks, *add}.difference(drop)))
    if checks != service.checks:
        rewrite_service(batch, msgspec.structs.replace(service, checks=checks))


def remove_service(batch: Batch, index: int, service: Service) -> None:
    """Remove an instance, and its checks with it."""
    key = instance_key(service.node, service.id)
    for check_id in service.checks:
        check = check_at(batch, service.node, check_id)
        if check is not None:
            drop_check(batch, index, check)
    is_other_set = _leave_name(batch, index, key, service)
    batch.delete(SERVICE + key)
    touch_node(batch, index, service.node, services=True, checks=bool(service.checks))
    _touch_instances(batch, index, is_other_set=is_other_set)


def _leave_name(batch: Batch, index: int, key: bytes, service: Service | Named) -> bool:
    """Take an instance from its name; return whether the set of names and tags changes."""
    catalog: CatalogIndex = batch.values[CATALOG]
    name = catalog.by_instance[key]
    is_other_set = catalog.remove_instance(batch, key, service.id, service.tags)
    if name.keys:
        touch_name(batch, index, name)
    else:
        catalog.unwritten_names[name.folded] = None
        deletions.keep(batch, SERVICES, index, name.folded)
        batch.wakes.append((SERVICES, name.folded))
    return is_other_set


# --- checks ----------------------------------------------------------------------------------------


def put_check(batch: Batch, index: int, before: Check | None, after: Check) -> None:
    """Write a check that is made or changed. The caller lists it with its service.

    Args:
        batch: What has taken effect.
        index: Of the entry, and `after.modify_index`.
        before: As it was; None: it is made.
        after: As it shall be. Its service, if it has one, is there.
    """
    if before is not None and before.service != after.service:
        if before.service:
            list_checks(batch, instance_key(after.node, before.service), (), (before.id,))
        _touch_owner(batch, index, before)
    write_check(batch, after)
    _touch_owner(batch, index, after)
    touch_node(batch, index, after.node, checks=True)
    _touch_states(batch, index, after.status if before is None else before.status, after.status)


def write_check(batch: Batch, check: Check) -> None:
    """Write the record of a check, and tell who listens to checks; no index moves."""
    number, check_id = check.node, check.id
    key = encode_index(number) + check_id.encode()
    batch.put(CHECK + key, encode_msgpack(check))
    catalog: CatalogIndex = batch.values[CATALOG]
    catalog.set_check(batch, number, check_id, check.service, check.status)
    batch.wakes.append((CHECKS, key))


def remove_check(batch: Batch, index: int, check: Check) -> None:
    """Remove a check, also from the list of its service."""
    if check.service:
        list_checks(batch, instance_key(check.node, check.service), (), (check.id,))
    drop_check(batch, index, check)
    touch_after_drop(batch, index, check)


def touch_after_drop(batch: Batch, index: int, check: Check) -> None:
    """Note that a check is gone, for what it counted for."""
    _touch_owner(batch, index, check)
    touch_node(batch, index, check.node, checks=True)


def drop_check(batch: Batch, index: int, check: Check) -> None:
    """Remove the record of a check; the caller lists it no more, and notes what it counted for."""
    key = encode_index(check.node) + check.id.encode()
    batch.delete(CHECK + key)
    batch.values[CATALOG].set_check(batch, check.node, check.id, None, check.status)
    _touch_states(batch, index, check.status)
    batch.wakes.append((CHECKS, key))


# --- nodes ------------------------------------------------------------------------------------------


def put_external(
    batch: Batch, index: int, before: ExternalNode | None, after: ExternalNode
) -> None:
    """Write an external node that is made or changed; its indexes are set here."""
    number = after.number
    create_index = index if before is None else before.create_index
    after = msgspec.structs.replace(after, create_index=create_index, modify_index=index)
    record = encode_msgpack(after)
    batch.put(records.id_key(records.EXTERNAL, number), record)
    batch.values[CATALOG].set_external(batch, number, after)
    nodes.note_change(batch, index, number, record)
    touch_node(batch, index, number, health=True)
    if before is not None and before.meta != after.meta:
        touch_set(batch, index)


def remove_external(batch: Batch, index: int, node: ExternalNode) -> None:
    """Remove an external node with all that is on it; its sessions are ended by the leader."""
    number = node.number
    remove_node(batch, index, number)
    batch.delete(records.id_key(records.EXTERNAL, number))
    batch.values[CATALOG].set_external(batch, number, None)
    if number in batch.values[CATALOG].owners:
        set_owner(batch, number, 0)
    nodes.forget_names(batch, index, node.name, node.uuid)
    nodes.note_change(batch, index, number, None)


def set_owner(batch: Batch, number: int, owner: int) -> None:
    """Write which member runs the checks of an external node; 0: nobody."""
    key = encode_index(number)
    if owner:
        batch.put(records.OWNER + key, encode_index(owner))
    else:
        batch.delete(records.OWNER + key)
    batch.values[CATALOG].set_owner(batch, number, owner)
    batch.wakes.append((OWNERS, key))


def remove_node(batch: Batch, index: int, number: int) -> None:
    """Remove all services and checks of a node that goes, and what is noted of it.

    One write, whatever the node has: with 5,000 services and 10,000 checks some 60 ms.
    """
    catalog: CatalogIndex = batch.values[CATALOG]
    pairs = _records_of(batch, SERVICE, number, catalog.services_of.get(number, ()))
    services = [(key, decode_named(record)) for key, record in pairs]
    pairs = _records_of(batch, CHECK, number, catalog.checks_of.get(number, ()))
    checks = [(key, decode_status(record)) for key, record in pairs]
    for key, service in services:
        _leave_name(batch, index, key[1:], service)
    batch.delete_listed(*_range(SERVICE, number), [key for key, _ in services])
    batch.delete_listed(*_range(CHECK, number), [key for key, _ in checks])
    if services:
        _touch_instances(batch, index, is_other_set=True)
    batch.wakes += [(CHECKS, key[1:]) for key, _ in checks]
    _touch_states(batch, index, *dict.fromkeys(check.status for _, check in checks))
    catalog.forget_checks(batch, number)
    catalog.forget_indexes(batch, number)
    key = encode_index(number)
    batch.wakes += ((NODE_HEALTH, key), (NODE_SERVICES, key), (NODE_CHECKS, key))


def _records_of(
    batch: Batch, prefix: bytes, number: int, ids: Collection[str]
) -> Iterable[tuple[bytes, bytes]]:
    """Return the records of a node under a prefix with their keys, in order; `ids`: all there are.

    A scan looks at all that the batch has changed, each time: where many nodes go, it takes longest.
    """
    if len(ids) > _SCANNED_ABOVE:
        return batch.scan(*_range(prefix, number))
    start = records.id_key(prefix, number)
    found = [(key, batch.get(key)) for key in sorted(start + one.encode() for one in ids)]
    return ((key, record) for key, record in found if record is not None)


def _range(prefix: bytes, number: int) -> tuple[bytes, bytes]:
    """Return where the records of a node under a prefix begin, and what comes after them."""
    start = records.id_key(prefix, number)
    if (end := records.prefix_end(start)) is None:
        raise CoreBug(f"no key comes after {start!r}")
    return start, end


# --- indexes, and who is told ------------------------------------------------------------------------


def touch_name(batch: Batch, index: int, name: Name) -> None:
    """Note a change of an instance of a service, or of a check of one."""
    batch.values[CATALOG].set_name_index(batch, name, index)
    batch.wakes.append((SERVICES, name.folded))


def touch_node(
    batch: Batch,
    index: int,
    number: int,
    *,
    services: bool = False,
    checks: bool = False,
    health: bool = False,
) -> None:
    """Note a change of the services of a node, of any of its checks, or of its health."""
    indexes = batch.values[CATALOG].indexes_of(batch, number)
    key = encode_index(number)
    if services:
        indexes[AT_SERVICES] = index
        batch.wakes.append((NODE_SERVICES, key))
    if checks:
        indexes[AT_NODE_CHECKS] = index
        batch.wakes.append((NODE_CHECKS, key))
    if health:
        indexes[AT_HEALTH] = index
        batch.wakes.append((NODE_HEALTH, key))


def touch_shown(batch: Batch, index: int, number: int) -> None:
    """Note that the checks of a node show another name of it."""
    found = batch.scan(*_range(CHECK, number))
    statuses = {decode_status(record).status: None for _, record in found}
    if statuses:
        touch_node(batch, index, number, checks=True)
        _touch_states(batch, index, *statuses)


def touch_set(batch: Batch, index: int) -> None:
    """Note a change of the set of names and tags, or of the meta of a node."""
    batch.values[CATALOG].all_indexes(batch)[AT_NAMES] = index
    batch.wakes.append(_SET_WAKE)


def note_catalog(batch: Batch) -> None:
    """Put the indexes that have moved, once for all entries of the batch, before it is written.

    So a registration pays for two records: its service and its check. No savepoint is open.
    """
    if not batch.wakes:
        return  # Whatever moves such an index tells somebody.
    catalog: CatalogIndex = batch.values[CATALOG]
    changed = batch.changed
    if catalog.unwritten_names:
        for folded in catalog.unwritten_names:
            name = catalog.names.get(folded)
            record = None if name is None else encode_name_index(name.index, name.shown)
            changed[NAME_INDEX + folded] = record
        catalog.unwritten_names.clear()
    if catalog.unwritten_nodes:
        for number in catalog.unwritten_nodes:
            indexes = catalog.node_indexes.get(number)
            record = None if indexes is None else encode_node_indexes(*indexes)
            changed[records.id_key(NODE_INDEXES, number)] = record
        catalog.unwritten_nodes.clear()
    if catalog.is_unwritten:
        changed[records.CATALOG_INDEXES_KEY] = encode_catalog_indexes(*catalog.indexes)
        catalog.is_unwritten = False


def _touch_owner(batch: Batch, index: int, check: Check) -> None:
    """Note a change of a check for what it counts for: its service, or all of its node."""
    if not check.service:
        touch_node(batch, index, check.node, health=True)
        return
    key = instance_key(check.node, check.service)
    touch_name(batch, index, batch.values[CATALOG].by_instance[key])


def _touch_shown(batch: Batch, index: int, service: Service) -> None:
    """Note that the checks of a service show another name or other tags of it."""
    checks = (check_at(batch, service.node, check_id) for check_id in service.checks)
    statuses = {check.status: None for check in checks if check is not None}
    if statuses:
        touch_node(batch, index, service.node, checks=True)
        _touch_states(batch, index, *statuses)


def _touch_instances(batch: Batch, index: int, *, is_other_set: bool) -> None:
    indexes = batch.values[CATALOG].all_indexes(batch)
    indexes[AT_INSTANCES] = index
    batch.wakes.append(_INSTANCES_WAKE)
    if is_other_set:
        indexes[AT_NAMES] = index
        batch.wakes.append(_SET_WAKE)


def touch_members(batch: Batch, index: int) -> None:
    """Note that a member has come, has gone, or is shown otherwise: each is the service `consul`."""
    batch.values[CATALOG].all_indexes(batch)[AT_MEMBERS] = index
    batch.wakes.append(_CONSUL_WAKE)


def _touch_states(batch: Batch, index: int, *statuses: CheckStatus) -> None:
    """Note a change of checks that have, or had, these statuses."""
    if not statuses:
        return
    indexes = batch.values[CATALOG].all_indexes(batch)
    indexes[AT_CHECKS] = index
    batch.wakes.append(_ANY_STATE_WAKE)
    for status in statuses:
        indexes[AT_STATUS[status]] = index
        batch.wakes.append(_STATE_WAKES[status])
