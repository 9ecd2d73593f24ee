"""`hstore recover` on real nodes: lost log and a lost majority say why, and there is a way on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from hstore.node.storage.directory import read_identity

from .cluster import HSTORE, Cluster, Node, Said, eventually, run
from .disks import lose_the_end_of_the_log


def recover(cluster: Cluster, node: Node, *options: str) -> Said:
    words = ("recover", "--data-dir", str(node.directory), *options)
    return run(*HSTORE, *words, env=cluster.env)


def three_named(cluster: Cluster) -> list[Node]:
    """Start n1, n2 and n3, in this order."""
    first, *others = cluster.nodes
    first.start("--new-cluster")
    eventually(lambda: first.info().leader, "the seed node leads")
    for number, node in enumerate(others, 2):
        node.join(first.address, "-n", f"n{number}")
    cluster.wait_healthy()
    return cluster.nodes


def leads(node: Node) -> None:
    eventually(lambda: node.get("/v1/health").status == 200, f"{node.address} leads")


def why_unhealthy(node: Node) -> str:
    answer = node.get("/v1/health")
    return str(answer.json()["error"]) if answer.status == 503 else ""


def says(node: Node, words: str) -> str:
    why = why_unhealthy(node)
    return why if words in why else ""


def index_of(node: Node) -> int:
    return int(node.get("/v1/cluster").headers["x-hstore-index"])


def test_the_only_voter_whose_log_was_lost_says_so_and_goes_on_when_told_to(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path, 1) as cluster:
        (node,) = cluster.nodes
        node.start("--new-cluster")
        leads(node)
        for number in range(30):
            assert node.write(f"key/{number}", "x" * 100).status == 200
        before = index_of(node)
        node.kill()
        lose_the_end_of_the_log(node, 300)
        node.start()

        why = eventually(lambda: why_unhealthy(node), "it says why it has no leader")
        assert "this node is the only voter" in why
        assert f"`hstore recover --data-dir {node.directory}`" in why
        (own,) = node.info().nodes
        assert own.health == "recovering"
        assert "lost acknowledged log: entries" in (own.reason or "")
        said = run(*HSTORE, "list", "-h", node.address, env=cluster.env)
        assert said.status == 1
        assert "recovering" in said.out
        assert f"`hstore recover --data-dir {node.directory}`" in said.err
        write = node.request("POST", "/write?timeout=1s", b'{"key":"a","value":"b"}')
        assert write.status == 503
        assert "hstore recover" in write.json()["error"]
        assert write.json()["outcome"] == "not applied"
        refused = recover(cluster, node, "--as-only-voter", "--yes")
        assert refused.status == 1
        assert f"`hstore stop -h {node.address}`" in refused.err

        assert run(*HSTORE, "stop", "-h", node.address, env=cluster.env).status in (0, 1)
        node.wait_end()
        shown = json.loads(recover(cluster, node, "--json").out)
        assert shown["lost"].startswith("entries")
        assert shown["recover_to"] == before
        assert recover(cluster, node, "--as-only-voter").status == 2
        assert recover(cluster, node, "--as-only-voter", "--yes").status == 0

        node.start()
        leads(node)
        assert index_of(node) > before
        assert node.write("after", "it").json()["revision"] > before
        assert node.read("key/0") == "x" * 100
        assert node.dig_short("leader.hstore.local") == ["127.0.0.1"]
        cluster.assert_no_traceback()


def test_without_a_majority_each_says_who_is_missing_and_two_recovered_halves_stay_apart(
    cluster: Cluster, tmp_path: Path
) -> None:
    first, second, third = three_named(cluster)
    keyed = {"Idempotency-Key": "once"}
    body = b'{"key":"shared","value":"old"}'
    answer = first.request("POST", "/write", body, keyed)
    assert answer.status == 200
    for node in cluster.nodes:
        assert node.read("shared") == "old"
    old = first.info().cluster_id
    for node in cluster.nodes:
        node.kill()

    # One alone: it names those who are missing, and judges them by its links.
    first.start()
    why = eventually(lambda: why_unhealthy(first), "it says why there is no leader")
    assert f"n2 at {second.address} (refuses connections" in why
    assert f"`hstore recover --data-dir {first.directory}`" in why
    shown = {one.name: (one.health, one.reason) for one in first.info().nodes}
    assert shown["n1"] == ("alive", None)
    assert shown["n2"][0] == "failed"
    first.kill()

    for node in (first, second):
        assert recover(cluster, node, "--as-only-voter", "--yes").status == 0
    ids = {read_identity(node.directory).cluster_id for node in (first, second)}
    assert len(ids | {old}) == 3
    # At the addresses at which they knew each other, and an old member beside them.
    for node in cluster.nodes:
        node.start()
    for node, name in ((first, "n1"), (second, "n2")):
        leads(node)
        assert [one.name for one in node.info().nodes] == [name]
        assert node.write("shared", f"of {name}").status == 200
    assert (first.read("shared"), second.read("shared")) == ("of n1", "of n2")
    eventually(
        lambda: "refused this node" in third.log() and "why=cluster" in third.log(),
        "the old member is refused by both",
    )
    assert third.get("/read/shared?stale").json()["value"] == "old"
    assert "another cluster's node answers at its address" in why_unhealthy(third)
    again = first.request("POST", "/write", body, keyed)
    assert (again.status, again.json()) == (200, answer.json())
    assert first.read("shared") == "of n1"

    # Nor does a join bring an old directory in; an empty one is welcome.
    third.kill()
    second.kill()
    own = read_identity(second.directory).cluster_id
    for node, theirs in ((third, old), (second, own)):
        node.join(first.address)
        assert node.wait_end() == 1
        assert f"belongs to the cluster {theirs}" in node.log()
        assert "`hstore join` with an empty --data-dir" in node.log()
    assert [one.name for one in first.info().nodes] == ["n1"]
    third.directory = tmp_path / "anew"
    third.join(first.address)
    eventually(lambda: third.read("shared") == "of n1", "a new member has the data")


def shows(node: Node, **health: str) -> bool:
    """Whether a node shows each member, by its name, to be as well as this."""
    return {one.name: one.health for one in node.info().nodes} == health


def test_of_two_voters_that_are_left_one_lost_log_and_all_say_so(cluster: Cluster) -> None:
    first, second, third = three_named(cluster)
    assert run(*HSTORE, "stop", "-h", first.address, env=cluster.env).status == 0
    first.wait_end()
    for number in range(30):
        leader = cluster.leader()
        assert leader.write(f"key/{number}", "x" * 100).status == 200
    eventually(lambda: third.read("key/29"), "both have all of it")
    third.kill()
    second.kill()
    lose_the_end_of_the_log(third, 600)
    for node in (third, second, first):
        node.start()

    for node in (second, third):
        why = eventually(partial(says, node, "lost log"), "it knows that one has lost log")
        assert f"`hstore recover --data-dir {node.directory}`" in why
        # Another one counts as stopped until it has been heard again.
        eventually(partial(shows, node, n1="alive", n2="alive", n3="recovering"), "all were heard")

    # The one that lost nothing goes on with everything that was ever acknowledged.
    for node in (first, second, third):
        node.kill()
    assert json.loads(recover(cluster, second, "--json").out)["lost"] is None
    assert recover(cluster, second, "--as-only-voter", "--yes").status == 0
    second.start()
    leads(second)
    assert len(second.read_all("key/")) == 30


def test_a_damaged_table_ends_the_node_with_the_file_and_what_to_do(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1) as cluster:
        (node,) = cluster.nodes
        node.start("--new-cluster")
        leads(node)
        for number in range(400):
            assert node.write(f"key/{number}", "x" * 900).status == 200
        node.kill()
        node.start()  # RocksDB writes its log into tables when it opens
        leads(node)
        node.kill()
        tables = sorted((node.directory / "db").glob("*.sst"), key=lambda path: path.stat().st_size)
        for table in tables[-2:]:
            content = bytearray(table.read_bytes())
            content[len(content) // 2] ^= 4
            table.write_bytes(content)

        node.start()
        eventually(lambda: not node.is_running or node.get("/v1/health").status == 200, "it is up")
        answers = set()
        if node.is_running:
            for number in range(400):
                try:
                    answer = node.get(f"/v1/kv/key/{number}?raw&stale")
                except OSError:
                    break
                answers.add((answer.status, answer.body if answer.status == 200 else b""))
        assert answers <= {(200, b"x" * 900), (503, b"")}, "never a wrong value"
        assert node.wait_end() == 1
        last = node.log().rstrip().splitlines()[-2:]
        assert "Corruption" in last[0]
        assert any(f"the damaged file is {table}" in last[0] for table in tables)
        assert "`hstore leave -h NAME`" in last[1]
        cluster.assert_no_traceback()
