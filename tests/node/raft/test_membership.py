"""Membership, one change at a time (R9): at append, with a history that truncation takes back."""

from __future__ import annotations

from typing import Any

import pytest

from hstore.node.raft.core import Core
from hstore.node.raft.entry import Entry, EntryKind, SnapshotMeta
from hstore.node.raft.errors import Reason
from hstore.node.raft.events import Compact, PeerUnreachable, ProposeConfigChange
from hstore.node.raft.membership import (
    ConfigChange,
    ConfigChangeKind,
    ConfigHistory,
    Configuration,
    decode,
    encode,
    is_configuration,
)
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    HeartbeatResponse,
    InstallSnapshot,
    VoteResponse,
)
from hstore.node.raft.options import Options
from hstore.node.raft.progress import ProgressState
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    PAPER,
    Longest,
    Node,
    T,
    acknowledge,
    append_from,
    config_entry,
    entries_of,
    make_cluster,
    make_follower,
    make_leader,
    make_node,
)

THREE = Configuration((1, 2, 3))
FOUR = Configuration((1, 2, 3, 4))
WITH_LEARNER = Configuration((1, 2, 3), (4,))


def changing_leader(**kwargs: Any) -> Node:
    node = make_leader(term=1, **kwargs)
    acknowledge(node, *(p for p in node.core.config.all_members() if p != 1))
    node.sent.clear()
    return node


def add(node: int) -> ConfigChange:
    return ConfigChange(ConfigChangeKind.ADD_VOTER, node)


def learn(node: int) -> ConfigChange:
    return ConfigChange(ConfigChangeKind.ADD_LEARNER, node)


def remove(node: int) -> ConfigChange:
    return ConfigChange(ConfigChangeKind.REMOVE, node)


# -- the gate -------------------------------------------------------------------------------


def test_no_change_before_the_no_op_is_committed() -> None:
    node = make_leader(term=1)
    node.change(learn(4), rid=1)
    acknowledge(node, 2)
    node.change(learn(4), rid=2)

    assert node.answers == {1: Reason.CHANGE_PENDING, 2: 2}


def test_no_change_while_another_is_not_committed() -> None:
    node = changing_leader()
    node.change(learn(4), rid=1)
    node.change(learn(5), rid=2)
    acknowledge(node, 2)
    node.change(learn(5), rid=3)

    assert node.answers == {1: 2, 2: Reason.CHANGE_PENDING, 3: 3}
    assert node.core.config.learners == (4, 5)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ((remove(1), remove(2), remove(3)), "removed all voters"),
        ((), "can't leave a non-joint config"),
    ],
)
def test_an_invalid_change_says_why(changes: tuple[ConfigChange, ...], text: str) -> None:
    node = changing_leader()

    update = node.step(ProposeConfigChange(7, changes))

    ((rid, reason, why),) = update.rejected
    assert (rid, reason) == (7, Reason.INVALID_CHANGE)
    assert text in why
    assert node.core.config == THREE


def test_who_does_not_lead_changes_nothing() -> None:
    node = make_follower([1], term=1)

    node.change(learn(4), rid=1)

    assert node.answers == {1: Reason.NOT_LEADER}


# -- in force at append ---------------------------------------------------------------------


def test_a_leader_feeds_exactly_the_members_in_force() -> None:
    node = changing_leader()
    node.change(learn(4))
    assert sorted(node.core.progress) == [2, 3, 4]
    acknowledge(node, 2, 3)

    node.change(remove(3), rid=2)
    assert sorted(node.core.progress) == [2, 4]
    node.sent.clear()
    node.tick()
    assert {m.to for m in node.sent} == {2, 4}


def test_those_who_stay_keep_their_progress() -> None:
    node = changing_leader()
    before = node.core.progress[2]

    node.change(learn(4))

    assert node.core.progress[2] is before
    new = node.core.progress[4]
    assert (new.state, new.match) == (ProgressState.PROBE, 0)


def test_a_change_to_a_smaller_quorum_commits_what_that_quorum_has() -> None:
    node = changing_leader(voters=(1, 2), is_disk_held=True)
    node.propose(b"x")
    node.flush()
    assert node.core.log.commit == 1

    node.change(remove(2))
    assert node.core.log.commit == 2
    node.flush()

    assert node.core.log.commit == 3
    assert [e.kind for e in node.applied] == [
        EntryKind.NOOP, EntryKind.COMMAND, EntryKind.CONFIG,
    ]  # fmt: skip


