"""A disk: atomic writes in one order, of which only what was flushed is sure to outlive a crash.

`Image` is what a sequence of writes amounts to; it is computed from the writes alone and never
from a core, and so it is also the second opinion on what a core holds in memory. Each entry has a
chain hash over itself and all before it: two logs with the same chain at an index are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind, HardState, SnapshotMeta
from hstore.node.raft.membership import Configuration
from hstore.node.raft.update import Persist
from hstore.node.storage.codec import Loss
from hstore.node.storage.recovery import Witness

from .machine import EMPTY, Content, content_of, link

Received = tuple[Content, int] | int | None
"""A state and its chain hash, or the place where it is staged."""


class Image:
    """Log, hard state and state machine, as writes leave them.

    Attributes:
        base: Of the snapshot or the compaction that the log starts after.
        base_chain: The chain hash there.
        entries, chains: The log after it, in parallel.
        configs: (index, configuration), the base's first.
        written_at: In parallel to `entries`: the number of the write that brought each.
        base_written_at: Likewise for what the base stands for.
        hard: The hard state.
        hard_written_at: The number of the write that brought it.
        content: The state machine.
        batch: The number of the last write that concerned the log.
        loss: What was lost of it and is not there again.
        staged: Keys and values of states on their way in, by place.
    """

    __slots__ = (
        "base", "base_chain", "base_written_at", "batch", "chains", "configs", "content",
        "entries", "hard", "hard_written_at", "loss", "staged", "written_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.base = SnapshotMeta()
        self.base_chain = 0
        self.base_written_at = 0
        self.entries: list[Entry] = []
        self.chains: list[int] = []
        self.written_at: list[int] = []
        self.configs: list[tuple[int, Configuration]] = [(0, Configuration())]
        self.hard = HardState()
        self.hard_written_at = 0
        self.content = EMPTY
        self.batch = 0
        self.loss: Loss | None = None
        self.staged: dict[int, dict[bytes, bytes]] = {}

    def copy(self) -> Image:
        """Return an image that shares nothing that changes."""
        new = Image()
        for name in Image.__slots__:
            value = getattr(self, name)
            setattr(new, name, list(value) if isinstance(value, list) else value)
        new.staged = {place: dict(pairs) for place, pairs in self.staged.items()}
        return new

    @property
    def last_index(self) -> int:
        """Index of the newest entry."""
        return self.base.index + len(self.entries)

    @property
    def last_term(self) -> int:
        """Its term."""
        return self.entries[-1].term if self.entries else self.base.term

    @property
    def config(self) -> Configuration:
        """The configuration in force: the fold of base and log (rule D9)."""
        return self.configs[-1][1]

    def chain_at(self, index: int) -> int | None:
        """Return the chain hash at `index`; None if that is compacted or not there."""
        offset = index - self.base.index
        if offset <= 0:
            return self.base_chain if offset == 0 else None
        return self.chains[offset - 1] if offset <= len(self.chains) else None

    def written_before(self, index: int) -> int:
        """Return the number of the write after which everything up to `index` is there."""
        offset = index - self.base.index
        return self.base_written_at if offset <= 0 else self.written_at[offset - 1]

    def config_at(self, index: int) -> Configuration:
        """Return the configuration in force at `index`, which is not compacted away."""
        return next(config for i, config in reversed(self.configs) if i <= index)

    def persist(self, position: int, persist: Persist, received: Received) -> None:
        """Carry out a core's write; `received` is the content and chain of its snapshot, if any."""
        self.batch = position
        if persist.snapshot is not None:
            if isinstance(received, int):
                # Of what is there, and not of what was sent: half of it is not a state.
                received = content_of(self.staged.pop(received, {}))
            assert received is not None, "a snapshot is to be stored that never arrived"
            self.base = persist.snapshot
            self.content, self.base_chain = received
            self.base_written_at = position
            self.entries, self.chains, self.written_at = [], [], []
            self.configs = [(self.base.index, self.base.config)]
        if persist.truncate_from is not None:
            self.truncate(persist.truncate_from)
        if persist.entries:
            self._append(position, persist.entries)
        if persist.hard_state is not None:
            self.hard = persist.hard_state
            self.hard_written_at = position

    def compact(self, meta: SnapshotMeta) -> None:
        """Drop the log up to `meta`; one that a snapshot has overtaken drops nothing."""
        if meta.index <= self.base.index:
            return
        offset = meta.index - self.base.index
        self.base_chain = self.chains[offset - 1]
        self.base_written_at = self.written_at[offset - 1]
        self.configs = [
            (meta.index, self.config_at(meta.index)),
            *(item for item in self.configs if item[0] > meta.index),
        ]
        self.base = meta
        del self.entries[:offset], self.chains[:offset], self.written_at[:offset]

    def truncate(self, index: int) -> None:
        """Drop the log from an index on."""
        offset = index - self.base.index - 1
        assert 0 <= offset <= len(self.entries), f"truncation at {index} is outside the log"
        del self.entries[offset:], self.chains[offset:], self.written_at[offset:]
        while self.configs[-1][0] >= index:
            self.configs.pop()

    def _append(self, position: int, entries: Sequence[Entry]) -> None:
        chain = self.chains[-1] if self.chains else self.base_chain
        assert entries[0].index == self.last_index + 1, f"a gap before {entries[0].index}"
        for entry in entries:
            chain = link(chain, entry)
            self.entries.append(entry)
            self.chains.append(chain)
            self.written_at.append(position)
            if entry.kind == EntryKind.CONFIG:
                self.configs.append((entry.index, membership.decode(entry.data)))


