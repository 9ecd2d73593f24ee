"""Damage to what RocksDB holds, and whether a node that has suffered it knows.

What is to be decided is tried exhaustively in `test_recovery.py`; here real files are damaged.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from hstore.node.errors import StorageError
from hstore.node.raft.entry import HardState, SnapshotMeta
from hstore.node.storage import codec
from hstore.node.storage.interface import APPLIED_KEY, Recovered, Use, pack_applied
from hstore.node.storage.recovery import Witness
from hstore.node.storage.rocks import RocksStorage
from hstore.node.storage.witness import WitnessFile

from .conftest import CACHE_BYTES, IDENTITY, edit, entries, nine_entries


async def load(path: Path) -> Recovered:
    storage = RocksStorage.open(path, cache_bytes=CACHE_BYTES)
    try:
        return storage.load()
    finally:
        await storage.close()


async def chain_at(path: Path, index: int) -> bytes:
    storage = RocksStorage.open(path, cache_bytes=CACHE_BYTES)
    storage.load()
    chain = storage.snapshot_meta_chain(index)
    await storage.close()
    return chain


def assert_lost(found: Recovered, first: int, why: str) -> None:
    assert found.entries == entries(1, first - 1)
    assert found.recover_to == 9
    assert found.lost.startswith(f"entries {first} to 9")
    assert why in found.lost


@pytest.mark.parametrize("at", [0, 4, 21, 28, 30, -1])
async def test_any_flipped_byte_in_an_entry_is_found(tmp_path: Path, at: int) -> None:
    await nine_entries(tmp_path)
    record, _ = codec.encode_entry(entries(5, 5)[0], await chain_at(tmp_path, 4))
    flipped = bytearray(record)
    flipped[at] ^= 1
    edit(tmp_path, codec.entry_key(5), bytes(flipped))

    assert_lost(await load(tmp_path), 5, "entry 5 of the log is damaged on disk (its CRC differs)")


async def test_a_whole_entry_of_another_log_is_found(tmp_path: Path) -> None:
    """It fits the one before, so the one behind it betrays it; all that is not applied goes."""
    await nine_entries(tmp_path)
    record, _ = codec.encode_entry(entries(5, 5, term=2)[0], await chain_at(tmp_path, 4))
    edit(tmp_path, codec.entry_key(5), record)

    assert_lost(await load(tmp_path), 1, "entry 6 of the log does not continue entry 5")


async def test_a_stale_entry_at_the_end_is_found(tmp_path: Path) -> None:
    await nine_entries(tmp_path)
    record, _ = codec.encode_entry(entries(9, 9, term=2)[0], await chain_at(tmp_path, 8))
    edit(tmp_path, codec.entry_key(9), record)

    assert_lost(await load(tmp_path), 1, "is not the one last written")


async def test_an_entry_at_another_place_is_found(tmp_path: Path) -> None:
    await nine_entries(tmp_path)
    record, _ = codec.encode_entry(entries(6, 6)[0], await chain_at(tmp_path, 4))
    edit(tmp_path, codec.entry_key(5), record)

    assert_lost(await load(tmp_path), 5, "entry 5")


@pytest.mark.parametrize("index", [1, 5, 9])
async def test_a_missing_entry_is_found(tmp_path: Path, index: int) -> None:
    await nine_entries(tmp_path)
    edit(tmp_path, codec.entry_key(index), None)

    assert_lost(
        await load(tmp_path), index, "missing" if index < 9 else "ends at entry 8, not at 9"
    )


async def test_a_log_that_ends_before_what_is_committed_is_found(tmp_path: Path) -> None:
    """Also without the record that says where it ends."""
    await nine_entries(tmp_path)
    for index in range(2, 10):
        edit(tmp_path, codec.entry_key(index), None)
    edit(tmp_path, codec.END_KEY, None)

    found = await load(tmp_path)

    assert found.entries == entries(1, 1)
    assert found.recover_to == 2
    assert found.hard_state.commit == 1


async def test_a_lost_hard_state_is_found_and_its_term_is_known_from_the_witness(
    tmp_path: Path,
) -> None:
    await nine_entries(tmp_path, flush=True)
    edit(tmp_path, codec.HARD_STATE_KEY, None)

    found = await load(tmp_path)

    assert found.hard_state == HardState(1, 7, 0)
    assert found.recover_to == 10
    assert found.lost == "a term or a vote"


async def test_what_is_dropped_stays_dropped_and_what_comes_after_stays(tmp_path: Path) -> None:
    await nine_entries(tmp_path, flush=True)
    edit(tmp_path, codec.entry_key(5), b"damaged")
    storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
    storage.load()
    storage.append(HardState(2, 0, 0), None, entries(5, 6, term=2))
    await storage.flush()
    await storage.close()
    again = await load(tmp_path)
    storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
    storage.load()
    storage.recovered()
    await storage.close()

    assert again.entries == entries(1, 4) + entries(5, 6, term=2)
    assert again.recover_to == 9
    assert (await load(tmp_path)).recover_to == 0


async def test_a_log_cut_off_below_what_was_flushed_is_known_by_its_witness(
    tmp_path: Path,
) -> None:
    """Wherever it is cut: a clean end, which RocksDB finds nothing wrong with, included."""
    live = tmp_path / "live"
    RocksStorage.create(live, IDENTITY)
    storage = RocksStorage.open(live, cache_bytes=CACHE_BYTES)
    storage.load()
    sizes = []
    for index in range(1, 5):
        storage.append(HardState(index, 7, 0), None, entries(index, index))
        await storage.flush()
        sizes.append(max(live.glob("db/*.log")).stat().st_size)
    for size in [*sizes, *(size - 9 for size in sizes)]:
        copy = tmp_path / str(size)
        shutil.copytree(live, copy)
        os.truncate(max(copy.glob("db/*.log")), size)

        found = await load(copy)

        kept = sum(size >= end for end in sizes)
        assert found.entries == entries(1, kept)
        assert found.recover_to == (4 if kept < 4 else 0)
        assert found.hard_state.term == 4
    await storage.close()


async def test_a_byte_changed_in_the_middle_of_the_log_is_never_taken_for_a_torn_end(
    tmp_path: Path,
) -> None:
    live = tmp_path / "live"
    RocksStorage.create(live, IDENTITY)
    storage = RocksStorage.open(live, cache_bytes=CACHE_BYTES)
    storage.load()
    for index in range(1, 5):
        storage.append(HardState(index, 7, 0), None, entries(index, index))
        await storage.flush()
    name = max(live.glob("db/*.log")).name
    content = (live / "db" / name).read_bytes()
    lost = 0
    for at in range(5, len(content), 67):
        copy = tmp_path / str(at)
        shutil.copytree(live, copy)
        changed = bytearray(content)
        changed[at] ^= 0x40
        (copy / "db" / name).write_bytes(changed)
        try:
            found = await load(copy)
        except StorageError:
            continue
        assert (found.recover_to == 4) == (found.entries != entries(1, 4))
        assert found.hard_state.term == 4
        lost += found.recover_to > 0
    await storage.close()

    assert lost


async def test_a_damaged_block_in_a_table_of_the_log_is_a_loss(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
    storage.load()
    storage.append(HardState(1, 7, 0), None, entries(1, 500, data=os.urandom(200)))
    await storage.flush()
    storage._engine._db.flush()
    await storage.close()
    damage_largest_table(tmp_path)

    found = await load(tmp_path)

    assert 0 < len(found.entries) < 500
    assert found.recover_to == 500
    assert "cannot be read" in found.lost


async def test_a_damaged_block_in_what_is_applied_costs_no_vote(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
    storage.load()
    storage.append(HardState(1, 7, 499), None, entries(1, 500, data=os.urandom(200)))
    storage.state.write([(APPLIED_KEY, pack_applied(499, 1))])
    await storage.flush()
    storage._engine._db.flush()
    await storage.close()
    damage_largest_table(tmp_path)

    found = await load(tmp_path)

    assert found.recover_to == 0
    assert found.snapshot.index == 499
    assert [entry.index for entry in found.entries] == [500]


def damage_largest_table(path: Path) -> None:
    table = max(path.glob("db/*.sst"), key=lambda file: file.stat().st_size)
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 0xFF
    table.write_bytes(content)


async def test_a_state_that_was_lost_with_the_log_that_named_it_is_a_clear_error(
    tmp_path: Path,
) -> None:
    """The old state is dropped after the flush; then the flushed log is cut off all the same."""
    RocksStorage.create(tmp_path, IDENTITY)
    storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
    storage.load()
    await storage.flush()
    staged = storage.begin_install()
    staged.write([(APPLIED_KEY, pack_applied(50, 4))])
    storage.install(staged, SnapshotMeta(50, 4, chain=b"c" * 16), HardState(5, 0, 50))
    await storage.flush()
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "db", copy / "db")
    await storage.close()
    for log in copy.glob("db/*.log"):
        os.truncate(log, 0)

    with pytest.raises(StorageError, match="remove it from its cluster"):
        await load(copy)


def overwrite(path: Path, pattern: str) -> None:
    (file,) = path.glob(f"db/{pattern}")
    file.write_bytes(b"garbage " * 50)


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "CURRENT"])
async def test_a_database_that_does_not_open_is_a_clear_error(tmp_path: Path, pattern: str) -> None:
    await nine_entries(tmp_path)
    overwrite(tmp_path, pattern)

    with pytest.raises(StorageError, match="cannot be opened"):
        await load(tmp_path)


def cut_manifest(path: Path, lost: int) -> Path:
    (manifest,) = path.glob("db/MANIFEST-*")
    os.truncate(manifest, manifest.stat().st_size - lost)
    return manifest


def tables(path: Path) -> set[str]:
    return {table.name for table in path.glob("db/*.sst")}


@pytest.mark.parametrize("use", list(Use))
@pytest.mark.parametrize("lost", [1, 30, 100])
async def test_a_manifest_that_lost_its_end_is_refused_and_no_table_is_deleted(
    tmp_path: Path, lost: int, use: Use
) -> None:
    """RocksDB opens it, without the tables that only its end named, and deletes their files."""
    await nine_entries(tmp_path)
    manifest, before = cut_manifest(tmp_path, lost), tables(tmp_path)

    for _ in range(2):
        with pytest.raises(StorageError) as raised:
            RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES, use=use)
        assert "has lost its end" in str(raised.value)
        assert f"the damaged file is {manifest}" in str(raised.value)
        assert "remove it from its cluster" in str(raised.value)
    assert tables(tmp_path) == before


async def test_a_manifest_that_lost_its_end_while_the_node_ran_is_refused(tmp_path: Path) -> None:
    """As after a crash: nothing was closed, and the memtables were written before the last flush."""
    await nine_entries(tmp_path / "data")
    storage = RocksStorage.open(tmp_path / "data", cache_bytes=CACHE_BYTES)
    storage.load()
    storage.append(HardState(2, 0, 0), None, ())
    await storage.flush()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    await storage.close()
    cut_manifest(tmp_path / "copy", 1)

    with pytest.raises(StorageError, match="has lost its end"):
        await load(tmp_path / "copy")


async def test_a_manifest_whose_end_is_zeros_is_refused(tmp_path: Path) -> None:
    await nine_entries(tmp_path)
    manifest = cut_manifest(tmp_path, 30)
    os.truncate(manifest, manifest.stat().st_size + 30)

    with pytest.raises(StorageError, match="is not what was written"):
        await load(tmp_path)


async def two_logs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the directory of a node whose keys are only in the older of its two write-ahead logs."""
    monkeypatch.setattr("hstore.node.storage.witness._SYNC_S", 0)
    monkeypatch.setattr("hstore.node.storage.manifest._SETTLED_S", 0)
    await nine_entries(path / "node")
    storage = RocksStorage.open(path / "node", cache_bytes=CACHE_BYTES)
    storage.load()
    storage.state.write([(b"k" + bytes([number]), b"v") for number in range(50)], [])
    storage.append(HardState(4, 0, 0), None, ())
    await storage.flush()
    storage._engine._db.flush(True)  # the log's family alone
    for term in (5, 6, 7):
        storage.append(HardState(term, 0, 0), None, ())
        await storage.flush()
    shutil.copytree(path / "node", path / "copy")
    await storage.close()


