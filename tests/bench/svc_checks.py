"""What 2,000 HTTP checks every 10 s cost the processor, beside HAProxy's own checks of as many servers.

As a section of the benchmark, the checks are those of one follower of a cluster; what that follower uses
at rest is taken off. All ask one nginx, whose log says how late each run was.

    .venv/bin/python -m tests.bench.svc_checks [--seconds 60] [--checks 2000] [--pairs 3]

This is the runner alone, in a process of its own with a log in memory, and HAProxy, in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from hstore.node.checks.probes import NO_CHECK_SETTINGS, NodeProbes
from hstore.node.checks.verdict import Progress, Verdict
from hstore.node.model.checks import CheckDefinition
from tests.node.checks.one_node import OneNode, http, running_checks
from tests.system.place import free_base

from . import systems
from .plan import Plan, Rows
from .processes import Failed, cpu_seconds, running
from .rows import Row, Target
from .sessions import ask_all
from .systems import Hstore

CHECKS, INTERVAL_S = 2_000, 10
PROCESSOR = f"{CHECKS:,} HTTP checks every {INTERVAL_S} s on one member: processor time"
LATE = f"{CHECKS:,} HTTP checks every {INTERVAL_S} s on one member: the latest run"
ELECTIONS = "elections during the checks"
LABELS = ("hstore", "haproxy")

TARGETS = (
    Target(
        f"{CHECKS:,} HTTP checks every {INTERVAL_S} s on one member",
        "HAProxy's processor time: at most 2.5",
        (PROCESSOR,),
        most=2.5,
    ),
    Target("of these the latest run", "at most 1 s", (LATE,), worst=1.0),
)

_SECONDS, _QUICK_S = 60.0, 10.0
_SETTLE_S = 11.0
"""Until each check has had its first run, and they are spread over the interval."""


def checks(plan: Plan) -> Rows:
    """Processor time of a follower that runs the checks less that at rest; how late the runs were."""
    seconds = _QUICK_S if plan.is_quick else _SECONDS
    folder = plan.folder / "checks"
    with Hstore(folder) as cluster, _nginx(folder) as port:
        term, follower = cluster.term(), cluster.followers()[0]
        pid = cluster.pid(follower)
        rest = _busy(pid, plan.settle_seconds, plan.rest_seconds)
        requests = [_register(follower, number, port) for number in range(CHECKS)]
        trio.run(partial(ask_all, follower, requests))
        log = folder / "access.log"
        ours = _busy(pid, _SETTLE_S, seconds) - rest
        late = _latest(log.read_text().splitlines())
        elections = cluster.term() - term
        with running(_haproxy(folder, port, CHECKS)) as process:
            theirs = _busy(process.pid, _SETTLE_S, seconds)
    yield Row(PROCESSOR, "% of a core", (ours,), (theirs,), LABELS)
    yield Row(LATE, "s", (late,), (), LABELS)
    yield Row(ELECTIONS, "", (float(elections),), (), LABELS)


def _register(address: str, number: int, port: int) -> bytes:
    body = {
        "Name": f"c{number}",
        "HTTP": f"http://127.0.0.1:{port}/?n={number}",
        "Interval": f"{INTERVAL_S}s",
    }
    return systems.http("PUT", address, "/v1/agent/check/register", json.dumps(body).encode())


def _latest(lines: Sequence[str]) -> float:
    """Return by how many seconds the latest run of all came after it was due.

    Args:
        lines: Of the target's log: when, and whose run it was.

    Raises:
        Failed: Runs are missing.
    """
    times: dict[str, list[float]] = {}
    for line in lines:
        at, _, whose = line.partition(" ")
        times.setdefault(whose, []).append(float(at))
    if len(times) < CHECKS:
        raise Failed(f"only {len(times)} of {CHECKS} checks have asked")
    # The first run was at once, or late itself; from it on one is due at each interval.
    return max(
        at - one[0] - number * INTERVAL_S for one in times.values() for number, at in enumerate(one)
    )


def _busy(pid: int, settle_s: float, seconds: float) -> float:
    """Return the processor time of a process in percent of one core, after some time."""
    time.sleep(settle_s)  # noqa: TID251 - processes are looked at, and nothing is waited for
    begun, used = time.perf_counter(), cpu_seconds(pid)
    time.sleep(seconds)  # noqa: TID251
    return 100 * (cpu_seconds(pid) - used) / (time.perf_counter() - begun)


@contextmanager
def _nginx(folder: Path) -> Iterator[int]:
    """Run the target of all checks; gives its port."""
    port, config = free_base(1), folder / "nginx.conf"
    config.write_text(
        f"pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;\n"
        "daemon off; events { worker_connections 8192; }\n"
        'http { log_format when "$msec $arg_n";\n'
        f"access_log {folder}/access.log when;\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096;\n"
        'location / { return 200 "ok\\n"; } } }\n'
    )
    with running(["nginx", "-c", str(config)]):
        yield port


def _haproxy(folder: Path, port: int, count: int) -> list[str]:
    config = folder / "haproxy.cfg"
    servers = "\n".join(
        f"  server s{number} 127.0.0.1:{port} check inter {INTERVAL_S}s" for number in range(count)
    )
    config.write_text(
        "global\n  nbthread 1\n  maxconn 1000\n  spread-checks 50\n"
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        f"frontend f\n  bind 127.0.0.1:{free_base(1)}\n  default_backend b\n"
        f"backend b\n  option httpchk GET /\n{servers}\n"
    )
    return ["haproxy", "-db", "-f", str(config)]


# --- the runner alone ---------------------------------------------------------------------------


def main() -> int:
    """Measure the runner and HAProxy in turns and print the medians; return the exit status."""
    options = _options()
    if options.runner:
        trio.run(_run, options.runner, options.checks)
        return 0
    runs: dict[str, list[float]] = {"runner": [], "haproxy": []}
    with TemporaryDirectory(prefix="hstore-checks-") as name, _nginx(Path(name)) as port:
        for _ in range(options.pairs):
            for system, command in (
                ("runner", _runner(port, options.checks)),
                ("haproxy", _haproxy(Path(name), port, options.checks)),
            ):
                with running(command) as process:
                    runs[system].append(_busy(process.pid, _SETTLE_S, options.seconds))
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
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="of one run")
    parser.add_argument("--checks", type=int, default=CHECKS)
    parser.add_argument("--pairs", type=int, default=3, help="runs of each, in turns")
    parser.add_argument("--runner", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _runner(port: int, count: int) -> list[str]:
    module = ["-m", "tests.bench.svc_checks"]
    return [sys.executable, *module, "--runner", str(port), "--checks", str(count)]


async def _run(port: int, count: int) -> None:
    real = NodeProbes(NO_CHECK_SETTINGS)

    async def run(definition: CheckDefinition, progress: Progress) -> Verdict:
        verdict = await real.run(definition, progress)
        if verdict.status != "passing":
            raise Failed(verdict.output)
        return verdict

    node = OneNode()
    node.run = run  # type: ignore[method-assign]
    for number in range(count):
        node.register(f"c{number}", http(INTERVAL_S, f"http://127.0.0.1:{port}/?n={number}"))
    async with running_checks(node):
        await trio.sleep_forever()


if __name__ == "__main__":
    sys.exit(main())
