"""The benchmark's own arithmetic: what its tables say of figures, and how it reads those of tools.

Nothing is measured here; `make bench` does that.
"""

from __future__ import annotations

import json

import pytest

from tests.bench import (
    abuse,
    floor,
    machine,
    names,
    outage,
    report,
    resolvers,
    rows,
    svc_register,
    wrk,
)
from tests.bench.plan import Plan, Rows, guarded
from tests.bench.processes import Failed
from tests.bench.rows import Row, Target
from tests.system.resolvers import PROGRAMS


def test_a_ratio_is_that_of_neighbours_and_not_of_medians() -> None:
    row = rows.paired("put", "", [(10.0, 10.0), (40.0, 20.0), (30.0, 90.0)])

    assert row.ratios == (1.0, 2.0, pytest.approx(1 / 3))
    assert rows.ratio(row.ratios) == "1.00 (0.33 to 2.00)"


def test_a_void_row_has_neither_figures_nor_ratios() -> None:
    row = rows.paired("put", "ms", [(1.0, 2.0)], void="etcd: 3 status errors")

    assert row.ours == ()
    assert row.ratios == ()


def test_nothing_is_divided_by_zero() -> None:
    assert Row("elections", "", (0.0,), (0.0,)).ratios == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.5, "1.50"),
        (99.96, "100.0"),
        (123.4, "123"),
        (7928, "7,928"),
    ],
)
def test_a_figure_has_three_digits_or_more(value: float, text: str) -> None:
    assert rows.figure(value) == text


@pytest.mark.parametrize(("percent", "value"), [(50, 2), (75, 3), (99, 4), (0, 1)])
def test_a_percentile_is_a_value_that_occurred(percent: float, value: float) -> None:
    assert rows.percentile([4, 1, 3, 2], percent) == value


def test_a_table_shows_medians_the_void_row_with_its_reason_and_notes_once() -> None:
    given = [
        rows.paired("put", "ms", [(1.0, 2.0), (3.0, 2.0), (2.0, 2.0)], note="Said."),
        rows.paired("get", "ms", [], void="hstore: 2 timeout errors", note="Said."),
    ]

    assert rows.tables(given).splitlines() == [
        "| | hstore | etcd | ratio (lowest to highest) | pairs |",
        "|---|---|---|---|---|",
        "| put, ms [1] | 2.00 | 2.00 | 1.00 (0.50 to 1.50) | 3 |",
        "| get, ms [1] | void: hstore: 2 timeout errors |  |  |  |",
        "",
        "[1] Said.  ",
    ]


def test_rows_of_others_have_a_table_of_their_own() -> None:
    alone = Row("SET", "", (5.0, 7.0), labels=("redis", ""))

    assert rows.tables([Row("put", "", (1.0,), (1.0,)), alone]).splitlines()[4:] == [
        "| | redis (lowest to highest) | runs |",
        "|---|---|---|",
        "| SET | 6.00 (5.00 to 7.00) | 2 |",
    ]


def test_what_was_not_measured_is_not_shown_as_a_figure() -> None:
    assert "| stall | not measured | 0 |" in rows.tables([Row("stall", labels=("hstore", ""))])


TARGET = Target("both", "at least 2.0", ("a", "b"), least=2.0, zero=("refused",))


def measured(a: float, b: float, refused: float) -> list[Row]:
    return [
        Row("a", "", (a,), (1.0,)),
        Row("b", "", (b,), (1.0,)),
        Row("refused", "", (refused,), (1.0,)),
    ]


@pytest.mark.parametrize(
    ("figures", "is_reached"),
    [((2.0, 3.0, 0), True), ((1.9, 3.0, 0), False), ((2.0, 1.9, 0), False), ((2.0, 2.0, 1), False)],
)
def test_a_target_is_reached_by_all_of_its_rows(
    figures: tuple[float, float, float], is_reached: bool
) -> None:
    assert rows.verdict(TARGET, measured(*figures))[1] is is_reached


