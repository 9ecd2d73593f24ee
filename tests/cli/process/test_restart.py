"""Restart: in place where a node answers, in the background where one has ended, refused otherwise."""

from __future__ import annotations

import os

import httpx
import pytest

from hstore.cli.client.errors import Unreachable
from hstore.cli.main import cli
from hstore.cli.process import restart as module
from hstore.cli.process.restart import restart_node
from hstore.cli.search.local import NamedNode
from hstore.node.errors import ConfigError, Refused

A = "127.0.0.1:8500"


def named(finder, record=None, said=A):
    return NamedNode(said, A, record, (), finder)


@pytest.fixture
def spawned(monkeypatch):
    """What would have been started in the background."""
    calls = []

    def run_in_background(arguments, env, *, directory, as_json):
        calls.append((arguments, env, directory))
        return 0

    monkeypatch.setattr(module, "run_in_background", run_in_background)
    return calls


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / "d" / "db").mkdir(parents=True)
    return tmp_path / "d"


def test_a_running_node_is_asked_to_restart_and_waited_for_until_its_next_life_is_healthy(
    make_finder, cluster, make, capfd, spawned
):
    cluster.set(A, "/v1/events", make.events(make.info(), make.info()))
    cluster.set(A, "/v1/node/restart", {})
    cluster.set(A, "/v1/cluster", [make.info(), None, make.info(leader=None), make.info()])
    record = make.record(pid=os.getpid(), arguments=("start", "--data-dir=/d"))
    assert restart_node(named(make_finder(), record), {}, cli.commands) == 0
    assert [path for _, _, path in cluster.asked] == [
        "/v1/cluster",
        "/v1/events",
        "/v1/node/restart",
        *["/v1/cluster"] * 3,
    ]
    assert "n1 runs, leader" in capfd.readouterr().out
    assert spawned == []


def test_a_node_without_a_record_is_restarted_in_place_too(make_finder, cluster, make, capfd):
    cluster.set(A, "/v1/events", make.events(make.info(), make.info()))
    cluster.set(A, "/v1/node/restart", {})
    cluster.set(A, "/v1/cluster", make.info())
    assert restart_node(named(make_finder()), {}, cli.commands) == 0
    assert "n1 runs, leader" in capfd.readouterr().out


def test_a_refused_restart_is_the_nodes_own_refusal(make_finder, cluster, make):
    cluster.set(A, "/v1/events", make.events(make.info()))
    cluster.set(A, "/v1/cluster", make.info())
    refused = httpx.Response(403, json={"error": "connect to loopback"})
    cluster.set(A, "/v1/node/restart", refused)
    with pytest.raises(Refused, match="connect to loopback"):
        restart_node(named(make_finder()), {}, cli.commands)


def test_a_node_that_does_not_come_back_is_said_to_have_ended_with_its_last_words(
    make_finder, cluster, make, sleeper, tmp_path
):
    log = tmp_path / "hstore.log"
    log.write_text("hstore: before\n")
    words = ("start", f"--data-dir={tmp_path}")
    record = make.record(pid=sleeper.pid, log_file=str(log), arguments=words)
    cluster.set(A, "/v1/cluster", [make.info()])
    cluster.set(A, "/v1/node/restart", {})

    def events():
        yield b"event: cluster\ndata: " + make.events(make.info()).content.split(b"data: ")[1]
        log.write_text("hstore: before\nhstore: the config is gone\n")
        sleeper.kill()
        sleeper.wait()

    cluster.set(A, "/v1/events", httpx.Response(200, content=events()))
    with pytest.raises(Refused, match="did not start again: the config is gone"):
        restart_node(named(make_finder(), record), {}, cli.commands)


def test_one_that_ended_starts_with_the_settings_it_had_and_none_of_ours(
    make_finder, make, data_dir, tmp_path, spawned
):
    record = make.record(
        data_dir=str(data_dir), variables={"HSTORE_CACHE_MB": "8"}, directory=str(tmp_path)
    )
    env = {"HOME": "/h", "HSTORE_CACHE_MB": "16", "HSTORE_ZONE": "x.y"}
    assert restart_node(named(make_finder(), record), env, cli.commands) == 0
    [(arguments, given, directory)] = spawned
    assert arguments == [*record.arguments, "--resume"]
    assert given == {"HOME": "/h", "HSTORE_CACHE_MB": "8"}
    assert directory == str(tmp_path)


