"""The cluster's time as one node knows it: the leader stamps it on commands that need it.

The state machine may not ask a clock, because every node runs it by itself. So time is agreed on as
everything else is, in the log, and the state takes each stamp as a maximum: a leader whose clock is
behind cannot set time back.

Commands are stamped to the millisecond: a lock delay of 1 ms must not last until the next tick.
"""

from __future__ import annotations

import trio

from ..state.machine import State


class ClusterClock:
    """The clock of one node, which follows what the log has seen, and goes on by the node's ticks.

    Between two ticks it goes on by the monotonic clock, by one tick at most: a process that was
    halted for an hour goes on one tick later. A tick counts from the tick before, not from what was
    read in between, so that reading the clock does not move it.
    """

    def __init__(self, state: State) -> None:
        """Begin with the time that the log has seen."""
        self._state = state
        self._ticked_ms = float(state.time_ms)
        self._ticked_at = trio.current_time()
        self._read_ms = state.time_ms

    @property
    def ms(self) -> int:
        """The cluster's time, in milliseconds, from the beginning of the cluster. It never falls."""
        state = self._state
        passed_ms = (trio.current_time() - self._ticked_at) * 1000
        now_ms = self._ticked_ms + min(passed_ms, state.settings.heartbeat_ms)
        self._read_ms = max(self._read_ms, state.time_ms, int(now_ms))
        return self._read_ms

    def advance(self, seconds: float) -> None:
        """A tick of so many seconds has passed."""
        self._ticked_ms = max(self._ticked_ms + seconds * 1000, self._state.time_ms)
        self._ticked_at = trio.current_time()
