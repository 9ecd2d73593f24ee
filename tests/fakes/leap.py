"""A node that takes another time for the cluster's: it slept, or its log was long behind."""

from __future__ import annotations

import trio

from hstore.node.driver.cluster_clock import ClusterClock


def leap(clock: ClusterClock, ms: int) -> None:
    """Have the clock go on from `ms`, forwards or backwards; the time in the log stays the least."""
    clock._ticked_ms = float(ms)
    clock._ticked_at = trio.current_time()
    clock._read_ms = ms
