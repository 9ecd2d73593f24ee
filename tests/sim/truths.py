"""Messages that a leader might as well have sent: true in its term, though this one never would.

Any leader may send any part of its log at any time, and its state too. Receivers must bear with
all of them, and not only with what the present rules of sending happen to produce.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hstore.node.raft.messages import Append, InstallSnapshot
from hstore.node.raft.roles import Role

if TYPE_CHECKING:
    from .network import Parcel
    from .node import SimNode

_MOST_ENTRIES = 3

Odd = tuple[str, int, int, int]
"""What is said ("append" or "snapshot"), after which index, how many entries, how late."""


def draw(node: SimNode, peer: int, rng: Random) -> Odd | None:
    """Draw something true for `peer`, if the node leads."""
    core = node.core
    if core is None or core.role is not Role.LEADER or peer == node.id:
        return None
    log, late = core.log, node.sim.network.draw_lateness(rng)
    if rng.random() < 0.1 and node.content.applied:
        return "snapshot", 0, 0, late
    prev = rng.randint(log.snapshot_index, log.last_index)
    other = node.sim.nodes[peer].core if peer in node.sim.nodes else None
    if other is not None and rng.random() < 0.7:
        # Mostly where it matters: among what the receiver has, and has not seen committed.
        low = max(log.snapshot_index, other.log.commit)
        prev = rng.randint(low, max(low, min(log.last_index, other.log.last_index)))
        prev = min(prev, log.last_index)
    return "append", prev, rng.randint(0, _MOST_ENTRIES), late


def make(node: SimNode, peer: int, odd: Odd) -> Parcel | None:
    """Return it as a message, if it can be said now."""
    core, (kind, prev, count, _) = node.core, odd
    if core is None or core.role is not Role.LEADER:
        return None
    if kind == "snapshot":
        chain = node.disk.image.chain_at(node.content.applied)
        if chain is None or not node.content.applied:
            return None
        meta = core.meta_at(node.content.applied)
        node.sim.checker.snapshot_taken(node, meta, chain)
        return InstallSnapshot(node.id, peer, core.term, meta), (node.content, chain)
    log = core.log
    if not log.snapshot_index <= prev <= log.last_index:
        return None
    prev_term = log.term_at(prev)
    assert prev_term is not None
    first = prev - log.snapshot_index
    entries = log.entries[first : first + count]
    return Append(node.id, peer, core.term, prev, prev_term, entries, log.commit), None
