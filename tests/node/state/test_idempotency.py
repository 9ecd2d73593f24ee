"""The table of idempotency keys: once, the same answer, for ten minutes, and never too many."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hstore.node.errors import KeyReused, Overloaded, StorageError
from hstore.node.model import commands
from hstore.node.model.commands import Command, Delete, DeletePrefix, Denial, Keyed, Outcome, Put
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.state import idempotency, records
from hstore.node.state.idempotency import KEEP_MS, KEYS_MAX
from hstore.node.state.keyed_writes import KeyedWrites
from hstore.node.state.machine import State
from hstore.node.storage.interface import APPLIED_KEY, Identity
from tests.fakes.storage import MemoryDisk, MemoryStorage

REUSED = Outcome(False, 0, denial=Denial.KEY_REUSED)
EXHAUSTED = Outcome(False, 0, denial=Denial.KEYS_EXHAUSTED)


def new_storage() -> MemoryStorage:
    storage = MemoryDisk(Identity("00" * 8, 1)).open()
    storage.load()
    return storage


@pytest.fixture
def machine() -> State:
    return State(new_storage().state)


def once(
    key: bytes,
    command: Put | Delete | DeletePrefix = Put(b"a", b"1"),  # noqa: B008 - frozen
    time_ms: int = 0,
    digest: bytes = b"d" * 16,
) -> Keyed:
    return Keyed(key, digest, command, time_ms)


def run(machine: State, *given: Command) -> list[Outcome | None]:
    first = machine.applied + 1
    return machine.apply(
        [
            Entry(index, 1, EntryKind.COMMAND, commands.encode(command))
            for index, command in enumerate(given, first)
        ]
    )


def everything(machine: State) -> list[tuple[bytes, bytes]]:
    view = machine.snapshot()
    try:
        return list(view.scan(b""))
    finally:
        view.close()


def kept(machine: State) -> int:
    return machine.keyed_writes.following - machine.keyed_writes.first


# --- once -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        (Put(b"old", b"x"), Outcome(True, 2)),
        (Put(b"old", b"x", cas=1), Outcome(True, 2)),
        (Put(b"old", b"x", cas=9), Outcome(False, 1)),
        (Put(b"new", b"x", must_exist=True), Outcome(False, 0)),
        (Delete(b"old"), Outcome(True, 2)),
        (Delete(b"new"), Outcome(False, 0)),
        (DeletePrefix(b""), Outcome(True, 2)),
    ],
)
def test_a_keyed_write_takes_effect_once_and_is_answered_the_same(
    machine: State, command: Put | Delete | DeletePrefix, outcome: Outcome
) -> None:
    run(machine, Put(b"old", b"value"))

    assert run(machine, once(b"key", command)) == [outcome]
    run(machine, Put(b"old", b"later"), Put(b"new", b"later"))
    before = everything(machine)

    assert run(machine, once(b"key", command), once(b"key", command)) == [outcome, outcome]
    assert everything(machine)[:-1] == before[:-1]


def test_a_duplicate_in_the_same_batch_is_answered_from_the_table(machine: State) -> None:
    write = once(b"key", Put(b"a", b"1", cas=0))

    assert run(machine, write, Delete(b"a"), write) == [
        Outcome(True, 1), Outcome(True, 2), Outcome(True, 1),
    ]  # fmt: skip
    assert machine.get(b"a") is None


def test_another_request_under_a_used_key_is_denied_and_changes_nothing(machine: State) -> None:
    run(machine, once(b"key"))

    assert run(machine, once(b"key", Put(b"a", b"2"), digest=b"e" * 16)) == [REUSED]
    assert run(machine, once(b"key")) == [Outcome(True, 1)]
    item = machine.get(b"a")
    assert item is not None
    assert item.value == b"1"


def test_what_is_remembered_survives_a_restart_and_crosses_with_a_snapshot() -> None:
    storage = new_storage()
    machine = State(storage.state)
    run(machine, once(b"key", time_ms=5_000), once(b"x" * 256, Delete(b"none")))

    other = new_storage()
    other.state.write(everything(machine))
    for again in (State(storage.state), State(other.state)):
        assert again.keyed_writes == machine.keyed_writes == KeyedWrites(5_000, 0, 2)
        assert run(again, once(b"key"), once(b"x" * 256, Delete(b"none"))) == [
            Outcome(True, 1), Outcome(False, 0),
        ]  # fmt: skip


def test_a_snapshot_that_is_cut_short_has_no_applied_index(machine: State) -> None:
    """The table sorts before it, whatever the keys are."""
    run(machine, once(b"\xff" * 256))

    assert everything(machine)[-1][0] == APPLIED_KEY


def test_starting_reads_one_record_however_many_keys_are_kept(machine: State) -> None:
    run(machine, *(once(b"%d" % number) for number in range(50)))
    read: list[bytes] = []

    class Store:
        def view(self, *, bulk: bool = False) -> Store:
            return self

        def get(self, key: bytes) -> bytes | None:
            read.append(key)
            return machine._store.get(key)

        def scan(self, start: bytes, end: bytes | None = None):
            assert (end or b"\xff") <= records.ANSWER
            return iter(())

        def close(self) -> None:
            pass

    assert kept(State(Store())) == 50  # type: ignore[arg-type]
    of_keyed_writes = {records.KEYED_WRITES_KEY[:1], records.ANSWER, records.TURN}
    assert [key for key in read if key[:1] in of_keyed_writes] == [records.KEYED_WRITES_KEY]


# --- for how long -----------------------------------------------------------------------------


def test_a_key_is_kept_for_ten_minutes_of_the_clusters_time(machine: State) -> None:
    run(machine, once(b"key", time_ms=1_000))

    run(machine, once(b"other", time_ms=1_000 + KEEP_MS))
    assert run(machine, once(b"key")) == [Outcome(True, 1)]

    run(machine, once(b"third", time_ms=1_001 + KEEP_MS))
    assert run(machine, once(b"key", digest=b"e" * 16)) == [Outcome(True, machine.applied)]


def test_a_key_that_is_still_there_is_not_forgotten_by_its_own_duplicate(machine: State) -> None:
    run(machine, once(b"key", time_ms=0))

    assert run(machine, once(b"key", time_ms=10 * KEEP_MS)) == [Outcome(True, 1)]


def test_the_clusters_time_never_runs_backwards(machine: State) -> None:
    """A leader that knows less of it than the one before must not make the table live longer or
    shorter: what it stamps counts only when it is later."""
    run(machine, once(b"1", time_ms=50_000))
    run(machine, once(b"2", time_ms=10_000), once(b"3", time_ms=0))
    assert (machine.time_ms, machine.keyed_writes.time_ms) == (50_000, 50_000)

    run(machine, once(b"4", time_ms=50_000 + KEEP_MS))
    assert run(machine, once(b"2"), once(b"3")) == [Outcome(True, 2), Outcome(True, 3)]


def test_one_write_forgets_a_few_old_keys_at_most_and_yet_all_in_the_end(machine: State) -> None:
    run(machine, *(once(b"%d" % number) for number in range(100)))

    for count in range(1, 60):
        before = kept(machine)
        run(machine, once(b"new %d" % count, time_ms=2 * KEEP_MS))
        assert before - kept(machine) <= idempotency._FORGOTTEN_AT_ONCE
    assert kept(machine) == 59
    stored = [key for key, _ in everything(machine) if key[:1] in (records.ANSWER, records.TURN)]
    assert len(stored) == 2 * 59


# --- how many ---------------------------------------------------------------------------------


def fill(machine: State, time_ms: int) -> None:
    """Make the table full, as far as it looks at itself: all of one time."""
    machine._store.write(
        [
            (records.KEYED_WRITES_KEY, records.encode_keyed_writes(time_ms, 0, KEYS_MAX)),
            *((records.turn_key(n), records.encode_turn(time_ms, b"old %d" % n)) for n in range(9)),
        ]
    )
    machine.reload()


def test_when_all_keys_are_young_a_new_one_is_denied_and_nothing_changes(machine: State) -> None:
    fill(machine, 7)

    assert run(machine, once(b"key", time_ms=7 + KEEP_MS)) == [EXHAUSTED]
    assert machine.get(b"a") is None
    assert run(machine, Put(b"a", b"unkeyed")) == [Outcome(True, 2)]
    # A denial is no answer: it is tried anew.
    assert run(machine, once(b"key", time_ms=8 + KEEP_MS)) == [Outcome(True, 3)]
    assert kept(machine) == KEYS_MAX - idempotency._FORGOTTEN_AT_ONCE + 1


def test_a_known_key_is_answered_when_the_table_is_full(machine: State) -> None:
    run(machine, once(b"key"))
    machine._store.write([(records.KEYED_WRITES_KEY, records.encode_keyed_writes(0, 0, KEYS_MAX))])
    machine.reload()

    assert run(machine, once(b"key"), once(b"new")) == [Outcome(True, 1), EXHAUSTED]
    assert run(machine, once(b"key", digest=b"e" * 16)) == [REUSED]


def test_a_client_is_told_what_a_denial_means() -> None:
    assert idempotency.answered(Outcome(False, 3)) == Outcome(False, 3)
    with pytest.raises(KeyReused):
        idempotency.answered(REUSED)
    with pytest.raises(Overloaded) as caught:
        idempotency.answered(EXHAUSTED)
    assert caught.value.outcome == "not applied"


# --- damage -----------------------------------------------------------------------------------


def test_a_damaged_table_stops_the_node(machine: State) -> None:
    run(machine, once(b"key"))
    for key in (records.ANSWER + b"key", records.turn_key(0), records.KEYED_WRITES_KEY):
        store = new_storage().state
        store.write(everything(machine))
        store.write([(key, b"short")])
        with pytest.raises(StorageError, match="damaged"):
            run(State(store), once(b"key"))
    store = new_storage().state
    store.write([pair for pair in everything(machine) if pair[0] != records.turn_key(0)])
    with pytest.raises(StorageError, match="damaged"):
        run(State(store), once(b"other"))


@pytest.mark.parametrize(
    "bad", [once(b""), once(b"x" * 257), once(b"k", digest=b"short"), once(b"k", time_ms=-1)]
)
def test_a_keyed_write_that_no_record_can_hold_is_not_decoded(bad: Keyed) -> None:
    with pytest.raises(msgspec.ValidationError):
        commands.decode(commands.encode(bad))


# --- against a model --------------------------------------------------------------------------


class Model:
    """The same rules on a plain dictionary, in the order of the writes."""

    def __init__(self) -> None:
        self.time_ms = 0
        self.known: dict[bytes, tuple[bytes, int, Outcome]] = {}

    def write(self, index: int, write: Keyed) -> Outcome:
        self.time_ms = max(self.time_ms, write.time_ms)
        found = self.known.get(write.key)
        for key in list(self.known)[: idempotency._FORGOTTEN_AT_ONCE]:
            if self.time_ms - self.known[key][1] > KEEP_MS:
                del self.known[key]
        if found is not None:
            return found[2] if found[0] == write.digest else REUSED
        if len(self.known) >= idempotency.KEYS_MAX:
            return EXHAUSTED
        outcome = Outcome(True, index)
        self.known[write.key] = write.digest, self.time_ms, outcome
        return outcome


WRITES = st.builds(
    Keyed,
    st.sampled_from([b"%d" % number for number in range(8)]),
    st.sampled_from([b"d" * 16, b"e" * 16]),
    st.just(Put(b"a", b"")),
    st.sampled_from([0, 1, 60_000, KEEP_MS // 2, KEEP_MS, KEEP_MS + 1, 2 * KEEP_MS, 5 * KEEP_MS]),
)


@settings(max_examples=60)
@given(st.lists(st.lists(WRITES, min_size=1, max_size=8), max_size=8), st.integers(1, 6))
def test_the_table_is_what_a_dictionary_would_be(
    batches: Sequence[Sequence[Keyed]], keys_max: int
) -> None:
    """However the log is cut into batches, and with a restart after each."""
    storage, model = new_storage(), Model()
    with patch.object(idempotency, "KEYS_MAX", keys_max):
        for batch in batches:
            machine = State(storage.state)
            expected = [model.write(machine.applied + 1 + n, w) for n, w in enumerate(batch)]
            assert run(machine, *batch) == expected
            assert (machine.keyed_writes.time_ms, kept(machine)) == (
                model.time_ms,
                len(model.known),
            )
    answers = [key[1:] for key, _ in everything(State(storage.state)) if key[:1] == b"w"]
    assert answers == sorted(model.known)
