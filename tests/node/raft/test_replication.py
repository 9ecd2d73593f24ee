"""Replication beyond the paper: the window, probes, snapshots for who is too far behind, bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hstore.node.raft import replication
from hstore.node.raft.entry import SnapshotMeta
from hstore.node.raft.errors import Reason
from hstore.node.raft.events import (
    Compact,
    PeerUnreachable,
    Propose,
    SnapshotSent,
    TellCommit,
)
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
)
from hstore.node.raft.options import Options
from hstore.node.raft.progress import ProgressState
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    Node,
    T,
    acknowledge,
    append_from,
    entries_of,
    make_cluster,
    make_follower,
    make_leader,
    terms_of,
)

ENTRY = 24 + 8
"""Bytes that an entry of eight bytes counts for."""

CONFIG = Configuration((1, 2, 3))


def streaming_leader(options: Options | None = None, **kwargs: Any) -> Node:
    """Return the leader of term 1 with peers 2 and 3 in replicate, and nothing in flight."""
    node = make_leader(term=1, options=options or Options(), **kwargs)
    acknowledge(node, 2, 3)
    node.sent.clear()
    return node


def lags(node: Node, peer: int = 3) -> None:
    """Let everything be committed without this peer, and compacted away before it."""
    others = [p for p in (2, 3) if p != peer]
    for number in range(5):
        node.propose(b"x" * 8, rid=number)
    acknowledge(node, *others)
    node.step(Compact(node.core.log.applied))
    node.sent.clear()


# -- the window -----------------------------------------------------------------------------


def test_appends_stream_ahead_of_the_answers_up_to_the_bound_in_messages() -> None:
    node = streaming_leader(Options(max_inflight_messages=3))

    for number in range(10):
        node.propose(b"x" * 8, rid=number)

    assert [m.entries[0].index for m in node.take(Append, to=2)] == [2, 3, 4]
    acknowledge(node, 2, index=3)
    sent = [m for m in node.take(Append, to=2) if m.entries]
    assert [[e.index for e in m.entries] for m in sent] == [[5, 6, 7, 8, 9, 10, 11]]


def test_appends_stream_up_to_the_bound_in_bytes() -> None:
    """ "the message that crosses it still leaves": the bound must not stop a single large entry."""
    node = streaming_leader(Options(max_inflight_bytes=3 * ENTRY - 1))

    for number in range(10):
        node.propose(b"x" * 8, rid=number)

    assert len(node.take(Append, to=2)) == 3
    assert node.core.progress[2].inflight_bytes == 3 * ENTRY
    acknowledge(node, 2, index=4)
    assert node.core.progress[2].inflight_bytes == 7 * ENTRY


def test_an_acknowledgement_frees_the_window_of_all_before_it() -> None:
    node = streaming_leader(Options(max_inflight_messages=4))
    for number in range(4):
        node.propose(b"x" * 8, rid=number)

    acknowledge(node, 2, index=4)

    assert node.core.progress[2].inflight_bytes == ENTRY


@pytest.mark.parametrize(("size", "per_message"), [(8, 3), (200, 1)])
def test_a_message_is_bounded_unless_a_single_entry_is_larger(size: int, per_message: int) -> None:
    node = streaming_leader(Options(max_append_bytes=3 * ENTRY))

    node.propose(*[b"x" * size] * 7)

    counts = [len(m.entries) for m in node.take(Append, to=2)]
    assert counts == [per_message] * (7 // per_message) + [7 % per_message] * (per_message > 1)


def test_a_full_window_whose_messages_were_lost_recovers() -> None:
    """etcd#14633: nothing in flight is ever answered, and the window lets nothing more out."""
    cluster = make_cluster(3, options=Options(max_inflight_messages=2, max_append_bytes=1))
    cluster.elect(1)
    cluster.tick()
    cluster.isolate(3)
    for number in range(8):
        cluster[1].propose(b"x", rid=number)
        cluster.settle()
    assert cluster.core(3).log.last_index == 1
    cluster.heal()

    cluster.tick(2)

    assert cluster.core(3).log.entries == cluster.core(1).log.entries


