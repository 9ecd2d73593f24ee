"""Many blocking reads on one follower, each of a key of its own, while changes go over all of them.

`svc_blocking.py` does the same with services, by what is here.

hstore is asked as Consul's clients ask: a GET with the index of the last answer, which is answered when
the key has changed, and asked anew. etcd is asked for a watch of each key by its gateway, whose one
answer has no end. The client of all of them is one process, the same for both systems, and what it
needs itself is in the delays of both. Memory and processor time are those of the follower.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import trio

from tests.system.cluster import eventually

from . import client
from .plan import Plan, Rows
from .processes import Failed, cpu_seconds, memory_mib, open_files
from .rows import Row, paired, percentile
from .systems import Hstore, System, both, http
from .watch_load import (
    FILES_LEFT,
    GONE_S_MAX,
    LATE_S_MAX,
    OPEN_S_MAX,
    OPENING_AT_ONCE,
    WRITES_PER_S,
    Change,
    Seen,
    follow,
    wait,
    watch,
    write_all,
)

_VALUE = b"0"
_WAIT = "10m"
_REST_S = 2.0
"""Between the last that begins to wait and the first change: the follower has nothing to do then."""

_INDEX = re.compile(rb'"ModifyIndex":(\d+)')


def row_name(plan_watches: int, figure: str, of: str = "") -> str:
    """Name a row; targets refer to it by this."""
    what = f"{plan_watches:,} blocking reads{of} on a follower"
    return f"{what}, {WRITES_PER_S} changes/s over all: {figure}"


P50, P99 = "delay p50", "delay p99"
MEMORY, PROCESSOR = "memory for them", "processor time of the follower"


class Subject:
    """What is waited for: a key of each reader."""

    of = ""
    """What the names of the rows say of it."""

    def key(self, number: int) -> str:
        """Name one, so that it begins no other's name: a watch of it as a prefix is one of it alone."""
        return f"blocked-{number:05d}"

    def node(self, system: System, leader: str, number: int) -> str:
        """Return the address of the node that one is made and changed at."""
        del system, number
        return leader

    def make(self, system: System, address: str, key: str) -> bytes:
        """Make a request that makes one exist, since what never did has no index of its own."""
        return system.put(address, key, _VALUE)

    def change(self, system: System, address: str, key: str) -> bytes:
        """Make a request that changes one."""
        return system.put(address, key, _VALUE)

    def path(self, key: str) -> str:
        """Return the path of hstore by which one is read."""
        return f"/v1/kv/{key}"


@dataclass(frozen=True, slots=True)
class _Run:
    """The figures of one run."""

    p50_ms: float
    p99_ms: float
    memory_mib: float
    growth_mib: float
    busy_percent: float


def blocking(plan: Plan) -> Rows:
    """Delay from a change sent to the answer of who waits for it, and what it costs the follower."""
    yield from measured(plan, Subject())


def measured(plan: Plan, subject: Subject) -> Rows:
    """Measure it with any subject."""

    def name(figure: str) -> str:
        return row_name(plan.watches, figure, subject.of)

    with both(plan.folder, plan.etcd) as systems:
        for system in systems:
            trio.run(partial(_fill, system, plan.watches, subject))
        runs: list[tuple[_Run, _Run]] = []
        for number in range(plan.pairs + 1):
            ours, theirs = (_run(system, plan, number, subject) for system in systems)
            runs.append((ours, theirs))
        first, *pairs = runs
        yield paired(name(P50), "ms", [(a.p50_ms, b.p50_ms) for a, b in pairs])
        yield paired(name(P99), "ms", [(a.p99_ms, b.p99_ms) for a, b in pairs])
        yield paired(
            name(PROCESSOR), "% of a core", [(a.busy_percent, b.busy_percent) for a, b in pairs]
        )
        yield paired(
            name("memory of the follower"), "MiB", [(a.memory_mib, b.memory_mib) for a, b in pairs]
        )
        yield Row(
            name(MEMORY),
            "MiB",
            (first[0].growth_mib,),
            (first[1].growth_mib,),
            note="What the node grew by in the first run of all: later ones find room that is left.",
        )


