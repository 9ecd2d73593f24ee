"""hstore beside etcd: three nodes of each on loopback, the same load in turns, with ratios.

    .venv/bin/python -m tests.bench.compare [--pairs 5] [--seconds 5] [--connections 64]

Needs `wrk` and `etcd` (Debian: wrk, etcd-server). Both keep their data in one new folder, with
fsync on; every write is one request. A run with an error or an answer that is not 2xx is void.
The machine's speed drifts, so the systems take turns and only ratios of neighbours are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
START_S = 30.0


def main() -> int:
    """Run the comparison; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--dir", help="where the data goes; not a tmpfs")
    options = parser.parse_args()
    for tool in ("wrk", "etcd"):
        if shutil.which(tool) is None:
            print(f"{tool} is missing: apt-get install wrk etcd-server", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory(prefix="hstore-bench-", dir=options.dir) as folder:
        print(f"fdatasync of 4 KiB: {_fsync_median_us(Path(folder)):.0f} us (median)")
        with _hstore(Path(folder) / "hstore") as ours, _etcd(Path(folder) / "etcd") as theirs:
            for title, mine, other in (
                ("put, leader", "put.lua", "etcd_put.lua"),
                ("linearizable get, leader", "get.lua", "etcd_get.lua"),
            ):
                _compare(title, options, (ours, mine), (theirs, other))
    return 0


def _compare(
    title: str, options: argparse.Namespace, ours: tuple[str, str], theirs: tuple[str, str]
) -> None:
    turns = range(options.pairs + 1)
    # The first pair warms both up, and writes the keys that are read later.
    pairs = [(_wrk(options, *ours), _wrk(options, *theirs)) for _ in turns][1:]
    print(f"\n{title}, {options.connections} connections, {options.pairs} pairs")
    for name, at, what in (("per second", 0, ".0f"), ("p50 ms", 1, ".2f"), ("p99 ms", 2, ".2f")):
        mine = [pair[0][at] for pair in pairs]
        other = [pair[1][at] for pair in pairs]
        ratios = [a / b for a, b in zip(mine, other, strict=True)]
        print(
            f"  {name:11} hstore {statistics.median(mine):{what}}"
            f"  etcd {statistics.median(other):{what}}"
            f"  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def _wrk(options: argparse.Namespace, address: str, script: str) -> tuple[float, float, float]:
    command = [
        *("wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s"),
        *("-s", str(HERE / script), f"http://{address}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("figures "))
    per_second, p50, p99, errors = line.split()[1:]
    if int(errors):
        raise SystemExit(f"void: {errors} errors in {' '.join(command)}")
    return float(per_second), float(p50), float(p99)


@contextlib.contextmanager
def _hstore(folder: Path) -> Iterator[str]:
    """Run three nodes; give the leader's API address."""
    folder.mkdir()
    env = {**os.environ, "XDG_DATA_HOME": str(folder)}
    base = 18500
    commands = []
    for k in range(3):
        how = ["start", "-h"] if k == 0 else ["join", "-h", f"127.0.0.1:{base}", "--listen"]
        commands.append([*how, f"127.0.0.1:{base + k}", "--no-shell"])
    with contextlib.ExitStack() as stack:
        for command in commands:
            stack.enter_context(_process([sys.executable, "-m", "hstore.cli", *command], env))
            _wait(lambda: _get(f"http://127.0.0.1:{base}/v1/health") is not None)
        _wait(lambda: len(_voters(base)) == 3)
        yield str(_get(f"http://127.0.0.1:{base}/v1/status/leader"))


def _voters(port: int) -> list[object]:
    info = _get(f"http://127.0.0.1:{port}/v1/cluster")
    return [node for node in info["nodes"] if node["voter"]] if isinstance(info, dict) else []


@contextlib.contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    """Run three members of etcd; give the leader's client address."""
    folder.mkdir()
    peers = ",".join(f"e{k}=http://127.0.0.1:{19380 + k}" for k in range(3))
    with contextlib.ExitStack() as stack:
        for k in range(3):
            client, peer = f"http://127.0.0.1:{19279 + k}", f"http://127.0.0.1:{19380 + k}"
            command = [
                *("etcd", "--name", f"e{k}", "--data-dir", str(folder / f"e{k}")),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", peers, "--log-level", "error"),
            ]
            stack.enter_context(_process(command, dict(os.environ)))
        _wait(lambda: _etcd_leader() is not None)
        leader = _etcd_leader()
        assert leader is not None
        yield leader


def _etcd_leader() -> str | None:
    for k in range(3):
        status: Any = _get(f"http://127.0.0.1:{19279 + k}/v3/maintenance/status", b"{}")
        leader = status.get("leader") if isinstance(status, dict) else None
        if leader and leader == status["header"]["member_id"]:
            return f"127.0.0.1:{19279 + k}"
    return None


@contextlib.contextmanager
def _process(command: list[str], env: dict[str, str]) -> Iterator[None]:
    with subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.kill()


def _get(url: str, body: bytes | None = None) -> object:
    """Return decoded JSON, or None when nobody answers so."""
    try:
        with urllib.request.urlopen(url, body, timeout=1) as answer:
            text = answer.read()
    except OSError:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()


def _wait(is_true: object) -> None:
    deadline = time.monotonic() + START_S
    while not is_true():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise SystemExit("the cluster did not come up")
        time.sleep(0.05)  # noqa: TID251 - a benchmark runs in real time


def _fsync_median_us(folder: Path) -> float:
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(200):
            file.write(b"x" * 4096)
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


if __name__ == "__main__":
    raise SystemExit(main())
