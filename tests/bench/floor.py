"""For scale and for honesty: a Redis that flushes each write, and etcd by its own client and gRPC.

Neither is a neighbour that takes turns: they are figures beside the table, not ratios in it.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import socket

from tests.system.cluster import eventually
from tests.system.place import free_base

from .machine import program
from .plan import Plan, Rows, guarded
from .processes import Failed, output, running
from .rows import Row
from .systems import Etcd

_REQUESTS_PER_S = 4_000
"""So many are sent for each second that a run should take: what a machine like ours does."""


def floor(plan: Plan) -> Rows:
    """Both."""
    yield from guarded("redis", _redis(plan))
    if not plan.is_quick:
        yield from guarded("etcdctl check perf", _check_perf(plan))


def _redis(plan: Plan) -> Rows:
    """One process, without replication, that flushes before it answers."""
    place = plan.folder / "redis"
    place.mkdir()
    port = free_base(1)
    server = [
        *(program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place)),
        *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
    ]
    load = [
        *(program("redis-benchmark"), "-p", str(port), "-c", "64", "-d", "256", "-r", "10000"),
        *("-n", str(round(plan.seconds * _REQUESTS_PER_S)), "-t", "set", "--csv"),
    ]
    with running(server, place / "log"):
        eventually(lambda: _is_up(port), "redis answers")
        rates = [parse_redis(output(load, 120)) for _ in range(plan.pairs + 1)][1:]
    shutil.rmtree(place, ignore_errors=True)
    yield Row(
        "SET of 256 B, 64 connections: per second",
        "",
        tuple(rates),
        labels=("redis, one process, appendfsync always", ""),
        note="`redis-benchmark`; nothing is replicated.",
    )


def _is_up(port: int) -> bool:
    # redis-benchmark waits for ever for a server that was not there when it began.
    with socket.create_connection(("127.0.0.1", port), timeout=1) as one:
        one.sendall(b"PING\r\n")
        return one.recv(16).startswith(b"+PONG")


def parse_redis(text: str) -> float:
    """Return the requests per second in what `redis-benchmark --csv` wrote.

    Raises:
        Failed: there are none.
    """
    for row in csv.reader(text.splitlines()):
        if row and row[0].startswith("SET"):
            return float(row[1])
    raise Failed(f"redis-benchmark gave no figures: {text.strip()[-200:]}")


def _check_perf(plan: Plan) -> Rows:
    """A minute of `etcdctl check perf`, with the load that is more than the others ask for."""
    place = plan.folder / "check-perf"
    with Etcd(place) as etcd:
        command = [program("etcdctl"), "--endpoints", ",".join(etcd.addresses)]
        command += ["check", "perf", "--load", "l"]
        env = {**os.environ, "ETCDCTL_API": "3"}
        said = output(command, 180, env=env, fails=False)
    shutil.rmtree(place, ignore_errors=True)
    yield Row(
        "`etcdctl check perf --load l`: writes per second",
        "",
        (parse_check_perf(said),),
        labels=("etcd by gRPC, etcdctl", ""),
        note="500 clients ask for 8,000 writes of 1 KiB a second through all three members.",
    )


def parse_check_perf(text: str) -> float:
    """Return the writes per second in what `etcdctl check perf` wrote, whether or not it passed.

    Raises:
        Failed: there are none.
    """
    found = re.search(r"Throughput (?:is|too low:) (\d+) writes/s", text)
    if found is None:
        raise Failed(f"etcdctl check perf gave no figures: {text.strip()[-200:]}")
    return float(found[1])
