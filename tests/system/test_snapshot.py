"""Who was away for so long that the log does not reach back comes back by a snapshot."""

from __future__ import annotations

from .catch_up import catch_up, is_same
from .cluster import Cluster, Node, eventually

MIB = 64
"""More than the 32 MiB of entries after which a log is compacted; 1 GiB is in `tests/soak/`."""

VALUE_BYTES = 16384
KEYS = [f"big/{number:05}" for number in range(MIB * 2**20 // VALUE_BYTES)]

GROWTH_MIB = 100


def kv(node: Node, path: str) -> bytes:
    answer = node.get(f"/v1/kv/{path}")
    assert answer.status == 200, answer
    return answer.body


def test_a_node_64_mib_behind_catches_up_while_the_leader_serves(three: Cluster) -> None:
    leader = three.leader()
    for key in ("kept", "changed", "deleted"):
        assert leader.write(key, "before").status == 200
    followers = three.followers()
    eventually(
        lambda: all(node.get("/v1/kv/deleted?stale").status == 200 for node in followers),
        "all have them",
    )

    keyed = ("PUT", "/v1/kv/keyed?cas=0", b"once", {"Idempotency-Key": "k"})

    def meanwhile() -> None:
        assert leader.request(*keyed).body == b"true"
        assert leader.write("changed", "after").status == 200
        assert leader.request("DELETE", "/delete/deleted").status == 200

    figures = catch_up(
        three, KEYS, VALUE_BYTES, meanwhile=meanwhile, quiet_s=0.5, per_second=100, within=60
    )

    away = figures.member
    assert figures.snapshots == 1
    assert figures.meanwhile.failed == 0
    assert figures.leader_growth < GROWTH_MIB
    assert figures.member_growth < GROWTH_MIB
    assert is_same(three, KEYS[::50], VALUE_BYTES)
    assert away.read("kept") == "before"
    assert away.read("changed") == "after"
    assert away.read("deleted") is None
    everything = kv(leader, "?recurse")
    assert kv(away, "?recurse") == everything

    away.kill()
    away.start()
    three.wait_healthy()
    assert kv(away, "?recurse&stale") == everything, "what came by snapshot is durable"
    leader.kill()
    eventually(lambda: away.request(*keyed).body == b"true", "it is answered, and the same")
