"""What random runs have found, each as the shortest story that shows it."""

from __future__ import annotations

from hstore.node.raft.entry import HardState
from hstore.node.raft.events import EarlyElection, PeerDown, Propose, Receive
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import (
    HeartbeatResponse,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
)
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    T,
    append_from,
    config_entry,
    make_candidate,
    make_follower,
    make_leader,
    make_node,
)


def test_a_proposal_overwritten_in_the_step_that_appended_it_is_not_taken_for_its_successor() -> (
    None
):
    """The driver was told the index alone, and took the core's term at the end of the step."""
    node = make_leader(term=2)
    late = append_from(2, 3, prev=(0, 0), terms=[3, 3], commit=2)

    update = node.step(Propose([(7, b"mine")]), Receive(late))

    assert (node.core.term, node.core.log.last_index) == (3, 2)
    assert node.core.log.entries[1].data != b"mine"
    assert update.appended == [(7, 2, 2)]


def test_a_leader_that_gives_its_vote_away_can_be_elected_until_that_is_committed() -> None:
    """It has the longer log, so the others cannot win without it, and it did not even ask."""
    demotion = config_entry(2, 2, Configuration(voters=(2,), learners=(1,)))
    before = config_entry(1, 1, Configuration(voters=(1, 2)))
    node = make_node(entries=[before, demotion], hard_state=HardState(2, 0, 1), applied=1)

    node.tick(3 * T)
    assert node.core.role is Role.PRE_CANDIDATE

    committed = make_node(entries=[before, demotion], hard_state=HardState(2, 0, 2), applied=2)
    committed.tick(3 * T)
    assert committed.core.role is Role.FOLLOWER
    assert not committed.take(VoteRequest)


def test_a_candidate_does_not_ask_for_votes_before_its_term_is_durable() -> None:
    """It crashed, forgot the term and unflushed entries, and asked in the same term once more.

    Late votes for its first ballot, granted to the longer log, elected the shorter one.
    """
    node = make_candidate(term=2, is_disk_held=True)

    assert not node.take(VoteRequest)
    node.flush()

    assert [message.to for message in node.take(VoteRequest)] == [2, 3]


def test_the_vote_of_a_leader_that_came_back_counts_again() -> None:
    """Each ballot began with its refusal, so two nodes never elected the one with the longer log."""
    node = make_follower([1, 1], term=1, voters=(1, 2))
    node.receive(append_from(2, 1))
    node.step(PeerDown(2))
    (token, _delay), *_ = node.early
    node.step(EarlyElection(token))
    assert node.core.role is Role.FOLLOWER

    node.receive(PreVoteRequest(2, 1, 2, 1, 1))
    node.tick(2 * T)

    assert node.core.role is Role.PRE_CANDIDATE
    node.receive(PreVoteResponse(2, 1, 2, granted=True))
    assert node.core.role is Role.CANDIDATE


def test_a_leader_whose_disk_is_stuck_makes_room_for_one_that_can_answer() -> None:
    """Its heartbeats went on, the others committed, and no client ever heard of it."""
    node = make_leader(term=2, is_disk_held=True)
    node.propose(b"x")

    ticks = 0
    while node.core.role is Role.LEADER and ticks < 2 * T - 1:
        ticks += 1
        node.tick()
        node.receive(*(HeartbeatResponse(peer, 1, 2, node.core.round) for peer in (2, 3)))

    assert node.core.role is Role.FOLLOWER, "it steps down within two election timeouts"
    assert ticks > T, "and not because of a flush that is merely slow"
    node.take(PreVoteRequest)
    node.tick(3 * T)
    assert not node.take(PreVoteRequest), "it could not even vote for itself"
    node.flush()
    node.tick(2 * T)
    assert node.take(PreVoteRequest)


def test_a_leader_whose_disk_is_slow_but_goes_on_leads_on() -> None:
    node = make_leader(term=2, is_disk_held=True)

    for number in range(8 * T):
        node.propose(b"x", rid=1000 + number)
        node.tick()
        node.receive(*(HeartbeatResponse(peer, 1, 2, node.core.round) for peer in (2, 3)))
        if number > T:
            node.flush(1)

    assert node.core.log.is_write_pending()
    assert node.core.role is Role.LEADER
