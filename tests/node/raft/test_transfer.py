"""Leadership handed over on purpose (thesis section 3.10)."""

from __future__ import annotations

import pytest

from hstore.node.raft.errors import Reason
from hstore.node.raft.membership import ConfigChange, ConfigChangeKind
from hstore.node.raft.messages import Append, Heartbeat, TimeoutNow, VoteRequest, VoteResponse
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    Node,
    T,
    acknowledge,
    append_from,
    make_cluster,
    make_follower,
    make_leader,
)


def leader(**kwargs) -> Node:
    node = make_leader(term=1, **kwargs)
    acknowledge(node, 2)
    node.sent.clear()
    return node


def test_leadership_goes_where_it_is_wished_though_all_hear_a_leader() -> None:
    cluster = make_cluster()
    cluster.elect(1)
    cluster.tick(1)

    cluster[1].transfer(3, rid=7)
    cluster.settle()

    assert cluster.core(3).role is Role.LEADER
    assert cluster.core(1).role is Role.FOLLOWER
    assert cluster[1].transferred == [7]
    assert cluster.core(3).term == 2, "one election, without a pre-vote"


def test_the_target_is_asked_once_it_has_everything() -> None:
    node = leader()
    node.propose(b"x")
    node.sent.clear()

    node.transfer(2)
    assert not node.take(TimeoutNow)
    acknowledge(node, 2, index=node.core.log.last_index - 1)
    assert not node.take(TimeoutNow)
    acknowledge(node, 2)
    assert [m.to for m in node.take(TimeoutNow)] == [2]


def test_the_question_leaves_behind_the_news_of_the_last_commit() -> None:
    node = make_leader(term=1)
    node.transfer(2)
    node.sent.clear()

    acknowledge(node, 2)

    kinds = [type(m) for m in node.sent if m.to == 2]
    assert kinds == [Append, TimeoutNow]


def test_nobody_in_particular_is_the_one_that_is_furthest() -> None:
    node = leader()
    acknowledge(node, 3)
    node.propose(b"x")
    acknowledge(node, 3)
    node.sent.clear()

    node.transfer(0)

    assert [m.to for m in node.take(TimeoutNow)] == [3]


def test_no_proposal_and_no_change_is_taken_meanwhile() -> None:
    node = leader()
    node.transfer(3)
    last = node.core.log.last_index

    node.propose(b"x", rid=8)
    node.change(ConfigChange(ConfigChangeKind.ADD_LEARNER, 9), rid=9)

    assert node.core.log.last_index == last
    assert node.answers == {8: Reason.TRANSFERRING, 9: Reason.TRANSFERRING}


def test_it_is_given_up_after_an_election_timeout() -> None:
    node = leader()
    node.transfer(3, rid=7)
    for _ in range(T):
        assert 7 not in node.answers
        node.tick()
        acknowledge(node, 2)

    assert node.answers[7] is Reason.TRANSFER_ABORTED
    assert node.core.role is Role.LEADER
    node.propose(b"x", rid=8)
    assert node.answers[8] == node.core.log.last_index, "it leads on as before"


def test_a_lost_question_is_asked_again() -> None:
    node = leader()
    node.transfer(2)
    assert len(node.take(TimeoutNow)) == 1

    node.tick()

    assert len(node.take(TimeoutNow)) == 1


@pytest.mark.parametrize(
    ("to", "text"), [(1, "leads already"), (4, "only a voter"), (9, "only a voter")]
)
def test_it_cannot_go_to_itself_a_learner_or_a_stranger(to: int, text: str) -> None:
    node = make_leader(term=1, learners=(4,))

    update = node.transfer(to, rid=7)

    ((rid, reason, why),) = update.rejected
    assert (rid, reason) == (7, Reason.INVALID_TRANSFER)
    assert text in why


def test_a_leader_alone_has_nobody_to_hand_over_to() -> None:
    node = make_leader(term=1, voters=(1,))

    assert node.transfer(0, rid=7).rejected[0][:2] == (7, Reason.INVALID_TRANSFER)


def test_a_second_transfer_waits_for_the_first() -> None:
    node = leader()
    node.transfer(3, rid=7)

    assert node.transfer(2, rid=8).rejected[0][:2] == (8, Reason.INVALID_TRANSFER)
    assert 7 not in node.answers


def test_who_does_not_lead_hands_nothing_over() -> None:
    node = make_follower([1], term=1)
    node.receive(Heartbeat(2, 1, 1, 0, 1))

    update = node.transfer(3, rid=7)

    assert update.rejected == [(7, Reason.NOT_LEADER, f"{2:016x}")]


def test_a_target_that_is_removed_meanwhile_ends_it() -> None:
    node = leader(voters=(1, 2, 3, 4))
    acknowledge(node, 3, 4)
    node.change(ConfigChange(ConfigChangeKind.REMOVE, 4))
    node.transfer(4, rid=7)
    assert node.answers[7] is Reason.INVALID_TRANSFER


def test_a_leader_deposed_meanwhile_has_handed_over() -> None:
    node = leader()
    node.transfer(3, rid=7)

    node.receive(Heartbeat(2, 1, 5, 0, 1))

    assert node.transferred == [7]
    assert node.core.transfer is None


def test_the_question_makes_a_follower_a_candidate_at_once() -> None:
    node = make_follower([1], term=1)
    node.receive(append_from(2, 1, prev=(1, 1)))
    node.sent.clear()

    node.receive(TimeoutNow(2, 1, 1))

    assert (node.core.role, node.core.term) == (Role.CANDIDATE, 2)
    assert [(m.to, m.transfer) for m in node.take(VoteRequest)] == [(2, True), (3, True)]


@pytest.mark.parametrize("frm", [3, 9])
def test_only_the_leader_can_ask(frm: int) -> None:
    node = make_follower([1], term=1)
    node.receive(append_from(2, 1, prev=(1, 1)))

    node.receive(TimeoutNow(frm, 1, 1))

    assert node.core.role is Role.FOLLOWER


def test_a_question_of_an_older_term_is_ignored() -> None:
    node = make_follower([1], term=3)

    node.receive(TimeoutNow(2, 1, 2))

    assert (node.core.role, node.core.term) == (Role.FOLLOWER, 3)


def test_a_learner_does_not_obey() -> None:
    node = make_follower([1], term=1, voters=(2, 3), learners=(1,))
    node.receive(append_from(2, 1, prev=(1, 1)))

    node.receive(TimeoutNow(2, 1, 1))

    assert node.core.role is Role.FOLLOWER


def test_an_ordinary_vote_request_does_not_get_past_the_lease() -> None:
    node = make_follower([1], term=1)
    node.receive(append_from(2, 1, prev=(1, 1)))
    node.sent.clear()

    node.receive(VoteRequest(3, 1, 2, 1, 1))
    assert not node.sent
    node.receive(VoteRequest(3, 1, 2, 1, 1, True))
    assert [m.granted for m in node.take(VoteResponse)] == [True]


def test_what_waited_is_appended_by_the_next_leader_only() -> None:
    """Writes refused during a transfer are certainly in nobody's log."""
    cluster = make_cluster()
    cluster.elect(1)
    cluster.tick(1)
    cluster[1].transfer(2, rid=7)
    cluster[1].propose(b"x", rid=8)
    cluster.settle()

    logs = [[e.data for e in cluster.core(n).log.entries] for n in (1, 2, 3)]
    assert all(b"x" not in log for log in logs)
    assert not any(e.data for m in cluster[1].take(Append) for e in m.entries)
