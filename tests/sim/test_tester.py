"""The simulator is worth what it finds: mistakes that others have made, put in one at a time.

Each is caught within a few seeds, by the invariant that it breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from hstore.node.peers.snapshot_transfer import Incoming, Pairs, SnapshotChunk, decode_pairs
from hstore.node.raft import election, membership, quorum, reads, reconfigure
from hstore.node.raft.core import Core
from hstore.node.raft.entry import Entry
from hstore.node.raft.log import RaftLog
from hstore.node.raft.membership import ConfigChange, ConfigHistory, Configuration
from hstore.node.raft.progress import Progress

from .invariants import Violation
from .node import SimNode
from .runner import run_seed, run_seeds
from .simulation import Simulation

_acknowledged = Progress.acknowledged
_become_follower = Core.become_follower
_enter_joint = membership.enter_joint
_take_committed = RaftLog.take_committed


def _forget_the_vote(core: Core, term: int, leader: int) -> None:
    _become_follower(core, term, leader)
    core.vote = 0


def _count_learners(config: Configuration, acked: Callable[[int], int]) -> int:
    return quorum.majority_committed(config.all_members(), acked)


def _let_match_fall(progress: Progress, index: int) -> bool:
    _acknowledged(progress, index)
    progress.match = index
    return True


def _apply_again(log: RaftLog, index: int) -> None:
    log.applied = log.handed_out = max(log.applied, index - 1)


def _alter_applied(log: RaftLog, max_bytes: int) -> list[Entry]:
    batch = _take_committed(log, max_bytes)
    return [Entry(e.index, e.term, e.kind, e.data + b"!") for e in batch]


def _leave_out_joint(
    config: Configuration, changes: Iterable[ConfigChange], *, auto_leave: bool
) -> Configuration:
    both = _enter_joint(config, changes, auto_leave=auto_leave)
    return membership.leave_joint(both)


def _take_anything(incoming: Incoming, frame: object) -> Pairs:
    if isinstance(frame, SnapshotChunk):
        return decode_pairs(frame.data)
    incoming.is_whole = True
    return []


_MISTAKES: list[tuple[str, Any, str, Any, str]] = [
    ("answers leave before they are durable", Core, "send_durably", Core.send, "I8"),
    ("a vote is forgotten within its term", Core, "become_follower", _forget_the_vote, "I2"),
    ("learners count", quorum, "committed", _count_learners, "I5"),
    ("any log is good enough for a vote", RaftLog, "is_up_to_date", lambda *_: True, "I6"),
    (
        "changes do not wait for the no-op",
        reconfigure, "is_settled", lambda core: core.log.commit >= core.history.index, "I9",
    ),
    ("truncation leaves configurations", ConfigHistory, "truncate", lambda *_: False, "I9"),
    ("acknowledgements go back", Progress, "acknowledged", _let_match_fall, "I10"),
    ("reads do not wait for the no-op", reads, "_has_committed_in_term", lambda _: True, "I12"),
    ("leases are always waived", election, "is_in_lease", lambda _: False, "L2"),
    (
        "who has lost log counts as before",
        Core, "is_recovering", property(lambda _: False), "R11",
    ),
    ("a stuck disk is not noticed", Core, "is_disk_stuck", property(lambda _: False), "R3"),
    ("what is applied is not what was written", RaftLog, "take_committed", _alter_applied, "I13"),
    ("windows never close", Progress, "is_window_open", lambda *_: True, "I14"),
    ("what is handed out is forgotten", RaftLog, "applied_to", _apply_again, "L4"),
    ("a joint configuration is left out", membership, "enter_joint", _leave_out_joint, "I9"),
    ("chunks of a snapshot are not checked", Incoming, "take", _take_anything, "I11"),
    ("forwarded reads never expire", reads, "expire_forwarded", lambda _: None, "L1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "name", "mistake", "invariant"),
    [mistake[1:] for mistake in _MISTAKES],
    ids=[mistake[0].replace(" ", "_") for mistake in _MISTAKES],
)
def test_a_mistake_is_found_by_the_invariant_it_breaks(
    owner: Any, name: str, mistake: Any, invariant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, mistake)

    # Seed 0 has a learner that is cut off: with learners counted, nothing is committed there (L1).
    failures = run_seeds(range(1, 150)).failures

    assert [failure.text.split(":")[1].strip() for failure in failures] == [invariant]


@pytest.fixture(scope="module")
def finished() -> Simulation:
    """A run that holds."""
    sim, failure = run_seed(1)
    assert failure is None
    return sim


def _member(sim: Simulation) -> SimNode:
    """Return a member that runs and has applied something."""
    members = sim.checker.configs[-1][1].all_members()
    return next(n for n in map(sim.nodes.__getitem__, members) if n.core and n.content.applied)


def test_a_disk_with_another_state_is_found_by_its_restart(finished: Simulation) -> None:
    disk = _member(finished).disk
    true = disk.durable.content
    disk.durable.content = true._replace(values=(-1, *true.values[1:]))

    with pytest.raises(Violation, match=r"L5: .* comes up differently"):
        finished.awakening.see_restarts()

    disk.durable.content = true
    finished.awakening.see_restarts()


def test_a_stale_answer_is_no_linearizable_read() -> None:
    sim, failure = run_seed(2)
    assert failure is None
    node = _member(sim)
    node.reads[10**9] = node.content.applied + 1

    with pytest.raises(Violation, match=r"L3: .* was committed before"):
        sim.checker.read_served(node, 10**9)


def test_an_answer_that_nobody_wrote_is_no_linearizable_read() -> None:
    sim, failure = run_seed(2)
    assert failure is None
    node = _member(sim)
    node.content = node.content._replace(values=(-1,) * len(node.content.values))
    node.reads[10**9] = 0

    with pytest.raises(Violation, match=r"L3: .* reads -1"):
        sim.checker.read_served(node, 10**9)
