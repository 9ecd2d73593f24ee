"""Checks of machines without a member, of three real nodes: their owner dies, and they go on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

from .cluster import Cluster, Node, eventually

NAMES = ("far-1", "far-2", "far-3")
MOVED_S_MAX = 3 * 2.2
"""Three times 0.2 s until the port refuses, 1 s for another owner, and one interval of the checks."""


class Targets:
    """What the checks ask: a server in this process."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[float, str]] = []

    def since(self, moment: float) -> set[str]:
        return {path for at, path in self.asked if at >= moment}


@contextmanager
def targets() -> Iterator[tuple[Targets, int]]:
    """Serve them; yields the port, too."""
    found = Targets()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((time.monotonic(), self.path[1:]))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        ThreadPoolExecutor(1) as threads,
    ):
        threads.submit(server.serve_forever, 0.05)
        try:
            yield found, server.server_port
        finally:
            server.shutdown()


def put(node: Node, path: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    answer = node.request("PUT", path, data)
    assert answer.status == 200, answer
    return answer.body


def statuses(node: Node) -> set[str]:
    return {check["Status"] for check in node.get("/v1/health/checks/web").json()}


def test_checks_of_machines_without_a_member_go_on_when_their_owner_is_killed(
    shared: Cluster,
) -> None:
    leader, (dying, other) = shared.leader(), shared.followers()
    with targets() as (found, port):
        for name in NAMES:
            check = {"HTTP": f"http://127.0.0.1:{port}/{name}", "Interval": "1s"}
            path = f"/v1/agent/service/register?node={name}&node-address=127.0.0.1"
            put(other, path, {"Name": "web", "Check": check})
        eventually(lambda: statuses(leader) == statuses(dying) == {"passing"}, "all pass")
        body = {"Node": "far-1", "NodeChecks": [], "ServiceChecks": [{"ID": "service:web"}]}
        session = json.loads(put(leader, "/v1/session/create", body))["ID"]
        dying.kill()
        killed_at = time.monotonic()
        # One node each: the least busy member is given the next one.
        eventually(lambda: found.since(killed_at + 1.1) == {*NAMES}, "all are asked", MOVED_S_MAX)
        assert statuses(leader) == {"passing"}, "it stays until the new owner has a result"
        found.status = 500
        eventually(lambda: statuses(leader) == statuses(other) == {"critical"}, "all fail")
        gone = f"/v1/session/info/{quote(session)}"
        eventually(lambda: other.get(gone).json() == [], "the session ends with its check")
    for name in NAMES:
        put(other, f"/v1/agent/service/deregister/web?node={name}")
    assert [
        node["Node"] for node in leader.get("/v1/catalog/nodes").json() if node["Node"] in NAMES
    ] == []
