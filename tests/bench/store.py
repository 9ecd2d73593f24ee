"""The same clusters at rest, and then with more and more keys: memory, processor time, a restart of
a node, a fourth node that joins, and writes all over a large store against those over a small one.

The keys are loaded once into each system; what is timed after that is done in turns.
"""

from __future__ import annotations

import shutil
import signal
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import trio

from tests.system.cluster import eventually

from . import client, wrk
from .loads import checked_run
from .plan import Plan, Rows, guarded
from .processes import Failed, cpu_seconds, memory_mib
from .rows import Row, paired
from .systems import Etcd, Hstore, System, both
from .wrk import Load

PREFIX = "bench-"
SMALL = 10_000
REST_ROUNDS = 5
_CONNECTIONS = 64
_SERVING_S_MAX = 300.0
_JOIN_S_MAX = 600.0
_PATIENCE_S = 0.25
_PAUSE_S = 0.005
_KEY = f"{PREFIX}000001"


def memory(keys: int) -> str:
    """Name the row; targets refer to it by this."""
    return f"resident memory of a node, {keys:,} keys"


def restart(keys: int) -> str:
    """Name the row; targets refer to it by this."""
    return f"restart of a follower with {keys:,} keys, until it answers a linearizable read"


def against_small(system: str, keys: int) -> str:
    """Name the row; targets refer to it by this."""
    return f"{system}: put all over {keys:,} keys, {_CONNECTIONS} connections, leader: per second"


def store(plan: Plan) -> Rows:
    """All of it, with one pair of clusters."""
    with both(plan.folder, plan.etcd) as systems:
        yield from guarded("at rest", _rest(plan, systems))
        yield from _memory(plan, systems, 0)
        have = 0
        for keys in plan.keys:
            yield _fill(systems, have, keys)
            have = keys
            yield from _memory(plan, systems, keys)
        if plan.is_quick:
            return
        _check_count(systems, have)
        yield from guarded("restart", _restarts(plan, systems, have))
        for system in systems:
            name = f"{system.name}: put all over the keys"
            yield from guarded(name, _against_small(plan, system, have))
        yield from guarded("join", _joins(plan, systems, have))


def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - not for something to happen: this time is measured


# -- at rest --------------------------------------------------------------------------------


def _rest(plan: Plan, systems: Sequence[System]) -> Rows:
    _pause(plan.settle_seconds)
    rounds = [_busy_percent(plan, systems) for _ in range(1 if plan.is_quick else REST_ROUNDS)]
    for at, who in enumerate(("the leader", "a follower")):
        pairs = [(ours[at], theirs[at]) for ours, theirs in rounds]
        note = "Both clusters rest on the machine at the same time."
        yield paired(f"processor time of {who} at rest", "% of a core", pairs, note=note)


def _busy_percent(plan: Plan, systems: Sequence[System]) -> list[tuple[float, float]]:
    """Return of each system how busy its leader was, and its followers in the mean."""
    nodes = [(s.leader(), s.followers()) for s in systems]
    pids = [
        [s.pid(address) for address in (leader, *followers)]
        for s, (leader, followers) in zip(systems, nodes, strict=True)
    ]
    begun = time.perf_counter()
    before = [[cpu_seconds(pid) for pid in some] for some in pids]
    _pause(plan.rest_seconds)
    after = [[cpu_seconds(pid) for pid in some] for some in pids]
    took = time.perf_counter() - begun
    busy = [
        [100 * (b - a) / took for a, b in zip(*one, strict=True)]
        for one in zip(before, after, strict=True)
    ]
    return [(leader, statistics.mean(followers)) for leader, *followers in busy]


# -- keys and memory ------------------------------------------------------------------------


def _fill(systems: Sequence[System], have: int, keys: int) -> Row:
    load = Load("fill", keys=keys, prefix=PREFIX)
    name = f"loading keys {have:,} to {keys:,}, 256 connections, leader: per second"
    runs = [wrk.fill(s.leader(), s.name, load, have) for s in systems]
    void = (f"{s.name}: {run.void}" for s, run in zip(systems, runs, strict=True) if run.void)
    return paired(name, "", [(runs[0].per_second, runs[1].per_second)], void=next(void, ""))


