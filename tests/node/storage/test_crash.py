"""Power cuts: a copy of the directory is cut back to what was flushed, and opened.

RocksDB itself makes its tables and its manifest durable; the write-ahead log is durable up to
where it ended when the last `flush_wal(sync=True)` began. `Durability` stands in front of the
database and notes that, so a flush that does not reach the database leaves nothing to find.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rocksdict import WriteBatch, WriteOptions

from hstore.node.errors import StorageError
from hstore.node.model import commands
from hstore.node.model.commands import Put
from hstore.node.raft.entry import Entry, HardState, SnapshotMeta
from hstore.node.state.machine import State
from hstore.node.storage.interface import APPLIED_KEY, Recovered, pack_applied
from hstore.node.storage.rocks import RocksStorage

from .conftest import CACHE_BYTES, IDENTITY, entries


class Durability:
    """Knows how much of each write-ahead log is durable."""

    def __init__(self, storage: RocksStorage, path: Path) -> None:
        self.path = path
        self._inner = storage._engine._writer
        storage._engine._writer = self
        self.sizes: dict[str, int] = {}

    def write(self, write_batch: WriteBatch, write_opt: WriteOptions | None = None) -> None:
        self._inner.write(write_batch, write_opt)

    def flush_wal(self, sync: bool = True) -> None:
        now = self.written()
        self._inner.flush_wal(sync)
        if sync:
            self.sizes = now

    def written(self) -> dict[str, int]:
        sizes = {}
        for file in (self.path / "db").glob("*.log"):
            with contextlib.suppress(FileNotFoundError):  # obsolete: deleted in the background
                sizes[file.name] = file.stat().st_size
        return sizes

    def _files(self) -> dict[str, int]:
        found = {}
        for file in (self.path / "db").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[file.name] = file.stat().st_size
        return found

    def power_cut(self, to: Path, extra_bytes: int = 0) -> Path:
        """Make a copy in which only `extra_bytes` more than what is durable is left."""
        written = self.written()
        for _ in range(200):
            before = self._files()
            shutil.rmtree(to, ignore_errors=True)
            (to / "db").mkdir(parents=True)
            for file in (self.path / "db").iterdir():
                with contextlib.suppress(FileNotFoundError):  # obsolete: deleted in the background
                    shutil.copy(file, to / "db")
            # A crash is one moment: what RocksDB makes in the background meanwhile is begun anew.
            if self._files() == before:
                break
        else:
            raise AssertionError("the files are never at rest")
        for file in (to / "db").glob("*.log"):
            left = self.sizes.get(file.name, 0) + extra_bytes
            os.truncate(file, min(written.get(file.name, 0), left))
        return to


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[RocksStorage]:
    RocksStorage.create(tmp_path / "live", IDENTITY)
    storage = RocksStorage.open(tmp_path / "live", cache_bytes=CACHE_BYTES)
    storage.load()
    yield storage
    await storage.close()


@pytest.fixture
def durability(storage: RocksStorage, tmp_path: Path) -> Durability:
    return Durability(storage, tmp_path / "live")


async def recover(path: Path) -> Recovered:
    storage = RocksStorage.open(path, cache_bytes=CACHE_BYTES)
    try:
        return storage.load()
    finally:
        await storage.close()


async def test_a_power_cut_leaves_exactly_what_was_flushed(
    storage: RocksStorage, durability: Durability, tmp_path: Path
) -> None:
    storage.append(HardState(1, 7, 0), None, entries(1, 5))
    await storage.flush()
    storage.append(HardState(2, 9, 5), 4, entries(4, 9, term=2))

    before = await recover(durability.power_cut(tmp_path / "before the flush"))
    await storage.flush()
    after = await recover(durability.power_cut(tmp_path / "after the flush"))

    assert before.hard_state == HardState(1, 7, 0)
    assert before.entries == entries(1, 5)
    assert after.hard_state == HardState(2, 9, 5)
    assert after.entries == entries(1, 3) + entries(4, 9, term=2)


async def test_what_was_not_flushed_survives_the_end_of_the_process(
    storage: RocksStorage, durability: Durability, tmp_path: Path
) -> None:
    """A write is in the operating system's hands when it returns: SIGKILL takes nothing."""
    storage.append(HardState(1, 7, 0), None, entries(1, 5))

    recovered = await recover(durability.power_cut(tmp_path / "killed", extra_bytes=1 << 30))

    assert recovered.entries == entries(1, 5)


async def test_a_log_torn_anywhere_after_the_flush_leaves_a_prefix_of_the_batches(
    storage: RocksStorage, durability: Durability, tmp_path: Path
) -> None:
    """Never half a batch: truncation, entries and hard state of each stay together (rule D3)."""
    storage.append(HardState(1, 0, 0), None, entries(1, 2))
    await storage.flush()
    storage.append(HardState(2, 0, 0), 2, entries(2, 4, term=2))
    storage.append(HardState(3, 0, 0), 3, entries(3, 3, term=3))
    written = sum(durability.written().values()) - sum(durability.sizes.values())
    assert written > 0
    allowed = [
        (1, entries(1, 2)),
        (2, entries(1, 1) + entries(2, 4, term=2)),
        (3, entries(1, 1) + entries(2, 2, term=2) + entries(3, 3, term=3)),
    ]

    seen = set()
    for extra in [*range(0, written, 29), written]:
        recovered = await recover(durability.power_cut(tmp_path / str(extra), extra))
        found = (recovered.hard_state.term, recovered.entries)
        assert found in allowed, extra
        seen.add(found[0])

    assert seen == {1, 2, 3}


