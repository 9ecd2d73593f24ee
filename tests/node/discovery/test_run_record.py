"""The record of what runs here: whose process is meant, and that it is a file which may be missing."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from hstore.node.discovery import run_record
from hstore.node.discovery.run_record import Process, RunRecord

SLEEPER = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]


def make(data_dir="/nowhere/d", process=None, **changes):
    record = RunRecord(
        process=process or Process(1, 0, ""),
        name="n1",
        node_id=f"{7:016x}",
        cluster_id="00000000000000c1",
        zone="hstore.local",
        learner=False,
        listen="127.0.0.1:8500",
        address="127.0.0.1:8500",
        peer_address="127.0.0.1:8300",
        dns_address="127.0.0.1:8600",
        data_dir=str(data_dir),
        arguments=("start", "--listen=127.0.0.1:8500"),
        variables={},
        directory="/",
    )
    return msgspec.structs.replace(record, **changes)


@pytest.fixture
def env(tmp_path):
    return {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def sleeper():
    """A process that runs until its standard input ends."""
    with subprocess.Popen(SLEEPER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_record_is_read_as_it_was_written_and_is_its_owners_alone(env):
    record = make(process=run_record.process_of(os.getpid()), variables={"HSTORE_CACHE_MB": "8"})
    run_record.write(record, env)
    assert run_record.records(env) == [record]
    assert run_record.running(env) == [record]
    assert run_record.record_of(env, Path(record.data_dir)) == record
    [file] = (Path(env["XDG_STATE_HOME"]) / "hstore" / "nodes").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_without_the_variable_the_folder_is_below_the_home_directory(tmp_path):
    at_home = tmp_path / ".local/state/hstore/nodes"
    assert run_record.folder({"HOME": str(tmp_path)}) == at_home
    assert run_record.folder({"HOME": str(tmp_path), "XDG_STATE_HOME": "relative"}) == at_home
    assert run_record.folder({}) is None
    assert run_record.records({}) == []
    with pytest.raises(OSError, match="HOME"):
        run_record.write(make(), {})


def test_a_directory_has_one_record_wherever_its_node_listens(env):
    run_record.write(make(), env)
    run_record.write(make(listen="127.0.0.1:8501"), env)
    run_record.write(make("/other"), env)
    assert [one.listen for one in run_record.records(env) if one.data_dir != "/other"] == [
        "127.0.0.1:8501"
    ]
    run_record.forget(env, Path("/other"))
    run_record.forget(env, Path("/other"))
    assert len(run_record.records(env)) == 1


def test_what_is_no_record_is_left_out(env):
    run_record.write(make(), env)
    folder = Path(env["XDG_STATE_HOME"]) / "hstore" / "nodes"
    (folder / "garbage.json").write_bytes(b"\x00{")
    (folder / "other.json").write_bytes(b'{"process": 1}')
    assert run_record.records(env) == [make()]


def test_a_process_that_ended_does_not_run_even_while_nobody_has_waited_for_it(sleeper):
    record = make(process=run_record.process_of(sleeper.pid))
    assert run_record.is_running(record)
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
    assert Path(f"/proc/{sleeper.pid}").exists()
    assert not run_record.is_running(record)


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}])
def test_another_process_with_the_same_id_is_not_taken_for_the_node(sleeper, change):
    own = run_record.process_of(sleeper.pid)
    assert own is not None
    record = make(process=msgspec.structs.replace(own, **change))
    assert not run_record.is_running(record)
    assert run_record.kill(record, 0.0)
    assert sleeper.poll() is None


def test_the_name_of_a_program_does_not_confuse_the_proof(tmp_path):
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/cat")
    with subprocess.Popen([str(program)], stdin=subprocess.PIPE) as process:
        found = run_record.process_of(process.pid)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        assert found is not None
        assert str(found.started) == fields[19]
        process.kill()


def test_a_process_that_is_stopped_runs_and_can_be_killed(sleeper):
    record = make(process=run_record.process_of(sleeper.pid))
    sleeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
    assert run_record.is_running(record)
    assert run_record.kill(record, 30.0)
    assert sleeper.wait(30) == -signal.SIGKILL


def test_the_oldest_of_those_that_have_ended_are_forgotten_and_none_that_runs(env, monkeypatch):
    monkeypatch.setattr(run_record, "KEPT_MAX", 2)
    lives = make("/lives", process=run_record.process_of(os.getpid()))
    run_record.write(lives, env)
    folder = run_record.folder(env)
    assert folder is not None
    for number, name in enumerate("abcd"):
        run_record.write(make(f"/{name}"), env)
        os.utime(folder / run_record._file_name(f"/{name}"), ns=(number, number))
    kept = {one.data_dir for one in run_record.records(env)}
    assert kept == {"/lives", "/c", "/d"}