@pytest.mark.parametrize("of_b", [[], [Row("b", void="no answers")]])
def test_a_target_with_a_row_that_is_void_or_missing_is_not_reached(of_b: list[Row]) -> None:
    a, _, refused = measured(9.0, 9.0, 0)

    said, is_reached = rows.verdict(TARGET, [a, *of_b, refused])

    assert is_reached is None
    assert ("void: no answers" if of_b else "b: not measured") in said


def test_one_row_that_fails_decides_although_another_is_void() -> None:
    given = [Row("a", "", (1.0,), (1.0,)), Row("b", void="no answers")]

    assert rows.verdict(TARGET, given)[1] is False


OF_FIGURES = Target("outage", "median at most 1.0, none above 3.1", ("a",), median=1.0, worst=3.1)


@pytest.mark.parametrize(
    ("figures", "is_reached"),
    [
        ((0.1, 1.0, 3.1), True),
        ((0.1, 1.1, 1.2), False),
        ((0.1, 0.2, 3.2), False),
        ((), None),
    ],
)
def test_a_target_of_figures_looks_at_their_median_and_the_worst(
    figures: tuple[float, ...], is_reached: bool | None
) -> None:
    assert rows.verdict(OF_FIGURES, [Row("a", "", figures)])[1] is is_reached


def test_the_targets_of_the_resolvers_name_rows_that_are_measured() -> None:
    named = {name for target in resolvers.TARGETS for name in target.rows}
    measured = {
        resolvers.row_name(loss, system)
        for loss in (outage.Loss.KILL, outage.Loss.HALT)
        for system in PROGRAMS
    }
    own_waits = {
        resolvers.row_name(outage.Loss.KILL, "knot"),
        resolvers.row_name(outage.Loss.HALT, "knot"),
        resolvers.row_name(outage.Loss.HALT, "systemd-resolved"),
    }
    assert measured - named == own_waits


BOUNDED = Target("turns", "at most 100 ms", ("a", "b"), worst=100)


@pytest.mark.parametrize(("b", "is_reached"), [(100.0, True), (101.0, False)])
def test_a_bound_holds_for_the_highest_figure_of_each_row(b: float, is_reached: bool) -> None:
    given = [Row("a", "ms", (1.0, 2.0)), Row("b", "ms", (3.0, b))]

    assert rows.verdict(BOUNDED, given) == (f"b: {b:.0f}", is_reached)


def test_a_bound_on_rows_that_were_not_all_measured_is_not_known_to_hold() -> None:
    assert rows.verdict(BOUNDED, [])[1] is None
    assert rows.verdict(BOUNDED, [Row("a", "ms", (1.0,)), Row("b", void="gone")])[1] is None
    assert rows.verdict(BOUNDED, [Row("a", "ms", (101.0,))])[1] is False


def test_what_one_section_needs_is_asked_for_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_which", lambda tool: "/bin/wrk" if tool == "wrk" else None)

    assert machine.missing_tools(abuse.TOOLS) == ""
    assert "etcd" in machine.missing_tools()


def test_each_target_has_a_line_in_the_results() -> None:
    plan = Plan(machine.ROOT)

    text = report.document(plan, {"date": "today"}, "command", [])

    assert all(f"| {target.line} | {target.text} |" in text for target in report.TARGETS)


# -- what fails -----------------------------------------------------------------------------


def test_a_section_that_fails_keeps_its_rows_and_adds_a_void_one() -> None:
    def section() -> Rows:
        yield Row("put", "", (1.0,), (1.0,))
        raise ExceptionGroup("tasks", [Failed("wrk did not end")])

    first, second = guarded("put", section())

    assert first.ours == (1.0,)
    assert second == Row("put, the rest", void="Failed: wrk did not end")


# -- what tools say -------------------------------------------------------------------------

WRK = """Running 1s test @ http://127.0.0.1:8500
  1 threads and 64 connections
  4000 requests in 1.00s, 0.50MB read
figures 4000 0.500000 14.300 32.100 0 0 0 3 1
"""


def test_wrk_gives_answers_per_second_and_errors_by_kind() -> None:
    run = wrk.parse(WRK)

    assert (run.per_second, run.p50_ms, run.p99_ms) == (8000, 14.3, 32.1)
    assert run.void == "3 status errors, 1 timeout errors"


