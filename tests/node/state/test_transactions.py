"""Transactions: all or nothing, each operation after those before it, and what they answer."""

from __future__ import annotations

import msgspec
import pytest

from hstore.node.model.commands import (
    Delete,
    DeletePrefix,
    Keyed,
    Operation,
    Outcome,
    Put,
    Transaction,
)
from hstore.node.model.locks import Acquire, Release
from hstore.node.model.transactions import (
    CheckIndex,
    CheckNotExists,
    CheckSession,
    Get,
    GetTree,
    KeyRow,
)
from hstore.node.peers import wire
from hstore.node.raft.entry import Entry
from hstore.node.state import batch as batches
from hstore.node.state import idempotency, transactions
from hstore.node.state.batch import Batch
from hstore.node.state.kv import keys
from hstore.node.state.machine import Reader, State
from hstore.node.state.records import USER
from hstore.node.state.watching.watches import Watches
from tests.node.state.machines import (
    Now,
    copy_of,
    create,
    end,
    everything,
    new_storage,
    run,
    run_one,
    session_id,
    with_sessions,
)

S, T, NOBODY = session_id("s"), session_id("t"), session_id("x")
S_TEXT, NOBODY_TEXT = "73737373-7373-7373-7373-737373737373", "78787878-7878-7878-7878-787878787878"


@pytest.fixture
def machine() -> State:
    """A key `old` of revision 5, and `locked` of S, of revision 6."""
    machine = with_sessions(create("s", "release", 1_000), create("t"))
    run(machine, Put(b"old", b"value", 7), Acquire(b"locked", b"l", 0, S))
    return machine


def transact(machine: State, *operations: Operation) -> Outcome:
    return run_one(machine, Transaction(operations))


def test_all_share_one_revision_and_see_what_is_before_them(machine: State) -> None:
    outcome = transact(
        machine,
        Get(b"old"),
        Put(b"new", b"1", 3),
        Put(b"old", b"2", cas=5),
        CheckIndex(b"old", 7),
        Get(b"old"),
        Acquire(b"lock", b"l", 0, T),
        CheckSession(b"lock", T),
        Release(b"locked", b"r", 0, S),
        Delete(b"new"),
        CheckNotExists(b"new"),
        Get(b"new", or_empty=True),
        GetTree(b"lock"),
        DeletePrefix(b"lock"),
        Delete(b"never was"),
        Delete(b"never was", cas=9),
    )

    assert outcome == Outcome(
        True,
        7,
        rows=(
            KeyRow(b"old", b"value", 7, 0, 5, 5),
            KeyRow(b"new", None, 3, 0, 7, 7),
            KeyRow(b"old", None, 0, 0, 5, 7),
            KeyRow(b"old", None, 0, 0, 5, 7),
            KeyRow(b"old", b"2", 0, 0, 5, 7),
            KeyRow(b"lock", None, 0, 1, 7, 7, T),
            KeyRow(b"lock", None, 0, 1, 7, 7, T),
            KeyRow(b"locked", None, 0, 1, 6, 7),
            KeyRow(b"new", None, 0, 0, 0, 0),
            KeyRow(b"lock", b"l", 0, 1, 7, 7, T),
            KeyRow(b"locked", b"r", 0, 1, 6, 7),
        ),
    )
    with Now(machine) as now:
        assert [item.key for item in now.scan()] == [b"old"]


FAULTS: list[tuple[Operation, str]] = [
    (Put(b"old", b"", cas=9), 'failed to set key "old", index is stale'),
    (Put(b"old", b"", cas=0), 'failed to set key "old", index is stale'),
    (Put(b"none", b"", must_exist=True), 'key "none" doesn\'t exist'),
    (Delete(b"old", cas=9), 'failed to delete key "old", index is stale'),
    (Acquire(b"a", b"", 0, NOBODY), f'invalid session "{NOBODY_TEXT}"'),
    (Acquire(b"locked", b"", 0, T), 'failed to lock key "locked", lock is already held'),
    (
        Release(b"old", b"", 0, S),
        'failed to unlock key "old", lock isn\'t held, or is held by another session',
    ),
    (Get(b"none"), 'key "none" doesn\'t exist'),
    (CheckIndex(b"none", 3), 'failed to check index, key "none" doesn\'t exist'),
    (CheckIndex(b"old", 3), 'failed index check for key "old", current modify index 5 != 3'),
    (CheckSession(b"none", S), 'failed to check session, key "none" doesn\'t exist'),
    (
        CheckSession(b"locked", NOBODY),
        f'failed session check for key "locked", current session "{S_TEXT}" != "{NOBODY_TEXT}"',
    ),
    (
        CheckSession(b"old", S),
        f'failed session check for key "old", current session "" != "{S_TEXT}"',
    ),
    (CheckNotExists(b"old"), 'key "old" exists'),
    (Get(b'"\\\n\x01\x7f\xc3\xa9'), 'key "\\"\\\\\\n\\x01\\x7f\u00e9" doesn\'t exist'),
    (Get(b"k" * 401), f'key "{"k" * 400}\u2026" doesn\'t exist'),
]


