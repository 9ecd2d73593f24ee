"""I14: what a core holds in memory on behalf of others is bounded (R13). L2: so are its timeouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.node.raft.core import Core
from hstore.node.raft.log import entry_size
from hstore.node.raft.progress import ProgressState
from hstore.node.raft.roles import Role

if TYPE_CHECKING:
    from .invariants import Checker
    from .node import SimNode

_SLACK = 400
"""Bytes of one entry more than a bound says: the one that crosses it is still taken."""


def check(checker: Checker, node: SimNode, core: Core) -> None:
    """Compare every bound with what there is, and count who has come to it."""
    options, counts = core.options, checker.sim.counts
    least = options.election_ticks
    if not least <= core.timeout < least + max(least * options.election_jitter, 2):
        checker.fail(
            "L2", node, f"calls an election after {core.timeout} ticks, not {least} or more"
        )
    if len(core.forwarded_reads) > options.max_pending_reads:
        checker.fail("I14", node, f"{len(core.forwarded_reads)} reads wait for the leader")
    if core.role is not Role.LEADER:
        if core.pending_reads or core.waiting_reads or core.progress:
            checker.fail("I14", node, "holds what only a leader has")
        return
    log = core.log
    if core.uncommitted_bytes != log.size_between(log.commit, log.last_index):
        checker.fail("I14", node, f"counts {core.uncommitted_bytes} uncommitted bytes")
    _check_leader(checker, node, core)
    for peer, progress in core.progress.items():
        if progress.state is not ProgressState.REPLICATE:
            continue
        message = max(options.max_append_bytes, _largest(core))
        if progress.inflight_bytes > options.max_inflight_bytes + message + _SLACK:
            checker.fail("I14", node, f"{progress.inflight_bytes} bytes are in flight to {peer}")
        if not progress.is_window_open(options.max_inflight_messages, options.max_inflight_bytes):
            counts["windows full"] += 1


def _check_leader(checker: Checker, node: SimNode, core: Core) -> None:
    log, transfer = core.log, core.transfer
    if core.unapplied_bytes != log.size_between(log.applied, log.commit):
        checker.fail("I14", node, f"counts {core.unapplied_bytes} bytes not applied")
    if transfer is not None and core.ticks - transfer.since > core.options.election_ticks:
        checker.fail("I14", node, f"waits for a transfer since {transfer.since}")


def _largest(core: Core) -> int:
    return max(map(entry_size, core.log.entries), default=0)
