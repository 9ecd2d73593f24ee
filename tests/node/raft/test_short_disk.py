"""A node whose disk is short of room leaves the lead to others, but never for ever."""

from __future__ import annotations

from random import Random

import pytest

from hstore.node.raft.events import DiskShort, EarlyElection, PeerDown
from hstore.node.raft.messages import Heartbeat, PreVoteRequest, TimeoutNow, VoteRequest
from hstore.node.raft.options import Options
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    Cluster,
    Node,
    T,
    make_cluster,
    make_follower,
    make_node,
)

LATEST = 3 * T + 2 * T
"""Ticks without a leader after which a node with a short disk has asked for votes."""


def short_follower(**kwargs) -> Node:
    node = make_follower([1], term=1, **kwargs)
    node.step(DiskShort(True))
    node.receive(Heartbeat(2, 1, 1, 0, 1))
    node.sent.clear()
    return node


def test_a_short_node_ignores_a_request_to_take_over() -> None:
    node = short_follower()

    node.receive(TimeoutNow(2, 1, 1))

    assert (node.core.role, node.core.term) == (Role.FOLLOWER, 1)
    assert not node.take(VoteRequest)


def test_it_takes_over_once_it_has_room_again() -> None:
    node = short_follower()
    node.step(DiskShort(False))

    node.receive(TimeoutNow(2, 1, 1))

    assert node.core.role is Role.CANDIDATE


def test_a_short_node_stands_only_after_four_timeouts_without_a_leader() -> None:
    node = short_follower()

    node.tick(4 * T - 1)
    assert not node.take(PreVoteRequest)

    node.tick(LATEST - 4 * T + 1)
    assert {m.to for m in node.take(PreVoteRequest)} == {2, 3}


def test_a_heartbeat_begins_its_wait_anew() -> None:
    node = short_follower()
    node.tick(4 * T - 1)
    node.receive(Heartbeat(2, 1, 1, 0, 2))

    node.tick(4 * T - 1)

    assert not node.take(PreVoteRequest)


def test_ballots_of_others_do_not_begin_its_wait_anew() -> None:
    """Without PreVote a voter that cannot win raises the term with each of its timeouts."""
    node = short_follower(options=Options(pre_vote=False, election_ticks=T))

    for term in range(2, 5):
        node.tick(2 * T)
        node.receive(VoteRequest(3, 1, term, 0, 0))

    assert node.take(VoteRequest)


def test_a_short_node_plans_no_early_election() -> None:
    node = short_follower()

    node.step(PeerDown(2))

    assert node.early == []


def test_a_planned_early_election_is_not_held_by_a_node_that_became_short() -> None:
    node = make_follower([1], term=1)
    node.receive(Heartbeat(2, 1, 1, 0, 1))
    node.step(PeerDown(2))
    node.step(DiskShort(True))
    node.sent.clear()

    node.step(EarlyElection(node.early[-1][0]))

    assert not node.take(PreVoteRequest)


def test_the_only_voter_leads_at_once_though_its_disk_is_short() -> None:
    node = make_node(voters=(1,))
    node.step(DiskShort(True))

    node.tick()

    assert node.core.role in (Role.CANDIDATE, Role.LEADER)


def test_the_voter_with_room_is_elected() -> None:
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.tick()
    cluster[2].step(DiskShort(True))
    cluster.isolate(1)

    cluster.tick(3 * T)

    assert cluster.core(3).role is Role.LEADER


@pytest.mark.parametrize("short", [(2, 3), (2,)])
def test_a_leader_is_found_though_no_voter_with_room_can_win(short: tuple[int, ...]) -> None:
    """Two are short, or the one with room is behind: reads and deletions need a leader all the same."""
    cluster = Cluster(make_node(node, rng=Random(node)) for node in (1, 2, 3))
    cluster.elect(1)
    cluster.tick()
    if short == (2,):
        cluster.isolate(3)
        cluster[1].propose(b"x")
        cluster.settle()
        cluster.heal()
    for node in short:
        cluster[node].step(DiskShort(True))
    cluster.isolate(1)

    cluster.tick(10 * T)

    leaders = [n for n in (2, 3) if cluster.core(n).role is Role.LEADER]
    assert leaders
    assert set(leaders) <= set(short)
