"""Figure 2 of the paper, rule by rule, where sections 5.1 to 5.4 do not claim the same already."""

from __future__ import annotations

import pytest

from hstore.node.raft.messages import (
    AppendResponse,
    Heartbeat,
    VoteRequest,
    VoteResponse,
)
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    PAPER,
    acknowledge,
    append_from,
    make_candidate,
    make_follower,
    make_leader,
    make_node,
    terms_of,
)

# -- state ----------------------------------------------------------------------------------


def test_persistent_state_is_updated_before_responding_to_a_vote_request() -> None:
    """ "Persistent state on all servers (Updated on stable storage before responding to RPCs)" """
    node = make_follower([1], term=1, options=PAPER, is_disk_held=True)

    node.receive(VoteRequest(2, 1, 2, 1, 1))
    assert node.sent == []
    node.flush()

    assert (node.disk.hard_state.term, node.disk.hard_state.vote) == (2, 2)
    assert node.sent == [VoteResponse(1, 2, 2, granted=True)]


def test_persistent_state_is_updated_before_responding_to_entries() -> None:
    """ "Persistent state on all servers (Updated on stable storage before responding to RPCs)" """
    node = make_follower([1], term=1, options=PAPER, is_disk_held=True)

    node.receive(append_from(2, 1, prev=(1, 1), terms=[1, 1]))
    assert node.sent == []
    node.flush()

    assert [e.index for e in node.disk.entries] == [1, 2, 3]
    assert node.sent == [AppendResponse(1, 2, 1, 3)]


def test_a_server_begins_at_term_0_without_a_vote() -> None:
    """ "currentTerm: latest term server has seen (initialized to 0 on first boot, increases
    monotonically)"; "votedFor: candidateId that received vote in current term (or null if none)"
    """
    core = make_node(options=PAPER).core

    assert (core.term, core.vote) == (0, 0)


def test_the_first_index_is_1() -> None:
    """ "log[]: log entries; each entry contains command for state machine, and term when entry was
    received by leader (first index is 1)"
    """
    assert make_leader(term=1, options=PAPER).core.log.entries[0].index == 1


def test_commit_and_applied_begin_at_0() -> None:
    """ "commitIndex: index of highest log entry known to be committed (initialized to 0,
    increases monotonically)"; likewise lastApplied
    """
    log = make_follower([1, 1], options=PAPER).core.log

    assert (log.commit, log.applied) == (0, 0)


def test_commit_and_applied_never_fall() -> None:
    """ "commitIndex: ... increases monotonically"; "lastApplied: ... increases monotonically" """
    node = make_follower([1] * 5, term=1, options=PAPER)
    seen = []
    for prev, commit in ((5, 3), (5, 1), (2, 4), (5, 5), (1, 0), (3, 2)):
        node.receive(append_from(2, 1, prev=(prev, 1), commit=commit))
        node.receive(Heartbeat(2, 1, 1, commit - 1, 1))
        seen.append((node.core.log.commit, node.core.log.applied))

    assert seen == sorted(seen)
    assert seen[-1] == (5, 5)


def test_match_index_begins_at_0_and_never_falls() -> None:
    """ "matchIndex[]: ... index of highest log entry known to be replicated on server (initialized
    to 0, increases monotonically)"
    """
    node = make_leader([1, 1, 1], term=2, options=PAPER)
    progress = node.core.progress[2]
    seen = [progress.match]

    for index in (2, 4, 3, 1, 4):
        acknowledge(node, 2, index=index)
        seen.append(progress.match)

    assert seen == [0, 2, 4, 4, 4, 4]


def test_an_acknowledgement_beyond_the_log_counts_to_its_end() -> None:
    """ "matchIndex[]: ... index of highest log entry known to be replicated on server" """
    node = make_leader([1], term=2, options=PAPER)

    acknowledge(node, 2, index=99)

    assert node.core.progress[2].match == node.core.log.commit == 2


# -- AppendEntries, receiver ----------------------------------------------------------------


def test_append_1_stale_terms_are_refused() -> None:
    """ "1. Reply false if term < currentTerm" """
    node = make_follower([1], term=3, options=PAPER)

    answer = node.ask(append_from(2, 2, prev=(1, 1), terms=[2]), AppendResponse)

    assert (answer.rejected, answer.term, terms_of(node.core)) == (True, 3, [1])


@pytest.mark.parametrize("prev", [(3, 1), (2, 2), (1, 2)])
def test_append_2_entries_that_do_not_fit_are_refused(prev: tuple[int, int]) -> None:
    """ "2. Reply false if log doesn't contain an entry at prevLogIndex whose term matches
    prevLogTerm"
    """
    node = make_follower([1, 1], term=2, options=PAPER)

    assert node.ask(append_from(2, 2, prev=prev, terms=[2]), AppendResponse).rejected
    assert terms_of(node.core) == [1, 1]


def test_append_3_a_conflicting_entry_goes_with_all_that_follow_it() -> None:
    """ "3. If an existing entry conflicts with a new one (same index but different terms), delete
    the existing entry and all that follow it"
    """
    node = make_follower([1, 2, 2, 2, 2], term=3, options=PAPER)

    node.receive(append_from(2, 3, prev=(1, 1), terms=[3]))

    assert terms_of(node.core) == [1, 3]
    assert node.disk.entries == node.core.log.entries


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_append_3_nothing_is_deleted_without_a_conflict(count: int) -> None:
    """ "3. If an existing entry conflicts with a new one ..."

    A delayed append with fewer entries must not cut off what was acknowledged since (raftos#26).
    """
    node = make_follower([1, 1, 1, 1], term=1, options=PAPER)

    answer = node.ask(append_from(2, 1, prev=(1, 1), terms=[1] * count), AppendResponse)

    assert terms_of(node.core) == [1, 1, 1, 1]
    assert answer.index == 1 + count