@pytest.mark.parametrize(("operation", "text"), FAULTS)
def test_one_fault_undoes_everything_and_is_told_in_consuls_words(
    machine: State, operation: Operation, text: str
) -> None:
    run(machine, Acquire(b"other", b"l", 0, S))
    before = everything(machine)[:-1]

    outcome = transact(
        machine,
        Put(b"new", b"1"),
        Acquire(b"lock", b"", 0, T),
        Release(b"other", b"", 0, S),
        operation,
        Delete(b"old"),
        DeletePrefix(b""),
    )

    assert outcome == Outcome(False, 0, faults=((3, text),))
    assert everything(machine)[:-1] == before
    # Nor is anything left of it in memory.
    assert [run_one(machine, Acquire(b"other", b"", 0, one)).ok for one in (T, S)] == [False, True]
    assert run_one(machine, Acquire(b"lock", b"", 0, S)).ok
    assert everything(machine) == everything(copy_of(machine))


def test_what_one_key_goes_through_is_undone_step_by_step(machine: State) -> None:
    run(machine, Put(b"a", b""), Delete(b"a"))
    deleted = machine.applied
    steps = (Put(b"a", b""), Delete(b"a"), Acquire(b"a", b"", 0, S), DeletePrefix(b"a"))
    before = everything(machine)[:-1]

    assert not transact(machine, *steps, *steps, Get(b"none")).ok

    assert everything(machine)[:-1] == before
    for one in (machine, copy_of(machine)):
        with Now(one) as now:
            assert now.absent_index(b"a") == now.tree_index(b"a") == deleted
            assert now.absent_index(b"aa") == 1
        assert run_one(one, Acquire(b"a", b"", 0, S)).ok
        assert run_one(one, end("s")).ok


def test_every_operation_is_tried_and_every_fault_told(machine: State) -> None:
    outcome = transact(
        machine, Get(b"none"), Put(b"x", b""), CheckNotExists(b"x"), CheckNotExists(b"y")
    )
    assert [number for number, _ in outcome.faults] == [0, 2]
    assert machine.get(b"x") is None


def test_a_write_that_fails_is_tried_once(machine: State, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Put] = []

    def put(batch: Batch, entry: Entry, command: Put) -> Outcome:
        tried.append(command)
        return keys.put(batch, entry, command)

    monkeypatch.setattr(transactions, "put", put)
    operations = Put(b"old", b"x", cas=1), Put(b"none", b"x", must_exist=True), Put(b"old", b"y")
    outcome = transact(machine, *operations)
    assert [number for number, _ in outcome.faults] == [0, 1]
    assert tried == list(operations)


def test_a_lock_delay_is_a_fault(machine: State) -> None:
    run(machine, end("s"))
    outcome = transact(machine, Acquire(b"locked", b"", 0, T))
    assert outcome.faults == ((0, 'failed to lock key "locked" due to lock delay'),)
    assert run_one(machine, Transaction((Acquire(b"locked", b"", 0, T),), 1_000)).ok


def test_a_check_of_no_session_is_of_a_key_that_nobody_holds(machine: State) -> None:
    assert transact(machine, CheckSession(b"old", bytes(16))).ok
    assert not transact(machine, CheckSession(b"locked", bytes(16))).ok


