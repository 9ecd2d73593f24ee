"""A clean stop ends in time, whatever holds it up."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from .cluster import Cluster, Node, eventually

# A node that could not end by itself: its loop never comes back from closing the API.
_BUSY = """
import sys, time
from hstore.cli.__main__ import hstore
from hstore.node.process import cutoff
from hstore.node.api.http.server import ApiServer
cutoff.STOP_SECONDS = 0.3
ApiServer.close = lambda self: time.sleep(3600)
sys.argv[0] = "hstore"
hstore()
"""


def _start_busy(node: Node, folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    own = ["start", "-h", node.address, "--data-dir", str(folder / "busy"), "--no-shell"]
    process = subprocess.Popen(
        [sys.executable, "-c", _BUSY, *own], stdin=subprocess.DEVNULL, env=env
    )
    try:
        eventually(lambda: node.info().leader, "it leads")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def test_a_node_that_is_busy_with_its_end_ends_all_the_same(
    cluster: Cluster, tmp_path: Path
) -> None:
    """With ten thousand clients that watch it, a busy machine needs longer than a stop may take."""
    node = cluster.nodes[0]
    process = _start_busy(node, tmp_path, cluster.env)
    try:
        assert node.write("k", "kept").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    node.start("--data-dir", str(tmp_path / "busy"))
    assert eventually(lambda: node.read("k"), "it runs again") == "kept"
