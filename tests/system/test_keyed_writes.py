"""A client that did not hear what became of its write sends it again, with the same key."""

from __future__ import annotations

import json
import signal

from .cluster import Answer, Cluster, Node, eventually

KEY = {"Idempotency-Key": "order 17"}


def send(node: Node, value: str = "1", headers: dict[str, str] = KEY) -> Answer:
    body = json.dumps({"key": "keyed/a", "value": value}).encode()
    return node.request("POST", "/write", body, headers)


def answered(node: Node) -> Answer:
    """Send until it is answered: a 503 is not an answer."""

    def look() -> Answer | None:
        answer = send(node)
        return None if answer.status == 503 else answer

    return eventually(look, "the write is answered")


def test_a_keyed_write_is_done_once_whatever_dies_between(shared: Cluster) -> None:
    leader, (follower, other) = shared.leader(), shared.followers()
    first = send(follower)
    assert first.status == 200, first
    revision = first.json()["revision"]

    leader.kill()
    for node in (other, follower):
        assert answered(node).body == first.body
    assert send(other, value="2").status == 422
    assert send(other, value="2", headers={"Idempotency-Key": "order 18"}).status == 200
    shared.revive()

    for node in shared.nodes:
        node.signal(signal.SIGKILL)
    for node in shared.nodes:
        node.wait_end()
    shared.revive()
    assert answered(leader).json() == {"key": "keyed/a", "revision": revision}
    assert leader.read("keyed/a") == "2"
