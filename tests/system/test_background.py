"""Nodes in the background: started, stopped, killed and restarted by commands alone.

The tests share three nodes, which each of them leaves healthy.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hstore.node.discovery import run_record
from hstore.node.discovery.run_record import RunRecord

from .cluster import Cluster, Node, Said

# The shell of this test says that it is there, and ends when it is told something.
SHELL = """
import sys, types
shell = types.ModuleType("hstore.cli.shell.shell")
def run_shell(finder, host, commands=()):
    print("shell at", host, flush=True)
    return int(input())
shell.run_shell = run_shell
sys.modules["hstore.cli.shell.shell"] = shell
from hstore.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def ask(cluster: Cluster, *words: str, status: int = 0) -> Said:
    said = cluster.hstore(*words)
    assert said.status == status, (words, said)
    return said


def record(cluster: Cluster, node: Node) -> RunRecord:
    [found] = [one for one in run_record.records(cluster.env) if one.address == node.address]
    return found


def voters(node: Node) -> set[str]:
    """Return the addresses of the live voters, as a node sees them."""
    return {one.address for one in node.info().nodes if one.voter and one.health == "alive"}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("background")) as cluster:
        seed, *others = cluster.nodes
        try:
            own = ("-h", seed.address, "--data-dir", str(seed.directory))
            said = ask(cluster, "start", "--daemon", *own)
            assert f"http://{seed.address}" in said.out
            for node in others:
                own = ("--listen", node.address, "--data-dir", str(node.directory))
                ask(cluster, "join", "--daemon", "-h", seed.address, *own)
            yield cluster
        finally:
            for one in run_record.running(cluster.env):
                run_record.kill(one, 10.0)
    for node in cluster.nodes:
        assert "Traceback" not in (node.directory / "hstore.log").read_text()


def test_the_last_of_three_takes_writes_and_those_stopped_and_killed_vote_again(
    three: Cluster,
) -> None:
    first, second, last = three.nodes
    everybody = {node.address for node in three.nodes}
    ask(three, "stop", "-h", first.address)
    assert not run_record.is_running(record(three, first))
    ask(three, "stop", "-h", second.address)
    ask(three, "write", "-h", last.address, "-k", "still", "-v", "here")

    said = ask(three, "restart", "-h", first.address)
    assert str(first.directory / "hstore.log") in said.out
    ask(three, "restart", "-h", second.address)
    listed = json.loads(ask(three, "list", "-h", last.address, "--json").out)["nodes"]
    assert {(node["voter"], node["health"]) for node in listed} == {(True, "alive")}
    assert first.read("still") == "here"

    # One that hangs is killed, too.
    os.kill(record(three, last).process.pid, signal.SIGSTOP)
    ask(three, "kill", "-h", last.address)
    ask(three, "restart", "-h", last.address)
    assert voters(last) == everybody
    assert last.read("still") == "here"


def test_a_node_in_the_background_outlives_terminals_and_restarts_in_its_own_process(
    three: Cluster,
) -> None:
    node = three.nodes[1]
    before = record(three, node)
    os.kill(before.process.pid, signal.SIGHUP)
    assert os.getsid(before.process.pid) == before.process.pid
    ask(three, "restart", "-h", node.address)
    after = record(three, node)
    assert after.process == before.process
    assert len(log_of(node, "event=serving")) > len(log_of(node, "event=stopping"))
    assert log_of(node, "asked to restart")
    descriptors = [path.readlink() for path in Path(f"/proc/{after.process.pid}/fd").iterdir()]
    assert len([str(one) for one in descriptors if str(one).endswith("/lock")]) == 1


def log_of(node: Node, word: str) -> list[str]:
    lines = (node.directory / "hstore.log").read_text().splitlines()
    return [line for line in lines if word in line]


def test_on_a_terminal_the_node_lives_as_long_as_its_shell(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        ours, theirs = pty.openpty()
        own = ["-h", node.address, "--data-dir", str(node.directory)]
        with open(ours, "r+b", buffering=0) as terminal:  # noqa: PTH123 - a descriptor
            process = subprocess.Popen(
                [sys.executable, "-c", SHELL, "start", *own],
                env=cluster.env,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
            os.close(theirs)
            with process:
                try:
                    shown = b""
                    while b"shell at" not in shown:
                        shown += terminal.read(4096)
                    assert node.write("k", "v").status == 200
                    terminal.write(b"4\n")
                    assert process.wait(30) == 4
                finally:
                    process.kill()
        assert not run_record.running(cluster.env)
        assert "why=SIGTERM" in log_of(node, "event=stopped")[0]
