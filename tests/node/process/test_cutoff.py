"""A process that does not come to its end by itself is ended."""

from __future__ import annotations

import threading

import pytest

from hstore.node.process import cutoff


@pytest.mark.parametrize("seconds", [0.01, -1.0], ids=["later", "overdue"])
def test_the_end_comes_also_while_the_event_loop_is_busy(seconds):
    """This thread stands for a loop that nothing can interrupt: it only waits."""
    ended = threading.Event()
    statuses = []

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()

    cutoff.end_within(seconds, end)

    assert ended.wait(60)
    assert statuses == [0]


def test_what_ends_earlier_is_not_held_up(monkeypatch):
    before = set(threading.enumerate())
    cutoff.end_within(1.0, lambda _status: None)
    (timer,) = set(threading.enumerate()) - before
    assert timer.daemon
    timer.join(60)
