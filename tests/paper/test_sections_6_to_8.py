"""Sections 6 (one change at a time), 7 (snapshots) and 8 (clients) of the paper."""

from __future__ import annotations

import pytest

from hstore.node.raft.entry import EntryKind, SnapshotMeta
from hstore.node.raft.errors import Reason
from hstore.node.raft.events import Compact, SnapshotSent
from hstore.node.raft.membership import ConfigChange, ConfigChangeKind, Configuration
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    VoteRequest,
    VoteResponse,
)
from hstore.node.raft.roles import Role
from tests.node.raft.harness import (
    T,
    acknowledge,
    append_from,
    config_entry,
    entries_of,
    make_cluster,
    make_follower,
    make_leader,
    make_node,
    terms_of,
)

ADD_4 = ConfigChange(ConfigChangeKind.ADD_VOTER, 4)
LEARN_4 = ConfigChange(ConfigChangeKind.ADD_LEARNER, 4)
REMOVE_1 = ConfigChange(ConfigChangeKind.REMOVE, 1)
REMOVE_3 = ConfigChange(ConfigChangeKind.REMOVE, 3)

# -- section 6 ------------------------------------------------------------------------------


def test_the_latest_configuration_in_the_log_is_in_force_committed_or_not() -> None:
    """ "Once a given server adds the new configuration entry to its log, it uses that
    configuration for all future decisions (a server always uses the latest configuration in its
    log, regardless of whether the entry is committed)."
    """
    leader = make_leader(term=1)
    acknowledge(leader, 2, 3)
    follower = make_follower(term=1)
    new = Configuration((1, 2, 3, 4))

    leader.change(ADD_4)
    follower.receive(Append(2, 1, 1, 0, 0, [config_entry(1, 1, new)], 0))

    assert leader.core.config == follower.core.config == new
    assert leader.core.log.commit == 1
    assert follower.core.log.commit == 0


def test_the_new_configuration_decides_about_its_own_entry() -> None:
    """ "it uses that configuration for all future decisions": of four servers three commit."""
    node = make_leader(term=1)
    acknowledge(node, 2, 3)
    node.change(ADD_4)

    acknowledge(node, 2)
    assert node.core.log.commit == 1
    acknowledge(node, 4)
    assert node.core.log.commit == 2


def test_new_servers_learn_without_being_counted() -> None:
    """ "the new servers join the cluster as non-voting members (the leader replicates log entries
    to them, but they are not considered for majorities)"
    """
    node = make_leader(term=1, voters=(1, 2, 3), learners=(4, 5))
    assert [m.to for m in node.take(Append)] == [2, 3, 4, 5]

    acknowledge(node, 4, 5)
    assert node.core.log.commit == 0
    acknowledge(node, 2)
    assert node.core.log.commit == 1


def test_a_leader_that_is_removed_steps_down_once_that_is_committed() -> None:
    """ "the leader steps down (returns to follower state) once it has committed the Cnew log
    entry."
    """
    node = make_leader(term=1)
    acknowledge(node, 2, 3)
    node.change(REMOVE_1)
    acknowledge(node, 2)
    assert node.core.role is Role.LEADER

    acknowledge(node, 3)

    assert (node.core.role, node.core.term) == (Role.FOLLOWER, 1)
    assert node.core.log.commit == 2


def test_a_leader_that_is_removed_does_not_count_itself() -> None:
    """ "there will be a period of time (while it is committing Cnew) when the leader is managing
    a cluster that does not include itself; it replicates log entries but does not count itself in
    majorities."
    """
    node = make_leader(term=1)
    acknowledge(node, 2, 3)
    node.sent.clear()

    node.change(REMOVE_1)
    assert [m.to for m in node.take(Append)] == [2, 3]
    acknowledge(node, 2)

    assert (node.core.role, node.core.log.commit) == (Role.LEADER, 1)


@pytest.mark.parametrize(("elapsed", "heeded"), [(0, False), (T - 1, False), (T, True)])
def test_who_hears_a_leader_disregards_requests_to_vote(elapsed: int, heeded: bool) -> None:
    """ "if a server receives a RequestVote RPC within the minimum election timeout of hearing
    from a current leader, it does not update its term or grant its vote."
    """
    node = make_follower([1], term=1)
    node.receive(Heartbeat(2, 1, 1, 0, 1))
    node.sent.clear()
    node.tick(elapsed)

    node.receive(VoteRequest(3, 1, 5, 9, 5))

    assert (node.core.term, node.core.vote) == ((5, 3) if heeded else (1, 0))
    assert node.take(VoteResponse) == ([VoteResponse(1, 3, 5, granted=True)] if heeded else [])


