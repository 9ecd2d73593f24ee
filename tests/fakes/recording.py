"""A `Storage` that writes down what is asked of it, and knows what may be answered for.

Put it around any storage, hand it to what is tested, and let the test note what leaves the node:

    recording = RecordingStorage(disk.open())
    ...
    recording.acknowledge(index)        # e.g. where an AppendResponse or a client's answer is seen

`acknowledge` fails when the log up to that index is not covered by a flush that has *ended* and
that *began* after the write returned (rule D1). It also fails when a flush was left out, or began
before the write: the two mistakes that look like a node that works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

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
    Storage,
)


@dataclass(frozen=True)
class Record:
    """One thing that happened.

    Attributes:
        what: "write", "apply", "compact", "install", "flush begins", "flush ended", "acknowledged".
        index: The last entry that it covers; for "apply", -1.
        term: The term that it covers.
    """

    what: str
    index: int
    term: int


class RecordingStorage:
    """See the module's text.

    Attributes:
        records: All that happened, in order.
        durable_index: The last entry that may be acknowledged.
        durable_hard_state: The term and vote that may be answered for.
    """

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self.state: StateStore = _RecordingState(inner.state, self)
        self.records: list[Record] = []
        self.durable_index = 0
        self.durable_hard_state = HardState()
        self._index = 0
        # The last entry that was not replaced since the flush under way began.
        self._kept = 0
        self._hard_state = HardState()

    @property
    def identity(self) -> Identity:
        return self._inner.identity

    def load(self) -> Recovered:
        recovered = self._inner.load()
        self._index = recovered.snapshot.index + len(recovered.entries)
        self._hard_state = recovered.hard_state
        self.durable_index, self.durable_hard_state = self._index, self._hard_state
        return recovered

    def lost(self, recover_to: int, text: str) -> None:
        self._inner.lost(recover_to, text)

    def recovered(self) -> None:
        self._inner.recovered()

    def append(
        self,
        hard_state: HardState | None,
        truncate_from: int | None,
        entries: Sequence[Entry],
    ) -> None:
        self._inner.append(hard_state, truncate_from, entries)
        if truncate_from is not None:
            self._index = truncate_from - 1
            # What takes their place is not durable, whatever was before.
            self.durable_index = min(self.durable_index, self._index)
            self._kept = min(self._kept, self._index)
        if entries:
            self._index = entries[-1].index
        if hard_state is not None:
            self._hard_state = hard_state
        self.note("write")

    def attach(self, poller: Poller) -> None:
        """Flushes are awaited here, so that each is recorded."""

    def flush_soon(self, done: Callable[[], None], then: Callable[[], bool]) -> bool:
        return False

    def want_flush_end(self, *, is_wanted: bool) -> None:
        """Flushes are awaited here."""

    def take_flush_end(self) -> None:
        """Flushes are awaited here."""

    async def flush(self) -> None:
        self._kept, hard_state = self._index, self._hard_state
        self.note("flush begins")
        await self._inner.flush()
        self.durable_index, self.durable_hard_state = self._kept, hard_state
        self.records.append(Record("flush ended", self.durable_index, hard_state.term))

    def compact(self, meta: SnapshotMeta) -> None:
        self._inner.compact(meta)
        self.note("compact")

    def read(self, first: int, max_bytes: int) -> tuple[int, list[Entry]] | None:
        return self._inner.read(first, max_bytes)

    def snapshot_meta_chain(self, index: int) -> bytes:
        return self._inner.snapshot_meta_chain(index)

    def room(self) -> Room:
        return self._inner.room()

    def figures(self) -> DiskFigures:
        return self._inner.figures()

    def cache_looks(self) -> CacheLooks:
        return self._inner.cache_looks()

    async def reclaim(self) -> None:
        await self._inner.reclaim()

    def begin_install(self) -> SnapshotInstall:
        return self._inner.begin_install()

    def install(self, staged: SnapshotInstall, meta: SnapshotMeta, hard_state: HardState) -> None:
        self._inner.install(staged, meta, hard_state)
        self._index, self._hard_state = meta.index, hard_state
        self.durable_index = self._kept = 0
        self.note("install")

    async def close(self) -> None:
        await self._inner.close()

    def note(self, what: str) -> None:
        self.records.append(Record(what, self._index, self._hard_state.term))

    def acknowledge(self, index: int) -> None:
        """Note that something left the node which says that entries up to `index` are safe here."""
        assert index <= self.durable_index, (
            f"entry {index} was acknowledged, flushed is {self.durable_index}:"
            f" {[(r.what, r.index) for r in self.records[-8:]]}"
        )
        self.records.append(Record("acknowledged", index, self._hard_state.term))

    def acknowledge_vote(self, term: int, vote: int) -> None:
        """Note that a vote left the node, perhaps after it had gone on to a later term."""
        durable = self.durable_hard_state
        assert durable.term > term or (durable.term, durable.vote) == (term, vote), (
            f"a vote for {vote} in term {term} was sent, flushed is {durable}"
        )
        self.records.append(Record("acknowledged", self._index, term))

    def order(self) -> list[str]:
        """Return what happened, without the figures."""
        return [record.what for record in self.records]


class _RecordingState:
    def __init__(self, inner: StateStore, owner: RecordingStorage) -> None:
        self._inner = inner
        self._owner = owner

    def get(self, key: bytes) -> bytes | None:
        return self._inner.get(key)

    def write(
        self,
        puts: Iterable[tuple[bytes, bytes]],
        deletes: Iterable[bytes] = (),
        delete_ranges: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self._inner.write(puts, deletes, delete_ranges)
        self._owner.records.append(Record("apply", -1, 0))

    def view(self, *, bulk: bool = False) -> StateReader:
        return self._inner.view(bulk=bulk)
