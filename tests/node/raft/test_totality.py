"""`step` survives whatever a peer or a client can send.

The messages are drawn without regard for sense: any type, any numbers, any order. Afterwards the
marks of the log must still stand in their order, for a message that is nonsense must not have been
believed half.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hstore.node.raft import core as core_module
from hstore.node.raft import events, messages, terms
from hstore.node.raft.entry import Entry, SnapshotMeta
from hstore.node.raft.events import Event, Receive
from hstore.node.raft.membership import (
    ConfigChange,
    ConfigChangeKind,
    Configuration,
    Transition,
    encode,
)
from hstore.node.raft.messages import Message
from hstore.node.raft.options import Options
from hstore.node.raft.roles import Role
from tests.node.raft.harness import Node, make_candidate, make_follower, make_leader

number = st.integers(-2, 8) | st.sampled_from([2**31, 2**63 - 1, -(2**63), 2**64 - 1])
node_id = st.integers(0, 5)
term = st.integers(-1, 7)
nodes = st.lists(node_id, max_size=4).map(tuple)
config = st.builds(Configuration, nodes, nodes, nodes, nodes, st.booleans())
payload = st.binary(max_size=6) | config.map(encode)
sensible_entries = st.tuples(
    st.integers(1, 8), st.lists(term, max_size=4).map(sorted), payload
).map(lambda drawn: [Entry(i, t, i % 3, drawn[2]) for i, t in enumerate(drawn[1], drawn[0])])
entries = sensible_entries | st.lists(
    st.builds(Entry, number, term, st.integers(-1, 4), payload), max_size=3
)

MESSAGES: list[st.SearchStrategy[Message]] = [
    st.builds(messages.PreVoteRequest, node_id, node_id, term, number, number),
    st.builds(messages.PreVoteResponse, node_id, node_id, term, st.booleans()),
    st.builds(messages.VoteRequest, node_id, node_id, term, number, number, st.booleans()),
    st.builds(messages.TimeoutNow, node_id, node_id, term),
    st.builds(messages.VoteResponse, node_id, node_id, term, st.booleans()),
    st.builds(messages.Append, node_id, node_id, term, number, number, entries, number),
    st.builds(
        messages.AppendResponse, node_id, node_id, term, number, st.booleans(), number, number
    ),
    st.builds(messages.Heartbeat, node_id, node_id, term, number, number),
    st.builds(messages.HeartbeatResponse, node_id, node_id, term, number),
    st.builds(
        messages.InstallSnapshot, node_id, node_id, term,
        st.builds(SnapshotMeta, number, term, config),
    ),
    st.builds(messages.ReadIndexRequest, node_id, node_id, term, number),
    st.builds(messages.ReadIndexResponse, node_id, node_id, term, number, st.none() | number),
]  # fmt: skip

item = st.tuples(st.integers(0, 10**6), st.binary(max_size=4))
change = st.builds(ConfigChange, st.sampled_from(ConfigChangeKind), node_id)

LOCAL: list[st.SearchStrategy[Event]] = [
    st.just(events.Tick()),
    st.just(events.TellCommit()),
    st.builds(events.Propose, st.lists(item, max_size=3)),
    st.builds(
        events.ProposeConfigChange,
        st.integers(0, 10**6),
        st.lists(change, max_size=3).map(tuple),
        st.sampled_from(Transition),
    ),
    st.builds(events.TransferLeader, st.integers(0, 10**6), node_id),
    st.builds(events.PeerUnreachable, node_id),
    st.builds(events.PeerDown, node_id),
    st.builds(events.EarlyElection, st.integers(0, 5)),
    st.builds(events.SnapshotSent, node_id, number, st.booleans()),
]

any_event = st.one_of(*(m.map(Receive) for m in MESSAGES), *LOCAL)

START: dict[str, Callable[[bool], Node]] = {
    "follower": lambda held: make_follower([1, 1, 2], term=3, commit=1, is_disk_held=held),
    "candidate": lambda held: make_candidate([1, 1, 2], term=3, is_disk_held=held),
    "leader": lambda held: make_leader([1, 1, 2], term=3, is_disk_held=held, learners=(4,)),
    "alone": lambda held: make_leader([1, 2], term=3, is_disk_held=held, voters=(1,)),
    "plain": lambda held: make_follower(
        [1], term=2, is_disk_held=held, rng=Random(1),
        options=Options(pre_vote=False, check_quorum=False, max_inflight_messages=1,
                        max_append_bytes=1, max_pending_reads=2, election_ticks=2),
    ),
}  # fmt: skip


def check(node: Node) -> None:
    log = node.core.log
    assert log.snapshot_index <= log.applied <= log.commit <= log.last_index
    assert log.persisted <= log.last_index
    assert log.unsaved <= log.last_index + 1
    assert log.last_index == log.snapshot_index + len(log.entries)
    for progress in node.core.progress.values():
        assert 0 <= progress.match < progress.next
    assert node.core.uncommitted_bytes >= 0
    assert node.core.unapplied_bytes >= 0
    assert node.core.transfer is None or node.core.role is Role.LEADER


@pytest.mark.parametrize("start", START)
@given(
    groups=st.lists(st.lists(any_event, min_size=1, max_size=4), max_size=12), held=st.booleans()
)
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
def test_no_message_raises(start: str, groups: list[list[Event]], held: bool) -> None:
    node = START[start](held)
    # A read's id is used once; the driver sees to that, so it is drawn by counting.
    for rid, group in enumerate(groups):
        term_before = node.core.term
        node.step(*group, events.ReadIndex(10**9 + rid))
        if rid % 3 == 2:
            node.flush()
        assert node.core.term >= term_before
        check(node)


def test_every_message_and_every_event_has_a_handler() -> None:
    assert set(terms._MESSAGES) == set(Message.__args__)
    assert set(core_module._EVENTS) == set(Event.__args__)
    assert len(MESSAGES) == len(terms._MESSAGES)
