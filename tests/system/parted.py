"""A cluster whose nodes have a network each: what tests of broken links run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from .cluster import Cluster, Node
from .network import Network, is_permitted
from .relay import Relay

SIZE = 3


class Parted(Cluster):
    """Nodes whose links can be cut: each has a network of its own, or a relay stands between."""

    network: Network | Relay

    def number(self, node: Node) -> int:
        """Return what the network calls a node."""
        return self.nodes.index(node)

    def place(self, number: int, port: int = 8500) -> Node:
        """Return what can run at one of the network's hosts."""
        network = self.network
        listening = network.listening(number)
        return Node(self, port, network.hosts[number], network.prefix(number), listening=listening)

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


P = TypeVar("P", bound=Parted)


@contextmanager
def parted_cluster(
    kind: type[P],
    folder: Path,
    require_tool: Callable[[str], str],
    *,
    is_relayed: bool = False,
) -> Iterator[P]:
    """Give a healthy cluster of three, from outside of its network.

    Where there can be no network namespaces, or where it is asked for, a relay cuts the links.
    """
    network: Network | Relay
    if is_relayed or not is_permitted():
        network = Relay(SIZE)
    else:
        for tool in ("ip", "unshare", "nsenter"):
            require_tool(tool)
        network = Network(SIZE)
    with network, kind(folder, 0) as cluster:
        cluster.network = network
        cluster.nodes = [cluster.place(number) for number in range(SIZE)]
        with network.inside():
            cluster.up()
        yield cluster
        cluster.assert_no_traceback()