def test_a_truncated_change_is_taken_back_to_the_one_before() -> None:
    """canonical/raft#250: the rollback must find the configuration that was in force before."""
    node = make_follower([1], term=1)
    node.receive(Append(2, 1, 1, 1, 1, [config_entry(2, 1, WITH_LEARNER), *entries_of([1], 3)], 2))
    node.receive(Append(2, 1, 1, 3, 1, [config_entry(4, 1, FOUR)], 2))
    assert node.core.config == FOUR

    node.receive(append_from(3, 2, prev=(3, 1), terms=[2]))
    assert node.core.config == WITH_LEARNER
    assert [i for i, _ in node.core.history.items()] == [0, 2]
    assert node.restart().core.config == WITH_LEARNER


def test_a_truncation_behind_a_change_leaves_it_in_force() -> None:
    node = make_follower([1], term=1)
    node.receive(Append(2, 1, 1, 1, 1, [config_entry(2, 1, WITH_LEARNER), *entries_of([1], 3)], 0))

    node.receive(append_from(3, 2, prev=(2, 1), terms=[2]))

    assert node.core.config == WITH_LEARNER


def test_a_restart_folds_the_log_into_the_configuration() -> None:
    """D9: committed or not, the newest entry in the log counts, and nothing else remembers it."""
    node = make_node(
        entries=[config_entry(1, 1, WITH_LEARNER), config_entry(2, 1, FOUR)],
        snapshot=SnapshotMeta(0, 0, THREE),
    )

    assert node.core.config == FOUR
    assert node.core.log.commit == 0


def test_an_installed_snapshot_resets_the_configuration() -> None:
    """openraft#1808: a membership that survived the snapshot made quorums that do not meet."""
    node = make_follower([1], term=1)
    node.receive(Append(2, 1, 1, 1, 1, [config_entry(2, 1, FOUR)], 0))

    node.receive(InstallSnapshot(2, 1, 1, SnapshotMeta(9, 1, WITH_LEARNER)))
    node.receive(append_from(2, 1, prev=(9, 1), terms=[1]))

    assert node.core.config == WITH_LEARNER
    assert node.core.meta_at(9).config == WITH_LEARNER


def test_compaction_keeps_the_configuration_of_its_index() -> None:
    node = changing_leader()
    node.change(learn(4), rid=1)
    acknowledge(node, 2, 3)
    node.propose(b"x")
    acknowledge(node, 2, 3)
    node.change(remove(3), rid=2)

    meta = node.step(Compact(3)).compact

    assert meta == SnapshotMeta(3, 1, WITH_LEARNER)
    assert [index for index, _ in node.core.history.items()] == [2, 4]
    assert node.core.config == Configuration((1, 2), (4,))
    assert node.core.meta_at(3).config == WITH_LEARNER


# -- learners -------------------------------------------------------------------------------


def test_a_learner_far_behind_is_not_ready() -> None:
    node = changing_leader(learners=(4,), options=Options(promotion_gap=2))
    node.propose(*[b"x"] * 10)
    acknowledge(node, 2, 3)
    for index, ready in ((5, []), (8, []), (9, [4]), (11, [4])):
        acknowledge(node, 4, index=index)
        assert node.core.learners_caught_up() == ready


def test_a_learner_that_does_not_answer_is_not_ready() -> None:
    node = make_leader([1] * 5, term=2, learners=(4,))
    acknowledge(node, 2, 3)

    assert node.core.learners_caught_up() == []
    node.change(add(4), rid=1)
    assert node.answers == {1: Reason.INVALID_CHANGE}


def test_a_learner_whose_link_broke_is_not_ready() -> None:
    node = changing_leader(learners=(4,))
    assert node.core.learners_caught_up() == [4]

    node.step(PeerUnreachable(4))

    assert node.core.learners_caught_up() == []


def test_a_learner_without_an_entry_of_this_leader_is_not_ready() -> None:
    node = make_leader([1] * 5, term=2, learners=(4,))
    acknowledge(node, 2, 3)
    acknowledge(node, 4, index=5)
    assert node.core.learners_caught_up() == []

    acknowledge(node, 4, index=6)
    assert node.core.learners_caught_up() == [4]


def test_no_learner_is_ready_while_a_change_is_pending() -> None:
    node = changing_leader(learners=(4,))
    assert node.core.learners_caught_up() == [4]

    node.change(learn(5))

    assert node.core.learners_caught_up() == []


def test_only_the_leader_promotes() -> None:
    assert make_follower(term=1, learners=(4,)).core.learners_caught_up() == []


def test_a_node_joins_learns_and_votes() -> None:
    cluster = make_cluster(1)
    cluster.elect(1)
    for new in (2, 3):
        cluster.replace(make_node(new, voters=()))
        cluster[1].change(learn(new), rid=new)
        cluster.tick(2)
        assert cluster.core(1).learners_caught_up() == [new]
        cluster[1].change(add(new), rid=10 + new)
        cluster.tick(2)

    assert [n.core.config for n in cluster.nodes.values()] == [THREE] * 3
    del cluster.nodes[1]
    cluster.elect(3)
    assert cluster.core(3).config == THREE


