"""The cluster's time as one node knows it: the leader stamps it on commands that need it.

The state machine may not ask a clock, because every node runs it by itself. So time is agreed on as
everything else is, in the log, and the state takes each stamp as a maximum: a leader whose clock is
behind cannot set time back.
"""

from __future__ import annotations

from ..state.machine import State


class ClusterClock:
    """The clock of one node, which follows what the log has seen, and goes on by the node's ticks.

    Attributes:
        ms: The cluster's time, in milliseconds. It begins with the cluster, not with an epoch.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.ms = state.time_ms

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.ms = max(self.ms, self._state.time_ms) + int(seconds * 1000)
