"""The state machine: all that the cluster has agreed on, as the log has made it.

Owns the order in which entries take effect, and the table of all effects. It must be a function of
the log alone: no clock, no randomness, no order that depends on a hash seed, because every node
runs it by itself and all must end with the same bytes (section 2 of the Raft paper, "replicated
state machines"). What each command does is in the module of its table; the layout on disk is in
`records.py`; when to apply is the driver's.

Theory of operation: `apply` runs entries one after the other against a `Batch`, so that each
command sees those before it. Then all effects and the new applied index go to the store as one
atomic write (a `Checkpoint` writes what there is in between, for the view that is taken there):
after a crash the index and the effects agree, and no entry takes effect twice (rules D5, D7).

A new command: its effect goes into the module of the table that it writes, and into `EFFECTS`
there. A new table: a module with `EFFECTS`, and `IN_MEMORY` if it holds something in memory, both
merged below.

Snapshots: `State.snapshot()` is a reader of everything, as of one moment. A sender iterates over
`snapshot().scan(b"")`; a receiver hands the very same pairs to `Storage.begin_install().write()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..errors import StorageError
from ..model import decoded
from ..model.checks import Check
from ..model.commands import Checkpoint, ClusterSettings, Member, Outcome, Put
from ..model.locks import Session
from ..model.services import Registration
from ..raft import membership
from ..raft.entry import Entry, EntryKind
from ..storage.interface import APPLIED_KEY, StateReader, StateStore, unpack_applied
from . import (
    cluster_time,
    idempotency,
    keyed_writes,
    members,
    records,
    sessions,
    transactions,
    user_events,
)
from .batch import Batch, Effects, InMemory, Values
from .catalog import checks, externals, nodes, services, settled
from .catalog import index as catalog_index
from .catalog import results as check_results
from .catalog import writes as catalog_writes
from .catalog.index import CATALOG, CatalogIndex
from .catalog.nodes import MEMBERS
from .catalog.reader import CONSUL_FOLDED, consul_index, nodes_with
from .keyed_writes import KEYED_WRITES, KeyedWrites
from .kv import deletions, holds, keys, locks
from .kv.deletions import DELETIONS
from .kv.key_count import KeyCount
from .kv.keys import put
from .members import CLUSTER, REMOVED
from .reader import KeyReader, Reader, View, find_session
from .records import Item
from .watching.changes import KEYS, History

__all__ = ["EFFECTS", "Item", "KeyReader", "Reader", "State"]

_COMMAND = int(EntryKind.COMMAND)


def _checkpoint(batch: Batch, entry: Entry, _command: Checkpoint) -> Outcome:
    keys.note_change(batch)
    catalog_writes.note_catalog(batch)
    batch.checkpoint(entry)
    return Outcome(True, entry.index)


EFFECTS: Effects = {
    Checkpoint: _checkpoint,
    **keys.EFFECTS,
    **locks.EFFECTS,
    **sessions.EFFECTS,
    **members.EFFECTS,
    **checks.EFFECTS,
    **services.EFFECTS,
    **externals.EFFECTS,
    **check_results.EFFECTS,
    **user_events.EFFECTS,
    **transactions.EFFECTS,
    **idempotency.EFFECTS,
}
"""By type of command: its effect. Every command has exactly one."""

_IN_MEMORY: tuple[InMemory[Any], ...] = (
    *nodes.IN_MEMORY,
    *catalog_index.IN_MEMORY,
    *members.IN_MEMORY,
    *keyed_writes.IN_MEMORY,
    *deletions.IN_MEMORY,
    *keys.IN_MEMORY,
    *holds.IN_MEMORY,
    *sessions.IN_MEMORY,
    *user_events.IN_MEMORY,
)


Tell = Callable[[Sequence[Entry], list[Outcome | None]], None]
"""Called with entries and their outcomes."""


def _tell_nobody(_entries: Sequence[Entry], _outcomes: list[Outcome | None]) -> None:
    """Do nothing: the default of `State.apply`."""


class State:
    """All tables (keys, locks, sessions, members, settings, ...), as the log up to `applied` made them.

    Attributes:
        applied: Index of the last entry that took effect, 0 for none.
        applied_term: Its term.
        cluster: The cluster's id, its settings, how many nodes it waits for. Immutable.
        members: All members by id. Never changed in place: a change makes a new dictionary.
        removed: Ids of members that were removed and can never come back.
        keyed_writes: Which keyed writes are remembered. Immutable.
        history: The latest changes; this node's own, and no part of the replicated state.
        key_count: How many keys users have; likewise.
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
        self._values: Values = {}
        self.history = History()
        self.key_count = KeyCount()
        # `node_numbers`, and what it was made of.
        self._numbers: frozenset[int] = frozenset()
        self._numbers_of: tuple[object, ...] = ()
        self.on_checkpoint: Callable[[int, StateReader], None] | None = None
        self.reload()

    def reload(self) -> None:
        """Read everything anew, after a snapshot was installed under the store."""
        view = self._store.view()
        try:
            self.applied, self.applied_term = unpack_applied(view.get(APPLIED_KEY))
            self._take_over({table: table.load(view) for table in _IN_MEMORY})
        finally:
            view.close()
        self.history.restart(self.applied)
        self.key_count.begin(self._store.view(bulk=True))

    def _take_over(self, values: Values) -> None:
        """Hold these values in memory from now on; as attributes, since every request reads one."""
        self._values = values
        self.cluster = values[CLUSTER]
        self.members = values[MEMBERS]
        self.removed = values[REMOVED]
        self.keyed_writes = values[KEYED_WRITES]
        self._deleted_keys: deletions.Kept = values[DELETIONS].of(KEYS)
        self._holds: holds.Holds = values[holds.HOLDS]
        self._sessions: dict[bytes, int] = values[sessions.SESSION_NODES]
        self._catalog: CatalogIndex = values[CATALOG]

    @property
    def node_numbers(self) -> frozenset[int]:
        """The catalog numbers of all nodes, members or not; another object only after a change."""
        seen = self.members, self._catalog, self._catalog.externals_version
        if seen != self._numbers_of:
            self._numbers_of = seen
            self._numbers = nodes.numbers(self._values)
        return self._numbers

    @property
    def time_ms(self) -> int:
        """The cluster's time, in milliseconds from its beginning. It never falls."""
        return cluster_time.now_ms(self._values)

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

    def session(self, session_id: bytes) -> Session | None:
        """Return a session as it is now, or None."""
        return find_session(self._store.get, session_id)

    @property
    def session_count(self) -> int:
        """How many sessions there are."""
        return len(self._sessions)

    @property
    def lock_count(self) -> int:
        """How many keys are held by sessions."""
        return len(self._holds.by_key)

    def keys_held(self, session_id: bytes) -> int:
        """Return how many keys a session holds now."""
        return self._holds.count(session_id)

    def check(self, node: int, check_id: str) -> Check | None:
        """Return a check of the node with this catalog number as it is now, or None."""
        record = self._store.get(records.check_key(node, check_id))
        return None if record is None else records.decode_check(record)

    def is_so(self, command: Registration) -> bool:
        """Whether a registration would change nothing now."""
        return settled.is_so(self._store.get, self._catalog, command)

    def service_index(self, folded: bytes) -> int:
        """Return the index of the answers about one service now; 0: it has no instance."""
        if folded == CONSUL_FOLDED:
            return consul_index(self._values)
        return self._catalog.service_index(folded)

    @property
    def catalog(self) -> CatalogIndex:
        """What is in memory of the catalog; only read, and as of now."""
        return self._catalog

    def node_name(self, number: int) -> str:
        """Return the name of the node with this catalog number now; empty: there is none."""
        return nodes.name_of(self._values, number)

    def nodes_of_service(self, folded: bytes) -> tuple[int, ...]:
        """Return the numbers of the nodes that have an instance of a service now."""
        return nodes_with(self._values, folded)

    def view(self) -> Reader:
        """Return a reader of what clients read, as of now; the caller closes it."""
        return View(self._store.view(), self._values, self.applied)

    def snapshot(self) -> StateReader:
        """Return a reader of the whole state as of `applied`; the caller closes it.

        Every pair of `scan(b"")` belongs to the snapshot, and they come in an order in which
        the applied index is last: a receiver that misses the end cannot install it.
        """
        return self._store.view(bulk=True)

    def apply(self, entries: Sequence[Entry], tell: Tell = _tell_nobody) -> list[Outcome | None]:
        """Let `entries` take effect, and return the outcome of each.

        None stands for an entry that is not a command. The effects are one atomic write; a
        `Checkpoint` whose view somebody wants ends one, and another begins after it.

        Args:
            entries: Committed and locally durable, from `applied` + 1 on, without a gap.
            tell: Called with the entries and their outcomes when all is decided and `applied` is
                raised, before the effects are written: the log has the entries for good, so clients
                need not wait for that write. It must not read keys.

        Raises:
            StorageError: The store failed, the entries do not continue `applied`, or one is not
                understood by this version: the node must stop, or it would diverge.
        """
        if not entries:
            return []
        batch = Batch(self._store, self._values, EFFECTS, self.on_checkpoint)
        kept = self._deleted_keys
        batch.locks_deleted = kept.with_lock > 0 or kept.lock_floor > 0
        outcomes = []
        expected = self.applied
        for entry in entries:
            expected += 1
            if entry.index != expected:
                raise StorageError(f"entry {entry.index} was given to the state, not {expected}")
            outcomes.append(_run(batch, entry))
        last = entries[-1]
        keys.note_change(batch)
        catalog_writes.note_catalog(batch)
        self.applied, self.applied_term = last.index, last.term
        if batch.values is not self._values:
            self._take_over(batch.values)
        tell(entries, outcomes)
        batch.commit(last)
        if batch.gap:
            self.key_count.begin(self._store.view(bulk=True))
        else:
            self.key_count.add(batch.new_keys)
        self.history.add(batch.changes, last.index, batch.gap, batch.wakes)
        return outcomes


