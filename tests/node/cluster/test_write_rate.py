"""Entries applied per second, from samples of an index."""

from __future__ import annotations

from hstore.node.cluster.write_rate import WriteRate


def test_the_rate_is_that_of_the_last_five_seconds() -> None:
    rate = WriteRate()
    assert rate.at(0.0, 100, 0) is None
    for step in range(1, 41):
        shown = rate.at(step / 2, 100 + 10 * step, 0)
        assert shown == 20.0
    for step in range(41, 53):
        shown = rate.at(step / 2, 500, 0)
    assert shown == 0.0


def test_a_snapshot_that_moves_the_index_is_no_write() -> None:
    rate = WriteRate()
    rate.at(0.0, 0, 0)
    assert rate.at(1.0, 1_000_000, 1) is None
    assert rate.at(2.0, 1_000_010, 1) == 10.0


def test_it_keeps_no_more_samples_than_a_window_has() -> None:
    rate = WriteRate()
    for step in range(1000):
        rate.at(step / 2, step, 0)
    assert len(rate._samples) <= 13
