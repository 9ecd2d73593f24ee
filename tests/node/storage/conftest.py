"""Directories, disks and logs for the tests of the storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from rocksdict import Rdict

from hstore.node.raft.entry import Entry, HardState
from hstore.node.storage.interface import Identity, Storage
from hstore.node.storage.options import Setup
from hstore.node.storage.rocks import RocksStorage
from tests.fakes.storage import MemoryDisk

IDENTITY = Identity("0011223344556677", 0x8899AABBCCDDEEFF)
CACHE_BYTES = 1 << 20


class Place:
    """Somewhere a storage lives: it can be closed and opened again."""

    def __init__(self, opener: Callable[[], Storage]) -> None:
        self._opener = opener
        self.storage = opener()

    async def reopen(self) -> Storage:
        await self.storage.close()
        self.storage = self._opener()
        return self.storage


@pytest.fixture(params=["rocks", "memory"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "rocks":
        RocksStorage.create(tmp_path, IDENTITY)
        place = Place(lambda: RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES))
    else:
        disk = MemoryDisk(IDENTITY)
        place = Place(disk.open)
    yield place
    await place.storage.close()


@pytest.fixture
def storage(place: Place) -> Storage:
    """A new storage, loaded."""
    place.storage.load()
    return place.storage


@pytest.fixture
async def rocks(tmp_path: Path) -> AsyncIterator[RocksStorage]:
    """A new storage on RocksDB, loaded."""
    RocksStorage.create(tmp_path, IDENTITY)
    storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
    storage.load()
    yield storage
    await storage.close()


def entries(first: int, last: int, term: int = 1, data: bytes = b"data") -> list[Entry]:
    return [Entry(i, term, 0, b"%s %d" % (data, i)) for i in range(first, last + 1)]


def edit(path: Path, key: bytes, change: bytes | None) -> None:
    """Change a record of the log family behind the storage's back; None deletes it."""
    setup = Setup(CACHE_BYTES)
    options, database = setup.database(), str(path / "db")
    families = {name: setup.state() for name in Rdict.list_cf(database, options)}
    db = Rdict(database, options, column_families={**families, "default": options})
    if change is None:
        db.delete(key)
    else:
        db.put(key, change)
    db.close()


async def nine_entries(path: Path, *, flush: bool = False) -> None:
    """Make a log of nine entries, to be damaged."""
    RocksStorage.create(path, IDENTITY)
    storage = RocksStorage.open(path, cache_bytes=CACHE_BYTES)
    storage.load()
    storage.append(HardState(1, 7, 2), None, entries(1, 9))
    if flush:
        await storage.flush()
    await storage.close()
