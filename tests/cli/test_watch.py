"""Following a cluster from node to node."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from hstore.cli.client import Unreachable
from hstore.cli.watch import GIVE_UP_S, Lost, follow, show
from hstore.node.cluster import ClusterInfo

A, B, C = (f"127.0.0.1:{port}" for port in (8500, 8501, 8502))


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


def test_without_a_terminal_each_change_is_a_line(make):
    out = io.StringIO()
    console = Console(file=out, width=20)
    failed = make.info(make.node(1), make.node(2, health="failed"), make.node(3))
    show(iter([make.info(), Lost(A, "gone"), make.info(), failed]), console)
    assert out.getvalue().splitlines() == [
        "n1: 127.0.0.1:8500 alive leader",
        "n2: 127.0.0.1:8501 alive follower",
        "n3: 127.0.0.1:8502 alive follower",
        "cluster: leader n1, term 2, can lose 1 node",
        "n2: failed follower, was alive follower",
    ]


def test_as_json_each_sight_of_the_cluster_is_a_line(make):
    out = io.StringIO()
    console = Console(file=out, width=20, force_terminal=True)
    show(iter([make.info(), Lost(A, "gone"), make.info(term=3)]), console, as_json=True)
    shown = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["term"] for one in shown] == [2, 3]


def test_a_terminal_shows_the_newest_state_and_why_the_watched_node_is_lost(make):
    out = io.StringIO()
    console = Console(file=out, width=60, force_terminal=True, color_system=None)
    sightings = iter([make.info(), make.info(term=3), Lost(A, "the node has ended")])
    show(sightings, console, footer=lambda info: f"seen in term {info.term}")
    last = out.getvalue().rpartition("cluster 00")[2]
    assert "term 3" in last
    assert "seen in term 3" in last
    assert "the node has ended" in last