class _Write(NamedTuple):
    position: int
    persist: Persist | None = None
    received: Received = None
    content: Content | None = None
    compact: SnapshotMeta | None = None
    is_recovered: bool = False
    stage: tuple[int, dict[bytes, bytes]] | None = None

    def carry_out(self, image: Image) -> None:
        if self.persist is not None:
            image.persist(self.position, self.persist, self.received)
        if self.content is not None:
            image.content = self.content
        if self.compact is not None:
            image.compact(self.compact)
            image.batch = self.position
        if self.stage is not None:
            place, pairs = self.stage
            image.staged.setdefault(place, {}).update(pairs)
        if self.is_recovered:
            image.loss = None
            image.batch = self.position


class SimDisk:
    """One write-ahead log, as RocksDB keeps it for all column families together.

    Attributes:
        image: All writes.
        durable: Those that are flushed.
        position: Number of the newest write.
        synced: Number of the newest one that is flushed.
        witness: What was flushed when the node died, as it is written down beside the log.
        is_witness_late: It is older: it had not reached the disk when the power went.
        owed: The chain hashes of lost entries that may still count as durable, by index.
        remembered: So many flushed writes can be lost.
    """

    __slots__ = (
        "_older", "_recent", "_witnesses", "durable", "image", "is_witness_late", "owed", "position", "remembered", "synced",
        "unsynced", "witness",
    )  # fmt: skip

    def __init__(self, image: Image | None = None) -> None:
        self.image = image or Image()
        self.witness: Witness | None = None
        self.is_witness_late = False
        self._witnesses: deque[Witness] = deque(maxlen=4)
        self.owed: dict[int, int] = {}
        self.remembered = 0
        self._recent: deque[_Write] = deque()
        self._older: Image | None = None
        self.durable = self.image.copy()
        self.position = 0
        self.synced = 0
        self.unsynced: deque[_Write] = deque()

    def write_persist(self, persist: Persist, received: Received) -> None:
        """Write what a core wants durable."""
        self._write(_Write(self.position + 1, persist=persist, received=received))

    def write_content(self, content: Content) -> None:
        """Write the state machine."""
        self._write(_Write(self.position + 1, content=content))

    def write_compact(self, meta: SnapshotMeta) -> None:
        """Write that the log is shorter."""
        self._write(_Write(self.position + 1, compact=meta))

    def begin_stage(self) -> int:
        """Return a place for a state on its way in; what was staged before is dropped."""
        self.drop_staged()
        return self.position + 1

    def write_stage(self, place: int, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Write some of a state that nobody reads yet."""
        self._write(_Write(self.position + 1, stage=(place, dict(pairs))))

    def drop_staged(self) -> int:
        """Drop what is staged and in nobody's use; return how much of that there was."""
        # What an unsynced install is made of must be there when its flush ends.
        count = sum(map(len, self.image.staged.values()))
        self.image.staged.clear()
        if not self.unsynced:
            self.durable.staged.clear()
        return count

    def sync(self, position: int) -> None:
        """Make every write up to `position` durable."""
        while self.unsynced and self.unsynced[0].position <= position:
            self._make_durable(self.unsynced.popleft())
        self.synced = max(self.synced, position)

    def note_witness(self) -> None:
        """Write down what is flushed, outside the log: a crash may take the last of these."""
        self._witnesses.append(self._witness_now())

    def _witness_now(self) -> Witness:
        durable = self.durable
        return Witness(durable.batch, durable.last_index, durable.hard.term, durable.hard.vote)

    def crash(self, keep: int, late: int = 0) -> None:
        """Lose all unsynced writes but the first `keep`, and the last `late` of the witnesses."""
        last = self._witness_now()
        kept = list(self._witnesses)[: max(len(self._witnesses) - late, 1)] if late else []
        self.witness = kept[-1] if kept else last
        self.is_witness_late = self.witness != last
        self._witnesses.clear()
        self._witnesses.append(self.witness)
        for _ in range(keep):
            self._make_durable(self.unsynced.popleft())
        self.unsynced.clear()
        self.image = self.durable.copy()
        self.position = self.synced = self.position + 1

    # -- losing what was flushed --------------------------------------------------------------

    def _make_durable(self, write: _Write) -> None:
        if self.remembered:
            if self._older is None:
                self._older = self.durable.copy()
            self._recent.append(write)
            if len(self._recent) > self.remembered:
                self._recent.popleft().carry_out(self._older)
        write.carry_out(self.durable)

    def lose_batches(self, count: int) -> Image:
        """Return what is left without the last flushed writes."""
        if self._older is None:
            return self.durable
        image = self._older.copy()
        for write in list(self._recent)[: max(len(self._recent) - count, 0)]:
            write.carry_out(image)
        return image

    def adopt(self, image: Image) -> None:
        """Go on with what a restart has made of the disk."""
        self.position = self.synced = max(self.position, image.batch) + 1
        self.durable, self.image = image, image.copy()
        self._older = None
        self._recent.clear()

    def owe(self, before: Image, last: int) -> None:
        """Remember what was there, the end of a snapshot too: others may count on it up to `last`."""
        for index, chain in enumerate((before.base_chain, *before.chains), before.base.index):
            if 0 < index <= last:
                self.owed.setdefault(index, chain)

    def write_recovered(self) -> None:
        """Write that nothing is missing any more."""
        self._write(_Write(self.position + 1, is_recovered=True))

    def _write(self, write: _Write) -> None:
        self.position = write.position
        write.carry_out(self.image)
        self.unsynced.append(write)
