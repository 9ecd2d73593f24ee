"""Thresholds, TTLs and due times of one check, by tables."""

from __future__ import annotations

import pytest

from hstore.node.checks.running import EXPIRED, Judge, Running
from hstore.node.model.checks import Check, CheckDefinition

LETTERS = {"p": "passing", "w": "warning", "c": "critical"}


def says(judge: Judge, results: str) -> str:
    """Return the first letters of what it says after each result."""
    return "".join(judge.judge(LETTERS[one])[0] for one in results)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("successes", "warning", "critical", "first", "results", "expected"),
    [
        # Without thresholds each result counts.
        (0, 0, 0, True, "pcwpcc", "pcwpcc"),
        (1, 1, 1, True, "pcwpcc", "pcwpcc"),
        # The first result counts at once, good or bad.
        (3, 0, 3, True, "pccc", "pppc"),
        (3, 0, 3, True, "cppp", "cccp"),
        (3, 0, 3, True, "wcc", "www"),
        # Without a first result, what the log says stays until a threshold is reached.
        (3, 0, 3, False, "ppp", "ccp"),
        (0, 0, 3, False, "cp", "cp"),
        # Good ones in a row before it leaves critical; a warning is a good one.
        (2, 0, 0, True, "cpwc", "ccwc"),
        (2, 0, 0, True, "cpcpp", "ccccp"),
        (2, 0, 0, True, "cwp", "ccp"),
        # But only before it leaves critical.
        (3, 0, 2, True, "pcpwp", "pppwp"),
        # Bad ones in a row before critical.
        (0, 0, 3, True, "pccpccc", "ppppppc"),
        (0, 0, 2, True, "pcpcpcc", "ppppppc"),
        # And before warning, on the way.
        (0, 2, 4, True, "pccccp", "ppwwcp"),
        (0, 1, 3, True, "pcccp", "pwwcp"),
        (0, 1, 3, True, "pcpccc", "pwpwwc"),
        # Without one for warning, as many as for critical.
        (0, 0, 3, True, "pccc", "pppc"),
        # A bad one while it is critical changes nothing, however many are needed.
        (2, 1, 3, True, "cpc", "ccc"),
        # A warning of the target itself stays while failures are too few for critical.
        (0, 1, 3, True, "wccc", "wwwc"),
    ],
)
def test_thresholds(successes, warning, critical, first, results, expected):
    definition = CheckDefinition(
        successes=successes, failures_warning=warning, failures_critical=critical
    )
    assert says(Judge(definition, "critical", is_first=first), results) == expected


def test_a_status_that_was_given_is_where_the_thresholds_begin():
    judge = Judge(CheckDefinition(failures_critical=2), "passing", is_first=False)
    assert says(judge, "cc") == "pc"


def ttl(seconds: float, **more) -> CheckDefinition:
    return CheckDefinition(kind="ttl", ttl_ns=int(seconds * 1e9), **more)


def registered(definition: CheckDefinition, *, told: int = 0, defined: int = 5, **more) -> Check:
    fields = {"status": "critical", "output": "", "modify_index": 5, **more}
    return Check(1, "c", "c", definition=definition, defined=defined, told=told, **fields)


def running(definition: CheckDefinition, now: float = 100.0, **more) -> Running:
    return Running(registered(definition, **more), definition, now)


def test_a_ttl_is_over_when_its_time_has_passed_since_the_last_word():
    one = running(ttl(10), 100.0)
    one.word_at = 104.0
    one.say("passing", "fine")
    assert one.newest(113.99) == ("passing", "fine")
    assert one.newest(114.0) == (
        "critical",
        "TTL expired (last output before timeout follows): fine",
    )
    one.expire()
    assert (one.status, one.output, one.is_over) == (*one.newest(114.0), True)


def test_a_ttl_without_a_word_says_only_that_it_is_over():
    one = running(ttl(10))
    one.expire()
    assert one.output == EXPIRED
    one.start(200.0)
    one.expire()
    assert one.output == EXPIRED, "what is over twice does not quote itself"


@pytest.mark.parametrize(
    ("seconds", "grain"), [(0.01, 0.005), (0.1, 0.005), (0.5, 0.025), (1, 0.05), (600, 0.05)]
)
def test_the_end_of_a_ttl_is_looked_at_a_twentieth_of_it_later_at_most(seconds, grain):
    one = running(ttl(seconds), 100.0123)
    assert one.expires_at <= one.ttl_due <= one.expires_at + grain


def test_the_same_ttl_registered_again_does_not_start_anew():
    one = running(ttl(10), 100.0)
    one.word_at = 101.0
    one.say("passing", "fine")
    changed = ttl(10, deregister_after_ms=60_000)
    one.redefine(registered(changed, defined=9), changed, 105.0)
    assert (one.word_at, one.status, one.output, one.defined) == (101.0, "passing", "fine", 9)


def test_another_ttl_starts_anew():
    one = running(ttl(10), 100.0)
    one.redefine(registered(ttl(20), defined=9), ttl(20), 105.0)
    assert one.expires_at == 125.0


def test_a_status_that_a_registration_gives_starts_a_ttl_anew():
    one = running(ttl(10), 100.0)
    one.expire()
    one.take_status(registered(ttl(10), told=9, status="passing", modify_index=9), 150.0)
    assert one.newest(159.9) == ("passing", "")
    assert one.newest(160.0)[0] == "critical"


def test_a_definition_of_another_kind_begins_with_what_the_log_says():
    one = running(ttl(10), 100.0)
    one.say("passing", "fine")
    http = CheckDefinition(kind="http", http="http://h/", interval_ns=10**9)
    one.redefine(registered(http, defined=9, modify_index=9), http, 105.0)
    assert (one.status, one.output, one.ttl_s, one.interval_s) == ("critical", "", 0, 1)


def test_the_next_run_is_one_interval_after_the_last_was_due_and_missed_ones_are_left_out():
    one = running(CheckDefinition(kind="tcp", tcp="h:1", interval_ns=10 * 10**9), 100.0)
    assert one.next_due(100.001) == pytest.approx(110.0)
    assert one.next_due(118.0) == pytest.approx(120.0)
    assert one.next_due(153.0) == pytest.approx(160.0)
    assert one.next_due(160.0) == pytest.approx(170.0)


def test_a_word_is_cut_to_the_bytes_that_the_definition_keeps():
    one = running(ttl(10, output_max=4))
    one.say("passing", "abcdef")
    assert one.output == "abcd… (captured 4 of 6 bytes)"