def older_log(path: Path) -> Path:
    older, newer = sorted(path.glob("db/*.log"))
    assert older.stat().st_size > 0 < newer.stat().st_size
    return older


@pytest.mark.parametrize("is_gone", [True, False])
async def test_an_older_write_ahead_log_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_gone: bool
) -> None:
    """RocksDB opens the database without it, and its keys would be gone without a word."""
    await two_logs(tmp_path, monkeypatch)
    log = older_log(tmp_path / "copy")
    if is_gone:
        log.unlink()
    else:
        os.truncate(log, 0)

    with pytest.raises(StorageError, match=r"write-ahead log is (gone|empty)") as raised:
        await load(tmp_path / "copy")
    assert f"the damaged file is {log}" in str(raised.value)


async def test_both_write_ahead_logs_of_a_node_that_crashed_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_logs(tmp_path, monkeypatch)
    storage = RocksStorage.open(tmp_path / "copy", cache_bytes=CACHE_BYTES)
    assert storage.load().lost == ""
    assert storage.state.get(b"k\x31") == b"v"
    storage.append(HardState(8, 0, 0), None, ())
    await storage.flush()
    await storage.close()
    await load(tmp_path / "copy")


# --- the witness ------------------------------------------------------------------------------


def test_a_torn_writing_of_the_witness_leaves_the_one_before(tmp_path: Path) -> None:
    first, second = Witness(1, 10, 1, 7), Witness(2, 20, 2, 0)
    file = WitnessFile(tmp_path)
    file.write(first)
    before = (tmp_path / "witness").read_bytes()
    file.write(second)
    file.close()
    after = (tmp_path / "witness").read_bytes()
    changed = [at for at in range(len(after)) if before[at] != after[at]]

    for torn_at in range(min(changed), max(changed) + 1):
        (tmp_path / "witness").write_bytes(after[:torn_at] + before[torn_at:])
        file = WitnessFile(tmp_path)
        assert file.found in (first, second)
        assert (file.found == second) == (after[torn_at:] == before[torn_at:])
        file.write(Witness(3, 30, 3, 1))
        file.close()
        file = WitnessFile(tmp_path)
        assert file.found == Witness(3, 30, 3, 1)
        file.close()


def test_a_new_witness_knows_nothing(tmp_path: Path) -> None:
    file = WitnessFile(tmp_path)

    assert file.found is None
    file.close()


async def test_a_flush_that_fails_leaves_no_witness_of_what_it_covered(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
    storage.load()
    storage.append(HardState(1, 7, 0), None, entries(1, 3))
    await storage.flush()

    class Failing:
        def write(self, *_: object) -> None:
            raise AssertionError

        def flush_wal(self, sync: bool = True) -> None:
            raise OSError("EIO")

    storage.append(None, None, entries(4, 4))
    storage._engine._writer = Failing()
    with pytest.raises(StorageError, match="EIO"):
        await storage.flush()
    await storage.close()

    file = WitnessFile(tmp_path / "db")
    assert file.found is not None
    assert file.found.index == 3
    file.close()


def test_a_witness_file_that_cannot_be_written_is_not_left_open(tmp_path, monkeypatch) -> None:
    def refuse(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(StorageError, match="cannot be used"):
        WitnessFile(tmp_path)
    assert set(Path("/proc/self/fd").iterdir()) == before
