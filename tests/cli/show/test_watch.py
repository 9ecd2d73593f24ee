"""Following a cluster from node to node."""

from __future__ import annotations

import io
import json
import os
import select
import termios
import time
from datetime import datetime, timedelta, timezone

import httpx
import pytest
from rich.console import Console

from hstore.cli.client.errors import Unreachable
from hstore.cli.search.find import Found
from hstore.cli.show import screen, watch
from hstore.cli.show.feed import Feed
from hstore.cli.show.watch import GIVE_UP_S, Leaderless, Lost, follow, lines, show
from hstore.node.model.cluster_info import ClusterInfo

A, B, C = (f"127.0.0.1:{port}" for port in (8500, 8501, 8502))


def at_noon():
    return datetime(2026, 11, 30, 12, tzinfo=timezone(timedelta(hours=1)))


def take(sightings, count):
    return [sighting for _, sighting in zip(range(count), sightings, strict=False)]


def test_when_the_watched_node_ends_the_next_live_one_is_followed(cluster, clock, make):
    before = make.info(make.node(1), make.node(2, health="failed"), make.node(3))
    after = make.info(make.node(1, health="failed"), make.node(3), leader="n3")
    cluster.set(A, "/v1/events", make.events(before))
    cluster.set(C, "/v1/events", make.events(after))
    seen = take(follow([A], cluster.connect, clock), 3)
    assert [seen[0], seen[2]] == [before, after]
    assert seen[1] == Lost(A, "the node at 127.0.0.1:8500 has ended")
    assert [address for address, _, _ in cluster.asked] == [A, C]


def test_nodes_that_do_not_answer_are_passed_over_until_one_does(cluster, clock, make):
    cluster.set(A, "/v1/events", [make.events(make.info()), None, make.events(make.info(term=3))])
    seen = [s for s in take(follow([A], cluster.connect, clock), 8) if isinstance(s, ClusterInfo)]
    assert [info.term for info in seen] == [2, 3]
    assert {address for address, _, _ in cluster.asked} == {A, B, C}


def test_at_the_beginning_each_node_is_tried_once(cluster, clock, make):
    with pytest.raises(Unreachable, match="8501"):
        next(follow([A, B], cluster.connect, clock))
    assert [address for address, _, _ in cluster.asked] == [A, B]
    cluster.set(B, "/v1/events", make.events(make.info()))
    assert next(follow([A, B], cluster.connect, clock)) == make.info()


def test_a_watch_ends_when_no_node_has_answered_for_long(cluster, clock, make):
    cluster.set(A, "/v1/events", [make.events(make.info())])
    with pytest.raises(Unreachable):
        take(follow([A], cluster.connect, clock), 10_000)
    assert GIVE_UP_S < clock.now() < GIVE_UP_S + 2


def test_nodes_that_answer_and_end_at_once_are_not_asked_in_a_hot_loop(cluster, clock, make):
    cluster.set(A, "/v1/events", [make.events(make.info()) for _ in range(50)])
    cluster.set(B, "/v1/events", [make.events(make.info()) for _ in range(50)])
    take(follow([A], cluster.connect, clock), 100)
    assert clock.now() > 0.9


def test_when_no_known_node_answers_the_cluster_is_found_by_name(cluster, clock, make):
    moved = make.info(make.node(1, address="127.0.0.1:9999"), leader=None)
    cluster.set(A, "/v1/events", [make.events(make.info(make.node(1)))])
    cluster.set("127.0.0.1:9999", "/v1/events", make.events(moved))
    asked = []

    def find():
        asked.append(len(cluster.asked))
        if len(asked) == 1:
            raise Unreachable("none yet")
        return Found("127.0.0.1:9999", moved)

    seen = follow([A], cluster.connect, clock, find)
    assert next(one for one in seen if one == moved)
    # Not before those that were known have been asked once more, and again after each round.
    assert asked == [2, 3]


def test_another_cluster_at_a_known_address_or_name_is_not_shown(cluster, clock, make):
    other = make.info(cluster_id="00000000000000ff")
    cluster.set(A, "/v1/events", [make.events(make.info(make.node(1))), make.events(other)])
    seen = follow([A], cluster.connect, clock, lambda: Found(B, other))
    assert isinstance(next(seen), ClusterInfo)
    assert isinstance(next(seen), Lost)
    again = next(seen)
    assert isinstance(again, Lost)
    assert "another cluster" in again.reason
    with pytest.raises(Unreachable):
        assert [one for one in seen if isinstance(one, ClusterInfo)] == []
    assert {address for address, _, _ in cluster.asked} == {A}


