"""What each command does to the keys, and that it is the same on every node."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.errors import StorageError
from hstore.node.model import commands
from hstore.node.model.commands import (
    BecomeOnly,
    ChangeMember,
    ChangeSetting,
    Checkpoint,
    ClusterSettings,
    Command,
    Delete,
    DeletePrefix,
    InitCluster,
    Member,
    Outcome,
    Put,
    PutMember,
    RemoveMember,
    ReplaceMember,
)
from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.raft.membership import Configuration
from hstore.node.state import batch, idempotency, members, sessions, transactions, user_events
from hstore.node.state.catalog import checks, externals, services
from hstore.node.state.catalog import results as check_results
from hstore.node.state.kv import keys as keys_table
from hstore.node.state.kv import locks
from hstore.node.state.machine import EFFECTS, Item, State
from hstore.node.state.records import Cluster
from hstore.node.storage.interface import APPLIED_KEY, Identity
from tests.fakes.storage import MemoryDisk, MemoryStorage


def new_storage() -> MemoryStorage:
    storage = MemoryDisk(Identity("00" * 8, 1)).open()
    storage.load()
    return storage


@pytest.fixture
def storage() -> MemoryStorage:
    return new_storage()


@pytest.fixture
def machine(storage: MemoryStorage) -> State:
    return State(storage.state)


def log(*given: Command, first: int = 1, term: int = 1) -> list[Entry]:
    return [
        Entry(index, term, EntryKind.COMMAND, commands.encode(command))
        for index, command in enumerate(given, first)
    ]


def run(machine: State, *given: Command) -> list[Outcome | None]:
    return machine.apply(log(*given, first=machine.applied + 1))


def everything(machine: State) -> list[tuple[bytes, bytes]]:
    view = machine.snapshot()
    try:
        return list(view.scan(b""))
    finally:
        view.close()


def keys(machine: State, prefix: bytes = b"", after: bytes | None = None) -> list[bytes]:
    view = machine.view()
    try:
        return [item.key for item in view.scan(prefix, after)]
    finally:
        view.close()


def member(node_id: int, name: str = "", port: int | None = None) -> Member:
    port = 8500 + node_id if port is None else port
    return Member(node_id, name, f"127.0.0.1:{port}", f"127.0.0.1:{port - 200}", "127.0.0.1:1")


def joined(known: Member, create: int, modify: int | None = None, number: int = 0) -> Member:
    """As the state has it: with the indexes at which it became a member and was changed last."""
    modify = create if modify is None else modify
    return msgspec.structs.replace(known, create_index=create, modify_index=modify, number=number)


# --- keys -------------------------------------------------------------------------------------


def test_a_new_state_is_empty(machine: State) -> None:
    assert (machine.applied, machine.applied_term, machine.cluster_id) == (0, 0, "")
    assert machine.settings == ClusterSettings()
    assert (machine.members, machine.removed) == ({}, frozenset())
    assert machine.get(b"a") is None
    assert machine.apply([]) == []


def test_the_revision_is_the_index_and_the_creation_is_remembered(machine: State) -> None:
    assert run(machine, Put(b"a", b"1", 7)) == [Outcome(True, 1)]
    assert machine.get(b"a") == Item(b"a", b"1", 7, 1, 1)

    assert run(machine, Put(b"b", b""), Put(b"a", b"2")) == [Outcome(True, 2), Outcome(True, 3)]
    assert machine.get(b"a") == Item(b"a", b"2", 0, 1, 3)
    assert machine.get(b"b") == Item(b"b", b"", 0, 2, 2)

    assert run(machine, Delete(b"a"), Put(b"a", b"3")) == [Outcome(True, 4), Outcome(True, 5)]
    assert machine.get(b"a") == Item(b"a", b"3", 0, 5, 5)


def test_flags_are_any_unsigned_64_bit_number(machine: State) -> None:
    run(machine, Put(b"a", b"", 2**64 - 1))

    item = machine.get(b"a")
    assert item is not None
    assert item.flags == 2**64 - 1


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        (Put(b"old", b"x", cas=2), Outcome(True, 3)),
        (Put(b"old", b"x", cas=1), Outcome(False, 2)),
        (Put(b"old", b"x", cas=0), Outcome(False, 2)),
        (Put(b"old", b"x", must_exist=True), Outcome(True, 3)),
        (Put(b"new", b"x", cas=0), Outcome(True, 3)),
        (Put(b"new", b"x", cas=5), Outcome(False, 0)),
        (Put(b"new", b"x", must_exist=True), Outcome(False, 0)),
        (Put(b"new", b"x", cas=0, must_exist=True), Outcome(False, 0)),
        (Delete(b"old"), Outcome(True, 3)),
        (Delete(b"old", cas=2), Outcome(True, 3)),
        (Delete(b"old", cas=1), Outcome(False, 2)),
        (Delete(b"new"), Outcome(False, 0)),
        (Delete(b"new", cas=0), Outcome(False, 0)),
        (DeletePrefix(b"o"), Outcome(True, 3)),
        (DeletePrefix(b"nothing"), Outcome(True, 3)),
    ],
)
def test_a_condition_decides_and_what_is_refused_changes_nothing(
    machine: State, command: Command, outcome: Outcome
) -> None:
    run(machine, Put(b"first", b""), Put(b"old", b"value"))
    before = everything(machine)

    assert run(machine, command) == [outcome]

    changed = [pair for pair in everything(machine) if pair[0] != APPLIED_KEY] != before[:-1]
    assert changed == (outcome.ok and command != DeletePrefix(b"nothing"))
    assert machine.applied == 3


def test_a_command_sees_those_before_it_in_the_same_batch(machine: State) -> None:
    outcomes = run(
        machine,
        Put(b"a", b"1"),
        Put(b"a", b"2", cas=1),
        Put(b"a", b"3", cas=1),
        Delete(b"a", cas=2),
        Put(b"a", b"4", must_exist=True),
        Put(b"a", b"5", cas=0),
        DeletePrefix(b""),
        Put(b"a", b"6", must_exist=True),
        Put(b"a", b"7"),
    )

    assert outcomes == [
        Outcome(True, 1),
        Outcome(True, 2),
        Outcome(False, 2),
        Outcome(True, 4),
        Outcome(False, 0),
        Outcome(True, 6),
        Outcome(True, 7),
        Outcome(False, 0),
        Outcome(True, 9),
    ]
    assert machine.get(b"a") == Item(b"a", b"7", 0, 9, 9)


@pytest.mark.parametrize("few", [1_000, 0], ids=["one by one", "as a range"])
def test_a_prefix_is_deleted_and_its_neighbours_are_not(
    machine: State, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(batch, "_FEW_RECORDS", few)
    run(machine, InitCluster("ab" * 8, ClusterSettings()), PutMember(member(1)))
    names = [b"a", b"b", b"b\0", b"b/1", b"b\xff", b"b\xff\xff", b"c", b"\xff", b"\xff\xff1"]
    run(machine, *(Put(name, b"") for name in names))

    run(machine, Put(b"b/2", b""), DeletePrefix(b"b/"), Put(b"b/3", b""))
    assert keys(machine, b"b/") == [b"b/3"]
    run(machine, DeletePrefix(b"b\xff"))
    assert keys(machine) == sorted([b"a", b"b", b"b\0", b"b/3", b"c", b"\xff", b"\xff\xff1"])
    run(machine, DeletePrefix(b"\xff"))
    assert keys(machine) == [b"a", b"b", b"b\0", b"b/3", b"c"]

    run(machine, DeletePrefix(b""))
    assert keys(machine) == []
    assert State(machine._store).members == {1: joined(member(1, "n1"), 2)}
    assert State(machine._store).cluster_id == "ab" * 8


@pytest.mark.parametrize("few", [1_000, 0], ids=["one by one", "as a range"])
def test_a_key_of_a_prefix_deleted_in_the_same_batch_does_not_exist(
    machine: State, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(batch, "_FEW_RECORDS", few)
    run(machine, Put(b"a1", b""), Put(b"a2", b""), Put(b"b", b""))

    outcomes = run(
        machine,
        DeletePrefix(b"a"),
        Put(b"a1", b"", must_exist=True),
        Put(b"a2", b"", cas=0),
        Put(b"b", b"", must_exist=True),
    )

    assert outcomes == [Outcome(True, 4), Outcome(False, 0), Outcome(True, 6), Outcome(True, 7)]
    assert machine.get(b"a2") == Item(b"a2", b"", 0, 6, 6)


def test_a_scan_gives_a_prefix_in_order_from_after_a_key_on(machine: State) -> None:
    names = [b"a", b"b", b"b\0", b"b/1", b"b/2", b"c", b"\xff"]
    run(machine, *(Put(name, b"") for name in reversed(names)))

    assert keys(machine) == names
    assert keys(machine, b"b") == [b"b", b"b\0", b"b/1", b"b/2"]
    assert keys(machine, b"b/") == [b"b/1", b"b/2"]
    assert keys(machine, b"b", b"b") == [b"b\0", b"b/1", b"b/2"]
    assert keys(machine, b"b/", b"a") == [b"b/1", b"b/2"]
    assert keys(machine, b"b/", b"b/1") == [b"b/2"]
    assert keys(machine, b"b/", b"c") == []
    assert keys(machine, after=b"c") == [b"\xff"]
    assert keys(machine, b"\xff") == [b"\xff"]


def test_a_view_stays_as_it_was(machine: State) -> None:
    run(machine, Put(b"a", b"1"), Put(b"b", b"1"))
    view = machine.view()

    run(machine, Put(b"a", b"2"), Delete(b"b"), Put(b"c", b"2"))

    assert view.get(b"a") == Item(b"a", b"1", 0, 1, 1)
    assert view.get(b"c") is None
    assert [item.key for item in view.scan()] == [b"a", b"b"]
    view.close()


def test_what_came_of_them_is_told_before_the_effects_are_written(
    machine: State, storage: MemoryStorage
) -> None:
    told: list[tuple[list[Outcome | None], int, object]] = []

    def tell(_entries: Sequence[Entry], outcomes: list[Outcome | None]) -> None:
        told.append((outcomes, machine.applied, machine.get(b"a")))

    outcomes = machine.apply(log(Put(b"a", b"1")), tell)
    assert told == [(outcomes, 1, None)]
    assert machine.get(b"a") is not None


def test_every_command_has_exactly_one_effect() -> None:
    tables = (
        keys_table, locks, sessions, members, checks, user_events, transactions, idempotency,
        services, externals, check_results,
    )  # fmt: skip
    merged = [kind for table in tables for kind in table.EFFECTS]

    assert sorted(map(str, [*merged, Checkpoint])) == sorted(map(str, get_args(Command)))
    assert set(EFFECTS) == set(get_args(Command))


# --- order and restart ------------------------------------------------------------------------


def test_entries_that_are_not_commands_only_move_the_applied_index(machine: State) -> None:
    entries = [Entry(1, 2, EntryKind.NOOP, b""), Entry(2, 3, EntryKind.CONFIG, b"whatever")]

    assert machine.apply(entries) == [None, None]

    assert (machine.applied, machine.applied_term) == (2, 3)
    assert [key for key, _ in everything(machine)] == [APPLIED_KEY]


@pytest.mark.parametrize("indexes", [[2], [0], [1, 3], [1, 1], [2, 1]])
def test_each_index_takes_effect_once_and_in_order(machine: State, indexes: Sequence[int]) -> None:
    """Rule D7."""
    with pytest.raises(StorageError, match="was given to the state"):
        machine.apply([Entry(index, 1, EntryKind.NOOP, b"") for index in indexes])

    assert machine.applied == 0
    assert everything(machine) == []


@pytest.mark.parametrize(
    "entry",
    [
        Entry(2, 1, EntryKind.COMMAND, b"\x91\xa1?"),
        Entry(2, 1, EntryKind.COMMAND, b""),
        Entry(2, 1, EntryKind.COMMAND, b"\x93\xa1p\xc4\x01k"),
        Entry(2, 1, 9, b""),
    ],
)
def test_what_this_version_does_not_understand_stops_it_before_anything_changed(
    machine: State, entry: Entry
) -> None:
    """Skipping it would leave this node with another state than the others."""
    with pytest.raises(StorageError, match=r"entry 2 .*upgrade hstore"):
        machine.apply([*log(Put(b"a", b"")), entry])

    assert machine.applied == 0
    assert everything(machine) == []


def test_effects_and_applied_index_are_one_batch(storage: MemoryStorage, machine: State) -> None:
    run(machine, Put(b"a", b"1"), InitCluster("ab" * 8, ClusterSettings()), PutMember(member(1)))

    assert len(storage.disk.unflushed) == 1


def test_a_restarted_state_is_the_same(storage: MemoryStorage, machine: State) -> None:
    settings = ClusterSettings(zone="example.org", heartbeat_ms=50)
    run(
        machine,
        InitCluster("ab" * 8, settings),
        PutMember(member(1)),
        PutMember(member(2)),
        RemoveMember(2),
        Put(b"a", b"1"),
    )

    again = State(storage.state)

    assert (again.applied, again.applied_term) == (5, 1)
    assert (again.cluster_id, again.settings) == ("ab" * 8, settings)
    assert (again.members, again.removed) == ({1: joined(member(1, "n1"), 2)}, frozenset({2}))
    assert again.get(b"a") == machine.get(b"a")


def test_a_snapshot_makes_the_same_state_elsewhere(machine: State) -> None:
    run(machine, InitCluster("ab" * 8, ClusterSettings()), PutMember(member(1)), Put(b"a", b"1"))
    other = new_storage()
    receiver = State(other.state)

    other.state.write(everything(machine))
    receiver.reload()

    assert receiver.applied == 3
    assert receiver.members == machine.members
    assert everything(receiver) == everything(machine)
    assert everything(machine)[-1][0] == APPLIED_KEY


def test_settings_their_source_and_the_wait_for_nodes_survive_restart_and_snapshot(
    storage: MemoryStorage, machine: State
) -> None:
    change = msgspec.convert(["s", "dns_ttl_s", 9], ChangeSetting)
    run(machine, InitCluster("ab" * 8, ClusterSettings(heartbeat_ms=50), 3), change)
    other = new_storage()
    receiver = State(other.state)
    other.state.write(everything(machine))
    receiver.reload()

    for one in (machine, State(storage.state), receiver):
        assert one.settings == ClusterSettings(heartbeat_ms=50, dns_ttl_s=9)
        assert one.cluster == Cluster("ab" * 8, one.settings, {"dns_ttl_s": 2}, 3)


def test_a_record_of_a_cluster_that_knew_neither_sources_nor_waits_is_read(
    storage: MemoryStorage,
) -> None:
    record = msgspec.msgpack.encode(["ab" * 8, ClusterSettings(heartbeat_ms=50)])
    storage.state.write([(b"s", record)])

    assert State(storage.state).cluster == Cluster("ab" * 8, ClusterSettings(heartbeat_ms=50))


@pytest.mark.parametrize(
    ("configurations", "left"),
    [
        ([(1,)], 3),
        ([(1, 2), (1, 2, 3)], 0),
        ([(1, 2, 3), (1,)], 0),
    ],
)
def test_the_wait_for_nodes_ends_with_the_first_configuration_of_so_many(
    machine: State, configurations: list[tuple[int, ...]], left: int
) -> None:
    run(machine, InitCluster("ab" * 8, ClusterSettings(), 3))
    for index, voters in enumerate(configurations, 2):
        data = membership.encode(Configuration(voters))
        machine.apply([Entry(index, 1, EntryKind.CONFIG, data)])
    assert machine.cluster.expect == left


def test_a_joint_configuration_does_not_end_the_wait_for_nodes(machine: State) -> None:
    run(machine, InitCluster("ab" * 8, ClusterSettings(), 3))
    joint = Configuration((1, 2, 3), outgoing=(1,), auto_leave=True)
    machine.apply([Entry(2, 1, EntryKind.CONFIG, membership.encode(joint))])
    assert machine.cluster.expect == 3


simple = st.sampled_from([b"a", b"b", b"ab", b"abc", b"\xff"])
some_commands = st.one_of(
    st.builds(Put, simple, st.binary(max_size=3), cas=st.none() | st.integers(0, 20)),
    st.builds(Delete, simple, cas=st.none() | st.integers(0, 20)),
    st.builds(DeletePrefix, st.sampled_from([b"", b"a", b"ab", b"b"])),
    st.builds(PutMember, st.builds(member, st.integers(1, 4), st.sampled_from(["", "n1", "x"]))),
    st.builds(RemoveMember, st.integers(1, 4)),
    st.builds(
        ReplaceMember,
        st.builds(member, st.integers(1, 5), st.sampled_from(["", "n1", "x"])),
        st.integers(1, 5),
    ),
    st.just(InitCluster("ab" * 8, ClusterSettings())),
    st.builds(BecomeOnly, st.just("cd" * 8), st.integers(1, 4)),
    st.builds(
        ChangeMember,
        st.integers(1, 4),
        st.none() | st.sampled_from(["n2", "x", "-"]),
        stopped=st.none() | st.booleans(),
    ),
    st.builds(
        ChangeSetting,
        st.sampled_from(["heartbeat_ms", "election_timeout_ms"]),
        st.sampled_from([0, 100, 250, 400, 1000]),
    ),
)


@given(st.lists(some_commands, max_size=20), st.lists(st.integers(1, 6)), st.integers(0, 2))
def test_how_the_log_is_cut_into_batches_makes_no_difference(
    given: list[Command], sizes: list[int], few: int
) -> None:
    """Nodes apply the same log in different batches, and delete prefixes by different means."""
    whole, parts = State(new_storage().state), State(new_storage().state)
    entries = log(*given)

    outcomes = whole.apply(entries)
    in_parts = []
    left = iter(entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_FEW_RECORDS", few)
        for size in itertools.chain(sizes, itertools.repeat(3)):
            part = list(itertools.islice(left, size))
            if not part:
                break
            in_parts += parts.apply(part)

    assert outcomes == in_parts
    assert everything(whole) == everything(parts)
    assert (whole.members, whole.removed) == (parts.members, parts.removed)


# --- the cluster and its members --------------------------------------------------------------


def test_a_cluster_is_created_once(machine: State) -> None:
    first, second = run(
        machine,
        InitCluster("ab" * 8, ClusterSettings(zone="one")),
        InitCluster("cd" * 8, ClusterSettings(zone="two")),
    )

    assert first == Outcome(True, 1)
    assert second is not None
    assert not second.ok
    assert "abababababababab" in second.text
    assert (machine.cluster_id, machine.settings.zone) == ("ab" * 8, "one")


def test_become_only_leaves_one_member_of_another_cluster(storage, machine: State) -> None:
    settings = ClusterSettings(zone="example.org")
    run(
        machine,
        InitCluster("ab" * 8, settings, 3),
        *(PutMember(member(node, f"m{node}")) for node in (1, 2, 3)),
        RemoveMember(1),
        PutMember(msgspec.structs.replace(member(4, "m4"), learner=True, stopped=True)),
        Put(b"a", b"1"),
        BecomeOnly("cd" * 8, 4, (5,)),
        InitCluster("ef" * 8, ClusterSettings()),
    )

    for state in (machine, State(storage.state)):
        assert (state.cluster_id, state.settings, state.cluster.expect) == ("cd" * 8, settings, 0)
        assert state.members == {4: joined(member(4, "m4"), 6)}
        assert state.removed == {1, 2, 3, 5}
        assert state.get(b"a") is not None


def test_become_only_makes_a_removed_node_a_member_again(machine: State) -> None:
    run(
        machine,
        InitCluster("ab" * 8, ClusterSettings()),
        PutMember(member(1)),
        RemoveMember(1),
        BecomeOnly("cd" * 8, 1),
        PutMember(member(1, "back")),
    )

    assert machine.members == {1: joined(member(1, "back"), 5)}
    assert machine.removed == frozenset()


def test_a_member_without_a_name_gets_the_next_free_one(machine: State) -> None:
    outcomes = run(
        machine,
        PutMember(member(10)),
        PutMember(member(11, "n3")),
        PutMember(member(12)),
        PutMember(member(13)),
        RemoveMember(12),
        PutMember(member(14)),
    )

    assert [o.text for o in outcomes if o] == ["n1", "n3", "n2", "n4", "n2", "n2"]
    assert machine.members[14] == joined(member(14, "n2"), 6)


def test_a_member_that_is_put_again_is_changed_and_keeps_its_name(machine: State) -> None:
    run(machine, PutMember(member(1)), PutMember(member(2, "db")))

    outcomes = run(machine, PutMember(member(2, port=9000)), PutMember(member(1, "web")))

    assert outcomes == [Outcome(True, 3, "db"), Outcome(True, 4, "web")]
    assert machine.members == {
        1: joined(member(1, "web"), 1, 4),
        2: joined(member(2, "db", 9000), 2, 3),
    }


def test_a_name_or_an_address_of_another_member_is_refused(machine: State) -> None:
    run(machine, PutMember(member(1, "db")))

    by_name, by_address = run(
        machine, PutMember(member(2, "db")), PutMember(member(2, "web", port=8501))
    )

    frees = (
        "; if that node is gone for good, `hstore join --replace db` takes its place, and "
        "`hstore leave -h db` removes it"
    )
    by = "the name db is taken by the node at 127.0.0.1:8501"
    assert by_name == Outcome(False, 0, by + frees)
    assert by_address == Outcome(False, 0, "the address 127.0.0.1:8501 is that of db" + frees)
    # For who only renames a node, nobody need go.
    assert run(machine, PutMember(member(2)), ChangeMember(2, name="db"))[1] == Outcome(
        False, 0, by
    )
    run(machine, RemoveMember(2))
    assert list(machine.members) == [1]


def test_one_entry_takes_a_member_in_and_another_out(machine: State) -> None:
    run(machine, PutMember(member(1)), PutMember(member(2, "db")), PutMember(member(3)))

    outcomes = run(
        machine,
        ReplaceMember(member(4), 2),  # it takes the name
        ReplaceMember(member(5, "web", port=8503), 3),  # or another, and here the address too
        ReplaceMember(member(5, port=9000), 3),  # once more: the answer was lost
    )

    assert outcomes == [Outcome(True, 4, "db"), Outcome(True, 5, "web"), Outcome(True, 6, "web")]
    assert machine.members == {
        1: joined(member(1, "n1"), 1),
        4: joined(member(4, "db"), 4, number=2),
        5: joined(member(5, "web", 9000), 5, 6, number=3),
    }
    assert machine.removed == {2, 3}
    machine.reload()
    assert sorted(machine.members) == [1, 4, 5]
    assert machine.removed == {2, 3}


def test_a_replacement_that_is_refused_takes_nobody_out(machine: State) -> None:
    run(machine, PutMember(member(1)), PutMember(member(2)), PutMember(member(3)), RemoveMember(3))

    outcomes = run(
        machine,
        ReplaceMember(member(4, "n1"), 2),
        ReplaceMember(member(4, port=8501), 2),
        ReplaceMember(member(4, "-"), 2),
        ReplaceMember(member(3), 2),  # an id that was removed never comes back
        ReplaceMember(member(4), 3),  # it is gone, and this is another newcomer
        ReplaceMember(member(4), 7),
        ReplaceMember(member(2), 2),
    )

    assert [outcome.ok for outcome in outcomes if outcome] == [False] * 7
    assert sorted(machine.members) == [1, 2]
    assert machine.removed == {3}


@pytest.mark.parametrize("name", ["a", "0", "a-b", "x" * 63, "n1"])
def test_a_dns_label_is_a_name(machine: State, name: str) -> None:
    assert run(machine, PutMember(member(1, name))) == [Outcome(True, 1, name)]


@pytest.mark.parametrize("name", ["-a", "a-", "A", "a.b", "a_b", "x" * 64, " ", "ä", "a\n"])
def test_what_is_not_a_dns_label_is_not_a_name(machine: State, name: str) -> None:
    (outcome,) = run(machine, PutMember(member(1, name)))

    assert outcome is not None
    assert (outcome.ok, machine.members) == (False, {})


def test_an_id_that_was_removed_never_comes_back(machine: State) -> None:
    """Rule D14."""
    run(machine, PutMember(member(1)), PutMember(member(2)))

    removed, again, twice, unknown, late = run(
        machine,
        RemoveMember(2),
        PutMember(member(2, "other", 9999)),
        RemoveMember(2),
        RemoveMember(7),
        PutMember(member(7)),
    )

    assert removed == Outcome(True, 3, "n2")
    assert unknown == Outcome(True, 6)
    for refused in (again, twice, late):
        assert refused is not None
        assert not refused.ok
    assert again is not None
    assert "0000000000000002 was removed" in again.text
    assert (list(machine.members), machine.removed) == ([1], frozenset({2, 7}))


def test_members_are_never_changed_in_place(machine: State) -> None:
    """A view of the cluster that somebody holds stays what it was."""
    run(machine, PutMember(member(1)))
    before = machine.members

    run(machine, PutMember(member(2)), RemoveMember(1))

    assert before == {1: joined(member(1, "n1"), 1)}


def test_a_damaged_record_stops_the_node(storage: MemoryStorage) -> None:
    for key in (b"s", b"m" + bytes(8), APPLIED_KEY):
        other = new_storage()
        other.state.write([(key, b"\xc1")])
        with pytest.raises(StorageError, match="damaged"):
            State(other.state)
    storage.state.write([(b"ka", b"short")])
    with pytest.raises(StorageError, match="damaged"):
        State(storage.state).get(b"a")