def test_a_removed_server_does_not_disrupt_the_cluster() -> None:
    """ "if a leader is able to get heartbeats to its cluster, then it will not be deposed by
    larger term numbers."
    """
    cluster = make_cluster(4)
    cluster.elect(1)
    cluster[1].change(ConfigChange(ConfigChangeKind.REMOVE, 4))
    cluster.settle(lambda m: m.to != 4)
    cluster.drop()
    assert cluster.core(1).log.commit == 2
    term = cluster.core(1).term

    cluster.tick(10 * T)

    assert (cluster.core(1).role, cluster.core(1).term) == (Role.LEADER, term)


# -- section 7 ------------------------------------------------------------------------------

META_4 = SnapshotMeta(4, 2, Configuration((1, 2, 3), (4,)))


def test_a_snapshot_replaces_a_log_without_its_last_entry() -> None:
    """ "Usually the snapshot will contain new information not already in the recipient's log. In
    this case, the follower discards its entire log; it is all superseded by the snapshot and may
    possibly have uncommitted entries that conflict with the snapshot."
    """
    node = make_follower([1, 1, 1, 1, 1], term=2)

    update = node.receive(InstallSnapshot(2, 1, 2, META_4))

    assert update.persist is not None
    assert update.persist.snapshot == META_4
    assert not update.snapshot_refused
    log = node.core.log
    assert (log.entries, log.last_index, log.last_term) == ([], 4, 2)
    assert (log.commit, log.applied, log.persisted) == (4, 4, 4)
    assert node.disk.snapshot == META_4


def test_a_snapshot_of_a_prefix_keeps_the_entries_behind_it() -> None:
    """ "If instead the follower receives a snapshot that describes a prefix of its log (due to
    retransmission or by mistake), then log entries covered by the snapshot are deleted but
    entries following the snapshot are still valid and must be retained."

    What is covered is kept here until this node compacts by itself, which is as good.
    """
    node = make_follower([1, 1, 2, 2, 2], term=2)

    update = node.receive(InstallSnapshot(2, 1, 2, META_4))

    assert update.snapshot_refused
    assert update.persist is None
    assert terms_of(node.core) == [1, 1, 2, 2, 2]
    assert [e.index for e in node.applied] == [1, 2, 3, 4]
    assert node.take(AppendResponse) == [AppendResponse(1, 2, 2, 4)]


def test_a_snapshot_keeps_the_last_included_index_and_term() -> None:
    """ "These are preserved to support the AppendEntries consistency check for the first log
    entry following the snapshot, since that entry needs a previous log index and term."
    """
    node = make_follower(term=2)
    node.receive(InstallSnapshot(2, 1, 2, META_4))

    assert node.ask(append_from(2, 2, prev=(4, 1)), AppendResponse).rejected
    assert node.ask(append_from(2, 2, prev=(4, 2), terms=[2]), AppendResponse).index == 5


def test_a_snapshot_brings_the_configuration_of_its_index() -> None:
    """ "To enable cluster membership changes (Section 6), the snapshot also includes the latest
    configuration in the log as of last included index."
    """
    node = make_follower([1], term=1)
    node.receive(Append(2, 1, 1, 1, 1, [config_entry(2, 1, Configuration((1, 2)))], 0))
    assert node.core.config == Configuration((1, 2))

    node.receive(InstallSnapshot(2, 1, 2, META_4))

    assert node.core.config == META_4.config
    assert node.restart().core.config == META_4.config


def test_a_snapshot_says_what_was_in_force_at_its_index() -> None:
    """ "the snapshot also includes the latest configuration in the log as of last included
    index" - not a later one.
    """
    node = make_leader(term=1)
    acknowledge(node, 2, 3)
    node.change(ADD_4)
    acknowledge(node, 2, 3, 4)
    node.change(REMOVE_3, rid=501)
    acknowledge(node, 2, 4)

    configs = {index: node.core.meta_at(index).config.voters for index in (1, 2, 3)}

    assert configs == {1: (1, 2, 3), 2: (1, 2, 3, 4), 3: (1, 2, 4)}


