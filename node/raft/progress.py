"""The leader's record of one peer's log, and of how it sends entries to that peer.

Three states, those of etcd-raft's tracker/progress.go. In *probe* the leader sends one message and
waits for its answer, to find where the logs agree. In *replicate* it sends ahead of the answers,
within a window bounded in messages and bytes. In *snapshot* it sends no entries until the peer's
snapshot was delivered.
"""

from __future__ import annotations

import enum
from collections import deque


class ProgressState(enum.Enum):
    """How the leader sends entries to a peer."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One peer, in the current term of this leader (rule D20: match < next, match never falls).

    Attributes:
        match: The peer's log agrees with the leader's, durably, up to here (Figure 2: matchIndex).
        next: The next index to send (Figure 2: nextIndex).
        state: See `ProgressState`.
        probe_sent: A probe was sent; the next waits for its answer, or for a heartbeat's.
        sent_commit: The last commit index that was sent to it.
        active: It has answered since the last quorum check.
        round: The highest heartbeat round it has answered.
        snapshot: The index of the snapshot being sent, while `state` is SNAPSHOT.
    """

    __slots__ = (
        # etcd-raft keeps the same window in tracker/inflights.go, as a ring buffer.
        "_inflight",
        "active",
        "inflight_bytes",
        "match",
        "next",
        "probe_sent",
        "round",
        "sent_commit",
        "snapshot",
        "state",
    )

    def __init__(self, next_index: int) -> None:
        """Start in probe at `next_index`: nothing is known of the peer's log."""
        self.match = 0
        self.next = next_index
        self.state = ProgressState.PROBE
        self.probe_sent = False
        self.sent_commit = 0
        self.active = False
        self.round = 0
        self.snapshot = 0
        self._inflight: deque[tuple[int, int]] = deque()
        self.inflight_bytes = 0

    @property
    def is_awaited(self) -> bool:
        """Whether entries were sent that the peer has not answered yet."""
        return bool(self._inflight)

    def is_window_open(self, max_messages: int, max_bytes: int) -> bool:
        """Whether the window has room for another message with entries."""
        return len(self._inflight) < max_messages and self.inflight_bytes < max_bytes

    def sent(self, last: int, size: int) -> None:
        """Record that entries up to `last`, `size` bytes in all, were sent."""
        # A probe is not counted: there is at most one, and `next` must stay where the logs are
        # compared.
        if self.state is ProgressState.REPLICATE:
            self.next = last + 1
            self._inflight.append((last, size))
            self.inflight_bytes += size

    def acknowledged(self, index: int) -> bool:
        """Record that the peer has every entry up to `index`; return whether `match` rose."""
        while self._inflight and self._inflight[0][0] <= index:
            self.inflight_bytes -= self._inflight.popleft()[1]
        self.next = max(self.next, index + 1)
        if index <= self.match:
            return False
        self.match = index
        return True

    def rejected(self, index: int, candidate: int) -> bool:
        """Record that the peer's log does not agree at `index`.

        Args:
            index: The `prev_index` that was rejected.
            candidate: The last index at which the logs may agree.

        Returns:
            False when the rejection is stale and changes nothing.
        """
        # As MaybeDecrTo in etcd-raft's tracker/progress.go: in replicate, what is at or below
        # `match` was accepted after this rejection was written; in probe, only the answer to the
        # probe that is out counts. Besides, nothing at or above `next` was ever sent.
        if self.state is ProgressState.REPLICATE:
            if index <= self.match or index >= self.next:
                return False
            self.become_probe()
            return True
        if self.state is not ProgressState.PROBE or self.next - 1 != index:
            return False
        if index <= self.match:
            # It refuses what it has acknowledged: its disk is an older one, which it learns from a
            # heartbeat (`replication.on_heartbeat`). To ask again at once would go on for ever.
            return False
        self.next = max(min(index, candidate + 1), self.match + 1)
        self.probe_sent = False
        return True

    def become_probe(self) -> None:
        """Find the end of the common log again; after a snapshot, begin right behind it."""
        # The peer may have the snapshot's state although no acknowledgement of it has come yet:
        # BecomeProbe in etcd-raft's tracker/progress.go begins behind the pending snapshot for the
        # same reason.
        behind = self.snapshot if self.state is ProgressState.SNAPSHOT else 0
        self._reset(ProgressState.PROBE)
        self.next = max(self.match, behind) + 1

    def become_replicate(self) -> None:
        """Send entries ahead of the answers, from the first one behind `match`."""
        self._reset(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """Send no entries until the snapshot at `index`, or a later one, was delivered."""
        self._reset(ProgressState.SNAPSHOT)
        self.snapshot = index

    def _reset(self, state: ProgressState) -> None:
        self.state = state
        self.probe_sent = False
        self.snapshot = 0
        self.sent_commit = 0
        self._inflight.clear()
        self.inflight_bytes = 0
