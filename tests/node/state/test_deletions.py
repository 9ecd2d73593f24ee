"""Kept deletions: the index of an answer does not go back, and what is kept has a bound."""

from __future__ import annotations

from random import Random

import pytest

from hstore.node.model.commands import Delete, DeletePrefix, Put
from hstore.node.state import batch as batches
from hstore.node.state.kv import deletions, latest
from hstore.node.state.kv.deletions import DELETIONS, Kept
from hstore.node.state.kv.latest import Deletion
from hstore.node.state.machine import State
from hstore.node.state.watching.changes import KEYS
from hstore.node.state.watching.watches import Watches
from tests.node.state.machines import Now, copy_of, everything, new_machine, run


@pytest.fixture
def machine() -> State:
    return new_machine()


def absent(machine: State, key: bytes) -> int:
    with Now(machine) as now:
        return now.absent_index(key)


def tree(machine: State, prefix: bytes) -> int:
    with Now(machine) as now:
        return now.tree_index(prefix)


def test_a_key_that_never_was_has_the_lowest_index_whatever_is_written(machine: State) -> None:
    assert (absent(machine, b"a"), tree(machine, b"a")) == (1, 1)
    run(machine, Put(b"b", b""), Delete(b"b"), Delete(b"a"))
    assert (absent(machine, b"a"), tree(machine, b"a")) == (1, 1)
    assert (absent(machine, b"b"), tree(machine, b"")) == (2, 2)


def test_a_recursive_deletion_counts_for_all_that_it_covers_and_what_covers_it(
    machine: State,
) -> None:
    run(
        machine,
        Put(b"a/b/c", b""),
        DeletePrefix(b"a/b/"),
        DeletePrefix(b"a/b/"),
        DeletePrefix(b"x"),
    )
    for one in (machine, copy_of(machine)):
        for key in (b"a/b/c", b"a/b/", b"a/b/other"):
            assert absent(one, key) == 2
        assert [absent(one, key) for key in (b"a/b", b"x")] == [1, 1]
        assert [tree(one, p) for p in (b"", b"a", b"a/b/", b"a/b/c/d", b"a/c", b"x")] == [
            2, 2, 2, 2, 1, 1,
        ]  # fmt: skip
    # One record, whatever it deleted; none, where it deleted nothing.
    assert len([key for key, _ in everything(machine) if key[:1] == b"d"]) == 1


def test_the_older_half_goes_by_number_and_becomes_the_floor(
    machine: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "KEPT_MAX", 4)
    names = [b"%d" % number for number in range(5)]
    run(machine, *(Put(name, b"") for name in names))  # 1 to 5
    run(machine, *(Delete(name) for name in names[:4]))  # 6 to 9
    assert [absent(machine, name) for name in names[:4]] == [6, 7, 8, 9]
    assert absent(machine, b"other") == 1

    run(machine, Delete(names[4]))  # 10

    for one in (machine, copy_of(machine)):
        assert [absent(one, name) for name in names] == [7, 7, 8, 9, 10]
        assert (absent(one, b"other"), tree(one, b"x"), tree(one, b"")) == (7, 7, 10)
        assert len([key for key, _ in everything(one) if key[:1] == b"d"]) == 3


def test_a_raised_floor_wakes_nobody(machine: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "KEPT_MAX", 1)
    run(machine, Put(b"a", b""), Put(b"b", b""), Put(b"c", b""))
    woken: list[str] = []
    waits = Watches(machine.history)
    waits.once(KEYS, b"never was", lambda: woken.append("key"))
    waits.once(KEYS, b"x/", lambda: woken.append("tree"), is_prefix=True)

    run(machine, Delete(b"a"), Delete(b"b"), Delete(b"c"))

    assert (absent(machine, b"never was"), tree(machine, b"x/")) == (5, 5)
    assert woken == []


def test_a_reader_does_not_know_of_deletions_after_it(machine: State) -> None:
    """A client that would get what is there now with a later index would miss the deletion."""
    run(machine, Put(b"a", b"1"), Put(b"b", b"2"))
    with Now(machine) as now:
        run(machine, Delete(b"a"), Delete(b"b"))
        assert now.get(b"a") is not None
        assert (now.tree_index(b""), now.absent_index(b"a")) == (2, 2)
    assert tree(machine, b"") == 4


