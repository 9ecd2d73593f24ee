"""The cluster's time as one node knows it: the leader stamps it on commands that need it.

The state machine may not ask a clock, because every node runs it by itself. So time is agreed on as
everything else is, in the log, and the state takes each stamp as a maximum: a leader whose clock is
behind cannot set time back.

Commands are stamped to the millisecond: a lock delay of 1 ms must not last until the next tick.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..state.machine import State


class ClusterClock:
    """The clock of one node, which follows what the log has seen, and goes on by the node's ticks.

    Between two ticks it goes on by the monotonic clock, by one tick at most: a process that was
    halted for an hour goes on one tick later. A tick counts from the tick before, not from what was
    read in between, so that reading the clock does not move it.

    While the node does not lead, each stamp that the log brings is the time of the tick that finds it,
    also where this node has counted further: leaders lose time when they are halted, and what the old
    one has stamped, such as a lock delay, must not be over earlier for a new one that was not.

    Args:
        state: Of the node.
        leads: Returns whether the node leads, and has applied all that it took over.
    """

    def __init__(self, state: State, leads: Callable[[], bool] = lambda: True) -> None:
        """Begin with the time that the log has seen."""
        self._state = state
        self._leads = leads
        self._led = False
        self._seen_ms = state.time_ms
        self._ticked_ms = float(state.time_ms)
        self._ticked_at = trio.current_time()
        self._read_ms = state.time_ms

    @property
    def ms(self) -> int:
        """The cluster's time, in milliseconds, from the beginning of the cluster.

        It never falls as long as this node leads.
        """
        state = self._state
        self._follow()
        if not self._led:
            return state.time_ms  # There may be later stamps in the log than it has applied.
        passed_ms = (trio.current_time() - self._ticked_at) * 1000
        now_ms = self._ticked_ms + min(passed_ms, state.settings.heartbeat_ms)
        self._read_ms = max(self._read_ms, state.time_ms, int(now_ms))
        return self._read_ms

    def advance(self, seconds: float) -> None:
        """A tick of so many seconds has passed."""
        now = trio.current_time()
        passed_ms = (
            min(seconds, now - self._ticked_at) * 1000
        )  # It may have begun within this tick.
        self._ticked_ms = max(self._ticked_ms + passed_ms, self._state.time_ms)
        self._ticked_at = now
        self._follow()

    def _follow(self) -> None:
        """Take over what the log has seen, unless the stamps there are this node's own."""
        led, self._led = self._led, self._leads()
        if led and self._led:
            # Later, when another leads, these are not news: they are behind what was counted since.
            self._seen_ms = self._state.time_ms
            return
        seen_ms = self._state.time_ms
        if seen_ms != self._seen_ms:
            self._seen_ms = self._read_ms = seen_ms
            self._ticked_ms, self._ticked_at = float(seen_ms), trio.current_time()
