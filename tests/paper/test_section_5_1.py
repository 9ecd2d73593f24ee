"""Section 5.1 of the paper: states and terms. Each test quotes the sentence that it claims."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hstore.node.raft.errors import Reason
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Message,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    VoteRequest,
    VoteResponse,
)
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    PAPER,
    Node,
    acknowledge,
    append_from,
    make_candidate,
    make_follower,
    make_leader,
    terms_of,
)

MAKERS: dict[str, Callable[[], Node]] = {
    "follower": lambda: make_follower([1, 1], term=2, options=PAPER),
    "candidate": lambda: make_candidate([1, 1], term=2, options=PAPER),
    "leader": lambda: make_leader([1, 1], term=2, options=PAPER),
}

OF_TERM: dict[str, Callable[[int], Message]] = {
    "vote request": lambda term: VoteRequest(2, 1, term, 9, term),
    "vote response": lambda term: VoteResponse(2, 1, term, granted=False),
    "pre-vote refusal": lambda term: PreVoteResponse(2, 1, term, granted=False),
    "append": lambda term: append_from(2, term, prev=(2, 1)),
    "append response": lambda term: AppendResponse(2, 1, term, 2),
    "heartbeat": lambda term: Heartbeat(2, 1, term, 0, 1),
    "heartbeat response": lambda term: HeartbeatResponse(2, 1, term, 1),
    "read request": lambda term: ReadIndexRequest(2, 1, term, 7),
    "read response": lambda term: ReadIndexResponse(2, 1, term, 7, 1),
}

roles = pytest.mark.parametrize("role", MAKERS)
kinds = pytest.mark.parametrize("kind", OF_TERM)


def test_terms_never_decrease() -> None:
    """ "Each server stores a current term number, which increases monotonically over time." """
    node = make_follower([1], term=5, options=PAPER)
    seen = [node.core.term]

    for term in (4, 6, 1, 6, 9, 3):
        for make in OF_TERM.values():
            node.receive(make(term))
            seen.append(node.core.term)

    assert seen == sorted(seen)
    assert node.core.term == 9


@roles
@kinds
def test_a_smaller_term_is_updated_by_every_message(role: str, kind: str) -> None:
    """ "if one server's current term is smaller than the other's, then it updates its current
    term to the larger value."
    """
    node = MAKERS[role]()

    node.receive(OF_TERM[kind](3))

    assert node.core.term == 3
    assert node.disk.hard_state.term == 3


@pytest.mark.parametrize("role", ["candidate", "leader"])
@kinds
def test_an_outdated_candidate_or_leader_reverts_to_follower(role: str, kind: str) -> None:
    """ "If a candidate or leader discovers that its term is out of date, it immediately reverts
    to follower state."
    """
    node = MAKERS[role]()

    node.receive(OF_TERM[kind](3))

    assert node.core.role is Role.FOLLOWER


@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_a_request_to_vote_with_a_stale_term_is_rejected(role: str) -> None:
    """ "If a server receives a request with a stale term number, it rejects the request." """
    node = MAKERS[role]()
    vote = node.core.vote

    answer = node.ask(VoteRequest(2, 1, 1, 9, 9), VoteResponse)

    assert (answer.granted, answer.term) == (False, 2)
    assert node.core.vote == vote


@roles
def test_entries_with_a_stale_term_are_rejected(role: str) -> None:
    """ "If a server receives a request with a stale term number, it rejects the request." """
    node = MAKERS[role]()
    before = (node.core.role, terms_of(node.core), node.core.log.commit)

    answer = node.ask(append_from(3, 1, prev=(2, 1), terms=[1], commit=2), AppendResponse)

    assert (answer.rejected, answer.term) == (True, 2)
    assert (node.core.role, terms_of(node.core), node.core.log.commit) == before


def test_stale_answers_change_nothing() -> None:
    """ "If a server receives a request with a stale term number, it rejects the request."

    An answer has nobody to be rejected to; it must count for nothing (etcd: acks keyed by term).
    """
    node = make_leader([1, 1], term=3, options=PAPER)
    candidate = make_candidate([1, 1], term=3, options=PAPER)

    node.receive(AppendResponse(2, 1, 2, 3), AppendResponse(3, 1, 2, 3))
    candidate.receive(VoteResponse(2, 1, 2, granted=True), VoteResponse(3, 1, 2, granted=True))

    assert node.core.log.commit == 0
    assert candidate.core.role is Role.CANDIDATE


def test_a_second_leader_of_a_term_is_refused() -> None:
    """ "Raft ensures that there is at most one leader in a given term."

    One of the two is broken, or lies. Nothing of the second is used, and nobody ends by it.
    """
    node, leader = make_follower([1], term=2, options=PAPER), make_leader([1], term=2)
    node.receive(append_from(2, 2, prev=(1, 1)))
    before = terms_of(node.core)

    update = node.receive(append_from(3, 2, prev=(1, 1), terms=[2]))
    assert [peer for peer, _ in update.refused] == [3]
    assert (node.core.leader, terms_of(node.core)) == (2, before)
    assert [peer for peer, _ in leader.receive(Heartbeat(3, 1, 2, 0, 1)).refused] == [3]
    assert leader.core.role is Role.LEADER


def test_followers_issue_no_requests_on_their_own() -> None:
    """ "Followers are passive: they issue no requests on their own but simply respond to
    requests from leaders and candidates."
    """
    node = make_follower([1], term=1, options=PAPER)

    node.tick(node.core.timeout - 1)

    assert node.sent == []


def test_a_follower_redirects_clients_to_the_leader() -> None:
    """ "if a client contacts a follower, the follower redirects it to the leader" """
    node = make_follower([1], term=1, options=PAPER)
    node.receive(Heartbeat(3, 1, 1, 0, 1))

    node.propose(b"x", rid=7)

    assert node.answers == {7: Reason.NOT_LEADER}
    assert node.core.leader == 3
    assert terms_of(node.core) == [1]


def test_leaders_ask_all_in_parallel() -> None:
    """ "they issue RPCs in parallel for best performance" """
    node = make_leader(term=1, options=PAPER, voters=(1, 2, 3, 4, 5))

    assert [m.to for m in node.take(Append)] == [2, 3, 4, 5]


def test_leaders_retry_what_is_not_answered() -> None:
    """ "Servers retry RPCs if they do not receive a response in a timely manner" """
    node = make_leader(term=1, options=PAPER)
    acknowledge(node, 2, 3)
    node.sent.clear()
    node.propose(b"lost")
    (lost,) = node.take(Append, to=2)

    node.receive(HeartbeatResponse(2, 1, 1, 1))
    (probe,) = node.take(Append, to=2)
    node.receive(
        AppendResponse(2, 1, 1, probe.prev_index, rejected=True, hint_index=1, hint_term=1)
    )

    assert lost.entries in [m.entries for m in node.take(Append, to=2)]
