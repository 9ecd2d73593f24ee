"""Clusters for clients, and how they are made empty again between two tests."""

from __future__ import annotations

import http.client
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.cluster import Cluster, Node, eventually, request
from tests.system.place import own_network

from .outcome import Unavailable

API_PORT = 8500


NAMES = ("west", "middle", "east")
"""Not `n1` and `n2`: tests of py-consul take these for nodes that are not there."""


@contextmanager
def three() -> Iterator[Cluster]:
    """Run three nodes until the end of `with`.

    Clients are sent to a follower: what is right there is right at the leader, too.
    """
    with _folder() as folder, Cluster(folder) as cluster:
        seed, *others = cluster.nodes
        seed.start("--new-cluster", "--name", NAMES[0])
        eventually(lambda: seed.info().leader, "the seed node leads")
        for node, name in zip(others, NAMES[1:], strict=True):
            node.join(seed.address, "--name", name)
        cluster.wait_healthy()
        yield cluster


@contextmanager
def one() -> Iterator[Node]:
    """Run one node until the end of `with`."""
    with _folder() as folder, Cluster(folder, 1) as cluster:
        node = cluster.nodes[0]
        node.start("--new-cluster", "--name", NAMES[0])
        cluster.wait_healthy()
        yield node


@contextmanager
def alone_on_default_ports(name: str, *words: str) -> Iterator[list[str]]:
    """Run one node of this name on Consul's ports, in a network of its own.

    `words` stand before its command. Gives the words that put a command into that network.

    Raises:
        Unavailable: This machine lets us have no network of our own.
    """
    with own_network() as enter, _folder() as folder:
        if enter is None:
            raise Unavailable("no network namespace can be made here")
        with Cluster(folder, 1, base=API_PORT, prefix=[*enter, *words]) as cluster:
            node = cluster.nodes[0]
            node.start("--new-cluster", "--name", name)
            # Nobody outside of that network can ask it whether it is there: it says so itself.
            eventually(lambda: cluster.hstore("nodes").status == 0, "the node answers")
            yield enter


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hstore-clients-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wipe(address: str) -> None:
    """Remove all keys and sessions; what the node cannot do yet is left undone."""
    try:
        found = request(address, "GET", "/v1/session/list")
        for session in found.json() if found.status == 200 else ():
            request(address, "PUT", f"/v1/session/destroy/{session['ID']}")
        request(address, "DELETE", "/v1/kv/?recurse")
    except (OSError, http.client.HTTPException):
        # The test that comes next will say what is wrong.
        return
