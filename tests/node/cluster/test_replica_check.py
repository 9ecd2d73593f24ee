"""Replicas compare what they hold: who differs from the majority stops, and nobody else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.cluster import replica_check
from hstore.node.cluster.replica_check import ReplicaCheck, Verdict, judge
from hstore.node.driver import compaction
from hstore.node.errors import HstoreError, StateDiverged
from hstore.node.model import commands
from hstore.node.model.commands import Checkpoint, Command, Delete, DeletePrefix, Keyed, Put
from hstore.node.peers import wire
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.raft.membership import Configuration
from hstore.node.state.machine import State
from hstore.node.storage.interface import Identity, StateReader
from hstore.node.storage.rocks import RocksStorage
from tests.fakes.storage import MemoryDisk
from tests.node.memory_cluster import Cluster, Member, running

A, B, C = b"a", b"b", b"c"
THREE = Configuration(voters=(1, 2, 3))
FOUR = Configuration(voters=(1, 2, 3, 4), learners=(9,))
JOINT = Configuration(voters=(1, 2, 3), outgoing=(3, 4, 5))


@pytest.mark.parametrize(
    ("config", "own", "reports", "verdict"),
    [
        (THREE, A, {1: A, 2: A, 3: A}, Verdict.AGREED),
        (THREE, A, {1: A, 3: A}, Verdict.AGREED),
        (THREE, A, {1: A, 2: A, 3: B}, Verdict.AGREED),
        (THREE, A, {1: A, 2: B, 3: B}, Verdict.DIFFERS),
        (THREE, A, {1: A}, Verdict.PENDING),
        (THREE, A, {1: A, 2: B}, Verdict.PENDING),
        (THREE, A, {1: A, 2: B, 3: C}, Verdict.SPLIT),
        (Configuration(voters=(1, 2)), A, {1: A}, Verdict.PENDING),
        (Configuration(voters=(1, 2)), A, {1: A, 2: B}, Verdict.SPLIT),
        (FOUR, A, {1: A, 2: A, 3: B, 4: B}, Verdict.SPLIT),
        (FOUR, A, {1: A, 2: A, 3: B}, Verdict.PENDING),
        (FOUR, A, {1: A, 2: B, 3: C}, Verdict.SPLIT),
        # What a learner has decides nothing, but it is judged like everybody.
        (FOUR, A, {9: A, 1: A, 2: A}, Verdict.PENDING),
        (FOUR, A, {9: A, 1: B, 2: B, 3: B}, Verdict.DIFFERS),
        (FOUR, A, {9: B, 1: A, 2: A, 3: A}, Verdict.AGREED),
        # Both halves, as everywhere.
        (JOINT, A, {1: A, 2: A}, Verdict.PENDING),
        (JOINT, A, {1: A, 2: A, 3: B}, Verdict.PENDING),
        (JOINT, A, {1: A, 2: A, 3: B, 4: B}, Verdict.SPLIT),
        (JOINT, A, {1: A, 2: A, 3: A, 4: A}, Verdict.AGREED),
        (JOINT, A, {1: A, 2: B, 3: B, 4: B}, Verdict.DIFFERS),
    ],
)
def test_a_majority_of_the_voters_decides_and_nothing_less(
    config: Configuration, own: bytes, reports: dict[int, bytes], verdict: Verdict
) -> None:
    assert judge(own, reports, config) is verdict


@given(
    st.sampled_from([THREE, FOUR, JOINT, Configuration(voters=(1, 2, 3, 4, 5))]),
    st.permutations([1, 2, 3, 4, 5, 9]),
    st.lists(st.sampled_from([A, B, C]), min_size=6, max_size=6),
)
def test_a_verdict_stands_whatever_else_is_reported(
    config: Configuration, order: list[int], digests: list[bytes]
) -> None:
    """Nobody stops on what later reports would take back, and two that judge alike never both
    find themselves in the majority with different digests."""
    reports: dict[int, bytes] = {}
    last: dict[bytes, Verdict] = {}
    for node, digest in zip(order, digests, strict=True):
        reports[node] = digest
        verdicts = {own: judge(own, reports, config) for own in (A, B, C)}
        assert list(verdicts.values()).count(Verdict.AGREED) <= 1
        for own, verdict in verdicts.items():
            if last.get(own, Verdict.PENDING) is not Verdict.PENDING:
                assert verdict is last[own]
        last = verdicts
    assert Verdict.PENDING not in last.values()


# --- the point in the log ---------------------------------------------------------------------


def entries(*given: Command) -> list[Entry]:
    return [
        Entry(index, 1, EntryKind.COMMAND, commands.encode(command))
        for index, command in enumerate(given, 1)
    ]


LOG = (
    Put(b"a", b"1"),
    Keyed(b"key", b"d" * 16, Put(b"b", b"2"), 5),
    Checkpoint(),
    Put(b"a", b"3"),
    DeletePrefix(b"b"),
    Checkpoint(),
    Delete(b"a"),
)


def views_of(machine: State) -> list[tuple[int, StateReader]]:
    views: list[tuple[int, StateReader]] = []
    machine.on_checkpoint = lambda index, view: views.append((index, view))
    return views


def pieces_of(views: list[tuple[int, StateReader]]) -> list[tuple[int, bytes]]:
    found = []
    for index, view in views:
        found.append((index, b"".join(replica_check._slices(view.scan(b"")))))
        view.close()
    return found


def in_memory() -> State:
    storage = MemoryDisk(Identity("00" * 8, 1)).open()
    storage.load()
    return State(storage.state)


def test_a_checkpoint_sees_what_stands_before_it_and_nothing_behind_it(tmp_path: Path) -> None:
    """However the entries are cut into batches, and also on RocksDB, whose views can deceive."""
    path = tmp_path / "node"
    RocksStorage.create(path, Identity("00" * 8, 1))
    storage = RocksStorage.open(path, cache_bytes=1 << 20)
    storage.load()
    one_by_one, at_once, on_disk = in_memory(), in_memory(), State(storage.state)
    views = [views_of(machine) for machine in (one_by_one, at_once, on_disk)]

    expected = [one_by_one.apply([entry])[0] for entry in entries(*LOG)]
    assert at_once.apply(entries(*LOG)) == on_disk.apply(entries(*LOG)) == expected

    first, *others = [pieces_of(taken) for taken in views]
    storage._engine.close_blocking()
    assert [index for index, _ in first] == [3, 6]
    assert first[0][1] != first[1][1]
    assert others == [first, first]


def test_a_checkpoint_that_nobody_looks_at_changes_nothing() -> None:
    plain, checked = in_memory(), in_memory()
    checked.apply(entries(*LOG))
    plain.apply(entries(*(Put(b"a", b"") if c == Checkpoint() else c for c in LOG)))
    assert (checked.get(b"a"), checked.applied) == (plain.get(b"a"), plain.applied) == (None, 7)


@pytest.mark.parametrize("size", [1, 3, 10**6])
def test_where_it_is_cut_into_slices_makes_no_difference(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    pairs = [(b"%d" % n, b"x" * n) for n in range(20)]
    whole = b"".join(replica_check._slices(iter(pairs)))
    monkeypatch.setattr(replica_check, "_SLICE_PAIRS", size)
    assert b"".join(replica_check._slices(iter(pairs))) == whole
    monkeypatch.setattr(replica_check, "_SLICE_BYTES", size)
    assert b"".join(replica_check._slices(iter(pairs))) == whole
    moved = [*pairs[:10], (b"10x", b"x" * 9), *pairs[11:]]
    assert b"".join(replica_check._slices(iter(moved))) != whole


# --- whole nodes ------------------------------------------------------------------------------

Alarms = Callable[[str], list[MutableMapping[str, Any]]]


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Alarms]:
    """Give the alarms so far whose text has a word; points come every 2 s."""
    monkeypatch.setattr(replica_check, "INTERVAL_S", 2.0)
    with structlog.testing.capture_logs() as logs:
        yield lambda word: [
            line
            for line in logs
            if line.get("alarm") and line["log_level"] == "error" and word in line["event"]
        ]


def tamper(member: Member, key: bytes, value: bytes | None) -> None:
    """Change what a node has at rest, without its knowing."""
    for image in (member.disk.live, member.disk.durable):
        if value is None:
            del image.state[key]
        else:
            image.state[key] = value


def digests_of(cluster: Cluster) -> list[wire.StateDigest]:
    seen: list[wire.StateDigest] = []

    def tap(_frm: int, _to: int, frame: wire.Frame) -> None:
        if isinstance(frame, wire.StateDigest):
            seen.append(frame)

    cluster.network.taps.append(tap)
    return seen


async def test_equal_replicas_are_compared_after_writes_and_left_alone(
    alarms: Alarms, autojump_clock
) -> None:
    async with running(3) as cluster:
        seen = digests_of(cluster)
        for round_ in range(3):
            for number in range(20):
                await cluster.write(1 + number % 3, f"key-{number}", f"{round_}")
            await trio.sleep(3)
        assert len({frame.index for frame in seen}) == 3
        assert len({(frame.index, frame.digest) for frame in seen}) == 3

        applied = cluster[1].node.keys.applied_index
        await trio.sleep(30)
        assert cluster[1].node.keys.applied_index == applied
        assert alarms("") == []


async def test_a_write_is_checked_within_a_minute(autojump_clock) -> None:
    """With the interval as it is."""
    async with running(3) as cluster:
        seen = digests_of(cluster)
        revision = await cluster.write(2, "key", "value")
        took = await cluster.until(lambda: len(seen) >= 6, within_s=60)
        assert seen[-1].index > revision
        assert took < 60


async def test_writes_that_go_on_meanwhile_do_not_disturb_the_check(
    monkeypatch: pytest.MonkeyPatch, alarms: Alarms, autojump_clock
) -> None:
    monkeypatch.setattr(replica_check, "_SLICE_PAIRS", 2)
    async with running(3) as cluster:
        seen = digests_of(cluster)
        for number in range(300):
            await cluster.write(1 + number % 3, f"key-{number % 30}", f"{number}")
            await trio.sleep(0.05)
        indexes = {frame.index for frame in seen}
        assert len(indexes) > 4
        assert len({(frame.index, frame.digest) for frame in seen}) == len(indexes)
        assert alarms("") == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"ka", bytes(24) + b"2"),
        (b"ka", None),
        (b"kb", bytes(24)),
        (b"wkey", bytes(25)),
        (b"y", bytes(24)),
    ],
)
async def test_a_follower_that_differs_stops_with_an_alarm_and_the_others_go_on(
    key: bytes, value: bytes | None, alarms: Alarms, autojump_clock
) -> None:
    async with running(3) as cluster:
        await cluster.write(1, "a", "1")
        keyed = Keyed(b"key", b"d" * 16, Put(b"keyed", b""))
        await cluster[1].node.keys.write(keyed, trio.current_time() + 5)
        await trio.sleep(1)
        tamper(cluster[3], key, value)
        await cluster.write(1, "later", "")
        await cluster.until(cluster[3].ended.is_set)

        error = cluster[3].take_error()
        assert isinstance(error, StateDiverged)
        assert error.exit_code == 1
        assert "join again" in str(error)
        (own,) = alarms("this replica")
        assert own["member"] == 3
        assert {tuple(a["members"]) for a in alarms("a replica")} == {(3,)}
        await cluster.write(2, "goes", "on")
        await trio.sleep(10)
        assert len(cluster.up) == 2


async def test_a_leader_that_differs_stops_too(alarms: Alarms, autojump_clock) -> None:
    async with running(3) as cluster:
        await cluster.write(1, "a", "1")
        tamper(cluster[1], b"ka", bytes(24) + b"2")
        await cluster.write(1, "later", "")
        await cluster.until(cluster[1].ended.is_set)
        assert isinstance(cluster[1].take_error(), StateDiverged)

        await cluster.until(cluster.agrees)
        assert await cluster.read(2, "a") == "1"
        await cluster.write(3, "goes", "on")
        await trio.sleep(10)
        assert len(cluster.up) == 2
        assert len(alarms("this replica")) == 1


async def test_a_learner_that_differs_stops(alarms: Alarms, autojump_clock) -> None:
    async with running(3) as cluster:
        learner = await cluster.join(learner=True)
        await cluster.write(1, "a", "1")
        await cluster.read(learner.id, "a")
        tamper(learner, b"ka", bytes(24) + b"2")
        await cluster.write(1, "later", "")
        await cluster.until(learner.ended.is_set)
        assert isinstance(learner.take_error(), StateDiverged)
        assert len(cluster.up) == 3


async def test_three_that_all_differ_raise_the_alarm_and_nobody_stops(
    alarms: Alarms, autojump_clock
) -> None:
    async with running(3) as cluster:
        await cluster.write(1, "a", "1")
        await trio.sleep(1)
        for member, value in ((cluster[1], b"2"), (cluster[3], b"3")):
            tamper(member, b"ka", bytes(24) + value)
        await cluster.write(1, "later", "")
        await cluster.until(lambda: len(alarms("no majority")) == 3)
        await trio.sleep(10)
        assert len(cluster.up) == 3
        assert len(alarms("")) == 3  # once for the point, on each
        await cluster.write(2, "goes", "on")


async def test_two_that_differ_raise_the_alarm_and_nobody_stops(
    alarms: Alarms, autojump_clock
) -> None:
    async with running(2) as cluster:
        await cluster.write(1, "a", "1")
        await trio.sleep(1)
        tamper(cluster[2], b"ka", bytes(24) + b"2")
        await cluster.write(1, "later", "")
        await cluster.until(lambda: len(alarms("no majority")) == 2)
        assert len(cluster.up) == 2


async def test_two_that_differ_while_the_third_is_dead_raise_the_alarm_after_a_while(
    alarms: Alarms, autojump_clock
) -> None:
    async with running(3) as cluster:
        await cluster.write(1, "a", "1")
        cluster[3].crash()
        tamper(cluster[2], b"ka", bytes(24) + b"2")
        await cluster.write(1, "later", "")
        await trio.sleep(replica_check.PATIENCE_S / 2)
        assert alarms("") == []
        await cluster.until(lambda: len(alarms("no majority")) == 2, within_s=60)
        assert len(cluster.up) == 2


async def test_one_alone_has_nothing_to_compare(alarms: Alarms, autojump_clock) -> None:
    async with running(1) as cluster:
        revision = await cluster.write(1, "a", "1")
        await trio.sleep(10)
        assert cluster[1].node.keys.applied_index == revision


async def test_who_came_by_a_snapshot_takes_part_in_the_next_point(
    monkeypatch: pytest.MonkeyPatch, alarms: Alarms, autojump_clock
) -> None:
    monkeypatch.setattr(compaction, "KEEP_ENTRIES", 10)
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster[3].ended.wait()
        await trio.sleep(3)
        for number in range(60):
            await cluster.write(1, f"key-{number}", "")
        await cluster[3].start()
        await cluster.read(3, "key-0")
        assert "install" in cluster[3].storage.order()
        seen = digests_of(cluster)
        await cluster.write(1, "later", "")
        await cluster.until(lambda: len(seen) == 6)
        assert len({frame.digest for frame in seen}) == 1

        tamper(cluster[3], b"kkey-0", bytes(24))
        await cluster.write(1, "later", "")
        await cluster.until(cluster[3].ended.is_set)
        assert isinstance(cluster[3].take_error(), StateDiverged)
        assert len(alarms("this replica")) == 1


async def test_a_point_that_comes_while_one_is_digested_is_left_out(
    monkeypatch: pytest.MonkeyPatch, alarms: Alarms, autojump_clock
) -> None:
    """On a node that is slower than its leader; the views of old states do not pile up."""
    async with running(3) as cluster:
        for number in range(20):
            await cluster.write(1, f"key-{number}", "")
        monkeypatch.setattr(replica_check, "_SLICE_PAIRS", 1)
        monkeypatch.setattr(replica_check, "_PAUSE_S", 1.0)
        check, seen = cluster[2].node.check, digests_of(cluster)
        views: list[StateReader] = []
        taken = cluster[2].node.replica.state.on_checkpoint
        assert taken is not None

        def spy(index: int, view: StateReader) -> None:
            views.append(view)
            taken(index, view)

        cluster[2].node.replica.state.on_checkpoint = spy
        await cluster.write(1, "key", "")
        await cluster.until(lambda: check._is_digesting)
        data = commands.encode(Checkpoint())
        deadline = trio.current_time() + 5
        await cluster[1].node.replica.request(wire.ForwardKind.WRITE, data, deadline)
        await cluster.until(lambda: len(views) == 2)
        next(views[0].scan(b""))
        with pytest.raises(HstoreError, match="closed"):
            next(views[1].scan(b""))
        await cluster.until(lambda: len(seen) == 6, within_s=60)
        with pytest.raises(HstoreError, match="closed"):
            next(views[0].scan(b""))
        assert alarms("") == []


async def test_a_large_state_is_checked_more_rarely(
    monkeypatch: pytest.MonkeyPatch, alarms: Alarms, autojump_clock
) -> None:
    async with running(2) as cluster:
        seen = digests_of(cluster)
        slices = replica_check._slices

        def slow(pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[bytes]:
            for piece in slices(pairs):
                autojump_clock.jump(0.1)
                yield piece

        monkeypatch.setattr(replica_check, "_slices", slow)
        for _ in range(60):
            await cluster.write(1, "key", "")
            await trio.sleep(1)
        # Of 0.1 s work, and twice that where both nodes share a clock.
        assert len({frame.index for frame in seen}) in range(3, 8)


async def test_what_others_report_is_bounded_and_only_of_members(autojump_clock) -> None:
    async with running(2) as cluster:
        check: ReplicaCheck = cluster[1].node.check
        for index in range(1_000, 1_100):
            check.reported(2, wire.StateDigest(index, bytes(16)))
            check.reported(77, wire.StateDigest(index, bytes(16)))
        assert [len(found) for found in check._reports.values()] == [replica_check._POINTS]
        check._reports[88] = check._reports[2]  # of one that is a member no more
        await trio.sleep(replica_check.INTERVAL_S)
        assert list(check._reports) == [2]


@pytest.mark.parametrize("digest", [b"", bytes(15), bytes(17)])
def test_a_digest_of_another_length_is_no_frame(digest: bytes) -> None:
    body = msgspec.msgpack.encode(wire.StateDigest(1, digest))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(body, type=wire.StateDigest)
