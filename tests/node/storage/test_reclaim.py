"""What was deleted gives its room back, on a real disk, while writes and flushes go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.storage.interface import Room, Storage
from hstore.node.storage.rocks import RocksStorage

from .conftest import CACHE_BYTES, IDENTITY, Place

MIB = 1 << 20
VALUE = os.urandom(64 << 10)
KEYS = 512
"""32 MiB of values, as many again in the log files."""


async def fill(storage: Storage) -> None:
    for number in range(KEYS):
        storage.state.write([(b"k%06d" % number, VALUE)])
        if number % 64 == 0:
            await storage.flush()
    await storage.flush()


def used(path: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in (path / "db").iterdir())


async def settle(path: Path, most: int) -> None:
    """RocksDB deletes files a little later, in a thread of its own."""
    with trio.fail_after(20):
        while used(path) > most:  # noqa: ASYNC110 - RocksDB does not tell
            await trio.sleep(0.05)


async def test_deleted_values_give_their_room_back(rocks: RocksStorage, tmp_path: Path) -> None:
    await fill(rocks)
    rocks.state.write([], delete_ranges=[(b"k000000", b"k000256")])
    for number in range(256, 384):
        rocks.state.write([], deletes=[b"k%06d" % number])
    # Deleting alone frees nothing; log files of what is in tables already may go meanwhile.
    assert used(tmp_path) > 30 * MIB

    await rocks.reclaim()

    await settle(tmp_path, 10 * MIB)
    assert rocks.state.get(b"k000383") is None
    assert rocks.state.get(b"k000384") == VALUE


async def test_a_second_reclaim_has_nothing_to_write(rocks: RocksStorage, tmp_path: Path) -> None:
    await fill(rocks)
    await rocks.reclaim()
    await settle(tmp_path, 34 * MIB)
    tables = {file.name for file in (tmp_path / "db").glob("*.sst")}

    await rocks.reclaim()

    assert {file.name for file in (tmp_path / "db").glob("*.sst")} == tables


async def test_nothing_is_reclaimed_where_there_is_no_room_to_do_it(
    rocks: RocksStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction that fills the disk has the next write fail, and the node with it."""
    await fill(rocks)
    rocks.state.write([], delete_ranges=[(b"k000000", b"k000256")])
    tables = {file.name for file in (tmp_path / "db").glob("*.sst")}
    room = list(os.statvfs(tmp_path))
    room[4] = MIB // room[1]  # `f_bavail`, in units of `f_frsize`
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(room))

    await rocks.reclaim()

    assert {file.name for file in (tmp_path / "db").glob("*.sst")} == tables


async def test_writes_during_a_reclaim_are_kept(place: Place) -> None:
    storage = place.storage
    storage.load()
    await fill(storage)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.reclaim)
        for number in range(100):
            storage.state.write([(b"new%d" % number, b"value")], deletes=[b"k%06d" % number])
            await storage.flush()

    again = await place.reopen()
    again.load()
    assert again.state.get(b"new99") == b"value"
    assert again.state.get(b"k000099") is None
    assert again.state.get(b"k000100") == VALUE


@pytest.mark.parametrize("after_s", [0.01, 0.05, 0.2])
async def test_a_storage_closes_soon_while_room_is_reclaimed_and_loses_nothing(
    after_s: float, tmp_path: Path
) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
    storage.load()
    await fill(storage)
    storage.state.write([(b"last", b"value")], delete_ranges=[(b"k000000", b"k000256")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.reclaim)
        await trio.sleep(after_s)
        with trio.fail_after(5):
            await storage.close()

    again = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
    again.load()
    assert again.state.get(b"last") == b"value"
    assert again.state.get(b"k000255") is None
    assert again.state.get(b"k000256") == VALUE
    await again.close()


async def test_the_room_needed_grows_by_what_a_compaction_writes(rocks: RocksStorage) -> None:
    """On a disk with the reserve free and no more, RocksDB's own compaction would fill it."""
    empty = rocks.room().needed
    await fill(rocks)
    await rocks.reclaim()

    assert rocks.room().needed - empty > 30 * MIB


async def test_on_a_small_disk_what_is_in_memtables_must_fit_once_more(
    rocks: RocksStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They become tables while their log files are still there, and beside those a new one."""

    class System:
        f_frsize = 4096
        f_blocks = 64 * 256
        f_bavail = 40 * 256

    monkeypatch.setattr(os, "statvfs", lambda _path: System)
    assert not rocks.room().is_short
    rocks.append(None, None, [Entry(1, 1, EntryKind.COMMAND, bytes(12 * MIB))])
    rocks.state.write([(b"key", bytes(12 * MIB))])

    assert rocks.room().is_short
    assert 44 * MIB < rocks.room().needed < 50 * MIB


@pytest.mark.parametrize(
    ("free", "is_short", "is_ample", "is_tight", "is_spent"),
    [
        (400, False, True, False, False),
        (320, False, True, False, False),
        (319, False, False, False, False),
        (256, False, False, False, False),
        (255, True, False, False, False),
        (64, True, False, False, False),
        (63, True, False, True, False),
        (16, True, False, True, False),
        (15, True, False, True, True),
    ],
)
def test_the_limits_of_a_room(
    free: int, is_short: bool, is_ample: bool, is_tight: bool, is_spent: bool
) -> None:
    room = Room(free * MIB, 256 * MIB)

    assert (room.is_short, room.is_ample) == (is_short, is_ample)
    assert (room.is_tight, room.is_spent) == (is_tight, is_spent)


def test_a_small_disk_is_tight_before_a_memtable_finds_no_room() -> None:
    assert Room(15 * MIB, 32 * MIB).is_tight
    assert not Room(16 * MIB, 32 * MIB).is_tight
