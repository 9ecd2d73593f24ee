"""Nothing counts before it is durable: rules D1 to D7 of the driver, as far as the core keeps them.

A message that vouches for something waits in `Persist.then` until its write is durable; the own
vote and the own match wait for `Persisted`; a write that was overtaken by a truncation vouches
for nothing that was written anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hstore.node.raft.entry import HardState, SnapshotMeta
from hstore.node.raft.events import Applied, Persisted, Receive, Tick
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)
from hstore.node.raft.options import Options
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    PAPER,
    Node,
    Shortest,
    acknowledge,
    append_from,
    make_candidate,
    make_follower,
    make_leader,
    terms_of,
)

META_9 = SnapshotMeta(9, 2, Configuration((1, 2, 3)))

GATED: dict[str, Callable[[], Message]] = {
    "entries accepted": lambda: append_from(2, 2, prev=(2, 1), terms=[2]),
    "entries known already": lambda: append_from(2, 2, prev=(1, 1), terms=[1]),
    "entries refused": lambda: append_from(2, 2, prev=(2, 2)),
    "entries of a stale term": lambda: append_from(2, 1, prev=(2, 1)),
    "entries below the commit": lambda: append_from(2, 2, prev=(0, 0), terms=[1]),
    "heartbeat of a stale term": lambda: Heartbeat(2, 1, 1, 0, 1),
    "snapshot taken": lambda: InstallSnapshot(2, 1, 2, META_9),
    "snapshot refused": lambda: InstallSnapshot(2, 1, 2, SnapshotMeta(1, 1, META_9.config)),
    "vote granted": lambda: VoteRequest(2, 1, 2, 2, 1),
    "vote refused": lambda: VoteRequest(2, 1, 2, 0, 0),
    "vote of a stale term": lambda: VoteRequest(2, 1, 1, 2, 1),
    "pre-vote granted": lambda: PreVoteRequest(2, 1, 3, 2, 1),
    "pre-vote refused": lambda: PreVoteRequest(2, 1, 2, 2, 1),
    "pre-vote of a stale term": lambda: PreVoteRequest(2, 1, 1, 2, 1),
}

ANSWERS = AppendResponse | VoteResponse | PreVoteResponse


def with_a_write_under_way() -> Node:
    """Return a node in term 2, whose term is not durable yet."""
    node = make_follower([1, 1], term=1, options=PAPER, is_disk_held=True, commit=1)
    node.receive(PreVoteResponse(3, 1, 2, granted=False))
    assert node.core.term == 2
    assert len(node.writes) == 1
    return node


@pytest.mark.parametrize("name", GATED)
def test_an_answer_waits_for_all_that_is_not_durable_yet(name: str) -> None:
    """D1: "those handed out in earlier, still in-flight batches" included, rejections too."""
    node = with_a_write_under_way()

    node.receive(GATED[name]())

    assert [m for m in node.sent if isinstance(m, ANSWERS)] == []
    node.flush(1)
    assert [m for m in node.sent if isinstance(m, ANSWERS)] == []
    node.flush()
    assert len([m for m in node.sent if isinstance(m, ANSWERS)]) == 1


def test_an_answer_that_vouches_for_nothing_new_leaves_at_once() -> None:
    node = make_follower([1, 1], term=1, options=PAPER, is_disk_held=True)

    update = node.receive(append_from(2, 1, prev=(2, 1)))

    assert update.persist is None
    assert update.messages == [AppendResponse(1, 2, 1, 2)]


def test_heartbeats_are_answered_while_the_disk_is_stuck() -> None:
    node = make_follower([1], term=1, is_disk_held=True)
    node.receive(append_from(2, 1, prev=(1, 1), terms=[1]))

    for number in range(1, 20):
        node.receive(Heartbeat(2, 1, 1, 0, number))

    assert node.take(HeartbeatResponse) == [HeartbeatResponse(1, 2, 1, n) for n in range(1, 20)]


def test_a_leaders_heartbeats_do_not_wait_for_its_disk() -> None:
    node = make_leader(term=1, is_disk_held=True)
    node.propose(b"x")
    node.sent.clear()

    node.tick()

    assert [m.to for m in node.take(Heartbeat)] == [2, 3]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("pre_vote", [False, True])
def test_nobody_wins_before_the_own_vote_is_durable(size: int, pre_vote: bool) -> None:
    """Even when the votes of the others suffice: a crash would let this node lead the term twice."""
    node = make_candidate(
        [1], term=2, voters=range(1, size + 1), options=Options(pre_vote=pre_vote),
        is_disk_held=True,
    )  # fmt: skip
    for peer in range(2, size + 1):
        node.receive(VoteResponse(peer, 1, 2, granted=True))
    assert node.core.role is Role.CANDIDATE

    node.flush(1)

    assert node.disk.hard_state == HardState(2, 1, 0)
    assert node.core.role is Role.LEADER


def test_a_late_flush_does_not_make_the_next_terms_own_vote_count() -> None:
    """Two ballots in a row on a slow disk: the flush of the first one says nothing of the second.

    Both events can arrive as one group, before the second vote was even handed to the disk.
    """
    node = make_follower(term=0, voters=(1, 2), options=PAPER, is_disk_held=True, rng=Shortest())
    node.tick(node.core.timeout)
    assert (node.core.role, node.core.term) == (Role.CANDIDATE, 1)
    first = node.writes.popleft()
    node.disk.write(first)
    node.tick(node.core.timeout - 1)

    node.step(Tick(), Persisted(first.seq), Receive(VoteResponse(2, 1, 2, granted=True)))
    assert (node.core.role, node.core.term) == (Role.CANDIDATE, 2)
    assert node.disk.hard_state.term == 1
    node.flush()

    assert node.core.role is Role.LEADER
    assert node.disk.hard_state == HardState(2, 1, 0)


def test_the_flush_of_an_earlier_write_is_not_that_of_the_own_vote() -> None:
    node = make_follower(
        [1], term=1, voters=(1, 2), options=PAPER, is_disk_held=True, rng=Shortest()
    )
    node.receive(append_from(2, 1, prev=(1, 1), terms=[1]))
    node.tick(node.core.timeout)
    node.receive(VoteResponse(2, 1, 2, granted=True))

    node.flush(1)
    assert node.core.role is Role.CANDIDATE
    node.flush(1)
    assert node.core.role is Role.LEADER


def test_a_vote_in_a_term_that_is_durable_already_is_written_all_the_same() -> None:
    node = make_follower([1], term=2, options=PAPER, is_disk_held=True)

    node.receive(VoteRequest(3, 1, 2, 1, 1))
    assert node.sent == []
    node.flush()

    assert node.disk.hard_state == HardState(2, 3, 0)
    assert node.sent == [VoteResponse(1, 3, 2, granted=True)]


def test_the_own_match_counts_when_it_is_durable() -> None:
    node = make_leader(term=1, is_disk_held=True)
    acknowledge(node, 2)
    assert node.core.log.commit == 0

    node.flush(1)

    assert node.core.log.commit == 1


def test_committed_entries_are_not_applied_before_they_are_durable_here() -> None:
    """D7: an acknowledgement after apply and before fsync loses data (etcd#14370)."""
    node = make_leader(term=1, is_disk_held=True)
    acknowledge(node, 2, 3)
    assert (node.core.log.commit, node.applied) == (1, [])

    node.flush()

    assert [e.index for e in node.applied] == [1]


def test_a_rewritten_entry_is_not_durable_by_its_predecessors_flush() -> None:
    """The ABA of rabbitmq/ra#516: entries of term 1 are on their way to the disk, are truncated and
    written anew in term 2; the flush of the first write says nothing of the second.
    """
    node = make_follower(term=1, options=PAPER, is_disk_held=True)
    node.receive(append_from(2, 1, terms=[1, 1, 1]))
    node.receive(append_from(3, 2, prev=(1, 1), terms=[2, 2], commit=3))
    assert len(node.writes) == 2

    node.flush(1)
    assert node.core.log.persisted == 1
    assert [e.index for e in node.applied] == [1]
    # The first write's answer speaks of term 1; it is true of the disk at that moment.
    assert [m.term for m in node.take(AppendResponse)] == [1]
    node.flush(1)

    assert node.core.log.persisted == 3
    assert [e.term for e in node.applied] == [1, 2, 2]
    assert [(m.term, m.index) for m in node.take(AppendResponse)] == [(2, 3)]


def test_a_rewritten_entry_is_not_durable_when_the_log_grew_again_before_the_flush() -> None:
    """The same with three writes under way, the log shrinking and growing between them."""
    node = make_follower(term=1, options=PAPER, is_disk_held=True)
    node.receive(append_from(2, 1, terms=[1, 1, 1]))
    node.receive(append_from(3, 2, terms=[2]))
    node.receive(append_from(3, 2, prev=(1, 2), terms=[2, 2]))

    marks = []
    while node.writes:
        node.flush(1)
        marks.append(node.core.log.persisted)

    assert marks == [0, 1, 3]
    assert node.disk.entries == node.core.log.entries


def test_an_entry_that_was_durable_and_is_rewritten_counts_anew() -> None:
    node = make_follower([1, 1, 1], term=1, options=PAPER, is_disk_held=True)
    assert node.core.log.persisted == 3

    node.receive(append_from(3, 2, prev=(1, 1), terms=[2, 2]))

    assert node.core.log.persisted == 1
    node.flush()
    assert node.core.log.persisted == 3


def test_a_conflict_is_cut_off_in_the_write_that_replaces_it() -> None:
    """D3: truncation and append must be one write, or a crash between them leaves a hole."""
    node = make_follower([1, 1, 1], term=1, options=PAPER)

    update = node.receive(append_from(3, 2, prev=(1, 1), terms=[2]))

    assert update.persist is not None
    assert (update.persist.truncate_from, len(update.persist.entries)) == (2, 1)
    assert [e.term for e in node.disk.entries] == [1, 2]


def test_what_was_never_handed_out_is_not_truncated_on_disk() -> None:
    """Both appends in one group: the disk sees the survivors only."""
    node = make_follower([1], term=1, options=PAPER)

    update = node.receive(
        append_from(2, 1, prev=(1, 1), terms=[1, 1]), append_from(3, 2, prev=(1, 1), terms=[2])
    )

    assert update.persist is not None
    assert update.persist.truncate_from is None
    assert [e.term for e in update.persist.entries] == [2]
    assert [m.index for m in node.take(AppendResponse)] == [3, 2]


def test_several_events_make_one_write() -> None:
    node = make_leader(term=1)
    acknowledge(node, 2, 3)
    node.sent.clear()
    seq = node.core.step(Tick()).persist

    updates = [node.propose(b"a", b"b", b"c", rid=1)]

    assert seq is None
    assert updates[0].persist is not None
    assert [e.index for e in updates[0].persist.entries] == [2, 3, 4]
    assert [len(m.entries) for m in node.take(Append)] == [3, 3]


def test_hard_state_is_written_only_when_it_changed() -> None:
    """D5: a commit alone need not be synced."""
    node = make_follower([1], term=1, options=PAPER)

    appended = node.receive(append_from(2, 1, prev=(1, 1), terms=[1], commit=2)).persist
    committed = node.receive(Heartbeat(2, 1, 1, 2, 1)).persist

    assert appended is not None
    assert appended.hard_state is None
    assert committed is None


def test_the_written_commit_is_never_beyond_the_written_log() -> None:
    """D6; the harness checks it at every write, too."""
    node = make_follower([1], term=1, options=PAPER)

    persist = node.receive(append_from(2, 4, prev=(1, 1), terms=[2, 3], commit=9)).persist

    assert persist is not None
    assert persist.hard_state == HardState(4, 0, 3)


def test_sequence_numbers_rise_by_one() -> None:
    node = make_follower(term=1, options=PAPER, is_disk_held=True)
    for index in range(5):
        node.receive(append_from(2, 1, prev=(index, 1 if index else 0), terms=[1]))

    assert [p.seq for p in node.writes] == [1, 2, 3, 4, 5]


def test_one_flush_may_vouch_for_many_writes() -> None:
    node = make_follower(term=1, options=PAPER, is_disk_held=True)
    for index in range(5):
        node.receive(append_from(2, 1, prev=(index, 1 if index else 0), terms=[1]))

    node.core.step(Persisted(4))

    assert node.core.log.persisted == 4


def test_one_batch_is_applied_at_a_time_and_each_entry_once() -> None:
    """D7: in order, never concurrently, each index once."""
    options = replace(Options(), max_apply_bytes=40)
    node = make_leader(term=1, voters=(1,), options=options, is_apply_held=True)
    node.apply()
    for number in range(6):
        node.propose(b"0123456789", rid=number)

    batches = []
    while node.batch:
        batch, node.batch = node.batch, []
        batches.append([e.index for e in batch])
        node.tick()
        assert node.batch == []
        node.step(Applied(batch[-1].index))

    assert batches == [[2], [3], [4], [5], [6], [7]]


def test_a_restart_begins_with_what_was_durable() -> None:
    """D19: what was not flushed is gone, with it the vote and the entries nobody was told of."""
    node = make_follower([1, 1], term=1, options=PAPER, is_disk_held=True)
    node.receive(append_from(2, 1, prev=(2, 1), terms=[1], commit=2))
    node.flush()
    node.receive(VoteRequest(3, 1, 5, 9, 4))
    node.receive(append_from(2, 5, prev=(3, 1), terms=[5, 5]))

    again = node.restart()

    assert (again.core.term, again.core.vote) == (1, 0)
    assert terms_of(again.core) == [1, 1, 1]
    assert (again.core.log.persisted, again.core.log.applied) == (3, 2)


def test_a_restart_does_not_apply_twice() -> None:
    node = make_leader([1, 1], term=2, voters=(1,))
    assert [e.index for e in node.applied] == [1, 2, 3]

    again = node.restart()
    again.tick()

    assert again.core.role is Role.LEADER
    assert [e.index for e in again.applied] == [4]


def test_a_restart_with_an_older_state_applies_the_rest() -> None:
    """The state is not synced with the log: it may be behind, and is replayed from it."""
    node = make_follower([1, 1, 1, 1], term=1, commit=3, applied=1, options=PAPER)

    node.tick()

    assert [e.index for e in node.applied] == [2, 3]


def test_nothing_is_applied_while_a_snapshot_is_not_durable() -> None:
    """D4: a batch with a snapshot never hands out entries beside it."""
    node = make_follower([1, 1], term=2, options=PAPER, is_disk_held=True)

    node.receive(InstallSnapshot(2, 1, 2, META_9))
    node.receive(append_from(2, 2, prev=(9, 2), terms=[2, 2], commit=11))
    assert (node.applied, node.core.log.persisted) == ([], 0)
    node.flush(1)
    assert (node.applied, node.core.log.persisted) == ([], 9)
    node.flush()

    assert [e.index for e in node.applied] == [10, 11]
    assert (node.disk.snapshot, node.disk.last_index) == (META_9, 11)


def test_writes_older_than_a_snapshot_make_nothing_of_it_durable() -> None:
    node = make_follower(term=2, options=PAPER, is_disk_held=True)
    node.receive(append_from(2, 2, terms=[1] * 20))
    node.receive(InstallSnapshot(2, 1, 2, SnapshotMeta(30, 2, META_9.config)))

    node.flush(1)

    assert node.core.log.persisted == 0


def test_a_snapshot_and_entries_behind_it_in_one_group() -> None:
    node = make_follower([1, 1], term=2, options=PAPER)

    update = node.receive(
        append_from(2, 2, prev=(1, 1), terms=[2, 2]),
        InstallSnapshot(2, 1, 2, META_9),
        append_from(2, 2, prev=(9, 2), terms=[2]),
    )

    assert update.persist is not None
    assert update.persist.snapshot == META_9
    # What the snapshot replaces needs no cutting off, least of all from what stands behind it.
    assert update.persist.truncate_from is None
    assert [e.index for e in update.persist.entries] == [10]
    assert update.persist.hard_state is not None
    assert (node.disk.snapshot.index, node.disk.last_index) == (9, 10)
