"""The rules of the driver, D1 to D20, as far as `node/driver/replica.py` keeps them.

The harness watches D1 in every test of whole nodes: see `Cluster._check_durability`. Here the
disks are slow, hang or fail, so that a driver which does not wait for them is caught.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from hstore.node.driver.disk_space import DiskSpace
from hstore.node.driver.requests import Request
from hstore.node.errors import HstoreError, NoLeader, NoSpace, OutcomeUnknown, StorageError
from hstore.node.model import commands
from hstore.node.model.commands import Put
from hstore.node.peers import wire
from hstore.node.peers.wire import ForwardKind, ForwardReply
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    ReadIndexRequest,
    ReadIndexResponse,
    VoteResponse,
)
from hstore.node.storage.interface import Identity, Room
from tests.fakes.storage import MemoryDisk
from tests.node.memory_cluster import Cluster, running


def collect(cluster: Cluster, kind: type[wire.Frame]) -> list[wire.Frame]:
    """Return a list that fills with every frame of this kind that leaves a node."""
    frames: list[wire.Frame] = []

    def tap(_frm: int, _to: int, frame: wire.Frame) -> None:
        if isinstance(frame, kind):
            frames.append(frame)

    cluster.network.taps.append(tap)
    return frames


async def write_all_the_time(cluster: Cluster, via: int, name: str) -> None:
    for number in range(20):
        revision = await cluster.write(via, f"{name}-{number}", "value")
        cluster.leader.storage.acknowledge(revision)
        await trio.sleep(0.007)


# -- D1, D8: nothing is answered for before its flush has ended --------------------------------


@pytest.mark.parametrize("count", [1, 3])
async def test_d1_a_write_is_acknowledged_after_write_then_flush_in_that_order(
    count: int, autojump_clock
) -> None:
    async with running(count) as cluster:
        acknowledged = collect(cluster, AppendResponse)
        for member in cluster.up:
            member.disk.flush_delay_s = 0.02 + member.id / 1000
            member.storage.records.clear()
        async with trio.open_nursery() as nursery:
            for number in range(6):
                via = 1 + number % count
                nursery.start_soon(write_all_the_time, cluster, via, f"task-{number}")

        assert len(acknowledged) > 20 or count == 1
        for member in cluster.up:
            steps = [s for s in member.storage.order() if s not in ("apply", "compact")]
            first = steps.index("write")
            assert steps[first : first + 2] == ["write", "flush begins"]
            assert steps.index("flush ended") < steps.index("acknowledged")


async def test_d1_a_vote_leaves_when_it_is_durable_and_not_before(autojump_clock) -> None:
    async with running(3) as cluster:
        votes = collect(cluster, VoteResponse)
        for member in cluster.up:
            member.disk.flush_delay_s = 0.05
        cluster[1].crash()
        await cluster.until(lambda: any(m.is_leader for m in cluster.up))

        # The network has compared each with what was durable at its sender in that moment.
        assert any(isinstance(vote, VoteResponse) and vote.granted for vote in votes)


async def test_d1_a_write_that_arrives_while_a_flush_runs_waits_for_the_next(
    autojump_clock,
) -> None:
    async with running(1) as cluster:
        cluster[1].disk.flush_delay_s = 1.0
        started = trio.current_time()
        done: dict[str, float] = {}

        async def write(key: str) -> None:
            await cluster.write(1, key, "value")
            done[key] = trio.current_time() - started

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, "first")
            await trio.sleep(0.5)
            nursery.start_soon(write, "second")

        assert 1.0 <= done["first"] < 1.1
        assert 2.0 <= done["second"] < 2.2


async def test_d1_every_acknowledged_write_survives_a_crash_of_everybody(autojump_clock) -> None:
    async with running(3) as cluster:
        acknowledged: list[str] = []

        async def write(via: int) -> None:
            for number in range(1000):
                try:
                    await cluster.write(via, f"{via}-{number}", "value")
                except HstoreError:
                    return
                acknowledged.append(f"{via}-{number}")

        for member in cluster.up:
            member.disk.flush_delay_s = 0.003 * member.id
        async with trio.open_nursery() as nursery:
            for via in (1, 2, 3):
                nursery.start_soon(write, via)
            await trio.sleep(0.3)
            for member in cluster.up:
                member.crash()
            nursery.cancel_scope.cancel()
        for member in cluster.members.values():
            await member.ended.wait()
            member.disk.flush_delay_s = 0.0
            await member.start()
        await cluster.until(cluster.agrees)

        assert len(acknowledged) > 20
        await cluster[2].node.keys.read_barrier(trio.current_time() + 5)
        assert [key for key in acknowledged if cluster[2].value(key) is None] == []


# -- D2: what need not wait for the disk does not ----------------------------------------------


@pytest.mark.parametrize("hanging", [1, 2], ids=["leader", "follower"])
async def test_d2_heartbeats_go_on_while_a_flush_hangs(hanging: int, autojump_clock) -> None:
    async with running(3) as cluster:
        term = cluster[1].core.term
        cluster[hanging].disk.flush_gate = gate = trio.Event()
        beats = collect(cluster, Heartbeat)
        written: list[int] = []

        async def write() -> None:
            written.append(await cluster.write(1, "key", "value", within_s=60))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            # Shorter than the one and a half election timeouts after which somebody else shall lead.
            await trio.sleep(1.4)

            assert len(beats) >= 2 * 12
            assert cluster[1].is_leader
            assert {m.core.term for m in cluster.up} == {term}
            assert bool(written) == (hanging != 1)
            gate.set()
        assert await cluster.read(3, "key") == "value"


async def test_a_leader_whose_disk_hangs_for_long_is_replaced_and_the_work_goes_on(
    autojump_clock,
) -> None:
    """Its heartbeats alone would keep everybody waiting for answers that never come."""
    async with running(3) as cluster:
        cluster[1].disk.flush_gate = gate = trio.Event()
        with trio.move_on_after(0.1):
            await cluster.write(1, "hangs", "value")
        rest = [cluster[2], cluster[3]]
        await cluster.until(lambda: any(m.is_leader for m in rest), within_s=10)
        await cluster.until(lambda: cluster[2].core.leader == cluster[3].core.leader)
        await cluster.write(2, "key", "value")
        gate.set()
        assert await cluster.read(1, "key") == "value"


async def test_d2_a_leaders_appends_leave_before_its_own_flush(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[1].disk.flush_gate = gate = trio.Event()
        answers = collect(cluster, AppendResponse)
        with trio.move_on_after(1):
            await cluster.write(1, "key", "value")

        last = cluster[1].core.log.last_index
        vouched = {a.frm for a in answers if isinstance(a, AppendResponse) and a.index == last}
        assert vouched == {2, 3}
        gate.set()


# -- D7, D19: each entry takes effect once, also across restarts -------------------------------


@pytest.mark.parametrize("keep", [0, 1, 2, 3, 5, 8])
async def test_d19_a_node_that_crashed_at_any_write_goes_on_from_there(
    keep: int, autojump_clock
) -> None:
    """Unflushed batches reach the disk in order, but how many of them nobody knows."""
    async with running(3) as cluster:
        for number in range(5):
            await cluster.write(1, f"before-{number}", "value")
        cluster[3].disk.flush_gate = trio.Event()
        for number in range(5):
            await cluster.write(1, f"during-{number}", "value")
        cluster[3].crash(keep)
        await cluster[3].ended.wait()
        cluster[3].disk.flush_gate = None
        applied = cluster[3].disk.live
        await cluster[3].start()
        assert cluster[3].core.log.applied <= cluster[3].core.log.commit
        assert applied is cluster[3].disk.live

        for number in range(5):
            assert await cluster.read(3, f"before-{number}") == "value"
            assert await cluster.read(3, f"during-{number}") == "value"


# -- D13: a message is what it was when it was sent --------------------------------------------


async def test_d13_what_is_sent_cannot_change_any_more(autojump_clock) -> None:
    async with running(2) as cluster:
        appends = collect(cluster, Append)
        entries = [Entry(999, 1, EntryKind.NOOP, b"")]
        cluster[1].node.replica.send(2, Append(1, 2, 1, 998, 1, entries, 0))
        entries.clear()
        await trio.sleep(0.01)

        sent = [a for a in appends if isinstance(a, Append) and a.prev_index == 998]
        assert [len(append.entries) for append in sent] == [1]


# -- D15, D16: reads ---------------------------------------------------------------------------


async def test_d15_a_read_that_is_tried_again_has_a_new_id(autojump_clock) -> None:
    """A late answer to the first question must not answer the second (etcd#20418)."""
    async with running(3) as cluster:
        asked = collect(cluster, ReadIndexRequest)
        lost: list[ReadIndexResponse] = []

        def lose(_frm: int, to: int, frame: wire.Frame) -> wire.Frame | None:
            if isinstance(frame, ReadIndexResponse) and to == 3 and len(lost) < 2:
                lost.append(frame)
                return None
            return frame

        cluster.network.edit = lose
        assert await cluster.read(3, "key", within_s=20) is None

        ids = [read.read for read in asked if isinstance(read, ReadIndexRequest) and read.frm == 3]
        assert len(lost) == 2
        assert len(ids) >= 3
        assert len(set(ids)) == len(ids)


async def test_d15_a_late_answer_to_a_read_that_was_given_up_answers_nobody(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        replica = cluster[3].node.replica
        before = replica.intake.reads_asked
        stale = ReadIndexResponse(1, 3, replica.core.term, replica.intake._last_id, 0)
        cluster.silence(3)
        with trio.move_on_after(1):
            replica.received(1, stale)
            await cluster.read(3, "key", within_s=30)
            raise AssertionError("a read was answered without anybody's consent")
        assert replica.intake.reads_asked > before
        cluster.network.heal()


async def test_d16_a_read_waits_until_its_index_is_applied(autojump_clock) -> None:
    async with running(3) as cluster:
        await cluster.write(1, "key", "old")
        await cluster.read(3, "key")
        cluster[3].disk.flush_gate = gate = trio.Event()
        await cluster.write(1, "key", "new")
        got: list[str | None] = []

        async def read() -> None:
            got.append(await cluster.read(3, "key", within_s=60))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(5)
            assert got == []
            gate.set()
        assert got == ["new"]


async def test_d16_one_question_serves_all_reads_that_have_gathered(autojump_clock) -> None:
    async with running(3) as cluster:
        asked = collect(cluster, ReadIndexRequest)
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(cluster.read, 2, "key")
        assert len(asked) < 10


# -- D17: a disk that fails ends the node ------------------------------------------------------


@pytest.mark.parametrize("fault", ["flush_error", "write_error"])
@pytest.mark.parametrize("failing", [1, 2], ids=["leader", "follower"])
async def test_d17_a_failing_disk_ends_the_node_which_answers_for_nothing_more(
    failing: int, fault: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        await cluster.write(1, "before", "1")
        member = cluster[failing]
        await trio.sleep(0.5)
        setattr(member.disk, fault, "the disk is broken")
        member.storage.records.clear()
        after: list[wire.Frame] = []

        def tap(frm: int, _to: int, frame: wire.Frame) -> None:
            if frm == failing and isinstance(frame, AppendResponse | VoteResponse | ForwardReply):
                after.append(frame)

        cluster.network.taps.append(tap)
        if failing == 1:
            with pytest.raises(OutcomeUnknown):
                await cluster.write(2, "during", "2")
        else:
            await cluster.write(1, "during", "2")
        await cluster.until(member.ended.is_set, within_s=1)

        error = member.take_error()
        assert isinstance(error, StorageError)
        assert str(error) == "the disk is broken"
        assert after == []
        await cluster.write(3, "after", "3")
        assert await cluster.read(3, "before") == "1"


async def test_d17_a_failing_disk_answers_no_client_of_its_own(autojump_clock) -> None:
    async with running(1) as cluster:
        cluster[1].disk.flush_error = "the disk is broken"
        answers: list[object] = []

        async def write() -> None:
            command = Put(b"key", b"value")
            answers.append(await cluster[1].node.keys.write(command, trio.current_time() + 60))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await cluster[1].ended.wait()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert isinstance(cluster[1].take_error(), StorageError)
        assert answers == []


# -- D18: ticks --------------------------------------------------------------------------------


async def test_d18_a_long_pause_makes_one_tick_and_not_many(autojump_clock: MockClock) -> None:
    async with running(3) as cluster:
        before = [member.core.ticks for member in cluster.up]
        autojump_clock.jump(30)
        await trio.sleep(0.05)

        assert all(m.core.ticks - b <= 2 for m, b in zip(cluster.up, before, strict=True))
        assert cluster[1].is_leader


async def test_d18_after_a_pause_of_everybody_the_work_goes_on(autojump_clock: MockClock) -> None:
    async with running(3) as cluster:
        for _ in range(5):
            autojump_clock.jump(10)
            await cluster.write(2, "key", "value", within_s=5)
            assert await cluster.read(3, "key") == "value"


# -- a full disk ------------------------------------------------------------------------------


async def test_a_leader_whose_disk_is_nearly_full_refuses_writes_and_serves_reads(
    autojump_clock: MockClock,
) -> None:
    """When the others are short, too: else it would hand over (tests/node/cluster/test_rooms.py)."""
    async with running(3) as cluster:
        before = await cluster.write(cluster.leader.id, "key", "value")
        for member in cluster.up:
            member.disk.room = Room(66 << 20, 256 << 20)
        await cluster.until(lambda: all(m.core.is_short for m in cluster.up))
        leader = cluster.leader

        for via in [leader.id, *(m.id for m in cluster.up if m is not leader)]:
            with pytest.raises(NoSpace, match="66 MiB left"):
                await cluster.write(via, "key", "more")
            await cluster.members[via].node.keys.read_barrier(trio.current_time() + 5)
        assert cluster.leader is leader

        for member in cluster.up:
            member.disk.room = Room(320 << 20, 256 << 20)
        await trio.sleep(2)
        assert await cluster.write(leader.id, "key", "more") > before


async def test_the_room_is_looked_at_again_after_a_few_mib_between_two_ticks() -> None:
    disk = MemoryDisk(Identity("00" * 8, 1))
    space = DiskSpace(disk.open())
    disk.room = Room(255 << 20, 256 << 20)
    entries = [Entry(1, 1, EntryKind.COMMAND, bytes(1 << 20))]

    seen = []
    for _ in range(5):
        seen.append(space.is_short)
        space.writing(entries, is_leader=True)

    assert seen == [False] * 4 + [True]
    request = Request(ForwardKind.WRITE, commands.encode(Put(b"key", b"")), 0)
    assert space.refuses(request)
    assert request.is_done


@pytest.mark.parametrize("count", [1, 3])
async def test_no_more_is_under_way_than_fits_on_the_leaders_disk(
    count: int, autojump_clock: MockClock
) -> None:
    """Each byte may cost four: 8 MiB above what must stay free hold four values of 512 KiB."""
    async with running(count) as cluster:
        leader = cluster.leader
        leader.disk.room = Room(40 << 20, 32 << 20)
        leader.node.replica.disk_space.check()
        for member in cluster.up:
            member.disk.flush_delay_s = 0.01
        under_way: list[int] = []

        async def write(number: int) -> None:
            await cluster.write(leader.id, f"key{number}", "x" * (512 << 10))

        async def look() -> None:
            while True:
                core = leader.core
                under_way.append(core.uncommitted_bytes + core.unapplied_bytes)
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            async with trio.open_nursery() as writers:
                for number in range(40):
                    writers.start_soon(write, number)
            nursery.cancel_scope.cancel()

        assert 1 << 20 < max(under_way) < 3 << 20


async def test_where_hardly_anything_fits_values_are_taken_one_by_one(
    autojump_clock: MockClock,
) -> None:
    """The next as soon as there is room, and not with the next tick; each waits until its deadline."""
    async with running(1) as cluster:
        member = cluster[1]
        member.disk.room = Room(33 << 20, 32 << 20)
        member.node.replica.disk_space.check()
        value = "x" * (512 << 10)
        member.disk.flush_delay_s = 0.01
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(cluster.write, 1, f"key{number}", value)
        assert trio.current_time() - began < 20 * 0.03

        member.disk.flush_delay_s = 1.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.write, 1, "first", value, 5)
            await trio.sleep(0.01)
            with pytest.raises(NoLeader, match="in time"):
                await cluster.write(1, "second", value, within_s=0.5)
        assert await cluster.read(1, "first") == value
        assert await cluster.read(1, "second") is None
