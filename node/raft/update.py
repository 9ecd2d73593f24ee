"""What a core asks of its driver. `events.py` is the other direction.

For each `Update`, in this order, and before the driver feeds the next event to the same core:

1. `persist`: write it, in order, and feed `Persisted(seq)` once it is durable; only then send its
   `then` messages (rule D1).
2. `messages`: may be sent at once, even before `persist` is durable (rule D2).
3. `apply`: apply in order, each entry once, and feed `Applied(last index)` (rule D7).
4. Everything else, in any order.

The same contract as etcd-raft's `Ready` (doc.go), without its `Advance`: because completion comes
back as events, a driver that waits for its disk and one that does not are the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .entry import Entry, HardState, SnapshotMeta
from .errors import Reason
from .messages import Message


@dataclass(slots=True)
class Persist:
    """One atomic write (rules D3, D4).

    Attributes:
        seq: One more than the last; `Persisted(seq)` covers all writes up to it.
        hard_state: The new one, or None when neither term nor vote changed (rule D5).
        snapshot: First replace the whole state and log by the snapshot received with this meta.
        truncate_from: Then drop every entry from this index on, or None.
        entries: Then append these.
        then: Messages to send once all of this is durable.
    """

    seq: int
    hard_state: HardState | None
    snapshot: SnapshotMeta | None
    truncate_from: int | None
    entries: list[Entry]
    then: list[Message]


@dataclass(slots=True)
class Update:
    """What one call of `Core.step` asks for.

    Attributes:
        persist: See `Persist`; None when nothing must be written.
        messages: Messages to send at once.
        apply: Committed entries, durable on this node, contiguous. No second batch comes before
            the first is answered by `Applied`.
        appended: (rid, term, index) of each proposal appended in this step, even if the step also
            truncated it again. The term is the entry's: by the end of the step the core may have
            moved to a later one.
        rejected: (rid, reason, text) of proposals, changes and transfers that certainly do not
            happen; for NOT_LEADER the text is the leader's id in hex, or empty.
        transferred: rids of transfers after which this node does not lead any more. A transfer
            that failed is in `rejected`.
        reads_ready: (rid, index): serve the read once `index` is applied.
        reads_failed: (rid, reason): the read must be asked again, with a new rid.
        snapshots_wanted: Peers that need a whole snapshot; answer each by `SnapshotSent`.
        compact: Drop the log up to this; None: nothing to drop.
        early_election: (token, thousandths of a tick): feed `EarlyElection` after that time.
        snapshot_refused: The received snapshot is not needed: delete its content.
        refused: (peer, why) of messages of which nothing was used, because no leader that keeps to
            the protocol sends them: close the connection they came on. The node goes on.
        lost_to: This log lacks entries up to this index that this node has acknowledged in this
            term: its disk is an older one. Record that, and stop (rule D17). 0: nothing is missing.
    """

    persist: Persist | None = None
    messages: list[Message] = field(default_factory=list)
    apply: list[Entry] = field(default_factory=list)
    appended: list[tuple[int, int, int]] = field(default_factory=list)
    rejected: list[tuple[int, Reason, str]] = field(default_factory=list)
    transferred: list[int] = field(default_factory=list)
    reads_ready: list[tuple[int, int]] = field(default_factory=list)
    reads_failed: list[tuple[int, Reason]] = field(default_factory=list)
    snapshots_wanted: list[int] = field(default_factory=list)
    compact: SnapshotMeta | None = None
    early_election: tuple[int, int] | None = None
    snapshot_refused: bool = False
    refused: list[tuple[int, str]] = field(default_factory=list)
    lost_to: int = 0
