"""What a node logs to goes away while clients are at work: the node does not."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from . import disks
from .clients import record
from .cluster import Cluster, Node, eventually
from .sinks import fill, make_small


def move_lead_around(cluster: Cluster, node: Node, rounds: int = 6) -> None:
    """Have the leader change again and again, which is a line or two in the log of `node`."""
    for _ in range(rounds):
        leader = cluster.leader()
        other = next(one for one in cluster.nodes if one is not leader)
        to = node if leader is not node else other
        answer = leader.request(
            "POST", "/v1/leader/transfer", json.dumps({"to": to.address}).encode()
        )
        assert answer.status == 200, answer
        eventually(lambda to=to: cluster.leader() is to, f"{to.address} leads")  # type: ignore[misc]
        assert node.is_running


def test_a_log_that_blocks_and_one_whose_reader_has_ended_do_not_hold_up_a_node(
    tmp_path: Path,
) -> None:
    reader, writer = os.pipe()
    with Cluster(tmp_path) as cluster:
        try:
            make_small(writer)
            node = cluster.nodes[0]
            node.log_fd = writer
            cluster.up()
            with record(cluster.nodes) as running:
                running.wait_more(20)
                fill(writer)
                move_lead_around(cluster, node)
                running.wait_more(20)
                os.close(reader)
                os.close(writer)
                move_lead_around(cluster, node)
                running.wait_more(20)
            running.read_everywhere(cluster.nodes)
            running.judge()
            node.signal(signal.SIGTERM)
            assert node.wait_end() == 0
        finally:
            for fd in (reader, writer):
                with suppress(OSError):
                    os.close(fd)


def test_a_node_whose_log_blocks_still_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """Also where it ends with an error, whose line nobody reads."""
    reader, writer = os.pipe()
    with Cluster(tmp_path, 2) as cluster:
        try:
            make_small(writer)
            fill(writer)
            node, second = cluster.nodes
            node.log_fd = second.log_fd = writer
            node.start("--new-cluster")
            eventually(lambda: node.info().leader, "it leads")
            second.directory = node.directory  # held by the other process
            second.start()
            assert second.wait_end() == 1
            node.signal(signal.SIGTERM)
            assert node.wait_end() == 0
        finally:
            os.close(reader)
            os.close(writer)


@pytest.fixture
def small_disk(tmp_path: Path, require_tool: Callable[[str], str]) -> Iterator[Path]:
    """A folder on a file system of its own, of a few pages."""
    for tool in ("mount", "umount"):
        require_tool(tool)
    try:
        with disks.small_disk(tmp_path / "small", "16k") as folder:
            yield folder
    except disks.CannotMount as error:
        pytest.skip(str(error))


def have_it_log(node: Node) -> None:
    """Have a node at the level `debug` log a line: somebody who is no peer talks to its peer port."""
    with closing(socket.create_connection(("127.0.0.1", node.peer_port), 5)) as stranger:
        stranger.sendall(b"\0\0\0\1x")
        stranger.settimeout(15)
        with suppress(ConnectionResetError):
            assert stranger.recv(1) == b""


def test_a_node_serves_on_when_the_disk_of_its_log_is_full_and_then_says_how_much_was_lost(
    small_disk: Path, tmp_path: Path
) -> None:
    log = small_disk / "log"
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Cluster(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        node.log_fd = sink
        node.start("--new-cluster", "--log-level", "debug")
        os.close(sink)
        eventually(lambda: node.info().leader, "it leads")
        with suppress(OSError), (small_disk / "filler").open("wb", 0) as filler:
            while True:
                filler.write(b"x" * 512)

        def have_lost() -> bool:
            have_it_log(node)
            return log.stat().st_size % 4096 == 0 and log.stat().st_size > 0

        eventually(have_lost, "the disk is full to its last byte")
        for _ in range(3):
            have_it_log(node)
        assert node.write("a", "1").status == 200
        (small_disk / "filler").unlink()

        def told() -> bool:
            have_it_log(node)
            return "log lines dropped" in log.read_text()

        eventually(told, "the log says how many lines it lost")
        node.signal(signal.SIGTERM)
        assert node.wait_end() == 0
        assert "stopped" in log.read_text().splitlines()[-1], "its last words are there"