def test_lost_acknowledgements_are_made_up_for() -> None:
    node = streaming_leader(Options(max_inflight_messages=2))
    for number in range(4):
        node.propose(b"x" * 8, rid=number)
    node.sent.clear()

    node.receive(HeartbeatResponse(2, 1, 1, 1))
    (empty,) = node.take(Append, to=2)
    assert (empty.prev_index, empty.entries) == (3, [])
    acknowledge(node, 2, index=3)

    assert [e.index for m in node.take(Append, to=2) for e in m.entries] == [4, 5]


def test_a_broken_link_makes_a_stream_feel_its_way_again() -> None:
    node = streaming_leader()
    node.propose(b"x" * 8)
    node.sent.clear()

    node.step(PeerUnreachable(2))

    progress = node.core.progress[2]
    assert (progress.state, progress.inflight_bytes) == (ProgressState.PROBE, 0)
    (probe,) = node.take(Append, to=2)
    assert (probe.prev_index, len(probe.entries)) == (1, 1)
    node.propose(b"y" * 8, rid=2)
    assert node.take(Append, to=2) == []
    acknowledge(node, 2, index=2)
    assert progress.state is ProgressState.REPLICATE


def test_a_probe_waits_for_an_answer_or_a_heartbeats_answer() -> None:
    node = make_leader([1, 1], term=2)
    node.sent.clear()
    node.propose(b"x")
    assert node.take(Append) == []

    node.receive(HeartbeatResponse(2, 1, 2, 1))
    assert [(m.to, m.prev_index) for m in node.take(Append)] == [(2, 2)]


def test_entries_are_sent_once_while_all_goes_well() -> None:
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.tick()
    sent = []
    for number in range(50):
        cluster[1].propose(b"%d" % number, rid=number)
        sent += [e.index for m in cluster[1].sent if isinstance(m, Append) for e in m.entries]
        cluster.settle()
        cluster.tick(number % 7 == 0)

    assert sorted(sent) == sorted([*range(2, 52), *range(2, 52)])


# -- answers that are late, doubled or wrong ------------------------------------------------


def test_a_late_rejection_of_a_stream_is_ignored() -> None:
    node = streaming_leader()
    node.propose(b"x" * 8)
    acknowledge(node, 2)
    progress = node.core.progress[2]

    node.receive(AppendResponse(2, 1, 1, 1, rejected=True, hint_index=0))

    assert (progress.state, progress.match, progress.next) == (ProgressState.REPLICATE, 2, 3)


def test_a_late_rejection_of_another_probe_is_ignored() -> None:
    node = make_leader([1, 1, 1], term=2)
    node.receive(AppendResponse(2, 1, 2, 3, rejected=True, hint_index=2, hint_term=1))
    assert node.core.progress[2].next == 3
    node.sent.clear()

    node.receive(AppendResponse(2, 1, 2, 3, rejected=True, hint_index=0, hint_term=0))

    assert node.core.progress[2].next == 3
    assert node.take(Append) == []


def test_a_rejection_never_goes_below_the_match() -> None:
    """D20: nextIndex > matchIndex always."""
    node = streaming_leader()
    node.propose(b"a", b"b", b"c")
    acknowledge(node, 2, index=3)
    node.step(PeerUnreachable(2))

    node.receive(AppendResponse(2, 1, 1, 3, rejected=True, hint_index=0, hint_term=0))

    progress = node.core.progress[2]
    assert (progress.match, progress.next) == (3, 4)


def test_acknowledgements_of_strangers_and_learners_commit_nothing() -> None:
    node = make_leader(term=1, learners=(4,))

    acknowledge(node, 4, 9)

    assert node.core.log.commit == 0


def test_a_heartbeat_commits_no_more_than_its_receiver_is_known_to_have() -> None:
    """What lies behind the match at the follower may be another leader's (R7)."""
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.tick()
    cluster.isolate(3)
    cluster[1].propose(b"x")
    cluster.settle()
    assert cluster.core(1).log.commit == 2

    cluster[1].tick()

    assert {m.to: m.commit for m in cluster[1].take(Heartbeat)} == {2: 2, 3: 1}