def test_a_node_without_a_leader_is_asked_why(cluster, clock, make):
    lost = make.info(leader=None)
    reason = httpx.Response(503, json={"error": "waiting for 3 nodes", "outcome": "not applied"})
    cluster.set(A, "/v1/events", make.events(make.info(), lost, lost, make.info()))
    cluster.set(A, "/v1/health", [reason, reason])
    seen = take(follow([A], cluster.connect, clock), 6)
    assert seen[2] == seen[4] == Leaderless(A, "waiting for 3 nodes")
    assert list(lines(seen))[-3:] == [
        "cluster: no leader, term 2",
        "cluster: 127.0.0.1:8500 says: waiting for 3 nodes",
        "cluster: leader n1, term 2, can lose 1 node",
    ]


def test_what_a_stranger_calls_its_nodes_cannot_steer_the_terminal(cluster, clock, make):
    wild = make.node(1, name="\x1b[2Jn1", version="\x9b31m", address="a\nb\u202e")
    cluster.set(A, "/v1/events", make.events(make.info(wild, leader="\x1b[2Jn1")))
    (info,) = take(follow([A], cluster.connect, clock), 1)
    assert info.leader == info.nodes[0].name == r"\x1b[2Jn1"
    assert info.nodes[0].version == r"\u009b31m"
    assert info.nodes[0].address == r"a\nb\u202e"
    out = io.StringIO()
    reason = Lost(A, "\x1b]0;title\x07")
    show(iter([info, reason]), Console(file=out, force_terminal=True, width=200))
    for steering in ("\x1b[2J", "\x9b", "\u202e", "\x07", "\x1b]"):
        assert steering not in out.getvalue()


def test_without_a_terminal_each_change_is_a_line(make):
    out = io.StringIO()
    console = Console(file=out, width=20)
    failed = make.info(make.node(1), make.node(2, health="failed"), make.node(3))
    show(iter([make.info(), Lost(A, "gone"), make.info(), failed]), console, now=at_noon)
    told = [line.split(" ", 1) for line in out.getvalue().splitlines()]
    # The time that a line begins with is one word, so programs can cut it off.
    assert {time for time, _ in told} == {"2026-11-30T12:00:00+01:00"}
    assert "\x1b" not in out.getvalue()
    assert [line for _, line in told] == [
        "n1: 127.0.0.1:8500 alive leader",
        "n2: 127.0.0.1:8501 alive follower",
        "n3: 127.0.0.1:8502 alive follower",
        "cluster: leader n1, term 2, can lose 1 node",
        "n2: failed follower, was alive follower",
    ]


def test_a_terminal_that_cannot_be_redrawn_gets_lines(make, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    show(iter([make.info()]), Console(file=out, width=80, force_terminal=True))
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("\n") == 4


def test_json_for_a_terminal_has_no_raw_control_characters_and_means_the_same(make):
    out = io.StringIO()
    info = make.info(zone="a\x9b\u202e\x7fä")
    show(iter([info]), Console(file=out, force_terminal=True), as_json=True)
    assert out.getvalue().strip().isprintable()
    assert json.loads(out.getvalue())["zone"] == info.zone


def test_as_json_each_sight_of_the_cluster_is_a_line(make):
    out = io.StringIO()
    console = Console(file=out, width=20, force_terminal=True)
    show(iter([make.info(), Lost(A, "gone"), make.info(term=3)]), console, as_json=True)
    shown = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["term"] for one in shown] == [2, 3]
    assert [next(iter(one)) for one in shown] == ["time", "time"]


def test_a_terminal_shows_the_newest_state_and_why_the_watched_node_is_lost(make):
    out = io.StringIO()
    console = Console(file=out, width=60, force_terminal=True, color_system=None)
    sightings = iter([make.info(), make.info(term=3), Lost(A, "the node has ended")])
    show(sightings, console, footer=lambda info: f"seen in term {info.term}")
    last = out.getvalue().rpartition("cluster 00")[2]
    assert "term 3" in last
    assert "seen in term 3" in last
    assert "the node has ended" in last


def shown(console, *sightings, width=80, height=24, footer=None):
    """Return the lines of the last picture on a terminal of that size."""
    console.width, console.height = width, height
    live = watch._Live(console, footer, "ends it", at_noon)
    for sighting in sightings:
        live.take(sighting)
    with console.capture() as captured:
        console.print(live.picture(with_keys=True))
    return [line.rstrip() for line in captured.get().split("\n")]


@pytest.fixture
def console():
    return Console(file=io.StringIO(), force_terminal=True, color_system=None)


def test_a_picture_has_the_lines_of_the_terminal_and_the_last_says_how_it_is_left(make, console):
    for width, height in ((80, 24), (120, 40), (40, 10), (200, 50), (20, 5)):
        lines_shown = shown(console, make.info(), width=width, height=height)
        assert len(lines_shown) - (lines_shown[-1] == "") == height
        assert max(map(len, lines_shown)) <= width
        assert lines_shown[height - 1].startswith("q or Ctrl-C ends it"[:width])
    assert "as of 12:00:00" in "".join(shown(console, make.info()))


