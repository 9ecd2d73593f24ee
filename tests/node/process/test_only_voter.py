"""A cluster of one out of a directory: what it holds then, and a crash at any moment of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hstore.node.errors import Refused, StorageError
from hstore.node.model import commands
from hstore.node.model.commands import (
    BecomeOnly,
    Checkpoint,
    ClusterSettings,
    InitCluster,
    Member,
    Put,
    PutMember,
)
from hstore.node.process import only_voter
from hstore.node.process.only_voter import Survey, make_only_voter, survey
from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind, HardState
from hstore.node.raft.membership import Configuration
from hstore.node.state.machine import State
from hstore.node.storage import codec, directory
from hstore.node.storage.directory import read_identity
from hstore.node.storage.interface import Identity, Recovered, Use
from hstore.node.storage.recovery import Witness
from hstore.node.storage.rocks import RocksStorage
from hstore.node.storage.rocks_log import RocksLog
from hstore.node.storage.witness import WitnessFile
from tests.node.storage.conftest import CACHE_BYTES, edit

OLD = "00112233445566aa"
OWN = 2
CONFIG = Configuration(voters=(1, 2), outgoing=(1, 2, 3), learners=(4,))


def member(node: int) -> Member:
    return Member(node, f"n{node}", f"h:{node}", f"p:{node}", f"d:{node}", stopped=node == OWN)


def log_of(values: int) -> list[Entry]:
    """Return a log: a joint configuration, the cluster, its members, and so many values."""
    written = [
        commands.encode(one)
        for one in (
            InitCluster(OLD, ClusterSettings(zone="example.org")),
            *(PutMember(member(node)) for node in (1, 2, 3)),
            *(Put(b"key %d" % number, b"value") for number in range(values)),
        )
    ]
    first = Entry(1, 1, EntryKind.CONFIG, membership.encode(CONFIG))
    rest = [Entry(at, 3, EntryKind.COMMAND, data) for at, data in enumerate(written, 2)]
    return [first, *rest]


async def make(path: Path, *, values: int = 5, applied: int = 7) -> list[Entry]:
    """Make the directory of a member whose state is behind its log."""
    log = log_of(values)
    RocksStorage.create(path, Identity(OLD, OWN), hard_state=HardState(3, 1, 6), entries=log)
    storage = RocksStorage.open(path, cache_bytes=CACHE_BYTES)
    storage.load()
    State(storage.state).apply(log[:applied])
    await storage.flush()
    await storage.close()
    return log


async def opened(path: Path) -> tuple[Identity, Recovered, State]:
    """Return what a node starts with, and its state when it has applied what is committed."""
    storage = RocksStorage.open(path, cache_bytes=CACHE_BYTES)
    try:
        found, state = storage.load(), State(storage.state)
        commit = found.hard_state.commit
        state.apply([entry for entry in found.entries if state.applied < entry.index <= commit])
        return storage.identity, found, state
    finally:
        await storage.close()


async def assert_alone(path: Path, log: list[Entry], gap: int = 0) -> Identity:
    """The node is a cluster of one with all the data, and starts as such."""
    identity, found, state = await opened(path)
    last = log[-1].index + gap + 2
    assert identity.node_id == OWN
    assert identity.cluster_id not in (OLD, "")
    assert found.entries[: len(log)] == log
    assert found.hard_state == HardState(4, OWN, last)
    assert [entry.kind for entry in found.entries[len(log) :]] == [
        *[EntryKind.NOOP] * gap,
        EntryKind.CONFIG,
        EntryKind.COMMAND,
    ]
    assert membership.decode(found.entries[-2].data) == Configuration(voters=(OWN,))
    assert found.recover_to == 0
    assert state.cluster_id == identity.cluster_id
    assert state.settings.zone == "example.org"
    assert list(state.members) == [OWN]
    assert not state.members[OWN].stopped
    assert state.removed == {1, 3, 4}
    return identity


def content(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "lock"
    }


async def test_a_survey_says_what_is_there_and_changes_nothing(tmp_path: Path) -> None:
    log = await make(tmp_path)
    WitnessFile(tmp_path / "db").write(Witness(9, 14, 5, 1))
    before = content(tmp_path)

    found = await survey(tmp_path)

    assert content(tmp_path) == before
    assert found.members.pop(0).name == "n1"
    assert [one.voter for one in found.members] == [True, True, False]
    assert found == Survey(
        data_dir=str(tmp_path),
        cluster_id=OLD,
        zone="example.org",
        recovered_from=None,
        name="n2",
        id=f"{OWN:016x}",
        is_voter=True,
        keys=2,
        last_index=log[-1].index,
        last_term=3,
        term=5,
        durable_index=14,
        commit_index=7,
        applied_index=7,
        lost="entries 11 to 14 (the database ends before what was flushed)",
        recover_to=14,
        only_voter=False,
        unfinished=False,
        members=found.members,
    )


async def test_its_node_is_the_only_voter_of_a_new_cluster_and_the_data_stays(
    tmp_path: Path,
) -> None:
    log = await make(tmp_path)

    done = await make_only_voter(tmp_path)

    identity = await assert_alone(tmp_path, log)
    assert (done.cluster_id, done.recovered_from) == (identity.cluster_id, OLD)
    assert (done.keys, done.applied_index, done.commit_index) == (5, 12, 12)
    assert (done.only_voter, done.unfinished, done.lost) == (True, False, None)
    assert [one.name for one in done.members] == ["n2"]
    # The witness is of the new end: what is lost from now on is noticed.
    assert done.durable_index == 12


async def test_a_second_make_only_voter_changes_nothing(tmp_path: Path) -> None:
    await make(tmp_path)
    done = await make_only_voter(tmp_path)

    assert await make_only_voter(tmp_path) == done


async def test_indexes_that_were_lost_are_not_given_again(tmp_path: Path) -> None:
    """Clients have seen them as revisions."""
    log = await make(tmp_path)
    WitnessFile(tmp_path / "db").write(Witness(9, log[-1].index + 3, 3, 1))

    await make_only_voter(tmp_path)

    await assert_alone(tmp_path, log, gap=3)


async def test_a_term_that_only_the_witness_knows_is_left_behind(tmp_path: Path) -> None:
    await make(tmp_path)
    WitnessFile(tmp_path / "db").write(Witness(9, 10, 8, 1))

    await make_only_voter(tmp_path)

    assert (await opened(tmp_path))[1].hard_state.term == 9


async def test_a_damaged_end_of_the_log_is_lost_and_the_rest_goes_on(tmp_path: Path) -> None:
    log = await make(tmp_path)
    edit(tmp_path, codec.entry_key(9), b"damaged")

    await make_only_voter(tmp_path)

    await assert_alone(tmp_path, log[:8], gap=2)


async def test_a_state_with_damage_is_refused_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(tmp_path)

    def fail(_: object) -> int:
        raise StorageError("a block is damaged")

    monkeypatch.setattr(only_voter, "_count_keys", fail)
    with pytest.raises(StorageError, match="a block is damaged"):
        await make_only_voter(tmp_path)
    monkeypatch.undo()

    assert read_identity(tmp_path) == Identity(OLD, OWN)
    assert (await survey(tmp_path)).last_index == 10


async def test_an_entry_of_a_later_version_is_refused_before_anything_is_changed(
    tmp_path: Path,
) -> None:
    strange = Entry(11, 3, EntryKind.COMMAND, b"strange")
    RocksStorage.create(
        tmp_path, Identity(OLD, OWN), hard_state=HardState(3, 1, 6), entries=[*log_of(5), strange]
    )

    with pytest.raises(StorageError, match=r"entry 11 .*upgrade hstore before you recover"):
        await make_only_voter(tmp_path)

    assert read_identity(tmp_path) == Identity(OLD, OWN)


async def test_a_node_that_had_only_begun_to_join_holds_nothing(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, Identity(OLD, OWN))

    with pytest.raises(Refused, match="holds nothing to recover; name another member's directory"):
        await survey(tmp_path)
    with pytest.raises(Refused, match="holds nothing to recover; name another member's directory"):
        await make_only_voter(tmp_path)


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    await make(tmp_path)
    storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
    try:
        for ask in (survey, make_only_voter):
            with pytest.raises(StorageError, match=f"in use by process {os.getpid()}"):
                await ask(tmp_path)
    finally:
        await storage.close()


class PowerCut(Exception):
    """The process ends here."""


def cut_before(target: object, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def arm(patch: pytest.MonkeyPatch) -> None:
        def cut(*_: object, **__: object) -> None:
            raise PowerCut

        patch.setattr(target, name, cut)

    return arm


@pytest.mark.parametrize(
    ("arm", "is_begun"),
    [
        (cut_before(directory, "_write_durably"), False),
        (cut_before(Path, "replace"), False),
        (cut_before(directory, "_sync_directory"), True),
        (cut_before(RocksLog, "become"), True),
    ],
    ids=["before the new name is written", "before it is in place", "in place", "before the batch"],
)
async def test_a_crash_leaves_the_old_node_or_one_that_does_not_start_and_is_finished(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arm: Callable[[pytest.MonkeyPatch], None],
    is_begun: bool,
) -> None:
    log = await make(tmp_path)
    with monkeypatch.context() as patch:
        arm(patch)
        with pytest.raises(PowerCut):
            await make_only_voter(tmp_path)

    if is_begun:
        assert read_identity(tmp_path).cluster_id != OLD
        with pytest.raises(StorageError, match=r"cut short.*--as-only-voter` finishes it"):
            RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES)
        assert (await survey(tmp_path)).unfinished
    else:
        identity, found, _ = await opened(tmp_path)
        assert (identity, found.entries) == (Identity(OLD, OWN), log)

    done = await make_only_voter(tmp_path)
    await assert_alone(tmp_path, log)
    assert done.recovered_from == OLD


@pytest.mark.parametrize("flushes", [0, 1], ids=["before the flush", "before the state"])
async def test_a_crash_after_the_batch_leaves_the_new_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushes: int
) -> None:
    log = await make(tmp_path)
    flush = RocksStorage.flush
    seen: list[RocksStorage] = []

    async def cut(self: RocksStorage) -> None:
        if len(seen) == flushes:
            raise PowerCut
        seen.append(self)
        await flush(self)

    def never(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(RocksStorage, "flush", cut)
        patch.setattr(State, "apply", never)
        with pytest.raises(PowerCut):
            await make_only_voter(tmp_path)

    await assert_alone(tmp_path, log)
    assert (await make_only_voter(tmp_path)).only_voter


async def test_the_command_for_the_state_names_all_that_ever_were_in_the_log(
    tmp_path: Path,
) -> None:
    await make(tmp_path)
    await make_only_voter(tmp_path)

    _, found, _ = await opened(tmp_path)

    command = commands.decode(found.entries[-1].data)
    assert isinstance(command, BecomeOnly)
    assert command.others == (1, 3, 4)


async def test_two_of_one_cluster_become_two_clusters(tmp_path: Path) -> None:
    for node in (1, 2):
        RocksStorage.create(
            tmp_path / str(node),
            Identity(OLD, node),
            hard_state=HardState(3, 1, 6),
            entries=[*log_of(5), Entry(11, 3, EntryKind.COMMAND, commands.encode(Checkpoint()))],
        )

    halves = [await make_only_voter(tmp_path / str(node)) for node in (1, 2)]

    assert len({OLD, *(half.cluster_id for half in halves)}) == 3


async def test_only_the_use_that_finishes_it_opens_what_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(tmp_path)
    with monkeypatch.context() as patch:
        cut_before(RocksLog, "become")(patch)
        with pytest.raises(PowerCut):
            await make_only_voter(tmp_path)
    for use in (Use.LOOK, Use.RECOVER):
        storage = RocksStorage.open(tmp_path, cache_bytes=CACHE_BYTES, use=use)
        assert storage.is_unfinished
        await storage.close()
