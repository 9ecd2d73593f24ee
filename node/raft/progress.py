"""What a leader knows of one other node's log, and how it feeds it.

Three states (as etcd's `tracker`): a *probe* sends one message and waits, to find where the logs
agree; *replicate* streams ahead of the answers, within a window bounded in messages and bytes; a
peer in *snapshot* gets nothing until its snapshot is through.
"""

from __future__ import annotations

import enum
from collections import deque


class ProgressState(enum.Enum):
    """How a peer is being fed."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One peer, in the current term of this leader (rule D20: match < next, match never falls).

    Attributes:
        match: The peer's log is known to agree, durably, up to here.
        next: The next index to send.
        state: See `ProgressState`.
        probe_sent: A probe is out; the next one waits for an answer or a heartbeat's answer.
        sent_commit: The commit index it was last told.
        active: Heard from since the last quorum check.
        round: The highest heartbeat round it has answered.
        snapshot: Index its snapshot must reach, while `state` is SNAPSHOT.
    """

    __slots__ = (
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
        """Know nothing: probe from `next_index`."""
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
        """Whether an answer to entries is on its way, unless something was lost."""
        return bool(self._inflight)

    def is_window_open(self, max_messages: int, max_bytes: int) -> bool:
        """Whether another message with entries may be sent without an answer."""
        return len(self._inflight) < max_messages and self.inflight_bytes < max_bytes

    def sent(self, last: int, size: int) -> None:
        """Take note of entries up to `last`, `size` bytes in all, on their way."""
        if self.state is ProgressState.REPLICATE:
            self.next = last + 1
            self._inflight.append((last, size))
            self.inflight_bytes += size

    def acknowledged(self, index: int) -> bool:
        """Take note that the peer has everything up to `index`; return whether that is news."""
        while self._inflight and self._inflight[0][0] <= index:
            self.inflight_bytes -= self._inflight.popleft()[1]
        self.next = max(self.next, index + 1)
        if index <= self.match:
            return False
        self.match = index
        return True

    def rejected(self, index: int, candidate: int) -> bool:
        """Take note that the peer's log does not agree at `index`.

        Args:
            index: The `prev_index` that was rejected.
            candidate: Where the logs might agree instead.

        Returns:
            False when the rejection is stale and changes nothing.
        """
        if self.state is ProgressState.REPLICATE:
            if index <= self.match or index >= self.next:
                return False
            self.become_probe()
            return True
        if self.state is not ProgressState.PROBE or self.next - 1 != index:
            return False
        self.next = max(min(index, candidate + 1), self.match + 1)
        self.probe_sent = False
        return True

    def become_probe(self) -> None:
        """Feel for the end of the common log again, after a snapshot from just behind it."""
        behind = self.snapshot if self.state is ProgressState.SNAPSHOT else 0
        self._reset(ProgressState.PROBE)
        self.next = max(self.match, behind) + 1

    def become_replicate(self) -> None:
        """Stream from just behind what is known to agree."""
        self._reset(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """Hold everything back until a snapshot at `index` or later is through."""
        self._reset(ProgressState.SNAPSHOT)
        self.snapshot = index

    def _reset(self, state: ProgressState) -> None:
        self.state = state
        self.probe_sent = False
        self.snapshot = 0
        self.sent_commit = 0
        self._inflight.clear()
        self.inflight_bytes = 0
