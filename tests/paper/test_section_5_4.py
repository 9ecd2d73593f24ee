"""Section 5.4 of the paper: safety. Each test quotes the sentence that it claims."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from hstore.node.raft.entry import HardState
from hstore.node.raft.messages import Append, AppendResponse, VoteRequest, VoteResponse
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    PAPER,
    Cluster,
    T,
    acknowledge,
    append_from,
    entries_of,
    make_candidate,
    make_cluster,
    make_follower,
    make_leader,
    make_node,
    terms_of,
)

LOGS = [[], [1], [1, 1], [1, 2], [2], [1, 1, 1], [2, 2], [1, 1, 3], [3]]


@pytest.mark.parametrize("terms", [[], [1], [1, 2]])
def test_a_request_to_vote_describes_the_candidates_log(terms: list[int]) -> None:
    """ "The RequestVote RPC implements this restriction: the RPC includes information about the
    candidate's log"
    """
    node = make_candidate(terms, term=3, options=PAPER)

    last_term = terms[-1] if terms else 0
    expected = [(to, 3, len(terms), last_term) for to in (2, 3)]
    assert [(m.to, m.term, m.last_index, m.last_term) for m in node.take(VoteRequest)] == expected


@pytest.mark.parametrize(("voter", "candidate"), list(product(LOGS, LOGS)))
def test_a_voter_denies_its_vote_to_a_log_less_up_to_date(
    voter: list[int], candidate: list[int]
) -> None:
    """ "the voter denies its vote if its own log is more up-to-date than that of the candidate"

    "If the logs have last entries with different terms, then the log with the later term is more
    up-to-date. If the logs end with the same term, then whichever log is longer is more
    up-to-date."
    """
    voter_last, candidate_last = voter[-1:], candidate[-1:]
    if voter_last == candidate_last:
        is_voters_newer = len(voter) > len(candidate)
    else:
        is_voters_newer = voter_last > candidate_last

    node = make_follower(voter, term=3, options=PAPER)
    request = VoteRequest(2, 1, 4, len(candidate), candidate[-1] if candidate else 0)

    assert node.ask(request, VoteResponse).granted is not is_voters_newer
    assert node.core.vote == (0 if is_voters_newer else 2)


def test_a_leader_has_all_committed_entries_from_its_election_on() -> None:
    """ "all the committed entries from previous terms are present on each new leader from the
    moment of its election, without the need to transfer those entries to the leader"
    """
    cluster = make_cluster(5, options=PAPER)
    cluster.elect(1)
    cluster.isolate(4, 5)
    for number in range(5):
        cluster[1].propose(b"%d" % number)
        cluster.settle()
    cluster.heal()
    cluster.isolate(1)
    committed = cluster[1].applied
    assert len(committed) == 6

    # Whoever wins without server 1 has the entries, servers 4 and 5 cannot.
    for node_id in (4, 5, 2):
        for other in (2, 3, 4, 5):
            cluster[other].tick(T)
        cluster[node_id].tick(2 * T)
        cluster.settle()
        if cluster.core(node_id).role is Role.LEADER:
            break

    leaders = [n for i, n in cluster.nodes.items() if i != 1 and n.core.role is Role.LEADER]
    assert [n.core.id for n in leaders] in ([2], [3])
    assert leaders[0].core.log.entries[: len(committed)] == committed


@pytest.mark.parametrize(
    ("index", "commits"), [(1, False), (2, False), (3, True)], ids=["1", "2", "no-op"]
)
def test_entries_of_previous_terms_are_not_committed_by_counting(index: int, commits: bool) -> None:
    """ "Raft never commits log entries from previous terms by counting replicas. Only log entries
    from the leader's current term are committed by counting replicas; once an entry from the
    current term has been committed in this way, then all prior entries are committed indirectly"
    """
    node = make_leader([1, 2], term=3, options=PAPER)

    acknowledge(node, 2, 3, index=index)

    assert node.core.log.commit == (3 if commits else 0)


def test_entries_keep_their_term_when_a_later_leader_replicates_them() -> None:
    """ "log entries retain their original term numbers when a leader replicates entries from
    previous terms"
    """
    node = make_leader([1, 2], term=5, options=PAPER)
    node.sent.clear()
    node.receive(AppendResponse(2, 1, 5, 2, rejected=True))

    (append,) = node.take(Append, to=2)

    assert [e.term for e in append.entries] == [1, 2, 5]


def figure_8_c() -> Cluster:
    """Return Figure 8 at (c): S1 leads term 4, and the entry of term 2 is on S1, S2 and S3."""
    logs = {1: [1, 2], 2: [1, 2], 3: [1], 4: [1], 5: [1, 3]}
    options = replace(PAPER, max_append_bytes=1)
    cluster = Cluster(
        make_node(
            n, voters=range(1, 6), entries=entries_of(terms), options=options,
            hard_state=HardState(3, 5 if n >= 3 else 0),
        )
        for n, terms in logs.items()
    )  # fmt: skip
    cluster.isolate(5)
    for other in (2, 3, 4):
        cluster[other].tick(T)
    cluster[1].tick(2 * T)
    cluster.settle(lambda m: not isinstance(m, Append))
    assert (cluster.core(1).role, cluster.core(1).term) == (Role.LEADER, 4)
    # S3 lacks index 2: it refuses the no-op, and gets that entry first.
    cluster.deliver(lambda m: m.to == 3)
    cluster.settle(lambda m: m.frm == 3)
    cluster.deliver(lambda m: m.to == 3)
    assert terms_of(cluster.core(3)) == [1, 2]
    return cluster


def test_figure_8_c_an_entry_of_an_older_term_on_a_majority_is_not_committed() -> None:
    """Figure 8: "a leader cannot determine commitment using log entries from older terms." """
    cluster = figure_8_c()

    cluster.settle(lambda m: m.frm == 3)
    cluster[1].receive(AppendResponse(2, 1, 4, 2))

    assert [cluster.core(1).progress[n].match for n in (2, 3)] == [2, 2]
    assert cluster.core(1).log.commit == 0


def test_figure_8_e_with_an_entry_of_its_term_on_a_majority_s5_cannot_win() -> None:
    """Figure 8 (e): "if S1 replicates an entry from its current term on a majority of the servers
    before crashing ... then this entry is committed (S5 cannot win an election)."
    """
    cluster = figure_8_c()
    cluster.settle(lambda m: 4 not in (m.frm, m.to))
    assert cluster.core(1).log.commit == 3
    cluster.drop()

    cluster.heal()
    cluster.isolate(1)
    for _ in range(5):
        for other in (2, 3, 4):
            cluster[other].tick(T)
        cluster[5].tick(2 * T)
        cluster.settle()
        assert cluster.core(5).role is not Role.LEADER


def test_figure_8_d_the_uncommitted_entry_is_overwritten_everywhere() -> None:
    """Figure 8 (d): S5 wins with the votes of S2, S3 and S4 and overwrites the entry with its own.

    The entry of term 2 is on a majority, and was never applied by anybody.
    """
    nodes = [
        make_node(1, voters=range(1, 6), entries=entries_of([1, 2]), options=PAPER),
        make_node(2, voters=range(1, 6), entries=entries_of([1, 2]), options=PAPER),
        make_node(3, voters=range(1, 6), entries=entries_of([1, 2]), options=PAPER),
        make_node(4, voters=range(1, 6), entries=entries_of([1]), options=PAPER),
        make_node(
            5, voters=range(1, 6), entries=entries_of([1, 3]), options=PAPER,
            hard_state=HardState(4, 0, 0),
        ),
    ]  # fmt: skip
    cluster = Cluster(nodes)
    cluster.isolate(1)

    cluster.elect(5)
    cluster.heal()
    cluster.tick(2)

    for node in cluster.nodes.values():
        assert terms_of(node.core) == [1, 3, 5]
        assert [e.term for e in node.applied] == [1, 3, 5]


def test_no_two_servers_apply_different_entries_at_one_index() -> None:
    """ "if a server has applied a log entry at a given index to its state machine, no other
    server will ever apply a different log entry for the same index." (State Machine Safety)
    """
    cluster = make_cluster(3, options=PAPER)
    for leader in (1, 2, 3, 1, 3):
        others = [n for n in cluster.nodes if n != leader]
        cluster.heal()
        cluster.tick()
        cluster.elect(leader)
        cluster[leader].propose(b"of %d" % leader)
        cluster.isolate(others[0])
        cluster.settle()
        cluster[leader].propose(b"more of %d" % leader)
        cluster.settle()
    cluster.heal()
    cluster.tick(2)

    first, second, third = (n.applied for n in cluster.nodes.values())
    assert first == second == third
    assert len(first) == 15


def test_a_follower_commits_no_entry_that_the_append_did_not_verify() -> None:
    """Figure 2: "set commitIndex = min(leaderCommit, index of last new entry)".

    What lies behind the last new entry may be of another leader (scylla#9965, rabbitmq/ra#508).
    """
    node = make_follower([1, 1, 1, 1], term=2, options=PAPER)

    node.receive(append_from(2, 2, prev=(1, 1), terms=[1], commit=4))

    assert node.core.log.commit == 2
