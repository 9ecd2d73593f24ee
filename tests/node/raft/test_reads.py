"""Linearizable reads by rounds (R5): late, doubled and foreign confirmations, bounds, failures."""

from __future__ import annotations

from typing import Any

import pytest

from hstore.node.raft.errors import Reason
from hstore.node.raft.events import PeerUnreachable
from hstore.node.raft.membership import ConfigChange, ConfigChangeKind
from hstore.node.raft.messages import (
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    ReadIndexRequest,
    ReadIndexResponse,
)
from hstore.node.raft.options import Options
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

LOST = Reason.LOST_LEADER


def reading_leader(**kwargs: Any) -> Node:
    """Return the leader of term 1, its no-op committed, at some round that all have confirmed."""
    node = make_leader(term=1, **kwargs)
    peers = [p for p in node.core.config.all_members() if p != 1]
    acknowledge(node, *peers)
    node.tick(3)
    confirm(node, *peers)
    node.sent.clear()
    return node


def confirm(node: Node, *peers: int, round_: int | None = None, term: int | None = None) -> None:
    core = node.core
    for peer in peers:
        number = core.round if round_ is None else round_
        node.receive(HeartbeatResponse(peer, 1, core.term if term is None else term, number))


def test_a_late_confirmation_of_an_older_round_confirms_nothing() -> None:
    """etcd#20418: the answer to a heartbeat sent before the read says nothing about the moment of
    the read, however late or often it comes."""
    node = reading_leader()
    node.tick()
    old = node.core.round

    node.read(1)
    for _ in range(5):
        confirm(node, 2, 3, round_=old)
    assert node.reads == {}
    confirm(node, 2, round_=old + 1)

    assert node.reads == {1: 1}


def test_one_server_confirms_once_however_often_it_answers() -> None:
    node = reading_leader(voters=(1, 2, 3, 4, 5))
    node.read(1)

    for _ in range(5):
        confirm(node, 2)

    assert node.reads == {}


def test_a_late_confirmation_does_not_take_back_a_newer_one() -> None:
    node = reading_leader(voters=(1, 2, 3, 4, 5))
    old = node.core.round
    node.read(1)

    confirm(node, 2)
    confirm(node, 2, round_=old)
    confirm(node, 3)

    assert node.reads == {1: 1}


def test_confirmations_of_a_round_that_was_never_sent_count_as_the_last() -> None:
    node = reading_leader()
    node.read(1)
    confirm(node, 2, round_=10**6)
    assert node.reads == {1: 1}

    node.read(2)
    assert node.reads == {1: 1}


def test_confirmations_of_another_term_do_not_count() -> None:
    node = make_leader([1], term=5)
    acknowledge(node, 2, 3)
    node.read(1)

    confirm(node, 2, 3, term=4)

    assert node.reads == {}


def test_learners_do_not_confirm() -> None:
    node = reading_leader(learners=(4, 5))
    node.read(1)

    confirm(node, 4, 5)
    assert node.reads == {}
    confirm(node, 3)
    assert node.reads == {1: 1}


def test_appends_confirm_no_read() -> None:
    """An answer to an append may be of any age within the term."""
    node = reading_leader()
    node.read(1)

    node.receive(AppendResponse(2, 1, 1, 1), AppendResponse(3, 1, 1, 1))

    assert node.reads == {}


def test_one_server_reads_as_soon_as_its_entry_is_durable() -> None:
    node = make_leader([1], term=2, voters=(1,), is_disk_held=True)
    node.read(1)
    assert node.reads == {}

    node.flush()
    assert node.reads == {1: 2}
    node.read(2)
    assert node.reads == {1: 2, 2: 2}


def test_a_read_waits_for_a_commit_not_for_a_later_one() -> None:
    """A write that is under way when the read comes may or may not be seen; it is not waited for."""
    node = reading_leader()
    node.propose(b"x")
    node.read(1)

    confirm(node, 2)

    assert node.reads == {1: 1}


def test_reads_that_come_while_a_round_is_out_share_the_next_one() -> None:
    node = reading_leader()
    before = node.core.round
    for rid in range(10):
        node.read(rid)
    assert node.core.round == before + 1

    confirm(node, 2, round_=before + 1)

    assert node.reads == {0: 1}
    assert node.core.round == before + 2
    confirm(node, 3, round_=before + 2)
    assert len(node.reads) == 10


def test_a_lost_round_is_made_up_for_by_the_next_heartbeat() -> None:
    node = reading_leader()
    node.read(1)
    node.read(2)
    node.tick()
    confirm(node, 2)

    assert node.reads == {1: 1, 2: 1}


