"""What a person reads, as text."""

from __future__ import annotations

import re

import httpx
import msgspec
import pytest
from rich.console import Console

from hstore.cli.search.find import Found
from hstore.cli.show import tables
from hstore.cli.show.listing import show_once
from hstore.node.cluster.alarms import ALARMS


def text(renderable, width, **options):
    console = Console(width=width, **options)
    with console.capture() as captured:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def test_name_address_health_and_type_are_shown_for_every_node(make):
    info = make.info(
        make.node(1), make.node(2, health="failed"), make.node(10, type="learner", health="joining")
    )
    assert text(tables.cluster_view(info, 45), 45) == (
        "cluster 00000000000000c1  zone hstore.local\n"
        "term 2  leader n1  quorum 2  can lose 1 node\n"
        "! failed: n2\n"
        "NAME  ADDRESS         HEALTH   TYPE\n"
        "n1    127.0.0.1:8500  alive    leader\n"
        "n2    127.0.0.1:8501  failed   follower\n"
        "n10   127.0.0.1:8509  joining  learner"
    )


def test_without_a_leader_nothing_is_said_of_how_many_may_fail(make):
    """The last leader's view may be of before the majority was lost."""
    lost = make.info(leader=None, failure_tolerance=1)
    assert "can lose" not in text(tables.cluster_view(lost, 120), 120)
    assert tables.changes(make.info(), lost) == ["cluster: no leader, term 2"]


def test_more_columns_are_shown_where_there_is_room_and_all_in_a_wide_terminal(make):
    table = tables.node_table(make.info(make.node(1)), 60)
    assert text(table, 60) == (
        "NAME  ADDRESS         HEALTH  TYPE    VOTER  APPLIED     UP\n"
        "n1    127.0.0.1:8500  alive   leader  yes         17  1m15s"
    )
    wide = text(tables.node_table(make.info(make.node(2, uptime_s=None)), 200), 200)
    assert wide == (
        "NAME  ADDRESS         HEALTH  TYPE      VOTER  APPLIED  LAG  CONTACT  TERM  WRITES/S  FSYNC  "
        "FREE/NEEDED  UP  VERSION  COMMIT  DNS             PEER            ID\n"
        "n2    127.0.0.1:8501  alive   follower  yes         17    0    42 ms     2         -      -  "
        "          -   -  0.1.0    "
        "    17  127.0.0.1:8601  127.0.0.1:8301  0000000000000002"
    )


def test_a_terminal_too_narrow_for_the_table_gets_two_lines_for_each_node(make):
    info = make.info(make.node(1, name="a-rather-long-name"), make.node(2))
    shown = text(tables.cluster_view(info, 30), 30)
    assert shown.splitlines()[-5:] == [
        "a-rather-long-name leader",
        "alive",
        "  127.0.0.1:8500",
        "n2 follower alive",
        "  127.0.0.1:8501",
    ]


@pytest.mark.parametrize("width", [10, 17, 20, 25, 36, 37, 38, 50, 80, 120, 250])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(make, width):
    info = make.info(make.node(1, name="longer-name"), make.node(2), failure_tolerance=0)
    shown = text(tables.cluster_view(info, width), width)
    assert all(len(line) <= width for line in shown.splitlines())
    assert "…" not in shown
    for fact in ("longer-name", "127.0.0.1:8501", "follower", "alive", "voters", "survive"):
        assert fact in shown.replace("\n", "")


def test_what_is_not_known_is_a_dash(make):
    unknown = make.node(
        2, term=None, commit_index=None, applied_index=None, last_contact_ms=None,
        version=None, uptime_s=None,
    )  # fmt: skip
    row = text(tables.node_table(make.info(unknown), 200), 200).splitlines()[1]
    assert row.split()[4:15] == ["yes", *["-"] * 10]


