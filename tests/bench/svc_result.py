"""From a check's result at one member to the DNS answer of another, beside an event of etcd's watches.

hstore: `check/fail` and `check/pass` in turns at one follower, while the DNS server of the other is
asked, one question after the other, until it shows the change. etcd: a put at one follower, until the
watch at the other has the event. The time runs from before the request is sent, and there is a pause after
each: a result after the other would measure how fast one client's writes can follow each other.
"""

from __future__ import annotations

import json
import time
from functools import partial

import trio

from hstore.dns.records import RRType, name_of
from tests.system.place import DNS_OFFSET

from . import client
from .plan import Plan, Rows
from .processes import Failed
from .rows import Row, Target, paired, percentile
from .systems import Hstore, System, both, http

P50, P99 = (
    f"a check's result to another member's DNS (watch event): {one}" for one in ("p50", "p99")
)
ELECTIONS = "elections, results of checks"

TARGETS = tuple(
    Target(name, f"etcd, an event of a watch: at most {most}", (name,), most=most)
    for name, most in ((P50, 1.2), (P99, 1.5))
)

_RESULTS, _QUICK = 500, 50
_SEEN_S_MAX = 5.0
_PAUSE_S = 0.01
_SERVICE = "probe"
_KEY = "bench-result"


def result(plan: Plan) -> Rows:
    """Delays of both systems, in turns."""
    count = _QUICK if plan.is_quick else _RESULTS
    with both(plan.folder, plan.etcd) as systems:
        terms = [system.term() for system in systems]
        runs = [
            [trio.run(partial(_run, system, count)) for system in systems]
            for _ in range(plan.pairs + 1)
        ]
        more = [float(one.term() - term) for one, term in zip(systems, terms, strict=True)]
    for name, percent in ((P50, 50), (P99, 99)):
        pairs = [(percentile(a, percent), percentile(b, percent)) for a, b in runs[1:]]
        yield paired(name, "ms", pairs)
    yield Row(ELECTIONS, "", (more[0],), (more[1],))


async def _run(system: System, count: int) -> list[float]:
    """Return the delays in milliseconds."""
    first, second = await trio.to_thread.run_sync(system.followers)
    measure = _ours if isinstance(system, Hstore) else _theirs
    return await measure(system, first, second, count)


async def _ours(_system: System, first: str, second: str, count: int) -> list[float]:
    check = {"CheckID": "beat", "TTL": "600s", "Status": "passing"}
    body = json.dumps({"Name": _SERVICE, "Port": 80, "Check": check}).encode()
    delays: list[float] = []
    async with client.connected(first) as connection:
        await _ask(connection, http("PUT", first, "/v1/agent/service/register", body))
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            host, _, port = second.rpartition(":")
            await sock.connect((host, int(port) + DNS_OFFSET))
            await _until_shown(sock, is_there=True)
            for number in range(count):
                is_there = bool(number % 2)
                path = f"/v1/agent/check/{'pass' if is_there else 'fail'}/beat"
                begun = time.perf_counter()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_ask, connection, http("PUT", first, path))
                    await _until_shown(sock, is_there=is_there)
                    delays.append(1000 * (time.perf_counter() - begun))
                await trio.sleep(_PAUSE_S)
    return delays


async def _until_shown(sock: trio.socket.SocketType, *, is_there: bool) -> None:
    """Ask until the service has an address, or has none."""
    question = _question(f"{_SERVICE}.service.hstore.local")
    with trio.fail_after(_SEEN_S_MAX):
        while True:
            await sock.send(question)
            answer = await sock.recv(2048)
            if (int.from_bytes(answer[6:8], "big") > 0) is is_there:
                return


def _question(name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label for label in name_of(name))
    head = b"\0\1" + b"\1\0" + b"\0\1" + bytes(6)
    return head + labels + b"\0" + int(RRType.A).to_bytes(2, "big") + b"\0\1"


async def _theirs(system: System, first: str, second: str, count: int) -> list[float]:
    seen = trio.Event()
    opened = trio.Event()
    rest = b""

    def take(status: int, data: bytes) -> None:
        nonlocal rest
        if status != 200:
            raise Failed(f"a watch is answered {status}: {data[:200]!r}")
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            changed = system.watched(line)
            if changed:
                seen.set()
            elif changed == "":
                opened.set()

    delays: list[float] = []
    async with (
        client.connected(first) as writing,
        client.connected(second) as watching,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(watching.follow, system.watch(second, _KEY), take)
        await opened.wait()
        for _ in range(count):
            seen = trio.Event()
            begun = time.perf_counter()
            async with trio.open_nursery() as asking:
                asking.start_soon(_ask, writing, system.put(first, _KEY, b"0"))
                with trio.fail_after(_SEEN_S_MAX):
                    await seen.wait()
                delays.append(1000 * (time.perf_counter() - begun))
            await trio.sleep(_PAUSE_S)
        nursery.cancel_scope.cancel()
    return delays


async def _ask(connection: client.Connection, request: bytes) -> None:
    status, body = await connection.ask(request)
    if status != 200:
        raise Failed(f"{request.split(b' HTTP')[0]!r} is answered {status}: {body[:200]!r}")