# -- leaving --------------------------------------------------------------------------------


def test_a_leader_that_leaves_a_cluster_of_two_leaves_it_working() -> None:
    cluster = make_cluster(2)
    cluster.elect(1)
    cluster.tick()

    cluster[1].change(remove(1))
    cluster.settle()
    assert cluster.core(1).role is Role.FOLLOWER
    cluster.tick(3 * T)

    assert cluster.core(2).role is Role.LEADER
    assert cluster.core(2).config == Configuration((2,))


def test_a_leader_that_leaves_stays_until_that_is_committed() -> None:
    node = changing_leader()
    node.change(remove(1))
    for _ in range(3 * T):
        node.tick()
        node.receive(*(HeartbeatResponse(p, 1, 1, node.core.round) for p in (2, 3)))
    assert node.core.role is Role.LEADER

    acknowledge(node, 2, 3)
    assert node.core.role is Role.FOLLOWER
    node.tick(3 * T)
    assert node.core.role is Role.FOLLOWER


def test_a_leader_elected_outside_its_configuration_counts_others_only() -> None:
    node = make_node(
        voters=(1, 2, 3),
        entries=[*entries_of([1]), config_entry(2, 1, Configuration((2, 3)))],
        options=PAPER,
    )
    node.tick(2 * T)
    assert node.core.role is Role.CANDIDATE
    node.receive(VoteResponse(2, 1, 2, granted=True))
    assert node.core.role is Role.CANDIDATE
    node.receive(VoteResponse(3, 1, 2, granted=True))
    assert node.core.role is Role.LEADER

    acknowledge(node, 2)
    assert node.core.log.commit == 0
    acknowledge(node, 3)
    assert (node.core.log.commit, node.core.role) == (3, Role.FOLLOWER)


# -- entries that cannot be read ------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x01", b"\x91\xa1a", b"\x92\x91\x01\x05"])
def test_an_append_with_an_unreadable_configuration_is_dropped(data: bytes) -> None:
    node = make_follower([1], term=1)
    bad = Entry(2, 1, EntryKind.CONFIG, data)

    update = node.receive(Append(2, 1, 1, 1, 1, [bad], 0))

    assert not is_configuration(data)
    assert (update.persist, node.take(AppendResponse)) == (None, [])
    assert (node.core.log.last_index, node.core.config) == (1, THREE)


# -- configurations and their history -------------------------------------------------------


def test_a_configuration_survives_its_encoding() -> None:
    config = Configuration((1, 2), (3,), (1, 4), (4,), True)

    assert decode(encode(config)) == config


def test_members_are_all_who_receive_the_log() -> None:
    config = Configuration((1, 5), (3,), (1, 4), (4,))

    assert config.all_members() == (1, 3, 4, 5)
    assert config.all_voters() == (1, 4, 5)
    assert [n for n in range(7) if config.is_voter(n)] == [1, 4, 5]


def history() -> ConfigHistory:
    h = ConfigHistory(0, THREE)
    h.push(5, WITH_LEARNER)
    h.push(9, FOUR)
    return h


@pytest.mark.parametrize(
    ("index", "expected"),
    [(10, (9, FOUR)), (9, (5, WITH_LEARNER)), (6, (5, WITH_LEARNER)), (5, (0, THREE)),
     (1, (0, THREE))],
)  # fmt: skip
def test_truncation_pops_the_history(index: int, expected: tuple[int, Configuration]) -> None:
    h = history()

    assert h.truncate(index) is (index <= 9)
    assert (h.index, h.current) == expected


@pytest.mark.parametrize(("index", "kept"), [(4, [0, 5, 9]), (5, [5, 9]), (8, [5, 9]), (9, [9])])
def test_compaction_keeps_what_is_in_force_at_its_index(index: int, kept: list[int]) -> None:
    h = history()

    h.compact(index)

    assert [i for i, _ in h.items()] == kept
    assert h.current == FOUR


@pytest.mark.parametrize(
    ("index", "config"), [(0, THREE), (4, THREE), (5, WITH_LEARNER), (9, FOUR), (99, FOUR)]
)
def test_the_history_knows_what_was_in_force_at_an_index(index: int, config: Configuration) -> None:
    assert history().at(index) == config


def test_a_core_made_from_nothing_belongs_to_no_cluster() -> None:
    core = Core(7, Options(), Longest())

    assert core.config == Configuration()
    assert not core.is_promotable()
