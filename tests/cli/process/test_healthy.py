"""What counts as healthy, and that the wait for it ends."""

from __future__ import annotations

import re

import httpx
import msgspec
import pytest

from hstore.cli.process import healthy
from hstore.cli.process.healthy import Part, wait_healthy
from hstore.node.errors import Refused

A = "127.0.0.1:8500"
PART = Part("n1", A, f"{1:016x}")


def sees(make, **changes):
    return make.info(make.node(1, **changes), make.node(2))


@pytest.mark.parametrize("kind", ["leader", "follower"])
def test_a_voter_that_is_alive_is_healthy(make_finder, cluster, make, kind):
    cluster.set(A, "/v1/cluster", sees(make, type=kind))
    found = wait_healthy(PART, make_finder())
    assert found.node is not None
    assert found.node.type == kind


def test_a_newcomer_is_waited_for_until_it_votes(make_finder, cluster, make):
    steps = [
        None,  # nothing listens yet
        sees(make, type="learner", voter=False, health="joining"),
        sees(make, type="learner", voter=False),
        sees(make, type="follower"),
    ]
    cluster.set(A, "/v1/cluster", steps)
    wait_healthy(PART, make_finder())
    assert len(cluster.asked) == 4


def test_a_learner_for_good_is_healthy_when_it_has_caught_up(make_finder, cluster, make):
    joining = sees(make, type="learner", voter=False, health="joining")
    cluster.set(A, "/v1/cluster", [joining, sees(make, type="learner", voter=False)])
    wait_healthy(PART._replace(learner=True), make_finder())
    assert len(cluster.asked) == 2


@pytest.mark.parametrize("learner", [False, True])
def test_in_a_cluster_that_waits_for_nodes_who_has_joined_is_healthy_without_a_leader(
    make_finder, cluster, make, learner
):
    waiting = [
        msgspec.structs.replace(info, leader=None, waiting_for=3)
        for info in (
            sees(make, type="learner", voter=False, health="joining"),
            sees(make, type="follower", voter=not learner),
        )
    ]
    cluster.set(A, "/v1/cluster", waiting)
    found = wait_healthy(PART._replace(learner=learner), make_finder())
    assert found.node is not None
    assert found.node.health == "alive"


def test_a_node_without_a_leader_says_itself_why(make_finder, cluster, clock, make):
    cluster.set(A, "/v1/cluster", make.info(leader=None))
    why = "n2 at 127.0.0.1:8501 refuses connections; `hstore recover --data-dir /d` shows"
    cluster.set(A, "/v1/health", httpx.Response(503, json={"error": why}))
    with pytest.raises(Refused, match=f"has started, but {re.escape(why)}"):
        wait_healthy(PART, make_finder())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"leader": None}, "no leader: 2 voters make a majority"),
        ({"nodes": []}, "not caught up"),
    ],
)
def test_what_is_missing_is_said_when_the_wait_is_over(
    make_finder, cluster, clock, make, changes, why
):
    cluster.set(A, "/v1/cluster", make.info(**changes))
    with pytest.raises(Refused, match=why):
        wait_healthy(PART, make_finder())
    assert clock.now() <= 31


def test_a_node_that_makes_progress_is_waited_for_longer_and_not_for_ever(
    make_finder, cluster, clock, make, monkeypatch
):
    monkeypatch.setattr(healthy, "_PAUSE_S", 5.0)
    looks = [sees(make, health="joining", applied_index=index) for index in range(200)]
    cluster.set(A, "/v1/cluster", looks)
    with pytest.raises(Refused, match="not caught up"):
        wait_healthy(PART, make_finder())
    assert 500 < clock.now() < 700


def test_the_check_ends_the_wait(make_finder):
    def check():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wait_healthy(PART, make_finder(), check)


def test_the_part_of_a_node_is_in_its_record(make):
    assert Part.of(make.record(2)) == Part("n2", "127.0.0.1:8501", f"{2:016x}")
    assert Part.of(msgspec.structs.replace(make.record(2), learner=True)).learner
