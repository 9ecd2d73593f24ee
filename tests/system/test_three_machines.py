"""Three machines as an operator has them: one configuration file, and commands typed on each.

Each machine is a namespace with a home of its own, so that none knows the run records of another.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .cluster import HSTORE, Cluster, Node, Said, clean_env, eventually, run
from .network import Network, is_permitted

FIRST, SECOND, THIRD = 0, 1, 2


class Machines(Cluster):
    """Three machines with the same file, and the node of each."""

    network: Network

    def write_file(self) -> None:
        """Write the file that all of them have, without a word about any of them."""
        hosts = ", ".join(f'"{host}"' for host in self.network.hosts)
        self.file = self.folder / "hstore.toml"
        self.file.write_text(f"expect = 3\n[discovery]\nhosts = [{hosts}]\nmdns = false\n")

    def env_of(self, number: int) -> dict[str, str]:
        """Return the environment of a machine."""
        home = self.folder / f"home{number}"
        home.mkdir(exist_ok=True)
        return clean_env(home)

    def start(self, number: int) -> None:
        """Run the command that is the same on each machine."""
        before, self.env = self.env, self.env_of(number)
        self.nodes[number].spawn("start", "--config", str(self.file))
        self.env = before

    def typed(self, number: int, command: str) -> Said:
        """Run a command as it is typed on a machine."""
        words = [*self.network.prefix(number), *HSTORE, *command.split()]
        return run(*words, env=self.env_of(number))

    def expect(self, number: int, command: str, *parts: str, status: int = 0) -> str:
        """Type a command, and check its status and what it says; return that."""
        said = self.typed(number, command)
        text = said.out + said.err
        assert said.status == status, (command, said)
        for part in parts:
            assert part in text, (command, said)
        return text

    def wait_log(self, number: int, text: str) -> None:
        """Wait until a node has logged this."""
        eventually(lambda: text in self.nodes[number].log(), f"{text!r} in a log")

    def waits_on(self, number: int) -> None:
        """Wait until a node says that it waits for the first machine."""
        self.wait_log(number, "waiting for the cluster")


@pytest.fixture
def machines(tmp_path: Path, require_tool: Callable[[str], str]) -> Iterator[Machines]:
    if not is_permitted():
        pytest.skip("needs network namespaces, so root or `unshare -rn`")
    for tool in ("ip", "unshare", "nsenter"):
        require_tool(tool)
    with Network(3) as network, Machines(tmp_path, 0) as cluster:
        cluster.network = network
        cluster.nodes = [
            Node(cluster, 8500, host, network.prefix(number))
            for number, host in enumerate(network.hosts)
        ]
        cluster.write_file()
        with network.inside():
            yield cluster
        cluster.assert_no_traceback()


def all_end_and_come_back(machines: Machines, cluster_id: str) -> None:
    """All are stopped from one machine, and come back as the same cluster, started at once."""
    nodes = machines.nodes
    assert nodes[THIRD].write("k", "v").status == 200
    said = machines.expect(SECOND, "stop --all", "has stopped, all 3 nodes; with 2 of its 3 voters")
    for node in nodes:
        assert node.wait_end() == 0
        assert f"at {node.address} has stopped" in said
    for number in (SECOND, FIRST, THIRD):
        machines.start(number)
    assert machines.wait_healthy().cluster_id == cluster_id
    assert nodes[FIRST].read("k") == "v"


def agree_from_anywhere(machines: Machines, name: list[str], address: list[str]) -> None:
    """What the cluster agrees on goes through the member on this machine, whichever is named."""
    expect = machines.expect
    expect(THIRD, f"config -h {name[FIRST]} dns_ttl 2s", "dns_ttl is 2s")
    expect(FIRST, f"rename -h {name[SECOND]} web", f"{name[SECOND]} is web now")
    expect(THIRD, f"transfer {address[SECOND].partition(':')[0]}", "web leads")
    expect(FIRST, "transfer web", "web leads")
    expect(FIRST, "transfer nobody", "no member is called nobody", status=1)


def test_the_same_file_in_the_wrong_order_and_every_command_here_and_elsewhere(
    machines: Machines,
) -> None:
    for number in (THIRD, SECOND):
        machines.start(number)
    for number in (THIRD, SECOND):
        machines.waits_on(number)
    machines.start(FIRST)
    expect, nodes = machines.expect, machines.nodes
    info = machines.wait_healthy()
    address = [node.address for node in nodes]
    assert {node.address for node in info.nodes} == set(address)
    names = {node.address: node.name for node in info.nodes}
    name = [names[one] for one in address]

    agree_from_anywhere(machines, name, address)
    all_end_and_come_back(machines, info.cluster_id)

    # A first machine that lost its disk begins no second cluster beside the one that lives.
    data, lost = machines.folder / "home0/data", machines.folder / "lost"
    nodes[FIRST].kill()
    data.rename(lost)
    machines.start(FIRST)
    assert nodes[FIRST].wait_end() == 1
    assert f"a member of cluster {info.cluster_id}" in nodes[FIRST].log()
    shutil.rmtree(data, ignore_errors=True)
    lost.rename(data)
    machines.start(FIRST)
    assert machines.wait_healthy().cluster_id == info.cluster_id

    # What is for one process is refused elsewhere, with the line to type there.
    def is_refused(order: str) -> None:
        words = order.format(name[THIRD])
        line = f"on the machine of {address[THIRD]}: `hstore {order.format(address[THIRD])}`"
        expect(FIRST, words, line, status=1)

    orders = [f"{one} -h {{}}" for one in ("stop", "kill", "restart", "leave")]
    with ThreadPoolExecutor() as pool:
        list(pool.map(is_refused, [*orders, "config -h {} log_level debug"]))
    assert nodes[THIRD].is_running

    # And done on its own machine, also by its host alone.
    expect(THIRD, f"config -h {address[THIRD]} log_level debug", "log_level is debug")
    expect(THIRD, f"restart -h {name[THIRD]}", "runs, follower of")
    expect(THIRD, f"stop -h {address[THIRD].partition(':')[0]}", "has stopped")
    assert nodes[THIRD].wait_end() == 0
    expect(FIRST, f"restart -h {name[THIRD]}", f"on the machine of {address[THIRD]}", status=1)

    # A member that is gone is removed by any machine that has one, and not by any other.
    expect(FIRST, f"leave -h {name[THIRD]}", f"{address[FIRST]} removed it for good")
    assert {node.address for node in nodes[SECOND].info().nodes} == set(address[:THIRD])

    nodes[FIRST].kill()
    machines.network.unplug(FIRST)
    expect(THIRD, f"stop --all -h {address[SECOND]}", "on the machine of", status=1)
    assert nodes[SECOND].is_running
