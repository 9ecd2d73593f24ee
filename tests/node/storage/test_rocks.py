"""What only the storage on RocksDB has: a directory, bytes on a disk, a library with moods."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
import pytest
import trio
from rocksdict import DBCompressionType, Options, WriteBatch, WriteOptions

from hstore.node.errors import StorageError
from hstore.node.model import commands
from hstore.node.model.commands import Checkpoint, Put
from hstore.node.raft.entry import Entry, EntryKind, HardState, SnapshotMeta
from hstore.node.state.machine import State
from hstore.node.storage import codec, engine
from hstore.node.storage.directory import has_data, read_identity
from hstore.node.storage.interface import APPLIED_KEY, Identity, StateReader, Use, pack_applied
from hstore.node.storage.options import Setup
from hstore.node.storage.rocks import RocksStorage

from .conftest import CACHE_BYTES, IDENTITY, edit, entries, nine_entries


def reopen(path: Path) -> RocksStorage:
    return RocksStorage.open(path, cache_bytes=CACHE_BYTES)


# --- the directory ----------------------------------------------------------------------------


def test_a_directory_knows_whether_it_has_data_and_whose(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way"
    assert not has_data(path)

    RocksStorage.create(path, IDENTITY)

    assert has_data(path)
    assert read_identity(path) == IDENTITY


async def test_a_directory_starts_with_the_entries_it_was_created_with(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY, hard_state=HardState(1, 7, 9), entries=entries(1, 2))

    storage = reopen(tmp_path)

    recovered = storage.load()
    assert recovered.entries == entries(1, 2)
    assert recovered.hard_state == HardState(1, 7, 2)
    await storage.close()


def test_nobody_else_can_look_into_the_database(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path / "data", IDENTITY)

    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "db").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_has_data_is_not_created_over(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)

    with pytest.raises(StorageError, match="holds a node already"):
        RocksStorage.create(tmp_path, Identity("ff" * 8, 1))

    assert read_identity(tmp_path) == IDENTITY


def test_a_directory_without_data_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no hstore node"):
        reopen(tmp_path)


@pytest.mark.parametrize("step", ["write_first_batch", "encode_identity"])
def test_a_crash_while_creating_leaves_a_directory_that_can_be_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whichever step does not come to its end, the next attempt starts from nothing."""

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    where = "rocks" if step == "write_first_batch" else "directory"
    with monkeypatch.context() as patch:
        patch.setattr(f"hstore.node.storage.{where}.{step}", crash)
        with pytest.raises(KeyboardInterrupt):
            RocksStorage.create(tmp_path, IDENTITY)

    assert (tmp_path / "db.new").exists()
    assert not has_data(tmp_path)
    RocksStorage.create(tmp_path, IDENTITY)
    reopen(tmp_path)


def test_a_second_process_is_refused_and_told_which_has_the_directory(
    tmp_path: Path,
) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    code = (
        "import sys, pathlib\n"
        "from hstore.node.storage.rocks import RocksStorage\n"
        "storage = RocksStorage.open(pathlib.Path(sys.argv[1]), cache_bytes=1 << 20)\n"
        "print('opened', flush=True)\n"
        "sys.stdin.read()\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdin is not None
    assert first.stdout is not None
    try:
        assert first.stdout.readline() == "opened\n"

        with pytest.raises(StorageError, match=f"in use by process {first.pid}"):
            reopen(tmp_path)
        assert read_identity(tmp_path) == IDENTITY
    finally:
        first.kill()
        first.wait()
        first.stdin.close()
        first.stdout.close()

    trio.run(reopen(tmp_path).close)


async def test_the_lock_of_the_database_itself_is_a_clear_error_too(tmp_path: Path) -> None:
    """Should the lock file be removed by somebody who knows better."""
    RocksStorage.create(tmp_path, IDENTITY)
    storage = reopen(tmp_path)
    (tmp_path / "lock").unlink()

    with pytest.raises(StorageError, match=r"cannot be opened.*lock"):
        reopen(tmp_path)

    await storage.close()


async def test_a_directory_of_another_cluster_is_refused(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)

    with pytest.raises(StorageError, match="belongs to the cluster 0011223344556677, not to ff"):
        RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES, expect_cluster="ff" * 8)

    storage = RocksStorage.open(
        tmp_path, cache_bytes=CACHE_BYTES, expect_cluster=IDENTITY.cluster_id
    )
    await storage.close()


