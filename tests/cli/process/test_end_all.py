"""`stop --all`: what is sent to whom, what is said of each node, and that it ends in time."""

from __future__ import annotations

import json

import httpx
import pytest

from hstore.cli import main as cli
from hstore.cli.process import end_all
from hstore.node.discovery import run_record
from hstore.node.errors import Refused

A, B, C = (f"127.0.0.1:{port}" for port in (8500, 8501, 8502))


@pytest.fixture
def env(tmp_path):
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def stop_all(make_finder, cluster, make, env, capsys):
    """Run it against nodes that answer as set; return the lines that it prints."""

    def run(*nodes, as_json=False, **changes):
        info = make.info(*nodes, **changes)
        cluster.set(A, "/v1/cluster", [info, info])
        cluster.set(A, "/v1/cluster/stop", {"stopping": True})
        try:
            end_all.stop_all(None, env, make_finder([A]), as_json=as_json)
        finally:
            lines.extend(capsys.readouterr().out.splitlines())
        return lines

    lines: list[str] = []
    run.lines = lines  # type: ignore[attr-defined]
    return run


def test_one_order_goes_to_one_node_and_each_node_is_named_when_it_has_ended(
    stop_all, cluster, make
):
    cluster.set(B, "/v1/cluster", [make.info(), httpx.ReadTimeout("")])
    *each, whole = stop_all()
    assert each == [f"{name} has stopped" for name in (f"n1 at {A}", f"n3 at {C}", f"n2 at {B}")]
    assert "has stopped, all 3 nodes; with 2 of its 3 voters started it serves again" in whole
    assert [one for one in cluster.asked if one[1] == "POST"] == [(A, "POST", "/v1/cluster/stop")]


def test_as_json_each_node_is_a_line_and_the_cluster_the_last(stop_all, make):
    *each, whole = map(json.loads, stop_all(make.node(1), make.node(2), as_json=True))
    assert each == [
        {"name": name, "address": at, "result": "stopped"} for name, at in (("n1", A), ("n2", B))
    ]
    assert whole == {
        "cluster_id": "00000000000000c1", "nodes": 2, "quorum": 2, "result": "stopped",
    }  # fmt: skip


def test_a_cluster_of_one(stop_all, make):
    assert stop_all(make.node(1), quorum=1) == [
        f"n1 at {A} has stopped",
        "cluster 00000000000000c1 has stopped, its only node",
    ]


def test_a_cluster_that_waits_for_more_nodes_does_not_serve_with_these(make):
    said = end_all._whole(make.info(make.node(1), make.node(2), leader=None, waiting_for=3))
    assert said.endswith("has stopped, all 2 nodes; it serves once 3 nodes have joined")


def test_nodes_that_were_down_or_stopped_before_are_named(stop_all, make):
    down = make.node(2, health="failed", reason="refuses connections")
    stopped = make.node(3, health="stopped")
    assert stop_all(make.node(1), down, stopped)[:3] == [
        f"n1 at {A} has stopped",
        f"n2 at {B} was down before (refuses connections)",
        f"n3 at {C} had stopped before",
    ]


def test_a_node_that_was_lost_and_does_not_answer_may_run_status_1(stop_all, cluster, clock, make):
    cluster.set(B, "/v1/cluster", httpx.ConnectTimeout("no answer"))
    with pytest.raises(Refused) as caught:
        stop_all(make.node(1), make.node(2, health="failed"))
    assert f"n2 at {B} was failed before, and does not answer" in str(caught.value)
    assert f"on the machine of each: `hstore stop -h {B}`" in str(caught.value)
    assert stop_all.lines == [f"n1 at {A} has stopped"]
    assert clock.now() < 1


def test_a_node_whose_machine_cannot_be_reached_has_not_stopped_for_all_that_is_known(
    stop_all, cluster, make
):
    cluster.set(B, "/v1/cluster", httpx.ConnectError("[Errno 113] No route to host"))
    with pytest.raises(Refused, match=f"n2 at {B} does not answer"):
        stop_all()
    assert stop_all.lines == [f"n1 at {A} has stopped", f"n3 at {C} has stopped"]


def test_a_node_that_goes_on_is_named_after_a_bounded_time(stop_all, cluster, clock, make):
    cluster.set(B, "/v1/cluster", make.info())
    with pytest.raises(Refused, match=f"n2 at {B} is still there"):
        stop_all()
    assert clock.now() == pytest.approx(end_all.ALL_GONE_S, abs=0.2)


def test_a_node_here_is_gone_when_its_process_is_and_can_be_started_again(
    stop_all, make, env, sleeper, clock
):
    run_record.write(make.record(pid=sleeper.pid), env)
    real = clock.sleep

    def sleep(seconds):
        real(seconds)
        if clock.now() > 1:
            sleeper.kill()
            sleeper.wait()

    clock.sleep = sleep
    lines = stop_all()
    assert lines[2] == f"n1 at {A} has stopped; `hstore restart -h {A}` starts it again"


def test_without_a_member_on_this_machine_it_is_said_where_to_type_it(
    stop_all, cluster, make, make_finder, env, monkeypatch
):
    monkeypatch.setattr("hstore.cli.search.here.is_this_machine", lambda _address: False)
    cluster.set(A, "/v1/cluster", make.info())
    cluster.set(A, "/v1/cluster/stop", httpx.Response(403, json={"error": "not from there"}))
    with pytest.raises(Refused, match=f"(?s)not from there.*machine of {A}: `hstore stop --all`"):
        end_all.stop_all(None, env, make_finder([A]))


def test_stop_without_a_node_and_without_all_is_wrong_usage(capfd, monkeypatch):
    monkeypatch.setenv("HSTORE_HOST", "n1")
    assert cli.run(["stop"]) == 2
    assert "name the node with -h ADDR, or give --all" in capfd.readouterr().err
