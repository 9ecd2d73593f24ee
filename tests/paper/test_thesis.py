"""The parts of the thesis that the core uses: 3.10, 4.1 to 4.3, 6.2 to 6.4, 9.6 and 10.2.1."""

from __future__ import annotations

from typing import Any

import pytest

from hstore.node.raft import membership, quorum
from hstore.node.raft.entry import EntryKind, HardState
from hstore.node.raft.errors import Reason
from hstore.node.raft.membership import (
    ConfigChange,
    ConfigChangeKind,
    Configuration,
    InvalidConfigChange,
)
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    VoteRequest,
    VoteResponse,
)
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    Cluster,
    Node,
    T,
    acknowledge,
    append_from,
    config_entry,
    entries_of,
    make_candidate,
    make_cluster,
    make_follower,
    make_leader,
    make_node,
)

ADD_4 = ConfigChange(ConfigChangeKind.ADD_VOTER, 4)
LEARN_4 = ConfigChange(ConfigChangeKind.ADD_LEARNER, 4)


def settled_leader(**kwargs: Any) -> Node:
    node = make_leader(term=1, **kwargs)
    acknowledge(node, *(p for p in node.core.config.all_members() if p != 1))
    node.sent.clear()
    return node


# -- 4.1 safety of changes ------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_adding_or_removing_one_server_keeps_majorities_overlapping(size: int) -> None:
    """4.1: "When adding a single server to a cluster or removing a single server from a cluster,
    any majority of the old cluster overlaps with any majority of the new cluster"
    """
    for other in ({*range(1, size + 2)}, {*range(1, size)} or {1}):
        old, new = Configuration(tuple(range(1, size + 1))), Configuration(tuple(sorted(other)))
        everybody = sorted({*old.voters, *new.voters})
        for mask in range(2 ** len(everybody)):
            votes = {n: bool(mask >> i & 1) for i, n in enumerate(everybody)}
            rest = {n: not v for n, v in votes.items()}
            wins = quorum.vote_result(old, votes) is quorum.VoteResult.WON
            assert not (wins and quorum.vote_result(new, rest) is quorum.VoteResult.WON)


@pytest.mark.parametrize(
    "changes",
    [
        (ADD_4, ConfigChange(ConfigChangeKind.ADD_VOTER, 5)),
        (ADD_4, ConfigChange(ConfigChangeKind.REMOVE, 3)),
        (ConfigChange(ConfigChangeKind.REMOVE, 2), ConfigChange(ConfigChangeKind.REMOVE, 3)),
        (ConfigChange(ConfigChangeKind.ADD_LEARNER, 2), ConfigChange(ConfigChangeKind.REMOVE, 3)),
    ],
)
def test_only_one_voter_at_a_time_may_change_in_one_step(changes: tuple[ConfigChange, ...]) -> None:
    """4.1: "only one server can be added or removed from the cluster at a time"; whatever is more
    goes through a joint configuration (4.3).
    """
    with pytest.raises(InvalidConfigChange):
        membership.simple(Configuration((1, 2, 3)), changes)
    node = settled_leader()

    node.change(*changes, rid=7)

    assert node.core.config.outgoing == (1, 2, 3)


def test_the_new_configuration_takes_effect_when_it_is_appended() -> None:
    """4.1: "The new configuration takes effect on each server as soon as it is added to that
    server's log"
    """
    node = settled_leader()

    node.change(LEARN_4)

    assert node.core.config == Configuration((1, 2, 3), (4,))
    assert [m.to for m in node.take(Append)] == [2, 3, 4]


def test_the_next_change_waits_until_the_last_is_committed() -> None:
    """4.1: "... it is safe to start another membership change only once the Cnew entry has
    committed" (only then is a majority known to have adopted it)
    """
    node = settled_leader()
    node.change(ADD_4, rid=1)
    acknowledge(node, 2)

    node.change(ConfigChange(ConfigChangeKind.ADD_VOTER, 5), rid=2)
    assert node.answers[2] is Reason.CHANGE_PENDING
    acknowledge(node, 3)
    node.change(ConfigChange(ConfigChangeKind.ADD_VOTER, 5), rid=3)

    assert node.answers[3] == 3