def test_a_heartbeats_commit_beyond_the_log_is_not_believed() -> None:
    node = make_follower([1], term=1)

    node.receive(Heartbeat(2, 1, 1, 5, 1))

    assert node.core.log.commit == 0


def test_an_append_below_the_commit_is_answered_with_the_commit() -> None:
    node = make_follower([1, 1, 1, 1], term=1, commit=3)

    answer = node.ask(append_from(2, 1, terms=[1, 1]), AppendResponse)

    assert (answer.rejected, answer.index) == (False, 3)


@pytest.mark.parametrize(
    ("prev", "terms"),
    [((0, 0), [1, 2]), ((1, 2), [2])],
    ids=["entry", "prev"],
)
def test_a_conflict_with_a_committed_entry_is_refused(
    prev: tuple[int, int], terms: list[int]
) -> None:
    """R7: truncation never below the commit. A leader that holds another entry there is broken, or
    lies; this node has what is right, and may not die of it."""
    node = make_follower([1, 1, 1], term=2, commit=2)

    update = node.receive(append_from(2, 2, prev=prev, terms=terms))

    assert [peer for peer, _ in update.refused] == [2]
    assert (update.persist, node.sent, terms_of(node.core)) == (None, [], [1, 1, 1])


@pytest.mark.parametrize(
    "message",
    [
        append_from(3, 2, prev=(3, 1), terms=[2]),
        Heartbeat(3, 1, 2, 0, 1),
        InstallSnapshot(3, 1, 2, SnapshotMeta(9, 2, Configuration((1, 2, 3)))),
    ],
    ids=["append", "heartbeat", "snapshot"],
)
def test_a_second_leader_of_a_term_is_refused_and_the_first_is_followed(message: Message) -> None:
    """Election Safety (Figure 3): one of the two lies. That is no reason for this node to end."""
    node = make_follower([1, 1, 1], term=2)
    node.receive(Heartbeat(2, 1, 2, 0, 1))

    update = node.receive(message)

    assert [peer for peer, _ in update.refused] == [3]
    assert (node.core.leader, terms_of(node.core)) == (2, [1, 1, 1])


@pytest.mark.parametrize(
    "meta",
    [SnapshotMeta(9, 3, Configuration((1, 2, 3))), SnapshotMeta(9, 2, Configuration())],
    ids=["of a later term", "without voters"],
)
def test_a_snapshot_that_no_leader_can_have_made_is_refused(meta: SnapshotMeta) -> None:
    node = make_follower([1], term=2)

    update = node.receive(InstallSnapshot(2, 1, 2, meta))

    assert ([peer for peer, _ in update.refused], update.snapshot_refused) == ([2], True)
    assert (update.persist, terms_of(node.core)) == (None, [1])


def test_late_appends_below_a_compacted_log_are_no_conflict() -> None:
    node = make_follower([1, 1, 1, 1], term=2, commit=3)
    node.tick()
    node.step(Compact(3))

    assert node.ask(append_from(2, 2, terms=[1, 1, 1]), AppendResponse).index == 3


@pytest.mark.parametrize(
    "message",
    [
        Append(2, 1, 2, 1, 1, entries_of([2], 3), 0),
        Append(2, 1, 2, 1, 1, [*entries_of([2], 2), *entries_of([2], 2)], 0),
        Append(2, 1, 2, 1, 1, entries_of([2, 1], 2), 0),
        Append(2, 1, 2, 1, 1, entries_of([3], 2), 0),
        Append(2, 1, 2, -1, 0, entries_of([1], 0), 0),
        Append(2, 1, 2, 2, 2, entries_of([1], 3), 0),
    ],
    ids=["gap", "doubled", "falling", "future", "negative", "below prev"],
)
def test_a_malformed_append_is_refused(message: Append) -> None:
    node = make_follower([1], term=2)

    update = node.receive(message)

    assert [peer for peer, _ in update.refused] == [2]
    assert (update.persist, node.sent) == (None, [])
    assert terms_of(node.core) == [1]