def test_the_round_of_a_tick_serves_reads_that_wait_for_one() -> None:
    node = reading_leader()
    node.read(1)
    node.read(2)
    node.tick()

    assert {m.round for m in node.take(Heartbeat)} == {node.core.round - 1, node.core.round}
    confirm(node, 3)
    assert node.reads == {1: 1, 2: 1}


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_reads_fail_with_their_leader(is_confirmed: bool) -> None:
    """D16: those that wait for the first commit too."""
    node = reading_leader() if is_confirmed else make_leader(term=1)
    node.read(1)
    node.receive(ReadIndexRequest(2, 1, 1, 77))
    node.sent.clear()

    node.receive(append_from(3, 9))

    assert node.reads == {1: LOST}
    assert node.take(ReadIndexResponse) == [ReadIndexResponse(1, 2, 9, 77, None)]
    confirm(node, 2, 3)
    assert node.reads == {1: LOST}


def test_pending_reads_are_bounded() -> None:
    node = reading_leader(options=Options(max_pending_reads=3))

    for rid in range(5):
        node.read(rid)
    node.receive(ReadIndexRequest(2, 1, 1, 77))

    assert node.reads == {3: Reason.OVERLOADED, 4: Reason.OVERLOADED}
    assert node.take(ReadIndexResponse) == [ReadIndexResponse(1, 2, 1, 77, None)]


def test_reads_that_wait_for_the_first_commit_are_bounded() -> None:
    node = make_leader(term=1, options=Options(max_pending_reads=3))

    for rid in range(5):
        node.read(rid)

    assert node.reads == {3: Reason.OVERLOADED, 4: Reason.OVERLOADED}


def test_a_node_without_a_leader_fails_reads_at_once() -> None:
    node = make_follower(term=1)

    node.read(1)

    assert node.reads == {1: Reason.NOT_LEADER}


# -- forwarded reads ------------------------------------------------------------------------


def asking_follower(**kwargs: Any) -> Node:
    node = make_follower([1], term=1, **kwargs)
    node.receive(Heartbeat(2, 1, 1, 0, 1))
    node.sent.clear()
    return node


def test_an_answer_counts_once() -> None:
    node = asking_follower()
    node.read(7)
    answer = ReadIndexResponse(2, 1, 1, 7, 5)

    node.receive(answer, answer)

    assert node.reads == {7: 5}


def test_an_answer_nobody_waits_for_is_ignored() -> None:
    node = asking_follower()

    node.receive(ReadIndexResponse(2, 1, 1, 7, 5))

    assert node.reads == {}


def test_a_refusal_of_the_leader_is_passed_on() -> None:
    node = asking_follower()
    node.read(7)

    node.receive(ReadIndexResponse(2, 1, 1, 7, None))

    assert node.reads == {7: LOST}


@pytest.mark.parametrize("how", ["other leader", "higher term", "broken link"])
def test_forwarded_reads_fail_with_the_leader_they_were_sent_to(how: str) -> None:
    node = asking_follower()
    node.read(7)

    if how == "other leader":
        node.receive(append_from(3, 2))
    elif how == "higher term":
        node.receive(AppendResponse(3, 1, 2, 0))
    else:
        node.step(PeerUnreachable(2))
    assert node.reads == {7: LOST}

    node.receive(ReadIndexResponse(2, 1, node.core.term, 7, 5))
    assert node.reads == {7: LOST}


def test_the_broken_link_of_another_node_fails_no_read() -> None:
    node = asking_follower()
    node.read(7)

    node.step(PeerUnreachable(3))

    assert node.reads == {}


def test_forwarded_reads_nobody_answers_fail_after_an_election_timeout() -> None:
    """D15: requests and answers may be lost while the leader is well."""
    node = asking_follower()
    node.read(7)
    for number in range(T - 1):
        node.receive(Heartbeat(2, 1, 1, 0, number))
        node.tick()
    assert node.reads == {}

    node.tick()

    assert node.reads == {7: LOST}


def test_forwarded_reads_are_bounded() -> None:
    node = asking_follower(options=Options(max_pending_reads=2))

    for rid in range(3):
        node.read(rid)

    assert node.reads == {2: Reason.OVERLOADED}


def test_a_doubled_request_is_answered_twice_and_read_once() -> None:
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.tick()
    cluster[2].read(7)
    (request,) = cluster[2].take(ReadIndexRequest)

    cluster[1].receive(request, request)
    cluster.settle()
    cluster.tick()

    assert cluster[2].reads == {7: 1}


def test_a_deposed_leader_answers_no_forwarded_read() -> None:
    """The read is registered at the old leader, a new one commits, and only then the old round's
    answers arrive: they are of the old term and confirm what was true before the write."""
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.tick()
    cluster.isolate(1)
    for node in (2, 3):
        cluster[node].tick(T)
    cluster[2].tick(2 * T)
    cluster.settle()
    cluster[2].propose(b"new")
    cluster.settle()
    assert cluster.core(2).log.commit == 3

    cluster[1].read(1)
    cluster.settle()
    assert cluster[1].reads == {}
    cluster.heal()
    cluster.tick(2)

    assert cluster[1].reads == {1: LOST}


def test_a_read_survives_the_change_that_makes_the_quorum_smaller() -> None:
    node = reading_leader(voters=(1, 2))
    node.read(1)

    node.change(ConfigChange(ConfigChangeKind.REMOVE, 2))
    node.tick()

    assert node.core.role is Role.LEADER
    assert node.reads == {1: 1}