def test_a_change_of_an_earlier_leader_must_commit_first() -> None:
    """4.1 with Ongaro's correction of 2015: "a leader may not append a Cnew entry until it has
    committed an entry from its current term."
    """
    node = make_node(entries=[config_entry(1, 1, Configuration((1, 2, 3), (4,)))])
    node.tick(2 * T)
    for kind in (PreVoteResponse, VoteResponse):
        node.receive(kind(2, 1, 2, True))
    assert node.core.role is Role.LEADER

    node.change(ConfigChange(ConfigChangeKind.REMOVE, 3), rid=1)
    acknowledge(node, 2, index=1)
    node.change(ConfigChange(ConfigChangeKind.REMOVE, 3), rid=2)
    acknowledge(node, 2)
    node.change(ConfigChange(ConfigChangeKind.REMOVE, 3), rid=3)

    pending = Reason.CHANGE_PENDING
    assert node.answers == {1: pending, 2: pending, 3: 3}


def test_a_truncated_change_is_taken_back() -> None:
    """4.1: "a log entry (for a configuration change) can be removed ...; in this case, a server
    must be prepared to fall back to the previous configuration in its log."
    """
    node = make_follower([1], term=1)
    node.receive(Append(2, 1, 1, 1, 1, [config_entry(2, 1, Configuration((1, 2, 3, 4)))], 1))
    assert node.core.config.voters == (1, 2, 3, 4)

    node.receive(append_from(3, 2, prev=(1, 1), terms=[2]))

    assert node.core.config.voters == (1, 2, 3)


def test_a_server_accepts_entries_from_a_leader_outside_its_configuration() -> None:
    """4.1: "A server accepts AppendEntries requests from a leader that is not part of the
    server's latest configuration. Otherwise, a new server could never be added to the cluster"
    """
    node = make_node(4, voters=())

    answer = node.ask(append_from(9, 3, terms=[1, 3], to=4), AppendResponse)

    assert (answer.rejected, answer.index) == (False, 2)


def test_a_server_votes_for_a_candidate_outside_its_configuration() -> None:
    """4.1: "A server also grants its vote to a candidate that is not part of the server's latest
    configuration (if the candidate has a sufficiently up-to-date log and a current term)."
    """
    node = make_follower([1], term=1)

    assert node.ask(PreVoteRequest(9, 1, 2, 1, 1), PreVoteResponse).granted
    assert node.ask(VoteRequest(9, 1, 2, 1, 1), VoteResponse).granted


# -- 4.2 availability -----------------------------------------------------------------------


def test_a_learner_is_promoted_only_when_it_has_caught_up() -> None:
    """4.2.1: "The leader ... should wait until the new server is caught up to the cluster's log
    before adding it" (so that its vote does not hold commits back)
    """
    node = settled_leader(learners=(4,))
    node.propose(*[b"x"] * 1500)
    acknowledge(node, 2, 3)
    assert node.core.learners_caught_up() == []
    node.change(ADD_4, rid=1)
    assert node.answers[1] is Reason.INVALID_CHANGE

    acknowledge(node, 4, index=501)
    assert node.core.learners_caught_up() == [4]
    node.change(ADD_4, rid=2)

    assert node.answers[2] == 1502
    assert node.core.config == Configuration((1, 2, 3, 4))


def test_a_removed_leader_takes_no_more_commands() -> None:
    """4.2.2: a leader outside the newest configuration only finishes its own removal."""
    node = settled_leader()
    node.change(ConfigChange(ConfigChangeKind.REMOVE, 1))

    node.propose(b"x", rid=1)
    node.change(ADD_4, rid=2)

    assert (node.answers[1], node.answers[2]) == (Reason.NOT_LEADER, Reason.NOT_LEADER)


