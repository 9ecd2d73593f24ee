"""Many watches on one node, each of a prefix of its own, while writes go over all of them.

A write is begun at its time whether or not those before it are answered. The delay is that from then
until the change has come to whoever watches; the clients of all watches are one process, the same
for both systems, and what it needs itself is in the figures of both.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

import trio

from tests.system.cluster import eventually

from . import client
from .plan import Plan, Rows
from .processes import Failed, memory_mib, open_files
from .rows import Row, paired, percentile
from .systems import System, both

WRITES_PER_S = 100
_VALUE = bytes(range(256))
OPENING_AT_ONCE = 50
OPEN_S_MAX = 120.0
LATE_S_MAX = 10.0
"""How long the last changes are waited for."""
GONE_S_MAX = 60.0
FILES_LEFT = 100
_WRITERS = 16


@dataclass(slots=True)
class Seen:
    """What came of one run; `begun` by key holds the writes whose changes are still to come."""

    begun: dict[str, float] = field(default_factory=dict)
    delays_ms: list[float] = field(default_factory=list)
    opened: int = 0
    wrong: str = ""
    changed: trio.Event = field(default_factory=trio.Event)

    def change(self, key: str) -> None:
        """Take the time of a change that has come."""
        begun = self.begun.pop(key, None)
        if begun is None:
            self.wrong = f"a change of {key} that nobody waits for"
        else:
            self.delays_ms.append((time.perf_counter() - begun) * 1000)
        self.notify()

    def notify(self) -> None:
        """Have whoever waits look again."""
        self.changed.set()
        self.changed = trio.Event()


@dataclass(frozen=True, slots=True)
class Change:
    """What changes a key: a request to one node."""

    key: str
    address: str
    request: bytes


@dataclass(frozen=True, slots=True)
class _Run:
    """The figures of one run."""

    p50_ms: float
    p99_ms: float
    memory_mib: float
    growth_mib: float


def watches(plan: Plan) -> Rows:
    """Delay of changes and memory of the node, with many watches."""
    what = f"{plan.watches:,} watches of one node, {WRITES_PER_S} writes/s over all"
    with both(plan.folder, plan.etcd) as systems:
        runs: list[tuple[_Run, _Run]] = []
        for number in range(plan.pairs + 1):
            ours, theirs = (_run(system, plan, number) for system in systems)
            runs.append((ours, theirs))
        first, *pairs = runs
        yield paired(f"{what}: delay p50", "ms", [(a.p50_ms, b.p50_ms) for a, b in pairs])
        yield paired(f"{what}: delay p99", "ms", [(a.p99_ms, b.p99_ms) for a, b in pairs])
        yield paired(
            f"{what}: memory of the node", "MiB", [(a.memory_mib, b.memory_mib) for a, b in pairs]
        )
        yield Row(
            f"{what}: memory for the watches",
            "MiB",
            (first[0].growth_mib,),
            (first[1].growth_mib,),
            note="What the node grew by in the first run of all: later ones find room that is left.",
        )


def _run(system: System, plan: Plan, number: int) -> _Run:
    address = system.followers()[0]
    pid = system.pid(address)
    before, _ = memory_mib(pid)
    files = open_files(pid)
    seen = Seen()
    after = trio.run(partial(_watch_all, system, address, plan, number, seen))
    if seen.wrong:
        raise Failed(f"{system.name}: {seen.wrong}")
    if not plan.is_quick:
        # A node may notice only later that they are gone; until then it may have no room for more.
        few = files + FILES_LEFT
        eventually(lambda: open_files(pid) <= few, "the watches have ended at the node", GONE_S_MAX)
    delays = seen.delays_ms
    return _Run(percentile(delays, 50), percentile(delays, 99), after, after - before)


async def _watch_all(system: System, address: str, plan: Plan, number: int, seen: Seen) -> float:
    """Open all watches, write for the time of a run, and wait for the last change.

    Returns: the node's resident memory at the end, in MiB.
    """
    leader = await trio.to_thread.run_sync(system.leader)
    opening = trio.Semaphore(OPENING_AT_ONCE)
    async with trio.open_nursery() as nursery:
        for k in range(plan.watches):
            read = partial(watch, system, address, _prefix(k), seen)
            nursery.start_soon(follow, opening, seen, address, read)
        await wait(seen, lambda: seen.opened == plan.watches, OPEN_S_MAX, "all watches are open")
        writes = min(round(plan.watch_seconds * WRITES_PER_S), plan.watches)
        turn = [(number * writes + k) % plan.watches for k in range(writes)]
        keys = [_prefix(k) + "key" for k in turn]
        changes = [Change(key, leader, system.put(leader, key, _VALUE)) for key in keys]
        await write_all(changes, seen)
        await wait(seen, lambda: not seen.begun, LATE_S_MAX, "all changes have come")
        memory, _ = memory_mib(system.pid(address))
        nursery.cancel_scope.cancel()
    return memory


async def wait(seen: Seen, is_true: Callable[[], bool], within: float, what: str) -> None:
    """Wait for something that `Seen.notify` is called for.

    Raises:
        Failed: It did not happen within so many seconds, or something else went wrong.
    """
    with trio.move_on_after(within) as scope:
        while not is_true() and not seen.wrong:
            await seen.changed.wait()
    if seen.wrong or scope.cancelled_caught:
        raise Failed(seen.wrong or f"did not happen within {within:g} s: {what}")


def _prefix(watch: int) -> str:
    return f"watch-{watch:05d}/"


async def follow(
    opening: trio.Semaphore,
    seen: Seen,
    address: str,
    read: Callable[[client.Connection, Callable[[], None]], Awaitable[None]],
) -> None:
    """Have one client read on a connection of its own until cancelled; that it ends is wrong.

    Args:
        opening: So many clients open at a time.
        seen: What comes of it.
        address: Of the node.
        read: Reads, and calls what it is given once its answers come with changes only.
    """
    is_open = False

    def opened() -> None:
        nonlocal is_open
        if not is_open:
            is_open = True
            seen.opened += 1
            opening.release()
            seen.notify()

    await opening.acquire()
    try:
        async with client.connected(address) as connection:
            await read(connection, opened)
    except (*client.GONE, Failed) as error:
        seen.wrong = f"a client ended: {type(error).__name__}: {error}"
    else:
        seen.wrong = "a client ended"
    seen.notify()


async def watch(
    system: System,
    address: str,
    prefix: str,
    seen: Seen,
    connection: client.Connection,
    opened: Callable[[], None],
) -> None:
    """Watch a prefix: what `follow` calls."""
    rest = b""

    def take(status: int, data: bytes) -> None:
        nonlocal rest
        if status != 200:
            raise Failed(f"a watch is answered {status}: {data[:200]!r}")
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            changed = system.watched(line)
            if changed:
                seen.change(changed)
            elif changed == "":
                opened()

    await connection.follow(system.watch(address, prefix), take)


async def write_all(changes: list[Change], seen: Seen) -> None:
    """Have each of these changes made, so many a second."""
    give, take = trio.open_memory_channel[Change](len(changes))
    start = trio.current_time()
    async with trio.open_nursery() as nursery, give:
        for _ in range(_WRITERS):
            nursery.start_soon(_writer, take, seen)
        for number, change in enumerate(changes):
            await trio.sleep_until(start + number / WRITES_PER_S)
            seen.begun[change.key] = time.perf_counter()
            give.send_nowait(change)


async def _writer(changes: trio.MemoryReceiveChannel[Change], seen: Seen) -> None:
    connections: dict[str, client.Connection] = {}
    try:
        async with AsyncExitStack() as kept:
            async for change in changes:
                address = change.address
                if address not in connections:
                    opened = kept.enter_async_context(client.connected(address))
                    connections[address] = await opened
                status, body = await connections[address].ask(change.request)
                if status != 200:
                    seen.wrong = f"a write is answered {status}: {body[:200]!r}"
                    break
    except client.GONE as error:
        seen.wrong = f"a write failed: {error}"
    seen.notify()