def test_a_run_of_wrk_without_errors_counts_and_one_without_answers_does_not() -> None:
    assert not wrk.parse("figures 1 1.0 1 1 0 0 0 0 0").void
    assert wrk.parse("figures 0 1.0 0 0 0 0 0 0 0").void == "no answers"


def test_wrk_without_figures_is_a_failure() -> None:
    with pytest.raises(Failed, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:8500 Connection refused\n")


DNSPERF = """Statistics:

  Queries sent:         80221
  Queries completed:    80214 (99.99%)
  Queries lost:         {lost}

  Response codes:       {codes}
  Average packet size:  request 37, response 53
  Run time (s):         2.000000
  Queries per second:   40107.500000
"""


@pytest.mark.parametrize(
    ("lost", "codes", "void"),
    [
        ("0 (0.00%)", "NOERROR 80214 (100.00%)", ""),
        ("7 (0.01%)", "NOERROR 80214 (100.00%)", "7 questions lost"),
        ("0 (0.00%)", "NOERROR 80000 (99.73%), SERVFAIL 214 (0.27%)", "SERVFAIL 214 (0.27%)"),
    ],
)
def test_dnsperf_counts_only_without_losses_and_errors(lost: str, codes: str, void: str) -> None:
    said = names.parse(DNSPERF.format(lost=lost, codes=codes))

    assert (said.per_second, said.seconds, said.void) == (40107.5, 2.0, void)


def test_redis_and_etcdctl_give_requests_per_second() -> None:
    csv = '"test","rps","avg_latency_ms"\n"SET","30140.5","2.1"\n'

    assert floor.parse_redis(csv) == 30140.5
    assert floor.parse_check_perf("100.00% 1m0s\nFAIL: Throughput too low: 3456 writes/s") == 3456
    assert floor.parse_check_perf("PASS: Throughput is 150 writes/s") == 150
    with pytest.raises(Failed):
        floor.parse_check_perf("Error: context deadline exceeded")


# -- the machine ----------------------------------------------------------------------------

MOUNTS = """22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /tmp rw,nosuid - tmpfs tmpfs rw
31 22 0:26 / /tmp/real\\040disk rw - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/var/tmp", ("ext4", "/")),
        ("/tmp", ("tmpfs", "/tmp")),
        ("/tmp/a", ("tmpfs", "/tmp")),
        ("/tmpfiles", ("ext4", "/")),
        ("/tmp/real disk/a", ("xfs", "/tmp/real disk")),
    ],
)
def test_a_folder_is_on_the_file_system_mounted_nearest_above(
    path: str, found: tuple[str, str]
) -> None:
    assert machine.file_system_in(MOUNTS, path) == found


def test_all_that_is_missing_is_said_at_once_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = {"etcd", "wrk", "redis-benchmark"}
    monkeypatch.setattr(machine, "_which", lambda tool: None if tool in absent else f"/bin/{tool}")

    assert machine.missing_tools() == (
        "missing: etcd, wrk, redis-benchmark\napt-get install etcd-server wrk redis-tools"
    )


def test_a_target_has_to_be_reached_beside_each_system_that_its_row_was_measured_with() -> None:
    target = Target("put", "at least 2.0", ("put",), least=2.0)
    beside_old = Row("put", "", (30.0,), (10.0,))
    beside_new = Row("put", "", (30.0,), (20.0,), labels=("hstore", "etcd 3.5.1"))

    assert rows.verdict(target, [beside_old]) == ("3.00", True)
    assert rows.verdict(target, [beside_old, beside_new]) == (
        "3.00 beside etcd; 1.50 beside etcd 3.5.1",
        False,
    )


def test_all_members_together_are_asked_for_each_instance_once() -> None:
    found = [
        (name, json.loads(body)["Name"])
        for member in range(3)
        for name, body in svc_register.bodies(member, 3)
    ]

    assert len({name for name, _ in found}) == len(found) == svc_register.INSTANCES
    assert len({name for _, name in found}) == svc_register.NAMES