def test_an_answer_is_bounded_in_rows_and_bytes(
    machine: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(machine, *(Put(b"t/%d" % number, b"x" * 10) for number in range(4)))
    monkeypatch.setattr(transactions, "WRITE_ROWS_MAX", 4)
    assert transact(machine, GetTree(b"t/")).ok
    (fault,) = transact(machine, GetTree(b"t/"), Get(b"old")).faults
    assert (fault[0], "too large" in fault[1]) == (1, True)

    monkeypatch.setattr(transactions, "WRITE_ROWS_MAX", 100)
    half = transactions.BYTES_MAX // 2
    run(machine, Put(b"half", bytes(half - 84)))
    assert transact(machine, Get(b"half"), Get(b"half")).ok
    (fault,) = transact(machine, Get(b"half"), Get(b"half"), Get(b"old")).faults
    assert (fault[0], "2,240 KiB" in fault[1]) == (2, True)


def test_one_that_writes_reads_less_than_one_that_only_reads(
    machine: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read in one turn at every node, however many of its operations read."""
    run(machine, *(Put(b"t/%d" % number, b"x") for number in range(3)))
    monkeypatch.setattr(transactions, "WRITE_ROWS_MAX", 10)
    scanned: list[bytes] = []
    scan = transactions._BatchKeys.scan

    def counted(self, prefix):
        for item in scan(self, prefix):
            scanned.append(item.key)
            yield item

    monkeypatch.setattr(transactions._BatchKeys, "scan", counted)
    outcome = transact(machine, Put(b"a", b""), *(GetTree(b"t/"),) * 100)
    assert not outcome.ok
    assert (outcome.faults[0][0], machine.get(b"a")) == (4, None)
    assert outcome.faults[0][1].endswith("; read more in one that only reads")
    assert len(scanned) <= 10 + 100
    with Now(machine) as now:
        assert len(read_out(now, (GetTree(b"t/"),) * 100, 2).rows) == 300


def test_the_largest_answer_fits_into_a_frame_between_nodes() -> None:
    rows = transactions.ROWS_MAX
    most = 2**64 - 1
    for count in (rows, 300, 3):
        value = bytes(transactions.BYTES_MAX // count - 80 - 1)
        row = KeyRow(b"k", value, most, most, most, most, S)
        outcome = msgspec.msgpack.encode(Outcome(True, most, rows=(row,) * count))
        frame = wire.ForwardReply(most, 0, outcome)
        assert len(wire.encode(frame)) < wire.MAX_FRAME


def test_what_is_remembered_with_a_key_is_smaller_and_answered_the_same_again(
    machine: State,
) -> None:
    size = idempotency.ANSWER_BYTES_MAX - len(b"large") - 80
    run(machine, Put(b"large", bytes(size)))
    large = Keyed(b"2", b"d" * 16, Transaction((Put(b"b", b""), Get(b"large"), Get(b"old"))))
    fits = Keyed(b"1", b"d" * 16, Transaction((Get(b"large"),)))
    faulty = Keyed(b"3", b"d" * 16, Transaction((Put(b"c", b""), Get(b"none"))))

    first = run(machine, fits, large, faulty)

    assert [one.ok for one in first] == [True, False, False]
    assert [number for number, _ in first[1].faults] == [1]
    assert (machine.get(b"b"), machine.get(b"c")) == (None, None)
    run(machine, Put(b"large", b"small"), Put(b"none", b""))
    assert run(copy_of(machine), fits, large, faulty) == first
    assert run(machine, fits, large, faulty) == first


def read_out(keys: Reader, operations: tuple[Operation, ...], steps: int = 0) -> Outcome:
    """Read in so many steps beside the last."""
    reading = transactions.read(keys, operations)
    for _ in range(steps):
        next(reading)
    with pytest.raises(StopIteration) as ended:
        next(reading)
    outcome: Outcome = ended.value.value
    return outcome


def test_many_rows_are_read_in_steps(machine: State) -> None:
    for number in range(transactions.ROWS_PER_STEP):
        run(machine, Put(b"many/%03d" % number, b""))
    few = (GetTree(b"many/00"), Get(b"old"))
    with Now(machine) as now:
        assert len(read_out(now, few).rows) == 11
        assert len(read_out(now, (*few, GetTree(b"many/")), 1).rows) == 139
        assert len(read_out(now, (GetTree(b"many/"),) * 3, 3).rows) == 384


def test_one_that_only_reads_is_answered_from_a_reader_the_same_way(machine: State) -> None:
    good: tuple[Operation, ...] = (
        Get(b"old"),
        GetTree(b""),
        Get(b"none", True),
        CheckIndex(b"old", 5),
    )
    bad: tuple[Operation, ...] = (Get(b"none"), CheckNotExists(b"old"), CheckSession(b"locked", S))
    assert all(transactions.is_read(one) for one in (*good, *bad))
    assert not any(transactions.is_read(one) for one in (Put(b"a", b""), DeletePrefix(b"")))
    for operations in (good, bad):
        with Now(machine) as now:
            read = read_out(now, operations)
        assert read == msgspec.structs.replace(transact(machine, *operations), revision=0)


def test_a_watch_gets_all_of_it_together(machine: State) -> None:
    watch = Watches(machine.history).open(b"", None)
    transact(machine, Put(b"b", b"1"), Put(b"a", b"2"), Put(b"b", b"3"), Delete(b"old"))
    run(machine, Put(b"c", b""))
    seen = [(one.key, one.revision, is_last) for one, is_last in watch.take()]
    assert seen == [
        (b"b", 7, False),
        (b"a", 7, False),
        (b"b", 7, False),
        (b"old", 7, True),
        (b"c", 8, True),
    ]


def test_trees_that_one_transaction_deletes_are_read_as_far_as_one_that_is_deleted_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """128 large ones would be two seconds of one turn, at every node."""
    monkeypatch.setattr(batches, "_LISTED_RECORDS", 100)
    monkeypatch.setattr(batches, "_FEW_RECORDS", 4)
    storage = new_storage()
    machine = State(storage.state)
    run(machine, *(Put(b"%d/%d" % divmod(number, 50), b"") for number in range(500)))
    read: list[bytes] = []
    scan = type(storage.state.view()).scan

    def counted(*args):
        for key, value in scan(*args):
            read.append(key)
            yield key, value

    monkeypatch.setattr(type(storage.state.view()), "scan", counted)
    outcome = run_one(
        machine, Transaction(tuple(DeletePrefix(b"%d/" % tree) for tree in range(10)))
    )
    assert outcome.ok
    # Of each: as many as are deleted one by one, and the first, to see whether there is any.
    assert len(read) <= 100 + 10 * (4 + 1 + 1)
    assert not [key for key, _ in everything(machine) if key.startswith(USER)]
