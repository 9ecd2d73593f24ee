"""How much of the log stays: for slow followers, and for those that a snapshot is on its way to."""

from __future__ import annotations

from random import Random
from typing import cast

import pytest
import trio

from hstore.node.driver import compaction
from hstore.node.driver.compaction import DiskLog, due
from hstore.node.raft.core import Core
from hstore.node.raft.entry import Entry, HardState, SnapshotMeta
from hstore.node.raft.options import Options
from hstore.node.raft.progress import Progress, ProgressState
from hstore.node.storage.interface import Storage
from tests.node.memory_cluster import running


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "KEEP_ENTRIES", 10)
    monkeypatch.setattr(compaction, "KEEP_BYTES", 10_000)


def core_with(count: int, size: int = 1) -> Core:
    log = [Entry(index, 1, 0, b"x" * size) for index in range(1, count + 1)]
    return Core(1, Options(), Random(1), hard_state=HardState(1, 1, count), entries=log)


def member(match: int, state: ProgressState, *, active: bool, snapshot: int = 0) -> Progress:
    progress = Progress(match + 1)
    progress.snapshot = snapshot
    progress.match, progress.state, progress.active = match, state, active
    return progress


def test_the_log_is_cut_when_it_has_twice_as_many_entries_as_are_kept() -> None:
    assert due(core_with(20), 20) is None
    assert due(core_with(21), 21) == 10


def test_the_log_is_cut_when_it_has_twice_as_many_bytes_as_are_kept() -> None:
    assert due(core_with(19, 1000), 19) is None
    cut = due(core_with(20, 1000), 20)
    assert cut is not None
    assert 9 <= 20 - cut <= 10


def test_nothing_is_cut_that_is_not_applied() -> None:
    assert due(core_with(100), 15) == 5
    assert due(core_with(100), 5) in (None, 0)


def test_a_log_that_was_kept_for_a_straggler_is_given_up_in_steps() -> None:
    """Freeing all of it at once would stop the loop."""
    core = core_with(75)
    cuts = []
    for _ in range(20):
        cut = due(core, 75)
        if cut is None:
            break
        cuts.append(cut)
        core.log.applied = core.log.handed_out = 75
        core.log.compact(cut)

    assert cuts == [10, 20, 30, 40, 50, 60]


PROBE, REPLICATE, SNAPSHOT = ProgressState.PROBE, ProgressState.REPLICATE, ProgressState.SNAPSHOT


@pytest.mark.parametrize(
    ("progress", "kept"),
    [
        (member(195, REPLICATE, active=True), 10),
        (member(100, REPLICATE, active=True), 80),
        (member(100, REPLICATE, active=False), 80),
        (member(100, PROBE, active=True), 80),
        (member(100, PROBE, active=False), 10),
        (member(100, SNAPSHOT, active=True, snapshot=120), 10),
        (member(125, SNAPSHOT, active=True, snapshot=120), 80),
    ],
    ids=[
        "near",
        "slow",
        "slow and silent",
        "sought",
        "gone",
        "waiting for its snapshot",
        "fed from the disk",
    ],
)
def test_more_is_kept_while_it_is_of_use_to_a_member_that_is_behind(
    progress: Progress, kept: int
) -> None:
    core = core_with(200)
    core.progress = {2: progress}
    core.log.applied = core.log.handed_out = 200
    while (cut := due(core, 200)) is not None:
        core.log.compact(cut)

    assert kept <= len(core.log.entries) <= kept + 10


def test_what_a_straggler_costs_is_bounded_in_bytes() -> None:
    core = core_with(79, 1000)
    core.progress = {2: member(1, REPLICATE, active=True)}

    core.log.applied = core.log.handed_out = 79
    while (cut := due(core, 79)) is not None:
        core.log.compact(cut)

    assert 39 <= len(core.log.entries) < 50


class Cuts:
    """A storage, as far as `DiskLog` uses one."""

    def __init__(self) -> None:
        self.cuts: list[int] = []

    def compact(self, meta: SnapshotMeta) -> None:
        self.cuts.append(meta.index)


@pytest.fixture
def storage() -> Cuts:
    return Cuts()


@pytest.fixture
def disk_log(storage: Cuts) -> DiskLog:
    return DiskLog(cast("Storage", storage))


def test_the_disk_is_cut_with_the_memory_where_nobody_needs_more(
    disk_log: DiskLog, storage: Cuts
) -> None:
    disk_log.compact(SnapshotMeta(5, 1))
    disk_log.hold(2, 10)
    disk_log.compact(SnapshotMeta(10, 1))

    assert storage.cuts == [5, 10]


def test_what_is_held_stays_until_the_last_one_that_needs_it_lets_go(
    disk_log: DiskLog, storage: Cuts
) -> None:
    disk_log.hold(2, 10)
    disk_log.hold(3, 15)
    disk_log.compact(SnapshotMeta(11, 1))
    disk_log.compact(SnapshotMeta(20, 1))
    disk_log.release(2)
    assert storage.cuts == []
    disk_log.release(3)
    disk_log.release(3)

    assert storage.cuts == [20]


def test_what_is_held_is_bounded(
    disk_log: DiskLog, storage: Cuts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "HELD_BYTES", 1000)
    disk_log.appended([Entry(1, 1, 0, b"x" * 5000)])
    disk_log.hold(2, 10)
    disk_log.compact(SnapshotMeta(20, 1))
    disk_log.appended([Entry(21, 1, 0, b"x" * 900)])
    assert disk_log.is_held(2)
    disk_log.appended([Entry(22, 1, 0, b"x" * 100)])

    assert not disk_log.is_held(2)
    assert storage.cuts == [20]
    disk_log.hold(2, 25)
    disk_log.appended([Entry(26, 1, 0, b"x" * 900)])
    assert disk_log.is_held(2), "it is counted from when something is held"


async def test_a_node_that_starts_with_a_long_log_cuts_it_though_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, autojump_clock
) -> None:
    """What its disk had held for another stayed in its memory until the next writes came."""
    monkeypatch.setattr(compaction, "KEEP_ENTRIES", 1000)
    async with running(3) as cluster:
        for number in range(60):
            await cluster.write(1, f"key-{number}", "value")
        member = cluster[3]
        member.crash()
        await member.ended.wait()
        monkeypatch.setattr(compaction, "KEEP_ENTRIES", 10)
        await member.start()
        assert len(member.core.log.entries) > 50
        await trio.sleep(5)

        assert len(member.core.log.entries) <= 20
        assert member.disk.live.snapshot.index == member.core.log.snapshot_index


# -- a disk that is short of room ---------------------------------------------------------------


def test_on_a_short_disk_an_eighth_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "KEEP_ENTRIES", 80)

    assert due(core_with(20), 20, is_short=True) is None
    assert due(core_with(21), 21, is_short=True) == 11


def test_on_a_short_disk_what_a_member_lacks_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole snapshot would take more room, on both disks."""
    monkeypatch.setattr(compaction, "KEEP_ENTRIES", 80)
    core = core_with(60)
    core.progress = {
        2: member(30, ProgressState.REPLICATE, active=True),
        3: member(0, ProgressState.PROBE, active=False),
        4: member(0, ProgressState.SNAPSHOT, active=True),
    }

    assert due(core, 60, is_short=True) == 30

    core.progress[2].match = 0
    assert due(core, 60, is_short=True) is None
