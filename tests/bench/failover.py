"""How long a killed leader is missed: `python -m tests.bench.failover [KILLS]`, from the root.

Three real nodes on loopback and clients that write without a pause. Each round kills the leader by
SIGKILL and measures until the first write that was begun after that is acknowledged; the killed
node is back and healthy before the next. Nothing that was acknowledged may be lost meanwhile.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from tests.system.cluster import Cluster
from tests.system.load import kill_and_measure, load

KILLS = 10
CLIENTS = 2


def measure(kills: int) -> list[float]:
    """Return the seconds of each round."""
    took = []
    with tempfile.TemporaryDirectory(prefix="hstore-failover-") as folder:
        with Cluster(Path(folder)) as cluster:
            cluster.up()
            with load(cluster.nodes, CLIENTS) as running:
                for number in range(1, kills + 1):
                    running.wait_more(100)
                    leader = cluster.leader()
                    took.append(kill_and_measure(leader, running))
                    running.wait_more(100)
                    leader.start()
                    cluster.wait_healthy()
                    print(f"kill {number:>3}: {took[-1] * 1000:7.0f} ms", flush=True)
            running.check(cluster.nodes)
    return took


def main() -> None:
    """Measure and print."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    took = sorted(measure(kills))
    print(
        f"from SIGKILL of the leader to the next acknowledged write, of {kills} kills: "
        f"median {statistics.median(took) * 1000:.0f} ms, "
        f"best {took[0] * 1000:.0f} ms, worst {took[-1] * 1000:.0f} ms"
    )


if __name__ == "__main__":
    main()