# -- snapshots ------------------------------------------------------------------------------


def test_a_slow_follower_is_not_lost_when_its_next_entry_is_compacted() -> None:
    """etcd-io/raft#31: a stream whose next entry is gone must turn to a snapshot."""
    node = streaming_leader(Options(max_inflight_messages=1))
    node.propose(b"x" * 8, rid=900)
    assert node.core.progress[3].state is ProgressState.REPLICATE

    lags(node)
    node.receive(HeartbeatResponse(3, 1, 1, 1))

    assert node.wanted == [3]
    assert node.core.progress[3].state is ProgressState.SNAPSHOT


def test_nothing_is_sent_to_a_peer_whose_snapshot_is_under_way() -> None:
    node = wants_snapshot()

    node.propose(b"y", rid=99)
    node.receive(HeartbeatResponse(3, 1, 1, 1))

    assert node.take(Append, to=3) == []
    assert node.wanted == [3]


def wants_snapshot() -> Node:
    node = streaming_leader()
    node.step(PeerUnreachable(3))
    lags(node)
    node.receive(HeartbeatResponse(3, 1, 1, 1))
    assert node.wanted == [3]
    node.sent.clear()
    return node


def test_after_a_snapshot_the_stream_goes_on_behind_it() -> None:
    node = wants_snapshot()
    index = node.core.log.snapshot_index
    node.propose(b"y", rid=99)

    node.step(SnapshotSent(3, index, ok=True))
    assert node.take(Append, to=3) == []
    node.receive(AppendResponse(3, 1, 1, index))

    assert [(m.prev_index, len(m.entries)) for m in node.take(Append, to=3)] == [(index, 1)]


def test_an_acknowledgement_of_before_the_snapshot_leaves_it_under_way() -> None:
    node = wants_snapshot()

    acknowledge(node, 3, index=2)

    assert node.core.progress[3].state is ProgressState.SNAPSHOT
    assert node.wanted == [3]


def test_a_snapshot_whose_acknowledgement_was_lost_is_not_sent_again() -> None:
    node = wants_snapshot()
    index = node.core.log.snapshot_index
    node.step(SnapshotSent(3, index, ok=True))

    node.receive(HeartbeatResponse(3, 1, 1, 1))

    assert [m.prev_index for m in node.take(Append, to=3)] == [index]
    assert node.wanted == [3]


def test_the_acknowledgement_of_a_snapshot_may_overtake_its_end() -> None:
    node = wants_snapshot()
    index = node.core.log.snapshot_index

    node.receive(AppendResponse(3, 1, 1, index))
    node.step(SnapshotSent(3, index, ok=True))

    progress = node.core.progress[3]
    assert (progress.state, progress.match, progress.next) == (
        ProgressState.REPLICATE, index, index + 1,
    )  # fmt: skip


def test_a_failed_snapshot_is_tried_again_at_the_next_sign_of_life() -> None:
    """D12: else the peer stays where it is for ever."""
    node = wants_snapshot()

    node.step(SnapshotSent(3, 0, ok=False))
    assert node.wanted == [3]
    node.receive(HeartbeatResponse(3, 1, 1, 1))

    assert node.wanted == [3, 3]


def test_a_snapshot_that_was_compacted_past_meanwhile_leads_to_another() -> None:
    node = wants_snapshot()
    index = node.core.log.snapshot_index
    for number in range(5):
        node.propose(b"z", rid=200 + number)
    acknowledge(node, 2)
    node.step(Compact(node.core.log.applied))

    node.step(SnapshotSent(3, index, ok=True))
    node.receive(AppendResponse(3, 1, 1, index))

    assert node.wanted == [3, 3]


def test_no_snapshot_is_made_for_a_peer_that_gives_no_sign_of_life() -> None:
    node = streaming_leader()
    for _ in range(2 * T):
        node.tick()
        node.receive(HeartbeatResponse(2, 1, 1, node.core.round))
    lags(node)
    node.step(PeerUnreachable(3))
    node.tick(3)
    assert node.wanted == []

    node.receive(HeartbeatResponse(3, 1, 1, 1))
    assert node.wanted == [3]