def test_a_removed_leader_tells_the_commit_before_it_goes() -> None:
    """4.2.2: "a leader that is removed from the configuration steps down once the Cnew entry is
    committed" - and what it committed need not wait for its successor.
    """
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.tick()
    cluster[1].change(ConfigChange(ConfigChangeKind.REMOVE, 1))
    cluster.settle()

    assert cluster.core(1).role is Role.FOLLOWER
    assert [cluster.core(n).log.commit for n in (1, 2, 3)] == [2, 2, 2]
    cluster.elect(2)
    assert cluster.core(2).config.voters == (2, 3)


def test_a_server_outside_its_latest_configuration_still_starts_elections() -> None:
    """4.2.2: "a server that is not part of its own latest configuration should still start new
    elections, as it might still be needed until the Cnew entry is committed (as in Figure 4.6).
    It does not count its own vote in elections unless it is part of its latest configuration."

    Figure 4.6: S1 leaves a cluster of two and crashes before its entry has reached S2. S2 alone
    has no majority, and S1, whose log is longer, would refuse it.
    """
    first = make_node(
        1,
        voters=(1, 2),
        entries=[*entries_of([1]), config_entry(2, 1, Configuration((2,)))],
        hard_state=HardState(1, 1, 1),
    )
    second = make_node(2, voters=(1, 2), entries=entries_of([1]), hard_state=HardState(1, 1, 1))
    cluster = Cluster([first, second])

    cluster.tick(6 * T)

    assert second.core.role is Role.LEADER
    assert [n.core.config.voters for n in (first, second)] == [(2,), (2,)]
    assert second.core.log.commit == second.core.log.last_index


def test_a_server_whose_removal_is_committed_starts_no_elections() -> None:
    """4.2.2: only "until the Cnew entry is committed"."""
    node = make_node(
        entries=[*entries_of([1]), config_entry(2, 1, Configuration((2, 3)))],
        hard_state=HardState(1, 1, 2),
    )

    node.tick(5 * T)

    assert node.sent == []


def test_a_vote_of_its_own_does_not_count_outside_the_configuration() -> None:
    """4.2.2: "It does not count its own vote in elections unless it is part of its latest
    configuration."
    """
    node = make_node(
        entries=[*entries_of([1]), config_entry(2, 1, Configuration((2, 3)))],
        hard_state=HardState(1, 1, 1),
    )
    node.tick(2 * T)
    node.receive(PreVoteResponse(2, 1, 2, granted=True))

    assert node.core.role is Role.PRE_CANDIDATE


# -- 6.2 to 6.4 clients ---------------------------------------------------------------------


@pytest.mark.parametrize(("answers", "stays"), [((2,), True), ((), False)])
def test_a_leader_that_reaches_no_majority_steps_down(
    answers: tuple[int, ...], stays: bool
) -> None:
    """6.2: "a leader in Raft steps down if an election timeout elapses without a successful round
    of heartbeats to a majority of its cluster"
    """
    node = settled_leader()
    node.tick(T)
    for _ in range(T):
        node.tick()
        node.receive(*(HeartbeatResponse(p, 1, 1, node.core.round) for p in answers))

    assert (node.core.role is Role.LEADER) is stays
    assert node.core.term == 1


def test_learners_are_no_majority_to_a_leader() -> None:
    """6.2: "... to a majority of its cluster": of voters (hashicorp/raft#308)."""
    node = settled_leader(voters=(1, 2, 3), learners=(4, 5))
    for _ in range(2 * T):
        node.tick()
        node.receive(*(HeartbeatResponse(p, 1, 1, node.core.round) for p in (4, 5)))

    assert node.core.role is Role.FOLLOWER


def test_6_4_step_1_waits_for_an_entry_of_this_term() -> None:
    """6.4: "If the leader has not yet marked an entry from its current term committed, it waits
    until it has done so."
    """
    node = make_leader([1, 1], term=2)
    node.tick()
    node.read(1)
    node.receive(HeartbeatResponse(2, 1, 2, node.core.round))
    assert node.reads == {}

    acknowledge(node, 2)
    node.receive(HeartbeatResponse(2, 1, 2, node.core.round))

    assert node.reads == {1: 3}


