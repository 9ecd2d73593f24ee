"""What hstore is for, from the first node to the end of a leader."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hstore.node.model.cluster_info import ClusterInfo

from .cluster import Cluster, eventually, follow_events
from .load import kill_and_measure, load


def ends_as_voter(seen: list[ClusterInfo], address: str) -> bool:
    return steps_of(seen, address)[-1:] == [("follower", "alive")]


def steps_of(seen: list[ClusterInfo], address: str) -> list[tuple[str, str]]:
    """Return the type and health that a node went through, without repetitions."""
    steps: list[tuple[str, str]] = []
    for info in seen:
        for node in info.nodes:
            if node.address == address and (node.type, node.health) not in steps[-1:]:
                steps.append((node.type, node.health))
    return steps


def test_three_nodes_elect_keep_what_they_are_given_and_survive_their_leader(
    cluster: Cluster, require_tool: Callable[[str], str]
) -> None:
    require_tool("dig")
    seed, second, third = cluster.nodes
    seed.start()
    eventually(lambda: seed.info().leader == "n1", "the seed leads")
    with follow_events(seed) as seen:
        second.join(seed.address)
        third.join(seed.address)
        info = cluster.wait_healthy()
        assert "nothing is encrypted" not in seed.log()  # it listens on loopback only
        for node in (second, third):
            eventually(
                partial(ends_as_voter, seen, node.address),
                "the events show the newcomer as a voter",
            )
            assert steps_of(seen, node.address)[0] == ("learner", "joining")
    assert {node.name for node in info.nodes} == {"n1", "n2", "n3"}

    for writer in cluster.nodes:
        assert writer.write(f"from-{writer.port}", "bar").status == 200
        for reader in cluster.nodes:
            assert reader.read(f"from-{writer.port}") == "bar"

    table = cluster.hstore("list", "-h", third.address)
    assert table.status == 0
    assert [line.split()[2:4] for line in table.out.splitlines()[1:]] == [
        ["alive", "leader"],
        ["alive", "follower"],
        ["alive", "follower"],
    ]
    for node in cluster.nodes:
        assert '"name=n1"' in node.dig("leader.hstore.local", "TXT", "+short").out

    with load(cluster.nodes) as running:
        running.wait_more(50)
        kill_and_measure(seed, running)
        running.wait_more(50)
    leader = cluster.leader()
    assert leader in (second, third)
    for node in (second, third):
        answers = eventually(
            partial(node.dig_short, "_hstore-leader._tcp.hstore.local", "SRV"),
            "dig finds the new leader",
        )
        assert [answer.split()[2] for answer in answers] == [str(leader.port)]
        for written in cluster.nodes:
            assert node.read(f"from-{written.port}") == "bar"
    running.check([second, third])


def test_start_and_two_joins_begun_at_the_same_moment_end_as_one_cluster(
    cluster: Cluster,
) -> None:
    seed, second, third = cluster.nodes
    second.join(seed.address)
    third.join(seed.address)
    seed.start()
    info = cluster.wait_healthy()
    assert {node.info().cluster_id for node in cluster.nodes} == {info.cluster_id}
    assert sorted(node.name for node in info.nodes) == ["n1", "n2", "n3"]
