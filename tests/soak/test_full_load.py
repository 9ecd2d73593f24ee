"""An hour of as many writes and reads as three nodes take: no election without cause, no error.

`HSTORE_SOAK_S` is how many seconds it lasts, if not an hour. The load goes to the leader and to a
follower at once, and shares two cores with the nodes, so heartbeats have to hold their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.bench import wrk
from tests.bench.systems import event_loop_lag_ms
from tests.system.cluster import Cluster

SECONDS = int(os.environ.get("HSTORE_SOAK_S", "3600"))
PART_S = min(60, SECONDS)
GROWTH_MIB = 200


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_an_hour_of_full_load_without_an_election_or_an_error(
    three: Cluster, capsys: pytest.CaptureFixture[str], require_tool: Callable[[str], str]
) -> None:
    require_tool("wrk")
    leader = three.leader()
    follower = next(node for node in three.running() if node is not leader)
    term = leader.info().term
    load = wrk.Load("mixed")
    wrk.fill(leader.address, "hstore", load)
    with ThreadPoolExecutor(2) as pool:
        early: dict[int, float] = {}
        for part in range(1, -(-SECONDS // PART_S) + 1):
            runs = list(
                pool.map(
                    lambda job: wrk.run(job[1], "hstore", wrk.Load(job[0]), 64, PART_S),
                    (("put", leader.address), ("mixed", follower.address)),
                )
            )
            memory = {node.pid: resident_mib(node.pid) for node in three.running()}
            early = early if part > 5 else memory
            lag = max(event_loop_lag_ms(node.address) or 0 for node in three.running())
            with capsys.disabled():
                rates = " and ".join(
                    f"{run.per_second:,.0f}/s p99 {run.p99_ms:.0f} ms" for run in runs
                )
                print(
                    f"\n{part} min: {rates}; {max(memory.values()):.0f} MiB; stall {lag:.0f} ms",
                    end="",
                )
            assert [run.errors for run in runs] == [{}, {}]
            assert leader.info().term == term, "an election without cause"
    assert three.leader() is leader
    assert all(memory[pid] - early[pid] < GROWTH_MIB for pid in memory), (early, memory)