async def _fill(system: System, keys: int, subject: Subject) -> None:
    """Have each key exist."""
    leader = await trio.to_thread.run_sync(system.leader)
    by_node: dict[str, list[str]] = {}
    for k in range(keys):
        by_node.setdefault(subject.node(system, leader, k), []).append(subject.key(k))

    async def write(address: str, keys: Iterator[str]) -> None:
        async with client.connected(address) as connection:
            for key in keys:
                status, body = await connection.ask(subject.make(system, address, key))
                if status != 200:
                    raise Failed(f"{system.name}: a write is answered {status}: {body[:200]!r}")

    async with trio.open_nursery() as nursery:
        for address, some in by_node.items():
            left = iter(some)
            for _ in range(OPENING_AT_ONCE // len(by_node)):
                nursery.start_soon(write, address, left)


def _run(system: System, plan: Plan, number: int, subject: Subject) -> _Run:
    address = system.followers()[0]
    pid = system.pid(address)
    before, _ = memory_mib(pid)
    files = open_files(pid)
    seen = Seen()
    after, busy = trio.run(partial(_wait_all, system, address, plan, number, subject, seen))
    if seen.wrong:
        raise Failed(f"{system.name}: {seen.wrong}")
    if not plan.is_quick:
        few = files + FILES_LEFT
        eventually(lambda: open_files(pid) <= few, "the reads have ended at the node", GONE_S_MAX)
    delays = seen.delays_ms
    return _Run(percentile(delays, 50), percentile(delays, 99), after, after - before, busy)


async def _wait_all(
    system: System, address: str, plan: Plan, number: int, subject: Subject, seen: Seen
) -> tuple[float, float]:
    """Begin all reads, write for the time of a run, and wait for the last answer.

    Returns: the follower's resident memory at the end in MiB, and its processor time in percent.
    """
    leader = await trio.to_thread.run_sync(system.leader)
    pid = system.pid(address)
    opening = trio.Semaphore(OPENING_AT_ONCE)
    async with trio.open_nursery() as nursery:
        for k in range(plan.watches):
            key = subject.key(k)
            if isinstance(system, Hstore):
                read = partial(_read, address, key, subject.path(key), seen)
            else:
                read = partial(watch, system, address, key, seen)
            nursery.start_soon(follow, opening, seen, address, read)
        await wait(seen, lambda: seen.opened == plan.watches, OPEN_S_MAX, "all of them wait")
        await trio.sleep(_REST_S)
        writes = min(round(plan.watch_seconds * WRITES_PER_S), plan.watches)
        begun, used = time.perf_counter(), cpu_seconds(pid)
        turn = [(number * writes + k) % plan.watches for k in range(writes)]
        changes = []
        for k in turn:
            key, at = subject.key(k), subject.node(system, leader, k)
            changes.append(Change(key, at, subject.change(system, at, key)))
        await write_all(changes, seen)
        await wait(seen, lambda: not seen.begun, LATE_S_MAX, "all changes have been answered")
        busy = 100 * (cpu_seconds(pid) - used) / (time.perf_counter() - begun)
        memory, _ = memory_mib(pid)
        nursery.cancel_scope.cancel()
    return memory, busy


async def _read(
    address: str,
    key: str,
    path: str,
    seen: Seen,
    connection: client.Connection,
    opened: Callable[[], None],
) -> None:
    """Ask for a key again and again, each time with the index of the last answer."""
    index = b"0"
    while True:
        query = "" if index == b"0" else f"?index={index.decode()}&wait={_WAIT}"
        request = http("GET", address, path + query)
        if index != b"0":
            opened()
        status, body = await connection.ask(request)
        # That of the result is the greatest in it.
        found = max(map(int, _INDEX.findall(body)), default=0)
        if status != 200 or not found:
            raise Failed(f"a read is answered {status}: {body[:200]!r}")
        if index != b"0":
            if found == int(index):
                raise Failed(f"a read of {key} is answered with no change")
            seen.change(key)
        index = b"%d" % found
