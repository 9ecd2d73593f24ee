"""The log of a real process: its form and level, and `hstore monitor` through a restart."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path

from .cluster import HSTORE, Cluster, eventually, request


def test_a_log_in_json_is_followed_through_a_restart(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1) as cluster:
        (node,) = cluster.nodes
        cluster.env["HSTORE_LOG_FORMAT"] = "json"
        node.start("--new-cluster", "--log-level", "warning")
        eventually(lambda: node.write("a", "b").status == 200, "it takes writes")
        told: list[str] = []
        with subprocess.Popen(
            [*HSTORE, "monitor", "-h", node.address, "--json"],
            env=dict(cluster.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            lines = process.stdout
            reader = threading.Thread(target=lambda: told.extend(lines), daemon=True)  # noqa: TID251
            reader.start()

            def events(after: int = 0) -> list[str]:
                return [json.loads(line)["event"] for line in told[after:]]

            body = b'{"value":"7s"}'
            # The reader may not be there yet.
            eventually(
                lambda: (
                    request(node.address, "PUT", "/v1/config/dns_ttl", body).status == 200
                    and "a client changed a setting" in events()
                ),
                "the monitor shows what the node does not log itself",
            )
            assert "a client changed a setting" not in node.log()
            before = len(told)
            assert request(node.address, "POST", "/v1/node/restart", b"{}").status == 200
            eventually(lambda: "a member leads" in events(before), "the monitor goes on")
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        node.signal(signal.SIGTERM)
        assert node.wait_end() == 0
        logged = node.log().splitlines()
        assert all({"time", "level", "event"} <= json.loads(line).keys() for line in logged)
