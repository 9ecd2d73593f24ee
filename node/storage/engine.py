"""RocksDB as this project uses it: the only module that opens it and remembers that it has failed.

Owns handles, iterators and views, and closes them all before the database, which each of them would
keep open. Knows keys and families, not what they mean (`rocks.py`).

Traps of rocksdict 0.3.29, and how this module avoids each (those of iterators are in `views.py`):

- Every error is a bare `Exception` with a text: it is wrapped in a `StorageError`.
- `write` holds the GIL, `flush_wal` does not: writes are unsynced and inline, the flush is in a
  thread. A write with sync=True would stop the event loop for as long as the disk takes.
- A batch that names a dropped family fails after it has reached the WAL, and RocksDB then refuses
  every later write: a family's handle is forgotten when the family is dropped.
- A batch is consumed by a write even if the write fails: each attempt fills a new one.
"""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import trio
from rocksdict import (
    AccessType,
    ColumnFamily,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from ..errors import StorageError
from ..net.poller import Poller
from .deleted_files import DeletedFiles
from .flusher import Done, Flusher, Then
from .interface import CacheLooks, DiskFigures
from .measures import cache_looks, disk_figures
from .options import MEMTABLES_MAX, TABLES_OPEN, Setup, write_options
from .reclaim import Reclaim, compaction_bytes, memtable_bytes
from .recovery import RESET
from .views import View, salvage
from .witness import WitnessFile

_DEFAULT = "default"

# rocksdict has only texts. The second is a file that another one names, and that is not there.
_DAMAGED = ("Corruption", "No such file or directory", "Input/output error")
_FULL = "No space left on device"
_FILE = re.compile(r"/[^:]*?/(\d+\.(sst|log)|MANIFEST-\d+|CURRENT|OPTIONS-\d+)")

# How long `write` waits for a stall to end. It blocks the event loop meanwhile, so each pause is
# short. It is rare, because `flush` waits first, without blocking, while a stall is near
# (`_CROWDED_*`).
_STALL_PAUSE_S = 0.002
_STALL_PAUSES_MAX = 1_000
_CROWDED_PAUSE_S = 0.01
_CROWDED_PAUSES_MAX = 3_000

# A batch has about 1 MiB at most, a memtable 16: so many writes cannot fill two memtables, and
# RocksDB need not be asked for its load in between.
_WRITES_UNASKED_MAX = 8

_CLOSE_GRACE_S = 10.0


class Database(Protocol):
    """The part of `rocksdict.Rdict` that tests replace to inject faults."""

    def write(self, write_batch: WriteBatch, write_opt: WriteOptions | None = None) -> None:
        """Write a batch."""
        ...

    def flush_wal(self, sync: bool = True) -> None:
        """Make all written batches durable."""
        ...


class Engine:
    """An open database.

    Everything but `flush` and `close` runs inline and takes microseconds; creating and dropping a
    family takes some milliseconds.

    Args:
        path: The database's directory.
        cache_bytes: Capacity of the block cache that all families share.
        witness: Synced now and then in the flusher's thread, and closed with the database.
        tables_open: How many tables are kept open.
        read_only: Change nothing on the disk; every write fails.

    Raises:
        StorageError: It cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        cache_bytes: int,
        witness: WitnessFile | None = None,
        tables_open: int = TABLES_OPEN,
        *,
        read_only: bool = False,
    ) -> None:
        self._witness = witness
        self._setup = Setup(cache_bytes, tables_open)
        self._path = path
        options = self._options = self._setup.database()
        try:
            # RocksDB refuses to open if a family is not named, and rocksdict would open one that is
            # not passed here with the options it finds on disk.
            names = Rdict.list_cf(str(path), options) if (path / "CURRENT").exists() else []
            families = {name: self._setup.state() for name in names if name != _DEFAULT}
            families[_DEFAULT] = options
            access = AccessType.read_only() if read_only else AccessType.read_write()
            self._db = Rdict(str(path), options, families, access)
        except Exception as error:
            said = _with_advice(f"the database in {path} cannot be opened: {error}")
            raise StorageError(said) from error
        self._writer: Database = self._db
        self._write_options = write_options()
        self._failure: StorageError | None = None
        self._closed = False
        self._is_attached = self._was_crowded = False
        self._writes_unasked = 0
        self._stall_s = 0.0
        self._flusher = Flusher(self._flush_blocking)
        self._deleted = DeletedFiles(path)
        self._reclaim = Reclaim(path)
        self._views: weakref.WeakSet[View] = weakref.WeakSet()
        self._families = {name: self._open_family(name) for name in families if name != _DEFAULT}
        if witness is not None:
            witness.oldest_log = self._oldest_log

    def get(self, key: bytes) -> bytes | None:
        """Return a value of the default family."""
        self.check()
        try:
            found: bytes | None = self._db.get(key)
        except Exception as error:
            raise self.failed("reading", error) from error
        return found

    def view(self, *, bulk: bool = False) -> View:
        """Return a reader of the default family as it is now; see `StateStore.view`."""
        return self.view_of(self._db, bulk=bulk)

    def salvage(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """Iterate over the default family as far as it can be read; see `views.salvage`."""
        self.check()
        return salvage(self._db, start, end)

    def families(self) -> list[str]:
        """Return the names of all families except the default one."""
        return list(self._families)

    def family(self, name: str) -> Family:
        """Return an existing family."""
        return self._families[name]

    def create_family(self, name: str) -> Family:
        """Create a family that does not exist yet. Durable at once."""
        self.check()
        try:
            self._db.create_column_family(name, self._setup.state())
        except Exception as error:
            raise self.failed(f"making the column family {name}", error) from error
        family = self._open_family(name)
        self._families[name] = family
        return family

    def drop_family(self, name: str) -> None:
        """Remove a family, if it exists. Durable at once; open views of it remain readable."""
        self.check()
        family = self._families.pop(name, None)
        if family is None:
            return
        family.handle = None
        try:
            self._db.drop_column_family(name)
        except Exception as error:
            raise self.failed(f"dropping the column family {name}", error) from error

    def write(self, fill: Callable[[WriteBatch], None]) -> None:
        """Write the batch that `fill` fills, all of it or nothing, unsynced.

        Args:
            fill: Called with an empty batch; after a stall again, with a new one.

        Raises:
            StorageError: RocksDB refused, or has accepted no write for 2 s.
        """
        self.check()
        for _ in range(_STALL_PAUSES_MAX):
            try:
                batch = WriteBatch(raw_mode=True)
                fill(batch)
                self._writer.write(batch, self._write_options)
                self._writes_unasked += 1
            except StorageError:
                raise
            except Exception as error:
                if not _is_stall(error):
                    raise self.failed("writing", error) from error
                self._stall_s += _STALL_PAUSE_S
                time.sleep(_STALL_PAUSE_S)  # noqa: TID251 - see `_STALL_PAUSE_S`
            else:
                return
        stalled = TimeoutError("RocksDB takes no writes: the disk cannot keep up")
        raise self.failed("writing", stalled)

    def attach(self, poller: Poller) -> None:
        """Report the end of `flush_soon` through `poller` from now on."""
        self._flusher.attach(poller)
        self._is_attached = True

    def flush_soon(self, done: Done, then: Then) -> bool:
        """Begin a flush whose end calls `then` and `done`; return False if it cannot begin.

        It can if a poller is attached and RocksDB is not about to stall.

        Raises:
            StorageError: As `flush`, for an earlier failure.
        """
        self.check()
        if not self._is_attached or self._is_crowded():
            return False
        self._flusher.begin(done, then)
        return True

    def want_flush_end(self, *, is_wanted: bool) -> None:
        """See `Storage.want_flush_end`."""
        self._flusher.ends.want(is_wanted=is_wanted)

    def take_flush_end(self) -> None:
        """See `Storage.take_flush_end`."""
        self._flusher.ends.take()

    async def flush(self, then: Then = lambda: False) -> None:
        """Make every write durable that returned before this call. One task at a time.

        If RocksDB is about to stall, returns only once it is not any more: a driver that flushes
        after it writes is slowed down here, and does not have to wait inside a write.

        Raises:
            StorageError: This flush or an earlier one failed: what the disk has is then unknown,
                and no flush is tried again (rule D17).

        Cancellation: the flush continues, and its failure is remembered.
        """
        self.check()
        await self._flusher.run(then)
        for _ in range(_CROWDED_PAUSES_MAX):
            if self._closed or not self._is_crowded():
                return
            self._stall_s += _CROWDED_PAUSE_S
            await trio.sleep(_CROWDED_PAUSE_S)

    def compaction_bytes(self) -> int:
        """Return what the next compaction may write before it deletes anything.

        Raises:
            StorageError: RocksDB refused.
        """
        self.check()
        try:
            return max(map(compaction_bytes, self._databases()))
        except Exception as error:
            raise self.failed("asking RocksDB for its tables", error) from error

    def memtable_bytes(self) -> int:
        """Return what is in memtables, and not in tables yet.

        Raises:
            StorageError: RocksDB refused.
        """
        self.check()
        try:
            return memtable_bytes(self._databases())
        except Exception as error:
            raise self.failed("asking RocksDB for its memtables", error) from error

    def figures(self) -> DiskFigures:
        """Return what is on the disk; see `Storage.figures`.

        Raises:
            StorageError: RocksDB refused.
        """
        self.check()
        try:
            return disk_figures(self._databases(), self._path, self._stall_s)
        except Exception as error:
            raise self.failed("asking RocksDB for its figures", error) from error

    def cache_looks(self) -> CacheLooks:
        """See `Storage.cache_looks`."""
        return cache_looks(self._options)

    async def reclaim(self) -> None:
        """Give the room of what was deleted back, in a thread; see `reclaim.py`. One task at a time.

        Raises:
            StorageError: RocksDB refused.

        Cancellation: it goes on until it is done or the database is closed.
        """
        self.check()
        await trio.to_thread.run_sync(self._reclaim_blocking, abandon_on_cancel=True)

    def _reclaim_blocking(self) -> None:
        try:
            self._reclaim.run(self._databases())
        except Exception as error:
            raise self.failed("reclaiming room", error) from error
        self._deleted.look_soon()

    def _databases(self) -> list[Rdict]:
        """Return the handles of all families; the log's comes first."""
        return [self._db, *(family.rdict for family in self._families.values())]

    async def close(self) -> None:
        """Flush and close. Idempotent.

        Cancellation: shielded, for at most 10 s; then it continues in its thread.

        Raises:
            StorageError: Closing failed, and nothing had failed before.
        """
        if self._closed:
            return
        self._closed = True
        self._flusher.detach()
        with trio.move_on_after(_CLOSE_GRACE_S, shield=True):
            await trio.to_thread.run_sync(self._close_blocking, abandon_on_cancel=True)

    def close_blocking(self) -> None:
        """Do what `close` does, in the calling thread. Idempotent."""
        if not self._closed:
            self._closed = True
            self._close_blocking()

    def _close_blocking(self) -> None:
        # This waits for a running flush: to close the database under it would crash the process.
        if not self._flusher.close(_CLOSE_GRACE_S):
            return
        if not self._reclaim.end(self._db, _CLOSE_GRACE_S):
            return
        self._deleted.close()
        for view in list(self._views):
            view.close()
        families, self._families = list(self._families.values()), {}
        try:
            if self._reclaim.was_cut:
                self._db.flush_wal(True)
            for close in (*(family.close for family in families), self._db.close):
                # After a compaction that was cut short RocksDB will not write memtables any more,
                # and says so here. They are in the log.
                with suppress(*((Exception,) if self._reclaim.was_cut else ())):
                    close()
            if self._witness is not None:
                self._witness.oldest_log = None
                self._witness.sync()
                self._witness.close()
        except Exception as error:
            if self._failure is None:
                raise StorageError(f"closing {self._path} failed: {error}") from error

    def _flush_blocking(self) -> None:
        try:
            self._writer.flush_wal(True)
            if self._witness is not None:
                self._witness.sync_if_due()
        except Exception as error:
            raise self.failed("flushing", error) from error
        self._deleted.look_soon()

    def _oldest_log(self) -> int:
        return self._db.property_int_value("rocksdb.min-log-number-to-keep") or 0

    def _is_crowded(self) -> bool:
        """Return whether the next writes may stall; asks RocksDB only every few writes."""
        if not self._was_crowded and self._writes_unasked < _WRITES_UNASKED_MAX:
            return False
        self._writes_unasked = 0
        self._was_crowded = self._ask_if_crowded()
        return self._was_crowded

    def _ask_if_crowded(self) -> bool:
        try:
            return any(
                database.property_int_value("rocksdb.is-write-stopped")
                or (database.property_int_value("rocksdb.num-immutable-mem-table") or 0)
                >= MEMTABLES_MAX - 1
                for database in self._databases()
            )
        except Exception as error:
            raise self.failed("asking RocksDB for its load", error) from error

    def _open_family(self, name: str) -> Family:
        try:
            return Family(
                name,
                self._db.get_column_family(name),
                self._db.get_column_family_handle(name),
                self,
            )
        except Exception as error:
            raise self.failed(f"opening the column family {name}", error) from error

    def view_of(self, rdict: Rdict, *, bulk: bool = False) -> View:
        """Return a reader of one family as it is now; see `StateStore.view`."""
        self.check()
        try:
            view = View(rdict, self, bulk=bulk)
        except Exception as error:
            raise self.failed("taking a view", error) from error
        self._views.add(view)
        return view

    def check(self) -> None:
        """Raise `StorageError` if the database has failed or is closed."""
        if self._failure is not None:
            raise StorageError(str(self._failure)) from self._failure
        if self._closed:
            raise StorageError(f"the database in {self._path} is closed")

    def failed(self, doing: str, error: Exception) -> StorageError:
        """Remember a failure, so that every later call is refused, and return it to be raised."""
        failure = StorageError(_with_advice(f"{doing} {self._path} failed: {error}"))
        if self._failure is None:
            self._failure = failure
        return failure


class Family:
    """A column family of an `Engine`. `handle` names it in a batch; None once it is dropped."""

    def __init__(self, name: str, rdict: Rdict, handle: ColumnFamily, engine: Engine) -> None:
        self.name = name
        self.rdict = rdict
        self.handle: ColumnFamily | None = handle
        self._engine = engine

    def get(self, key: bytes) -> bytes | None:
        """Return the latest value of `key`, or None."""
        self._engine.check()
        try:
            found: bytes | None = self.rdict.get(key)
        except Exception as error:
            raise self._engine.failed("reading", error) from error
        return found

    def view(self, *, bulk: bool = False) -> View:
        """Return a reader of the family as it is now; see `StateStore.view`."""
        return self._engine.view_of(self.rdict, bulk=bulk)

    def close(self) -> None:
        """Release both handles."""
        self.handle = None
        self.rdict.close()


def _with_advice(text: str) -> str:
    """Return the text of an error, with what to do; where a file is damaged or gone, with its name."""
    if _FULL in text:
        return f"{text}; free some space, and try again"
    if not any(sign in text for sign in _DAMAGED):
        return text
    # RocksDB may add a guess at the file: what it names first is what it was reading.
    file = _FILE.search(text)
    what = f"; the damaged file is {file[0]}" if file else ""
    return f"{' '.join(text.split())}{what}.\n{RESET}"


def _is_stall(error: Exception) -> bool:
    """Return whether a write failed only because RocksDB would have had to wait.

    rocksdict offers nothing but the text of the error, which is that of `Status::Incomplete`.
    """
    return "Write stall" in str(error)
