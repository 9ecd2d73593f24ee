"""Locks on keys, session by session: who gets one, what it leaves, and for how long nobody gets it."""

from __future__ import annotations

import pytest

from hstore.node.model.commands import (
    Delete,
    DeletePrefix,
    Denial,
    Keyed,
    Outcome,
    Put,
    Transaction,
)
from hstore.node.model.locks import Acquire, Release
from hstore.node.state.kv import deletions, holds, locks
from hstore.node.state.machine import State
from hstore.node.state.records import Item
from tests.node.state.machines import (
    copy_of,
    create,
    end,
    everything,
    run,
    run_one,
    session_id,
    with_sessions,
)

S, T = session_id("s"), session_id("t")


@pytest.fixture
def machine() -> State:
    return with_sessions(create("s"), create("t"))


def take(name: bytes = b"a", session: bytes = S, value: bytes = b"1", time_ms: int = 0) -> Acquire:
    return Acquire(name, value, 7, session, time_ms)


def lock_of(machine: State, name: bytes = b"a") -> tuple[int, bytes]:
    item = machine.get(name)
    assert item is not None
    return item.lock_index, item.session


def test_one_session_gets_the_lock_and_writes_and_the_other_does_not(machine: State) -> None:
    at = machine.applied + 1

    assert run(machine, take(), take(session=T, value=b"2")) == [
        Outcome(True, at),
        Outcome(False, at),
    ]

    assert machine.get(b"a") == Item(b"a", b"1", 7, at, at, 1, S)


def test_who_holds_a_lock_writes_again_and_its_lock_index_stays(machine: State) -> None:
    run(machine, take(), take(value=b"2"))

    assert lock_of(machine) == (1, S)
    assert machine.get(b"a") == Item(b"a", b"2", 7, 5, 6, 1, S)


def test_the_lock_index_counts_holders(machine: State) -> None:
    run(machine, take(), Release(b"a", b"", 0, S), take(session=T))
    assert lock_of(machine) == (2, T)

    assert not run_one(machine, Release(b"a", b"", 0, S)).ok
    assert run_one(machine, Release(b"a", b"x", 0, T)).ok
    assert lock_of(machine) == (2, b"")
    assert not run_one(machine, Release(b"a", b"", 0, T)).ok
    assert run_one(machine, Release(b"none", b"", 0, T)) == Outcome(False, 0)


def test_a_lock_needs_a_session(machine: State) -> None:
    refused = Outcome(False, 0, denial=Denial.NO_SESSION)
    assert run_one(machine, take(session=session_id("x"))) == refused
    assert run_one(machine, take(session=bytes(16))) == refused
    assert not run_one(machine, Release(b"a", b"", 0, bytes(16))).ok


def test_what_needs_no_lock_ignores_it_and_keeps_it(machine: State) -> None:
    run(machine, take(), Put(b"a", b"2", 1))
    assert machine.get(b"a") == Item(b"a", b"2", 1, 5, 6, 1, S)

    assert run_one(machine, Put(b"a", b"3", cas=5)) == Outcome(False, 6)
    assert run_one(machine, Put(b"a", b"3", cas=6)).ok
    assert run_one(machine, Put(b"none", b"3", must_exist=True)) == Outcome(False, 0)
    assert lock_of(machine) == (1, S)


@pytest.mark.parametrize("deletion", [Delete(b"a"), DeletePrefix(b"")])
@pytest.mark.parametrize("again", [Put(b"a", b""), take(session=T)])
def test_a_key_that_is_made_again_goes_on_from_its_lock_index(
    machine: State, deletion: Delete | DeletePrefix, again: Put | Acquire
) -> None:
    run(machine, take(), Release(b"a", b"", 0, S), take(), deletion, Put(b"b", b""))
    assert run_one(machine, again).ok

    assert lock_of(machine) == ((2, b"") if isinstance(again, Put) else (3, T))
    # The lock that went with the key is nobody's: the session may end without it.
    run(machine, end("s"))
    assert lock_of(machine)[1] == (b"" if isinstance(again, Put) else T)


def test_after_the_deletions_are_forgotten_new_keys_begin_above_the_greatest_of_them(
    machine: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "KEPT_MAX", 2)
    for _ in range(3):
        run(machine, take(), Release(b"a", b"", 0, S))
    run(machine, Delete(b"a"))
    assert run_one(machine, take(b"new")).ok
    assert lock_of(machine, b"new") == (1, S)

    run(machine, Put(b"b", b""), Put(b"c", b""), Delete(b"b"), Delete(b"c"), Put(b"plain", b""))

    assert lock_of(copy_of(machine), b"plain") == lock_of(machine, b"plain") == (3, b"")
    assert run_one(machine, take(b"other")).ok
    assert lock_of(machine, b"other") == (4, S)


def test_a_key_that_was_never_locked_is_stored_as_ever(machine: State) -> None:
    run(
        machine,
        Put(b"a", b"v"),
        Put(b"b", b""),
        Delete(b"b"),
        DeletePrefix(b"none"),
        Put(b"b", b""),
    )

    stored = dict(everything(machine))
    assert [len(stored[b"ka"]), len(stored[b"kb"])] == [25, 24]


@pytest.mark.parametrize("behavior", ["release", "delete"])
def test_nobody_gets_a_key_within_the_lock_delay_whichever_node_leads_then(behavior: str) -> None:
    machine = with_sessions(create("s", behavior, 100), create("t"))  # type: ignore[arg-type]
    run(machine, take(), take(b"free"), Release(b"free", b"", 0, S), end("s", time_ms=1_000))
    assert (machine.get(b"a") is None) == (behavior == "delete")

    after = copy_of(machine)  # what a new leader knows
    for one in (machine, after):
        delayed = run_one(one, take(session=T, time_ms=1_099))
        assert (delayed.ok, delayed.text) == (False, locks.DELAYED)
        assert run_one(one, take(b"free", T)).ok  # released before: no delay
        assert run_one(one, Put(b"a", b"any")).ok
        assert run_one(one, take(session=T, time_ms=1_100)).ok
    assert everything(machine) == everything(after)


