"""The batch: what a savepoint undoes, and that nothing is written while one is open."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hstore.node.model import commands
from hstore.node.model.commands import (
    Checkpoint,
    ClusterSettings,
    Command,
    Delete,
    DeletePrefix,
    InitCluster,
    Keyed,
    Member,
    Put,
    PutMember,
    RemoveMember,
)
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.raft.errors import CoreBug
from hstore.node.state import batch as module
from hstore.node.state.batch import Batch, InMemory, Savepoint
from hstore.node.state.machine import EFFECTS, State
from hstore.node.state.watching.changes import KEYS, Change, Tree
from hstore.node.storage.interface import APPLIED_KEY, Identity, StateReader
from tests.fakes.storage import MemoryDisk, MemoryStorage

COUNTER = InMemory("counter", lambda _: 0)
LAST = Entry(99, 1, EntryKind.NOOP, b"")


def new_storage() -> MemoryStorage:
    storage = MemoryDisk(Identity("00" * 8, 1)).open()
    storage.load()
    return storage


def records(storage: MemoryStorage) -> dict[bytes, bytes]:
    view = storage.state.view()
    try:
        return {key: value for key, value in view.scan(b"") if key != APPLIED_KEY}
    finally:
        view.close()


def new_batch(storage: MemoryStorage) -> Batch:
    return Batch(storage.state, {COUNTER: 0}, EFFECTS)


# --- compared with a model ------------------------------------------------------------------------


@dataclass
class Model:
    """All that a batch is about, copied whole at every savepoint."""

    records: dict[bytes, bytes]
    changes: list[Change] = field(default_factory=list)
    gap: int = 0
    counter: int = 0
    pushed: list[int] = field(default_factory=list)


class Pair:
    """A batch and its model, going through the same steps."""

    def __init__(self, stored: dict[bytes, bytes]) -> None:
        self.storage = new_storage()
        self.storage.state.write(stored.items())
        self.batch = new_batch(self.storage)
        self.model = Model(dict(stored))
        self.savepoints: list[tuple[Savepoint, Model]] = []
        self.index = 0
        self.pushed: list[int] = []

    def do(self, step: tuple[Any, ...]) -> None:
        name, *arguments = step
        self.index += 1
        getattr(self, name)(*arguments)

    def put(self, key: bytes, value: bytes) -> None:
        self.batch.put(key, value)
        self.model.records[key] = value

    def delete(self, key: bytes) -> None:
        self.batch.delete(key)
        self.model.records.pop(key, None)

    def delete_range(self, start: bytes, end: bytes) -> None:
        gone = sorted(key for key in self.model.records if start <= key < end)
        assert self.batch.delete_range(start, end) == gone
        for key in gone:
            del self.model.records[key]

    def change(self, key: bytes) -> None:
        change = Change(KEYS, key, self.index, None)
        self.batch.changes.append(change)
        self.model.changes.append(change)

    def skip(self) -> None:
        change = Tree(KEYS, b"a", self.index, None)
        self.batch.skip_changes(change)
        self.model.changes.append(change)
        self.model.gap = len(self.model.changes)

    def count(self) -> None:
        self.batch.set_value(COUNTER, self.batch.value(COUNTER) + 1)
        self.model.counter += 1

    def push(self) -> None:
        """Change something in place."""
        self.pushed.append(self.index)
        self.batch.undo_by(self.pop)
        self.model.pushed.append(self.index)

    def pop(self) -> None:
        self.pushed.pop()

    def savepoint(self) -> None:
        self.savepoints.append((self.batch.savepoint(), deepcopy(self.model)))

    def rollback(self, levels: int) -> None:
        if levels <= len(self.savepoints):
            savepoint, self.model = self.savepoints[-levels]
            self.batch.rollback(savepoint)
            del self.savepoints[-levels:]

    def release(self, levels: int) -> None:
        if 0 < levels <= len(self.savepoints):
            self.batch.release(self.savepoints[-levels][0])
            del self.savepoints[-levels:]

    def compare(self) -> None:
        found = {key: self.batch.get(key) for key in ALL_KEYS}
        assert {key: value for key, value in found.items() if value} == self.model.records
        assert self.batch.changes == self.model.changes
        assert self.batch.gap == self.model.gap
        assert self.pushed == self.model.pushed
        for start, end in ((b"", b"z"), (b"a", b"b"), (b"aa", b"c")):
            there = [(k, v) for k, v in self.model.records.items() if start <= k < end]
            assert list(self.batch.scan(start, end)) == sorted(there)
        assert self.batch.value(COUNTER) == self.model.counter
        assert (self.batch.undo is None) == (not self.savepoints)


ALL_KEYS = [b"a", b"aa", b"ab", b"b", b"ba", b"c"]
some_key = st.sampled_from(ALL_KEYS)
some_value = st.sampled_from([b"1", b"2", b"3"])
steps = st.one_of(
    st.tuples(st.just("put"), some_key, some_value),
    st.tuples(st.just("delete"), some_key),
    st.tuples(st.just("delete_range"), *[st.sampled_from([b"a", b"aa", b"b", b"c", b"d"])] * 2),
    st.tuples(st.just("change"), some_key),
    st.just(("skip",)),
    st.just(("count",)),
    st.just(("push",)),
    st.just(("savepoint",)),
    st.tuples(st.sampled_from(["rollback", "release"]), st.integers(1, 2)),
)

A: list[tuple[Any, ...]] = [("put", b"a", b"1"), ("change", b"a"), ("count",)]
SAVEPOINT: list[tuple[Any, ...]] = [("savepoint",)]
ROLLBACK: list[tuple[Any, ...]] = [("rollback", 1)]


@given(
    st.dictionaries(some_key, some_value),
    st.lists(steps, min_size=10, max_size=40),
    st.integers(0, 2),
)
@example({}, [*A, *SAVEPOINT, ("skip",), ("change", b"b"), ("count",), *ROLLBACK], 0)
@example({}, [*A, *SAVEPOINT, ("put", b"a", b"2"), ("delete", b"a"), *ROLLBACK], 0)
@example({}, [*SAVEPOINT, *SAVEPOINT, *A, *ROLLBACK, *ROLLBACK], 0)
@example({}, [*SAVEPOINT, *A, *ROLLBACK], 0)
@example({}, [("push",), *SAVEPOINT, ("push",), *SAVEPOINT, ("push",), ("rollback", 2)], 0)
def test_a_rollback_leaves_everything_as_it_was_at_the_savepoint(
    stored: dict[bytes, bytes], given_steps: list[tuple[Any, ...]], few: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEW_RECORDS", few)
        pair = Pair(stored)
        for step in given_steps:
            pair.do(step)
            pair.compare()
        pair.release(len(pair.savepoints))
        pair.batch.commit(LAST)
    assert records(pair.storage) == pair.model.records


def member(node_id: int) -> Member:
    return Member(node_id, "", f"h:{node_id}", f"p:{node_id}", f"d:{node_id}")


EVERY_KIND: list[Command] = [
    Put(b"old", b"2"),
    Put(b"new", b"1"),
    Delete(b"old"),
    DeletePrefix(b""),
    Keyed(b"once", b"d" * 16, Put(b"keyed", b"1"), 5),
    InitCluster("ab" * 8, ClusterSettings(), 3),
    PutMember(member(2)),
    RemoveMember(1),
    commands.ReplaceMember(member(2), 1),
    commands.ChangeSetting("dns_ttl_s", 9),
    commands.ChangeMember(1, name="renamed"),
    commands.BecomeOnly("cd" * 8, 1, (2, 3)),
]


@pytest.mark.parametrize("command", EVERY_KIND, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("few", [0, 1_000], ids=["as a range", "one by one"])
def test_the_effect_of_every_command_can_be_undone(
    command: Command, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FEW_RECORDS", few)
    storage = new_storage()
    state = State(storage.state)
    before = (Put(b"old", b"1"), Put(b"other", b"1"), PutMember(member(1)))
    state.apply(
        [Entry(n, 1, 0, commands.encode(command)) for n, command in enumerate(before, 1)],
    )
    stored = records(storage)
    batch = Batch(storage.state, state._values, EFFECTS)
    entry = Entry(4, 1, EntryKind.COMMAND, b"")
    batch.carry_out(entry, Put(b"other", b"2"))
    values, changes = batch.values, list(batch.changes)

    savepoint = batch.savepoint()
    assert batch.carry_out(entry, command).ok
    batch.rollback(savepoint)

    assert (batch.values, batch.changes) == (values, changes)
    assert list(batch.changed) == [b"kother"]
    batch.commit(entry)
    assert records(storage).keys() == stored.keys()
    assert {key for key, value in records(storage).items() if value != stored[key]} == {b"kother"}


# --- the rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [Batch.rollback, Batch.release])
def test_a_savepoint_ends_once_and_with_it_those_after_it(
    end: Callable[[Batch, Savepoint], None],
) -> None:
    batch = new_batch(new_storage())
    outer, inner = batch.savepoint(), batch.savepoint()
    end(batch, outer)
    again = batch.savepoint()
    for ended in (outer, inner):
        with pytest.raises(CoreBug):
            batch.rollback(ended)
        with pytest.raises(CoreBug):
            batch.release(ended)
    batch.release(again)
    assert batch.undo is None


def test_nothing_is_written_while_it_can_still_be_undone() -> None:
    storage = new_storage()
    views: list[StateReader] = []
    batch = Batch(storage.state, {}, EFFECTS, lambda _, view: views.append(view))
    savepoint = batch.savepoint()
    with pytest.raises(CoreBug):
        batch.commit(LAST)
    with pytest.raises(CoreBug):
        batch.carry_out(LAST, Checkpoint())
    batch.release(savepoint)
    batch.carry_out(LAST, Checkpoint())
    assert [view.get(APPLIED_KEY) is not None for view in views] == [True]
