"""Transactions of four writes, and sessions made and renewed, beside etcd's transactions and leases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trio

from . import client
from .loads import Bench
from .plan import Plan, Rows
from .processes import Failed
from .systems import Hstore, System, both, http
from .wrk import Load

CONNECTIONS = 64
TXN = "transaction of 4 sets of 256 B"
CREATE = "session create"
RENEW = "session renew"

_RENEWED = 1_000
_TTL_S = 600
_CREATE_S_MAX = 2.0
"""A node takes no more than 50,000 sessions: a longer run would meet that bound."""
_MAKERS = 64


def txn(plan: Plan) -> Rows:
    """Transactions at the leader and at a follower."""
    with both(plan.folder, plan.etcd) as clusters:
        bench = Bench(plan, *clusters)
        yield from bench.rows(TXN, Load("txn"), CONNECTIONS)
        yield from bench.rows(TXN, Load("txn"), CONNECTIONS, "follower")
        yield bench.elections("txn")


def sessions(plan: Plan) -> Rows:
    """Sessions made, all of them ended after each run; and some that are renewed all the time."""
    with both(plan.folder, plan.etcd) as clusters:
        seconds = min(plan.seconds, _CREATE_S_MAX)
        bench = Bench(plan, *clusters, seconds=seconds, after=end_sessions)
        yield from bench.rows(CREATE, Load("create"), CONNECTIONS)
        bench = Bench(plan, *clusters)
        lists = {system.name: _make(system, plan.folder) for system in clusters}
        for where in ("leader", "follower"):
            yield from bench.rows(RENEW, Load("renew", names=lists), CONNECTIONS, where)
        yield bench.elections("sessions")


def create_request(system: System, address: str) -> bytes:
    """Make a request for one session that lives long enough for a run."""
    if isinstance(system, Hstore):
        body = json.dumps({"TTL": f"{_TTL_S}s"}).encode()
        return http("PUT", address, "/v1/session/create", body)
    return http("POST", address, "/v3/lease/grant", json.dumps({"TTL": _TTL_S}).encode())


def _end_request(system: System, address: str, name: str) -> bytes:
    if isinstance(system, Hstore):
        return http("PUT", address, f"/v1/session/destroy/{name}")
    return http("POST", address, "/v3/lease/revoke", json.dumps({"ID": name}).encode())


def _make(system: System, folder: Path) -> str:
    """Make sessions; return the path of a file with their names, a line each."""
    address = system.leader()
    answers = trio.run(partial(ask_all, address, [create_request(system, address)] * _RENEWED))
    path = folder / f"sessions-{system.name}.txt"
    path.write_text("".join(f"{json.loads(answer)['ID']}\n" for answer in answers))
    return str(path)


def end_sessions(system: System) -> None:
    """End every session that there is."""
    address = system.leader()
    names = trio.run(partial(_names, system, address))
    trio.run(partial(ask_all, address, [_end_request(system, address, name) for name in names]))


async def _names(system: System, address: str) -> list[str]:
    if isinstance(system, Hstore):
        answer = await ask_all(address, [http("GET", address, "/v1/session/list")])
        return [one["ID"] for one in json.loads(answer[0])]
    answer = await ask_all(address, [http("POST", address, "/v3/lease/leases", b"{}")])
    return [one["ID"] for one in json.loads(answer[0]).get("leases", ())]


async def ask_all(address: str, requests: list[bytes]) -> list[bytes]:
    """Make requests on some connections; return the bodies of the answers, in any order."""
    answers: list[bytes] = []
    left = iter(requests)
    async with trio.open_nursery() as nursery:
        for _ in range(min(_MAKERS, len(requests))):
            nursery.start_soon(_ask_some, address, left, answers)
    return answers


async def _ask_some(address: str, left: Iterator[bytes], answers: list[bytes]) -> None:
    async with client.connected(address) as connection:
        for request in left:
            status, body = await connection.ask(request)
            if status != 200:
                raise Failed(f"{request.split(b' HTTP')[0]!r} is answered {status}: {body[:200]!r}")
            answers.append(body)
