"""Clusters in every state that the dashboard has a design for, as `/v1/cluster` would tell them."""

from __future__ import annotations

from typing import Any

_GIB = 1024**3


def node(name: str, kind: str = "follower", health: str = "alive", **more: Any) -> dict[str, Any]:
    number = int(name.removeprefix("n"))
    return {
        "name": name,
        "id": f"{number:016x}",
        "address": f"10.0.0.{number}:8500",
        "peer_address": f"10.0.0.{number}:8300",
        "dns_address": f"10.0.0.{number}:8600",
        "type": kind,
        "voter": kind != "learner",
        "health": health,
        "term": 7,
        "commit_index": 81_234,
        "applied_index": 81_234,
        "last_contact_ms": 0 if kind == "leader" else 90 + number,
        "version": "0.1.0",
        "uptime_s": 86_400 * number + 4_000,
        "reason": None,
        "disk_free": 40 * _GIB,
        "disk_needed": _GIB,
        "writes_per_s": 41.7,
        "fsync_ms": 0.8,
        **more,
    }


def cluster(*nodes: dict[str, Any], leader: str | None = "n1", **more: Any) -> dict[str, Any]:
    voters = [one for one in nodes if one["voter"]]
    quorum = len(voters) // 2 + 1
    live = sum(one["health"] in ("alive", "suspect") for one in voters)
    return {
        "cluster_id": "8f1c2d3e4b5a6978",
        "leader": leader,
        "term": 7,
        "quorum": quorum,
        "failure_tolerance": max(live - quorum, 0),
        "zone": "hstore.local",
        "nodes": list(nodes),
        **more,
    }


_SILENT = "it has not answered for 34 s; its port refuses connections"
_UNKNOWN: dict[str, Any] = {
    "applied_index": None,
    "commit_index": None,
    "writes_per_s": None,
    "fsync_ms": None,
}

STATES: dict[str, tuple[dict[str, Any], str]] = {
    "empty": (cluster(leader=None), "Empty cluster"),
    "alone": (cluster(node("n1", "leader")), "Works, alone"),
    "waiting": (cluster(node("n1"), leader=None, waiting_for=3), "Waiting for members"),
    "nine": (
        cluster(
            node("n1", "leader"),
            *(node(f"n{k}") for k in range(2, 8)),
            node("n8", "learner"),
            node("n9", "learner", "joining", **_UNKNOWN),
        ),
        "All is well",
    ),
    "no-leader": (
        cluster(
            node("n1"),
            node("n2", health="failed", reason=_SILENT, **_UNKNOWN),
            node("n3", health="failed", reason=_SILENT, **_UNKNOWN),
            leader=None,
        ),
        "No leader",
    ),
    "lost-node": (
        cluster(
            node("n1", "leader"),
            *(node(f"n{k}") for k in range(2, 5)),
            node("n5", health="failed", reason=_SILENT, last_contact_ms=34_210, **_UNKNOWN),
        ),
        "Works, weakened",
    ),
    "limit": (
        cluster(
            node("n1", "leader"),
            node("n2"),
            node("n3", health="failed", reason=_SILENT, last_contact_ms=34_210, **_UNKNOWN),
        ),
        "At its limit",
    ),
    "alarms": (
        cluster(
            node("n1", "leader", alarms=["replica_differs", "clock_skew"]),
            node("n2", alarms=["replica_differs", "disk_short"], disk_free=_GIB // 2),
            node("n3", alarms=["term_jump", "of_a_newer_version"]),
        ),
        "Needs a hand",
    ),
    "slow-link": (
        cluster(
            node("n1", "leader"),
            node("n2"),
            node(
                "n3",
                health="suspect",
                reason="it answers late",
                last_contact_ms=4_100,
                applied_index=79_100,
            ),
        ),
        "Well, with doubts",
    ),
}
"""By name: the cluster, and what the page says first."""