def _run(batch: Batch, entry: Entry) -> Outcome | None:
    """Let one entry take effect in `batch`; None: it is not a command."""
    if entry.kind != _COMMAND:
        _run_other(batch, entry)
        return None
    try:
        command = decoded.decode(entry.data)
    except msgspec.DecodeError as error:
        raise StorageError(
            f"entry {entry.index} holds a command that this version does not know ({error}):"
            " upgrade hstore on this node"
        ) from error
    if isinstance(command, Put):  # Most are: without the look-up and the calls below.
        return put(batch, entry, command)
    # The stamp of the leader, if it is a command that needs the time. Before the effect, which may
    # be undone: time is not.
    cluster_time.advance(batch, getattr(command, "time_ms", 0))
    holds.forget_delays(batch)  # So that those which are over do not count as locks.
    outcome = batch.carry_out(entry, command)
    deletions.make_room(batch)
    return outcome


def _run_other(batch: Batch, entry: Entry) -> None:
    if entry.kind == EntryKind.CONFIG:
        # It is not decoded when the cluster waits for nobody, which is nearly always.
        if batch.value(CLUSTER).expect:
            members.configuration(batch, membership.decode(entry.data))
    elif entry.kind != EntryKind.NOOP:
        raise StorageError(
            f"entry {entry.index} is of kind {entry.kind}, which this version does not know:"
            " upgrade hstore on this node"
        )
