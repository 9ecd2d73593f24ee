"""A node that is far behind catches up while the leader serves: how that is arranged and measured.

Used by a test of the suite with a little data, and by `tests/soak/` with a lot of it.
"""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .cluster import Cluster, Node, eventually

_CONNECTIONS = 8
_WINDOW = 64
"""Requests without an answer on one connection."""

_ROUNDS = 5
"""Of writing what was refused once more."""

_PATIENCE_S = 60.0
_LOOK_S = 0.02


def value_of(key: str, size: int) -> bytes:
    """Return what `fill` writes under a key."""
    return (key.encode() + b"/").ljust(size, key[-1].encode())


def fill(node: Node, keys: list[str], size: int) -> None:
    """Write a value of `size` bytes under each key, as fast as the node takes them."""
    for _ in range(_ROUNDS):
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            parts = [keys[one::_CONNECTIONS] for one in range(_CONNECTIONS)]
            running = [pool.submit(_fill, node, part, size) for part in parts]
            keys = [key for one in running for key in one.result()]
        if not keys:
            return
    raise AssertionError(f"{len(keys)} writes got no 200 in {_ROUNDS} rounds")


def _fill(node: Node, keys: list[str], size: int) -> list[str]:
    """Write some; return those that failed, as on a machine too busy to keep its leader."""
    refused = []
    with socket.create_connection(("127.0.0.1", node.port), timeout=_PATIENCE_S) as sock:
        answers = sock.makefile("rb")
        for first in range(0, len(keys), _WINDOW):
            window = keys[first : first + _WINDOW]
            sock.sendall(b"".join(_put(key, value_of(key, size)) for key in window))
            for key in window:
                status = answers.readline().split()[1]
                body = answers.read(int(http.client.parse_headers(answers)["Content-Length"]))
                has_failed = status in {b"500", b"503"}
                assert has_failed or (status, body) == (b"200", b"true")
                if has_failed:
                    refused.append(key)
    return refused


def _put(key: str, value: bytes) -> bytes:
    head = f"PUT /v1/kv/{key} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(value)}\r\n\r\n"
    return head.encode() + value


def resident_mib(node: Node) -> float:
    """Return how much memory a node's process holds, from Linux."""
    text = Path(f"/proc/{node.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+)", text)
    assert found is not None, text
    return int(found[1]) / 1024


@dataclass
class Peak:
    """The most memory that a process held while it was watched."""

    mib: float = 0.0


@contextmanager
def watching(*nodes: Node) -> Iterator[list[Peak]]:
    """Give the peaks of processes, which grow until the end of `with`."""
    peaks = [Peak() for _ in nodes]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_LOOK_S):
            for node, peak in zip(nodes, peaks, strict=True):
                peak.mib = max(peak.mib, resident_mib(node))

    with ThreadPoolExecutor(1) as pool:
        watched = pool.submit(watch)
        try:
            yield peaks
        finally:
            stop.set()
            watched.result()


@dataclass
class Served:
    """How long writes took, in seconds, and how many got another answer than 200."""

    times: list[float] = field(default_factory=list)
    failed: int = 0

    def percentile_ms(self, percent: float) -> float:
        """Return how long all but the slowest took, in milliseconds."""
        ordered = sorted(self.times)
        return 1000 * ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


@contextmanager
def serving(
    node: Node, prefix: str, per_second: int, size: int, clients: int = 2
) -> Iterator[Served]:
    """Have clients write to a node at a pace, each on its own connection, until the end of `with`."""
    served = Served()
    stop = threading.Event()
    pause = clients / per_second if per_second else 0.0

    def serve(number: int) -> None:
        connection = http.client.HTTPConnection(node.address, timeout=_PATIENCE_S)
        count = 0
        due = time.monotonic()
        while not stop.wait(max(due - time.monotonic(), 0)):
            due = max(due + pause, time.monotonic() - 1)
            key = f"{prefix}/{number}/{count % 1000}"
            count += 1
            begun = time.monotonic()
            connection.request("PUT", f"/v1/kv/{key}", value_of(key, size))
            answer = connection.getresponse()
            answer.read()
            served.times.append(time.monotonic() - begun)
            served.failed += answer.status != 200
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(serve, number) for number in range(clients)]
        try:
            yield served
        finally:
            stop.set()
            for one in running:
                one.result()


@dataclass
class Figures:
    """What catching up cost. Times in seconds, memory in MiB."""

    seconds: float
    leader_growth: float
    member_growth: float
    before: Served
    meanwhile: Served
    snapshots: int
    member: Node


def catch_up(
    cluster: Cluster,
    keys: list[str],
    size: int,
    *,
    quiet_s: float,
    per_second: int,
    served_bytes: int = 256,
    meanwhile: Callable[[], object] = lambda: None,
    within: float,
) -> Figures:
    """Leave a member behind by so much, let it come back, and say what that cost.

    Args:
        cluster: Three healthy nodes with hardly any data.
        keys: What to write while it is away.
        size: Bytes of each value.
        quiet_s: How long to measure writes before the member is back.
        per_second: Writes at the leader, then and meanwhile; 0: as many as it takes.
        served_bytes: Of the value of each of those.
        meanwhile: Called while it is away, too.
        within: Seconds that catching up may take.
    """
    leader, (away, _) = cluster.leader(), cluster.followers()
    member_before = resident_mib(away)
    away.kill()
    meanwhile()
    fill(leader, keys, size)
    with serving(leader, "served", per_second, served_bytes) as before:
        time.sleep(quiet_s)  # noqa: TID251 - it is what is measured
    leader_before = resident_mib(leader)
    sent = leader.log().count("sent a snapshot")
    begun = time.monotonic()
    away.start()
    eventually(lambda: resident_mib(away), "it runs")
    with (
        watching(leader, away) as (leader_peak, member_peak),
        serving(leader, "served", per_second, served_bytes) as served,
    ):
        eventually(lambda: away.log().count("installed a snapshot"), "it gets the state", within)
        eventually(lambda: away.sees(away).health == "alive", "it is alive", within)
        eventually(lambda: _gap(leader, away) < 1000, "it has caught up", within)
        seconds = time.monotonic() - begun
    return Figures(
        seconds,
        leader_peak.mib - leader_before,
        member_peak.mib - member_before,
        before,
        served,
        leader.log().count("sent a snapshot") - sent,
        away,
    )


def is_same(cluster: Cluster, keys: list[str], size: int) -> bool:
    """Whether every node's own copy has, under each of these keys, what `fill` wrote."""
    for node in cluster.nodes:
        connection = http.client.HTTPConnection(node.address, timeout=_PATIENCE_S)
        for key in keys:
            connection.request("GET", f"/v1/kv/{key}?raw&stale")
            if connection.getresponse().read() != value_of(key, size):
                return False
        connection.close()
    return True


def _gap(leader: Node, member: Node) -> int:
    """Return how many entries a node has applied that the other has not."""
    return (leader.sees(leader).applied_index or 0) - (member.sees(member).applied_index or 0)
