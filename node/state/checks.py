"""Health checks: what `SetCheck` does, and the check that each member has.

Owns the records under `records.CHECK`. Who decides what a check says is `cluster/serf_health.py`.
"""

from __future__ import annotations

import msgspec

from ..model.checks import AGENT_NOT_LIVE, SERF_HEALTH, SERF_HEALTH_NAME, Check, SetCheck
from ..model.commands import Outcome
from ..raft.entry import Entry
from . import cluster_time, nodes, records
from .batch import Batch, Effects
from .changes import CHECKS, Change

NO_NODE = "Missing node registration"
"""Text of the outcome where there is no such node; as Consul says it."""


def get(batch: Batch, node: int, check_id: str) -> Check | None:
    """Return a check of the node with this catalog number, as the batch has left it, or None."""
    record = batch.get(records.check_key(node, check_id))
    return None if record is None else records.decode_check(record)


def _set(batch: Batch, entry: Entry, command: SetCheck) -> Outcome:
    given = command.check
    if not nodes.is_node(batch, given.node):
        return Outcome(False, 0, NO_NODE)
    before = get(batch, given.node, given.id)
    critical_ms = 0
    if given.status == "critical":
        critical_ms = before.critical_ms if before is not None else 0
        critical_ms = critical_ms or max(1, cluster_time.now_ms(batch.values))
    if before is not None:
        same = msgspec.structs.replace(
            given,
            critical_ms=critical_ms,
            create_index=before.create_index,
            modify_index=before.modify_index,
        )
        if same == before:
            return Outcome(True, before.modify_index)
    index = entry.index
    check = msgspec.structs.replace(
        given,
        critical_ms=critical_ms,
        create_index=index if before is None else before.create_index,
        modify_index=index,
    )
    _keep(batch, check)
    return Outcome(True, index)


def make_serf_health(batch: Batch, index: int, node: int) -> None:
    """Make the check of a new member, unless its node has it: critical, until the leader knows."""
    if get(batch, node, SERF_HEALTH) is None:
        critical_ms = max(1, cluster_time.now_ms(batch.values))
        check = Check(
            node,
            SERF_HEALTH,
            SERF_HEALTH_NAME,
            "critical",
            AGENT_NOT_LIVE,
            critical_ms,
            create_index=index,
            modify_index=index,
        )
        _keep(batch, check)


def remove_all(batch: Batch, index: int, node: int) -> None:
    """Remove all checks of a node that goes."""
    start = records.id_key(records.CHECK, node)
    gone = batch.delete_range(start, records.prefix_end(start) or records.DELETION)
    batch.changes += [Change(CHECKS, key[1:], index, None) for key in gone or ()]


def _keep(batch: Batch, check: Check) -> None:
    key, record = records.check_key(check.node, check.id), records.encode_msgpack(check)
    batch.put(key, record)
    batch.changes.append(Change(CHECKS, key[1:], check.modify_index, record))


EFFECTS: Effects = {SetCheck: _set}
