"""How RocksDB is set up: memory, stalls, recovery. Each figure with its reason.

What RocksDB may hold in memory is the sum of
    the block cache                         a setting of the node; holds index and filter blocks too
    `_MEMTABLES_BYTES`                      written, not yet in a file, of all families together
    a few MiB                               compaction buffers, at most 256 open tables
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

_MEMTABLE_BYTES = 16 * _MIB
_MEMTABLES_BYTES = 48 * _MIB

MEMTABLES_MAX = 3
"""Memtables of one family, the one being filled included; at this many writes stall."""

# RocksDB stalls writes when compaction falls behind. At the first threshold it delays each, which
# with `no_slowdown` is an error; so only the last one, the stop, is left in force, far off.
_L0_FILES_MAX = 128


class Setup:
    """Options for a database and its families, which share one block cache.

    Args:
        cache_bytes: Capacity of the block cache, evicted by LRU.
    """

    def __init__(self, cache_bytes: int) -> None:
        self._cache = Cache(cache_bytes)

    def database(self) -> Options:
        """Return the options of the database, which are those of the log family too."""
        options = self._family(BlockBasedOptions())
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_db_write_buffer_size(_MEMTABLES_BYTES)
        # A log family that is written slowly would keep the whole WAL alive.
        options.set_max_total_wal_size(128 * _MIB)
        # A torn end of the WAL is what a crash leaves, and nobody was told of it: it is dropped.
        # What is then inconsistent, `RocksStorage.load` finds.
        options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
        options.set_paranoid_checks(True)
        options.set_max_background_jobs(2)
        options.set_max_open_files(256)
        options.set_bytes_per_sync(_MIB)  # compaction output trickles to the disk, not in bursts
        options.set_avoid_unnecessary_blocking_io(True)  # old files are deleted off the loop
        options.set_keep_log_file_num(3)
        options.set_max_log_file_size(2 * _MIB)
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        return options

    def state(self) -> Options:
        """Return the options of a state family: random reads of keys that may not exist."""
        tables = BlockBasedOptions()
        tables.set_bloom_filter(10, False)
        options = self._family(tables)
        # Most keys that a write asks for are in none of the memtables: a tenth of each tells so
        # without a search through it.
        options.set_memtable_prefix_bloom_ratio(0.1)
        options.set_memtable_whole_key_filtering(True)
        return options

    def _family(self, tables: BlockBasedOptions) -> Options:
        tables.set_block_cache(self._cache)
        # A write reads the record before it, and with it a block that is copied and checked: keep it
        # small. A hot key brings fewer neighbours into the cache as well.
        tables.set_block_size(4 << 10)
        # Without this, index and filters of all open tables are memory that no setting bounds.
        tables.set_cache_index_and_filter_blocks(True)
        tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
        tables.set_format_version(5)
        options = Options(raw_mode=True)
        # Room on the disk is cheap; a compaction is paid with the processor that serves writes.
        options.set_compression_type(DBCompressionType.none())
        options.set_block_based_table_factory(tables)
        options.set_write_buffer_size(_MEMTABLE_BYTES)
        options.set_max_write_buffer_number(MEMTABLES_MAX)
        options.set_target_file_size_base(16 * _MIB)
        # Keys are written all over the store, so each compaction writes most of it anew. Let it wait
        # for twice as many tables as RocksDB does by itself, and put no level between while all of
        # it is below the base.
        options.set_level_zero_file_num_compaction_trigger(8)
        options.set_max_bytes_for_level_base(256 * _MIB)
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_level_zero_slowdown_writes_trigger(_L0_FILES_MAX)
        options.set_level_zero_stop_writes_trigger(_L0_FILES_MAX)
        options.set_soft_pending_compaction_bytes_limit(0)  # 0: no limit
        options.set_hard_pending_compaction_bytes_limit(0)
        return options


def read_options(*, bulk: bool) -> ReadOptions:
    """Return how a view reads; one that reads all of a database once leaves the cache as it is."""
    options = ReadOptions()
    options.fill_cache(not bulk)  # type: ignore[call-arg]  # the stub has no argument
    return options


def write_options() -> WriteOptions:
    """Return how every batch is written: into the WAL, unsynced, and never waiting inside.

    A wait inside RocksDB would hold the GIL and freeze the whole process, timeouts and all; so
    it is asked to fail instead, and the waiting is done where it can be seen (`Engine`).
    """
    options = WriteOptions()
    options.sync = False
    options.no_slowdown = True
    return options
