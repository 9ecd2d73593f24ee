"""Machines of their own on one network: nodes find each other there, and again after they moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .cluster import HSTORE, Cluster, Node, Said, eventually, run
from .network import Network, is_permitted

SIZE = 3


class Hosts(Cluster):
    """A cluster with one machine for each node, whose address may change."""

    network: Network

    def place(self, number: int, host: str) -> Node:
        """Return a node at an address of its machine, with the directory that it has there."""
        node = Node(self, 8500, host, self.network.prefix(number))
        node.directory = self.folder / f"data{number}"
        return node

    def seed(self) -> None:
        """Start the first node."""
        self.nodes[0].start("--log-level", "debug")
        eventually(lambda: self.nodes[0].info().leader, "the seed node leads")

    def join_by_name(self) -> None:
        """Let the others join, without a word of where."""
        for node in self.nodes[1:]:
            node.spawn("join", "--listen", node.address, "--data-dir", str(node.directory))
        self.wait_healthy()

    def move(self, number: int, host: str) -> None:
        """Give the machine of a node that does not run another address."""
        assert not self.nodes[number].is_running
        self.network.move(number, host)
        self.nodes[number] = self.place(number, host)

    def ids(self) -> set[str]:
        """Return the nodes' ids, once all say of each that it is where it runs now."""
        own = {node.address for node in self.nodes}

        def agreed() -> set[str] | None:
            # A node is healthy again before the last of them has heard its new address.
            views = [{n.id: n.address for n in node.info().nodes} for node in self.nodes]
            is_so = all(view == views[0] and set(view.values()) == own for view in views)
            return set(views[0]) if is_so else None

        return eventually(agreed, "all nodes say where each of them is now")


@pytest.fixture
def hosts(tmp_path: Path, require_tool: Callable[[str], str]) -> Iterator[Hosts]:
    if not is_permitted():
        pytest.skip("needs network namespaces, so root or `unshare -rn`")
    for tool in ("ip", "unshare", "nsenter"):
        require_tool(tool)
    with Network(SIZE) as network, Hosts(tmp_path, 0) as cluster:
        cluster.network = network
        cluster.nodes = [cluster.place(number, host) for number, host in enumerate(network.hosts)]
        with network.inside():
            yield cluster
        cluster.assert_no_traceback()


def test_by_unicast_dns_nodes_join_and_a_node_that_moved_is_taken_back_under_its_id(
    hosts: Hosts,
) -> None:
    hosts.env |= {"HSTORE_DNS": f"{hosts.network.hosts[0]}:8600", "HSTORE_DISCOVERY_MDNS": "false"}
    hosts.seed()
    hosts.join_by_name()
    before = hosts.ids()
    assert all("nothing is encrypted" in node.log() for node in hosts.nodes)

    hosts.nodes[2].kill()
    hosts.move(2, "10.213.7.33")
    hosts.nodes[2].start()
    hosts.wait_healthy()
    assert hosts.ids() == before
    assert hosts.nodes[0].write("moved", "yes").status == 200
    assert hosts.nodes[2].read("moved") == "yes"

    # All at once, and the only thing anybody is told is where one of them answers DNS now.
    for number, node in enumerate(hosts.nodes):
        node.kill()
        hosts.move(number, f"10.213.7.{41 + number}")
    hosts.env["HSTORE_DNS"] = "10.213.7.41:8600"
    for node in hosts.nodes:
        node.start()
    hosts.wait_healthy()
    assert hosts.ids() == before
    assert hosts.nodes[1].read("moved") == "yes"


def test_by_multicast_nodes_join_and_find_each_other_when_all_addresses_changed_at_once(
    hosts: Hosts,
) -> None:
    hosts.seed()
    hosts.join_by_name()
    before = hosts.ids()
    assert hosts.nodes[0].write("kept", "yes").status == 200
    for number, node in enumerate(hosts.nodes):
        node.kill()
        hosts.move(number, f"10.213.7.{51 + number}")
    for node in hosts.nodes:
        node.spawn("join", "--listen", node.address, "--data-dir", str(node.directory))
    hosts.wait_healthy()
    assert hosts.ids() == before
    assert hosts.nodes[2].read("kept") == "yes"

    # Commands that are for a node's own machine reach it at its address, which is not loopback.
    def at(number: int, *words: str) -> Said:
        return run(*hosts.network.prefix(number), *HSTORE, *words, env=hosts.env)

    first, second, _ = hosts.nodes
    first.kill()
    refused = at(0, "stop", "-h", second.address)
    assert refused.status == 1
    assert "only a program on the node's own machine may do this" in refused.err
    assert at(1, "leave", "-h", first.address).status == 0
    assert at(1, "stop", "-h", second.address).status == 0