def test_what_happened_while_it_was_watched_is_listed_with_its_time(make, console):
    failed = make.info(make.node(1), make.node(2, health="failed"), make.node(3))
    lost = make.info(make.node(1), make.node(2, health="failed"), make.node(3), leader=None)
    elected = make.info(leader="n3", term=3)
    joined = make.info(*(make.node(n) for n in (1, 2, 3, 4)), leader="n3", term=3)
    gone = Lost(A, "the node at A has ended; try another one")
    lines_shown = shown(console, make.info(), failed, gone, lost, elected, joined)
    told = lines_shown[lines_shown.index("EVENTS") + 1 :]
    assert told[:7] == [
        "12:00:00  n2: failed follower, was alive follower",
        "12:00:00  the node at A has ended: asking another node",
        "12:00:00  cluster: no leader, term 2",
        "12:00:00  n2: alive follower, was failed follower",
        "12:00:00  cluster: leader n3, term 3, can lose 1 node",
        "12:00:00  n4: 127.0.0.1:8503 alive follower",
        "",
    ]


def test_the_newest_events_are_shown_where_not_all_fit_and_none_where_nodes_need_the_room(
    make, console
):
    terms = [make.info(term=term) for term in range(2, 60)]
    lines_shown = shown(console, *terms, height=14)
    told = [line for line in lines_shown if line.startswith("12:00:00")]
    assert told[-1].endswith("term 59, can lose 1 node")
    assert "EVENTS" not in shown(console, *terms, width=40, height=8)


def test_ten_lines_of_forty_columns_show_every_node_whatever_is_wrong(make, console):
    nodes = [make.node(n, health="failed", reason="refuses connections") for n in (1, 2)]
    info = make.info(*nodes, make.node(3), leader=None, failure_tolerance=0)
    lines_shown = shown(console, info, Leaderless(A, "word " * 100), width=40, height=10)
    assert [line.split()[0] for line in lines_shown[6:9]] == ["n1", "n2", "n3"]
    assert "no leader" in lines_shown[0]
    assert any("more lines" in line for line in lines_shown)


def test_figures_for_which_the_table_is_too_narrow_have_lines_of_their_own(make, console):
    info = make.info(*(make.node(n, writes_per_s=39.1, fsync_ms=1.5) for n in (1, 2, 3)))
    assert any("39.1  1.50 ms" in line for line in shown(console, info, width=80, height=24))
    assert not any("39.1" in line for line in shown(console, info, width=80, height=9))


def test_q_ends_a_watch_of_a_terminal_and_its_stream_is_closed(make, monkeypatch):
    typed, read = os.openpty()
    monkeypatch.setattr(screen, "keyboard", lambda: read)
    is_closed = []

    def sightings():
        try:
            while True:
                os.write(typed, b"q")
                yield make.info()
                time.sleep(0.01)  # noqa: TID251 - the thread of a node that goes on
        finally:
            is_closed.append(True)

    out = io.StringIO()
    show(sightings(), Console(file=out, width=80, height=24, force_terminal=True))
    end = time.monotonic() + 10
    while not is_closed and time.monotonic() < end:
        time.sleep(0.01)  # noqa: TID251
    assert is_closed
    assert "q or Ctrl-C ends it" in out.getvalue()
    assert "ends it" not in out.getvalue().rpartition("\x1b[?1049l")[2]
    os.close(typed)
    os.close(read)


def test_without_a_keyboard_no_key_is_promised(make, monkeypatch):
    monkeypatch.setattr(screen, "keyboard", lambda: None)
    out = io.StringIO()
    show(iter([make.info()]), Console(file=out, width=80, height=24, force_terminal=True))
    assert "q or" not in out.getvalue()
    assert "Ctrl-C ends it" in out.getvalue()


def test_a_feed_gives_all_items_in_order_and_then_the_error():
    def items():
        yield from range(500)
        raise Unreachable("gone")

    got = []
    with Feed(items()) as feed:
        with pytest.raises(Unreachable):
            while True:
                select.select([feed.fileno()], [], [], 10)
                got += feed.take()[0]
    assert got == list(range(500))


def test_a_watch_that_loses_every_node_gives_the_terminal_back_and_says_why(make, monkeypatch):
    typed, read = os.openpty()
    monkeypatch.setattr(screen, "keyboard", lambda: read)

    def sightings():
        yield make.info()
        raise Unreachable("no node answers")

    out = io.StringIO()
    with pytest.raises(Unreachable, match="no node answers"):
        show(sightings(), Console(file=out, width=80, height=24, force_terminal=True))
    assert termios.tcgetattr(read)[3] & termios.ICANON
    assert "127.0.0.1:8501" in out.getvalue().rpartition("\x1b[?1049l")[2]
    os.close(typed)
    os.close(read)