def test_a_snapshot_result_for_a_peer_that_needs_none_is_ignored() -> None:
    node = streaming_leader()

    node.step(SnapshotSent(2, 9, ok=True), SnapshotSent(77, 9, ok=True))

    assert node.core.progress[2].state is ProgressState.REPLICATE


def test_a_snapshot_that_is_not_newer_is_refused() -> None:
    """An old one would leave a gap or undo what was applied (camunda#3573)."""
    node = make_follower([1, 1, 1], term=2, commit=3)

    update = node.receive(InstallSnapshot(2, 1, 2, SnapshotMeta(2, 1, CONFIG)))

    assert update.snapshot_refused
    assert terms_of(node.core) == [1, 1, 1]
    assert node.take(AppendResponse) == [AppendResponse(1, 2, 2, 3)]


def test_a_snapshot_older_than_the_own_one_is_refused() -> None:
    node = make_follower([1, 1, 1, 1], term=2, commit=4)
    node.tick()
    node.step(Compact(3))

    update = node.receive(InstallSnapshot(2, 1, 2, SnapshotMeta(2, 1, CONFIG)))

    assert update.snapshot_refused
    assert update.persist is None
    assert (node.core.log.snapshot_index, node.core.log.applied) == (3, 4)


def test_a_snapshot_of_a_stale_term_is_refused() -> None:
    """Else its content would stay staged for ever."""
    node = make_follower([1], term=3)

    update = node.receive(InstallSnapshot(2, 1, 2, SnapshotMeta(9, 2, CONFIG)))

    assert update.snapshot_refused
    assert node.take(AppendResponse) == [AppendResponse(1, 2, 3, 0, rejected=True)]
    assert node.core.log.last_index == 1


def test_a_snapshot_installs_over_entries_that_are_being_applied() -> None:
    node = make_follower([1, 1, 1], term=2, is_apply_held=True)
    node.receive(Heartbeat(2, 1, 2, 2, 1))
    assert [e.index for e in node.batch] == [1, 2]

    node.receive(InstallSnapshot(2, 1, 2, SnapshotMeta(9, 2, CONFIG)))
    node.apply()

    assert node.core.log.applied == 9
    node.receive(append_from(2, 2, prev=(9, 2), terms=[2], commit=10))
    assert [e.index for e in node.batch] == [10]


def test_a_cluster_brings_an_empty_disk_up_by_snapshot() -> None:
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.isolate(3)
    for number in range(20):
        cluster[1].propose(b"%d" % number, rid=number)
        cluster.settle()
    cluster[1].step(Compact(15))
    cluster.heal()
    cluster.tick()
    assert cluster[1].wanted == [3]

    meta = cluster.core(1).meta_at(cluster.core(1).log.applied)
    cluster[3].receive(InstallSnapshot(1, 3, cluster.core(1).term, meta))
    cluster[1].step(SnapshotSent(3, meta.index, ok=True))
    cluster[1].propose(b"after", rid=99)
    cluster.tick(2)

    assert cluster.core(3).log.last_index == cluster.core(1).log.last_index
    assert [e.index for e in cluster[3].applied] == [1, meta.index + 1]


# -- bounds ---------------------------------------------------------------------------------


def test_nothing_goes_past_a_full_window_not_even_the_news_of_a_commit() -> None:
    """A window that was overtaken or lost was sent once more for each message that went past it."""
    node = streaming_leader(Options(max_inflight_messages=1))
    node.propose(b"x")
    node.propose(b"y")
    node.sent.clear()

    acknowledge(node, 2)

    assert node.core.log.commit == node.core.log.last_index
    assert not [m for m in node.sent if m.to == 3]


def test_more_than_the_bound_of_uncommitted_bytes_is_overloaded() -> None:
    node = streaming_leader(Options(max_uncommitted_bytes=2 * ENTRY))

    for rid in range(5):
        node.propose(b"x" * 8, rid=rid)

    overloaded = Reason.OVERLOADED
    assert node.answers == {0: 2, 1: 3, 2: 4, 3: overloaded, 4: overloaded}
    assert node.core.log.last_index == 4
    acknowledge(node, 2)
    node.propose(b"x" * 8, rid=9)
    assert node.answers[9] == 5


