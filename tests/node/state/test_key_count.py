"""How many keys there are, where counting takes longer than one turn. `test_model.py` has the rest."""

from __future__ import annotations

import pytest

from hstore.node.model.commands import Delete, DeletePrefix, Put, Transaction
from hstore.node.model.locks import Acquire
from hstore.node.state import batch
from hstore.node.state.kv import key_count
from tests.node.state.machines import (
    copy_of,
    create,
    end,
    new_machine,
    run,
    run_one,
    session_id,
    with_sessions,
)

KEYS = [b"k%03d" % number for number in range(100)]


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_count, "AT_ONCE_PAIRS", 10)


def test_a_small_state_is_never_without_its_number():
    machine = new_machine()
    assert machine.key_count.number == 0
    run(machine, *[Put(key, b"") for key in KEYS[:9]])
    assert machine.key_count.number == 9
    machine.reload()
    assert machine.key_count.number == 9


def test_a_large_state_is_counted_in_slices_while_keys_come_and_go():
    machine = new_machine()
    run(machine, *[Put(key, b"") for key in KEYS])
    assert machine.key_count.number == 100
    other = copy_of(machine)
    begun: list[bool] = []
    other.key_count.on_begin = lambda: begun.append(True)
    other.reload()
    assert begun == [True]
    assert other.key_count.number is None
    assert other.key_count.step(30)
    # One that is counted, one that is not, a new one behind, one that is there already.
    run(other, Delete(b"k001"), Delete(b"k099"), Put(b"z", b""), Put(b"k050", b"2"))
    while other.key_count.step(30):
        assert other.key_count.number is None
    assert other.key_count.number == 99


def test_a_slice_ends_after_large_values(monkeypatch):
    machine = new_machine()
    run(machine, *[Put(key, b"v" * 1000) for key in KEYS])
    monkeypatch.setattr(key_count, "_BYTES", 10_000)
    machine.reload()
    steps = 1
    while machine.key_count.step(1000):
        steps += 1
    assert steps == 10
    assert machine.key_count.number == 100


def test_a_large_deletion_by_prefix_is_counted_after(monkeypatch):
    monkeypatch.setattr(batch, "_FEW_RECORDS", 5)
    monkeypatch.setattr(batch, "_LISTED_RECORDS", 20)
    machine = new_machine()
    run(machine, *[Put(key, b"") for key in KEYS])
    run(machine, *[Put(b"o" + key, b"") for key in KEYS])
    run(machine, DeletePrefix(b"k00"))
    assert machine.key_count.number == 190
    # With writes before and after it in the same batch.
    run(machine, Put(b"a", b""), DeletePrefix(b"k"), Put(b"k000", b""), Delete(b"ok090"))
    assert machine.key_count.number is None
    while machine.key_count.step(20):
        pass
    assert machine.key_count.number == 100 + 2 - 1


def test_what_a_transaction_takes_back_does_not_count():
    machine = with_sessions(create("s"))
    run(machine, Put(b"k", b""))
    for first in (Put(b"new", b""), Delete(b"k"), DeletePrefix(b"")):
        assert not run_one(machine, Transaction((first, Put(b"k", b"", 0, cas=9)))).ok
        assert machine.key_count.number == 1


def test_a_key_that_is_made_by_taking_its_lock_counts_once():
    machine = with_sessions(create("s", "delete"))
    assert run_one(machine, Acquire(b"k", b"", 0, session_id("s"))).ok
    assert run_one(machine, Acquire(b"k", b"2", 0, session_id("s"))).ok
    assert run_one(machine, Put(b"k", b"3")).ok
    assert machine.key_count.number == 1
    run(machine, end("s"))
    assert machine.key_count.number == 0
    run(machine, Put(b"k", b""))  # It begins with the lock index that it had.
    assert machine.key_count.number == 1
