"""How long DNS misses a killed leader: `python -m tests.bench.dns_failover [KILLS]`, from the root.

Three real nodes on loopback. Each round kills the leader by SIGKILL, and asks each survivor's DNS
server for the leader's SRV record over and over, until its answer is another node; that it is the
one that leads is checked afterwards. The killed node is back and healthy before the next round.
Counted too is what was said before that: the dead leader, or SERVFAIL.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import trio

from hstore.dns.client import NoAnswer, ask
from hstore.dns.records import RRType, Srv, name_of
from tests.system.cluster import Cluster, Node

KILLS = 20
PAUSE_S = 0.002
PATIENCE_S = 20.0
QUESTION = name_of("_hstore-leader._tcp.hstore.local")


async def named_by(node: Node) -> int | None:
    """The API port of whom a node's DNS server names as the leader; None: it fails."""
    try:
        reply = await ask("127.0.0.1", node.dns_port, QUESTION, RRType.SRV)
    except NoAnswer:
        return None
    return next((record.rdata.port for record in reply.answers if isinstance(record.rdata, Srv)), 0)


async def wait_for_new(
    node: Node, dead: int, killed_at: float, took: list[float], said: Counter[str]
) -> None:
    """Ask one survivor until it names another node than the dead one."""
    with trio.fail_after(PATIENCE_S):
        while (port := await named_by(node)) in {None, dead}:
            said["SERVFAIL" if port is None else "the dead leader"] += 1
            await trio.sleep(PAUSE_S)
    took.append(time.monotonic() - killed_at)


async def one_round(survivors: list[Node], leader: Node, said: Counter[str]) -> list[float]:
    """Kill the leader, and return the seconds that each survivor took."""
    took: list[float] = []
    killed_at = time.monotonic()
    leader.kill()
    async with trio.open_nursery() as nursery:
        for node in survivors:
            nursery.start_soon(wait_for_new, node, leader.port, killed_at, took, said)
    return took


def measure(kills: int) -> list[float]:
    """Return the seconds of each survivor of each round."""
    took: list[float] = []
    said: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="hstore-dns-failover-") as folder:
        with Cluster(Path(folder)) as cluster:
            cluster.up()
            for number in range(1, kills + 1):
                leader = cluster.leader()
                survivors = [node for node in cluster.running() if node is not leader]
                found = trio.run(partial(one_round, survivors, leader, said))
                new = cluster.leader()
                assert {trio.run(named_by, node) for node in survivors} == {new.port}
                took += found
                shown = ", ".join(f"{seconds * 1000:5.0f} ms" for seconds in found)
                print(f"kill {number:>3}: {shown}", flush=True)
                leader.start()
                cluster.wait_healthy()
    print(f"answers before: {dict(said)}")
    return took


def main() -> None:
    """Measure and print."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    took = sorted(measure(kills))
    print(
        f"from SIGKILL of the leader to the first right answer, {kills} kills, each survivor: "
        f"median {statistics.median(took) * 1000:.0f} ms, "
        f"best {took[0] * 1000:.0f} ms, worst {took[-1] * 1000:.0f} ms"
    )


if __name__ == "__main__":
    main()
