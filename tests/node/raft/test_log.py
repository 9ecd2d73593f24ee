"""The log and the progress of a peer by themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.raft.core import Core
from hstore.node.raft.entry import HardState, SnapshotMeta
from hstore.node.raft.errors import CoreBug
from hstore.node.raft.events import Applied, Compact
from hstore.node.raft.log import RaftLog, entry_size
from hstore.node.raft.membership import Configuration
from hstore.node.raft.options import Options
from hstore.node.raft.progress import Progress, ProgressState
from tests.node.raft.harness import Longest, entries_of, make_follower, make_leader

falling_never = st.lists(st.integers(1, 6), max_size=12).map(sorted)


def log_of(*terms: int, snapshot: tuple[int, int] = (0, 0), applied: int | None = None) -> RaftLog:
    index, term = snapshot
    return RaftLog(
        SnapshotMeta(index, term),
        entries_of(terms, index + 1),
        index if applied is None else applied,
    )


@pytest.mark.parametrize(
    ("index", "term"),
    [(-1, None), (2, None), (3, 1), (4, 2), (5, 2), (6, 3), (7, None), (99, None)],
)
def test_terms_are_known_from_the_snapshot_to_the_end(index: int, term: int | None) -> None:
    assert log_of(2, 2, 3, snapshot=(3, 1)).term_at(index) == term


@given(falling_never, st.integers(0, 20), st.integers(0, 8))
def test_a_conflict_search_finds_the_last_index_at_or_below_both(
    terms: list[int], index: int, term: int
) -> None:
    log = log_of(*terms)

    expected = max(
        ((i, t) for i, t in enumerate([0, *terms]) if i <= index and t <= term),
        default=(0, 0),
    )
    assert log.find_conflict(index, term) == expected


@given(falling_never, falling_never)
def test_two_sided_search_never_skips_where_the_logs_agree(ours: list[int], its: list[int]) -> None:
    """However the logs differ, the next probe is at or above the last index at which they agree,
    and below the rejected one."""
    agree = 0
    while agree < min(len(ours), len(its)) and ours[agree] == its[agree]:
        agree += 1
    leader, follower = log_of(*ours), log_of(*its)
    prev = len(ours)
    while follower.term_at(prev) != leader.term_at(prev):
        hint, hint_term = follower.find_conflict(prev, leader.term_at(prev) or 0)
        candidate, _ = leader.find_conflict(hint, hint_term)
        candidate = min(candidate, hint)
        assert agree <= candidate < prev
        prev = candidate
    assert prev >= agree


@given(falling_never, st.integers(0, 12), st.integers(0, 12), st.integers(1, 200))
def test_a_slice_is_bounded_and_never_empty(
    terms: list[int], low: int, count: int, max_bytes: int
) -> None:
    log = log_of(*terms)
    if not 1 <= low <= len(terms):
        return
    high = min(low + count, len(terms))

    chosen = log.slice(low, high, max_bytes)

    assert [e.index for e in chosen] == list(range(low, low + len(chosen)))
    size = sum(map(entry_size, chosen))
    assert len(chosen) == 1 or size <= max_bytes
    rest = log.entries[low - 1 + len(chosen) : high]
    assert not rest or size + entry_size(rest[0]) > max_bytes


def test_a_log_with_a_gap_is_refused() -> None:
    with pytest.raises(CoreBug, match="entry 3 at position 2"):
        RaftLog(SnapshotMeta(), [*entries_of([1]), *entries_of([1], 3)], 0)


@pytest.mark.parametrize("applied", [2, 6])
def test_an_applied_index_outside_the_log_is_refused(applied: int) -> None:
    """D19, D6: a state that is ahead of its log has lost entries that it depends on."""
    with pytest.raises(CoreBug, match=f"applied {applied} is outside"):
        log_of(1, 1, snapshot=(3, 1), applied=applied)


def test_a_stored_commit_beyond_the_log_is_cut_to_it() -> None:
    """Whoever loses the unflushed end of a log may find a commit index of before."""
    core = Core(
        1, Options(), Longest(),
        hard_state=HardState(1, 0, 9), entries=entries_of([1, 1]),
    )  # fmt: skip

    assert core.log.commit == 2


def test_a_core_starts_in_the_term_of_its_snapshot_at_least() -> None:
    core = Core(
        1, Options(), Longest(),
        hard_state=HardState(3, 2, 0), snapshot=SnapshotMeta(9, 5, Configuration((1,))),
    )  # fmt: skip

    assert (core.term, core.vote) == (5, 0)
    assert core.step(Applied(9)).persist is not None


def test_compaction_beyond_what_is_applied_is_a_defect() -> None:
    node = make_follower([1, 1, 1], term=1, commit=1)
    node.tick()

    with pytest.raises(CoreBug, match="compaction to 2 is beyond applied 1"):
        node.step(Compact(2))


def test_compaction_below_the_snapshot_changes_nothing() -> None:
    node = make_leader([1, 1, 1], term=2, voters=(1,))
    node.step(Compact(3))

    update = node.step(Compact(2), Compact(3))

    assert update.compact is None
    assert node.core.log.snapshot_index == 3


def test_applying_what_was_not_handed_out_is_a_defect() -> None:
    node = make_follower([1, 1], term=1)

    with pytest.raises(CoreBug, match="applied 1, but only 0"):
        node.step(Applied(1))


def test_a_committed_entry_is_never_truncated() -> None:
    log = log_of(1, 1, 1)
    log.commit_to(2)

    with pytest.raises(CoreBug, match="conflict at 2, which is committed"):
        log.truncate(2)
    log.truncate(3)
    assert log.last_index == 2


def test_a_commit_beyond_the_log_is_a_defect() -> None:
    with pytest.raises(CoreBug, match="commit 4 is beyond"):
        log_of(1, 1, 1).commit_to(4)


def test_the_commit_never_falls() -> None:
    log = log_of(1, 1, 1)
    log.commit_to(3)
    log.commit_to(1)

    assert log.commit == 3


@given(st.data())
def test_the_durable_mark_is_what_a_disk_would_say(data: st.DataObject) -> None:
    """Any sequence of appends, truncations, writes and flushes: an index counts as durable only if
    the very entry that the log holds there is on the disk (ra#516), and in the end all of it is.
    """
    log = log_of()
    disk: list[tuple[int, int]] = []
    writes: list[tuple[int, int | None, list[tuple[int, int]]]] = []
    seq = term = 0

    def flush() -> None:
        number, truncated, entries = writes.pop(0)
        if truncated is not None:
            del disk[truncated - 1 :]
        disk.extend(entries)
        log.persisted_to(number)

    for action in data.draw(st.lists(st.sampled_from("aatwwf"), max_size=40)):
        if action == "a":
            term += 1
            count = data.draw(st.integers(1, 3))
            log.append(entries_of([term] * count, log.last_index + 1))
        elif action == "t" and log.last_index:
            log.truncate(data.draw(st.integers(1, log.last_index)))
        elif action == "w":
            seq += 1
            truncated, taken = log.take_unsaved(seq)
            writes.append((seq, truncated, [(e.index, e.term) for e in taken]))
        elif action == "f" and writes:
            flush()
        held = [(e.index, e.term) for e in log.entries]
        assert disk[: log.persisted] == held[: log.persisted]

    seq += 1
    truncated, taken = log.take_unsaved(seq)
    writes.append((seq, truncated, [(e.index, e.term) for e in taken]))
    while writes:
        flush()
    assert disk == [(e.index, e.term) for e in log.entries]
    assert log.persisted == log.last_index


@given(st.data())
def test_progress_keeps_its_order_whatever_comes(data: st.DataObject) -> None:
    """D20: match never falls, next is always beyond it, and nothing in flight is counted twice."""
    progress = Progress(data.draw(st.integers(1, 10)))
    index = st.integers(-2, 30)
    for _ in range(data.draw(st.integers(0, 30))):
        match = progress.match
        action = data.draw(st.sampled_from(["ack", "reject", "probe", "replicate", "snap", "sent"]))
        if action == "ack":
            progress.acknowledged(data.draw(index))
        elif action == "reject":
            progress.rejected(data.draw(index), data.draw(index))
        elif action == "probe":
            progress.become_probe()
        elif action == "replicate":
            progress.become_replicate()
        elif action == "snap":
            progress.become_snapshot(data.draw(st.integers(0, 30)))
        else:
            progress.sent(progress.next + data.draw(st.integers(0, 3)), 10)
        assert match <= progress.match < progress.next
        assert progress.inflight_bytes >= 0
        if progress.state is not ProgressState.REPLICATE:
            assert progress.inflight_bytes == 0
