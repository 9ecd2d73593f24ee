"""Joint configurations: several changes in one (paper section 6), left by whoever leads then."""

from __future__ import annotations

import pytest

from hstore.node.raft.entry import EntryKind
from hstore.node.raft.errors import Reason
from hstore.node.raft.membership import (
    ConfigChange,
    ConfigChangeKind,
    Configuration,
    InvalidConfigChange,
    Transition,
    enter_joint,
    leave_joint,
    next_configuration,
    simple,
)
from hstore.node.raft.messages import Append, AppendResponse, VoteResponse
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    PAPER,
    Cluster,
    Node,
    T,
    acknowledge,
    config_entry,
    make_leader,
    make_node,
)

THREE = Configuration((1, 2, 3))


def add(node: int) -> ConfigChange:
    return ConfigChange(ConfigChangeKind.ADD_VOTER, node)


def learn(node: int) -> ConfigChange:
    return ConfigChange(ConfigChangeKind.ADD_LEARNER, node)


def remove(node: int) -> ConfigChange:
    return ConfigChange(ConfigChangeKind.REMOVE, node)


def settled_leader(**kwargs) -> Node:
    node = make_leader(term=1, **kwargs)
    acknowledge(node, *(p for p in node.core.config.all_members() if p != 1))
    node.sent.clear()
    return node


def cluster_of(size: int, members: int) -> Cluster:
    """Return nodes 1 to `size`, of which the first `members` are voters; node 1 leads."""
    voters = tuple(range(1, members + 1))
    known = [make_node(node, voters=voters) for node in voters]
    others = [make_node(node, voters=()) for node in range(members + 1, size + 1)]
    cluster = Cluster([*known, *others])
    cluster.elect(1)
    return cluster


# -- the arithmetic -------------------------------------------------------------------------


def test_a_demoted_voter_waits_in_learners_next_while_the_old_half_needs_it() -> None:
    joint = enter_joint(THREE, [learn(2), add(4), remove(3), learn(5)], auto_leave=True)

    assert joint == Configuration((1, 4), (5,), (1, 2, 3), (2,), True)
    assert leave_joint(joint) == Configuration((1, 4), (2, 5))


def test_who_is_made_a_voter_after_all_is_no_learner_next() -> None:
    joint = enter_joint(THREE, [learn(2), add(2)], auto_leave=False)

    assert joint == Configuration((1, 2, 3), (), (1, 2, 3))


def test_a_learner_that_is_learned_again_stays_one() -> None:
    assert simple(Configuration((1,), (2,)), [learn(2)]) == Configuration((1,), (2,))


@pytest.mark.parametrize(
    ("config", "changes", "transition", "text"),
    [
        (THREE, [], Transition.AUTO, "can't leave a non-joint config"),
        (Configuration(), [add(1), add(2)], Transition.AUTO, "zero-voter"),
        (THREE, [remove(1), remove(2), remove(3)], Transition.AUTO, "removed all voters"),
        (THREE, [remove(1), remove(2), remove(3)], Transition.JOINT_EXPLICIT, "removed all"),
        (enter_joint(THREE, [], auto_leave=False), [add(4)], Transition.AUTO, "in joint config"),
        (
            enter_joint(THREE, [], auto_leave=False), [add(4)],
            Transition.JOINT_IMPLICIT, "already joint",
        ),
    ],
)  # fmt: skip
def test_what_cannot_follow_says_why(
    config: Configuration, changes: list[ConfigChange], transition: Transition, text: str
) -> None:
    with pytest.raises(InvalidConfigChange, match=text):
        next_configuration(config, changes, transition)


@pytest.mark.parametrize(
    ("changes", "is_joint"),
    [
        ([add(4)], False),
        ([add(4), learn(5), learn(6)], False),
        ([remove(3), learn(4)], False),
        ([remove(3), add(4)], True),
        ([learn(2), remove(3)], True),
        ([add(4), add(5)], True),
    ],
)
def test_more_than_one_voter_goes_through_both_majorities(
    changes: list[ConfigChange], is_joint: bool
) -> None:
    config = next_configuration(THREE, changes)

    assert bool(config.outgoing) is is_joint
    assert config.auto_leave is is_joint


# -- in the core ----------------------------------------------------------------------------


def test_a_node_is_replaced_in_one_change() -> None:
    cluster = cluster_of(4, 3)

    cluster[1].change(learn(4), rid=1)
    cluster.settle()
    cluster[1].change(add(4), remove(3), rid=2)
    assert cluster.core(1).config == Configuration((1, 2, 4), (), (1, 2, 3), (), True)
    cluster.settle()
    cluster.tick(2)

    assert [cluster.core(n).config for n in (1, 2, 4)] == [Configuration((1, 2, 4))] * 3
    assert isinstance(cluster[1].answers[2], int)


