"""Results of checks, who runs them, and services that were critical for too long.

Owns whose results count: those of the member whose node the check is on, or that the leader named for
an external node, and only of the definition that is in the log. How long a check has been critical
is counted in the cluster's time, which is in the log, so no restart and no new leader begins anew.
"""

from __future__ import annotations

import msgspec

from ...model.checks import Check
from ...model.commands import Outcome
from ...model.services import AssignNodes, CheckResult, DeregisterCritical, UpdateChecks
from ...raft.entry import Entry
from .. import cluster_time
from ..batch import Batch, Effects
from . import services, writes
from .index import CATALOG
from .nodes import MEMBERS
from .records import instance_key

_RUN = frozenset(("ttl", "http", "tcp", "script"))
"""The kinds of checks that a member runs."""


def _update(batch: Batch, entry: Entry, command: UpdateChecks) -> Outcome:
    index, is_one_changed = entry.index, False
    for result in command.results:
        check = writes.check_at(batch, result.node, result.id)
        if check is None or check.defined != result.defined:
            continue
        if _may(batch, command.owner, check):
            is_one_changed |= _take(batch, index, check, result)
    return Outcome(True, index if is_one_changed else 0)


def _may(batch: Batch, owner: int, check: Check) -> bool:
    """Whether a member runs this check."""
    kind = "" if check.definition is None else check.definition.kind
    member = batch.value(MEMBERS).get(owner)
    if kind not in _RUN or member is None:
        return False
    catalog = batch.value(CATALOG)
    if check.node in catalog.externals:
        # The leader keeps the time of TTL checks there, and any member may have led by then.
        return kind == "ttl" or catalog.owners.get(check.node) == owner
    return member.catalog_number == check.node


def _take(batch: Batch, index: int, check: Check, result: CheckResult) -> bool:
    """Write a result; return whether it changes anything."""
    if check.status == result.status and check.output == result.output:
        return False
    critical_ms = 0
    if result.status == "critical":
        critical_ms = check.critical_ms or max(1, cluster_time.now_ms(batch.values))
    after = msgspec.structs.replace(
        check,
        status=result.status,
        output=result.output,
        critical_ms=critical_ms,
        modify_index=index,
    )
    writes.put_check(batch, index, check, after)
    return True


def _deregister_critical(batch: Batch, entry: Entry, command: DeregisterCritical) -> Outcome:
    check = writes.check_at(batch, command.node, command.check)
    if check is None or check.modify_index != command.modify_index:
        return Outcome(False, 0)
    after_ms = 0 if check.definition is None else check.definition.deregister_after_ms
    if check.status != "critical" or not after_ms or not check.service:
        return Outcome(False, 0)
    if cluster_time.now_ms(batch.values) - check.critical_ms < after_ms:
        return Outcome(False, 0)
    service = writes.service_at(batch, instance_key(check.node, check.service))
    if service is None:
        return Outcome(False, 0)
    services.remove_service(batch, entry.index, service)
    return Outcome(True, entry.index)


def _assign(batch: Batch, entry: Entry, command: AssignNodes) -> Outcome:
    catalog, members = batch.value(CATALOG), batch.value(MEMBERS)
    for number, owner in command.pairs:
        is_there = number in catalog.externals and (not owner or owner in members)
        if is_there and catalog.owners.get(number, 0) != owner:
            writes.set_owner(batch, number, owner)
    return Outcome(True, entry.index)


EFFECTS: Effects = {
    UpdateChecks: _update,
    DeregisterCritical: _deregister_critical,
    AssignNodes: _assign,
}