def test_a_hundred_columns_hold_all_that_an_operator_asks_first(make):
    info = make.info(make.node(1, uptime_s=86_399), make.node(2), make.node(3))
    titles = text(tables.node_table(info, 100), 100).splitlines()[0].split()
    assert titles == [
        "NAME", "ADDRESS", "HEALTH", "TYPE", "VOTER", "APPLIED", "LAG", "CONTACT", "TERM",
        "WRITES/S", "FSYNC", "UP",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "host", "seconds"), [(1, "127.0.0.1", 86_399), (12, "192.168.100.101", 90_000)]
)
def test_eighty_columns_always_have_room_for_how_long_a_node_is_up(make, number, host, seconds):
    # It was the last column, and so the first to go: with longer addresses, or after a minute.
    node = make.node(
        number, address=f"{host}:18500", uptime_s=seconds, applied_index=123_456_789,
        commit_index=123_456_789, term=1234, last_contact_ms=9999, health="recovering",
    )  # fmt: skip
    shown = text(tables.node_table(make.info(node, make.node(2, type="follower")), 80), 80)
    assert "UP" in shown.splitlines()[0].split()
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_writes_flushes_and_room_on_the_disk_are_shown_where_there_is_room(make):
    figures = {"disk_free": 76 << 30, "disk_needed": 268_435_456, "fsync_ms": 1.469}
    nodes = [
        make.node(1, writes_per_s=39.13, **figures),
        make.node(2, writes_per_s=12_345.6, **(figures | {"fsync_ms": 104.0})),
        make.node(3, writes_per_s=0.0, **(figures | {"disk_free": 5_000_000})),
    ]
    shown = text(tables.node_table(make.info(*nodes), 120), 120)
    for row, told in zip(
        shown.splitlines()[1:],
        ["39.1  1.47 ms     76G/256M", "12346   104 ms     76G/256M", "0  1.47 ms    4.8M/256M"],
        strict=True,
    ):
        assert f"{told}  1m15s" in row
    assert tables.rest_of_table(make.info(*nodes), 120) is None
    rest = text(tables.rest_of_table(make.info(*nodes), 80), 80).splitlines()
    assert rest[0].split() == ["NAME", "WRITES/S", "FSYNC", "FREE/NEEDED"]


LONG = "f" * 63


@pytest.mark.parametrize("name", ["n1", "a-name-of-some-length", LONG])
@pytest.mark.parametrize("address", ["127.0.0.1:8500", "[2001:db8:85a3::8a2e:370:7334]:18500"])
@pytest.mark.parametrize("width", [80, 100, 120])
def test_from_eighty_columns_on_no_word_is_broken(make, name, address, width):
    missing = "; start it, or `hstore recover --data-dir /var/lib/hstore/8500` shows how to go on"
    info = make.info(
        make.node(1, name=name, address=address, reason="does not answer" + missing, health="failed"),
        make.node(2, address=address, health="recovering", reason="lost acknowledged log"),
        leader=name, failure_tolerance=0,
    )  # fmt: skip
    shown = text(tables.cluster_view(info, width), width)
    assert all(len(line) <= width for line in shown.splitlines())
    words = [name, address, *missing.split()[1:], "acknowledged", "recovering", "leader"]
    for word in words:
        assert (
            word in shown.replace("\n", " ").split() or f"{word}," in shown or f"{word})" in shown
        )


def test_a_text_is_broken_between_words_and_a_word_only_where_no_line_can_hold_it():
    assert tables.wrapped("one two three four", 9, indent=2) == "one two\n  three\n  four"
    assert tables.wrapped("! a-long-word-of-more-than-nine b", 9, indent=2).splitlines()[1:] == [
        "  a-long-word-of-more-than-nine",
        "  b",
    ]


def test_no_colour_is_used_that_a_light_or_a_dark_ground_hides(make):
    healths = ("alive", "suspect", "failed", "stopped", "joining", "recovering")
    info = make.info(*(make.node(n, health=one) for n, one in enumerate(healths, 1)), leader=None)
    shown = text(tables.cluster_view(info, 200), 200, force_terminal=True, color_system="standard")
    codes = {code for found in re.findall(r"\x1b\[([0-9;]+)m", shown) for code in found.split(";")}
    # Bold, dim, red, green and magenta; not black, yellow, blue, cyan or white, and no background.
    assert codes <= {"0", "1", "2", "31", "32", "35"}