def test_6_4_step_2_saves_the_commit_index_of_the_moment() -> None:
    """6.4: "The leader saves its current commit index in a local variable readIndex." """
    node = settled_leader()
    node.propose(b"a")
    node.read(1)
    acknowledge(node, 2)
    assert node.core.log.commit == 2

    node.receive(HeartbeatResponse(2, 1, 1, node.core.round))

    assert node.reads == {1: 1}


def test_6_4_step_3_issues_a_new_round_of_heartbeats() -> None:
    """6.4: "It issues a new round of heartbeats and waits for their acknowledgments from a
    majority of the cluster."
    """
    node = settled_leader(voters=(1, 2, 3, 4, 5))
    node.tick()
    before = node.core.round
    node.receive(*(HeartbeatResponse(p, 1, 1, before) for p in (2, 3)))
    node.sent.clear()

    node.read(1)
    assert {(m.to, m.round) for m in node.take(Heartbeat)} == {
        (p, before + 1) for p in (2, 3, 4, 5)
    }
    node.receive(*(HeartbeatResponse(p, 1, 1, before) for p in (4, 5)))
    node.receive(HeartbeatResponse(2, 1, 1, before + 1))
    assert node.reads == {}
    node.receive(HeartbeatResponse(3, 1, 1, before + 1))

    assert node.reads == {1: 1}


def test_6_4_one_round_confirms_any_number_of_reads() -> None:
    """6.4: "the leader can amortize its cost by using a single round of heartbeats for any number
    of read-only queries that it has accumulated"
    """
    node = settled_leader()
    node.read(1)
    rounds = node.core.round
    for rid in range(2, 50):
        node.read(rid)
    node.receive(HeartbeatResponse(2, 1, 1, rounds))
    assert node.reads == {1: 1}

    assert node.core.round == rounds + 1
    node.receive(HeartbeatResponse(2, 1, 1, rounds + 1))

    assert node.reads == dict.fromkeys(range(1, 50), 1)


def test_6_4_a_follower_asks_the_leader_for_the_index() -> None:
    """6.4: "the follower ... would issue a request to the leader that just asks for a current
    readIndex; the leader would execute steps 1-3 above, and the follower would execute steps 4-5"
    """
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.tick()
    cluster[1].propose(b"x")
    cluster.settle()

    cluster[2].read(9)
    assert [m for m in cluster[2].sent if isinstance(m, ReadIndexRequest)] == [
        ReadIndexRequest(2, 1, cluster.core(1).term, 9)
    ]
    cluster.settle()

    assert cluster[2].reads == {9: 2}
    assert cluster[1].reads == {}


def test_6_4_a_follower_is_told_when_the_one_it_asks_does_not_lead() -> None:
    """6.4: only a leader executes steps 1 to 3."""
    node = make_follower(term=1)

    answer = node.ask(ReadIndexRequest(3, 1, 1, 9), ReadIndexResponse)

    assert answer == ReadIndexResponse(1, 3, 1, 9, None)


# -- 9.6 pre-vote ---------------------------------------------------------------------------


def test_pre_vote_a_candidate_increments_its_term_only_after_a_majority_agreed() -> None:
    """9.6: "In the Pre-Vote algorithm, a candidate only increments its term if it first learns
    from a majority of the cluster that they would be willing to grant the candidate their votes"
    """
    node = make_follower([1], term=3, voters=(1, 2, 3, 4, 5))
    node.tick(2 * T)
    assert (node.core.role, node.core.term, node.core.vote) == (Role.PRE_CANDIDATE, 3, 0)
    assert node.take(PreVoteRequest) == [PreVoteRequest(1, p, 4, 1, 1) for p in (2, 3, 4, 5)]

    node.receive(PreVoteResponse(2, 1, 4, granted=True))
    assert node.core.role is Role.PRE_CANDIDATE
    node.receive(PreVoteResponse(3, 1, 4, granted=True))

    assert (node.core.role, node.core.term) == (Role.CANDIDATE, 4)
    assert [m.to for m in node.take(VoteRequest)] == [2, 3, 4, 5]


