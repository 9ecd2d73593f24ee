"""Any sequence of what a node asks of its storage, compared with a few lines of model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hstore.node.raft.entry import Entry, HardState, SnapshotMeta
from hstore.node.storage.interface import APPLIED_KEY, Storage, pack_applied
from hstore.node.storage.rocks import RocksStorage
from tests.fakes.storage import MemoryDisk

from .conftest import CACHE_BYTES, IDENTITY

payloads = st.lists(st.binary(max_size=300), max_size=5)


class StorageMachine(RuleBasedStateMachine):
    """The model: a list, a hard state, a snapshot, a dictionary."""

    def open(self) -> Storage:
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.storage = self.open()
        self.storage.load()
        self.hard_state = HardState()
        self.snapshot = (0, 0)
        self.log: list[Entry] = []
        self.applied = 0
        self.keys: dict[bytes, bytes] = {}

    def last(self) -> int:
        return self.snapshot[0] + len(self.log)

    def term_at(self, index: int) -> int:
        return self.snapshot[1] if index == self.snapshot[0] else self.entry(index).term

    def entry(self, index: int) -> Entry:
        return self.log[index - self.snapshot[0] - 1]

    def fixed(self) -> int:
        return max(self.snapshot[0], self.applied, self.hard_state.commit)

    @rule(
        data=st.data(),
        new=payloads,
        with_hard_state=st.booleans(),
        vote=st.integers(0, 3),
        truncate=st.booleans(),
    )
    def append(
        self,
        data: st.DataObject,
        new: list[bytes],
        with_hard_state: bool,
        vote: int,
        truncate: bool,
    ) -> None:
        start = self.last() + 1
        if truncate:
            start = data.draw(st.integers(self.fixed() + 1, self.last() + 1), "truncate_from")
        term = max(1, self.hard_state.term, self.term_at(start - 1)) + truncate
        entries = [Entry(start + i, term, i % 3, payload) for i, payload in enumerate(new)]
        hard_state = None
        last = start - 1 + len(entries)
        if with_hard_state:
            commit = data.draw(st.integers(self.hard_state.commit, last + 2), "commit")
            if term == self.hard_state.term and self.hard_state.vote:
                vote = self.hard_state.vote  # No core takes a vote back; a disk that does, lies.
            hard_state = HardState(term, vote, commit)

        self.storage.append(hard_state, start if truncate else None, entries)

        self.log = self.log[: start - 1 - self.snapshot[0]] + entries
        if hard_state is not None:
            self.hard_state = HardState(term, vote, min(hard_state.commit, last))

    @precondition(lambda self: self.applied < self.last())
    @rule(data=st.data(), key=st.binary(max_size=3), value=st.none() | st.binary(max_size=5))
    def apply(self, data: st.DataObject, key: bytes, value: bytes | None) -> None:
        self.applied = data.draw(st.integers(self.applied + 1, self.last()), "applied")
        done = (APPLIED_KEY, pack_applied(self.applied, self.entry(self.applied).term))
        key = b"k" + key
        if value is None:
            self.storage.state.write([done], [key])
            self.keys.pop(key, None)
        else:
            self.storage.state.write([(key, value), done])
            self.keys[key] = value

    @rule(start=st.binary(max_size=2), end=st.binary(max_size=2))
    def delete_range(self, start: bytes, end: bytes) -> None:
        start, end = sorted((b"k" + start, b"k" + end))
        self.storage.state.write([], [], [(start, end)])
        self.keys = {k: v for k, v in self.keys.items() if not start <= k < end}

    @precondition(lambda self: self.snapshot[0] < self.applied)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.snapshot[0] + 1, self.applied), "compact")
        term = self.entry(index).term
        self.storage.compact(SnapshotMeta(index, term))
        self.log = self.log[index - self.snapshot[0] :]
        self.snapshot = (index, term)

    @rule(ahead=st.integers(1, 5), keys=st.dictionaries(st.binary(max_size=3), st.binary()))
    def install(self, ahead: int, keys: dict[bytes, bytes]) -> None:
        index, term = self.last() + ahead, self.hard_state.term + 1
        self.keys = {b"k" + key: value for key, value in keys.items()}
        staged = self.storage.begin_install()
        staged.write(sorted(self.keys.items()))
        staged.write([(APPLIED_KEY, pack_applied(index, term))])
        meta = SnapshotMeta(index, term, chain=b"%016d" % index)
        self.storage.install(staged, meta, HardState(term, 0, 0))
        self.snapshot, self.log, self.applied = (index, term), [], index
        self.hard_state = HardState(term, 0, index)

    @rule()
    def abandon_an_install(self) -> None:
        self.storage.begin_install().write([(b"left over", b"")])

    @rule()
    def flush(self) -> None:
        trio.run(self.storage.flush)

    @rule()
    def reopen(self) -> None:
        trio.run(self.storage.close)
        self.storage = self.open()
        self.storage.load()

    @invariant()
    def is_as_the_model_says(self) -> None:
        recovered = self.storage.load()
        self.hard_state = recovered_hard_state = HardState(
            self.hard_state.term,
            self.hard_state.vote,
            max(self.hard_state.commit, self.applied),
        )
        assert recovered.hard_state == recovered_hard_state
        assert (recovered.snapshot.index, recovered.snapshot.term) == self.snapshot
        assert recovered.entries == self.log
        assert recovered.applied == self.applied
        view = self.storage.state.view()
        assert list(view.scan(b"k", b"l")) == sorted(self.keys.items())
        view.close()

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            trio.run(self.storage.close)


class RocksMachine(StorageMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        RocksStorage.create(Path(self.directory.name), IDENTITY)

    def open(self) -> Storage:
        return RocksStorage.open(Path(self.directory.name), cache_bytes=CACHE_BYTES)

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


class MemoryMachine(StorageMachine):
    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryDisk(IDENTITY)

    def open(self) -> Storage:
        return self.disk.open()


@pytest.mark.parametrize(("machine", "examples"), [(RocksMachine, 25), (MemoryMachine, 100)])
def test_any_sequence_of_operations_leaves_what_the_model_has(
    machine: type[StorageMachine], examples: int
) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )
