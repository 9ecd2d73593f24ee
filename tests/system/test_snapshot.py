"""Who was away for so long that the log does not reach back comes back by a snapshot."""

from __future__ import annotations

import http.client
import socket
from concurrent.futures import ThreadPoolExecutor

from .cluster import Cluster, Node, eventually

VALUE_BYTES = 512 * 1024
VALUES = 80
"""More than the 32 MiB of entries after which a log is compacted."""

CONNECTIONS = 4


def write_pipelined(node: Node, keys: list[str]) -> None:
    """Write a large value to each key on one connection, without waiting for answers between."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=60) as sock:
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(_send, sock, keys)
            answers = sock.makefile("rb")
            for _ in keys:
                assert answers.readline().split()[1] == b"200"
                headers = http.client.parse_headers(answers)
                assert answers.read(int(headers["Content-Length"])) == b"true"
            sending.result()


def _send(sock: socket.socket, keys: list[str]) -> None:
    for key in keys:
        value = key.encode().ljust(VALUE_BYTES, b".")
        head = (
            f"PUT /v1/kv/{key} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(value)}\r\n\r\n"
        )
        sock.sendall(head.encode() + value)


def kv(node: Node, path: str) -> bytes:
    answer = node.get(f"/v1/kv/{path}")
    assert answer.status == 200, answer
    return answer.body


def test_a_follower_that_was_away_while_the_log_was_compacted_comes_back_by_snapshot(
    three: Cluster,
) -> None:
    leader, (away, other) = three.leader(), three.followers()
    for key in ("kept", "changed", "deleted"):
        assert leader.write(key, "before").status == 200
    eventually(lambda: away.get("/v1/kv/deleted?stale").status == 200, "it has them")
    away.kill()
    keyed = ("PUT", "/v1/kv/keyed?cas=0", b"once", {"Idempotency-Key": "k"})
    assert leader.request(*keyed).body == b"true"
    assert other.write("changed", "after").status == 200
    assert other.request("DELETE", "/delete/deleted").status == 200

    keys = [f"big/{number:03}" for number in range(VALUES)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        done = [
            pool.submit(write_pipelined, leader, keys[one::CONNECTIONS])
            for one in range(CONNECTIONS)
        ]
        for one in done:
            one.result()

    away.start()
    three.wait_healthy()
    eventually(lambda: "installed a snapshot" in away.log(), "it gets the whole state")
    assert away.read("kept") == "before"
    assert away.read("changed") == "after"
    assert away.read("deleted") is None
    everything = [kv(node, "?recurse") for node in three.nodes]
    assert everything[0] == everything[1] == everything[2]
    assert kv(away, "big/007?raw") == b"big/007".ljust(VALUE_BYTES, b".")

    away.kill()
    away.start()
    three.wait_healthy()
    assert kv(away, "?recurse&stale") == everything[0], "what came by snapshot is durable"
    leader.kill()
    eventually(lambda: away.request(*keyed).body == b"true", "it is answered, and the same")
