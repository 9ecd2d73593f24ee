"""One address, one cluster, one process: a seed that lost its disk, and a directory that was copied."""

from __future__ import annotations

import shutil
import signal
import socket
from pathlib import Path

import trio

from hstore.node.config.settings import load_settings
from hstore.node.discovery import claims
from hstore.node.discovery.claims import Claim

from .cluster import Cluster, Node, eventually


def one_more(cluster: Cluster) -> Node:
    """Return a node that is no member and does not run."""
    return Node(cluster, cluster.nodes[-1].port + 1)


def wipe(node: Node) -> None:
    node.kill()
    shutil.rmtree(node.directory)


# -- a wiped seed ----------------------------------------------------------------------------------


def test_a_seed_that_lost_its_disk_makes_no_second_cluster_and_says_how_it_comes_back(
    three: Cluster,
) -> None:
    seed, other, third = three.nodes
    assert other.write("a", "1").status == 200
    cluster_id, name = other.info().cluster_id, other.sees(seed).name
    wipe(seed)
    # While nobody can tell it, it leads; then it is told, before anybody has written to it.
    for node in three.running():
        node.signal(signal.SIGSTOP)
    seed.start()
    eventually(lambda: seed.info().leader, "it leads a cluster of its own")
    for node in (other, third):
        node.signal(signal.SIGCONT)
    assert seed.wait_end() == 1
    assert cluster_id in seed.log()
    assert not (seed.directory / "db").exists()
    # Now it hears of it before it leads.
    seed.start()

    assert seed.wait_end() == 1
    said = seed.log()[seed.log().rindex("hstore: ") :]
    for words in (cluster_id, f"`hstore leave -h {name}`", "`hstore join`", "--new-cluster"):
        assert words in said
    assert not (seed.directory / "db").exists()

    assert three.hstore("leave", "-h", name).status == 0
    seed.join(other.address)
    three.wait_healthy()
    assert seed.read("a") == "1"


def test_the_named_sources_know_a_member_that_is_down(shared: Cluster, tmp_path: Path) -> None:
    """By its host and by its DNS server; a new address is nobody's."""
    seed, other, _ = shared.nodes
    seed.kill()
    info = other.info()
    wanted = Claim(info.cluster_id, info.zone, other.sees(seed).name, other.address)
    env = {"HOME": str(tmp_path)}

    for source in (
        {"discovery.hosts": other.address},
        {"discovery.dns": f"127.0.0.1:{other.dns_port}"},
    ):
        flags = {"listen": seed.address, "data_dir": str(tmp_path), **source}
        claim = trio.run(claims.find, load_settings(flags, env))
        assert claim is not None
        # The DNS server may name the other member, which says the same.
        assert claim._replace(said_by=other.address) == wanted
        flags["listen"] = f"127.0.0.1:{seed.port + 50}"
        assert trio.run(claims.find, load_settings(flags, env)) is None


def test_a_second_cluster_that_is_meant_is_kept_and_warned_of(three: Cluster) -> None:
    """At the address of a member, and at one of its own."""
    (seed, other, _), spare = three.nodes, one_more(three)
    first = other.info().cluster_id
    wipe(seed)
    seed.start("--new-cluster")
    spare.start()
    for node in (seed, spare):
        eventually(lambda node=node: node.info().leader, "the second cluster has a leader")  # type: ignore[misc]
        assert node.info().cluster_id != first
        assert node.write("mine", "1").status == 200

    eventually(lambda: "address_claimed" in seed.log(), "the alarm is in the log")
    assert first in seed.log()
    eventually(lambda: "a peer refused this node" in other.log(), "the members say so, too")
    assert seed.read("mine") == "1"
    assert "address_claimed" not in spare.log()
    assert other.log().count("a peer refused this node") == 1
    assert seed.log().count("address_claimed") == 1
    spare.kill()


def test_a_new_seed_that_is_told_to_end_while_it_looks_around_ends_well(
    cluster: Cluster,
) -> None:
    seed = cluster.nodes[0]
    seed.start()
    with eventually(lambda: _connect(seed), "its ports are bound") as connection:
        connection.sendall(bytes(8))
        assert connection.recv(1) == b""  # it reads what comes to its peer port
    seed.signal(signal.SIGTERM)
    assert seed.wait_end() == 0


def _connect(node: Node) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.peer_port), timeout=10)


# -- a copied directory ----------------------------------------------------------------------------


def test_a_copy_of_a_directory_ends_and_the_original_does_not_notice(
    shared: Cluster,
) -> None:
    leader, (original, _), spare = shared.leader(), shared.followers(), one_more(shared)
    original.kill()
    shutil.copytree(original.directory, spare.directory)
    original.start()
    shared.wait_healthy()
    before, at_leader = original.log(), leader.log()
    spare.start()

    assert spare.wait_end() == 1
    said = spare.log()[spare.log().rindex("hstore: ") :]
    assert original.address in said
    assert leader.sees(original).name in said
    assert shared.wait_healthy().nodes
    assert original.write("still", "here").status == 200
    assert "lost the link" not in original.log()[len(before) :]
    assert leader.log()[len(at_leader) :].count("refused a peer") <= 1


def test_an_original_that_hangs_while_its_copy_comes_ends_when_it_goes_on(
    three: Cluster,
) -> None:
    leader, (original, _), spare = three.leader(), three.followers(), one_more(three)
    original.signal(signal.SIGSTOP)
    # Copied only now: the copy has all that the original has ever acknowledged. It was made before a
    # restart once, and ended as an older copy when that was slow, so that something was written of it.
    shutil.copytree(original.directory, spare.directory)
    spare.start()
    eventually(lambda: leader.sees(spare).health == "alive", "the copy is the member now")
    original.signal(signal.SIGCONT)

    assert original.wait_end() == 1
    assert spare.peer_address in original.log()
    assert spare.is_running
    assert spare.write("by", "the copy").status == 200
    spare.kill()
