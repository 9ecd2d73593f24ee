"""Settings and names that change, on real nodes, as the command line says it."""

from __future__ import annotations

import json
from collections.abc import Callable

from .cluster import HSTORE, Cluster, eventually, run


def test_settings_and_names_change_on_real_nodes(
    shared: Cluster, require_tool: Callable[[str], str]
) -> None:
    dig = require_tool("dig")
    first, second = shared.nodes[:2]
    before = next(node.name for node in first.info().nodes if node.address == second.address)

    said = run(*HSTORE, "config", "dns_ttl", "9s", "-h", second.address, env=shared.env)
    assert said.status == 0, said
    said = run(*HSTORE, "config", "dns_ttl", "-h", first.address, env=shared.env)
    assert (said.status, said.out) == (0, "9s\n")
    said = run(*HSTORE, "config", "heartbeat", "9s", "-h", first.address, env=shared.env)
    assert (said.status, "at most a quarter" in said.err) == (2, True), said

    said = run(*HSTORE, "rename", "-h", second.address, "web", env=shared.env)
    assert said.status == 0, said
    name = "web.node." + first.info().zone

    def ttl() -> bool:
        asked = ("@127.0.0.1", "-p", str(first.port + 100), name, "+noall", "+answer")
        return "\t9\tIN\tA" in run(dig, *asked, env=shared.env).out

    eventually(ttl, "the new name is answered with the new TTL")
    body = json.dumps({"node": "web", "name": before}).encode()
    headers = {"Content-Type": "application/json"}
    assert first.request("POST", "/v1/node/rename", body, headers=headers).status == 200
    said = run(*HSTORE, "config", "dns_ttl", "1s", "-h", first.address, env=shared.env)
    assert said.status == 0, said
