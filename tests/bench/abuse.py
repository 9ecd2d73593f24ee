"""What a quiet client of the leader notices while others ask for more than their share.

The quiet client asks `/v1/health`, on a connection of its own each time, and DNS by UDP for the
leader, every 10 ms whether or not the answers before have come. An ask that is refused, that fails,
or that has no answer after 5 s counts as one that took 5 s. The attack is another program, with less
right to the processor than the nodes; each attack has a cluster of its own. With `--other` a second
checkout is attacked in turns with this one, and ordinary loads of both are compared.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import trio

from hstore.dns.client import NoAnswer, exchange
from hstore.dns.records import Rcode, RRType, name_of
from tests.system.cluster import request
from tests.system.place import DNS_OFFSET

from . import client, wrk
from .attacks import ATTACKS, BIG, BIG_VALUE
from .plan import Plan, Rows
from .processes import Failed, cpu_seconds, end, forget_peak, peak_mib, spawn
from .rows import Row, percentile
from .systems import Hstore, http
from .wrk import Load

TOOLS = ("wrk",)
"""What must be installed for this section."""

HEALTH_P99, DNS_P99 = "p99 of health", "p99 of DNS"
WORST = "worst of both"
TURN = "longest turn"
ELECTIONS = "elections"
MEMORY = "peak memory"
UNSERVED = "longest time without an answer"
_UNITS = {
    HEALTH_P99: "ms", DNS_P99: "ms", WORST: "ms", TURN: "ms", ELECTIONS: "", MEMORY: "MiB",
    UNSERVED: "s",
}  # fmt: skip

_PACE_S = 0.01
_PATIENCE_S = 5.0
_BEFORE_S = 1.0
_AFTER_S = 2.0
"""How long the quiet client goes on after the attack."""
_LEADER = name_of("leader.hstore.local")
_CONNECTIONS = 64
_LAG_S_MAX = 60
_ATTACK_S_MAX = 180.0
_LESS = 10
"""How much nicer an attack is than the nodes: it comes from machines of its own."""


def row_name(attack: str, figure: str) -> str:
    """Name a row; targets refer to it by this."""
    return f"{attack}: {figure}"


def ordinary(operation: str) -> str:
    """Name the row of an ordinary load, beside that of another checkout."""
    return f"{operation}, {_CONNECTIONS} connections, beside another checkout"


def by_processor_time(operation: str) -> str:
    """Name the row beside that: it says more on a machine that is busy with other things."""
    return f"{ordinary(operation)}, of the leader's processor time"


def _of_all(*figures: str) -> tuple[str, ...]:
    return tuple(row_name(attack, figure) for attack in ATTACKS for figure in figures)


BOUNDS = (
    ("p99 of a quiet client", "ms", 250.0, _of_all(HEALTH_P99, DNS_P99)),
    ("longest turn of the loop", "ms", 100.0, _of_all(TURN)),
    ("elections", "", 0.0, _of_all(ELECTIONS)),
    ("peak memory of the node", "MiB", 512.0, _of_all(MEMORY)),
)
"""The targets: what is bounded, its unit, the bound, and the rows."""


@dataclass(slots=True)
class _Quiet:
    """What the quiet client saw: milliseconds of each ask, and when it was told that all is well."""

    began_at: float
    health_ms: list[float] = field(default_factory=list)
    dns_ms: list[float] = field(default_factory=list)
    healthy_at: list[float] = field(default_factory=list)


def abuse(plan: Plan) -> Rows:
    """Each attack against a cluster of this checkout, and of the other if there is one."""
    checkouts = [None] if plan.other is None else [None, plan.other]
    labels = ("hstore", "" if plan.other is None else plan.other.name)
    for attack in ATTACKS:
        found: list[list[dict[str, float]]] = [[] for _ in checkouts]
        void = ""
        for _ in range(plan.abuses):
            for checkout, figures in zip(checkouts, found, strict=True):
                try:
                    figures.append(_attacked(plan, attack, checkout))
                except (AssertionError, Failed, OSError, trio.TooSlowError) as error:
                    void = f"{type(error).__name__}: {error}"
        for figure, unit in _UNITS.items():
            ours, *theirs = (tuple(one[figure] for one in figures) for figures in found)
            both = (ours, theirs[0] if theirs else ())
            if void:
                both = (), ()
            yield Row(row_name(attack, figure), unit, *both, labels, void)
    if plan.other is not None:
        yield from _ordinary(plan, plan.other, labels)


def _ordinary(plan: Plan, other: Path, labels: tuple[str, str]) -> Rows:
    """Put and get at the leaders of both, which of them is first by turns."""
    with ExitStack() as stack:
        clusters = [stack.enter_context(_cluster(plan, one)) for one in (None, other)]
        for operation in ("put", "get"):
            load = Load(operation)
            for cluster in clusters:
                wrk.fill(cluster.leader(), "hstore", load)
            pairs: list[tuple[_Run, _Run]] = []
            for number in range(plan.pairs + 1):
                order = clusters if number % 2 else clusters[::-1]
                runs = {cluster: _run(cluster, load, plan.seconds) for cluster in order}
                pairs.append((runs[clusters[0]], runs[clusters[1]]))
            void = next((run.void for pair in pairs for run in pair if run.void), "")
            ours, theirs = zip(*pairs[1:], strict=True)
            for name, of in (
                (ordinary(operation), lambda run: run.per_second),
                (by_processor_time(operation), lambda run: run.per_busy_second),
            ):
                figures = tuple(map(of, ours)), tuple(map(of, theirs))
                yield Row(name, "per second", *figures, labels, void)


@dataclass(frozen=True, slots=True)
class _Run:
    """Answers per second, and per second of the leader's processor time; why they do not count."""

    per_second: float
    per_busy_second: float
    void: str