def test_append_4_only_new_entries_are_appended() -> None:
    """ "4. Append any new entries not already in the log" """
    node = make_follower([1, 1], term=1, options=PAPER)

    update = node.receive(append_from(2, 1, prev=(1, 1), terms=[1, 1, 1]))

    assert update.persist is not None
    assert [e.index for e in update.persist.entries] == [3, 4]
    assert update.persist.truncate_from is None


@pytest.mark.parametrize(
    ("leader_commit", "expected"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (99, 3)]
)
def test_append_5_commit_is_the_smaller_of_leaders_commit_and_last_new_entry(
    leader_commit: int, expected: int
) -> None:
    """ "5. If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new
    entry)"
    """
    node = make_follower([1, 1, 1, 1, 1], term=1, options=PAPER)

    node.receive(append_from(2, 1, prev=(2, 1), terms=[1], commit=leader_commit))

    assert node.core.log.commit == expected


# -- RequestVote, receiver ------------------------------------------------------------------


def test_vote_1_stale_terms_are_refused() -> None:
    """ "1. Reply false if term < currentTerm" """
    node = make_follower([1], term=3, options=PAPER)

    answer = node.ask(VoteRequest(2, 1, 2, 9, 2), VoteResponse)

    assert (answer.granted, answer.term, node.core.vote) == (False, 3, 0)


@pytest.mark.parametrize(
    ("voted_for", "last_index", "granted"),
    [(0, 2, True), (2, 2, True), (3, 2, False), (0, 1, False), (2, 1, False)],
)
def test_vote_2_is_for_one_candidate_with_a_log_up_to_date(
    voted_for: int, last_index: int, granted: bool
) -> None:
    """ "2. If votedFor is null or candidateId, and candidate's log is at least as up-to-date as
    receiver's log, grant vote"
    """
    node = make_follower([1, 1], term=1, options=PAPER)
    if voted_for:
        node.receive(VoteRequest(voted_for, 1, 2, 2, 1))

    assert node.ask(VoteRequest(2, 1, 2, last_index, 1), VoteResponse).granted is granted


# -- rules for servers ----------------------------------------------------------------------


def test_all_servers_apply_what_is_committed() -> None:
    """ "If commitIndex > lastApplied: increment lastApplied, apply log[lastApplied] to state
    machine"
    """
    node = make_follower([1, 1, 1], term=1, options=PAPER)

    node.receive(Heartbeat(2, 1, 1, 2, 1))

    assert [e.index for e in node.applied] == [1, 2]


def test_a_refused_candidate_does_not_postpone_the_election() -> None:
    """ "If election timeout elapses without receiving AppendEntries RPC from current leader or
    granting vote to candidate: convert to candidate"
    """
    node = make_follower([1, 1], term=1, options=PAPER)
    node.receive(VoteRequest(2, 1, 2, 2, 1))
    node.tick(node.core.timeout - 1)

    node.receive(VoteRequest(3, 1, 2, 2, 1))
    assert node.core.vote == 2
    node.tick()

    assert node.core.role is Role.CANDIDATE


def test_a_stale_leader_does_not_postpone_the_election() -> None:
    """ "... without receiving AppendEntries RPC from current leader" """
    node = make_follower([1, 1], term=2, options=PAPER)
    node.tick(node.core.timeout - 1)

    node.receive(append_from(2, 1, prev=(2, 1)), Heartbeat(2, 1, 1, 0, 1))
    node.tick()

    assert node.core.role is Role.CANDIDATE


def test_a_candidate_resets_its_election_timer() -> None:
    """ "On conversion to candidate, start election: Increment currentTerm; Vote for self; Reset
    election timer; Send RequestVote RPCs to all other servers"
    """
    node = make_candidate([1], term=2, options=PAPER)

    assert (node.core.elapsed, node.core.term, node.core.vote) == (0, 2, 1)
    assert [m.to for m in node.take(VoteRequest)] == [2, 3]


def test_a_leader_sends_what_a_follower_lacks() -> None:
    """ "If last log index >= nextIndex for a follower: send AppendEntries RPC with log entries
    starting at nextIndex"; "If successful: update nextIndex and matchIndex for follower"
    """
    node = make_leader([1, 1, 1], term=2, options=PAPER)

    node.receive(AppendResponse(2, 1, 2, 2))

    progress = node.core.progress[2]
    assert (progress.match, progress.next) == (2, 5)
    assert [e.index for m in node.sent[-1:] for e in m.entries] == [3, 4]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("index", "expected"), [(1, 0), (2, 0), (3, 3), (4, 4)], ids=["old", "old", "new", "newest"]
)
def test_a_leader_commits_the_majority_index_of_its_own_term(index: int, expected: int) -> None:
    """ "If there exists an N such that N > commitIndex, a majority of matchIndex[i] >= N, and
    log[N].term == currentTerm: set commitIndex = N"
    """
    node = make_leader([1, 1], term=2, options=PAPER, voters=(1, 2, 3, 4, 5))
    node.propose(b"x")

    acknowledge(node, 2, index=index)
    assert node.core.log.commit == 0
    acknowledge(node, 3, index=4)

    assert node.core.log.commit == expected