def test_uncommitted_bytes_of_the_leader_before_count_too() -> None:
    options = Options(max_uncommitted_bytes=2 * ENTRY)
    node = make_leader([1] * 9, term=2, options=options)

    node.propose(b"x", rid=1)
    assert node.answers == {1: Reason.OVERLOADED}
    acknowledge(node, 2)

    assert node.core.uncommitted_bytes == 0


def test_a_state_machine_that_lags_holds_proposals_back() -> None:
    node = streaming_leader(Options(max_unapplied_bytes=2 * ENTRY), is_apply_held=True)
    node.propose(*[b"x" * 8] * 3, rid=0)
    acknowledge(node, 2)

    node.propose(b"x" * 8, rid=5)
    assert node.answers[5] is Reason.OVERLOADED
    node.apply()
    node.propose(b"x" * 8, rid=6)

    assert node.answers[6] == node.core.log.last_index
    assert node.core.unapplied_bytes == 0


def test_what_a_new_leader_has_not_applied_counts_too() -> None:
    options = Options(max_unapplied_bytes=2 * ENTRY)
    node = make_leader([1] * 9, term=2, commit=9, options=options, is_apply_held=True)

    node.propose(b"x", rid=1)

    assert node.answers == {1: Reason.OVERLOADED}


def test_a_proposal_is_taken_whole_or_not_at_all() -> None:
    node = streaming_leader(Options(max_uncommitted_bytes=ENTRY))

    node.propose(*[b"x" * 8] * 5, rid=1)
    node.propose(*[b"y" * 8] * 2, rid=11)

    assert [node.answers[rid] for rid in (1, 5)] == [2, 6]
    assert {node.answers[rid] for rid in (11, 12)} == {Reason.OVERLOADED}


def test_batches_to_apply_are_bounded() -> None:
    options = replace(Options(), max_apply_bytes=2 * ENTRY)
    node = make_follower([1] * 5, term=1, options=options, is_apply_held=True)

    node.receive(Heartbeat(2, 1, 1, 5, 1))

    assert len(node.batch) == 2
    assert [e.index for e in node.batch] == [1, 2]


def test_who_does_not_lead_takes_no_proposal() -> None:
    node = make_follower([1], term=1)

    node.propose(b"a", b"b", rid=1)

    assert node.answers == {1: Reason.NOT_LEADER, 2: Reason.NOT_LEADER}
    assert node.core.log.last_index == 1


def test_a_proposal_of_nothing_is_none() -> None:
    node = streaming_leader()

    assert node.propose().persist is None
    assert node.answers == {}


def test_a_proposal_at_a_follower_is_refused_with_a_hint_who_leads() -> None:
    node = make_follower([1], term=1)
    assert node.step(Propose([(7, b"x")])).rejected == [(7, Reason.NOT_LEADER, "")]

    node.receive(Heartbeat(2, 1, 1, 0, 1))

    hint = "0000000000000002"
    assert node.step(Propose([(8, b"x")])).rejected == [(8, Reason.NOT_LEADER, hint)]


# -- the news of a commit -----------------------------------------------------------------------

LAZY = Options(eager_commit=False)


def commits(node: Node) -> list[tuple[int, int, int]]:
    """Return receiver, commit index and number of entries of the appends that were sent."""
    return [(m.to, m.commit, len(m.entries)) for m in node.take(Append)]


def test_a_commit_is_told_with_the_next_entries_and_not_by_itself() -> None:
    node = streaming_leader(LAZY)
    node.propose(b"x")
    node.sent.clear()
    acknowledge(node, 2, 3)
    assert node.core.log.commit == 2
    assert commits(node) == []
    assert replication.is_untold(node.core, 2)
    node.propose(b"y")
    assert commits(node) == [(2, 2, 1), (3, 2, 1)]
    assert not replication.is_untold(node.core, 2)


