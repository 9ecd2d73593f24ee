"""The limits and times of a core, given to it by the driver."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Limits and times. A tick is one heartbeat interval.

    Attributes:
        election_ticks: T: a node that hears no leader calls an election after a random number of
            ticks, at least T and less than T + `election_jitter` * T.
        election_jitter: The random part, as a share of T: 1.0 gives the paper's [T, 2T). It is rounded
            down to whole ticks, but never to fewer than two values to draw from.
        pre_vote: Ask the voters whether they would vote, before raising the term (thesis 9.6).
        check_quorum: A leader that hears no majority for T steps down, and a voter that hears a
            leader refuses its vote to others (section 6, end).
        eager_commit: Send a new commit index to followers at once; else with the next entries, the
            next heartbeat, or when a `TellCommit` event comes.
        max_append_bytes: Of the entries in one message, unless a single entry is larger.
        max_inflight_messages: Messages with entries that a peer has not answered yet.
        max_inflight_bytes: The same in bytes; the message that crosses the limit is still sent.
        max_uncommitted_bytes: Of entries not yet committed; above it, proposals are `OVERLOADED`.
        max_unapplied_bytes: Of entries committed and not yet applied at the leader; likewise.
        max_apply_bytes: Of the entries in one batch to apply.
        max_pending_reads: Reads at the leader, or sent to it by this node; above it, `OVERLOADED`.
        promotion_gap: How many entries a learner may lack and still become a voter.
    """

    election_ticks: int = 10
    election_jitter: float = 1.0
    pre_vote: bool = True
    check_quorum: bool = True
    eager_commit: bool = True
    max_append_bytes: int = 512 * 1024
    max_inflight_messages: int = 256
    max_inflight_bytes: int = 8 * 1024 * 1024
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    max_unapplied_bytes: int = 64 * 1024 * 1024
    max_apply_bytes: int = 1024 * 1024
    max_pending_reads: int = 4096
    promotion_gap: int = 1000
