"""Clients that hold all the connections they can get: the node keeps what it needs for itself."""

from __future__ import annotations

import http.client
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from .cluster import HSTORE, Cluster, Node, eventually, run

FEW, USUAL = 320, 1_024
WATCH = b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n"
_OWN_LIMIT = 4_096
_VALUE = b"z" * (1 << 20)
_MEMTABLES = 40
"""So many values of 1 MiB fill two memtables and more, each of which becomes a new file."""
_SLOW_VALUES, _SLOW_VALUE = 120, b"z" * 60_000
"""Together more than what the sockets between a node and a client hold."""


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may have more files open than the node."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_OWN_LIMIT, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def limited(limit: int) -> list[str]:
    return ["bash", "-c", f'ulimit -n {limit}; exec "$@"', "bash"]


def hold(held: ExitStack, port: int, count: int, greeting: bytes = b"") -> None:
    """Open connections to a port and keep them, as far as the node takes them."""
    for _ in range(count):
        one = held.enter_context(closing(socket.socket()))
        one.settimeout(5)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with suppress(OSError):
            one.connect(("127.0.0.1", port))
            one.sendall(greeting)


def serves(node: Node) -> bool:
    return node.get("/v1/health").status == 200


@pytest.mark.parametrize("limit", [FEW, USUAL])
def test_a_node_outlives_clients_who_take_all_that_they_can_get(
    limit: int, tmp_path: Path, many_files: None
) -> None:
    with Cluster(tmp_path, 1) as cluster, ExitStack() as held:
        node = cluster.nodes[0]
        node._prefix = limited(limit)
        node.start("--new-cluster")
        eventually(lambda: serves(node), "it leads")
        assert ("few files may be open at once" in node.log()) is (limit < USUAL)
        hold(held, node.port, limit // 3, WATCH)
        hold(held, node.port, limit)
        hold(held, node.peer_port, 200)
        hold(held, node.dns_port, 200)
        for number in range(_MEMTABLES):
            assert node.request("PUT", f"/v1/kv/big{number}", _VALUE).body == b"true"
        assert len(list(Path(f"/proc/{node.pid}/fd").iterdir())) < limit
        assert node.dig_short("leader.hstore.local") == ["127.0.0.1"]
        assert serves(node), "idle connections make room for who comes"
        assert node.log().count("\n") < 20, "whatever clients do, the log is not flooded"
    cluster.assert_no_traceback()


def test_who_comes_when_all_places_are_busy_gets_503_until_one_is_free(
    tmp_path: Path, many_files: None
) -> None:
    with Cluster(tmp_path, 1) as cluster, ExitStack() as held:
        node = cluster.nodes[0]
        node._prefix = limited(FEW)
        node.start("--new-cluster")
        eventually(lambda: serves(node), "it leads")
        with closing(http.client.HTTPConnection(node.address, timeout=30)) as writer:
            for number in range(_SLOW_VALUES):
                writer.request("PUT", f"/v1/kv/slow{number:03}", _SLOW_VALUE)
                assert writer.getresponse().read() == b"true"

        def is_refused() -> bool:
            answer = node.get("/v1/health")
            return answer.status == 503 and answer.headers.get("retry-after") == "1"

        # They read nothing, so the node cannot finish their answers.
        hold(
            held, node.port, FEW // 4, b"GET /read?prefix=slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        eventually(is_refused, "who comes when all are busy gets 503")
        assert len(list(Path(f"/proc/{node.pid}/fd").iterdir())) < FEW
        held.close()
        eventually(lambda: serves(node), "who comes when they have gone is served")
    cluster.assert_no_traceback()


def test_a_limit_that_is_too_low_for_a_node_is_a_wrong_configuration(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1) as cluster:
        words = ["start", "-h", cluster.nodes[0].address, "--data-dir", str(tmp_path / "data")]
        said = run(*limited(128), *HSTORE, *words, "--no-shell", env=cluster.env)
        assert said.status == 2
        assert "may open 128 files at once, and a node needs 256" in said.err
        assert not os.path.lexists(tmp_path / "data" / "db")
