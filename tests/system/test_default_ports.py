"""What works without saying where: default ports, default directories, and the cluster found.

Runs in a network namespace of its own, where every port is free; where there can be none, on the
machine itself if nobody uses the default ports.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import IN_CI

from .cluster import Cluster, Said, eventually
from .place import own_network, ports_are_free

PLACES = 16


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes at the default ports. They are reached by commands only."""
    with own_network() as prefix:
        if prefix is None and not ports_are_free(8500, PLACES):
            reason = "needs a network namespace (unshare and nsenter), or free default ports"
            if IN_CI:
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
        with Cluster(tmp_path, base=8500, prefix=prefix or ()) as cluster:
            yield cluster
        cluster.assert_no_traceback()


def listed(cluster: Cluster) -> dict[str, tuple[str, str, str]]:
    """Return address, health and type by name, as `hstore list` without a host finds them."""
    said = cluster.hstore("list", "--json")
    if said.status != 0:
        return {}
    nodes = json.loads(said.out)["nodes"]
    return {node["name"]: (node["address"], node["health"], node["type"]) for node in nodes}


def ask(cluster: Cluster, *words: str, status: int = 0) -> Said:
    said = cluster.hstore(*words)
    assert said.status == status, (words, said)
    return said


def test_start_and_join_without_a_word_make_a_cluster_that_is_found_by_name(
    here: Cluster, require_tool: Callable[[str], str]
) -> None:
    require_tool("dig")
    seed, second, third = here.nodes
    seed.spawn("start")
    eventually(lambda: listed(here), "the seed is found")
    second.spawn("join")
    third.spawn("join")
    eventually(
        lambda: (
            sorted(kind for _, _, kind in listed(here).values())
            == ["follower", "follower", "leader"]
        ),
        "both join",
    )
    assert {address for address, _, _ in listed(here).values()} == {
        "127.0.0.1:8500",
        "127.0.0.1:8501",
        "127.0.0.1:8502",
    }
    data = Path(here.env["XDG_DATA_HOME"]) / "hstore"
    assert sorted(path.name for path in data.iterdir()) == ["8500", "8501", "8502"]

    ask(here, "write", "-k", "foo", "-v", "bar")
    assert ask(here, "read", "-h", "n3", "-k", "foo").out == "bar\n"
    for port in ("8600", "8601", "8602"):
        seed.dns_port = int(port)
        assert seed.dig_short("leader.hstore.local") == ["127.0.0.1"]

    elsewhere = here.env | {"XDG_DATA_HOME": str(here.folder / "other")}
    mine, here.env = here.env, elsewhere
    said = ask(here, "start", "--no-shell", status=1)
    here.env = mine
    assert "hstore join" in said.err

    seed.signal(signal.SIGKILL)
    seed.wait_end()
    eventually(lambda: listed(here).get("n1", ("", "", ""))[1] == "failed", "n1 is missed")
    assert ask(here, "read", "-k", "foo").out == "bar\n"

    said = ask(here, "leave", "-h", "n1")
    assert "did not answer" in said.out
    assert set(listed(here)) == {"n2", "n3"}
    said = ask(here, "read", "-h", "n1", "-k", "foo", status=1)
    assert "n2, n3" in said.err


def test_a_search_that_finds_nobody_says_what_to_do(here: Cluster) -> None:
    said = ask(here, "list", status=3)
    assert "hstore start" in said.err
    said = ask(here, "join", "--no-shell", status=3)
    assert "hstore start" in said.err
