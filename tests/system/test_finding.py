"""What is found on one machine, whatever its ports: the cluster by its members and by commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import Cluster, Node, eventually
from .place import free_base

NOTHING = "127.0.0.1:1"
"""Where nothing listens."""


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that run, and the place of a fourth."""
    with Cluster(tmp_path, 4) as cluster:
        spare = cluster.nodes.pop()
        cluster.up()
        cluster.nodes.append(spare)
        yield cluster
        cluster.assert_no_traceback()


def move_all(cluster: Cluster) -> None:
    """Give each node that does not run another port, far from the default ones."""
    base = free_base(len(cluster.nodes))
    for number, node in enumerate(cluster.nodes):
        moved = Node(cluster, base + number)
        moved.directory = node.directory
        cluster.nodes[number] = moved


def test_members_that_all_moved_find_each_other_and_commands_only_the_cluster_that_is_meant(
    cluster: Cluster,
) -> None:
    cluster.up()
    assert cluster.nodes[0].write("kept", "yes").status == 200
    ids = {node.id for node in cluster.nodes[0].info().nodes}
    for node in cluster.nodes:
        node.kill()
    move_all(cluster)
    # An address that is named and leads nowhere hinders neither the members nor the commands.
    cluster.env |= {"HSTORE_HOST": NOTHING, "HSTORE_DISCOVERY_MDNS": "false"}
    cluster.revive()
    assert {node.id for node in cluster.nodes[0].info().nodes} == ids
    assert cluster.nodes[2].read("kept") == "yes"
    assert cluster.hstore("read", "-k", "kept").out == "yes\n"

    # The zone that is named, at the members that are saved, recorded, or named too.
    saved = cluster.env | {"HSTORE_DATA_DIR": str(cluster.nodes[1].directory)}
    cluster.env = saved | {"HSTORE_ZONE": "other.example"}
    address = cluster.nodes[0].address
    write = ("write", "-k", "stray", "-v", "1")
    said = cluster.hstore(*write)
    assert (said.status, said.out) == (3, "")
    assert "of zone hstore.local" in said.err
    for command in ([*write], ["kill"], ["leave"]):
        said = cluster.hstore(*command, "-h", address)
        assert (said.status, said.out) == (1, ""), said
        assert "zone hstore.local" in said.err
        assert "not of zone other.example" in said.err
    cluster.env = saved | {"HSTORE_ZONE": "hstore.local"}
    assert cluster.hstore("write", "-k", "meant", "-v", "1").status == 0
    assert cluster.nodes[0].read_all() == {"kept": "yes", "meant": "1"}

    # An address that is none is not passed over, neither by a command nor by a node.
    cluster.env["HSTORE_HOST"] = f"{address},{NOTHING}"
    for command in (["read", "-k", "kept"], ["start", "--no-shell"]):
        said = cluster.hstore(*command)
        assert (said.status, said.out) == (2, ""), said
        assert f"HSTORE_HOST: '{address},{NOTHING}' is not allowed" in said.err


def test_a_dead_member_is_replaced_in_one_step_and_only_a_dead_one(four: Cluster) -> None:
    first, _, dead, spare = four.nodes
    name = first.sees(dead).name
    alive = first.sees(four.nodes[1]).name
    own = ["--listen", spare.address, "--data-dir", str(spare.directory), "--no-shell"]
    join = ["join", "-h", first.address, *own]

    said = four.hstore(*join, "--replace", alive)
    assert (said.status, said.out) == (1, "")
    assert f"`hstore stop -h {alive}` stops it" in said.err
    said = four.hstore(*join, "-n", name)
    assert (said.status, said.out) == (1, "")
    assert f"`hstore leave -h {name}`" in said.err
    assert f"`hstore join --replace {name}`" in said.err

    dead.kill()
    eventually(lambda: first.sees(dead).health == "failed", "the dead member is seen to be dead")
    spare.join(first.address, "--replace", name)
    four.nodes.remove(dead)
    four.wait_healthy(3)
    assert {node.name: node.address for node in first.info().nodes}[name] == spare.address
    assert four.hstore("list", "-h", first.address).out.count(name) == 1
    [service] = first.dig_short(f"{name}.node.hstore.local", "SRV")
    assert service.split()[2] == str(spare.port)

    dead.start()
    assert dead.wait_end() == 1
    assert "was removed from its cluster for good" in dead.log()
