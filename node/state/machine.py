"""The state machine: what a committed command does to the keys.

Owns the effect of every command. It must be a function of the log alone: no clock, no randomness,
no order that depends on a hash seed, because every node runs it by itself and all must end with
the same bytes (section 2 of the Raft paper, "replicated state machines"). The layout on disk is
in `records.py`; when to apply is the driver's.

Theory of operation: `apply` runs a batch of entries against an overlay, a dictionary of the keys
that the batch has changed so far, in front of the store. So a command sees those before it. Then
the whole overlay and the new applied index go to the store as one atomic batch (a `Checkpoint` ends
one in between, for the view that is taken there): after a crash the index and the effects agree,
and no entry takes effect twice (rules D5, D7).

Snapshots: `State.snapshot()` is a reader of everything, as of one moment. A sender iterates over
`snapshot().scan(b"")`; a receiver hands the very same pairs to `Storage.begin_install().write()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import msgspec

from ..errors import StorageError
from ..model import commands
from ..model.commands import ClusterSettings, Member, Outcome
from ..raft import membership
from ..raft.entry import Entry, EntryKind
from ..storage.interface import APPLIED_KEY, StateReader, StateStore, pack_applied, unpack_applied
from . import idempotency, records
from . import members as state_cluster
from .changes import Change, History
from .idempotency import KeyedWrites
from .records import Item

__all__ = ["Item", "KeyReader", "State"]

_COMMAND = int(EntryKind.COMMAND)

# Below this, a prefix is deleted key by key: some 30 us of reading, and as much of writing.
_FEW_KEYS = 64

# Keys, and bytes of them and their values, that a deletion of a prefix looks through to tell who
# watches what has gone: some 20 ms at most. When there are more, the history begins anew.
_TOLD_KEYS = 10_000
_TOLD_BYTES = 16 * 1024 * 1024


Tell = Callable[[Sequence[Entry], list[Outcome | None]], None]
"""Called with entries, and what came of each."""


def _nobody(_entries: Sequence[Entry], _outcomes: list[Outcome | None]) -> None:
    """Nobody wants to know early."""


class KeyReader(Protocol):
    """The users' keys as of one moment."""

    def get(self, key: bytes) -> Item | None:
        """Return what is stored under `key`, or None."""
        ...

    def scan(self, prefix: bytes = b"", after: bytes | None = None) -> Iterator[Item]:
        """Iterate over the keys that start with `prefix` and are greater than `after`, in order.

        Holds the GIL for each step: whoever iterates far yields to the loop every N keys.
        """
        ...

    def close(self) -> None:
        """Give the view up. Idempotent; iterating after it is an error."""
        ...


