"""Section 5.3 of the paper: log replication. Each test quotes the sentence that it claims."""

from __future__ import annotations

from itertools import combinations

import pytest

from hstore.node.raft.messages import Append, AppendResponse, Heartbeat, HeartbeatResponse
from tests.node.raft.harness import (
    PAPER,
    Cluster,
    Node,
    acknowledge,
    append_from,
    entries_of,
    make_cluster,
    make_follower,
    make_leader,
    make_node,
    terms_of,
)


def ready_leader(size: int = 3, *, term: int = 1) -> Node:
    """Return a leader whose no-op is committed and known to be, with nothing in flight."""
    node = make_leader(term=term, options=PAPER, voters=range(1, size + 1))
    acknowledge(node, *range(2, size + 1))
    node.sent.clear()
    return node


def test_a_command_is_appended_and_sent_to_all_in_parallel() -> None:
    """ "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs
    in parallel to each of the other servers to replicate the entry."
    """
    node = ready_leader()

    node.propose(b"x", rid=5)

    entry = node.core.log.entries[-1]
    assert (entry.index, entry.term, entry.data) == (2, 1, b"x")
    assert node.answers == {5: 2}
    expected = [Append(1, to, 1, 1, 1, [entry], 1) for to in (2, 3)]
    assert node.take(Append) == expected


def test_a_committed_command_is_applied_by_the_leader() -> None:
    """ "When the entry has been safely replicated (as described below), the leader applies the
    entry to its state machine and returns the result of that execution to the client."
    """
    node = ready_leader()
    node.propose(b"x")
    assert [e.index for e in node.applied] == [1]

    acknowledge(node, 2)

    assert [e.index for e in node.applied] == [1, 2]
    assert node.applied[-1].data == b"x"


def test_a_leader_retries_until_all_followers_store_all_entries() -> None:
    """ "If followers crash or run slowly, or if network packets are lost, the leader retries
    AppendEntries RPCs indefinitely (even after it has responded to the client) until all
    followers eventually store all log entries."
    """
    cluster = make_cluster(3, options=PAPER)
    cluster.elect(1)
    cluster.isolate(3)
    for number in range(20):
        cluster[1].propose(b"%d" % number)
        cluster.settle()
    cluster[1].tick(50)
    cluster.settle()
    assert cluster.core(1).log.commit == 21
    assert cluster.core(3).log.last_index == 1

    cluster.heal()
    cluster[1].tick()
    cluster.settle()

    assert cluster.core(3).log.entries == cluster.core(1).log.entries


@pytest.mark.parametrize(
    ("size", "acks"),
    [
        (size, acks)
        for size in (1, 2, 3, 4, 5)
        for count in range(size)
        for acks in combinations(range(2, size + 1), count)
    ],
)
def test_an_entry_is_committed_once_a_majority_stores_it(size: int, acks: tuple[int, ...]) -> None:
    """ "A log entry is committed once the leader that created the entry has replicated it on a
    majority of the servers"
    """
    node = ready_leader(size)

    node.propose(b"x")
    acknowledge(node, *acks)

    assert (node.core.log.commit == 2) is (len(acks) + 1 > size / 2)


@pytest.mark.parametrize("terms", [[], [2], [1, 2], [1]])
def test_a_commit_commits_all_preceding_entries(terms: list[int]) -> None:
    """ "This also commits all preceding entries in the leader's log, including entries created by
    previous leaders."
    """
    node = make_leader(terms, term=3, options=PAPER)
    node.propose(b"x")

    acknowledge(node, 2)

    assert [e.term for e in node.applied] == [*terms, 3, 3]


def test_the_commit_index_travels_with_appends() -> None:
    """ "The leader keeps track of the highest index it knows to be committed, and it includes
    that index in future AppendEntries RPCs (including heartbeats) so that the other servers
    eventually find out."
    """
    node = ready_leader()
    node.propose(b"x")
    node.sent.clear()

    acknowledge(node, 2)
    assert {(m.to, m.commit) for m in node.take(Append)} == {(2, 2), (3, 2)}

    node.tick()
    # A heartbeat may not promise more than its receiver is known to have.
    assert [(m.to, m.commit) for m in node.take(Heartbeat)] == [(2, 2), (3, 1)]


@pytest.mark.parametrize("commit", [1, 2, 3, 4])
def test_a_follower_applies_what_it_learns_is_committed_in_log_order(commit: int) -> None:
    """ "Once a follower learns that a log entry is committed, it applies the entry to its local
    state machine (in log order)."
    """
    node = make_follower(term=1, options=PAPER)

    node.receive(append_from(2, 1, terms=[1, 1, 1, 1], commit=commit))

    assert [e.index for e in node.applied] == list(range(1, commit + 1))


def test_a_leader_creates_one_entry_per_index_and_term() -> None:
    """ "a leader creates at most one entry with a given log index in a given term, and log
    entries never change their position in the log."
    """
    node = ready_leader()
    for number in range(10):
        node.propose(b"%d" % number, b"more", rid=number * 10)

    entries = node.core.log.entries

    assert [e.index for e in entries] == list(range(1, 22))
    assert sorted(node.answers.values(), key=str) == sorted(range(2, 22), key=str)


def test_an_append_names_the_entry_before_it() -> None:
    """ "When sending an AppendEntries RPC, the leader includes the index and term of the entry in
    its log that immediately precedes the new entries."
    """
    node = make_leader([1, 1, 2], term=3, options=PAPER)

    assert [(m.prev_index, m.prev_term) for m in node.take(Append)] == [(3, 2), (3, 2)]


