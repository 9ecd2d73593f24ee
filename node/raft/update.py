"""What a core wants done. The counterpart of `events.py`.

The driver owes each `Update`, in this order and before the next one of the same core is handled:

1. `persist`: written, and answered by `Persisted(seq)` once durable, in order; its `then` messages
   leave only after that (rule D1).
2. `messages`: may leave at once, even before `persist` is durable (rule D2).
3. `apply`: applied in order, each entry once, answered by `Applied(last index)` (rule D7).
4. the rest, in any order.
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
        seq: Rises by one with each; `Persisted(seq)` vouches for all up to it.
        hard_state: The new one, or None when neither term nor vote changed (rule D5).
        snapshot: Replace the whole state and log by the snapshot received with this meta, first.
        truncate_from: Then drop every entry from this index on, or None.
        entries: Then append these.
        then: Messages that leave once all of this is durable.
    """

    seq: int
    hard_state: HardState | None
    snapshot: SnapshotMeta | None
    truncate_from: int | None
    entries: list[Entry]
    then: list[Message]


@dataclass(slots=True)
class Update:
    """What one call of `Core.step` wants done.

    Attributes:
        persist: See `Persist`; None when nothing must be written.
        messages: Ungated messages.
        apply: Committed, locally durable entries, contiguous; at most one batch is out at a time.
        appended: (rid, term, index) of proposals that are, or within this step were, in the log. The
            term is the entry's: at the end of the step the core may have gone on to another.
        rejected: (rid, reason, text) of proposals, changes and transfers that are certainly not done;
            the text of NOT_LEADER is the hint: the leader's id in hex, or nothing.
        transferred: rids of transfers after which this node does not lead any more. One that
            fails is in `rejected`.
        reads_ready: (rid, index): answer once applied is at least the index.
        reads_failed: (rid, reason): ask again, with a new rid.
        snapshots_wanted: Peers that need a whole snapshot; answer each by `SnapshotSent`.
        compact: Drop the log up to this; None: nothing to drop.
        early_election: (token, thousandths of a tick): after that time, feed `EarlyElection`.
        snapshot_refused: A received snapshot is not needed: throw its content away.
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
