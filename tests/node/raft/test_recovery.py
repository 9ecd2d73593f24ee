"""A node that has lost log it had acknowledged (the rule of PAR, FAST'18)."""

from __future__ import annotations

import pytest

from hstore.node.raft.entry import HardState, SnapshotMeta
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import (
    AppendResponse,
    Heartbeat,
    InstallSnapshot,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    Cluster,
    Node,
    T,
    append_from,
    make_cluster,
    make_follower,
    make_node,
)


def recovering(**kwargs) -> Node:
    """Return a node that has entries 1 and 2, and had acknowledged 5."""
    return make_follower([1, 1], term=3, commit=1, recover_to=5, **kwargs)


def test_it_begins_a_term_of_its_own_that_is_durable_before_anything_is_said() -> None:
    node = recovering(is_disk_held=True)

    node.receive(Heartbeat(2, 1, 3, 0, 1))
    assert node.sent == []
    node.flush()

    assert node.disk.hard_state == HardState(4, 0, 1)
    assert [(m.rejected, m.term) for m in node.take(AppendResponse)] == [(True, 4)]


@pytest.mark.parametrize("transfer", [False, True])
def test_it_grants_no_vote(transfer: bool) -> None:
    node = recovering()

    assert not node.ask(PreVoteRequest(2, 1, 9, 9, 9), PreVoteResponse).granted
    assert not node.ask(VoteRequest(2, 1, 9, 9, 9, transfer), VoteResponse).granted


def test_it_stands_for_nothing() -> None:
    node = recovering()

    node.tick(5 * T)
    node.receive(append_from(2, 4, prev=(2, 1)))
    node.receive(TimeoutNow(2, 1, 4))

    assert node.core.role is Role.FOLLOWER


def test_it_votes_again_once_it_has_durably_what_it_had() -> None:
    node = recovering(is_disk_held=True)
    node.receive(append_from(2, 5, prev=(2, 1), terms=[1, 1, 5]))
    node.tick(T)
    assert node.core.is_recovering, "what is not durable is not recovered"
    node.flush()

    assert not node.core.is_recovering
    node.receive(VoteRequest(3, 1, 6, 5, 5, True))
    node.flush()
    assert [m.granted for m in node.take(VoteResponse)] == [True]


def test_an_entry_of_a_later_leader_is_as_good_where_the_lost_tail_was_never_committed() -> None:
    """Its log may end before what was lost: for want of new writes the node had no vote for long."""
    node = recovering(is_disk_held=True)
    node.receive(append_from(2, 5, prev=(2, 1), terms=[1]))
    node.flush()
    assert node.core.is_recovering, "an older entry says nothing of what follows it"
    node.receive(append_from(2, 5, prev=(3, 1), terms=[5]))
    assert node.core.is_recovering
    node.flush()

    assert not node.core.is_recovering


def test_a_snapshot_recovers_it_too() -> None:
    node = recovering()
    meta = SnapshotMeta(8, 4, Configuration((1, 2, 3)))

    node.receive(InstallSnapshot(2, 1, 5, meta))

    assert not node.core.is_recovering


def test_the_leader_that_counted_on_it_counts_anew() -> None:
    """Its match was above what the node has: nothing it would send could ever fit again."""
    cluster = make_cluster()
    cluster.elect(1)
    for number in range(4):
        cluster[1].propose(b"x", rid=100 + number)
        cluster.settle()
    cluster.tick(1)
    lost = cluster[3]
    last = lost.disk.last_index
    cluster.replace(
        make_node(
            3, hard_state=HardState(lost.core.term, 1, 1), entries=lost.disk.entries[:1],
            recover_to=last,
        )
    )  # fmt: skip
    cluster.tick(6 * T)

    assert _leaders(cluster) <= {1, 2}
    assert cluster.core(3).log.last_index >= last
    assert not cluster.core(3).is_recovering


def test_it_does_not_help_to_elect_a_node_that_lacks_what_is_committed() -> None:
    """1 and 3 had committed; 3 forgot; 1 is away. 2, which never had it, must not lead."""
    voters = (1, 2, 3)
    behind = make_node(2, voters=voters, hard_state=HardState(1, 1, 0))
    forgetful = make_node(3, voters=voters, hard_state=HardState(1, 1, 0), recover_to=2)
    cluster = Cluster([behind, forgetful])

    cluster.tick(10 * T)

    assert _leaders(cluster) == set()


def _leaders(cluster: Cluster) -> set[int]:
    return {n for n, node in cluster.nodes.items() if node.core.role is Role.LEADER}
