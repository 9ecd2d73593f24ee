"""A disk that was put back to an older state: its node finds out from what its leader knows."""

from __future__ import annotations

import pytest

from hstore.node.raft.events import PeerUnreachable
from hstore.node.raft.messages import Append, AppendResponse, Heartbeat, HeartbeatResponse
from hstore.node.raft.update import Update
from tests.node.raft.harness import Node, append_from, make_follower, make_leader


@pytest.fixture
def node() -> Node:
    """Node 1 in term 3, whose log ends at 2; it had acknowledged entry 9 to node 2."""
    return make_follower([1, 1], term=3, commit=1)


def heartbeat(node: Node, commit: int, term: int = 3) -> Update:
    return node.receive(Heartbeat(2, 1, term, commit, 1))


def test_a_commit_index_beyond_the_log_and_a_refused_append_at_it_show_the_loss(node: Node) -> None:
    node.receive(append_from(2, 3, prev=(9, 3)))
    assert node.take(AppendResponse)[-1].rejected

    assert heartbeat(node, 7).lost_to == 9
    assert node.core.log.commit == 1


def test_the_commit_index_alone_does_not_say_how_much_was_acknowledged(node: Node) -> None:
    assert heartbeat(node, 7).lost_to == 0
    node.receive(append_from(2, 3, prev=(5, 3)))
    assert heartbeat(node, 7).lost_to == 0


def test_a_new_leaders_first_append_beyond_the_log_shows_nothing(node: Node) -> None:
    node.receive(append_from(2, 3, prev=(9, 3)))
    assert heartbeat(node, 0).lost_to == 0
    assert heartbeat(node, 2).lost_to == 0


def test_what_another_leader_asked_for_counts_no_more(node: Node) -> None:
    node.receive(append_from(2, 3, prev=(9, 3)))
    assert heartbeat(node, 7, term=4).lost_to == 0


def test_a_node_that_is_recovering_knows_of_its_loss() -> None:
    node = make_follower([1, 1], term=3, commit=1, recover_to=5)
    node.receive(append_from(2, 4, prev=(9, 3)))
    assert heartbeat(node, 7, term=4).lost_to == 0


def test_a_peer_that_refuses_what_it_acknowledged_is_asked_again_only_after_a_heartbeat() -> None:
    """The leader never goes back behind that: asked at once, both would go on without a pause."""
    node = make_leader(term=1)
    node.receive(AppendResponse(3, 1, 1, 1))
    node.step(PeerUnreachable(3))
    node.receive(HeartbeatResponse(3, 1, 1, 1))
    node.propose(b"x")
    node.sent.clear()

    node.receive(AppendResponse(3, 1, 1, 1, rejected=True))
    assert node.take(Append, to=3) == []
    node.receive(HeartbeatResponse(3, 1, 1, 1))
    assert [message.prev_index for message in node.take(Append, to=3)] == [1]