def test_where_no_colour_is_wanted_there_is_none(make, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    info = make.info(make.node(1, health="failed"), leader=None)
    shown = text(tables.cluster_view(info, 200), 200, force_terminal=True, color_system="standard")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", shown)
    assert "failed" in shown


def test_lag_is_counted_from_the_furthest_commit_that_anybody_reports(make):
    info = make.info(make.node(1, commit_index=20, applied_index=19), make.node(2), make.node(3))
    rows = text(tables.node_table(info, 80), 80).splitlines()[1:]
    assert [row.split()[6] for row in rows] == ["1", "3", "3"]


@pytest.mark.parametrize(
    ("last_contact_ms", "shown"), [(9999, "9999 ms"), (10_000, "10s"), (3_600_000, "1h00m")]
)
def test_last_contact_is_never_wider_than_its_title(make, last_contact_ms, shown):
    info = make.info(make.node(2, last_contact_ms=last_contact_ms))
    table = text(tables.node_table(info, 80), 80)
    assert shown in table
    assert len(shown) <= len("CONTACT")


@pytest.mark.parametrize(
    ("nodes", "changes", "said"),
    [
        ([{}, {}, {}], {}, []),
        ([{}], {"failure_tolerance": 0}, ["1 voter survives no failure; three survive one"]),
        ([{}, {}], {"failure_tolerance": 0}, ["2 voters survive no failure; three survive one"]),
        ([{}] * 4, {}, ["4 voters survive no more failures than 3"]),
        ([{}, {}, {"voter": False}, {"health": "suspect"}], {}, ["suspect: n4"]),
        (
            [{}, {}],
            {"leader": None, "waiting_for": 3, "failure_tolerance": 0},
            [
                "waiting for 3 nodes before any client is served: 2 are there, `hstore join` adds one"
            ],
        ),
        (
            [{}, {}, {"health": "failed"}],
            {"failure_tolerance": 0},
            ["failed: n3", "if one more voter fails, there will be no leader"],
        ),
        (
            [{}, {"health": "failed", "reason": "does not answer"}, {"health": "failed"}],
            {},
            ["failed: n2 (does not answer), n3"],
        ),
        (
            [{}, {}, {"health": "recovering", "reason": "lost acknowledged log: all of it"}],
            {},
            ["n3 is recovering: lost acknowledged log: all of it"],
        ),
        (
            [{}, {}, {"health": "stopped", "reason": "stopped on purpose, and still a voter"}],
            {},
            ["n3 is stopped on purpose, and still a voter"],
        ),
        (
            [{}, {"health": "failed"}, {"health": "failed"}],
            {"leader": None, "failure_tolerance": 0},
            [
                "no leader: electing one takes 2 live voters, and of 3 1 is live",
                "failed: n2, n3",
            ],
        ),
        (
            [{}, {}, {"health": "failed"}],
            {"leader": None, "failure_tolerance": 0},
            [
                (
                    "no leader: electing one takes 2 live voters; "
                    "the health below is what the last leader saw"
                ),
                "failed: n3",
            ],
        ),
    ],
    ids=[
        "well",
        "one",
        "two",
        "four",
        "suspect",
        "waiting",
        "no margin",
        "reason",
        "recovering",
        "stopped",
        "no leader",
        "no leader, by a last view in which there were enough",
    ],
)
def test_what_an_operator_should_know_is_said_the_worst_first(make, nodes, changes, said):
    nodes = [make.node(number, **one) for number, one in enumerate(nodes, 1)]
    assert tables.warnings(make.info(*nodes, **changes)) == said


def test_alarms_that_members_raise_are_said_with_what_to_do(make):
    nodes = [
        make.node(1, alarms=("clock_jump", "no_quorum_margin")),
        make.node(2, alarms=("replica_differs", "of_a_newer_version")),
        make.node(3, alarms=("replica_differs",)),
        make.node(4, alarms=("disk_short",), health="failed"),
        make.node(5),
    ]
    said = tables.warnings(make.info(*nodes))
    assert said[0] == "failed: n4"
    assert [line.split(":")[0] for line in said[1:]] == [
        "copies of the data differ, found by n2, n3",
        "the clock of n1 was set at once",
        "of a newer version, an alarm of n2",
    ]
    assert said[-1].endswith("`hstore monitor -h 127.0.0.1:8501` says what to do")
    for width in (40, 80, 200):
        shown = text(tables.cluster_view(make.info(*nodes), width), width)
        assert "! copies of the data differ" in shown
        assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize("kind", [kind for kind in ALARMS if kind not in {"certificate", "ca_key"}])
def test_each_kind_of_alarm_has_its_own_words(make, kind):
    said = tables.warnings(make.info(make.node(1, alarms=(kind,)), make.node(2), make.node(3)))
    assert not any("an alarm of" in line for line in said)
    assert len(said) == (kind not in {"lost_log", "no_quorum_margin"})


def test_markup_in_a_name_is_text(make):
    info = make.info(make.node(1, name="[red]n1", version="[/]"), leader="[red]n1")
    shown = text(tables.cluster_view(info, 150), 150, force_terminal=True)
    assert shown.count("[red]n1") == 2
    assert "[/]" in shown


def test_without_a_leader_the_headline_says_so(make):
    assert "no leader" in tables.headline(make.info(leader=None), 80).plain


def test_colour_is_for_terminals_that_want_it(make):
    table = tables.node_table(make.info(make.node(1, health="failed")), 80)
    colourful = text(table, 80, force_terminal=True, color_system="standard")
    assert "\x1b[1;31mfailed" in colourful
    assert "\x1b" not in text(table, 80)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(5, "5s"), (75, "1m15s"), (3600, "1h00m"), (86_399, "23h59m"), (90_000, "1d01h")],
)
def test_uptime_is_written_in_its_two_largest_units(make, seconds, shown):
    row = text(tables.node_table(make.info(make.node(1, uptime_s=seconds)), 200), 200)
    assert shown in row.splitlines()[1].split()