def test_in_a_joint_configuration_both_halves_must_have_an_entry() -> None:
    node = settled_leader()
    node.change(add(4), add(5), rid=1)
    last = node.core.log.last_index

    acknowledge(node, 2, index=last)
    assert node.core.log.commit == last - 1, "of 1, 2, 3, 4, 5 only two have it"
    acknowledge(node, 3, index=last)
    assert node.core.log.commit == last, "three of five and three of three"


def test_in_a_joint_configuration_the_new_half_alone_commits_nothing() -> None:
    node = settled_leader(voters=(1, 2, 3))
    node.change(remove(2), remove(3), add(4), add(5), rid=1)
    last = node.core.log.last_index

    for peer in (4, 5):
        node.receive(AppendResponse(peer, 1, 1, last))
    assert node.core.log.commit == last - 1
    acknowledge(node, 2, index=last)
    assert node.core.log.commit >= last


def test_an_election_in_a_joint_configuration_needs_both_halves() -> None:
    joint = Configuration((1, 4, 5), (), (1, 2, 3), (), True)
    node = _joint_candidate(joint)

    for peer in (4, 5):
        node.receive(VoteResponse(peer, 1, node.core.term, granted=True))
    assert node.core.role is Role.CANDIDATE
    node.receive(VoteResponse(2, 1, node.core.term, granted=True))
    assert node.core.role is Role.LEADER


def _joint_candidate(joint: Configuration) -> Node:
    node = make_node(entries=[config_entry(1, 1, joint)], options=PAPER)
    node.tick(2 * T)
    assert node.core.role is Role.CANDIDATE
    return node


def test_an_automatic_leave_waits_until_the_joint_configuration_is_committed() -> None:
    node = settled_leader()
    node.change(add(4), add(5), rid=1)
    node.sent.clear()
    node.tick()

    assert node.core.config.outgoing, "nobody has confirmed it"
    acknowledge(node, 2, 3)
    assert node.core.config == Configuration((1, 2, 3, 4, 5))
    assert [e.kind for m in node.take(Append, 2) for e in m.entries][-1] == EntryKind.CONFIG


def test_an_explicit_joint_configuration_stays_until_it_is_left() -> None:
    node = settled_leader()
    node.change(add(4), add(5), rid=1, transition=Transition.JOINT_EXPLICIT)
    acknowledge(node, 2, 3)
    node.tick(3)
    assert node.core.config.outgoing

    node.change(rid=2)
    assert node.core.config == Configuration((1, 2, 3, 4, 5))


def test_it_is_not_left_before_it_is_committed() -> None:
    node = settled_leader()
    node.change(add(4), add(5), rid=1, transition=Transition.JOINT_EXPLICIT)

    node.change(rid=2)

    assert node.answers[2] is Reason.CHANGE_PENDING


def test_the_next_leader_leaves_what_the_last_one_entered() -> None:
    """The entry that leaves it is nobody's duty in particular (etcd#12582: nor done twice)."""
    joint = Configuration((1, 2, 4), (), (1, 2, 3), (), True)
    node = _joint_candidate(joint)
    for peer in (2, 3, 4):
        node.receive(VoteResponse(peer, 1, node.core.term, granted=True))
    assert node.core.config.outgoing, "not before the no-op of its term is committed"
    acknowledge(node, 2, 3, 4)

    assert node.core.config == Configuration((1, 2, 4))
    kinds = [entry.kind for entry in node.core.log.entries]
    assert kinds.count(EntryKind.CONFIG) == 2, "the one that entered, and one that leaves"


def test_a_leader_may_remove_itself_through_a_joint_configuration() -> None:
    cluster = cluster_of(4, 3)
    cluster[1].change(learn(4), rid=1)
    cluster.settle()

    cluster[1].change(remove(1), add(4), rid=2)
    cluster.settle()

    assert cluster.core(1).role is Role.FOLLOWER, "it leads until its removal is committed"
    cluster.isolate(1)
    cluster.elect(2)
    assert cluster.core(2).config == Configuration((2, 3, 4))


def test_a_truncated_joint_configuration_is_taken_back() -> None:
    joint = Configuration((1, 2, 4), (), (1, 2, 3), (), True)
    node = make_node(entries=[config_entry(1, 1, joint)])

    node.receive(Append(2, 1, 2, 0, 0, [config_entry(1, 2, Configuration((1, 2, 3), (4,)))], 0))

    assert node.core.config == Configuration((1, 2, 3), (4,))