def test_a_written_snapshot_lets_the_log_go() -> None:
    """ "Once a server completes writing a snapshot, it may delete all log entries up through the
    last included index"
    """
    node = make_leader([1, 1, 1], term=2)
    acknowledge(node, 2, 3)

    update = node.step(Compact(3))

    assert update.compact == SnapshotMeta(3, 1, Configuration((1, 2, 3)))
    assert [e.index for e in node.core.log.entries] == [4]
    assert node.core.log.term_at(3) == 1
    assert node.core.log.term_at(2) is None


def test_a_follower_too_far_behind_gets_a_snapshot() -> None:
    """ "The leader uses a new RPC called InstallSnapshot to send snapshots to followers that are
    too far behind."
    """
    node = make_leader([1, 1, 1], term=2)
    acknowledge(node, 2)
    node.step(Compact(3))

    node.receive(AppendResponse(3, 1, 2, 3, rejected=True, hint_index=1, hint_term=1))
    assert node.wanted == [3]
    node.sent.clear()
    node.step(SnapshotSent(3, 3, ok=True))
    node.receive(AppendResponse(3, 1, 2, 3))

    assert [(m.prev_index, len(m.entries)) for m in node.take(Append, to=3)] == [(3, 1)]


# -- section 8 ------------------------------------------------------------------------------


def test_a_client_of_a_follower_is_told_who_leads() -> None:
    """ "that server will reject the client's request and supply information about the most recent
    leader it has heard from"
    """
    node = make_follower(term=1)
    node.receive(Heartbeat(3, 1, 1, 0, 1))

    node.propose(b"x", rid=1)
    node.change(ADD_4, rid=2)

    assert node.answers == {1: Reason.NOT_LEADER, 2: Reason.NOT_LEADER}
    assert node.core.leader == 3


def test_each_leader_begins_with_a_blank_entry_of_its_term() -> None:
    """ "Raft handles this by having each leader commit a blank no-op entry into the log at the
    start of its term."
    """
    node = make_leader([1, 1], term=4)

    entry = node.core.log.entries[-1]

    assert (entry.index, entry.term, entry.kind, entry.data) == (3, 4, EntryKind.NOOP, b"")


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_no_read_before_the_blank_entry_is_committed(size: int) -> None:
    """ "a leader must have the latest information on which entries are committed. ... at the
    start of its term, it may not know which those are."

    In a cluster of one, too (etcd-io/raft#105).
    """
    node = make_leader([1, 1], term=2, voters=range(1, size + 1), is_disk_held=True)
    peers = range(2, size + 1)

    node.read(1)
    node.tick()
    node.receive(*(HeartbeatResponse(p, 1, 2, node.core.round) for p in peers))
    assert node.reads == {}

    node.flush()
    acknowledge(node, *peers)
    node.receive(*(HeartbeatResponse(p, 1, 2, node.core.round) for p in peers))
    assert node.reads == {1: 3}


@pytest.mark.parametrize("is_deposed", [False, True])
def test_a_read_needs_heartbeats_with_a_majority(is_deposed: bool) -> None:
    """ "a leader must check whether it has been deposed before processing a read-only request ...
    Raft handles this by having the leader exchange heartbeat messages with a majority of the
    cluster before responding to read-only requests."
    """
    cluster = make_cluster(5)
    cluster.elect(1)
    cluster.tick()
    if is_deposed:
        cluster.isolate(1, 2)
        for other in (3, 4, 5):
            cluster[other].tick(T)
        cluster[3].tick(2 * T)
        cluster.settle()
        assert cluster.core(3).role is Role.LEADER
        cluster[3].propose(b"newer")
        cluster.settle()

    cluster[1].read(1)
    cluster.settle()

    assert cluster[1].reads == ({} if is_deposed else {1: 1})
    cluster.heal()
    cluster.tick()
    assert cluster[1].reads == {1: Reason.LOST_LEADER if is_deposed else 1}


def test_reads_write_nothing() -> None:
    """ "Read-only operations can be handled without writing anything into the log." """
    node = make_leader(term=1)
    acknowledge(node, 2, 3)
    node.sent.clear()

    update = node.read(1)
    node.receive(*(HeartbeatResponse(m.frm, 1, 1, m.round) for m in node.take(Heartbeat)))

    assert update.persist is None
    assert node.core.log.last_index == 1


def test_a_restarted_follower_of_a_snapshot_starts_behind_it() -> None:
    """Section 7: a snapshot and the log behind it are all that a server starts from."""
    node = make_node(snapshot=META_4, entries=entries_of([2, 3], 5), applied=5)

    log = node.core.log
    assert (log.snapshot_index, log.last_index, log.commit, log.applied) == (4, 6, 5, 5)
    assert node.core.config == META_4.config
