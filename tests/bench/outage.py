"""How long nobody can write when the leader is lost: killed, halted, or stopped on purpose.

Clients keep writes under way at each of the two other nodes: a request that is not answered within
a quarter of a second is given up and made anew at once, by the same code for both systems. The time
is that from the signal to the first acknowledgement of a write that was begun after it. A leader
that stops cleanly may still acknowledge such writes while it hands over, so the longest time without
any acknowledgement, until the process is gone and another write was acknowledged, stands beside it.
"""

from __future__ import annotations

import enum
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import trio

from . import client
from .plan import Plan, Rows
from .processes import Failed
from .rows import Row, paired
from .systems import System, both

_WRITERS = 2
"""At each node: the answer to one is not the only look at what there is."""
_PATIENCE_S = 0.25
_PAUSE_S = 0.002
"""After an answer that refuses, or none: asking without a pause would take a core from the nodes."""
_WARM_WRITES = 10
_OUTAGE_S_MAX = 60.0
_VALUE = bytes(range(256))


class Loss(enum.Enum):
    """How the leader is lost."""

    KILL = "SIGKILL"
    HALT = "SIGSTOP"
    STOP = "clean stop"


def next_write(loss: Loss) -> str:
    """Name the row; targets refer to it by this."""
    return f"{loss.value} of the leader to the next acknowledged write"


LONGEST_GAP = "clean stop of the leader: longest time without an acknowledged write"
REFUSED = "clean stop of the leader: writes refused for certain"


@dataclass(slots=True)
class _Log:
    """What the writers of one round were told, all times of `time.perf_counter`."""

    acknowledged: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0
    changed: trio.Event = field(default_factory=trio.Event)

    def acknowledge(self, begun: float) -> None:
        self.acknowledged.append((begun, time.perf_counter()))
        self.changed.set()
        self.changed = trio.Event()

    async def wait(self, is_true: Callable[[], bool], what: str) -> None:
        with trio.move_on_after(_OUTAGE_S_MAX) as scope:
            while not is_true():
                await self.changed.wait()
        if scope.cancelled_caught:
            raise Failed(f"did not happen within {_OUTAGE_S_MAX:g} s: {what}")

    def first_begun_after(self, moment: float) -> float | None:
        return next((end for begun, end in self.acknowledged if begun >= moment), None)


Ask = Callable[[client.Connection], Awaitable[tuple[int, bytes]]]
"""Makes one write; returns status and body of its answer, or of the first that was not 200."""

Writer = Callable[[System, str, str], Ask]
"""Returns what makes the writes at the node at this address, under this name."""


@dataclass(frozen=True, slots=True)
class Outage:
    """One round: seconds to the next write, and the longest without any; refusals for certain."""

    next_write_s: float
    longest_gap_s: float
    refused: int


def outages(plan: Plan) -> Rows:
    """The leader is lost in each of three ways, the systems taking turns."""
    with both(plan.folder, plan.etcd) as systems:
        for loss in Loss:
            found: list[tuple[Outage, Outage]] = []
            for _ in range(plan.outages):
                ours, theirs = (lose_leader(system, loss) for system in systems)
                found.append((ours, theirs))
            yield paired(
                next_write(loss),
                "ms",
                [(a.next_write_s * 1000, b.next_write_s * 1000) for a, b in found],
            )
            if loss is Loss.STOP:
                yield paired(
                    LONGEST_GAP,
                    "ms",
                    [(a.longest_gap_s * 1000, b.longest_gap_s * 1000) for a, b in found],
                )
                ours_refused = float(sum(a.refused for a, _ in found))
                theirs_refused = float(sum(b.refused for _, b in found))
                yield Row(REFUSED, "", (ours_refused,), (theirs_refused,), note=_REFUSED_NOTE)


_REFUSED_NOTE = (
    "Of all stops together: 503 with the outcome `not applied` (etcd: `no leader`), at the nodes "
    "that go on."
)


def lose_leader(system: System, loss: Loss, writer: Writer | None = None) -> Outage:
    """Lose the leader once, while clients write, and have the cluster healthy again.

    Args:
        system: Whose leader.
        loss: How.
        writer: What the clients write; by default one key each.
    """
    leader = system.leader()
    try:
        outage = trio.run(partial(_lose, system, leader, loss, writer or _put))
    finally:
        if loss is Loss.HALT and not system.has_ended(leader):
            system.signal(leader, signal.SIGCONT)
    if loss is not Loss.HALT:
        system.wait_end(leader)
        system.start(leader)
    system.wait_healthy()
    return outage


async def _lose(system: System, leader: str, loss: Loss, writer: Writer) -> Outage:
    log = _Log()
    others = [address for address in system.addresses if address != leader]
    async with trio.open_nursery() as nursery:
        for address in others:
            for number in range(_WRITERS):
                ask = writer(system, address, f"outage-{number}")
                nursery.start_soon(_write, system, address, ask, log)
        goal = _WARM_WRITES * _WRITERS * len(others)
        await log.wait(lambda: len(log.acknowledged) >= goal, "writes before the signal")
        refused_before = log.refused
        begun = time.perf_counter()
        if loss is Loss.STOP:
            await system.stop(leader)
            await _wait_gone(system, leader)
        else:
            system.signal(leader, signal.SIGKILL if loss is Loss.KILL else signal.SIGSTOP)
        ready = time.perf_counter()
        await log.wait(lambda: log.first_begun_after(ready) is not None, "a write after the signal")
        nursery.cancel_scope.cancel()
    first = log.first_begun_after(begun)
    assert first is not None
    ends = [begun, *(end for _, end in log.acknowledged if end > begun)]
    gaps = [b - a for a, b in pairwise(ends)]
    return Outage(first - begun, max(gaps), log.refused - refused_before)


async def _wait_gone(system: System, address: str) -> None:
    with trio.move_on_after(_OUTAGE_S_MAX) as scope:
        while not system.has_ended(address):  # noqa: ASYNC110 - a process that ends sets no event
            await trio.sleep(_PAUSE_S)
    if scope.cancelled_caught:
        raise Failed(f"{system.name} at {address} does not end")


async def _write(system: System, address: str, ask: Ask, log: _Log) -> None:
    """Write to one node until cancelled, with a new connection after each that failed."""
    while True:
        with trio.move_on_after(_PATIENCE_S) as scope:
            try:
                async with client.connected(address) as connection:
                    while True:
                        scope.deadline = trio.current_time() + _PATIENCE_S
                        begun = time.perf_counter()
                        status, body = await ask(connection)
                        if status == 200:
                            log.acknowledge(begun)
                            continue
                        log.refused += system.is_refusal(status, body)
                        await trio.sleep(_PAUSE_S)
            except client.GONE:
                await trio.sleep(_PAUSE_S)


def _put(system: System, address: str, name: str) -> Ask:
    request = system.put(address, name, _VALUE)
    return lambda connection: connection.ask(request)
