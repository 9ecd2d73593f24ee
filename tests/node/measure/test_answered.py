"""What a server counts of its answers."""

from __future__ import annotations

import pytest

from hstore.node.measure.answered import NOT_TIMED, Answered, Tally, unknown


def answer(status: int) -> bytes:
    return b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status


def test_answers_are_counted_by_status_and_timed_together():
    put, get = Tally("/v1/kv/{key}", "PUT", is_write=True), Tally("/v1/kv/{key}", "GET")
    answered = Answered([unknown(), put, get])
    put.answered(answer(200), 1.0, 1.3)
    put.answered(answer(503), 1.0, 4.0)
    get.answered(answer(200), 1.0, 1.3)
    assert (answered.requests, answered.writes) == (3, 2)
    assert put.statuses == {"200": 1, "503": 1}
    assert sum(answered.seconds().counts) == 3
    writes = answered.seconds(writes_only=True)
    assert sum(writes.counts) == 2
    assert writes.total == pytest.approx(3.3)


def test_what_waited_on_purpose_is_counted_and_not_timed():
    get = Tally("/v1/kv/{key}", "GET")
    get.answered(answer(200), NOT_TIMED, 5.0)
    assert get.count == 1
    assert sum(get.seconds.counts) == 0
