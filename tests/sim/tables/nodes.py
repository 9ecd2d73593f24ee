"""The real state machine of each core's node, in runs whose commands are those of real clients.

The registers of `machine.py` are written as in other runs: the command comes after theirs, in the
same entry. What the state machine keeps travels with the registers (`Content.pairs`): to the disk,
which may lose the last of it, and in snapshots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hstore.node.model import user_events as model
from hstore.node.model.services import INSTANCES_MAX
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.state import batch, user_events
from hstore.node.state.catalog import services
from hstore.node.state.kv import deletions
from hstore.node.state.machine import State

from ..machine import HEAD_BYTES, Pairs
from ..options import DELETIONS_MAX
from .draws import Draws
from .judge import Judge, Onlooker
from .store import DictStore

if TYPE_CHECKING:
    from ..simulation import Simulation


class Tables:
    """The tables of one run."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self.draws = Draws(seed, has_services=sim.options.services_max > 0)
        self.judge = Judge(sim.fail, sim.counts, sim.options.deletions_max)

    def command(self, rid: int) -> bytes:
        """Return the command of a proposal."""
        return self.draws.command(rid, self.judge.book.last, self.sim.now)


class NodeTables:
    """Those of one life of a node."""

    def __init__(self, tables: Tables, who: int, pairs: Pairs) -> None:
        self._judge = tables.judge
        self._who = who
        self._store = DictStore(pairs)
        self._state = State(self._store)
        self._onlooker = Onlooker(tables.judge, who, self._state)

    def apply(self, entries: Sequence[Entry]) -> Pairs:
        """Apply a batch; return what is to be kept."""
        carried = [_carried(entry) for entry in entries]
        for entry, outcome in zip(carried, self._state.apply(carried), strict=True):
            self._judge.applied(self._who, entry, outcome)
        self._onlooker.look()
        return tuple(self._store.data.items())

    def install(self, pairs: Pairs) -> None:
        """Go on with the state of another node."""
        self._store.data = dict(pairs)
        self._state.reload()
        self._onlooker.look(is_new=True)


def _carried(entry: Entry) -> Entry:
    """Return an entry without the command of the registers."""
    if entry.kind != EntryKind.COMMAND:
        return entry
    return Entry(entry.index, entry.term, entry.kind, entry.data[HEAD_BYTES:])


_FEW = {
    "SERVICES_OF_NODE_MAX": 3,
    "EXTERNAL_NODES_MAX": 3,
    "CHECKS_OF_SERVICE_MAX": 2,
    "CHECKS_OF_NODE_MAX": 5,
}
"""Bounds that a run reaches."""


@contextmanager
def small_bounds(deletions_max: int, events_max: int, services_max: int = 0) -> Iterator[None]:
    """Have every table keep little, so that the floor rises in a run of seconds."""
    changes: list[tuple[Any, str, int]] = [
        # Few keys are enough for a deletion to be one range, in most runs.
        (batch, "_FEW_RECORDS", 1 if deletions_max < DELETIONS_MAX else batch._FEW_RECORDS),
        (deletions, "KEPT_MAX", deletions_max),
        (user_events, "EVENTS_MAX", events_max),
        (model, "EVENTS_MAX", events_max),
    ]
    if 0 < services_max < INSTANCES_MAX:
        changes += [(services, name, value) for name, value in _FEW.items()]
        changes.append((services, "INSTANCES_MAX", services_max))
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