async def test_the_effects_and_the_applied_index_survive_together_or_not_at_all(
    storage: RocksStorage, durability: Durability, tmp_path: Path
) -> None:
    """Rule D5, and that what is applied is never ahead of the log."""
    state = State(storage.state)
    for index in range(1, 6):
        entry = Entry(index, 1, 0, commands.encode(Put(b"key", b"%d" % index)))
        storage.append(None, None, [entry])
        state.apply([entry])
    written = sum(durability.written().values())

    for extra in [*range(0, written, 37), written]:
        copy = durability.power_cut(tmp_path / str(extra), extra)
        opened = RocksStorage.open(copy, cache_bytes=CACHE_BYTES)
        recovered = opened.load()
        after = State(opened.state)
        item = after.get(b"key")
        assert (int(item.value) if item else 0) == after.applied == recovered.applied
        assert recovered.applied in {len(recovered.entries), len(recovered.entries) - 1}
        await opened.close()


async def test_compaction_is_never_durable_before_the_state_it_rests_on(
    storage: RocksStorage, durability: Durability, tmp_path: Path
) -> None:
    """Rule D4."""
    state = State(storage.state)
    log = [Entry(i, 1, 0, commands.encode(Put(b"k%d" % i, b""))) for i in range(1, 9)]
    storage.append(None, None, log)
    state.apply(log)
    storage.compact(SnapshotMeta(6, 1))
    written = sum(durability.written().values())

    seen = set()
    for extra in [*range(0, written, 31), written]:
        recovered = await recover(durability.power_cut(tmp_path / str(extra), extra))
        assert recovered.applied >= recovered.snapshot.index
        seen.add((recovered.snapshot.index, recovered.applied))

    assert seen == {(0, 0), (0, 8), (6, 8)}


async def test_a_power_cut_during_an_install_leaves_the_old_or_the_new(
    storage: RocksStorage, durability: Durability, tmp_path: Path
) -> None:
    """Rule D11. It would leave neither, were the old state dropped before the flush."""
    storage.append(HardState(1, 7, 1), None, entries(1, 3))
    storage.state.write([(b"old", b""), (APPLIED_KEY, pack_applied(1, 1))])
    await storage.flush()
    meta = SnapshotMeta(50, 4, chain=b"c" * 16)
    old = Recovered(HardState(1, 7, 1), SnapshotMeta(), entries(1, 3), 1)
    new = Recovered(HardState(5, 0, 50), meta, [], 50)

    staged = storage.begin_install()
    staged.write([(b"new %d" % i, b"x" * 50) for i in range(20)])
    begun = await recover(durability.power_cut(tmp_path / "begun"))
    staged.write([(APPLIED_KEY, pack_applied(50, 4))])
    storage.install(staged, meta, HardState(5, 0, 50))
    written = sum(durability.written().values()) - sum(durability.sizes.values())
    seen = []
    for extra in [*range(0, written, 97), written]:
        copy = durability.power_cut(tmp_path / str(extra), extra)
        opened = RocksStorage.open(copy, cache_bytes=CACHE_BYTES)
        recovered = opened.load()
        assert recovered in (old, new)
        assert (opened.state.get(b"old") is None) == (recovered == new)
        assert (opened.state.get(b"new 19") is None) == (recovered == old)
        assert len(opened._engine.families()) == 1
        seen.append(recovered == new)
        await opened.close()
    await storage.flush()
    flushed = await recover(durability.power_cut(tmp_path / "flushed"))

    assert begun == old
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (False, True)
    assert flushed == new


async def test_a_byte_changed_in_what_was_flushed_is_not_read_as_data(
    storage: RocksStorage, durability: Durability, tmp_path: Path
) -> None:
    """RocksDB drops a WAL from the first damaged record on; what is left must hold together."""
    storage.append(HardState(1, 0, 0), None, entries(1, 3))
    storage.append(HardState(1, 0, 3), None, entries(4, 6))
    await storage.flush()
    copy = durability.power_cut(tmp_path / "copy")
    (name,) = [name for name, size in durability.sizes.items() if size]
    content = bytearray((copy / "db" / name).read_bytes())

    for at in range(0, len(content), 41):
        changed = content.copy()
        changed[at] ^= 0x10
        directory = tmp_path / f"changed {at}"
        shutil.copytree(copy, directory)
        (directory / "db" / name).write_bytes(changed)
        try:
            recovered = await recover(directory)
        except StorageError:
            continue
        assert recovered.entries in ([], entries(1, 3), entries(1, 6))
