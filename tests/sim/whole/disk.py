"""Storage that dies around any operation, and is watched: `MemoryStorage` with a run around it.

How long a flush takes, and whether the node dies before or after an operation, is drawn here. What
an operation does is the fake's (`tests/fakes/storage.py`), which passes the contract of the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

from hstore.node.net.poller import Poller
from hstore.node.raft.entry import Entry, HardState, SnapshotMeta
from hstore.node.storage.interface import (
    CacheLooks,
    DiskFigures,
    Identity,
    Recovered,
    Room,
    SnapshotInstall,
    StateReader,
    StateStore,
)
from tests.fakes.storage import MemoryDisk, MemoryStorage

from .flush_thread import FlushThread

if TYPE_CHECKING:
    from .member import SimMember


class WatchedStorage:
    """The storage of one life of a node."""

    def __init__(self, member: SimMember, inner: MemoryStorage) -> None:
        self.member = member
        self.sim = member.sim
        self.inner = inner
        self.state: StateStore = _WatchedState(self)
        self.is_flushing = False
        self.thread = FlushThread(self) if self.sim.options.has_flush_thread else None

    @property
    def identity(self) -> Identity:
        """See `Storage`."""
        return self.inner.identity

    @property
    def disk(self) -> MemoryDisk:
        """What is written to."""
        return self.member.disk

    def before(self, what: str) -> None:
        """Something is about to be done: the power may fail first."""
        self.sim.trace.note(f"disk {self.member.id} {what}")
        self.sim.faults.at_boundary(self.member, f"before {what}")

    def after(self, what: str) -> None:
        """Something has been done: the power may fail now."""
        self.sim.faults.at_boundary(self.member, f"after {what}")

    def load(self) -> Recovered:
        """See `Storage`."""
        return self.inner.load()

    def lost(self, recover_to: int, text: str) -> None:
        """See `Storage`."""
        self.before("write")
        self.inner.lost(recover_to, text)
        self.after("write")

    def recovered(self) -> None:
        """See `Storage`."""
        self.before("write")
        self.inner.recovered()
        self.after("write")

    def room(self) -> Room:
        """See `Storage`."""
        return self.inner.room()

    def figures(self) -> DiskFigures:
        """See `Storage`."""
        return self.inner.figures()

    def cache_looks(self) -> CacheLooks:
        """See `Storage`."""
        return self.inner.cache_looks()

    async def reclaim(self) -> None:
        """See `Storage`."""
        await self.inner.reclaim()

    def append(
        self, hard_state: HardState | None, truncate_from: int | None, entries: Sequence[Entry]
    ) -> None:
        """See `Storage`."""
        self.before("write")
        if truncate_from is not None:
            self.sim.counts["entries dropped"] += 1
            if self.is_flushing:
                self.sim.counts["entries dropped while a flush is under way"] += 1
        self.sim.rooms.written(self.member, entries)
        self.sim.healths.written(self.member, entries)
        self.inner.append(hard_state, truncate_from, entries)
        self.sim.checker.written(self.member, entries)
        self.after("write")

    def attach(self, poller: Poller) -> None:
        """See `Storage`."""
        self.inner.attach(poller)

    def flush_soon(self, done: Callable[[], None], then: Callable[[], bool]) -> bool:
        """See `Storage`; without a thread it has to be awaited, and now and then with one."""
        if self.thread is None or self.sim.faults.draw_crowded():
            return False

        def flushed(error: BaseException | None) -> None:
            if error is not None:
                raise error
            done()

        self.thread.begin(flushed, then)
        return True

    def want_flush_end(self, *, is_wanted: bool) -> None:
        """See `Storage`."""
        if self.thread is not None:
            self.thread.want(is_wanted=is_wanted)

    def take_flush_end(self) -> None:
        """See `Storage`."""
        if self.thread is not None:
            self.thread.take()

    async def flush(self) -> None:
        """See `Storage`."""
        if self.thread is not None:
            await self.thread.flush()
            return
        self.before("flush")
        self.disk.flush_delay_s = self.sim.faults.draw_flush()
        self.is_flushing = True
        try:
            await self.inner.flush()
        finally:
            self.is_flushing = False
        self.sim.promptness.flushed(self.member)
        self.after("flush")

    def compact(self, meta: SnapshotMeta) -> None:
        """See `Storage`."""
        self.before("compact")
        self.inner.compact(meta)
        self.sim.counts["compactions"] += 1
        self.after("compact")

    def read(self, first: int, max_bytes: int) -> tuple[int, list[Entry]] | None:
        """See `Storage`."""
        return self.inner.read(first, max_bytes)

    def snapshot_meta_chain(self, index: int) -> bytes:
        """See `Storage`."""
        return self.inner.snapshot_meta_chain(index)

    def begin_install(self) -> SnapshotInstall:
        """See `Storage`."""
        self.before("begin install")
        return _WatchedInstall(self, self.inner.begin_install())

    def install(self, staged: SnapshotInstall, meta: SnapshotMeta, hard_state: HardState) -> None:
        """See `Storage`."""
        assert isinstance(staged, _WatchedInstall)
        self.before("install")
        self.inner.install(staged.inner, meta, hard_state)
        self.sim.counts["snapshots installed"] += 1
        self.sim.checker.installed(self.member, meta)
        self.after("install")

    async def close(self) -> None:
        """See `Storage`."""
        await self.inner.close()


class _WatchedState:
    def __init__(self, storage: WatchedStorage) -> None:
        self._storage = storage

    def get(self, key: bytes) -> bytes | None:
        return self._storage.inner.state.get(key)

    def write(
        self,
        puts: Iterable[tuple[bytes, bytes]],
        deletes: Iterable[bytes] = (),
        delete_ranges: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self._storage.before("apply")
        self._storage.inner.state.write(puts, deletes, delete_ranges)
        self._storage.after("apply")

    def view(self, *, bulk: bool = False) -> StateReader:
        return self._storage.inner.state.view(bulk=bulk)


class _WatchedInstall:
    def __init__(self, storage: WatchedStorage, inner: SnapshotInstall) -> None:
        self._storage = storage
        self.inner = inner

    def write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._storage.before("chunk")
        self.inner.write(pairs)
        self._storage.after("chunk")

    def abort(self) -> None:
        self.inner.abort()


def digest(pairs: dict[bytes, bytes]) -> int:
    """Return a number that tells states apart."""
    found = 0
    for key in sorted(pairs):
        found = crc32(pairs[key], crc32(key, found))
    return found