@pytest.mark.parametrize("listed", [10_000, 1])
def test_a_recursive_deletion_wakes_those_whose_index_it_raises_listed_or_not(
    machine: State, monkeypatch: pytest.MonkeyPatch, listed: int
) -> None:
    monkeypatch.setattr(batches, "_FEW_RECORDS", 0)
    monkeypatch.setattr(batches, "_LISTED_RECORDS", listed)
    run(machine, *(Put(b"a/%d" % number, b"") for number in range(5)), Put(b"b", b""))
    waits = Watches(machine.history)
    woken: list[tuple[bytes, bool]] = []

    def wait(name: bytes, *, is_prefix: bool) -> None:
        waits.once(KEYS, name, lambda: woken.append((name, is_prefix)), is_prefix=is_prefix)

    for name in (b"a/1", b"a/none", b"b", b"c"):
        wait(name, is_prefix=False)
    for name in (b"", b"a", b"a/1", b"a/x", b"b"):
        wait(name, is_prefix=True)

    run(machine, Put(b"c", b""), DeletePrefix(b"a/"), DeletePrefix(b"a/"))

    # Also who waits for what is not there: the deletion is one of everything under its prefix.
    keys = {(b"c", False), (b"a/1", False), (b"a/none", False)}
    assert set(woken) == keys | {(name, True) for name in (b"", b"a", b"a/1", b"a/x")}
    assert len(woken) == len(set(woken))
    # Also one that is told twice in one batch has one record.
    assert len([key for key, _ in everything(machine) if key[:1] == b"d"]) == 1
    assert (tree(machine, b"a/"), absent(machine, b"a/none")) == (8, 8)


def test_a_recursive_deletion_of_nothing_wakes_nobody(machine: State) -> None:
    run(machine, Put(b"b", b""))
    before = absent(machine, b"a/none")
    waits, woken = Watches(machine.history), []
    wait = waits.once(KEYS, b"a/none", lambda: woken.append(1))
    run(machine, DeletePrefix(b"a/"))
    assert (woken, absent(machine, b"a/none")) == ([], before)
    wait.give_up()
    assert waits._waits[KEYS]._keys._names == []


def test_an_old_directory_opens_and_goes_on(machine: State) -> None:
    """Its keys have no lock data, and there is no record of what is kept since."""
    run(machine, *(Put(b"%d" % number, b"v") for number in range(4)))
    store = {key: value for key, value in everything(machine) if key != b"ak"}
    old = new_machine()
    old._store.write(store.items())
    old.reload()

    with Now(old) as now:
        assert now.key_change_index == 4
        assert (now.tree_index(b""), now.absent_index(b"x"), now.nodes_index()) == (1, 1, 1)
        assert [item.lock_index for item in now.scan()] == [0] * 4
    run(old, Put(b"0", b"w"))
    run(machine, Put(b"0", b"w"))
    assert everything(old) == everything(machine)


def test_look_ups_among_many_are_those_of_a_walk_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latest, "_BUCKET_NAMES", 8)
    random = Random(7)
    names = [
        b"/".join(random.choices([b"a", b"b", b"c", b"\xff"], k=random.randint(0, 5)))
        for _ in range(3_000)
    ]
    made = [
        Deletion(index, 0, random.random() < 0.1, 0, name) for index, name in enumerate(names, 1)
    ]
    kept = Kept(0, 0, made[:1_000])
    for one in made[1_000:]:
        kept.add(one)
    for prefix in random.sample(names, 300):
        overlap = [
            one.index
            for one in made
            if one.name.startswith(prefix) or (one.is_prefix and prefix.startswith(one.name))
        ]
        assert kept.tree_index(prefix) == max(overlap)
        cover = [
            one.index
            for one in made
            if (one.name == prefix and not one.is_prefix)
            or (one.is_prefix and prefix.startswith(one.name))
        ]
        assert kept.key_index(prefix) == max(cover, default=0)


def test_what_is_taken_back_leaves_the_look_ups_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(latest, "_BUCKET_NAMES", 2)
    random = Random(3)
    names = [b"%x" % random.randrange(2_000) for _ in range(4_000)]
    made = [Deletion(n, 0, n % 9 == 0, n % 2, name) for n, name in enumerate(names, 1)]
    kept = Kept(0, 0, [])
    for at in range(0, len(made), 20):
        before = [(one, kept.add(one)) for one in made[at : at + 20]]
        if at % 40:
            for one, former in reversed(before):
                kept.undo(one, former)
    plain = Kept(0, 0, kept.order)
    for prefix in {b"", *names[:400], *(name[:2] for name in names[:400])}:
        assert kept.tree_index(prefix) == plain.tree_index(prefix)
        assert kept.key_index(prefix) == plain.key_index(prefix)
        assert kept.lock_index(prefix) == plain.lock_index(prefix)
    assert kept.with_lock == plain.with_lock


def test_a_state_holds_its_look_ups_in_one_place(machine: State) -> None:
    run(machine, Put(b"a", b""), Delete(b"a"))
    before = machine._values[DELETIONS]
    run(machine, Put(b"a", b""), Delete(b"a"))
    assert machine._values[DELETIONS] is before
