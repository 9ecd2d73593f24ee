"""The bounds and times of a core, as it is given them by who drives it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Bounds and times. A tick is one heartbeat interval.

    Attributes:
        election_ticks: T: elections start after a random time in [T, 2T) ticks without a leader.
        election_jitter: The random part, as a share of T (the paper: all of it); of whole ticks, at
            least two, so that there is always something to draw.
        pre_vote: Ask before disturbing a term (thesis section 9.6).
        check_quorum: A leader without a majority for T steps down; voters that hear a leader
            ignore ballots (section 6, end).
        eager_commit: Tell of a commit at once; else with the next entries or heartbeat, or when a
            `TellCommit` comes.
        max_append_bytes: Of entries in one message, unless a single entry is larger.
        max_inflight_messages: Unanswered messages with entries, per peer.
        max_inflight_bytes: Likewise in bytes; the message that crosses it still leaves.
        max_uncommitted_bytes: Of entries not yet committed; more is `OVERLOADED`.
        max_unapplied_bytes: Of entries committed and not yet applied at the leader; likewise.
        max_apply_bytes: Of entries in one batch to apply.
        max_pending_reads: Of this node and of those that ask it; more is `OVERLOADED`.
        promotion_gap: Entries a learner may lack when it becomes a voter.
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