def test_one_whose_working_directory_is_gone_starts_in_its_data_directory(
    make_finder, make, data_dir, tmp_path, spawned
):
    record = make.record(data_dir=str(data_dir), directory=str(tmp_path / "gone"))
    assert restart_node(named(make_finder(), record), {}, cli.commands) == 0
    assert spawned[0][2] == str(data_dir)


def test_one_that_never_ran_here_is_refused(make_finder, spawned, tmp_path):
    with pytest.raises(Refused, match=f"no node runs at {A}, and none is recorded"):
        restart_node(named(make_finder()), {"HOME": str(tmp_path)}, cli.commands)
    assert spawned == []


def test_one_whose_directory_is_gone_is_refused(make_finder, make, spawned):
    with pytest.raises(Refused, match="/nowhere/n1 is gone or empty"):
        restart_node(named(make_finder(), make.record()), {}, cli.commands)
    assert spawned == []


def test_one_whose_address_another_node_has_now_is_refused_with_who_has_it(
    make_finder, cluster, make, data_dir, spawned
):
    cluster.set(A, "/v1/cluster", make.info(make.node(1, id=f"{9:016x}", name="n9")))
    record = make.record(data_dir=str(data_dir))
    with pytest.raises(Refused, match=f"n1 has ended, and {A} is taken by cluster .*n9 at"):
        restart_node(named(make_finder(), record, said="n1"), {}, cli.commands)
    assert spawned == []
    assert len(cluster.asked) == 1


def test_one_that_hangs_is_said_to_and_not_started_twice(
    make_finder, cluster, make, sleeper, spawned
):
    cluster.set(A, "/v1/cluster", httpx.ReadTimeout(""))
    record = make.record(pid=sleeper.pid)
    with pytest.raises(Unreachable, match=f"its process runs; `hstore kill -h {A}`"):
        restart_node(named(make_finder(), record), {}, cli.commands)
    assert spawned == []


def test_one_that_is_about_to_end_is_waited_for(
    make_finder, make, sleeper, data_dir, spawned, clock
):
    record = make.record(pid=sleeper.pid, data_dir=str(data_dir))

    def sleep(seconds):
        clock.time += seconds
        if clock.now() > 2:
            sleeper.kill()
            sleeper.wait()

    clock.sleep = sleep
    assert restart_node(named(make_finder(), record), {}, cli.commands) == 0
    assert sleeper.poll() is not None
    assert len(spawned) == 1


def test_one_whose_settings_have_become_wrong_goes_on_as_it_is(
    make_finder, cluster, make, tmp_path
):
    (tmp_path / "c.toml").write_text("nope = 1")
    words = ("join", "--listen=127.0.0.1:8500", "--data-dir=/d", f"--config={tmp_path}/c.toml")
    record = make.record(pid=os.getpid(), arguments=words)
    cluster.set(A, "/v1/cluster", make.info())
    with pytest.raises(ConfigError, match="nope: unknown key"):
        restart_node(named(make_finder(), record), {}, cli.commands)
    assert len(cluster.asked) == 1


def test_what_ran_earlier_at_the_address_of_another_member_is_not_started_there(
    make_finder, cluster, make, spawned, data_dir
):
    """The member may be of a demo, which is not recorded: its node would meet a stranger there."""
    b = "127.0.0.1:8501"
    cluster.set(b, "/v1/cluster", make.info())
    old = make.record(name="old", node_id=f"{99:016x}", data_dir=str(data_dir))
    with pytest.raises(Refused) as caught:
        restart_node(named(make_finder([b]), old), {}, cli.commands)
    for part in ("n1 of cluster 00000000000000c1", A, "`hstore restart -h old` starts that"):
        assert part in str(caught.value)
    assert spawned == []
    assert restart_node(named(make_finder([b]), old, said="old"), {}, cli.commands) == 0
    own = make.record(data_dir=str(data_dir))
    assert restart_node(named(make_finder([b]), own), {}, cli.commands) == 0
    assert len(spawned) == 2


def test_a_node_of_another_machine_is_not_looked_for_here(make_finder, monkeypatch):
    monkeypatch.setattr(module, "is_this_machine", lambda _address: False)
    with pytest.raises(Refused, match=f"on the machine of {A}: `hstore restart -h {A}`"):
        restart_node(named(make_finder()), {}, cli.commands)
