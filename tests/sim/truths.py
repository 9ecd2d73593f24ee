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


def draw(node: SimNode, peer: int, rng: Random) -> Parcel | None:
    """Return something true for `peer`, if the node leads."""
    core = node.core
    if core is None or core.role is not Role.LEADER or peer == node.id:
        return None
    log = core.log
    if rng.random() < 0.1 and node.content.applied:
        chain = node.disk.image.chain_at(node.content.applied)
        assert chain is not None
        meta = core.meta_at(node.content.applied)
        node.sim.checker.snapshot_taken(node, meta, chain)
        return InstallSnapshot(node.id, peer, core.term, meta), (node.content, chain)
    prev = rng.randint(log.snapshot_index, log.last_index)
    other = node.sim.nodes[peer].core if peer in node.sim.nodes else None
    if other is not None and rng.random() < 0.7:
        # Mostly where it matters: among what the receiver has, and has not seen committed.
        low = max(log.snapshot_index, other.log.commit)
        prev = rng.randint(low, max(low, min(log.last_index, other.log.last_index)))
        prev = min(prev, log.last_index)
    prev_term = log.term_at(prev)
    assert prev_term is not None
    first = prev - log.snapshot_index
    entries = log.entries[first : first + rng.randint(0, _MOST_ENTRIES)]
    return Append(node.id, peer, core.term, prev, prev_term, entries, log.commit), None