class State:
    """The keys, the members and the settings, as the log up to `applied` made them.

    Attributes:
        applied: Index of the last entry that took effect, 0 for none.
        applied_term: Its term.
        cluster: Its id, its settings, what it waits for. Never changed in place.
        members: All members by id. Never changed in place: a change is a new dictionary.
        removed: Ids of members that were removed and can never come back.
        keyed_writes: Which keyed writes are remembered, and the cluster's time.
        history: What has changed of late; this node's own, and no part of the state.
        on_checkpoint: Called by `apply` with the index of each `Checkpoint` and a reader of the
            whole state as of that entry, which the callee closes; None: nobody wants it.

    Raises:
        StorageError: The store fails or its records are damaged.
    """

    applied: int
    applied_term: int
    cluster: records.Cluster
    members: dict[int, Member]
    removed: frozenset[int]
    keyed_writes: KeyedWrites

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.history = History()
        self.on_checkpoint: Callable[[int, StateReader], None] | None = None
        self.reload()

    def reload(self) -> None:
        """Read everything anew, after a snapshot was installed under the store."""
        view = self._store.view()
        try:
            self.applied, self.applied_term = unpack_applied(view.get(APPLIED_KEY))
            found = view.get(records.CLUSTER_KEY)
            self.cluster = records.Cluster() if found is None else records.decode_cluster(found)
            members = view.scan(records.MEMBER, records.MEMBER_END)
            self.members = {
                records.id_of(key): records.decode_member(value) for key, value in members
            }
            removed = view.scan(records.REMOVED, records.REMOVED_END)
            self.removed = frozenset(records.id_of(key) for key, _ in removed)
            self.keyed_writes = idempotency.load(view.get(records.KEYED_WRITES_KEY))
        finally:
            view.close()
        self.history.restart(self.applied)

    @property
    def cluster_id(self) -> str:
        """The cluster's permanent id; empty until `InitCluster` was applied."""
        return self.cluster.cluster_id

    @property
    def settings(self) -> ClusterSettings:
        """The cluster's settings; defaults until `InitCluster` was applied."""
        return self.cluster.settings

    def get(self, key: bytes) -> Item | None:
        """Return what is stored under the user's `key` now, or None."""
        record = self._store.get(records.USER + key)
        return None if record is None else records.decode_item(key, record)

    def view(self) -> KeyReader:
        """Return a reader of the users' keys as of now; the caller closes it."""
        return _UserKeys(self._store.view())

    def snapshot(self) -> StateReader:
        """Return a reader of the whole state as of `applied`; the caller closes it.

        Every pair of `scan(b"")` belongs to the snapshot, and they come in an order in which
        the applied index is last: a receiver that misses the end cannot install it.
        """
        return self._store.view(bulk=True)

    def apply(self, entries: Sequence[Entry], tell: Tell = _nobody) -> list[Outcome | None]:
        """Let `entries` take effect, and return what came of each.

        None stands for an entry that is not a command. The effects are one atomic batch; up to
        each `Checkpoint` that is looked at, and from there, one of its own.

        Args:
            entries: Committed and locally durable, from `applied` + 1 on, without a gap.
            tell: Called with the same when all is decided and `applied` is raised, before the
                effects are written: the log has them for good, so clients need not wait for that.
                It must not read keys.

        Raises:
            StorageError: The store failed, the entries do not continue `applied`, or one is not
                understood by this version: the node must stop, or it would diverge.
        """
        if not entries:
            return []
        batch = _Batch(self._store, self)
        outcomes = []
        expected = self.applied
        for entry in entries:
            expected += 1
            if entry.index != expected:
                raise StorageError(f"entry {entry.index} was given to the state, not {expected}")
            outcomes.append(_run(batch, entry))
        last = entries[-1]
        self.applied, self.applied_term = last.index, last.term
        self.cluster = batch.cluster
        self.members, self.removed = batch.members, batch.removed
        self.keyed_writes = batch.keyed_writes
        if batch.untold:
            self.history.restart(batch.untold)
        tell(entries, outcomes)
        batch.commit(last)
        self.history.add(batch.changes, last.index)
        return outcomes


class _UserKeys:
    """A `KeyReader` on a view of the store."""

    def __init__(self, view: StateReader) -> None:
        self._view = view

    def get(self, key: bytes) -> Item | None:
        record = self._view.get(records.USER + key)
        return None if record is None else records.decode_item(key, record)

    def scan(self, prefix: bytes = b"", after: bytes | None = None) -> Iterator[Item]:
        start = prefix if after is None else max(prefix, after + b"\0")
        end = records.prefix_end(records.USER + prefix)
        for key, record in self._view.scan(records.USER + start, end):
            yield records.decode_item(key[1:], record)

    def close(self) -> None:
        self._view.close()


class _Batch:
    """The effects of the entries so far, in front of the store."""

    def __init__(self, store: StateStore, state: State) -> None:
        self._store = store
        self._store_get = store.get
        self.changed: dict[bytes, bytes | None] = {}
        # Ranges that were deleted before any of what is in `_changed` was put.
        self._ranges: list[tuple[bytes, bytes]] = []
        self._on_checkpoint = state.on_checkpoint
        self.cluster = state.cluster
        self.changes: list[Change] = []
        self.untold = 0  # The last entry that changed more than is told; 0: none.
        self.members = state.members
        self.removed = state.removed
        self.keyed_writes = state.keyed_writes

    def get(self, key: bytes) -> bytes | None:
        changed = self.changed
        return changed[key] if key in changed else self.stored(key)

    def stored(self, key: bytes) -> bytes | None:
        """What the store has, if no deletion of this batch is in front of it."""
        return None if self._ranges and self._in_range(key) else self._store_get(key)

    def _in_range(self, key: bytes) -> bool:
        return any(start <= key < end for start, end in self._ranges)

    def put(self, key: bytes, value: bytes) -> None:
        self.changed[key] = value

    def delete(self, key: bytes) -> None:
        self.changed[key] = None

    def delete_range(self, start: bytes, end: bytes, index: int) -> None:
        """Delete all users' keys from `start` up to `end`, in memory that is bounded.

        Few are deleted one by one; many as a range. Ranges are not always used because each read
        has to look through all that are still in memory: after a thousand of them it takes 80 us
        instead of 1. The effect is the same, so nodes need not agree on the way.
        """
        inside = [key for key in self.changed if start <= key < end]
        stored, is_all = self._stored(start, end)
        self._tell_deleted(inside, stored if is_all else None, index)
        if len(stored) > _FEW_KEYS:
            for key in inside:
                del self.changed[key]
            self._ranges.append((start, end))
        else:
            for key in (*inside, *stored):
                self.changed[key] = None

    def _stored(self, start: bytes, end: bytes) -> tuple[list[bytes], bool]:
        """Return the keys that the store has there, as far as is told, and if that is all."""
        stored: list[bytes] = []
        size = 0
        view = self._store.view()
        try:
            for key, record in view.scan(start, end):
                stored.append(key)
                size += len(key) + len(record)
                if len(stored) > _FEW_KEYS and (len(stored) > _TOLD_KEYS or size > _TOLD_BYTES):
                    return stored, False
        finally:
            view.close()
        return stored, True

    def _tell_deleted(self, inside: list[bytes], stored: list[bytes] | None, index: int) -> None:
        """Note a change for each key that is there now; None: there are too many to tell."""
        if stored is None:
            self.changes.clear()
            self.untold = index
            return
        gone = {key for key in inside if self.changed[key] is not None}
        gone.update(key for key in stored if key not in self.changed and not self._in_range(key))
        self.changes += [Change(key[1:], index, None) for key in sorted(gone)]

    def checkpoint(self, entry: Entry) -> None:
        """Hand out a view of the state as `entry` leaves it, which those after it do not change."""
        if self._on_checkpoint is None:
            return
        self.commit(entry)
        self.changed, self._ranges = {}, []
        self._on_checkpoint(entry.index, self._store.view(bulk=True))

    def commit(self, last: Entry) -> None:
        puts = [(key, value) for key, value in self.changed.items() if value is not None]
        puts.append((APPLIED_KEY, pack_applied(last.index, last.term)))
        deletes = [key for key, value in self.changed.items() if value is None]
        self._store.write(puts, deletes, self._ranges)