def test_without_a_delay_a_key_is_free_at_once(machine: State) -> None:
    run(machine, take(), end("s"))
    assert run_one(machine, take(session=T)).ok
    assert not [key for key, _ in everything(machine) if key[:1] == b"t"]


def test_delays_that_are_over_are_forgotten_some_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holds, "_FORGOTTEN_AT_ONCE", 2)
    machine = with_sessions(create("s", "release", 10), create("t"))
    run(machine, *(take(b"%d" % number) for number in range(5)), end("s", time_ms=0))

    def left() -> int:
        return sum(1 for key, _ in everything(machine) if key[:1] == b"t")

    assert left() == 5
    for expected in (3, 1, 0):
        run(machine, take(b"other", T, time_ms=10))
        assert left() == expected


def test_a_key_under_a_second_delay_is_free_when_that_one_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first one is over and not forgotten yet when the second begins."""
    monkeypatch.setattr(holds, "_FORGOTTEN_AT_ONCE", 0)
    machine = with_sessions(create("s", "release", 10), create("t", "release", 10), create("u"))
    run(machine, take(), end("s", time_ms=0), take(session=T, time_ms=10), end("t", time_ms=10))
    monkeypatch.setattr(holds, "_FORGOTTEN_AT_ONCE", 4)
    for one in (machine, copy_of(machine)):
        for _ in range(2):
            assert not run_one(one, take(session=session_id("u"), time_ms=19)).ok
        assert run_one(one, take(session=session_id("u"), time_ms=20)).ok
    assert everything(machine)[:-1] == everything(copy_of(machine))[:-1]


def test_the_keys_of_a_session_and_all_locks_with_their_delays_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "SESSION_KEYS_MAX", 2)
    monkeypatch.setattr(locks, "LOCKS_MAX", 3)
    machine = with_sessions(create("s", "release", 10), create("t"), create("u"))
    run(machine, take(b"1"), take(b"2"))

    refused = run_one(machine, take(b"3"))
    assert (refused.ok, refused.denial) == (False, Denial.LIMIT)
    assert "2 keys" in refused.text
    assert run_one(machine, take(b"2", value=b"again")).ok
    run(machine, take(b"3", T), end("s"))
    refused = run_one(machine, take(b"4", T))
    assert refused.denial == Denial.LIMIT
    assert "3 keys are locked or under a lock delay" in refused.text
    assert machine.get(b"4") is None
    assert run_one(machine, take(b"3", T)).ok

    assert run_one(machine, take(b"4", T, time_ms=10)).ok  # The delays are over, and do not count.


def test_a_lock_that_is_asked_for_twice_is_given_once(machine: State) -> None:
    once = Keyed(b"k", b"d" * 16, take())
    refused = Keyed(b"l", b"d" * 16, take(session=session_id("x")))
    first = run(machine, once, refused)
    assert [one.ok for one in first] == [True, False]
    run(machine, Release(b"a", b"", 0, S))

    assert run(copy_of(machine), once, refused) == run(machine, once, refused) == first
    assert lock_of(machine) == (1, b"")


# -- how much there may be -------------------------------------------------------------------------

BIG = bytes(60)


def is_limit(outcome: Outcome) -> bool:
    return (outcome.ok, outcome.denial) == (False, Denial.LIMIT) and "100 bytes" in outcome.text


def test_the_values_that_a_session_holds_are_bounded_whoever_writes_them(
    machine: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its end would write any number of them at once."""
    monkeypatch.setattr(holds, "SESSION_VALUES_MAX", 100)
    run(machine, take(b"a", value=BIG), take(b"b", value=b""), Put(b"c", BIG))
    for one in (machine, copy_of(machine)):
        refused = run(one, take(b"b", value=BIG), take(b"c", value=BIG), Put(b"b", BIG))
        assert all(map(is_limit, refused))
        assert [run_one(one, command).ok for command in (Put(b"b", BIG[:40]), Put(b"a", b""))] == [
            True,
            True,
        ]
        assert run_one(one, take(b"c", value=BIG)).ok
        assert is_limit(run_one(one, Put(b"a", b"1")))
        # What it lets go does not count, and another session has its own bound.
        assert run_one(one, Release(b"c", BIG, 0, S)).ok
        assert run_one(one, Put(b"a", BIG)).ok
        assert run_one(one, take(b"c", T, BIG)).ok
        run(one, end("s"), end("t"))
        assert one.get(b"a") is not None
        assert not one.get(b"a").session  # type: ignore[union-attr]


def test_a_transaction_that_is_undone_leaves_the_sum_of_the_values_as_it_was(
    machine: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "SESSION_VALUES_MAX", 100)
    run(machine, take(b"a", value=BIG), take(b"b", value=b"1"))
    before = everything(machine)
    operations = (
        Put(b"a", b""),
        take(b"c", value=BIG),
        Release(b"b", b"", 0, S),
        Put(b"c", BIG + BIG),
        Delete(b"a"),
    )
    outcome = run_one(machine, Transaction(operations))
    assert [number for number, _ in outcome.faults] == [3]
    assert "100 bytes" in outcome.faults[0][1]
    assert [pair for pair in everything(machine) if pair[0][:1] != b"z"] == [
        pair for pair in before if pair[0][:1] != b"z"
    ]
    assert is_limit(run_one(machine, Put(b"b", BIG)))
    assert run_one(machine, Put(b"b", BIG[:40])).ok
