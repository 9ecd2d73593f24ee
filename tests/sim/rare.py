"""Counts rare states in which things have gone wrong elsewhere: were they met at all?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hstore.node.raft.core import Core
from hstore.node.raft.entry import SnapshotMeta
from hstore.node.raft.messages import Append
from hstore.node.raft.update import Persist

if TYPE_CHECKING:
    from .node import SimNode


def elected(counts: Counter[str], core: Core) -> None:
    """Somebody leads now."""
    counts["leaders"] += 1
    log = core.log
    # The entry of this term has just been appended: what is behind the commit index is older.
    if log.commit < log.last_index - 1:
        counts["leaders with uncommitted entries of older terms"] += 1
    if core.config.outgoing:
        counts["leaders elected in a joint configuration"] += 1
    if core.id not in core.config.voters:
        counts["leaders elected that are on their way out"] += 1


def deposed(counts: Counter[str], node: SimNode, core: Core) -> None:
    """Somebody leads no more."""
    if core.is_disk_stuck:
        counts["leaders that step down because of their disk"] += 1
    if not core.config.is_voter(core.id):
        counts["leaders removed"] += 1
    if node.reads:
        counts["reads pending over a change of leader"] += 1
    if core.log.commit < core.log.last_index:
        counts["leaders deposed with uncommitted entries"] += 1


def crashed(counts: Counter[str], node: SimNode, core: Core) -> None:
    """Somebody dies."""
    if core.config.outgoing:
        counts["crashes in a joint configuration"] += 1
    if core.is_recovering:
        counts["crashes while lost log is recovered"] += 1
    if core.transfer is not None:
        counts["crashes while leadership is handed over"] += 1
    if any(write.persist and write.persist.snapshot for write in node.disk.unsynced):
        counts["crashes between a snapshot's write and its flush"] += 1


def snapshot_received(counts: Counter[str], node: SimNode, meta: SnapshotMeta) -> None:
    """A whole state has arrived."""
    if (meta.index, meta.term) in node.received:
        counts["snapshots that arrive twice"] += 1
    elif node.received:
        counts["snapshots behind another one"] += 1


def writing(counts: Counter[str], node: SimNode, persist: Persist) -> None:
    """A core wants something written."""
    if persist.truncate_from is None or not node.is_flushing():
        return
    # What is rewritten is on its way to the disk: the end of that flush says nothing of the new.
    unsynced = (w.persist for w in node.disk.unsynced if w.persist is not None)
    if any(e.index >= persist.truncate_from for p in unsynced for e in p.entries):
        counts["entries rewritten while their flush is under way"] += 1


def news_received(counts: Counter[str], core: Core, message: Append) -> None:
    """News of a commit arrives, perhaps too early, too late, or once more."""
    log = core.log
    counts["news of a commit"] += 1
    if message.prev_index < log.commit:
        counts["news of a commit that is known"] += 1
    elif log.term_at(message.prev_index) != message.prev_term:
        counts["news of a commit that does not fit"] += 1
    elif message.commit > log.persisted:
        counts["news of a commit that comes before the own flush has ended"] += 1