def test_a_commit_that_no_entries_follow_is_told_once_when_it_is_time() -> None:
    node = streaming_leader(LAZY)
    node.propose(b"x")
    node.sent.clear()
    acknowledge(node, 2, 3)
    node.step(TellCommit())
    assert commits(node) == [(2, 2, 0), (3, 2, 0)]
    node.step(TellCommit())
    assert commits(node) == []
    node.tick()
    assert {m.commit for m in node.take(Heartbeat)} == {2}


def test_a_commit_is_not_told_past_entries_that_are_still_to_be_answered() -> None:
    """They may be lost, and then each such message would be rejected."""
    node = streaming_leader(LAZY)
    node.propose(b"x")
    node.sent.clear()
    acknowledge(node, 2)
    node.step(TellCommit())
    assert commits(node) == [(2, 2, 0)]
    acknowledge(node, 3)
    node.step(TellCommit())
    assert commits(node) == [(3, 2, 0)]


def test_a_commit_is_told_at_once_past_entries_in_flight_while_the_window_is_open() -> None:
    node = streaming_leader(replace(LAZY, max_inflight_messages=2))
    node.propose(b"x")
    node.sent.clear()
    acknowledge(node, 2)
    node.step(TellCommit(at_once=True))
    assert commits(node) == [(2, 2, 0), (3, 2, 0)]

    node.propose(b"y")  # The second message to 3, whose window is full with it.
    node.sent.clear()
    acknowledge(node, 2)
    node.step(TellCommit(at_once=True))
    assert commits(node) == [(2, 3, 0)]


def test_a_commit_is_told_by_leaders_only_and_to_who_is_there_to_hear_it() -> None:
    follower = make_follower([1, 1], term=1, commit=1)
    follower.step(TellCommit())
    assert follower.sent == []

    node = streaming_leader(LAZY)
    node.propose(b"x")
    node.step(PeerUnreachable(3))
    node.sent.clear()
    acknowledge(node, 2)
    node.step(TellCommit())
    assert [to for to, _, entries in commits(node) if not entries and to == 3] == []


def test_an_answer_that_only_a_lazily_told_commit_could_follow_is_no_news() -> None:
    node = streaming_leader(LAZY)
    node.propose(b"x")
    acknowledge(node, 2)
    answer = AppendResponse(3, 1, 1, 2)
    assert replication.is_no_news(node.core, answer)
    eager = streaming_leader()
    eager.propose(b"x")
    acknowledge(eager, 2)
    assert eager.core.progress[3].sent_commit == 2
    assert replication.is_no_news(eager.core, answer)


# -- news of a commit --------------------------------------------------------------------------


def test_news_that_fits_is_taken_and_not_answered_whenever_it_comes() -> None:
    node = make_follower([1, 1, 1], term=1)
    news = Append(2, 1, 1, 3, 1, [], 2, is_news=True)

    for message in (news, news, Append(2, 1, 1, 1, 1, [], 1, is_news=True)):
        node.receive(message)
        assert node.core.log.commit == 2
    assert node.take(AppendResponse) == []


def test_news_that_does_not_fit_is_refused_and_commits_nothing() -> None:
    """Else the leader would learn only with a heartbeat that entries before it were lost."""
    node = make_follower([1], term=1)

    node.receive(Append(2, 1, 1, 3, 1, [], 3, is_news=True))

    (answer,) = node.take(AppendResponse)
    assert (answer.rejected, answer.index, answer.hint_index, node.core.log.commit) == (
        True,
        3,
        1,
        0,
    )


def test_the_end_of_a_flush_may_be_late_only_where_nothing_follows_from_it() -> None:
    node = make_follower([1], term=1, is_disk_held=True)
    node.receive(append_from(2, 1, prev=(1, 1), terms=[1, 1]))
    assert not node.core.awaits_persisted

    node.receive(Append(2, 1, 1, 3, 1, [], 2, is_news=True))
    assert node.core.awaits_persisted
    node.flush()
    assert not node.core.awaits_persisted
    assert node.core.log.persisted == 3

    node.tick(3 * T)
    assert node.core.role is not Role.FOLLOWER
    assert node.core.awaits_persisted
