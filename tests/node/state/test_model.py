"""Keys, locks, delays, sessions, transactions and deletions, against a plain model of all of them.

The model knows no batches, records, savepoints or look-ups. One machine is fed entry by entry, another
in batches, with restarts and snapshots in between; both have to be what the model says, and equal to
each other byte by byte. Bounds are small, so that they are reached all the time.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hstore.node.model.checks import SetCheck
from hstore.node.model.commands import (
    Checkpoint,
    Command,
    Delete,
    DeletePrefix,
    Denial,
    Keyed,
    Operation,
    Outcome,
    Put,
    PutMember,
    Transaction,
)
from hstore.node.model.locks import Acquire, CreateSession, EndSession, Release, Session
from hstore.node.model.transactions import (
    CheckIndex,
    CheckNotExists,
    CheckSession,
    Get,
    GetTree,
    KeyRow,
)
from hstore.node.model.user_events import FireEvent, UserEvent
from hstore.node.state import batch, sessions, user_events
from hstore.node.state.intact import StateCheck
from hstore.node.state.kv import deletions, holds, key_count, latest, locks
from hstore.node.state.machine import State
from hstore.node.state.records import Item
from hstore.node.state.watching.changes import EVENTS, KEYS, NODE_SESSIONS, SESSIONS
from hstore.node.state.watching.watches import Watches
from tests.node.state.machines import (
    NODE,
    Now,
    copy_of,
    create,
    end,
    everything,
    log,
    member,
    new_machine,
    run,
    serf_health,
    session_id,
)

KEPT_MAX, SESSIONS_MAX, SESSION_KEYS_MAX, LOCKS_MAX, EVENTS_MAX = 5, 3, 2, 4, 2
FORGOTTEN_AT_ONCE = 1

NAMES = [b"a", b"aa", b"ab", b"b", b"ba"]
PREFIXES = [b"", b"a", b"aa", b"b", b"c"]
LETTERS = "stuv"


@dataclass(frozen=True)
class Gone:
    index: int
    name: bytes
    is_prefix: bool
    lock_index: int

    def covers(self, key: bytes) -> bool:
        return key.startswith(self.name) if self.is_prefix else key == self.name

    def overlaps(self, prefix: bytes) -> bool:
        return self.name.startswith(prefix) or (self.is_prefix and prefix.startswith(self.name))


@dataclass
class Graves:
    """The deletions of one table."""

    kept: list[Gone] = field(default_factory=list)
    floor: int = 0
    lock_floor: int = 0

    def make_room(self) -> None:
        if len(self.kept) > KEPT_MAX:
            cut = self.kept[len(self.kept) // 2 - 1].index
            gone = [one for one in self.kept if one.index <= cut]
            self.kept = self.kept[len(gone) :]
            self.floor = cut
            self.lock_floor = max([self.lock_floor, *(one.lock_index for one in gone)])

    def latest(self, key: bytes) -> Gone | None:
        found = [one for one in self.kept if one.covers(key)]
        return found[-1] if found else None

    def index(self, key: bytes) -> int:
        found = self.latest(key)
        return max(1, found.index if found else self.floor)

    def tree_index(self, prefix: bytes) -> int:
        return max([1, self.floor, *(one.index for one in self.kept if one.overlaps(prefix))])


class Fault(Exception):
    pass


@dataclass
class Model:
    """All of it, as plain as can be."""

    time_ms: int = 0
    keys: dict[bytes, Item] = field(default_factory=dict)
    graves: Graves = field(default_factory=Graves)
    session_graves: Graves = field(default_factory=Graves)
    sessions: dict[bytes, Session] = field(default_factory=dict)
    sessions_index: int = 1
    delays: dict[bytes, int] = field(default_factory=dict)
    greatest_lock: int = 0
    key_change: int = 1
    events: list[int] = field(default_factory=list)
    answers: dict[bytes, Outcome] = field(default_factory=dict)
    changed: set[tuple[int, bytes]] = field(default_factory=set)

    def apply(self, index: int, command: Command) -> Outcome:
        self.changed = set()
        self.time_ms = max(self.time_ms, getattr(command, "time_ms", 0))
        outcome = self.carry(index, command)
        if not isinstance(command, Put):
            self.graves.make_room()
            self.session_graves.make_room()
            over = sorted((end, key) for key, end in self.delays.items() if end <= self.time_ms)
            for _, key in over[:FORGOTTEN_AT_ONCE]:
                del self.delays[key]
        return outcome

    def carry(self, index: int, command: Any) -> Outcome:
        if isinstance(command, Keyed):
            if command.key not in self.answers:
                self.answers[command.key] = self.carry(index, command.command)
            return self.answers[command.key]
        if isinstance(command, Transaction):
            return self.transact(index, command)
        outcome: Outcome = getattr(self, type(command).__name__.lower())(index, command)
        return outcome

    # -- keys --

    def begin(self, index: int, key: bytes) -> Item:
        latest_ = self.graves.latest(key)
        lock = latest_.lock_index if latest_ else self.graves.lock_floor
        return Item(key, b"", 0, index, 0, lock)

    def write(self, index: int, item: Item, command: Any, **changes: Any) -> Outcome:
        made = {"value": command.value, "flags": command.flags, "revision": index, **changes}
        fields = {name: getattr(item, name) for name in item.__struct_fields__}
        self.keys[item.key] = Item(**{**fields, **made})
        self.note(index, item.key)
        return Outcome(True, index)

    def note(self, index: int, key: bytes) -> None:
        self.key_change = index
        self.changed.add((KEYS, key))

    def put(self, index: int, command: Put) -> Outcome:
        item = self.keys.get(command.key)
        revision = item.revision if item else 0
        if (command.must_exist and not item) or command.cas not in (None, revision):
            return Outcome(False, revision)
        return self.write(index, item or self.begin(index, command.key), command)

    def delete(self, index: int, command: Delete) -> Outcome:
        item = self.keys.get(command.key)
        if item is None or command.cas not in (None, item.revision):
            return Outcome(False, item.revision if item else 0)
        self.remove(index, item)
        return Outcome(True, index)

    def remove(self, index: int, item: Item) -> None:
        del self.keys[item.key]
        self.graves.kept.append(Gone(index, item.key, False, item.lock_index))
        self.note(index, item.key)

    def deleteprefix(self, index: int, command: DeletePrefix) -> Outcome:
        gone = [key for key in self.keys if key.startswith(command.prefix)]
        for key in gone:
            del self.keys[key]
            self.note(index, key)
        if gone:
            self.graves.kept.append(Gone(index, command.prefix, True, self.greatest_lock))
        return Outcome(True, index)

    # -- locks --

    def held(self, session: bytes) -> list[bytes]:
        return sorted(item.key for item in self.keys.values() if item.session == session)

    def acquire(self, index: int, command: Acquire) -> Outcome:
        if command.session not in self.sessions:
            return Outcome(False, 0, denial=Denial.NO_SESSION)
        item = self.keys.get(command.key)
        revision = item.revision if item else 0
        item = item or self.begin(index, command.key)
        lock_index = item.lock_index
        if item.session != command.session:
            if item.session:
                return Outcome(False, revision)
            if self.time_ms < self.delays.get(command.key, 0):
                return Outcome(False, revision, locks.DELAYED)
            locked = sum(1 for one in self.keys.values() if one.session) + len(self.delays)
            if len(self.held(command.session)) >= SESSION_KEYS_MAX or locked >= LOCKS_MAX:
                return Outcome(False, revision, denial=Denial.LIMIT)
            lock_index += 1
            self.greatest_lock = max(self.greatest_lock, lock_index)
        return self.write(index, item, command, lock_index=lock_index, session=command.session)

    def release(self, index: int, command: Release) -> Outcome:
        item = self.keys.get(command.key)
        if item is None or item.session != command.session:
            return Outcome(False, item.revision if item else 0)
        return self.write(index, item, command, session=b"")

    # -- sessions --

    def createsession(self, index: int, command: CreateSession) -> Outcome:
        session = command.session
        if session.id in self.sessions:
            return Outcome(False, 0, denial=Denial.SESSION_REFUSED)
        if len(self.sessions) >= SESSIONS_MAX:
            return Outcome(False, 0, denial=Denial.LIMIT)
        self.sessions[session.id] = session
        self.note_session(index, session.id)
        return Outcome(True, index)

    def note_session(self, index: int, session: bytes) -> None:
        self.sessions_index = index
        self.changed |= {(SESSIONS, session), (NODE_SESSIONS, NODE.to_bytes(8, "big"))}

    def endsession(self, index: int, command: EndSession) -> Outcome:
        session = self.sessions.pop(command.id, None)
        if session is None:
            return Outcome(False, 0)
        for key in self.held(command.id):
            item = self.keys[key]
            if session.behavior == "delete":
                self.remove(index, item)
            else:
                self.write(index, item, item, session=b"")
            if session.lock_delay_ns:
                self.delays[key] = self.time_ms + session.lock_delay_ns // 1_000_000
        self.session_graves.kept.append(Gone(index, command.id, False, 0))
        self.note_session(index, command.id)
        return Outcome(True, index)

    # -- the rest --

    def checkpoint(self, index: int, _command: Checkpoint) -> Outcome:
        return Outcome(True, index)

    def fireevent(self, index: int, _command: FireEvent) -> Outcome:
        self.events = [*self.events, index][-EVENTS_MAX:]
        self.changed.add((EVENTS, b""))
        return Outcome(True, index)

    def transact(self, index: int, command: Transaction) -> Outcome:
        before = copy.deepcopy(self)
        faults, rows = [], []
        for number, operation in enumerate(command.operations):
            try:
                rows += self.operate(index, operation)
            except Fault:
                faults.append((number, ""))
        if faults:
            vars(self).update(vars(before))
            return Outcome(False, 0, faults=tuple(faults))
        return Outcome(True, index, rows=tuple(rows))

    def operate(self, index: int, operation: Operation) -> list[KeyRow]:
        if isinstance(operation, GetTree):
            found = sorted(key for key in self.keys if key.startswith(operation.prefix))
            return [row(self.keys[key], self.keys[key].value) for key in found]
        if isinstance(operation, (Get, CheckIndex, CheckSession, CheckNotExists)):
            return self.look(operation, self.keys.get(operation.key))
        outcome = self.carry(index, operation)
        if isinstance(operation, (Put, Acquire, Release)):
            if not outcome.ok:
                raise Fault
            return [row(self.keys[operation.key])]
        if not outcome.ok and outcome.revision:
            raise Fault
        return []

    def look(
        self, operation: Get | CheckIndex | CheckSession | CheckNotExists, item: Item | None
    ) -> list[KeyRow]:
        match operation:
            case Get(key):
                if item is None and not operation.or_empty:
                    raise Fault
                return [row(item, item.value) if item else KeyRow(key, None, 0, 0, 0, 0)]
            case CheckIndex(_, wanted):
                is_so = item is not None and item.revision == wanted
            case CheckSession(_, session):
                is_so = item is not None and item.session == session
            case CheckNotExists():
                is_so = item is None
        if not is_so:
            raise Fault
        return [row(item)] if item else []


def row(item: Item, value: bytes | None = None) -> KeyRow:
    return KeyRow(
        item.key, value, item.flags, item.lock_index, item.create_revision, item.revision,
        item.session,
    )  # fmt: skip


# -- what is tried ---------------------------------------------------------------------------------

some_name, some_prefix = st.sampled_from(NAMES), st.sampled_from(PREFIXES)
some_session = st.sampled_from(LETTERS).map(session_id)
some_value = st.sampled_from([b"", b"1", b"2"])
some_time = st.integers(0, 60)
some_index = st.sampled_from([0, 4, 5, 6, 7, 8])
writes = st.one_of(
    st.builds(Put, some_name, some_value, st.integers(0, 3), st.none() | some_index, st.booleans()),
    st.builds(Put, some_name, some_value),
    st.builds(Delete, some_name, st.none() | some_index),
    st.builds(DeletePrefix, some_prefix),
)
locking = st.one_of(
    st.builds(Acquire, some_name, some_value, st.just(0), some_session, some_time),
    st.builds(Acquire, some_name, some_value, st.just(0), some_session, some_time),
    st.builds(Release, some_name, some_value, st.just(0), some_session),
)
reads = st.one_of(
    st.builds(Get, some_name, st.booleans()),
    st.builds(GetTree, some_prefix),
    st.builds(CheckIndex, some_name, some_index),
    st.builds(CheckSession, some_name, some_session),
    st.builds(CheckNotExists, some_name),
)
transacting = st.builds(
    Transaction,
    st.one_of(
        st.lists(writes | locking, min_size=1, max_size=4),
        st.lists(writes | locking | reads, min_size=1, max_size=4),
    ).map(tuple),
    some_time,
)
of_sessions = st.one_of(
    st.builds(
        create,
        st.sampled_from(LETTERS),
        st.sampled_from(["release", "delete"]),
        st.sampled_from([0, 5, 30]),
    ),
    st.builds(end, st.sampled_from(LETTERS), some_time),
)
once = st.builds(
    Keyed,
    st.sampled_from([b"x", b"y"]),
    st.just(b"d" * 16),
    writes | locking | of_sessions | transacting,
    some_time,
)
others = st.just(Checkpoint()) | st.just(FireEvent(UserEvent(b"e" * 16, "deploy", b"")))
anything = st.one_of(writes, locking, locking, transacting, of_sessions, of_sessions, once, others)


class Pair:
    """Two machines and the model, and who waits at the first machine."""

    def __init__(self) -> None:
        self.model = Model()
        self.one, self.other = new_machine(), new_machine()
        self.batch: list[Command] = []
        self.watches = Watches(self.one.history)
        self.woken: set[tuple[int, bytes, bool]] = set()
        self.indexes: dict[tuple[str, bytes], int] = {}
        self.lock_indexes: dict[bytes, int] = {}
        for command in (PutMember(member(NODE)), serf_health()):
            self.apply(command)
        for name in NAMES:
            self.wait(KEYS, name)
        for prefix in PREFIXES:
            self.wait(KEYS, prefix, is_prefix=True)
        for letter in LETTERS:
            self.wait(SESSIONS, session_id(letter))
        self.wait(NODE_SESSIONS, NODE.to_bytes(8, "big"))
        self.wait(EVENTS, b"")

    def wait(self, table: Any, key: bytes, *, is_prefix: bool = False) -> None:
        def call() -> None:
            self.woken.add((table, key, is_prefix))
            self.wait(table, key, is_prefix=is_prefix)

        self.watches.once(table, key, call, is_prefix=is_prefix)

    def apply(self, command: Command) -> None:
        self.batch.append(command)
        self.woken.clear()
        (outcome,) = self.one.apply(log(command, first=self.one.applied + 1))
        if isinstance(command, (PutMember, SetCheck)):
            return
        expected = self.model.apply(self.one.applied, command)
        assert outcome is not None
        assert outcome.ok == expected.ok, (outcome, expected)
        assert outcome.revision == expected.revision
        assert outcome.denial == expected.denial
        assert [number for number, _ in outcome.faults] == [n for n, _ in expected.faults]
        assert outcome.rows == expected.rows
        self.check(self.one)
        self.check_woken(command)
        self.check_indexes()

    def check_woken(self, command: Command) -> None:
        """Those whose result changed, and after deletions that are not listed those they cover."""
        due = {(table, key, False) for table, key in self.model.changed}
        due |= {
            (KEYS, prefix, True)
            for prefix in PREFIXES
            if any(table == KEYS and key.startswith(prefix) for table, key in self.model.changed)
        }
        over = set()
        for prefix in deleted_prefixes(command):
            over |= {(KEYS, name, False) for name in NAMES if name.startswith(prefix)}
            over |= {
                (KEYS, one, True)
                for one in PREFIXES
                if one.startswith(prefix) or prefix.startswith(one)
            }
        assert due <= self.woken <= due | (over if self.model.changed else set())

    def check_indexes(self) -> None:
        """None ever falls."""
        model = self.model
        for name in NAMES:
            item = model.keys.get(name)
            self.raise_to(("key", name), item.revision if item else model.graves.index(name))
            if item:
                assert item.lock_index >= self.lock_indexes.get(name, 0)
                self.lock_indexes[name] = item.lock_index
        for prefix in PREFIXES:
            under = [i.revision for key, i in model.keys.items() if key.startswith(prefix)]
            self.raise_to(("tree", prefix), max([model.graves.tree_index(prefix), *under]))

    def raise_to(self, question: tuple[str, bytes], index: int) -> None:
        assert index >= self.indexes.get(question, 0)
        self.indexes[question] = index

    def check(self, machine: State) -> None:
        """Whether a machine is what the model says."""
        model = self.model
        with Now(machine) as now:
            assert {item.key: item for item in now.scan()} == model.keys
            assert machine.key_count.number in (None, len(model.keys))
            assert now.key_change_index == model.key_change
            for name in NAMES:
                assert now.get(name) == machine.get(name) == model.keys.get(name)
                assert now.absent_index(name) == model.graves.index(name)
            for prefix in PREFIXES:
                assert now.tree_index(prefix) == model.graves.tree_index(prefix)
            assert [one.id for one in now.sessions()] == sorted(model.sessions)
            assert list(now.sessions(NODE)) == list(now.sessions())
            assert now.sessions_index() == now.sessions_index(NODE) == model.sessions_index
            for letter in LETTERS:
                found = now.session(session_id(letter))
                assert (found is not None) == (session_id(letter) in model.sessions)
                if found is None:
                    index = model.session_graves.index(session_id(letter))
                    assert now.session_index(session_id(letter)) == index
                else:
                    assert now.session_index(session_id(letter)) == found.modify_index
            assert [event.index for event in now.events()] == model.events
            assert now.events_index() == max([1, *model.events])

    def count(self) -> None:
        """Let both count some of the keys, where they have to."""
        for machine in (self.one, self.other):
            machine.key_count.step(1)

    def check_counts(self) -> None:
        """Let both count all that is left."""
        for machine in (self.one, self.other):
            while machine.key_count.step(2):
                assert machine.key_count.number is None
            assert machine.key_count.number == len(self.model.keys)

    def flush(self) -> None:
        """Feed the other machine with what it has missed, in one batch."""
        if self.batch:
            run(self.other, *self.batch)
            self.batch = []
        self.check(self.other)
        assert everything(self.other) == everything(self.one)


def deleted_prefixes(command: Command) -> list[bytes]:
    if isinstance(command, Keyed):
        return deleted_prefixes(command.command)
    operations = command.operations if isinstance(command, Transaction) else (command,)
    return [one.prefix for one in operations if isinstance(one, DeletePrefix)]


def small(patch: pytest.MonkeyPatch, few: int, listed: int) -> None:
    patch.setattr(deletions, "KEPT_MAX", KEPT_MAX)
    patch.setattr(latest, "_BUCKET_NAMES", 2)
    patch.setattr(sessions, "SESSIONS_MAX", SESSIONS_MAX)
    patch.setattr(locks, "SESSION_KEYS_MAX", SESSION_KEYS_MAX)
    patch.setattr(locks, "LOCKS_MAX", LOCKS_MAX)
    patch.setattr(holds, "_FORGOTTEN_AT_ONCE", FORGOTTEN_AT_ONCE)
    patch.setattr(user_events, "EVENTS_MAX", EVENTS_MAX)
    patch.setattr(key_count, "AT_ONCE_PAIRS", 1)
    patch.setattr(batch, "_FEW_RECORDS", few)
    patch.setattr(batch, "_LISTED_RECORDS", listed)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            anything, anything, anything, st.sampled_from(["flush", "restart", "snapshot", "count"])
        ),
        min_size=40,
        max_size=80,
    ),
    st.sampled_from([(1_000, 10_000), (0, 10_000), (0, 1)]),
)
def test_the_state_is_what_a_plain_model_says_on_every_node(
    steps: list[Command | str], bounds: tuple[int, int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        small(patch, *bounds)
        pair = Pair()
        begin: list[Command] = [create("s", "release", 30), create("t", "delete", 5)]
        for step in [*begin, *steps]:
            if not isinstance(step, str):
                pair.apply(step)
                continue
            if step == "count":
                pair.count()
                continue
            pair.flush()
            if step == "restart":
                pair.other.reload()
            elif step == "snapshot":
                check = StateCheck()
                check.take(everything(pair.other))
                check.end(pair.other.applied, pair.other.applied_term)
                pair.other = copy_of(pair.one)
            pair.check(pair.other)
        pair.flush()
        pair.check_counts()
