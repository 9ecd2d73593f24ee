"""A cluster whose nodes have a network each: what tests of broken links run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .cluster import Cluster, Node
from .network import Network, why_not

SIZE = 3


class Parted(Cluster):
    """Nodes that each have a network of their own."""

    network: Network

    def number(self, node: Node) -> int:
        """Return what the network calls a node."""
        return self.nodes.index(node)

    def isolate(self, node: Node) -> None:
        """Separate a node from the others."""
        self.network.isolate(self.number(node))

    def reunite(self, node: Node) -> None:
        """End that."""
        self.network.reunite(self.number(node))

    def unplug(self, node: Node) -> None:
        """Take the link of a node down."""
        self.network.unplug(self.number(node))

    def plug(self, node: Node) -> None:
        """Bring it up again."""
        self.network.plug(self.number(node))

    def mute(self, node: Node) -> None:
        """Lose what a node sends to the others."""
        for other in range(len(self.nodes)):
            if other != self.number(node):
                self.network.mute(self.number(node), other)

    def unmute(self, node: Node) -> None:
        """End that."""
        for other in range(len(self.nodes)):
            if other != self.number(node):
                self.network.unmute(self.number(node), other)


@contextmanager
def parted_cluster(folder: Path, require_tool: Callable[[str], str]) -> Iterator[Parted]:
    """Give a healthy cluster of three, from outside of its network; or skip, and say why."""
    for tool in ("ip", "unshare", "nsenter"):
        require_tool(tool)
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with Network(SIZE) as network, Parted(folder, 0) as cluster:
        cluster.network = network
        cluster.nodes = [
            Node(cluster, 8500, host, network.prefix(number))
            for number, host in enumerate(network.hosts)
        ]
        with network.inside():
            cluster.up()
        yield cluster
        cluster.assert_no_traceback()
