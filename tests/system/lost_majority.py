"""A majority is lost for good, and the operator goes on with the directory that is furthest.

All nodes are killed under clients. Then one or both of two machines never come back, or their disks
have lost log. `hstore recover` is asked of what is left; the directory that lost nothing and is
furthest becomes a cluster of one, and empty machines join it.
"""

from __future__ import annotations

import json
import random
import shutil
from typing import Any

from .chaos import kill
from .clients import Record, record
from .cluster import Cluster, Node, eventually
from .disks import lose_the_end_of_the_log


def lose_majority(cluster: Cluster, chance: random.Random, running: Record) -> str:
    """Kill all, while clients are at work, and have some disks lost; return what was done.

    The node that is left to go on is the first of `cluster.nodes` from then on. It is stopped.
    """
    left, *others = chance.sample(cluster.nodes, 3)
    told = f"keep {left.address}"
    if chance.random() < 0.5:
        # Somebody dies earlier than the others, and lacks the end: the one that is left, or not.
        early = chance.choice(cluster.nodes)
        early.kill()
        running.wait_more(chance.randrange(10, 40))
        told += f", {early.address} dies first"
    kill(cluster.nodes)
    for node in others:
        # One machine is gone at least: two that vote are a majority.
        if node is others[0] or chance.random() < 0.5:
            shutil.rmtree(node.directory)
            told += f", {node.address} is gone"
        else:
            lose_the_end_of_the_log(node, chance.randrange(1_500, 6_000))
            told += f", {node.address} loses log"
    cluster.nodes = [left, *others]
    return told


def recover(cluster: Cluster, chance: random.Random, running: Record) -> str:
    """Go on with what is left after `lose_majority`; return which was chosen.

    Everything that was acknowledged and that the chosen directory had is there, and the new cluster
    is one like any other.
    """
    found = {node: _survey(cluster, node) for node in cluster.nodes if node.directory.exists()}
    chosen = max(found, key=lambda node: _worth(found[node]))
    others = [node for node in cluster.nodes if node is not chosen]
    had = found[chosen]
    assert had["lost"] is None
    up_to = max(had["applied_index"], had["commit_index"])
    words = ("recover", "--data-dir", str(chosen.directory), "--as-only-voter", "--yes")
    said = cluster.hstore(*words)
    assert said.status == 0, said
    chosen.start()
    eventually(lambda: chosen.get("/v1/health").status == 200, "the recovered node leads")
    info = chosen.info()
    assert info.cluster_id != had["cluster_id"]
    assert [one.address for one in info.nodes] == [chosen.address]
    running.check_kept(chosen, up_to)

    for node in others:
        shutil.rmtree(node.directory, ignore_errors=True)
        node.join(chosen.address)
    cluster.wait_healthy()
    with record(cluster.nodes, seed=chance.randrange(1 << 30)) as anew:
        anew.wait_more(30)
    anew.read_everywhere(cluster.nodes)
    anew.judge()
    for node in others:
        running.check_kept(node, up_to)
    return f"recovered {chosen.address}, up to entry {had['last_index']}"


def _survey(cluster: Cluster, node: Node) -> dict[str, Any]:
    said = cluster.hstore("recover", "--data-dir", str(node.directory), "--json")
    assert said.status == 0, said
    found: dict[str, Any] = json.loads(said.out)
    return found


def _worth(found: dict[str, Any]) -> tuple[bool, int, int]:
    """As the command itself advises: nothing lost, then the newest term, then the last entry."""
    return found["lost"] is None, found["last_term"], found["last_index"]
