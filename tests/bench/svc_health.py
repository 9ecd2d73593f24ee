"""`health/service/NAME?passing` of services with five instances, beside etcd's range of five keys.

One of a thousand names at random each time, on one member, by wrk. What etcd's users store of an
instance is one key of some 250 bytes below the name of the service, which they read by its prefix.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import trio

from . import client
from .loads import ELECTIONS as _ELECTIONS
from .loads import Bench
from .plan import Plan, Rows
from .processes import Failed
from .systems import Hstore, System, both, http
from .wrk import Load

NAMES = 1_000
INSTANCES = 5
CONNECTIONS = 64
WHAT = f"health/service of {NAMES:,} services of {INSTANCES} instances"
VALUE_BYTES = 250
_SECTION = "reads of services"
ELECTIONS = f"{_ELECTIONS}, {_SECTION}"

PREFIX = "svc-n-"
"""Of the names; `load.lua` wants a length that is a multiple of three."""

_MAKERS = 64


def health(plan: Plan) -> Rows:
    """Reads of services at the leader and at a follower."""
    with both(plan.folder, plan.etcd) as clusters:
        for system in clusters:
            trio.run(partial(_fill, system))
        bench = Bench(plan, *clusters)
        load = Load("service", VALUE_BYTES, NAMES, PREFIX)
        for where in ("leader", "follower"):
            yield from bench.rows(WHAT, load, CONNECTIONS, where)
        yield bench.elections(_SECTION)


async def _fill(system: System) -> None:
    left = iter([(name, number) for name in range(NAMES) for number in range(INSTANCES)])
    addresses = system.addresses
    async with trio.open_nursery() as nursery:
        for worker in range(_MAKERS):
            address = addresses[worker % len(addresses)]
            nursery.start_soon(_make, system, address, left)


async def _make(system: System, address: str, left: Iterator[tuple[int, int]]) -> None:
    async with client.connected(address) as connection:
        for name, number in left:
            status, body = await connection.ask(_request(system, address, name, number))
            if status != 200:
                raise Failed(f"{system.name}: an instance is answered {status}: {body[:200]!r}")


def _request(system: System, address: str, name: int, number: int) -> bytes:
    """Make a request that registers an instance, passing."""
    service = f"{PREFIX}{name:06d}"
    if not isinstance(system, Hstore):
        return system.put(address, f"{service}/{number}", b"0" * VALUE_BYTES)
    body = {
        "ID": f"{service}/{number}",
        "Name": service,
        "Address": f"10.1.{name % 256}.{number}",
        "Port": 8080 + number,
        "Tags": ["v1", "primary"],
        "Check": {"TTL": "24h", "Status": "passing"},
    }
    return http("PUT", address, "/v1/agent/service/register", json.dumps(body).encode())