def _run(batch: _Batch, entry: Entry) -> Outcome | None:
    """Let one entry take effect in `batch`."""
    if entry.kind != _COMMAND:
        if entry.kind == EntryKind.CONFIG and batch.cluster.expect:
            state_cluster.configuration(batch, membership.decode(entry.data))
        if entry.kind in (EntryKind.NOOP, EntryKind.CONFIG):
            return None
        raise StorageError(
            f"entry {entry.index} is of kind {entry.kind}, which this version does not know:"
            " upgrade hstore on this node"
        )
    try:
        command = commands.decode(entry.data)
    except msgspec.DecodeError as error:
        raise StorageError(
            f"entry {entry.index} holds a command that this version does not know ({error}):"
            " upgrade hstore on this node"
        ) from error
    if isinstance(command, commands.Put):  # Most are: without the call more, and first.
        return _put(batch, entry.index, command)
    if isinstance(command, commands.Checkpoint):
        batch.checkpoint(entry)
    return _take_effect(batch, entry.index, command)


def _take_effect(batch: _Batch, index: int, command: commands.Command) -> Outcome:
    match command:
        case commands.Put():
            return _put(batch, index, command)
        case commands.Delete():
            return _delete(batch, index, command)
        case commands.DeletePrefix(prefix):
            start = records.USER + prefix
            # Every such prefix has an end, because it begins with `USER`.
            batch.delete_range(start, records.prefix_end(start) or records.USER_END, index)
            return Outcome(True, index)
        case commands.Keyed():
            batch.keyed_writes, outcome = idempotency.take_effect_once(
                batch,
                batch.keyed_writes,
                command,
                partial(_take_effect, batch, index, command.command),
            )
            return outcome
        case commands.Checkpoint():
            return Outcome(True, index)
        case _:
            return state_cluster.take_effect(batch, index, command)


def _put(batch: _Batch, index: int, command: commands.Put) -> Outcome:
    key = records.USER + command.key
    changed = batch.changed
    found = changed[key] if key in changed else batch.stored(key)
    if found is None:
        create_revision, revision = index, 0
        allowed = not command.must_exist
    else:
        create_revision, _, revision = records.record_head(command.key, found)
        allowed = True
    if not allowed or (command.cas is not None and command.cas != revision):
        return Outcome(False, revision)
    changed[key] = records.encode_record(create_revision, command.flags, index, command.value)
    batch.changes.append(Change(command.key, index, command.value))
    return Outcome(True, index)


def _delete(batch: _Batch, index: int, command: commands.Delete) -> Outcome:
    key = records.USER + command.key
    found = batch.get(key)
    if found is None:
        return Outcome(False, 0)
    _, _, revision = records.record_head(command.key, found)
    if command.cas is not None and command.cas != revision:
        return Outcome(False, revision)
    batch.delete(key)
    batch.changes.append(Change(command.key, index, None))
    return Outcome(True, index)