def _run(cluster: Hstore, load: Load, seconds: float) -> _Run:
    leader = cluster.leader()
    pid = cluster.pid(leader)
    before = cpu_seconds(pid)
    run = wrk.run(leader, "hstore", load, _CONNECTIONS, seconds)
    return _Run(run.per_second, run.requests / (cpu_seconds(pid) - before), run.void)


@contextmanager
def _cluster(plan: Plan, checkout: Path | None) -> Iterator[Hstore]:
    place = plan.folder / f"abuse-{time.monotonic_ns()}"
    try:
        with Hstore(place, checkout) as cluster:
            yield cluster
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _attacked(plan: Plan, attack: str, checkout: Path | None) -> dict[str, float]:
    """Attack the leader of a new cluster; return the figures."""
    with _cluster(plan, checkout) as cluster:
        address = cluster.leader()
        assert request(address, "PUT", f"/v1/kv/{BIG}", BIG_VALUE).status == 200
        pid, term = cluster.pid(address), cluster.term()
        quiet = trio.run(partial(_watch_attack, plan, attack, address, pid))
        ended_at = time.monotonic()
        # After some attacks a node needs a while until it answers at all.
        cluster.wait_healthy()
        seconds = min(math.ceil(time.monotonic() - quiet.began_at), _LAG_S_MAX)
        lag = request(address, "GET", f"/v1/node/load?seconds={seconds}").json()
        served = [quiet.began_at, *sorted(quiet.healthy_at), ended_at]
        return {
            HEALTH_P99: percentile(quiet.health_ms, 99),
            DNS_P99: percentile(quiet.dns_ms, 99),
            WORST: max(quiet.health_ms + quiet.dns_ms),
            TURN: float(lag["event_loop_lag_ms"]),
            ELECTIONS: float(cluster.term() - term),
            MEMORY: peak_mib(pid),
            UNSERVED: max(b - a for a, b in pairwise(served)),
        }


async def _watch_attack(plan: Plan, attack: str, address: str, pid: int) -> _Quiet:
    """Run an attack to its end, with the quiet client beside it."""
    await trio.sleep(_BEFORE_S)
    forget_peak(pid)
    quiet = _Quiet(time.monotonic())
    command = [sys.executable, "-m", "tests.bench.attacks", attack, address]
    log = plan.folder / "attack.log"
    asking = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ask_all, quiet, address, asking)
        process = spawn(["nice", f"-n{_LESS}", *command, f"{plan.hold_seconds:g}"], log)
        try:
            with trio.fail_after(_ATTACK_S_MAX):
                await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        finally:
            end(process)
        if process.returncode:
            raise Failed(f"the attack failed: {log.read_text()[-300:]}")
        await trio.sleep(_AFTER_S)
        asking.cancel()
    return quiet


async def _ask_all(quiet: _Quiet, address: str, asking: trio.CancelScope) -> None:
    """Begin two asks every 10 ms until cancelled; those that have begun are finished."""
    host, _, port = address.rpartition(":")
    dns = (host, int(port) + DNS_OFFSET)
    async with trio.open_nursery() as nursery:
        began_at = trio.current_time()
        with asking:
            for number in range(sys.maxsize):
                await trio.sleep_until(began_at + number * _PACE_S)
                is_healthy = partial(_is_healthy, address, quiet)
                nursery.start_soon(_timed, is_healthy, quiet.health_ms)
                nursery.start_soon(_timed, partial(_is_named, dns), quiet.dns_ms)


async def _timed(one: Callable[[], Awaitable[bool]], into: list[float]) -> None:
    began_at = time.monotonic()
    is_good = False
    with trio.move_on_after(_PATIENCE_S), suppress(NoAnswer, *client.GONE):
        is_good = await one()
    into.append((time.monotonic() - began_at if is_good else _PATIENCE_S) * 1000)


async def _is_healthy(address: str, quiet: _Quiet) -> bool:
    async with client.connected(address) as connection:
        status, _ = await connection.ask(http("GET", address, "/v1/health"))
    if status == 200:
        quiet.healthy_at.append(time.monotonic())
    return status == 200


async def _is_named(dns: tuple[str, int]) -> bool:
    reply = await exchange(dns, _LEADER, RRType.A)
    return reply.rcode == Rcode.NOERROR
