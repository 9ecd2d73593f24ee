"""The targets, and the document that has them beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from . import names, outage, store
from .loads import P50, P99, RATE, row_name
from .outage import Loss
from .rows import Row, Target, tables, target_table

RESULTS = Path(__file__).parent / "results.md"

MOST = 1_000_000
"""Keys in the largest store."""


def _put(connections: int, figure: str, where: str = "leader") -> str:
    return row_name("put", connections, where, figure)


def _get(connections: int, figure: str, where: str = "leader") -> str:
    return row_name("linearizable get", connections, where, figure)


TARGETS = (
    Target(
        "put, 64 and 256 connections, leader",
        "etcd: at least 2.0, aim 3.0",
        (_put(64, RATE), _put(256, RATE)),
        least=2.0,
    ),
    Target(
        "put, 64 connections, follower",
        "etcd: at least 2.0",
        (_put(64, RATE, "follower"),),
        least=2.0,
    ),
    Target("put, 1 connection, p50 latency", "etcd: at most 1.0", (_put(1, P50),), most=1.0),
    Target(
        "p99 latency at 64 and 256 connections",
        "etcd: at most 0.7",
        (_put(64, P99), _put(256, P99), _get(64, P99), _get(256, P99)),
        most=0.7,
    ),
    Target(
        "linearizable get, 64 connections, leader and follower",
        "etcd: at least 3.0, aim 5.0",
        (_get(64, RATE), _get(64, RATE, "follower")),
        least=3.0,
    ),
    *(
        Target(
            f"{loss.value} of the leader to the next write",
            f"etcd: at most {most}",
            (outage.next_write(loss),),
            most=most,
        )
        for loss, most in ((Loss.KILL, 0.25), (Loss.HALT, 1.0))
    ),
    Target(
        "clean stop of the leader to the next write",
        "etcd: at most 1.0, and no write refused for certain",
        (outage.next_write(Loss.STOP), outage.LONGEST_GAP),
        most=1.0,
        zero=(outage.REFUSED,),
    ),
    Target(
        "DNS A, one core",
        "dnsmasq: at least 0.9, aim 1.1",
        (names.A, names.by_processor_time(names.A)),
        least=0.9,
    ),
    Target(
        "resident memory at 1,000,000 keys", "etcd: at most 1.0", (store.memory(MOST),), most=1.0
    ),
    Target(
        "restart with 1,000,000 keys to serving",
        "etcd: at most 1.0",
        (store.restart(MOST),),
        most=1.0,
    ),
    Target(
        "values of 256 KiB, MB/s",
        "etcd: at least 1.0",
        (row_name("put of 256 KiB", 16, "leader", "MB/s"),),
        least=1.0,
    ),
    Target(
        "put throughput at 1,000,000 keys against 10,000",
        "itself: at least 0.8",
        (store.against_small("hstore", MOST),),
        least=0.8,
    ),
)


def document(facts: Mapping[str, str], command: str, rows: Sequence[Row]) -> str:
    """Write the results as Markdown."""
    told = "\n".join(f"- {what}: {fact}" for what, fact in facts.items())
    return f"""# Figures

Written by `make bench`; this run was `{command}`.

{told}

Three nodes of each system on loopback in their default configuration, fsync on, all data on one file system. Values are of 256 random bytes unless said. Every write is one request, flushed on a majority before its answer. The load is sent by `wrk` with one thread, to etcd through its own HTTP gateway. The systems take turns, run by run; the first pair warms up and is thrown away; a ratio is hstore's figure by that of its neighbour in time, and what is shown is the median, with the lowest and the highest. A row with any error or any answer that is not 2xx is void.

## Targets

{target_table(TARGETS, rows)}

## All rows

{tables(rows)}
"""
