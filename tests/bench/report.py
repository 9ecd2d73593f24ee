"""The targets, and the document that has them beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .loads import P50, P99, RATE, row_name
from .rows import Row, Target, tables, target_table

RESULTS = Path(__file__).parent / "results.md"


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
    Target(
        "values of 256 KiB, MB/s",
        "etcd: at least 1.0",
        (row_name("put of 256 KiB", 16, "leader", "MB/s"),),
        least=1.0,
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