def _memory(plan: Plan, systems: Sequence[System], keys: int) -> Rows:
    _pause(plan.settle_seconds)
    found = []
    for system in systems:
        nodes = [memory_mib(system.pid(address)) for address in system.addresses]
        found.append([statistics.median(one) for one in zip(*nodes, strict=True)])
    (ours, ours_own), (theirs, theirs_own) = found
    note = "The median of three nodes: VmRSS; beside it RssAnon, without pages of mapped files."
    yield Row(memory(keys), "MiB", (ours,), (theirs,), note=note)
    yield Row(f"{memory(keys)}, not of files", "MiB", (ours_own,), (theirs_own,), note=note)


def _check_count(systems: Sequence[System], keys: int) -> None:
    """Fail when a key is missing; 10,000 at a time, which is what the keys' last digits make."""
    for system in systems:
        found = sum(system.count(f"{PREFIX}{part:02d}") for part in range(-(-keys // 10_000)))
        if found != keys:
            raise Failed(f"{system.name} has {found:,} of {keys:,} keys")


# -- a restart ------------------------------------------------------------------------------


def _restarts(plan: Plan, systems: Sequence[System], keys: int) -> Rows:
    pairs = []
    for _ in range(plan.restarts):
        ours, theirs = (_restart(system) for system in systems)
        pairs.append((ours, theirs))
    yield paired(restart(keys), "s", pairs)


def _restart(system: System) -> float:
    address = system.followers()[0]
    system.signal(address, signal.SIGTERM)
    system.wait_end(address)
    begun = time.perf_counter()
    system.start(address)
    trio.run(partial(_wait_serving, system, address))
    took = time.perf_counter() - begun
    system.wait_healthy()
    return took


async def _wait_serving(system: System, address: str) -> None:
    """Wait until a node answers a linearizable read."""
    request = system.get(address, _KEY)
    deadline = trio.current_time() + _SERVING_S_MAX
    while trio.current_time() < deadline:
        with trio.move_on_after(_PATIENCE_S):
            try:
                async with client.connected(address) as connection:
                    status, _ = await connection.ask(request)
                    if status == 200:
                        return
            except client.GONE:
                pass
            await trio.sleep(_PAUSE_S)
    raise Failed(f"{system.name} at {address} did not serve within {_SERVING_S_MAX:g} s")


# -- writes all over it ---------------------------------------------------------------------


def _against_small(plan: Plan, system: System, keys: int) -> Rows:
    """Writes all over the keys, and in turns with a second cluster of the system, a small one."""
    place = plan.folder / f"small-{system.name}"
    loads = [Load("scatter", keys=number, prefix=PREFIX) for number in (keys, SMALL)]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        ours = isinstance(system, Hstore)
        small = stack.enter_context(Hstore(place) if ours else Etcd(place, plan.etcd))
        wrk.fill(small.leader(), small.name, loads[1])
        void = ""
        pairs = []
        for number in range(plan.pairs + 1):
            rates = []
            for cluster, load in zip((system, small), loads, strict=True):
                run, why = checked_run(cluster, load, _CONNECTIONS, "leader", plan.seconds)
                rates.append(run.per_second)
                void = void or why
            if number:
                pairs.append((rates[0], rates[1]))
    row = paired(against_small(system.name, keys), "", pairs, void=void)
    yield replace(row, labels=(f"at {keys:,} keys", f"at {SMALL:,} keys"))


# -- a fourth node --------------------------------------------------------------------------


def _joins(plan: Plan, systems: Sequence[System], keys: int) -> Rows:
    pairs = []
    for _ in range(plan.joins):
        ours, theirs = (_join(system) for system in systems)
        pairs.append((ours, theirs))
    name = f"join of a fourth node with {keys:,} keys, until it votes, has caught up and answers"
    yield paired(name, "s", pairs)


def _join(system: System) -> float:
    begun = time.perf_counter()
    address = system.add_fourth()
    try:
        eventually(lambda: system.is_full_member(address), "the fourth node votes", _JOIN_S_MAX)
        trio.run(partial(_wait_serving, system, address))
        return time.perf_counter() - begun
    finally:
        system.remove_fourth()
