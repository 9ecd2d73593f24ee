"""How long nothing can be registered when the leader is killed, beside a lease and a key of etcd.

As `outage.py`: clients register one instance after the other at each of the two other nodes, each with a TTL
check and an ID of its own; the time is that from SIGKILL to the first registration that was begun after
it and is acknowledged. A user of etcd asks for a lease and puts a key with it, of the same bytes: that
counts when both are answered.
"""

from __future__ import annotations

import base64
import json
from itertools import count

from . import client
from .outage import Ask, Loss, lose_leader
from .plan import Plan, Rows
from .rows import Target, paired
from .systems import Hstore, System, both, http

NAME = "SIGKILL of the leader to the next registration"
_TTL_S = 600

TARGETS = (Target(NAME, "etcd, lease and key: at most 0.2", (NAME,), most=0.2),)


def outage(plan: Plan) -> Rows:
    """The leader is killed, the systems taking turns."""
    with both(plan.folder, plan.etcd) as systems:
        found: list[tuple[float, float]] = []
        for _ in range(plan.outages):
            ours, theirs = (lose_leader(system, Loss.KILL, _registering) for system in systems)
            found.append((ours.next_write_s * 1000, theirs.next_write_s * 1000))
        yield paired(NAME, "ms", found)


def _registering(system: System, address: str, name: str) -> Ask:
    """Return what registers one more instance at a node."""
    numbers = count()

    def body() -> tuple[str, bytes]:
        instance = f"{name}-{address.rpartition(':')[2]}-{next(numbers)}"
        check = {"CheckID": instance, "TTL": f"{_TTL_S}s", "Status": "passing"}
        one = {"Name": "outage", "ID": instance, "Port": 80, "Check": check}
        return instance, json.dumps(one).encode()

    async def ours(connection: client.Connection) -> tuple[int, bytes]:
        return await connection.ask(http("PUT", address, "/v1/agent/service/register", body()[1]))

    async def theirs(connection: client.Connection) -> tuple[int, bytes]:
        grant = json.dumps({"TTL": _TTL_S}).encode()
        status, answer = await connection.ask(http("POST", address, "/v3/lease/grant", grant))
        if status != 200:
            return status, answer
        key, value = body()
        put = {"key": _b64(key.encode()), "value": _b64(value), "lease": json.loads(answer)["ID"]}
        return await connection.ask(http("POST", address, "/v3/kv/put", json.dumps(put).encode()))

    return ours if isinstance(system, Hstore) else theirs


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
