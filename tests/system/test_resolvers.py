"""Programs find the leader through real resolvers, and what is wrong with those is found.

The nodes have addresses of their own, so that it can be seen whom a name stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .cluster import Cluster, Node, Said, eventually, run
from .machine import Machine, is_permitted

pytestmark = pytest.mark.skipif(not is_permitted(), reason="takes root, and namespaces")

DNSMASQ, UNBOUND, BARE, DEAD = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.9"
HOSTS = ("127.0.1.1", "127.0.1.2", "127.0.1.3")
LEADER, NODES = "leader.hstore.local", "nodes.hstore.local"

ROOT_KEY = ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"
"""With the root's key (of 2017) as trust anchor, unbound validates DNSSEC."""


class House:
    """A cluster on a machine that has resolvers, all of them set up by what hstore prints."""

    def __init__(self, cluster: Cluster, machine: Machine) -> None:
        self.cluster = cluster
        self.machine = machine

    def run(self, *command: str) -> Said:
        return run(*self.machine.prefix, *command, env=self.cluster.env)

    def getent(self, database: str, name: str) -> set[str]:
        """Return the addresses that a program gets for a name."""
        lines = self.run("getent", database, name).out.splitlines()
        return {line.split()[0] for line in lines}

    def setup(self, system: str) -> str:
        said = self.cluster.hstore("dns", "setup", system, "-h", self.cluster.nodes[0].address)
        assert (said.status, said.err) == (0, ""), said
        return said.out

    def doctor(self) -> Said:
        address = self.cluster.running()[0].address
        return self.cluster.hstore("dns", "doctor", "-h", address)


@pytest.fixture(scope="module")
def _kept(
    tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str], str]
) -> Iterator[House]:
    for tool in ("dnsmasq", "unbound", "getent", "dig", "unshare", "mount"):
        require_tool(tool)
    folder = tmp_path_factory.mktemp("house")
    with Machine(folder / "machine") as machine:
        with Cluster(folder, base=8500, prefix=machine.prefix) as cluster, machine.inside():
            cluster.nodes = [Node(cluster, 8500, host) for host in HOSTS]
            house = House(cluster.up(), machine)
            forwarding = house.setup("dnsmasq")
            machine.dnsmasq(DNSMASQ, forwarding, "--stop-dns-rebind")
            # Names above ours are somebody else's, addresses as ours are not believed, names that
            # are not signed neither: what is printed has to be an exemption from all that.
            hostile = ['local-zone: "local." static', "private-address: 127.0.0.0/8"]
            hostile += ["use-caps-for-id: yes", "serve-expired: yes", "cache-min-ttl: 3600"]
            hostile.append(f'trust-anchor: "{ROOT_KEY}"')
            machine.unbound(UNBOUND, house.setup("unbound"), *hostile)
            machine.dnsmasq(BARE, "")
            yield house
        cluster.assert_no_traceback()


@pytest.fixture
def house(_kept: House) -> Iterator[House]:
    _kept.cluster.revive()
    yield _kept
    _kept.machine.look_up_by("files dns")


def host_of(node: Node) -> str:
    return node.address.partition(":")[0]


@pytest.mark.parametrize("resolver", [DNSMASQ, UNBOUND], ids=["dnsmasq", "unbound"])
def test_programs_find_leader_and_nodes_through_a_resolver_that_was_set_up(
    house: House, resolver: str
) -> None:
    house.machine.ask(resolver)
    leader = {host_of(house.cluster.leader())}
    for database in ("hosts", "ahosts"):
        assert house.getent(database, LEADER) == leader
    assert house.getent("ahosts", NODES) == set(HOSTS)

    said = house.doctor()
    assert said.status == 0, said
    assert "wrong" not in said.out


def test_when_the_leader_dies_programs_soon_find_the_new_one_through_each_resolver(
    house: House,
) -> None:
    before = house.cluster.leader()
    for resolver in (DNSMASQ, UNBOUND):
        house.machine.ask(resolver)
        assert house.getent("ahosts", LEADER) == {host_of(before)}
    before.kill()
    after = host_of(house.cluster.leader())
    for resolver in (DNSMASQ, UNBOUND):
        house.machine.ask(resolver)
        eventually(
            lambda: house.getent("ahosts", LEADER) == {after}, f"{resolver} names the new leader"
        )
    said = house.doctor()
    assert said.status == 0, said
    assert "skipped" in said.out


def test_the_doctor_says_that_a_resolver_does_not_forward_the_zone(house: House) -> None:
    house.machine.ask(BARE)
    said = house.doctor()
    assert said.status == 1
    assert f"resolver {BARE}" in said.out
    assert "hstore dns setup" in said.out


def test_the_doctor_finds_a_dead_server_in_front_of_a_good_one(house: House) -> None:
    house.machine.ask(DEAD, DNSMASQ)
    said = house.doctor()
    assert said.status == 1
    words = " ".join(said.out.split())
    assert f"resolver {DEAD} wrong nothing listens there" in words
    assert f"resolver {DNSMASQ} ok" in words
    assert "It stands before a server that answers" in words


def test_the_doctor_knows_what_the_files_of_the_machine_make_of_a_name(house: House) -> None:
    house.machine.ask(UNBOUND)
    house.machine.look_up_by("files mdns4_minimal [NOTFOUND=return] dns")
    said = house.doctor()
    assert said.status == 0, said
    words = " ".join(said.out.split())
    assert "mdns4_minimal resolves hstore.local itself by multicast DNS only" in words

    house.machine.look_up_by("files")
    said = house.doctor()
    assert said.status == 1
    assert "/etc/nsswitch.conf wrong hosts: files" in " ".join(said.out.split())
