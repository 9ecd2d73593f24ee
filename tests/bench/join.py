"""How long `hstore join` with no host takes, from the command to a vote.

    unshare -rn .venv/bin/python -m tests.bench.join [TIMES]

On one machine, and between network namespaces by unicast DNS and by multicast; a new cluster of one
for each join. It needs a network of its own, because it looks for clusters on the one it is in. The
time begins when the process is made, so the start of Python and of the program are in it: what
`hstore --version` takes, which is little of the program, is shown beside it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.system.cluster import HSTORE, Cluster, Node, eventually
from tests.system.network import Network

TIMES = 10


def measure(network: Network | None, env: Mapping[str, str]) -> float:
    """Return the seconds of one join; `network`: to a seed node on another machine."""
    with tempfile.TemporaryDirectory(prefix="hstore-join-") as folder:
        with Cluster(Path(folder), 2, base=8500) as cluster:
            cluster.env |= env
            if network is not None:
                places = enumerate(network.hosts)
                cluster.nodes = [Node(cluster, 8500, host, network.prefix(n)) for n, host in places]
            seed, joiner = cluster.nodes
            seed.start()
            eventually(lambda: seed.info().leader, "the seed node leads")
            own = [] if network is None else ["--listen", joiner.address]
            begun = time.perf_counter()
            joiner.spawn("join", *own, "--data-dir", str(joiner.directory))
            eventually(lambda: seed.sees(joiner).voter, "the newcomer votes")
            return time.perf_counter() - begun


def measure_version() -> float:
    """Return the seconds of a command that does nothing."""
    begun = time.perf_counter()
    subprocess.run([*HSTORE, "--version"], check=True, capture_output=True)
    return time.perf_counter() - begun


def show(what: str, took: list[float]) -> None:
    """Print the figures of one way."""
    print(
        f"{what:<24} median {statistics.median(took) * 1000:5.0f} ms, "
        f"best {min(took) * 1000:5.0f}, worst {max(took) * 1000:5.0f}, of {len(took)}",
        flush=True,
    )


def main() -> None:
    """Measure the ways in turn, so that what else runs on the machine meets all of them."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else TIMES
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    took: dict[str, list[float]] = {
        name: [] for name in ("hstore --version", "one machine", "unicast DNS", "multicast DNS")
    }
    with Network(2) as network:
        unicast = {"HSTORE_DNS": f"{network.hosts[0]}:8600", "HSTORE_DISCOVERY_MDNS": "false"}
        for _ in range(times):
            took["hstore --version"].append(measure_version())
            took["one machine"].append(measure(None, {}))
            with network.inside():
                took["unicast DNS"].append(measure(network, unicast))
                took["multicast DNS"].append(measure(network, {}))
    for what, figures in took.items():
        show(what, figures)


if __name__ == "__main__":
    main()
