"""One flush after another: what each covers, and what leaves only after it (rules D1, D8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import pytest
import trio
from structlog.testing import capture_logs

from hstore.node.driver.flushes import Flushes
from hstore.node.errors import StorageError
from hstore.node.net.poller import Poller, can_poll
from hstore.node.raft.errors import CoreBug
from hstore.node.raft.messages import AppendResponse, Message, TimeoutNow
from hstore.node.raft.update import Persist
from hstore.node.storage.flusher import Flusher
from hstore.node.storage.interface import Storage
from tests.node.memory_cluster import running

FIRST, SECOND = TimeoutNow(1, 2, 1), TimeoutNow(1, 3, 1)


class Disk:
    """Tells of a flush when the test says so; `can_tell` False: it has to be awaited."""

    def __init__(self) -> None:
        self.can_tell = True
        self.begun: list[Callable[[], None]] = []
        self.durable: list[Callable[[], bool]] = []
        self.gate = trio.Event()

    def flush_soon(self, done: Callable[[], None], then: Callable[[], bool]) -> bool:
        if self.can_tell:
            self.begun.append(done)
            self.durable.append(then)
        return self.can_tell

    async def flush(self) -> None:
        await self.gate.wait()


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def told():
    return []


@pytest.fixture
def sent():
    return []


@pytest.fixture
def flushes(disk, sent, told):
    def send(message: Message) -> bool:
        """Send what is not for node 3."""
        if message.to != 3:
            sent.append(message)
        return message.to != 3

    def ended(seq: int, then: Sequence[Message]) -> None:
        told.append((seq, list(then)))

    return Flushes(cast("Storage", disk), send, ended)


def write(seq: int, *then: Message) -> Persist:
    return Persist(seq, None, None, None, [], list(then))


async def test_the_median_is_of_the_flushes_of_the_last_ten_seconds(flushes, disk, autojump_clock):
    assert flushes.median_ms() is None
    for number, took_s in enumerate([0.001, 0.5, 0.004]):
        flushes.written(write(number + 1))
        await trio.sleep(took_s)
        disk.begun[number]()
    assert flushes.median_ms() == 4.0
    await trio.sleep(9.8)
    assert flushes.median_ms() == 252.0  # the first is too old by now
    await trio.sleep(10)
    assert flushes.median_ms() is None


async def test_a_slow_flush_and_one_that_does_not_end_are_lines_but_not_each_of_them(
    flushes, disk, autojump_clock
):
    def flush(number: int) -> None:
        flushes.written(write(number + 1))

    with capture_logs() as lines:
        for number, took_s in enumerate([0.9, 1.2, 1.1]):
            flush(number)
            flushes.look()
            await trio.sleep(took_s)
            disk.begun[number]()
            flushes.look()
        assert [(one["event"], one["log_level"], one["took_ms"]) for one in lines] == [
            ("a flush to disk was slow", "warning", 1200)
        ]
        flush(3)
        for _ in range(40):
            await trio.sleep(0.1)
            flushes.look()
        assert [line.get("under_way_ms") for line in lines] == [None, 1000]
        disk.durable[3]()  # It has ended, and only the loop has not taken the end yet.
        await trio.sleep(20)
        flushes.look()
        assert len(lines) == 2
        disk.begun[3]()
        assert lines[2]["took_ms"] == 4000


async def test_what_is_written_during_a_flush_waits_for_the_next(flushes, disk, told):
    flushes.written(write(1, FIRST))
    flushes.written(write(2, SECOND))
    assert (len(disk.begun), told) == (1, [])
    disk.begun[0]()
    assert told == [(1, [FIRST])]
    flushes.begin()
    assert len(disk.begun) == 2
    disk.begun[1]()
    assert told == [(1, [FIRST]), (2, [SECOND])]


async def test_what_can_leaves_as_soon_as_it_is_durable_and_the_rest_with_the_end(
    flushes, disk, sent, told
):
    elsewhere = AppendResponse(1, 3, 1, 1)
    flushes.written(write(1, FIRST, elsewhere))
    flushes.written(write(2, SECOND))
    assert sent == []
    disk.durable[0]()
    assert (sent, told) == ([FIRST], [])
    disk.begun[0]()
    assert (sent, told) == ([FIRST], [(1, [elsewhere])])


async def test_nothing_is_flushed_when_nothing_is_written(flushes, disk):
    flushes.begin()
    flushes.written(write(1))
    disk.begun[0]()
    flushes.begin()
    assert (len(disk.begun), flushes.count) == (1, 1)


async def test_a_disk_that_cannot_tell_is_awaited(flushes, disk, told, nursery, autojump_clock):
    disk.can_tell = False
    nursery.start_soon(flushes.run)
    flushes.written(write(1, FIRST))
    await trio.sleep(1)
    assert told == []
    disk.gate.set()
    await trio.sleep(1)
    assert told == [(1, [FIRST])]


async def test_an_end_without_a_beginning_is_an_error(flushes, disk):
    flushes.written(write(1))
    disk.begun[0]()
    with pytest.raises(CoreBug, match="not begun"):
        disk.begun[0]()


@pytest.mark.skipif(not can_poll(), reason="this system has no epoll")
async def test_the_thread_tells_the_poller_once_for_each_piece_of_work_and_of_its_failure(nursery):
    works: list[BaseException | None] = [None, StorageError("the disk failed"), None]
    told: list[BaseException | None] = []
    all_told = trio.Event()

    def work() -> None:
        error = works.pop(0)
        if error is not None:
            raise error

    def done(error: BaseException | None) -> None:
        told.append(error)
        if len(told) == 3:
            all_told.set()

    poller, flusher = Poller(), Flusher(work)
    flusher.attach(poller)
    nursery.start_soon(poller.run)
    durable: list[int] = []

    def note(number: int) -> bool:
        durable.append(number)
        return False

    for number in range(3):
        flusher.begin(done, partial(note, number))
    with trio.fail_after(10):
        await all_told.wait()
        # What has failed before is told to everybody who comes later.
        assert [str(error or "") for error in told][-1] == "the disk failed"
        # Not the third: what a flush says after one that failed is worth nothing.
        assert durable == [0]
        works.append(None)
        with pytest.raises(StorageError):
            await flusher.run()
    nursery.cancel_scope.cancel()
    flusher.detach()
    assert flusher.close(5)


async def test_an_end_that_is_not_told_is_timed_when_it_came(flushes, disk, autojump_clock):
    flushes.written(write(1))
    await trio.sleep(0.002)
    disk.durable[0]()
    await trio.sleep(0.5)
    disk.begun[0]()
    assert flushes.median_ms() == 2.0


async def test_a_message_that_cannot_be_sent_needs_the_loop(flushes, disk):
    flushes.written(write(1, FIRST))
    assert not disk.durable[0]()
    disk.begun[0]()
    flushes.written(write(2, FIRST, SECOND))  # The second is for a node without a link.
    assert disk.durable[1]()


async def test_a_follower_wants_to_know_of_its_flush_only_where_it_can_apply(
    autojump_clock, monkeypatch
):
    async with running(3) as cluster:
        await trio.sleep(1.0)
        wanted: dict[int, set[bool]] = {}
        for member in cluster.up:
            wants = wanted[member.node.replica.facts.id] = set()

            def want_end(*, is_wanted: bool, wants: set[bool] = wants) -> None:
                wants.add(is_wanted)

            monkeypatch.setattr(member.storage, "want_flush_end", want_end)
        leader, (quick, slow) = cluster.leader, cluster.followers
        slow.disk.flush_delay_s, quick.disk.flush_delay_s = 0.02, 0.001
        leader.disk.flush_delay_s = 0.005
        await cluster.write(leader.node.replica.facts.id, "key", "value")
        await trio.sleep(0.05)
        assert [wanted[one.node.replica.facts.id] for one in (leader, quick, slow)] == [
            {True},
            {False},
            {False, True},  # It hears of the commit while it flushes.
        ]