def test_a_format_from_the_future_is_refused(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    file = tmp_path / "db" / "hstore.json"
    about = msgspec.json.decode(file.read_bytes())
    file.write_bytes(msgspec.json.encode({"format": about["format"] + 1, "what": ["we", "know?"]}))

    with pytest.raises(StorageError, match=r"written by a newer hstore \(format 3"):
        reopen(tmp_path)


async def test_a_directory_of_an_older_format_is_taken_over_when_it_is_sound(
    tmp_path: Path,
) -> None:
    """From then on an older hstore refuses it: it would not know what this one writes."""
    RocksStorage.create(tmp_path, IDENTITY)
    file = tmp_path / "db" / "hstore.json"
    about = msgspec.json.decode(file.read_bytes())
    old = msgspec.json.encode(about | {"format": 1, "recovered_from": "ab" * 8})
    file.write_bytes(old)

    def write_record(storage: RocksStorage, identity: bytes) -> None:
        storage._engine.write(lambda batch: batch.put(codec.IDENTITY_KEY, identity))

    storage = reopen(tmp_path)
    write_record(storage, msgspec.json.encode(about | {"format": 1}))
    await storage.close()
    assert file.read_bytes() == old, "nobody has read the log"

    for use, found in ((Use.LOOK, 1), (Use.SERVE, 2), (Use.SERVE, 2)):
        storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES, use=use)
        storage.load()
        await storage.close()
        assert msgspec.json.decode(file.read_bytes()) == about | {
            "format": found,
            "recovered_from": "ab" * 8,
        }


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 1}', b'{"format":1,"node_id":"x"}'])
def test_a_damaged_identity_is_an_error_and_not_a_new_node(tmp_path: Path, content: bytes) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    (tmp_path / "db" / "hstore.json").write_bytes(content)

    with pytest.raises(StorageError, match=r"hstore\.json"):
        reopen(tmp_path)
    with pytest.raises(StorageError, match="already"):
        RocksStorage.create(tmp_path, IDENTITY)


async def test_the_identity_of_another_directory_is_found_out(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path / "a", IDENTITY)
    RocksStorage.create(tmp_path / "b", Identity(IDENTITY.cluster_id, 5))
    other = (tmp_path / "b" / "db" / "hstore.json").read_bytes()
    (tmp_path / "a" / "db" / "hstore.json").write_bytes(other)

    with pytest.raises(StorageError, match="mixture"):
        reopen(tmp_path / "a")


def test_a_path_that_cannot_be_a_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="cannot be used as a data directory"):
        RocksStorage.create(tmp_path / "file", IDENTITY)


# --- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [codec.HARD_STATE_KEY, codec.SNAPSHOT_KEY, codec.GENERATION_KEY])
@pytest.mark.parametrize("change", [None, b"", b"\xc1"])
async def test_a_missing_or_damaged_companion_of_the_log_is_found(
    tmp_path: Path, key: bytes, change: bytes | None
) -> None:
    """Nothing was ever flushed here, so no witness stands in for the hard state."""
    await nine_entries(tmp_path)
    edit(tmp_path, key, change)

    with pytest.raises(StorageError, match=r"missing|damaged"):
        reopen(tmp_path).load()
    gc.collect()


async def test_a_flush_before_load_is_refused_and_leaves_the_witness_alone(tmp_path: Path) -> None:
    """It does not know yet what is on disk, and would have nothing but zeros to vouch for."""
    RocksStorage.create(tmp_path, IDENTITY)
    storage = reopen(tmp_path)
    storage.load()
    storage.append(HardState(1, 7, 0), None, entries(1, 3))
    await storage.flush()
    await storage.close()
    before = (tmp_path / "db" / "witness").read_bytes()[:1024]  # behind it: what opening changes

    storage = reopen(tmp_path)
    with pytest.raises(StorageError, match="load"):
        await storage.flush()
    with pytest.raises(StorageError, match="load"):
        storage.flush_soon(lambda: None, lambda: False)
    await storage.close()

    assert (tmp_path / "db" / "witness").read_bytes()[:1024] == before


