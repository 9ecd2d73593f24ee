"""A disk with no room left: a leader takes no writes, a follower stops, and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from .clients import record
from .cluster import WAIT_S, Answer, Cluster, Node, eventually

_DISK_BYTES = 64 << 20
_LEFT_BYTES = 256 << 10
"""More than is written before the disk is full, and less than is written after."""

_VALUE = "." * 20_000
_WRITES = _LEFT_BYTES // len(_VALUE) + 5


@pytest.fixture
def small_disk(tmp_path: Path, require_tool: Callable[[str], str]) -> Iterator[Path]:
    """A folder on a file system of its own."""
    mount, umount = require_tool("mount"), require_tool("umount")
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk; `unshare -rm` before the command is enough")
    options = ["-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run([mount, *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    # Lazily: whoever still has a file open there does not keep it in the way.
    subprocess.run([umount, "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave very little room; return the file that takes it."""
    filler = disk / "filler"
    room = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - _LEFT_BYTES)
    return filler


def test_a_follower_with_a_full_disk_stops_with_one_line_and_loses_nothing(
    small_disk: Path, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        full, others = cluster.nodes[2], cluster.nodes[:2]
        full.directory = small_disk / "data"
        cluster.up()
        assert cluster.leader() is not full
        with record(cluster.nodes) as running:
            running.wait_more(30)
            filler = fill(small_disk)
            write_much(others)
            assert_stops(full)
            running.wait_more(30)
        filler.unlink()
        cluster.revive()
        assert_all_there(cluster)
        running.read_everywhere(cluster.nodes)
        running.judge()
    cluster.assert_no_traceback()


def test_a_leader_with_a_full_disk_takes_no_writes_until_another_leads(
    small_disk: Path, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        full, *others = cluster.nodes
        full.directory = small_disk / "data"
        cluster.up()
        assert cluster.leader() is full
        with record(cluster.nodes) as running:
            running.wait_more(30)
            filler = fill(small_disk)
            refused: Answer = eventually(lambda: is_refused(others[0]), "writes are refused")
            assert refused.json()["outcome"] == "not applied"
            assert "MiB left" in refused.json()["error"]
            assert "retry-after" not in refused.headers
            assert full.is_running
            assert {node.read("nothing") for node in cluster.nodes} == {None}

            wish = json.dumps({"to": others[0].address}).encode()
            answer = full.request("POST", "/v1/leader/transfer", wish)
            assert answer.status == 200, answer
            write_much(others)
            assert_stops(full)
            running.wait_more(30)
        filler.unlink()
        cluster.revive()
        assert_all_there(cluster)
        running.read_everywhere(cluster.nodes)
        running.judge()
    cluster.assert_no_traceback()


def is_refused(node: Node) -> Answer | None:
    answer = node.write("refused", "1")
    return answer if answer.status == 503 else None


def assert_stops(node: Node) -> None:
    """It ends by itself, and says why in one line."""
    assert node.wait_end(WAIT_S) == 1
    said = errors_in(node.log())
    assert len(said) == 1, said
    assert "the node stops" in said[0]
    assert "No space left on device" in said[0]


def assert_all_there(cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert len(node.read_all("big/")) == _WRITES


def write_much(nodes: list[Node]) -> None:
    """Write more than there is room for; all of it is acknowledged, whoever leads meanwhile."""
    for number in range(_WRITES):
        write = partial(nodes[number % 2].write, f"big/{number}", _VALUE)
        eventually(partial(is_done, write), "the nodes that have room take writes")


def is_done(write: Callable[[], Answer]) -> bool:
    return write().status == 200


def errors_in(log: str) -> list[str]:
    return [line for line in log.splitlines() if not line.startswith("timestamp=") and line]
