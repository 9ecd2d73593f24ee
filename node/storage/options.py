"""RocksDB's settings: memory, stalls, recovery. Each figure with its reason.

What RocksDB may hold in memory is the sum of
    the block cache                         a setting of the node; holds index and filter blocks too
    `_MEMTABLES_BYTES`                      written, not yet in a file, of all families together
    a few MiB                               compaction buffers, at most `TABLES_OPEN` open tables
"""

from __future__ import annotations

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    ReadOptions,
    WriteOptions,
)

_MIB = 1 << 20

TABLES_OPEN = 256
"""4 GiB of tables, where a process may have so many files open."""

MEMTABLE_BYTES = 16 * _MIB
_MEMTABLES_BYTES = 48 * _MIB

# The first level below level 0; a compaction of level 0 rewrites both.
BASE_LEVEL_BYTES = 256 * _MIB

# Memtables of one family, the one being filled included (RocksDB's max_write_buffer_number). With
# so many, writes stop until one of them is in a file.
MEMTABLES_MAX = 3

# RocksDB slows writes down when level 0 has so many files, and stops them at a second number. A
# slowed-down write fails under `no_slowdown`; so both are the same number, a large one, and only
# the stop is left.
_L0_FILES_MAX = 128


class Setup:
    """Options for a database and its families, which share one block cache.

    Args:
        cache_bytes: Capacity of the block cache, evicted by LRU.
        tables_open: How many tables are kept open; the one used longest ago is closed for another.
    """

    def __init__(self, cache_bytes: int, tables_open: int = TABLES_OPEN) -> None:
        self._cache = Cache(cache_bytes)
        self._tables_open = tables_open

    def database(self) -> Options:
        """Return the options of the database, which are those of the log family too."""
        options = self._family(BlockBasedOptions())
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        # For all families together: above it, RocksDB writes memtables to files.
        options.set_db_write_buffer_size(_MEMTABLES_BYTES)
        # RocksDB deletes a WAL only when no family has unflushed data in it: a family that is
        # seldom written would keep all of them. Above this total it flushes such a family.
        options.set_max_total_wal_size(128 * _MIB)
        # RocksDB's kPointInTimeRecovery drops the WAL from its first damaged record on, silently.
        # After a crash that is a torn end, which no flush covered, so no node relies on it. But the
        # same happens to records that a flush did cover, when the disk damaged them: `recovery.py`
        # finds out. The stricter kAbsoluteConsistency refuses even the torn end that every crash
        # may leave.
        options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
        # RocksDB then stops as soon as it finds damaged data, and does not skip what it can.
        options.set_paranoid_checks(True)
        options.set_max_background_jobs(2)
        options.set_max_open_files(self._tables_open)
        options.set_bytes_per_sync(_MIB)  # Write compaction output steadily, not in bursts.
        options.set_avoid_unnecessary_blocking_io(True)  # Delete old files in the background.
        options.set_keep_log_file_num(3)
        options.set_max_log_file_size(2 * _MIB)
        # For how the cache does (`measures.py`): without them that is not known. They take less than a
        # tenth of a microsecond of a read or write.
        options.enable_statistics()
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        return options

    def state(self) -> Options:
        """Return the options of a state family, which is read at random, often for missing keys."""
        tables = BlockBasedOptions()
        # RocksDB documents about 1 % of false positives for 10 bits a key.
        tables.set_bloom_filter(10, False)
        options = self._family(tables)
        # Most keys that are looked up are in no memtable. A filter of a tenth of the memtable's
        # size answers that without a search.
        options.set_memtable_prefix_bloom_ratio(0.1)
        options.set_memtable_whole_key_filtering(True)
        return options

    def _family(self, tables: BlockBasedOptions) -> Options:
        tables.set_block_cache(self._cache)
        # A write reads the key's former record, and RocksDB copies and checks its whole block for
        # that: keep blocks small. Small blocks also bring fewer unused neighbours of a hot key into
        # the cache.
        tables.set_block_size(4 << 10)
        # Else index and filter blocks of all open tables are held outside the cache, without a
        # limit.
        tables.set_cache_index_and_filter_blocks(True)
        tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
        tables.set_format_version(5)
        options = Options(raw_mode=True)
        # Disk space is cheap; compression costs the processor time that serves requests.
        options.set_compression_type(DBCompressionType.none())
        options.set_block_based_table_factory(tables)
        options.set_write_buffer_size(MEMTABLE_BYTES)
        options.set_max_write_buffer_number(MEMTABLES_MAX)
        options.set_target_file_size_base(16 * _MIB)
        # Keys are written all over the key space, so each compaction rewrites most of the store.
        # Wait for twice RocksDB's default number of tables before one begins, and have no level in
        # between while everything is smaller than the base level.
        options.set_level_zero_file_num_compaction_trigger(8)
        options.set_max_bytes_for_level_base(BASE_LEVEL_BYTES)
        # What a compaction replaces stays until the result is whole: this bounds the room that one
        # below the base level needs. RocksDB's default is 25 tables, 400 MiB.
        options.set_max_compaction_bytes(BASE_LEVEL_BYTES)
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_level_zero_slowdown_writes_trigger(_L0_FILES_MAX)
        options.set_level_zero_stop_writes_trigger(_L0_FILES_MAX)
        options.set_soft_pending_compaction_bytes_limit(0)  # 0: no limit
        options.set_hard_pending_compaction_bytes_limit(0)
        return options


def read_options(*, bulk: bool) -> ReadOptions:
    """Return how a view reads. `bulk`: everything once, without filling the block cache."""
    options = ReadOptions()
    options.fill_cache(not bulk)  # type: ignore[call-arg]  # the stub has no argument
    return options


def write_options() -> WriteOptions:
    """Return how every batch is written: into the WAL, unsynced, and failing instead of waiting."""
    # rocksdict holds the GIL during a write. A wait inside RocksDB would therefore freeze the whole
    # process, its timeouts included; so RocksDB is asked to fail instead, and `Engine` waits where
    # other tasks can run.
    options = WriteOptions()
    options.sync = False
    options.no_slowdown = True
    return options
