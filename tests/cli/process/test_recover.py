"""`hstore recover`: what it says, what it asks, and what it leaves for the commands that follow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from hstore.cli.main import run
from hstore.cli.process.recover import recover
from hstore.node.discovery import run_record, saved_members
from hstore.node.discovery.saved_members import SavedMember, SavedMembers
from hstore.node.model import commands
from hstore.node.model.commands import ClusterSettings, InitCluster, Member, Put, PutMember
from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind, HardState
from hstore.node.raft.membership import Configuration
from hstore.node.state.machine import State
from hstore.node.storage.directory import read_identity
from hstore.node.storage.interface import Identity
from hstore.node.storage.recovery import Witness
from hstore.node.storage.rocks import RocksStorage
from hstore.node.storage.witness import WitnessFile

OLD = "00112233445566aa"


@pytest.fixture
def env(tmp_path, monkeypatch):
    for name, value in (("HOME", "home"), ("XDG_STATE_HOME", "state"), ("XDG_DATA_HOME", "data")):
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setattr(sys, "stdin", None)
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def data_dir(tmp_path, env):
    """The directory of n2, a voter of two; the other is gone."""
    path = tmp_path / "n2"
    members = [Member(i, f"n{i}", f"127.0.0.1:{8499 + i}", f"p:{i}", f"d:{i}") for i in (1, 2)]
    written = (InitCluster(OLD, ClusterSettings()), *map(PutMember, members), Put(b"a", b"1"))
    config = membership.encode(Configuration(voters=(1, 2)))
    log = [Entry(1, 1, EntryKind.CONFIG, config)]
    log += [Entry(i, 2, EntryKind.COMMAND, commands.encode(c)) for i, c in enumerate(written, 2)]
    RocksStorage.create(path, Identity(OLD, 2), hard_state=HardState(2, 1, 4), entries=log)
    trio.run(apply, path, log[:4])
    saved = tuple(
        SavedMember(f"{m.id:016x}", m.name, m.address, m.peer_address, m.dns_address)
        for m in members
    )
    saved_members.write(path, SavedMembers(OLD, "hstore.local", saved))
    return path


def record_of(data_dir: Path, process: run_record.Process) -> run_record.RunRecord:
    return run_record.RunRecord(
        process=process,
        name="n2",
        node_id=f"{2:016x}",
        cluster_id=OLD,
        zone="hstore.local",
        learner=False,
        listen="127.0.0.1:8501",
        address="127.0.0.1:8501",
        peer_address="127.0.0.1:8301",
        dns_address="127.0.0.1:8601",
        data_dir=str(data_dir),
        arguments=("join",),
        variables={},
        directory="/",
    )


async def apply(path: Path, entries: list[Entry]) -> None:
    storage = RocksStorage.open(path, cache_bytes=1 << 20)
    storage.load()
    State(storage.state).apply(entries)
    await storage.close()


def test_it_shows_what_the_directory_holds_and_names_the_next_step(data_dir, capfd):
    WitnessFile(data_dir / "db").write(Witness(3, 7, 2, 1))
    assert run(["recover", "--data-dir", str(data_dir)]) == 0

    out = capfd.readouterr().out
    for line in (
        "node       n2, id 0000000000000002",
        f"cluster    {OLD}, zone hstore.local",
        "log        up to entry 5 of term 2; newest term 2",
        "durable    entry 7 was flushed for certain",
        "agreed     by a majority, up to entry 4 at least",
        "state      0 keys, as of entry 4",
        "members    n1  127.0.0.1:8500  votes\n           n2  127.0.0.1:8501  votes",
        "lost       entries 6 to 7 (the database ends before what was flushed)",
        f"`hstore recover --data-dir {data_dir} --as-only-voter` makes this node a cluster of one",
    ):
        assert line in out, out
    assert read_identity(data_dir).cluster_id == OLD


def test_json_is_the_whole_survey(data_dir, capfd):
    assert run(["recover", "--data-dir", str(data_dir), "--json"]) == 0

    found = msgspec.json.decode(capfd.readouterr().out)
    assert (found["last_index"], found["cluster_id"], found["only_voter"]) == (5, OLD, False)


def test_without_a_terminal_to_ask_on_it_needs_yes(data_dir, capfd):
    assert run(["recover", "--data-dir", str(data_dir), "--as-only-voter"]) == 2
    assert "it needs --yes" in capfd.readouterr().err
    assert read_identity(data_dir).cluster_id == OLD


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_it_says_what_goes_and_asks(
    data_dir, monkeypatch, capfd, answer, status, env
):
    class Terminal:
        def isatty(self):
            return True

        def readline(self):
            return f"{answer}\n"

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("click.confirm", lambda _text: answer == "y")
    assert recover(data_dir, env, as_only_voter=True) == status

    said = capfd.readouterr()
    assert "everything after entry 5 is lost" in said.out
    assert "entry 5 takes effect" in said.out
    assert ("nothing was changed" in said.err) is (status == 1)
    assert (read_identity(data_dir).cluster_id == OLD) is (status == 1)


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_with_yes_it_says_what_goes_all_the_same(data_dir, capfd, json):
    assert run(["recover", "--data-dir", str(data_dir), "--as-only-voter", "--yes", *json]) == 0

    said = capfd.readouterr()
    assert "everything after entry 5 is lost" in (said.err if json else said.out)
    if json:
        assert msgspec.json.decode(said.out)["only_voter"] is True


def test_no_command_that_starts_from_here_goes_to_the_old_members(data_dir, capfd, env):
    run_record.write(record_of(data_dir, run_record.Process(1, 1, "another boot")), env)

    assert run(["recover", "--data-dir", str(data_dir), "--as-only-voter", "--yes"]) == 0

    new = read_identity(data_dir).cluster_id
    assert new != OLD
    assert f"n2 is now the only voter of the new cluster {new}, recovered from {OLD}" in (
        capfd.readouterr().out
    )
    saved = saved_members.read(data_dir)
    assert saved is not None
    assert (saved.cluster_id, [one.name for one in saved.members]) == (new, ["n2"])
    record = run_record.record_of(env, data_dir)
    assert record is not None
    assert record.cluster_id == new


def test_a_second_recover_changes_nothing_and_says_so(data_dir, capfd):
    words = ["recover", "--data-dir", str(data_dir), "--as-only-voter", "--yes"]
    assert run(words) == 0
    first = read_identity(data_dir)
    capfd.readouterr()

    assert run(words) == 0

    assert "nothing was changed" in capfd.readouterr().out
    assert read_identity(data_dir) == first


def test_a_running_nodes_directory_is_refused_with_the_command_that_stops_it(data_dir, capfd, env):
    process = run_record.process_of(os.getpid())
    assert process is not None
    run_record.write(record_of(data_dir, process), env)

    for more in ([], ["--as-only-voter", "--yes"]):
        assert run(["recover", "--data-dir", str(data_dir), *more]) == 1
        assert "`hstore stop -h 127.0.0.1:8501` stops it" in capfd.readouterr().err


def test_root_only_looks_at_another_users_directory(data_dir, capfd, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("needs root, to give the directory to another user")
    ada = 61_001  # no user has this number
    for path in (data_dir, *data_dir.rglob("*")):
        os.chown(path, ada, ada)
    assert run(["recover", "--data-dir", str(data_dir)]) == 0
    assert run(["recover", "--data-dir", str(data_dir), "--as-only-voter", "--yes"]) == 1
    assert f"belongs to user {ada}: run this as that user" in capfd.readouterr().err
    assert read_identity(data_dir).cluster_id == OLD
    assert {path.stat().st_uid for path in data_dir.rglob("*")} == {ada}

    # Anybody else may not even look.
    monkeypatch.setattr(os, "geteuid", lambda: ada + 1)
    assert run(["recover", "--data-dir", str(data_dir)]) == 1
    assert f"belongs to user {ada}, and this is user {ada + 1}" in capfd.readouterr().err


def test_a_directory_without_a_node_is_refused(tmp_path, env, capfd):
    assert run(["recover", "--data-dir", str(tmp_path / "nothing")]) == 1
    assert "holds no hstore node" in capfd.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_a_database_that_cannot_be_opened_is_one_error_with_the_file_and_what_to_do(
    data_dir, capfd
):
    manifest = next((data_dir / "db").glob("MANIFEST-*"))
    manifest.write_bytes(b"damaged" * 20)

    for more in ([], ["--as-only-voter", "--yes"]):
        assert run(["recover", "--data-dir", str(data_dir), *more]) == 1
        said = capfd.readouterr().err
        assert f"the damaged file is {manifest}" in said
        assert "`hstore leave -h NAME`" in said
        assert len(said.splitlines()) == 2