def test_the_first_sight_of_a_cluster_is_told_node_by_node(make):
    assert tables.changes(None, make.info(make.node(1), make.node(2))) == [
        "n1: 127.0.0.1:8500 alive leader",
        "n2: 127.0.0.1:8501 alive follower",
        "cluster: leader n1, term 2, can lose 1 node",
    ]


def test_how_many_nodes_may_fail_is_told_when_it_changes(make):
    fewer = make.info(failure_tolerance=0)
    assert tables.changes(make.info(), fewer) == ["cluster: leader n1, term 2, can lose 0 nodes"]


def test_a_watch_prints_the_reason_of_a_member_in_a_line_of_its_own_once(make):
    well = make.info(make.node(1), make.node(2))
    lost = make.info(make.node(1), make.node(2, health="failed", reason="does not answer"))
    refuses = make.info(make.node(1), make.node(2, health="failed", reason="refuses connections"))
    told = ["n2: failed follower, was alive follower", "n2: does not answer"]
    assert tables.changes(well, lost) == told
    assert tables.changes(lost, lost) == []
    assert tables.changes(lost, refuses) == ["n2: refuses connections"]
    assert tables.changes(lost, well) == ["n2: alive follower, was failed follower"]
    assert "n2: does not answer" in tables.changes(None, lost)


def test_a_list_in_a_pipe_has_a_last_column_of_reasons_where_there_are_any(make, capfd):
    reason = "lost acknowledged log: " + "x" * 200
    info = make.info(make.node(1), make.node(2, health="recovering", reason=reason))
    assert show_once(Found("127.0.0.1:8500", info)) == 0
    head, first, second = capfd.readouterr().out.splitlines()
    assert head.endswith("REASON")
    assert first.endswith(" -")
    assert second.endswith(reason)
    assert show_once(Found("127.0.0.1:8500", make.info())) == 0
    assert "REASON" not in capfd.readouterr().out


def test_a_list_without_a_leader_asks_the_node_why(make, cluster, capfd):
    address = "127.0.0.1:8500"
    why = "these are missing: n2; `hstore recover --data-dir /d` shows how to go on"
    cluster.set(address, "/v1/health", httpx.Response(503, json={"error": why}))
    found = Found(address, make.info(leader=None))
    assert show_once(found, cluster.connect) == 1
    assert capfd.readouterr().err == f"hstore: the node at {address} says: {why}\n"
    cluster.set(address, "/v1/health", httpx.ConnectError("gone"))
    assert show_once(found, cluster.connect) == 1
    assert "electing one takes 2 live voters" in capfd.readouterr().err


def test_each_change_is_one_line_and_figures_are_none(make):
    before = make.info(make.node(1), make.node(2), make.node(3))
    assert tables.changes(before, msgspec.structs.replace(before, quorum=9)) == []
    figures = make.info(make.node(1, applied_index=99, uptime_s=80), make.node(2), make.node(3))
    assert tables.changes(before, figures) == []
    after = make.info(
        make.node(1, health="failed", type="follower"),
        make.node(2, type="leader", name="two", address="127.0.0.1:9000"),
        make.node(4, health="joining", type="learner"),
        leader="two",
        term=3,
        failure_tolerance=0,
    )
    assert tables.changes(before, after) == [
        "n1: failed follower, was alive leader",
        "two: was n2",
        "two: now at 127.0.0.1:9000, was at 127.0.0.1:8501",
        "two: alive leader, was alive follower",
        "n4: 127.0.0.1:8503 joining learner",
        "n3: left the cluster",
        "cluster: leader two, term 3, can lose 0 nodes",
    ]