@pytest.mark.parametrize(("last", "granted"), [((2, 1), True), ((1, 1), False), ((1, 2), True)])
def test_pre_vote_needs_a_log_that_is_up_to_date(last: tuple[int, int], granted: bool) -> None:
    """9.6: "(if the candidate's log is sufficiently up-to-date, and the voters have not received
    heartbeats from a valid leader for at least a baseline election timeout)"
    """
    node = make_follower([1, 1], term=2)

    assert node.ask(PreVoteRequest(2, 1, 3, *last), PreVoteResponse).granted is granted


@pytest.mark.parametrize(("elapsed", "granted"), [(0, False), (T - 1, False), (T, True)])
def test_pre_vote_is_refused_by_who_hears_a_leader(elapsed: int, granted: bool) -> None:
    """9.6: "... and the voters have not received heartbeats from a valid leader for at least a
    baseline election timeout"
    """
    node = make_follower([1, 1], term=2)
    node.receive(Heartbeat(3, 1, 2, 0, 1))
    node.tick(elapsed)

    assert node.ask(PreVoteRequest(2, 1, 3, 2, 1), PreVoteResponse).granted is granted


def test_pre_vote_changes_nothing_at_the_voter() -> None:
    """9.6: asking whether one would vote is not voting."""
    node = make_follower([1, 1], term=2)
    node.tick(3)

    update = node.receive(PreVoteRequest(2, 1, 9, 5, 5))

    assert update.persist is None
    assert (node.core.term, node.core.vote, node.core.elapsed) == (2, 0, 3)
    assert node.take(PreVoteResponse) == [PreVoteResponse(1, 2, 9, granted=True)]
    assert node.ask(PreVoteRequest(3, 1, 9, 5, 5), PreVoteResponse).granted


def test_pre_vote_a_returning_server_does_not_depose_the_leader() -> None:
    """9.6: "The Pre-Vote algorithm solves the issue of a partitioned server disrupting the cluster
    when it rejoins."
    """
    cluster = make_cluster(3)
    cluster.elect(1)
    cluster.isolate(3)
    term = cluster.core(1).term
    cluster.tick(20 * T)
    assert cluster.core(3).term == term

    cluster.heal()
    cluster.tick(3)

    assert (cluster.core(1).role, cluster.core(3).leader) == (Role.LEADER, 1)
    assert [n.core.term for n in cluster.nodes.values()] == [term] * 3


# -- 10.2.1 writing to the leader's disk in parallel ----------------------------------------


def test_a_leader_sends_while_its_own_disk_writes() -> None:
    """10.2.1: "the leader can write to its disk in parallel with replicating to the followers and
    waiting for the followers to write to their disks"
    """
    node = settled_leader(is_disk_held=True)
    node.flush()

    node.propose(b"x")

    assert len(node.writes) == 1
    assert [m.to for m in node.take(Append)] == [2, 3]


def test_a_leader_may_commit_before_its_own_disk_is_done() -> None:
    """10.2.1: "the leader may even commit an entry before it has been written to its own disk, if
    a majority of the followers have written it to their disks; this is still safe."
    """
    node = settled_leader(is_disk_held=True)
    node.flush()
    node.propose(b"x")

    acknowledge(node, 2)
    assert node.core.log.commit == 1
    acknowledge(node, 3)
    assert node.core.log.commit == 2


@pytest.mark.parametrize("peers", [(), (2,)])
def test_a_leaders_own_disk_counts_when_it_is_done(peers: tuple[int, ...]) -> None:
    """10.2.1: an entry counts for the leader once it is on the leader's disk."""
    node = make_leader(term=1, voters=(1, 2) if peers else (1,), is_disk_held=True)
    acknowledge(node, *peers)
    assert node.core.log.commit == 0

    node.flush()

    assert node.core.log.commit == 1
    assert node.applied[0].kind == EntryKind.NOOP


def test_a_candidate_leads_only_when_its_own_vote_is_durable() -> None:
    """10.2.1 lets a leader write while it sends; a vote counts when it is durable."""
    node = make_candidate(term=1, is_disk_held=True)

    node.receive(VoteResponse(2, 1, 1, granted=True), VoteResponse(3, 1, 1, granted=True))
    assert node.core.role is Role.CANDIDATE
    node.flush()

    assert node.core.role is Role.LEADER