@pytest.mark.parametrize(
    ("prev", "accepted"),
    [((0, 0), True), ((1, 1), True), ((2, 2), True), ((1, 2), False), ((2, 1), False),
     ((3, 3), False), ((9, 2), False)],
)  # fmt: skip
def test_a_follower_refuses_entries_that_do_not_follow_its_log(
    prev: tuple[int, int], accepted: bool
) -> None:
    """ "If the follower does not find an entry in its log with the same index and term, then it
    refuses the new entries."
    """
    node = make_follower([1, 2], term=3, options=PAPER)

    answer = node.ask(append_from(2, 3, prev=prev), AppendResponse)

    assert answer.rejected is not accepted
    assert answer.index == prev[0]
    assert terms_of(node.core) == [1, 2]


@pytest.mark.parametrize(
    ("prev", "terms", "log", "written"),
    [
        ((2, 2), [3], [1, 2, 3], [3]),
        ((1, 1), [3, 4], [1, 3, 4], [3, 4]),
        ((0, 0), [1], [1, 2], []),
        ((0, 0), [3], [3], [3]),
        ((0, 0), [1, 2, 4], [1, 2, 4], [4]),
    ],
)
def test_a_follower_replaces_what_conflicts_and_keeps_the_rest(
    prev: tuple[int, int], terms: list[int], log: list[int], written: list[int]
) -> None:
    """ "This means that conflicting entries in follower logs will be overwritten with entries
    from the leader's log."
    """
    node = make_follower([1, 2], term=4, options=PAPER)

    update = node.receive(append_from(2, 4, prev=prev, terms=terms))

    assert terms_of(node.core) == [e.term for e in node.disk.entries] == log
    entries = update.persist.entries if update.persist else []
    assert [e.term for e in entries] == written


def test_a_new_leader_initializes_next_index_behind_its_log() -> None:
    """ "When a leader first comes to power, it initializes all nextIndex values to the index just
    after the last one in its log"
    """
    node = make_leader([1, 1, 1], term=2, options=PAPER)

    assert {(m.prev_index, m.entries[0].index) for m in node.take(Append)} == {(3, 4)}


def test_after_a_rejection_the_leader_goes_back_and_retries() -> None:
    """ "After a rejection, the leader decrements nextIndex and retries the AppendEntries RPC." """
    node = make_leader([1, 1, 1], term=2, options=PAPER)
    node.sent.clear()

    rejection = AppendResponse(2, 1, 2, 3, rejected=True, hint_index=1, hint_term=1)
    node.receive(rejection)

    (retry,) = node.take(Append, to=2)
    assert (retry.prev_index, [e.index for e in retry.entries]) == (1, [2, 3, 4])


def test_a_rejection_names_where_the_logs_may_agree() -> None:
    """ "when rejecting an AppendEntries request, the follower can include the term of the
    conflicting entry and the first index it stores for that term. With this information, the
    leader can decrement nextIndex to bypass all of the conflicting entries in that term"

    One rejection per term, not one per entry: 3 terms of 100 entries take a handful of probes.
    """
    follower = make_follower([1] * 3 + [2] * 100 + [3] * 100 + [4] * 100, term=9, options=PAPER)
    leader = make_node(
        2, entries=entries_of([1] * 3 + [5] * 200 + [6] * 200), options=PAPER, voters=(1, 2)
    )
    cluster = Cluster([follower, leader])
    cluster[2].tick(100)
    cluster.settle(lambda m: not isinstance(m, Append | AppendResponse))
    probes = 0
    while follower.core.log.entries != leader.core.log.entries:
        assert probes < 6
        probes += cluster.deliver(lambda m: isinstance(m, Append))
        cluster.deliver(lambda m: isinstance(m, AppendResponse))


def test_a_leader_never_changes_its_own_log() -> None:
    """ "A leader never overwrites or deletes entries in its own log (the Leader Append-Only
    Property)."
    """
    node = make_leader([1, 1, 2], term=3, options=PAPER)
    before = list(node.core.log.entries)

    node.receive(
        AppendResponse(2, 1, 3, 3, rejected=True),
        AppendResponse(3, 1, 3, 1),
        append_from(3, 2, prev=(1, 1), terms=[2, 2, 2]),
        HeartbeatResponse(2, 1, 3, 1),
    )

    assert node.core.log.entries == before


FIGURE_7 = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("name", FIGURE_7)
def test_figure_7_every_log_becomes_the_leaders(name: str) -> None:
    """ "the leader handles inconsistencies by forcing the followers' logs to duplicate its own."

    The six logs of Figure 7, with the leader of term 8 at the top. The third server lets the
    leader win, where the follower's log would not.
    """
    leader_terms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    leader = make_node(1, entries=entries_of(leader_terms), options=PAPER)
    leader = leader_of_term_8(leader)
    follower = make_node(2, entries=entries_of(FIGURE_7[name]), options=PAPER)
    third = make_node(3, options=PAPER)
    cluster = Cluster([leader, follower, third])

    cluster.elect(1)
    cluster.tick()

    assert leader.core.term == 8
    for node in cluster.nodes.values():
        assert terms_of(node.core) == [e.term for e in node.disk.entries] == [*leader_terms, 8]
        assert [e.term for e in node.applied] == [*leader_terms, 8]


def leader_of_term_8(node: Node) -> Node:
    """Bring the node to term 7, so that its next election is for term 8."""
    node.receive(Heartbeat(9, 1, 7, 0, 1))
    return node
