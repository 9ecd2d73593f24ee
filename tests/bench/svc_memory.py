"""Memory of 10,000 instances with a TTL check, beside as many keys of etcd's with leases; and what is done at rest.

What the process of a member has grown by since before the first of them, of the leader and of the
follower that grew more. Then nothing is asked for a while: their TTL of 600 s is not over.
"""

from __future__ import annotations

import time

from .plan import Plan, Rows
from .processes import cpu_seconds, memory_mib
from .rows import Row, Target, paired
from .svc_register import INSTANCES, run, write_requests
from .systems import System, both

WHAT = f"{INSTANCES:,} instances with a TTL check"
MEMORY = f"memory of {WHAT}, the member that grew most"
AT_REST = f"processor time of a member at rest with {WHAT}"
ELECTIONS = f"elections, memory of {WHAT}"

TARGETS = (
    Target(f"memory of {WHAT}", "etcd, as many keys with leases: at most 0.8", (MEMORY,), most=0.8),
    Target(f"at rest with {WHAT}, each member", "below 1 % of a core", (AT_REST,), worst=0.99),
)


def memory(plan: Plan) -> Rows:
    """Memory of a new cluster of each system, which is the first that it registers."""
    grown: list[tuple[float, float]] = []
    busy: list[tuple[float, float]] = []
    elections = [0.0, 0.0]
    for _ in range(1 if plan.is_quick else _CLUSTERS):
        with both(plan.folder, plan.etcd) as systems:
            terms = [system.term() for system in systems]
            runs = [_one(system, plan) for system in systems]
            grown.append((runs[0][0], runs[1][0]))
            busy.append((runs[0][1], runs[1][1]))
            for at, system in enumerate(systems):
                elections[at] += system.term() - terms[at]
    yield paired(MEMORY, "MiB", grown)
    yield paired(AT_REST, "% of a core", busy)
    yield Row(ELECTIONS, "", (elections[0],), (elections[1],))


_CLUSTERS = 3
_SETTLE_S = 20.0
"""Until what the registrations have left to do is done: the members compare what they hold once more."""


def _one(system: System, plan: Plan) -> tuple[float, float]:
    """Return by how many MiB a member grew, and its processor time in percent of a core: the most of each."""
    pids = [system.pid(address) for address in system.addresses]
    files = write_requests(system, plan.folder)
    _pause(plan.settle_seconds)
    before = [memory_mib(pid)[0] for pid in pids]
    run(system, files)
    _pause(max(plan.settle_seconds, _SETTLE_S))
    grown = [memory_mib(pid)[0] - had for pid, had in zip(pids, before, strict=True)]
    begun, used = time.perf_counter(), [cpu_seconds(pid) for pid in pids]
    _pause(plan.rest_seconds)
    seconds = time.perf_counter() - begun
    busy = [100 * (cpu_seconds(pid) - had) / seconds for pid, had in zip(pids, used, strict=True)]
    return max(grown), max(busy)


def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - processes are looked at, and nothing is waited for
