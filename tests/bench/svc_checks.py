"""What 2,000 HTTP checks at 10 s cost the processor: the runner of a node, and HAProxy's own checks.

    .venv/bin/python -m tests.bench.svc_checks [--seconds 60] [--checks 2000] [--pairs 3]

Both ask one nginx, in turns. The runner runs alone in a process of its own, by a log in memory, so that
what is measured is its own work: schedule, sockets, answers, thresholds. What the node does beside it
at rest is another row. Late is how long after it was due a run began, as the runner itself counts it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import trio

from hstore.node.checks.probes import NO_CHECK_SETTINGS, NodeProbes
from hstore.node.checks.verdict import Verdict
from hstore.node.model.checks import CheckDefinition
from tests.node.checks.one_node import OneNode, http, running_checks
from tests.system.place import free_base

from .processes import cpu_seconds, end, leash

INTERVAL_S = 10
_SETTLE_S = 11.0
"""Until each check has had its first run, and those are spread over the interval."""


def main() -> int:
    """Measure in turns and print the medians; return the exit status."""
    options = _options()
    if options.runner:
        trio.run(_run, options.runner, options.checks)
        return 0
    missing = [tool for tool in ("nginx", "haproxy") if shutil.which(tool) is None]
    if missing:
        print(f"missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    port = free_base(2)
    with tempfile.TemporaryDirectory(prefix="hstore-checks-") as name, _nginx(Path(name), port):
        runs: dict[str, list[float]] = {"runner": [], "haproxy": []}
        for _ in range(options.pairs):
            runs["runner"].append(_measure(_runner(port, options.checks), options.seconds))
            haproxy = _haproxy(Path(name), port, options.checks)
            runs["haproxy"].append(_measure(haproxy, options.seconds))
    for system, percents in runs.items():
        each = ", ".join(f"{one:.2f}" for one in percents)
        print(f"{system}: {statistics.median(percents):.2f} % of a core ({each})")
    ratio = statistics.median(runs["runner"]) / statistics.median(runs["haproxy"])
    print(f"ratio {ratio:.2f}; {options.checks} checks every {INTERVAL_S} s")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.svc_checks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of one run")
    parser.add_argument("--checks", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3, help="runs of each, in turns")
    parser.add_argument("--runner", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(command: list[str], seconds: float) -> float:
    """Return the processor time of a program, in percent of one core, once it has settled."""
    process = subprocess.Popen([*leash(), *command], start_new_session=True)
    try:
        time.sleep(_SETTLE_S)  # noqa: TID251 - a benchmark of processes
        begun, used = time.perf_counter(), cpu_seconds(process.pid)
        time.sleep(seconds)  # noqa: TID251 - a benchmark of processes
        return 100 * (cpu_seconds(process.pid) - used) / (time.perf_counter() - begun)
    finally:
        end(process)


@contextmanager
def _nginx(folder: Path, port: int):
    config = folder / "nginx.conf"
    config.write_text(
        f"pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;\n"
        "daemon off; events { worker_connections 4096; }\n"
        f"http {{ access_log off; server {{ listen 127.0.0.1:{port} backlog=4096;\n"
        'location / { return 200 "ok\\n"; } } }\n'
    )
    process = subprocess.Popen([*leash(), "nginx", "-c", str(config)], start_new_session=True)
    try:
        time.sleep(0.5)  # noqa: TID251 - a benchmark of processes
        yield
    finally:
        end(process)


def _runner(port: int, checks: int) -> list[str]:
    return [sys.executable, "-m", "tests.bench.svc_checks", "--runner", str(port), "--checks", str(checks)]


def _haproxy(folder: Path, port: int, checks: int) -> list[str]:
    config = folder / "haproxy.cfg"
    servers = "\n".join(
        f"  server s{number} 127.0.0.1:{port} check inter {INTERVAL_S}s" for number in range(checks)
    )
    config.write_text(
        "global\n  nbthread 1\n  maxconn 1000\n  spread-checks 50\n"
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend f\n  bind 127.0.0.1:{port + 1}\n  default_backend b\n"
        f"backend b\n  option httpchk GET /\n{servers}\n"
    )
    return ["haproxy", "-db", "-f", str(config)]


# --- the runner alone ---------------------------------------------------------------------------


class _Probes:
    """The probes of a node, which say how late each run began."""

    def __init__(self) -> None:
        self._real = NodeProbes(NO_CHECK_SETTINGS)
        self.failed = 0

    async def run(self, definition: CheckDefinition) -> Verdict:
        verdict = await self._real.run(definition)
        if verdict.status != "passing":
            self.failed += 1
            if self.failed == 1:
                print(f"  a check fails: {verdict.output}", flush=True)
        return verdict


async def _run(port: int, checks: int) -> None:
    probes = _Probes()
    node = OneNode()
    node.run = probes.run  # type: ignore[method-assign]
    for number in range(checks):
        node.register(f"c{number}", http(INTERVAL_S, f"http://127.0.0.1:{port}/?{number}"))
    async with running_checks(node):
        while True:
            await trio.sleep(INTERVAL_S)
            print(f"  runs {node.runner.runs_total}, late {node.runner.late_total}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
