"""Every command against real nodes: what it does, what it says, and its exit status."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hstore.node.discovery import run_record

from .cluster import HSTORE, Cluster, Node, eventually, follow_events, run
from .load import load
from .place import free_base


@pytest.fixture
def newcomer(shared: Cluster, tmp_path: Path) -> Iterator[Node]:
    """A place for one more node beside the shared cluster."""
    with Cluster(tmp_path, 1) as alone:
        yield alone.nodes[0]
    alone.assert_no_traceback()


def refused(node: Node, status: int) -> str:
    """Wait until a node that must not run has ended with `status`; return what it said."""
    assert node.wait_end(30) == status, node.log()
    return node.log()


# -- keys -------------------------------------------------------------------------------------


def test_one_operation_each(shared: Cluster) -> None:
    first, second, third = (node.address for node in shared.nodes)
    written = shared.hstore("write", "-h", third, "-k", "cli/a", "-v", "grüße")
    assert written.status == 0
    assert written.out.startswith("revision ")
    assert shared.hstore("read", "-h", first, "-k", "cli/a") == (0, "grüße\n", "")
    assert shared.hstore("update", "-h", second, "-k", "cli/a", "-v", "b").status == 0
    assert shared.hstore("read", "-h", third, "-k", "cli/a", "--raw") == (0, "b", "")
    everything = shared.hstore("read", "-h", second)
    assert everything.status == 0
    assert json.loads(everything.out)["cli/a"] == "b"
    assert shared.hstore("delete", "-h", first, "-k", "cli/a").status == 0


@pytest.mark.parametrize(
    "words",
    [("read", "-k", "no"), ("update", "-k", "no", "-v", "1"), ("delete", "-k", "no")],
    ids=lambda words: words[0],
)
def test_a_key_that_does_not_exist_is_status_1(shared: Cluster, words: tuple[str, ...]) -> None:
    said = shared.hstore(words[0], "-h", shared.nodes[1].address, *words[1:])
    assert said.status == 1
    assert said.out == ""
    assert said.err.startswith("hstore: ")


@pytest.mark.parametrize(
    "words",
    [
        ("write", "-k", "a"),
        ("read", "-h", "127.0.0.1:not-a-port", "-k", "a"),
        ("start", "-h", "127.0.0.1:1", "--no-shell"),
        ("frobnicate",),
        ("read", "-h", "127.0.0.1:70000", "-k", "a"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(shared: Cluster, words: tuple[str, ...]) -> None:
    said = shared.hstore(*words)
    assert said.status == 2
    assert said.err


@pytest.mark.parametrize("command", ["read", "list", "stop", "kill"])
def test_no_node_there_is_status_3(shared: Cluster, command: str) -> None:
    address = f"127.0.0.1:{free_base(1)}"
    said = shared.hstore(command, "-h", address)
    assert said.status == 3
    assert address in said.err
    assert len(said.err.splitlines()) <= 2


# -- the list ---------------------------------------------------------------------------------


def test_the_list_is_the_same_at_each_node(shared: Cluster) -> None:
    seen = []
    for node in shared.nodes:
        table = shared.hstore("list", "-h", node.address)
        assert table.status == 0, table
        seen.append(sorted(tuple(row.split()[:4]) for row in table.out.splitlines()[1:]))
    assert seen[0] == seen[1] == seen[2]
    assert sorted(row[3] for row in seen[0]) == ["follower", "follower", "leader"]


def test_the_list_as_json_is_the_object_of_the_api(shared: Cluster) -> None:
    node = shared.nodes[0]
    said = shared.hstore("list", "-h", node.address, "--json")
    assert said.status == 0
    assert json.loads(said.out).keys() == node.get("/v1/cluster").json().keys()


def test_the_installed_command_is_the_same_program(shared: Cluster) -> None:
    entry = Path(sys.executable).with_name("hstore")
    said = run(str(entry), "list", "-h", shared.nodes[0].address, "--json", env=shared.env)
    assert said.status == 0
    assert json.loads(said.out)["cluster_id"] == shared.nodes[0].info().cluster_id


def test_the_watched_list_follows_the_end_of_the_node_it_watches(shared: Cluster) -> None:
    watched = shared.followers()[0]
    name = shared.leader().sees(watched).name
    lines: list[str] = []
    with (
        subprocess.Popen(
            [*HSTORE, "list", "--watch", "-h", watched.address],
            env=shared.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as watch,
        ThreadPoolExecutor(1) as pool,
    ):
        try:
            assert watch.stdout is not None
            pool.submit(lines.extend, watch.stdout)
            eventually(lambda: any("leader" in line for line in lines), "the first look")
            watched.kill()
            eventually(
                lambda: any(
                    # Before it stands the time.
                    line.strip().endswith(f" {name}: failed follower, was alive follower")
                    for line in lines
                ),
                "another node tells of its end",
            )
        finally:
            watch.kill()
    assert not [line for line in lines if "Traceback" in line]


# -- who may not join -------------------------------------------------------------------------


def test_a_name_that_is_taken_is_refused_and_the_place_stays_good(
    shared: Cluster, newcomer: Node
) -> None:
    newcomer.join(shared.nodes[1].address, "-n", "n2")
    said = refused(newcomer, 1)
    assert "n2" in said
    assert "taken" in said or "already" in said
    assert len(shared.nodes[0].info().nodes) == 3
    newcomer.join(shared.nodes[1].address, "-n", "n4", "--learner")
    eventually(lambda: newcomer.info().leader, "it joins under another name")
    eventually(lambda: shared.nodes[0].sees(newcomer).health == "alive", "it has caught up")
    assert shared.nodes[0].sees(newcomer).type == "learner"
    left = shared.hstore("leave", "-h", newcomer.address)
    assert left.status == 0, left
    assert newcomer.wait_end() == 0
    shared.wait_healthy()


def test_a_join_that_is_cut_short_is_finished_by_the_next_as_the_same_member(
    shared: Cluster, newcomer: Node
) -> None:
    newcomer.join(shared.nodes[0].address, "-n", "late")
    eventually(newcomer.directory.exists, "it has begun")
    newcomer.kill()
    newcomer.join(shared.nodes[1].address, "-n", "late")
    eventually(lambda: shared.nodes[0].sees(newcomer).voter, "it votes")
    assert len(shared.nodes[0].info().nodes) == 4
    assert shared.hstore("leave", "-h", newcomer.address).status == 0
    shared.wait_healthy()


def test_joining_oneself_is_refused(shared: Cluster, newcomer: Node) -> None:
    member = shared.nodes[1].address
    said = shared.hstore("join", "-h", member, "--listen", member, "--no-shell")
    assert said.status == 2
    assert "cannot join itself" in said.err


def test_joining_what_is_no_hstore_node_is_refused(newcomer: Node) -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Stranger) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.05)
        try:
            address = f"127.0.0.1:{server.server_port}"
            newcomer.join(address)
            said = refused(newcomer, 3)
        finally:
            server.shutdown()
    assert f"{address} answers" in said
    assert "not an hstore node" in said


def test_joining_where_nobody_answers_is_status_3(newcomer: Node) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        # Bound and then closed: nobody listens there.
        address = f"127.0.0.1:{silent.getsockname()[1]}"
    newcomer.join(address)
    assert address in refused(newcomer, 3)
    assert not newcomer.directory.exists()


def test_joining_while_there_is_no_leader_says_so(shared: Cluster, tmp_path: Path) -> None:
    survivor = shared.followers()[0]
    for node in shared.nodes:
        if node is not survivor:
            node.kill()
    eventually(lambda: survivor.info().leader is None, "it has no leader")
    with Cluster(tmp_path / "more", 1) as more:
        more.folder.mkdir()
        more.nodes[0].join(survivor.address)
        said = refused(more.nodes[0], 1)
    assert "no leader" in said
    assert "Traceback" not in said


# -- ends -------------------------------------------------------------------------------------


def test_stop_keeps_the_member_and_kill_is_a_crash(shared: Cluster) -> None:
    leader, (stopped, killed) = shared.leader(), shared.followers()
    said = shared.hstore("stop", "-h", stopped.address)
    assert said.status == 0, said
    assert stopped.wait_end() == 0
    eventually(lambda: leader.sees(stopped).health == "stopped", "shown as stopped")
    seen = leader.sees(stopped)
    assert (seen.type, seen.voter) == ("learner", False), "the other two keep a quorum"
    stopped.start()
    shared.wait_healthy()
    said = shared.hstore("kill", "-h", killed.address)
    assert said.status == 0, said
    assert killed.wait_end() == -signal.SIGKILL
    eventually(lambda: leader.sees(killed).health == "failed", "shown as failed")
    killed.start()
    shared.wait_healthy()


def test_a_stop_that_no_majority_can_agree_to_says_that_the_node_is_still_a_voter(
    three: Cluster,
) -> None:
    last, *others = three.nodes
    for node in others:
        node.kill()

    said = three.hstore("stop", "-h", last.address)

    assert said.status == 1, said
    assert "still a voter" in said.err
    assert last.wait_end() == 0


def test_nodes_leave_one_after_the_other_the_leader_too_and_cannot_come_back(
    three: Cluster,
) -> None:
    leader, (follower, last) = three.leader(), three.followers()
    assert leader.write("kept", "1").status == 200
    with follow_events(last) as seen:
        said = three.hstore("leave", "-h", follower.address)
        assert said.status == 0, said
        assert "for good" in said.out
        assert follower.wait_end() == 0
        assert run_record.record_of(three.env, follower.directory) is None
        eventually(lambda: len(seen[-1].nodes) == 2, "the events show that it is gone")

    follower.start()
    assert "removed" in refused(follower, 1)
    follower.join(last.address)
    assert "removed" in refused(follower, 1)

    with load([last], clients=2) as running:
        running.wait_more(20)
        said = three.hstore("leave", "-h", leader.address)
        assert said.status == 0, said
        assert leader.wait_end() == 0
        running.wait_more(20)
    running.check([last])
    eventually(lambda: last.info().leader, "the last one leads")
    assert [node.address for node in last.info().nodes] == [last.address]
    assert last.read("kept") == "1"

    said = three.hstore("leave", "-h", last.address)
    assert said.status == 1
    assert "only voter" in said.err
    assert last.is_running


def test_a_removal_that_leaves_no_live_majority_is_refused(shared: Cluster) -> None:
    leader, (gone, other) = shared.leader(), shared.followers()
    gone.kill()
    eventually(lambda: leader.sees(gone).health == "failed", "its end is seen")
    said = shared.hstore("leave", "-h", other.address)
    assert said.status == 1
    assert "majority" in said.err
    assert other.is_running
    assert leader.write("still", "1").status == 200


# -- directories and ports --------------------------------------------------------------------


def test_a_second_process_on_the_same_directory_is_refused(shared: Cluster, newcomer: Node) -> None:
    running = shared.nodes[1]
    newcomer.spawn("start", "-h", newcomer.address, "--data-dir", str(running.directory))
    said = refused(newcomer, 1)
    assert str(running.directory) in said
    assert running.read("anything") is None


def test_a_taken_port_is_refused_with_who_has_it(shared: Cluster, newcomer: Node) -> None:
    taken = shared.nodes[1].address
    newcomer.spawn("start", "-h", taken, "--data-dir", str(newcomer.directory))
    said = refused(newcomer, 1)
    assert f"{taken} is taken by cluster {shared.nodes[1].info().cluster_id}" in said


def test_a_directory_of_another_cluster_is_refused(shared: Cluster, newcomer: Node) -> None:
    newcomer.start()
    eventually(lambda: newcomer.info().leader, "a cluster of its own")
    own_cluster = newcomer.info().cluster_id
    newcomer.signal(signal.SIGTERM)
    assert newcomer.wait_end() == 0
    newcomer.join(shared.nodes[0].address)
    said = refused(newcomer, 1)
    assert own_cluster in said
    assert shared.nodes[0].info().cluster_id in said
    assert len(shared.nodes[0].info().nodes) == 3
