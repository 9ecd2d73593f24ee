"""Sections 5.5 and 5.6 of the paper: crashes, and what timing may decide."""

from __future__ import annotations

from random import Random

from hstore.node.raft.messages import AppendResponse, VoteRequest, VoteResponse
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    PAPER,
    T,
    append_from,
    make_cluster,
    make_follower,
    make_leader,
    terms_of,
)


def test_appends_are_idempotent() -> None:
    """5.5: "Raft RPCs are idempotent, so this causes no harm. For example, if a follower receives
    an AppendEntries request that includes log entries already present in its log, it ignores
    those entries in the new request."
    """
    node = make_follower([1], term=1, options=PAPER)
    append = append_from(2, 1, prev=(1, 1), terms=[1, 1])
    first = node.ask(append, AppendResponse)

    update = node.receive(append)

    assert update.persist is None
    assert node.take(AppendResponse) == [first]
    assert terms_of(node.core) == [1, 1, 1]


def test_a_crash_before_the_answer_does_no_harm() -> None:
    """5.5: "If a server crashes after completing an RPC but before responding, then it will
    receive the same RPC again after it restarts."
    """
    node = make_follower([1], term=1, options=PAPER)
    append = append_from(2, 1, prev=(1, 1), terms=[1])
    vote = VoteRequest(3, 1, 2, 2, 1)
    answers = [node.ask(append, AppendResponse), node.ask(vote, VoteResponse)]

    again = node.restart()

    assert again.ask(vote, VoteResponse) == answers[1]
    assert again.ask(append_from(3, 2, prev=(1, 1), terms=[1]), AppendResponse).index == 2


def test_a_crashed_follower_gets_everything_when_it_is_back() -> None:
    """5.5: "Raft handles these failures by retrying indefinitely; if the crashed server restarts,
    then the RPC will complete successfully."
    """
    cluster = make_cluster(3, options=PAPER)
    cluster.elect(1)
    crashed = cluster.nodes.pop(2)
    for number in range(10):
        cluster[1].propose(b"%d" % number)
        cluster.settle()

    cluster.replace(crashed.restart())
    cluster.tick(2)

    assert cluster.core(2).log.entries == cluster.core(1).log.entries


def test_safety_does_not_depend_on_timing() -> None:
    """5.6: "safety must not depend on timing: the system must not produce incorrect results just
    because some event happens more quickly or slowly than expected."

    Ticks at any rate, on any node: no two leaders in one term (asserted by every receiver), and
    what is applied is the same everywhere.
    """
    rng = Random(7)
    cluster = make_cluster(3, options=PAPER, rng=rng)
    leaders: dict[int, int] = {}
    for number in range(400):
        cluster[rng.randrange(1, 4)].tick(rng.choice((0, 1, 1, T, 3 * T)))
        for node in cluster.nodes.values():
            if node.core.role is Role.LEADER:
                assert leaders.setdefault(node.core.term, node.core.id) == node.core.id
                node.propose(b"%d" % number)
        chosen = rng.randrange(1, 4)
        cluster.deliver(lambda m, chosen=chosen: m.to == chosen)  # type: ignore[misc]

    logs = sorted((node.applied for node in cluster.nodes.values()), key=len)
    assert logs[0] == logs[2][: len(logs[0])]
    assert logs[1] == logs[2][: len(logs[1])]
    assert len(leaders) > 5


def test_a_stable_leader_needs_heartbeats_faster_than_the_election_timeout() -> None:
    """5.6: "The broadcast time should be an order of magnitude less than the election timeout so
    that leaders can reliably send the heartbeat messages required to keep followers from starting
    elections"
    """
    cluster = make_cluster(5, rng=Random(3))
    cluster.elect(1)
    term = cluster.core(1).term

    cluster.tick(50 * T)

    assert cluster.core(1).role is Role.LEADER
    assert [node.core.term for node in cluster.nodes.values()] == [term] * 5


def test_a_new_leader_of_many_is_found_after_each_crash() -> None:
    """5.6: "Raft will be able to elect and maintain a steady leader as long as the system
    satisfies the following timing requirement" - with two of five crashed, too.
    """
    cluster = make_cluster(5, rng=Random(11))
    for _ in range(3):
        cluster.tick(6 * T)
        (leader,) = (n for n in cluster.nodes.values() if n.core.role is Role.LEADER)
        if len(cluster.nodes) > 3:
            del cluster.nodes[leader.core.id]

    assert len(cluster.nodes) == 3


def test_a_leader_that_restarts_leads_no_more() -> None:
    """5.5: a crash loses all volatile state, leadership with it."""
    node = make_leader([1], term=2, options=PAPER)
    again = node.restart()

    again.tick()

    assert (again.core.role, again.sent) == (Role.FOLLOWER, [])
