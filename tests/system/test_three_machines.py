"""Three machines as an operator has them: one configuration file, and commands typed on each.

Each machine is a namespace with a home of its own, so that none knows the run records of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    def leader_number(self) -> int:
        """Return the number of the machine whose node leads."""
        return self.nodes.index(self.leader())


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


def test_the_same_file_in_the_wrong_order_then_all_stopped_and_started_at_once(
    machines: Machines,
) -> None:
    for number in (THIRD, SECOND):
        machines.start(number)
        machines.waits_on(number)
    machines.start(FIRST)
    info = machines.wait_healthy()
    assert {node.address for node in info.nodes} == {node.address for node in machines.nodes}
    assert machines.nodes[THIRD].write("k", "v").status == 200

    said = machines.expect(SECOND, "stop --all", "has stopped, all 3 nodes; with 2 of its 3 voters")
    for node in machines.nodes:
        assert node.wait_end() == 0
        assert f"at {node.address} has stopped" in said
    assert f"`hstore restart -h {machines.nodes[SECOND].address}`" in said

    for number in (SECOND, FIRST, THIRD):
        machines.start(number)
    again = machines.wait_healthy()
    assert again.cluster_id == info.cluster_id
    assert machines.nodes[FIRST].read("k") == "v"

    # A first machine that lost its disk begins no second cluster beside the one that lives.
    machines.nodes[FIRST].kill()
    machines.env_of(FIRST)
    data = machines.folder / "home0/data"
    data.rename(machines.folder / "lost")
    machines.start(FIRST)
    assert machines.nodes[FIRST].wait_end() == 1
    assert f"a member of cluster {info.cluster_id}" in machines.nodes[FIRST].log()


def test_every_command_typed_on_its_own_machine_and_on_another(machines: Machines) -> None:
    for number in (FIRST, SECOND, THIRD):
        machines.start(number)
    machines.wait_healthy()
    expect, nodes = machines.expect, machines.nodes
    address = [node.address for node in nodes]
    names = {node.address: node.name for node in nodes[FIRST].info().nodes}
    name = [names[one] for one in address]

    # What the cluster agrees on goes through the member on this machine, whichever is named.
    expect(THIRD, f"config -h {name[FIRST]} dns_ttl 2s", "dns_ttl is 2s")
    expect(FIRST, f"rename -h {name[SECOND]} web", f"{name[SECOND]} is web now")
    expect(THIRD, f"transfer {address[SECOND]}", "web leads")
    expect(FIRST, "transfer web", "web leads")
    expect(FIRST, "transfer nobody", "no member is called nobody", status=1)

    # What is for one process is refused elsewhere, with the line to type there.
    for order in ("stop", "kill", "restart", "leave"):
        line = f"on the machine of {address[THIRD]}: `hstore {order} -h {address[THIRD]}`"
        expect(FIRST, f"{order} -h {name[THIRD]}", line, status=1)
    level = f"config -h {address[THIRD]} log_level debug"
    expect(FIRST, level, f"on the machine of {address[THIRD]}: `hstore {level}`", status=1)
    expect(THIRD, level, "log_level is debug")
    assert nodes[THIRD].is_running

    # And done on its own machine, also by its host alone.
    expect(THIRD, f"restart -h {name[THIRD]}", "runs, follower of")
    expect(THIRD, f"stop -h {nodes[THIRD].address.partition(':')[0]}", "has stopped")
    assert nodes[THIRD].wait_end() == 0
    expect(FIRST, f"restart -h {name[THIRD]}", f"on the machine of {address[THIRD]}", status=1)

    # A member that is gone is removed by any machine that has one, and not by any other.
    expect(FIRST, f"leave -h {name[THIRD]}", f"{address[FIRST]} removed it for good")
    assert expect(SECOND, "list").count("10.213.7.") == 2
    nodes[FIRST].kill()
    machines.network.unplug(FIRST)
    expect(THIRD, f"stop --all -h {address[SECOND]}", "on the machine of", status=1)
    assert nodes[SECOND].is_running