async def test_a_damaged_block_is_an_error_and_never_a_shorter_scan(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    storage = reopen(tmp_path)
    storage.load()
    storage.state.write([(b"k%04d" % i, os.urandom(100)) for i in range(2000)])
    await storage.close()
    for file in (tmp_path / "db").glob("*.sst"):
        content = bytearray(file.read_bytes())
        if len(content) > 100_000:
            content[len(content) // 2] ^= 0xFF
            file.write_bytes(content)

    storage = reopen(tmp_path)
    view = storage.state.view()

    with pytest.raises(StorageError, match="reading"):
        list(view.scan(b""))
    view.close()
    await storage.close()


# --- the library ------------------------------------------------------------------------------


class Faulty:
    """Stands in front of the database: fails as told, otherwise passes on."""

    def __init__(self, storage: RocksStorage) -> None:
        self.inner = storage._engine._writer
        storage._engine._writer = self
        self.write_errors: list[str] = []
        self.flush_errors: list[str] = []
        self.writes = 0

    def write(self, write_batch: WriteBatch, write_opt: WriteOptions | None = None) -> None:
        self.writes += 1
        if self.write_errors:
            raise Exception(self.write_errors.pop(0))  # noqa: TRY002 - it is what rocksdict raises
        self.inner.write(write_batch, write_opt)

    def flush_wal(self, sync: bool = True) -> None:
        if self.flush_errors:
            raise Exception(self.flush_errors.pop(0))  # noqa: TRY002 - the same
        self.inner.flush_wal(sync)


async def test_a_failed_flush_is_never_tried_again(rocks: RocksStorage) -> None:
    """Rule D17: after a failed fsync the pages may be clean in memory and not on the disk."""
    faulty = Faulty(rocks)
    faulty.flush_errors = ["IO error: Input/output error"]
    rocks.append(None, None, entries(1, 1))

    with pytest.raises(StorageError, match="Input/output error"):
        await rocks.flush()

    with pytest.raises(StorageError, match="Input/output error"):
        await rocks.flush()
    with pytest.raises(StorageError, match="Input/output error"):
        rocks.append(None, None, entries(2, 2))
    with pytest.raises(StorageError, match="Input/output error"):
        rocks.state.write([(b"a", b"")])


async def test_a_flush_that_fails_after_its_caller_was_cancelled_is_remembered(
    rocks: RocksStorage,
) -> None:
    faulty = Faulty(rocks)
    faulty.flush_errors = ["IO error: Input/output error"]

    with trio.CancelScope() as scope:
        scope.cancel()
        await rocks.flush()
    if faulty.flush_errors:  # cancelled before the thread began: then let it begin
        with pytest.raises(StorageError):
            await rocks.flush()

    with pytest.raises(StorageError, match="Input/output error"):
        rocks.append(None, None, entries(1, 1))


async def test_a_failed_write_stops_everything_after_it(rocks: RocksStorage) -> None:
    faulty = Faulty(rocks)
    faulty.write_errors = ["IO error: No space left on device"]

    with pytest.raises(StorageError, match="No space left"):
        rocks.append(HardState(1, 1, 0), None, entries(1, 1))

    with pytest.raises(StorageError, match="No space left"):
        await rocks.flush()
    with pytest.raises(StorageError, match="No space left"):
        rocks.load()


async def test_a_write_that_meets_a_stall_is_repeated_whole(rocks: RocksStorage) -> None:
    faulty = Faulty(rocks)
    faulty.write_errors = ["Operation failed. Result incomplete: Write stall"] * 3

    rocks.append(None, None, entries(1, 3))
    faulty.write_errors = ["Result incomplete: Write stall"]
    rocks.state.write(iter([(b"a", b"1")]), iter([b"b"]), iter([(b"c", b"d")]))

    assert faulty.writes == 6
    assert rocks.load().entries == entries(1, 3)
    assert rocks.state.get(b"a") == b"1"


async def test_a_stall_that_does_not_end_is_an_error(
    rocks: RocksStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_STALL_PAUSES_MAX", 5)
    faulty = Faulty(rocks)
    faulty.write_errors = ["Result incomplete: Write stall"] * 6

    with pytest.raises(StorageError, match="the disk cannot keep up"):
        rocks.append(None, None, entries(1, 1))


async def test_rocksdb_fails_a_write_rather_than_stalling_inside(rocks: RocksStorage) -> None:
    """The text that the library gives for it is part of what this project builds on."""
    opened = rocks._engine
    opened._db.set_options({"write_buffer_size": "65536", "max_write_buffer_number": "2"})
    stalls = 0
    value = os.urandom(60_000)

    for number in range(300):
        batch = WriteBatch(raw_mode=True)
        batch.put(b"x%d" % number, value)
        try:
            opened._db.write(batch, opened._write_options)
        except Exception as error:
            if not engine._is_stall(error):
                raise
            stalls += 1

    assert stalls > 0


async def test_a_flush_waits_until_writes_would_not_stall(
    rocks: RocksStorage, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [True, True, True, False]
    monkeypatch.setattr(rocks._engine, "_is_crowded", lambda: answers.pop(0))
    began = trio.current_time()

    await rocks.flush()

    assert answers == []
    assert trio.current_time() - began == pytest.approx(0.03)


async def test_an_idle_database_is_not_crowded(rocks: RocksStorage) -> None:
    assert not rocks._engine._is_crowded()


async def test_a_forgotten_view_does_not_keep_the_directory(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    storage = reopen(tmp_path)
    storage.load()
    storage.state.write([(b"a", b""), (b"b", b"")])
    view = storage.state.view()
    scan = view.scan(b"")
    next(scan)

    await storage.close()

    with pytest.raises(StorageError, match="closed"):
        next(scan)
    with pytest.raises(StorageError, match="closed"):
        view.get(b"a")
    await reopen(tmp_path).close()


async def test_a_cancelled_close_closes(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    storage = reopen(tmp_path)

    with trio.CancelScope() as scope:
        scope.cancel()
        await storage.close()

    await reopen(tmp_path).close()


async def test_states_that_are_not_in_force_are_dropped_when_opening(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    storage = reopen(tmp_path)
    storage.load()
    staged = storage.begin_install()
    staged.write([(b"half a snapshot", b"")])
    assert storage._engine.families() == ["state-1", "state-2"]
    await storage.close()

    storage = reopen(tmp_path)

    assert storage._engine.families() == ["state-1"]
    await storage.close()


async def test_the_replaced_state_is_dropped_after_the_flush_and_not_before(
    rocks: RocksStorage,
) -> None:
    """Dropping is durable at once: before the flush a power cut would leave neither state."""
    staged = rocks.begin_install()
    staged.write([(APPLIED_KEY, pack_applied(9, 1))])
    rocks.install(staged, SnapshotMeta(9, 1, chain=bytes(16)), HardState(1, 0, 9))
    assert rocks._engine.families() == ["state-1", "state-2"]

    await rocks.flush()

    assert rocks._engine.families() == ["state-2"]


async def test_a_large_install_is_written_in_bounded_batches(rocks: RocksStorage) -> None:
    staged = rocks.begin_install()
    faulty = Faulty(rocks)

    staged.write([(b"k%d" % i, bytes(100_000)) for i in range(50)])

    assert faulty.writes == 5
    staged.abort()


# --- options ----------------------------------------------------------------------------------


async def test_a_database_that_is_opened_again_has_the_filters_of_a_new_one(tmp_path: Path) -> None:
    """With the options that rocksdict finds on disk it would have none, and say nothing."""
    RocksStorage.create(tmp_path, IDENTITY)
    storage = reopen(tmp_path)
    storage.load()
    storage.state.write([(b"key", b"value")])
    storage._state.family.rdict.flush()
    await storage.close()

    family = re.escape(storage._state.family.name)
    made = f'"cf_name": "{family}".* "event": "table_file_creation".* "filter_policy": "(.*?)"'
    log = (tmp_path / "db" / "LOG").read_text()
    assert re.findall(made, log) == ["bloomfilter"]


async def test_compressed_tables_of_an_older_version_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OlderSetup(Setup):
        def state(self) -> Options:
            options = super().state()
            options.set_compression_type(DBCompressionType.lz4())
            return options

    RocksStorage.create(tmp_path, IDENTITY)
    pairs = [(b"%04d" % number, bytes(200)) for number in range(1000)]
    with monkeypatch.context() as patch:
        patch.setattr(engine, "Setup", OlderSetup)
        storage = reopen(tmp_path)
        storage.load()
        storage.state.write(pairs)
        storage._state.family.rdict.flush()
        await storage.close()
    assert '"compression": "LZ4"' in (tmp_path / "db" / "LOG").read_text()

    storage = reopen(tmp_path)

    storage.load()
    assert [(key, storage.state.get(key)) for key, _ in pairs] == pairs
    await storage.close()


# --- memory -----------------------------------------------------------------------------------


async def test_all_families_share_one_cache_of_the_size_that_was_set(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, IDENTITY)
    storage = reopen(tmp_path)
    storage.load()
    pairs = [(b"k%04d" % i, os.urandom(4096)) for i in range(2000)]
    storage.state.write(pairs)
    storage.append(None, None, entries(1, 2000, data=bytes(2000)))
    await storage.close()
    storage = RocksStorage.open(tmp_path, cache_bytes=2 << 20)

    assert [storage.state.get(key) for key, _ in pairs] == [value for _, value in pairs]
    assert len(storage.load().entries) == 2000

    for database in (storage._engine._db, storage._state.family.rdict):
        usage = database.property_int_value("rocksdb.block-cache-usage")
        assert usage is not None
        assert 1 << 20 < usage <= 2 << 20
        assert database.property_int_value("rocksdb.block-cache-capacity") == 2 << 20
    await storage.close()


def test_memory_does_not_grow_with_what_is_stored(tmp_path: Path) -> None:
    """A sixteenth of the bench in tests/bench/storage_memory.py, in a process of its own."""
    bench = Path(__file__).parents[2] / "bench" / "storage_memory.py"

    done = subprocess.run(
        [sys.executable, bench, "--keys", "12500", "--cache-mib", "4", "--dir", tmp_path / "data"],
        capture_output=True,
        text=True,
        check=True,
    )

    figures = msgspec.json.decode(done.stdout.splitlines()[0])
    assert figures["keys_read"] == 12_500
    assert figures["growth_mib"] < 80, figures


# --- the block cache --------------------------------------------------------------------------

CACHE_8_MIB = 8 << 20


async def test_what_is_read_once_takes_no_room_in_the_cache(tmp_path: Path) -> None:
    """The log fed to a member, and the state digested for the check, once filled the cache."""
    RocksStorage.create(tmp_path, IDENTITY)
    storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_8_MIB)
    storage.load()
    machine = State(storage.state)
    views: list[StateReader] = []
    machine.on_checkpoint = lambda _index, view: views.append(view)
    random = Random(1)
    puts = [commands.encode(Put(b"%d" % n, random.randbytes(32 << 10))) for n in range(100)]
    log = [Entry(n, 1, EntryKind.COMMAND, put) for n, put in enumerate(puts, 1)]
    log.append(Entry(101, 1, EntryKind.COMMAND, commands.encode(Checkpoint())))
    storage.append(HardState(1, 1, 0), None, log)
    machine.apply(log[:100])
    for rdict in (storage._engine._db, storage._state.family.rdict):
        rdict.flush()
    machine.apply(log[100:])
    cache = storage._engine._setup._cache
    before = cache.get_usage()

    next_index = 1
    while next_index <= 101:
        found = storage.read(next_index, 256 << 10)
        assert found is not None
        next_index = found[1][-1].index + 1
    from_log = cache.get_usage() - before
    (view,) = views
    assert sum(len(value) for _, value in view.scan(b"")) > 3 << 20
    view.close()

    assert from_log < 1 << 19
    assert cache.get_usage() - before < 1 << 19
    await storage.close()


# --- figures ----------------------------------------------------------------------------------


async def test_the_figures_of_a_database(rocks: RocksStorage, tmp_path: Path) -> None:
    rocks.state.write([(b"k%04d" % number, b"v" * 1000) for number in range(500)])
    await rocks.flush()
    written = rocks.figures()
    assert written.memtable_bytes > 500_000

    await rocks.reclaim()

    in_tables = rocks.figures()
    assert in_tables.sst_bytes > 500_000
    logs = sum(file.stat().st_size for file in (tmp_path / "db").glob("*.log"))
    assert in_tables.used_bytes == in_tables.sst_bytes + logs
    assert in_tables.stall_s == 0.0
    misses = rocks.cache_looks().misses
    assert rocks.state.get(b"k0001") == b"v" * 1000
    assert rocks.cache_looks().misses > misses
    hits = rocks.cache_looks().hits
    assert rocks.state.get(b"k0001") == b"v" * 1000
    assert rocks.cache_looks().hits > hits
