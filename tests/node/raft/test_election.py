"""Elections beyond the paper: leases, both liveness repairs, learners that vote, early elections."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from hstore.node.raft.core import Core
from hstore.node.raft.entry import HardState
from hstore.node.raft.events import EarlyElection, PeerDown, PeerUnreachable
from hstore.node.raft.membership import ConfigChange, ConfigChangeKind, Configuration
from hstore.node.raft.messages import (
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)
from hstore.node.raft.options import Options
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    Cluster,
    Node,
    T,
    acknowledge,
    append_from,
    config_entry,
    entries_of,
    make_candidate,
    make_cluster,
    make_follower,
    make_leader,
    make_node,
)


def follower_of(leader: int, *, term: int = 1, **kwargs: Any) -> Node:
    """Return node 1 with an entry of term 1, which hears this leader."""
    node = make_follower([1], term=term, **kwargs)
    node.receive(Heartbeat(leader, 1, term, 0, 1))
    node.sent.clear()
    return node


# -- pre-votes and votes --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["append", "heartbeat"])
def test_a_stale_leader_is_told_the_newer_term(kind: str) -> None:
    """R4a: with check-quorum a leader is deaf to the ballots of a node that is ahead of it, and
    that node to the leader's appends: its answer must show the term that brings them together.
    """
    node = make_follower([1], term=5)
    message = append_from(2, 3) if kind == "append" else Heartbeat(2, 1, 3, 0, 1)

    assert node.ask(message, AppendResponse) == AppendResponse(1, 2, 5, 0, rejected=True)

    leader = make_leader([1], term=3)
    leader.receive(AppendResponse(2, 1, 5, 0, rejected=True))
    assert (leader.core.role, leader.core.term) == (Role.FOLLOWER, 5)


def test_a_node_ahead_in_term_finds_its_way_back_without_losing_the_cluster() -> None:
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.replace(make_node(3, entries=cluster[3].disk.entries, hard_state=HardState(9, 3, 0)))

    cluster.tick(3)
    cluster.elect(1)
    cluster.tick(2)

    assert [n.core.term for n in cluster.nodes.values()] == [cluster.core(1).term] * 3
    assert cluster.core(3).leader == 1


def test_a_refused_pre_vote_shows_the_responders_term() -> None:
    """R4b: a candidate behind in term would ask in vain for ever (canonical/raft#280)."""
    node = make_follower([1], term=5)

    assert node.ask(PreVoteRequest(2, 1, 3, 9, 9), PreVoteResponse) == PreVoteResponse(
        1, 2, 5, granted=False
    )

    asking = make_follower([1], term=2)
    asking.tick(2 * T)
    asking.receive(PreVoteResponse(2, 1, 5, granted=False))
    assert (asking.core.role, asking.core.term) == (Role.FOLLOWER, 5)


def test_a_pre_vote_for_a_term_that_has_begun_is_refused() -> None:
    node = make_follower([1], term=2)

    assert not node.ask(PreVoteRequest(2, 1, 2, 9, 2), PreVoteResponse).granted


@pytest.mark.parametrize("why", ["log", "lease"])
def test_a_refused_pre_vote_does_not_show_the_term_that_was_asked_about(why: str) -> None:
    """It would push the asker into a term that nobody is in."""
    node = make_follower([1, 1], term=2) if why == "log" else follower_of(3, term=2)

    answer = node.ask(PreVoteRequest(2, 1, 3, 1, 1), PreVoteResponse)

    assert answer == PreVoteResponse(1, 2, 2, granted=False)


def test_a_refusal_of_the_same_term_counts_as_one() -> None:
    node = make_follower([1], term=2)
    node.tick(2 * T)

    node.receive(*(PreVoteResponse(p, 1, 2, granted=False) for p in (2, 3)))

    assert (node.core.role, node.core.term) == (Role.FOLLOWER, 2)


def test_a_granted_pre_vote_moves_nobodys_term() -> None:
    node = make_follower([1], term=2)

    node.receive(PreVoteResponse(2, 1, 7, granted=True))
    assert node.core.term == 2
    node.receive(PreVoteRequest(2, 1, 7, 1, 1))
    assert node.core.term == 2


def test_pre_votes_for_another_term_do_not_count() -> None:
    node = make_follower([1], term=2, voters=(1, 2, 3, 4, 5))
    node.tick(2 * T)

    node.receive(*(PreVoteResponse(p, 1, t, granted=True) for p in (2, 3, 4) for t in (2, 4, 9)))

    assert node.core.role is Role.PRE_CANDIDATE


def test_votes_do_not_count_as_pre_votes_nor_pre_votes_as_votes() -> None:
    asking = make_follower([1], term=2, voters=(1, 2, 3, 4, 5))
    asking.tick(2 * T)
    standing = make_candidate([1], term=3, voters=(1, 2, 3, 4, 5))

    asking.receive(*(VoteResponse(p, 1, 2, granted=True) for p in (2, 3, 4)))
    standing.receive(*(PreVoteResponse(p, 1, 4, granted=True) for p in (2, 3, 4)))

    assert asking.core.role is Role.PRE_CANDIDATE
    assert standing.core.role is Role.CANDIDATE


def test_a_pre_candidate_returns_to_a_leader_that_is_alive() -> None:
    node = follower_of(2)
    node.tick(2 * T)
    assert node.core.role is Role.PRE_CANDIDATE

    node.receive(Heartbeat(2, 1, 1, 0, 2))

    assert (node.core.role, node.core.leader) == (Role.FOLLOWER, 2)


def test_a_pre_candidate_holds_no_lease_against_others() -> None:
    """Two that both gave up on their leader must be able to elect one of them."""
    node = follower_of(2)
    node.tick(2 * T)

    assert node.ask(PreVoteRequest(3, 1, 2, 1, 1), PreVoteResponse).granted


def test_the_first_answer_of_a_voter_stands() -> None:
    node = make_candidate(term=1, voters=(1, 2, 3, 4, 5))
    node.receive(VoteResponse(2, 1, 1, granted=False), VoteResponse(2, 1, 1, granted=True))
    node.receive(VoteResponse(3, 1, 1, granted=True))

    assert node.core.role is Role.CANDIDATE


def test_the_leader_itself_holds_to_its_lease() -> None:
    node = make_leader([1], term=2)
    acknowledge(node, 2, 3)
    node.tick(T - 1)

    node.receive(VoteRequest(3, 1, 9, 99, 9))

    assert (node.core.role, node.core.term) == (Role.LEADER, 2)


def test_without_check_quorum_nobody_holds_a_lease() -> None:
    node = follower_of(2, options=Options(check_quorum=False))

    assert node.ask(VoteRequest(3, 1, 9, 1, 1), VoteResponse).granted


def test_a_leader_that_stepped_down_for_want_of_a_quorum_votes_at_once() -> None:
    node = make_leader([1], term=2)
    node.tick(2 * T)
    assert node.core.role is Role.FOLLOWER

    assert node.ask(VoteRequest(3, 1, 3, 2, 2), VoteResponse).granted


def test_any_sign_of_life_of_a_majority_keeps_a_leader() -> None:
    node = make_leader(term=1, voters=(1, 2, 3, 4, 5))
    for number in range(5 * T):
        node.tick()
        node.receive(
            HeartbeatResponse(2, 1, 1, node.core.round),
            AppendResponse(3, 1, 1, 0, rejected=bool(number % 2)),
        )

    assert node.core.role is Role.LEADER


# -- learners -------------------------------------------------------------------------------


def test_a_learner_calls_no_election() -> None:
    node = make_node(4, learners=(4,))

    node.tick(5 * T)

    assert (node.core.role, node.sent) == (Role.FOLLOWER, [])


def test_a_learner_votes_when_asked() -> None:
    """etcd#10998: in the candidate's newer configuration it may be a voter, and needed."""
    node = make_node(4, learners=(4,), entries=entries_of([1]))

    assert node.ask(PreVoteRequest(1, 4, 2, 1, 1), PreVoteResponse).granted
    assert node.ask(VoteRequest(1, 4, 2, 1, 1), VoteResponse).granted


def test_a_learner_votes_at_any_time_after_its_leader_fell_silent() -> None:
    """Its lease must not begin anew each time that the timeout passes which it may not act on."""
    node = make_node(4, learners=(4,), entries=entries_of([1]))
    node.receive(Heartbeat(3, 4, 1, 0, 1))
    node.tick(T)

    for _ in range(5 * T):
        assert node.ask(PreVoteRequest(1, 4, 2, 1, 1), PreVoteResponse).granted
        node.tick()


def test_a_promoted_learner_that_does_not_know_it_yet_makes_the_majority() -> None:
    """Of voters 1, 2 and the just promoted 3, node 2 is gone: 3 has not heard of its promotion."""
    first = make_node(
        1, voters=(1, 2), learners=(3,),
        entries=[*entries_of([1]), config_entry(2, 1, Configuration((1, 2, 3)))],
    )  # fmt: skip
    third = make_node(3, voters=(1, 2), learners=(3,), entries=entries_of([1]))
    cluster = Cluster([first, third])

    cluster.tick(4 * T)

    assert first.core.role is Role.LEADER
    assert third.core.config == Configuration((1, 2, 3))


# -- early elections ------------------------------------------------------------------------


def test_a_leader_that_is_down_is_replaced_without_waiting_for_the_timeout() -> None:
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.tick()
    del cluster.nodes[1]
    for node in cluster.nodes.values():
        node.step(PeerDown(1))
    ((token, delay),) = cluster[2].early

    assert 0 <= delay <= 500
    cluster[2].step(EarlyElection(token))
    cluster.settle()

    assert (cluster.core(2).role, cluster.core(3).leader) == (Role.LEADER, 2)


def test_the_delays_of_two_survivors_differ() -> None:
    delays = set()
    for seed in range(50):
        node = follower_of(2, rng=Random(seed))
        node.step(PeerDown(2))
        delays.add(node.early[-1][1])

    assert len(delays) > 40


def test_an_early_election_asks_first() -> None:
    node = follower_of(2)
    node.step(PeerDown(2))
    node.step(EarlyElection(node.early[-1][0]))

    assert (node.core.role, node.core.term) == (Role.PRE_CANDIDATE, 1)
    assert [m.to for m in node.take(PreVoteRequest)] == [2, 3]


def test_only_the_loss_of_the_leader_calls_an_early_election() -> None:
    node = follower_of(2)

    node.step(PeerDown(3))
    node.step(PeerUnreachable(2))

    assert node.early == []


def test_a_learner_calls_no_early_election() -> None:
    node = make_node(4, learners=(4,))
    node.receive(Heartbeat(3, 4, 1, 0, 1))

    node.step(PeerDown(3))

    assert node.early == []


def test_an_early_election_is_called_off_when_the_leader_is_heard_again() -> None:
    node = follower_of(2)
    node.step(PeerDown(2))
    node.receive(Heartbeat(2, 1, 1, 0, 2))

    node.step(EarlyElection(node.early[-1][0]))

    assert (node.core.role, node.sent[1:]) == (Role.FOLLOWER, [])


def test_an_early_election_asked_for_before_another_one_is_not_held() -> None:
    node = follower_of(2)
    node.step(PeerDown(2))
    node.step(PeerDown(2))
    (first, _), (second, _) = node.early

    node.step(EarlyElection(first))
    assert node.core.role is Role.FOLLOWER
    node.step(EarlyElection(second))
    assert node.core.role is Role.PRE_CANDIDATE


@pytest.mark.parametrize(
    ("down", "granted"), [((), False), ((3,), False), ((2,), True)], ids=["none", "other", "own"]
)
def test_a_voter_waives_its_lease_only_when_its_own_link_to_the_leader_is_down(
    down: tuple[int, ...], granted: bool
) -> None:
    """A mere reset of somebody else's link must not depose a leader that all others hear."""
    node = follower_of(2)
    for peer in down:
        node.step(PeerDown(peer))
    node.sent.clear()

    node.receive(PreVoteRequest(3, 1, 2, 1, 1), VoteRequest(3, 1, 2, 1, 1))

    assert [m.granted for m in node.take(PreVoteResponse)] == ([granted] if granted else [False])
    assert node.core.vote == (3 if granted else 0)


def test_one_broken_link_deposes_nobody() -> None:
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.tick()
    term = cluster.core(1).term
    cluster.cut |= {(1, 3), (3, 1)}
    cluster[3].step(PeerDown(1))

    for _ in range(30):
        if cluster[3].early:
            cluster[3].step(EarlyElection(cluster[3].early.pop()[0]))
        cluster.tick()

    assert (cluster.core(1).role, cluster.core(1).term) == (Role.LEADER, term)


def test_early_elections_in_vain_come_to_an_end() -> None:
    """After that the ordinary timeout rules, so that two of five do not ask three hundred times a
    second."""
    node = follower_of(2)
    node.step(PeerDown(2))
    count = 0
    while node.early:
        count += 1
        assert count < 100
        node.step(EarlyElection(node.early.pop()[0]))
        node.receive(PreVoteResponse(3, 1, 1, granted=False))

    assert count > 3
    assert node.core.role is Role.FOLLOWER
    node.tick(node.core.timeout)
    assert node.core.role is Role.PRE_CANDIDATE


def test_whoever_got_the_vote_gets_the_time_to_use_it() -> None:
    node = follower_of(2)
    node.step(PeerDown(2))
    node.receive(VoteRequest(3, 1, 2, 1, 1))
    assert node.core.vote == 3

    node.step(EarlyElection(node.early[-1][0]))

    assert node.core.role is Role.FOLLOWER


def test_reads_fail_at_once_while_the_leader_is_down() -> None:
    node = follower_of(2)
    node.read(1)
    node.step(PeerDown(2))
    node.read(2)

    assert [r.value for r in node.reads.values()] == ["lost leader", "not leader"]  # type: ignore[union-attr]


def test_a_removed_server_that_is_asked_still_votes() -> None:
    node = make_node(
        3, entries=[*entries_of([1]), config_entry(2, 1, Configuration((1, 2)))],
        hard_state=HardState(1, 0, 2),
    )  # fmt: skip

    assert node.ask(VoteRequest(1, 3, 2, 2, 1), VoteResponse).granted


def test_a_voter_demoted_to_learner_leads_no_more() -> None:
    node = make_leader(term=1)
    acknowledge(node, 2, 3)

    node.change(ConfigChange(ConfigChangeKind.ADD_LEARNER, 1))
    acknowledge(node, 2, 3)

    assert node.core.role is Role.FOLLOWER
    node.sent.clear()
    node.tick(3 * T)
    assert node.sent == []


def test_a_split_vote_among_the_survivors_of_a_dead_leader_is_held_again_soon() -> None:
    """Waiting for the dead leader's answer would cost a whole election timeout."""
    node = follower_of(2)
    node.step(PeerDown(2))
    node.step(EarlyElection(node.early[-1][0]))
    node.receive(PreVoteResponse(3, 1, 2, granted=True))
    assert node.core.role is Role.CANDIDATE
    waiting = len(node.early)

    node.receive(VoteResponse(3, 1, 2, granted=False))

    assert node.core.role is Role.FOLLOWER
    assert len(node.early) == waiting + 1


@pytest.mark.parametrize(
    ("ticks", "jitter", "most"), [(2, 0.5, 3), (3, 0.5, 4), (5, 0.5, 6), (5, 1.0, 9)]
)
def test_a_timeout_is_drawn_out_of_two_at_least(ticks: int, jitter: float, most: int) -> None:
    """Two voters that always wait equally long ask at the same moment for ever."""
    core = Core(1, Options(election_ticks=ticks, election_jitter=jitter), Random(1))
    drawn = set()
    for _ in range(200):
        core.randomize_timeout()
        drawn.add(core.timeout)

    assert drawn == set(range(ticks, most + 1))
