"""A disk with no room left: the node says so or stops, the others go on, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from .clients import record
from .cluster import Answer, Cluster, Node, eventually

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


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_full_disk_stops_at_most_its_own_node_and_loses_nothing(
    role: str, small_disk: Path, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        # The seed leads, unless something happens to it.
        place = 0 if role == "leader" else 2
        full = cluster.nodes[place]
        full.directory = small_disk / "data"
        cluster.up()
        assert (cluster.leader() is full) is (role == "leader")
        others = [node for node in cluster.nodes if node is not full]
        with record(cluster.nodes) as running:
            running.wait_more(30)
            filler = fill(small_disk)
            begun = len(full.log())
            write_much(others)
            running.wait_more(40)
        said = eventually(lambda: errors_in(full.log()[begun:]), "the node says what is wrong")
        assert "No space left on device" in said[0]
        if "the node stops" in said[0]:
            assert full.wait_end() == 1
            assert len(errors_in(full.log()[begun:])) == 1
        filler.unlink()
        cluster.revive()
        for node in cluster.nodes:
            assert len(node.read_all("big/")) == _WRITES
        running.read_everywhere(cluster.nodes)
        running.judge()
    cluster.assert_no_traceback()


def write_much(nodes: list[Node]) -> None:
    """Write more than there is room for; all of it is acknowledged, whoever leads meanwhile."""
    for number in range(_WRITES):
        write = partial(nodes[number % 2].write, f"big/{number}", _VALUE)
        eventually(partial(is_done, write), "the nodes that have room take writes")


def is_done(write: Callable[[], Answer]) -> bool:
    return write().status == 200


def errors_in(log: str) -> list[str]:
    return [line for line in log.splitlines() if not line.startswith("timestamp=") and line]
