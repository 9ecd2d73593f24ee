"""Prometheus, the program: finds members and services by `http_sd`, and scrapes them.

It takes up new targets every five seconds only, so this is not in the suite; what `configs/` has for it
is checked there (`tests/system/test_prometheus.py`).
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.system.cluster import Cluster, Node, eventually, request
from tests.system.place import free_base

from .outcome import Outcome, Unavailable

NAME = "prometheus-http-sd"

_ROOT = Path(__file__).parents[2]
_WITHIN_S = 60.0


def install() -> str:
    """Return where Prometheus is.

    Raises:
        Unavailable: It is not installed.
    """
    found = shutil.which("prometheus")
    if found is None:
        raise Unavailable("no prometheus: apt-get install prometheus")
    return found


def version() -> str:
    """Return the version of Prometheus; `?`: it is not here."""
    try:
        done = subprocess.run(
            [install(), "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except Unavailable:
        return "?"
    words = (done.stdout + done.stderr).split()
    return words[2] if len(words) > 2 else "?"


def run(cluster: Cluster) -> Outcome:
    """Have it find and scrape a cluster, and a service whose one instance is a member."""
    outcome = Outcome(NAME, version())
    node = cluster.followers()[0]
    service = {"Name": "scraped", "Port": node.port, "Tags": ["a", "b"], "Meta": {"team": "x"}}
    request(node.address, "PUT", "/v1/agent/service/register", json.dumps(service).encode())
    names = sorted(info.name for info in node.info().nodes)
    with _prometheus(node) as at:
        for name, test in (
            ("members and instances are up", lambda: _targets(at, len(names))),
            ("each target has its member's name", lambda: _leads(at, names)),
            ("labels are those of consul_sd", lambda: _labels(at)),
            ("the alerts are loaded", lambda: _rules(at)),
        ):
            try:
                eventually(test, name, _WITHIN_S)
            except AssertionError as error:
                outcome.add(name, str(error))
            else:
                outcome.add(name)
    request(node.address, "PUT", "/v1/agent/service/deregister/scraped", b"")
    return outcome


def _asked(at: str, path: str, **query: str) -> Any:
    answer = request(at, "GET", f"{path}?{urlencode(query)}")
    if answer.status != 200:
        raise LookupError(f"{answer.status} {answer.body[:200]!r}")  # It is only starting.
    return answer.json()["data"]


def _active(at: str, pool: str) -> list[dict[str, Any]]:
    found = _asked(at, "/api/v1/targets", state="active")["activeTargets"]
    return [one for one in found if one["scrapePool"] == pool]


def _targets(at: str, members: int) -> bool:
    found = {pool: _active(at, pool) for pool in ("hstore", "scraped")}
    is_up = all(one["health"] == "up" for targets in found.values() for one in targets)
    return is_up and (len(found["hstore"]), len(found["scraped"])) == (members, 1)


def _leads(at: str, names: list[str]) -> bool:
    found = _asked(at, "/api/v1/query", query='hstore_raft_has_leader{job="hstore"} == 1')
    return [*sorted(one["metric"]["node"] for one in found["result"])] == names


def _labels(at: str) -> bool:
    (only,) = _active(at, "scraped")
    labels = only["discoveredLabels"]
    wanted = {
        "__meta_consul_service": "scraped",
        "__meta_consul_tags": ",a,b,",
        "__meta_consul_service_metadata_team": "x",
        "__meta_consul_health": "passing",
    }
    return all(labels.get(name) == value for name, value in wanted.items())


def _rules(at: str) -> bool:
    (group,) = _asked(at, "/api/v1/rules")["groups"]
    return bool(group["rules"]) and all(rule["health"] == "ok" for rule in group["rules"])


@contextmanager
def _prometheus(node: Node) -> Iterator[str]:
    """Run it until the end of `with`; gives its `HOST:PORT`."""
    url = f"http://{node.address}/v1/sd/prometheus"
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [
            {"job_name": job, "http_sd_configs": [{"url": url + query, "refresh_interval": "1s"}]}
            for job, query in (("hstore", ""), ("scraped", "?service=scraped"))
        ],
        "rule_files": [str(_ROOT / "configs/prometheus/alerts.yml")],
    }
    at = f"127.0.0.1:{free_base(1)}"
    with tempfile.TemporaryDirectory(prefix="hstore-prometheus-") as name:
        folder = Path(name)
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML.
        command = [
            install(),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={at}",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield at
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
