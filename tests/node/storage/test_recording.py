"""The recording wrapper and the faults of the storage in memory: do they see what they are for?"""

from __future__ import annotations

import pytest
import trio

from hstore.node.errors import StorageError
from hstore.node.raft.entry import HardState
from tests.fakes.recording import RecordingStorage
from tests.fakes.storage import MemoryDisk

from .conftest import IDENTITY, Place, entries


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk(IDENTITY)


@pytest.fixture
def recording(place: Place) -> RecordingStorage:
    recording = RecordingStorage(place.storage)
    recording.load()
    return recording


async def test_write_then_flush_then_acknowledgement_is_in_order(
    recording: RecordingStorage,
) -> None:
    recording.append(HardState(1, 7, 0), None, entries(1, 3))
    await recording.flush()
    recording.acknowledge(3)
    recording.acknowledge_vote(1, 7)

    assert recording.order() == [
        "write",
        "flush begins",
        "flush ended",
        "acknowledged",
        "acknowledged",
    ]


async def test_an_acknowledgement_without_a_flush_is_seen(recording: RecordingStorage) -> None:
    recording.append(HardState(1, 7, 0), None, entries(1, 3))

    with pytest.raises(AssertionError, match="entry 3 was acknowledged, flushed is 0"):
        recording.acknowledge(3)
    with pytest.raises(AssertionError, match="a vote for 7"):
        recording.acknowledge_vote(1, 7)


async def test_a_flush_that_began_before_the_write_does_not_count(
    disk: MemoryDisk, autojump_clock: trio.testing.MockClock
) -> None:
    recording = RecordingStorage(disk.open())
    recording.load()
    disk.flush_delay_s = 1
    recording.append(None, None, entries(1, 2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(recording.flush)
        await trio.testing.wait_all_tasks_blocked()
        recording.append(None, None, entries(3, 3))

    recording.acknowledge(2)
    with pytest.raises(AssertionError):
        recording.acknowledge(3)


async def test_entries_replaced_during_a_flush_are_not_durable_by_it(
    disk: MemoryDisk, autojump_clock: trio.testing.MockClock
) -> None:
    """The same index of another term: the flush covered what was there before."""
    recording = RecordingStorage(disk.open())
    recording.load()
    disk.flush_delay_s = 1
    recording.append(None, None, entries(1, 3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(recording.flush)
        await trio.testing.wait_all_tasks_blocked()
        recording.append(None, 2, entries(2, 3, term=2))

    recording.acknowledge(1)
    with pytest.raises(AssertionError):
        recording.acknowledge(2)


async def test_a_crash_takes_what_no_finished_flush_covers(
    disk: MemoryDisk, autojump_clock: trio.testing.MockClock
) -> None:
    storage = disk.open()
    storage.load()
    storage.append(HardState(1, 7, 0), None, entries(1, 3))
    await storage.flush()
    storage.append(HardState(2, 8, 0), 3, entries(3, 4, term=2))
    storage.state.write([(b"a", b"")])
    disk.flush_gate = trio.Event()
    with trio.move_on_after(1):
        await storage.flush()

    disk.crash()

    with pytest.raises(StorageError, match="power was cut"):
        storage.append(None, None, entries(5, 5))
    again = disk.open()
    assert again.load().entries == entries(1, 3)
    assert again.load().hard_state == HardState(1, 7, 0)
    assert again.state.get(b"a") is None


async def test_a_crash_can_leave_a_prefix_of_what_was_written(disk: MemoryDisk) -> None:
    storage = disk.open()
    storage.load()
    for index in range(1, 5):
        storage.append(None, None, entries(index, index))

    disk.crash(keep=2)

    assert disk.open().load().entries == entries(1, 2)


async def test_a_failing_disk_stops_the_storage_for_good(disk: MemoryDisk) -> None:
    storage = disk.open()
    storage.load()
    disk.flush_error = "Input/output error"

    with pytest.raises(StorageError, match="Input/output"):
        await storage.flush()
    disk.flush_error = None
    with pytest.raises(StorageError, match="Input/output"):
        await storage.flush()

    disk.crash()
    storage = disk.open()
    storage.load()
    disk.write_error = "No space left on device"
    with pytest.raises(StorageError, match="No space"):
        storage.append(None, None, entries(1, 1))


async def test_a_disk_is_used_by_one_storage_at_a_time(disk: MemoryDisk) -> None:
    storage = disk.open()

    with pytest.raises(StorageError, match="in use"):
        disk.open()

    await storage.close()
    disk.open()
