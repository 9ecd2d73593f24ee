"""What a real node shows to Prometheus, and what `configs/` has for Prometheus and Grafana.

By Prometheus' own tool, whose package is in `.ci/run`, and against the series that the node has. That the
program itself finds and scrapes a cluster is shown by `make clients` (`tests/clients/http_sd.py`).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .cluster import Cluster

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shown(shared: Cluster) -> str:
    node = shared.followers()[0]
    node.dig_short("leader.hstore.local")
    return node.get("/metrics").body.decode()


def promtool(require_tool: Callable[[str], str], *words: str, given: str = "") -> str:
    """Run promtool; return what it says."""
    done = subprocess.run(
        [require_tool("promtool"), *words],
        input=given,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_has_nothing_to_say_of_the_metrics(require_tool, shown):
    assert promtool(require_tool, "check", "metrics", given=shown) == ""


def test_promtool_takes_the_configuration_and_the_rules(require_tool):
    promtool(require_tool, "check", "config", str(ROOT / "configs/prometheus/prometheus.yml"))
    promtool(require_tool, "check", "rules", str(ROOT / "configs/prometheus/alerts.yml"))


def expressions_of_the_dashboard() -> list[str]:
    dashboard = json.loads((ROOT / "configs/grafana/hstore.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    # What Grafana puts in.
    return [one.replace("$__rate_interval", "1m").replace("$job", "hstore") for one in found]


def test_promtool_parses_the_dashboards_expressions(require_tool, tmp_path):
    rules = [
        {"record": f"a:b{number}", "expr": expression}
        for number, expression in enumerate(expressions_of_the_dashboard())
    ]
    path = tmp_path / "rules.json"  # JSON is YAML.
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    said = promtool(require_tool, "check", "rules", str(path))
    assert f"{len(rules)} rules found" in said


def test_what_the_dashboard_and_the_alerts_ask_for_is_exported(shown):
    names = set(re.findall(r"^# TYPE (\S+)", shown, re.MULTILINE))
    names |= {f"{name}_bucket" for name in names}
    asked = "\n".join(expressions_of_the_dashboard())
    asked += (ROOT / "configs/prometheus/alerts.yml").read_text()
    wanted = set(re.findall(r"\b(?:hstore|process)_[a-z_]+\b", asked))
    assert len(wanted) >= 30
    assert wanted - names == set()
