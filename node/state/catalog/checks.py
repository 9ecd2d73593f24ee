"""The check that each member has, and what `SetCheck` does. The leader keeps it.

All other checks are in `services.py`. Who decides what this one says is `cluster/serf_health.py`.
"""

from __future__ import annotations

from ...model.checks import AGENT_NOT_LIVE, SERF_HEALTH, SERF_HEALTH_NAME, Check, SetCheck
from ...model.commands import Outcome
from ...raft.entry import Entry
from .. import cluster_time
from ..batch import Batch, Effects
from . import nodes, writes

NO_NODE = "Missing node registration"
"""Text of the outcome where there is no such node; as Consul says it."""


def _set(batch: Batch, entry: Entry, command: SetCheck) -> Outcome:
    given, index = command.check, entry.index
    if not nodes.is_node(batch, given.node):
        return Outcome(False, 0, NO_NODE)
    before = writes.check_at(batch, given.node, given.id)
    critical_ms, created, modified = 0, index, index
    if before is not None:
        created, modified = before.create_index, before.modify_index
    if given.status == "critical":
        critical_ms = before.critical_ms if before is not None else 0
        critical_ms = critical_ms or max(1, cluster_time.now_ms(batch.values))
    check = _check(given, critical_ms, created, modified)
    if check == before:
        return Outcome(True, modified)
    writes.put_check(batch, index, before, _check(given, critical_ms, created, index))
    return Outcome(True, index)


def _check(given: Check, critical_ms: int, created: int, modified: int) -> Check:
    """Return a check of a node, which has no definition."""
    return Check(
        given.node,
        given.id,
        given.name,
        given.status,
        given.output,
        critical_ms,
        created,
        modified,
    )


def make_serf_health(batch: Batch, index: int, node: int) -> None:
    """Make the check of a new member, unless its node has it: critical, until the leader knows."""
    if writes.check_at(batch, node, SERF_HEALTH) is None:
        critical_ms = max(1, cluster_time.now_ms(batch.values))
        given = Check(node, SERF_HEALTH, SERF_HEALTH_NAME, "critical", AGENT_NOT_LIVE)
        check = _check(given, critical_ms, index, index)
        writes.put_check(batch, index, None, check)


EFFECTS: Effects = {SetCheck: _set}
