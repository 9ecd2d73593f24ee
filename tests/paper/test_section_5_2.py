"""Section 5.2 of the paper: leader election. Each test quotes the sentence that it claims."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from hstore.node.raft.events import Tick
from hstore.node.raft.messages import Append, Heartbeat, VoteRequest, VoteResponse
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    PAPER,
    T,
    acknowledge,
    append_from,
    make_candidate,
    make_cluster,
    make_follower,
    make_leader,
    make_node,
)


def test_servers_begin_as_followers() -> None:
    """ "When servers start up, they begin as followers." """
    assert make_node(options=PAPER).core.role is Role.FOLLOWER


@pytest.mark.parametrize("role", ["candidate", "leader"])
def test_servers_begin_as_followers_whatever_they_were(role: str) -> None:
    """ "When servers start up, they begin as followers." """
    make = make_candidate if role == "candidate" else make_leader

    core = make([1], term=2, options=PAPER).restart().core

    assert (core.role, core.term, core.vote, core.leader) == (Role.FOLLOWER, 2, 1, 0)


def test_a_follower_that_hears_a_leader_stays_one() -> None:
    """ "A server remains in follower state as long as it receives valid RPCs from a leader or
    candidate."
    """
    node = make_follower([1], term=1, options=PAPER)

    for number in range(100):
        node.tick(node.core.timeout - 1)
        node.receive(Heartbeat(2, 1, 1, 0, number) if number % 2 else append_from(2, 1))

    assert (node.core.role, node.core.term) == (Role.FOLLOWER, 1)


def test_granting_a_vote_keeps_a_follower_one() -> None:
    """ "A server remains in follower state as long as it receives valid RPCs from a leader or
    candidate."
    """
    node = make_follower([1], term=1, options=PAPER)
    node.tick(node.core.timeout - 1)

    node.receive(VoteRequest(2, 1, 1, 1, 1))
    node.tick(node.core.timeout - 1)

    assert (node.core.vote, node.core.role) == (2, Role.FOLLOWER)


def test_leaders_send_periodic_heartbeats_to_all_followers() -> None:
    """ "Leaders send periodic heartbeats (AppendEntries RPCs that carry no log entries) to all
    followers in order to maintain their authority."
    """
    node = make_leader(term=1, options=PAPER)
    acknowledge(node, 2, 3)
    node.sent.clear()

    for _ in range(3):
        node.tick()
        assert [(m.to, m.term) for m in node.take(Heartbeat)] == [(2, 1), (3, 1)]


def test_silence_for_an_election_timeout_begins_an_election() -> None:
    """ "If a follower receives no communication over a period of time called the election
    timeout, then it assumes there is no viable leader and begins an election"
    """
    node = make_follower([1], term=1, options=PAPER)
    node.receive(Heartbeat(2, 1, 1, 0, 1))
    timeout = node.core.timeout

    node.tick(timeout - 1)
    assert node.core.role is Role.FOLLOWER
    node.tick()
    assert node.core.role is Role.CANDIDATE


def test_an_election_begins_with_a_new_term() -> None:
    """ "To begin an election, a follower increments its current term and transitions to
    candidate state."
    """
    node = make_candidate([1], term=5, options=PAPER)

    assert (node.core.term, node.core.role, node.core.leader) == (5, Role.CANDIDATE, 0)


def test_a_candidate_votes_for_itself_and_asks_each_other_server() -> None:
    """ "It then votes for itself and issues RequestVote RPCs in parallel to each of the other
    servers in the cluster."
    """
    node = make_candidate([1, 3], term=4, options=PAPER, voters=(1, 2, 3, 4, 5))

    assert node.core.vote == node.disk.hard_state.vote == 1
    assert node.sent == [VoteRequest(1, to, 4, last_index=2, last_term=3) for to in (2, 3, 4, 5)]


@pytest.mark.parametrize("answers", list(product((True, False, None), repeat=4)))
def test_a_majority_of_the_full_cluster_wins(answers: tuple[bool | None, ...]) -> None:
    """ "A candidate wins an election if it receives votes from a majority of the servers in the
    full cluster for the same term."
    """
    node = make_candidate([1], term=2, options=PAPER, voters=(1, 2, 3, 4, 5))

    for peer, granted in enumerate(answers, 2):
        if granted is not None:
            node.receive(VoteResponse(peer, 1, 2, granted))

    yes, no = answers.count(True), answers.count(False)
    expected = Role.LEADER if yes >= 2 else Role.FOLLOWER if no >= 3 else Role.CANDIDATE
    assert node.core.role is expected


def test_a_single_server_elects_itself() -> None:
    """ "A candidate wins an election if it receives votes from a majority of the servers" """
    node = make_node(voters=(1,), options=PAPER)

    node.tick()

    assert (node.core.role, node.core.term) == (Role.LEADER, 1)


def test_votes_of_one_server_count_once() -> None:
    """ "A candidate wins an election if it receives votes from a majority of the servers" """
    node = make_candidate(term=1, options=PAPER, voters=(1, 2, 3, 4, 5))

    for _ in range(5):
        node.receive(VoteResponse(2, 1, 1, granted=True))

    assert node.core.role is Role.CANDIDATE


def test_votes_of_strangers_do_not_count() -> None:
    """ "A candidate wins an election if it receives votes from a majority of the servers in the
    full cluster for the same term."
    """
    node = make_candidate(term=1, options=PAPER)

    for stranger in (7, 8, 9):
        node.receive(VoteResponse(stranger, 1, 1, granted=True))

    assert node.core.role is Role.CANDIDATE


@pytest.mark.parametrize("first", [2, 3])
def test_one_vote_per_term_first_come_first_served(first: int) -> None:
    """ "Each server will vote for at most one candidate in a given term, on a
    first-come-first-served basis"
    """
    second = 5 - first
    node = make_follower([1], term=1, options=PAPER)

    assert node.ask(VoteRequest(first, 1, 2, 1, 1), VoteResponse).granted
    assert not node.ask(VoteRequest(second, 1, 2, 9, 2), VoteResponse).granted
    assert node.ask(VoteRequest(first, 1, 2, 1, 1), VoteResponse).granted


def test_a_new_term_brings_a_new_vote() -> None:
    """ "Each server will vote for at most one candidate in a given term" """
    node = make_follower([1], term=1, options=PAPER)
    node.receive(VoteRequest(2, 1, 2, 1, 1))

    assert node.ask(VoteRequest(3, 1, 3, 1, 1), VoteResponse).granted
    assert node.disk.hard_state.vote == 3


def test_the_vote_survives_a_crash() -> None:
    """ "Each server will vote for at most one candidate in a given term" """
    node = make_follower([1], term=1, options=PAPER)
    node.receive(VoteRequest(2, 1, 2, 1, 1))

    assert not node.restart().ask(VoteRequest(3, 1, 2, 9, 2), VoteResponse).granted


def test_a_vote_survives_the_fall_back_to_follower_in_the_same_term() -> None:
    """ "Each server will vote for at most one candidate in a given term"

    A vote was erased on the way back to follower in hazelcast#16643 and redpanda#19.
    """
    node = make_candidate([1], term=2, options=PAPER)
    node.receive(VoteResponse(2, 1, 2, granted=False), VoteResponse(3, 1, 2, granted=False))
    assert node.core.role is Role.FOLLOWER

    assert not node.ask(VoteRequest(2, 1, 2, 9, 2), VoteResponse).granted


def test_of_two_candidates_one_wins() -> None:
    """ "The majority rule ensures that at most one candidate can win the election for a
    particular term"
    """
    cluster = make_cluster(3, options=PAPER)
    cluster[1].tick(2 * T)
    cluster[2].tick(2 * T)

    cluster.settle()

    assert sorted(n.core.role.value for n in cluster.nodes.values()) == [
        "follower", "follower", "leader",
    ]  # fmt: skip


def test_a_new_leader_establishes_its_authority_at_once() -> None:
    """ "It then sends heartbeat messages to all of the other servers to establish its authority
    and prevent new elections."
    """
    node = make_leader([1], term=2, options=PAPER)

    assert [(m.to, m.term) for m in node.take(Append)] == [(2, 2), (3, 2)]


@pytest.mark.parametrize("term", [2, 3])
def test_a_candidate_recognises_a_legitimate_leader(term: int) -> None:
    """ "If the leader's term (included in its RPC) is at least as large as the candidate's
    current term, then the candidate recognizes the leader as legitimate and returns to follower
    state."
    """
    for message in (append_from(3, term, prev=(1, 1)), Heartbeat(3, 1, term, 0, 1)):
        node = make_candidate([1], term=2, options=PAPER)
        node.receive(message)
        assert (node.core.role, node.core.leader, node.core.term) == (Role.FOLLOWER, 3, term)


def test_a_candidate_goes_on_despite_a_leader_of_an_older_term() -> None:
    """ "If the term in the RPC is smaller than the candidate's current term, then the candidate
    rejects the RPC and continues in candidate state."
    """
    node = make_candidate([1], term=3, options=PAPER)

    node.receive(append_from(3, 2, prev=(1, 1), terms=[2]), Heartbeat(3, 1, 2, 0, 1))

    assert (node.core.role, node.core.term) == (Role.CANDIDATE, 3)


def test_after_a_split_vote_a_candidate_starts_over() -> None:
    """ "each candidate will time out and start a new election by incrementing its term and
    initiating another round of RequestVote RPCs."
    """
    node = make_candidate(term=1, options=PAPER)
    node.receive(VoteResponse(2, 1, 1, granted=False))
    node.sent.clear()

    node.tick(node.core.timeout)

    assert (node.core.role, node.core.term) == (Role.CANDIDATE, 2)
    assert [m.to for m in node.take(VoteRequest)] == [2, 3]


def test_votes_of_the_election_before_do_not_count() -> None:
    """ "... for the same term." """
    node = make_candidate(term=1, options=PAPER, voters=(1, 2, 3, 4, 5))
    node.receive(VoteResponse(2, 1, 1, granted=True))
    node.tick(node.core.timeout)

    node.receive(VoteResponse(3, 1, 2, granted=True))

    assert (node.core.role, node.core.term) == (Role.CANDIDATE, 2)


@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_election_timeouts_are_random_within_a_fixed_interval(role: str) -> None:
    """ "election timeouts are chosen randomly from a fixed interval" """
    seen = set()
    for seed in range(1000):
        node = make_follower(term=1, options=PAPER, rng=Random(seed))
        if role == "candidate":
            node.tick(2 * T)
            assert node.core.role is Role.CANDIDATE
        seen.add(node.core.timeout)

    assert seen == set(range(T, 2 * T))


def test_each_election_restarts_the_randomized_timeout() -> None:
    """ "Each candidate restarts its randomized election timeout at the start of an election, and
    it waits for that timeout to elapse before starting the next election"
    """
    node = make_follower(term=1, options=PAPER, rng=Random(2))
    timeouts = []
    for _ in range(20):
        timeouts.append(timeout := node.core.timeout)
        term = node.core.term
        node.tick(timeout - 1)
        assert node.core.term == term
        node.tick()
        assert node.core.term == term + 1

    assert len(set(timeouts)) > 5


def test_a_new_term_draws_a_new_timeout() -> None:
    """ "To prevent split votes in the first place, election timeouts are chosen randomly": also by
    a server that falls back to follower, or the same two would collide again and again.
    """
    node = make_follower(term=1, options=PAPER, rng=Random(2))
    timeouts = set()
    for term in range(2, 30):
        node.receive(Heartbeat(2, 1, term, 0, 1))
        timeouts.add(node.core.timeout)

    assert len(timeouts) > 5


def test_in_most_cases_a_single_server_times_out_first() -> None:
    """ "This spreads out the servers so that in most cases only a single server will time out" """
    conflicts = 0
    for seed in range(500):
        rng = Random(seed)
        nodes = [make_follower(term=1, options=PAPER, rng=rng) for _ in range(5)]
        asking: list[int] = []
        while not asking:
            for node in nodes:
                node.step(Tick())
            asking = [i for i, n in enumerate(nodes) if n.core.role is Role.CANDIDATE]
        conflicts += len(asking) > 1

    assert conflicts < 500 / 2
