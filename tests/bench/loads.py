"""Rows under load: writes, reads, both, values of other sizes, and reading a whole prefix.

The systems take turns, run by run; what counts is the ratio of neighbours, because the machine's
speed drifts. A row with an error, with an answer that is not 2xx, or in which the leader changed, is
void: it measured something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import wrk
from .plan import Plan, Rows
from .processes import Failed
from .rows import Row, paired
from .systems import Etcd, Hstore, System, both, event_loop_lag_ms
from .wrk import Load, Run

MB = 1e6
RATE, P50, P99 = "per second", "p50", "p99"
ELECTIONS = "elections during the load"


def row_name(what: str, connections: int, where: str, figure: str) -> str:
    """Name a row; targets refer to it by this."""
    plural = "" if connections == 1 else "s"
    return f"{what}, {connections} connection{plural}, {where}: {figure}"


@dataclass(slots=True)
class _Outcome:
    """The runs of one row: pairs of neighbours, and why they do not count, if so."""

    pairs: list[tuple[Run, Run]]
    void: str
    lags_ms: list[float]


class Bench:
    """Runs loads on two clusters in turns, and counts elections meanwhile."""

    def __init__(
        self,
        plan: Plan,
        ours: Hstore,
        theirs: Etcd,
        *,
        seconds: float | None = None,
        after: Callable[[System], None] | None = None,
    ) -> None:
        """`seconds`: of a run, if not those of the plan. `after`: called after each run of a system."""
        self._plan = plan
        self._seconds = seconds or plan.seconds
        self._after = after
        self._systems: tuple[System, System] = (ours, theirs)
        self._first_terms = [system.term() for system in self._systems]

    def fill(self, load: Load) -> None:
        """Have all keys of a load exist."""
        for system in self._systems:
            wrk.fill(system.leader(), system.name, load)

    def measure(self, load: Load, connections: int, where: str) -> _Outcome:
        """Run one load in turns; the first pair is not among what is returned."""
        outcome = _Outcome([], "", [])
        try:
            for number in range(self._plan.pairs + 1):
                ours, theirs = (
                    self._run(system, load, connections, where, outcome) for system in self._systems
                )
                if number:
                    outcome.pairs.append((ours, theirs))
        except (AssertionError, Failed, OSError) as error:
            # The other rows of the section may still come.
            outcome.void = outcome.void or f"{type(error).__name__}: {error}"
        return outcome

    def _run(
        self, system: System, load: Load, connections: int, where: str, outcome: _Outcome
    ) -> Run:
        nodes = system.addresses if isinstance(system, Hstore) else []
        for node in nodes:
            event_loop_lag_ms(node)
        run, void = checked_run(system, load, connections, where, self._seconds)
        lags = [lag for node in nodes if (lag := event_loop_lag_ms(node)) is not None]
        outcome.lags_ms += [max(lags)] if lags else []
        outcome.void = outcome.void or void
        if self._after is not None:
            self._after(system)
        return run

    def rows(self, what: str, load: Load, connections: int, where: str = "leader") -> Iterator[Row]:
        """Give the three rows of one load."""
        outcome = self.measure(load, connections, where)
        yield from self._figures(what, outcome, connections, where)

    def rows_with_lag(self, what: str, load: Load, connections: int) -> Iterator[Row]:
        """Give them, and how long the event loop of a node of hstore ever stood still."""
        outcome = self.measure(load, connections, "leader")
        yield from self._figures(what, outcome, connections, "leader")
        yield Row(
            row_name(what, connections, "leader", "longest stall of the event loop"),
            "ms",
            tuple(outcome.lags_ms),
            labels=("hstore", ""),
            void=outcome.void,
            note="Of the three nodes the longest, one figure a run, that which warms up among them."
            if outcome.lags_ms
            else "The nodes have no route /v1/node/load.",
        )

    def _figures(self, what: str, outcome: _Outcome, connections: int, where: str) -> Iterator[Row]:
        for figure, unit, of in (
            (RATE, "", lambda run: run.per_second),
            (P50, "ms", lambda run: run.p50_ms),
            (P99, "ms", lambda run: run.p99_ms),
        ):
            name = row_name(what, connections, where, figure)
            pairs = [(of(a), of(b)) for a, b in outcome.pairs]
            yield paired(name, unit, pairs, void=outcome.void)

    def elections(self, section: str) -> Row:
        """Give how many terms each system began since the start."""
        now = [system.term() for system in self._systems]
        more = [float(b - a) for a, b in zip(self._first_terms, now, strict=True)]
        return Row(f"{ELECTIONS}, {section}", "", (more[0],), (more[1],))


def checked_run(
    system: System, load: Load, connections: int, where: str, seconds: float
) -> tuple[Run, str]:
    """Run one load at the leader or at a follower; return also why it does not count, if so."""
    leader, term = system.leader(), system.term()
    address = leader if where == "leader" else system.followers()[0]
    run = wrk.run(address, system.name, load, connections, seconds)
    if run.void:
        return run, f"{system.name}: {run.void}"
    now = system.leader(), system.term()
    if now != (leader, term):
        return run, f"{system.name}: the leader or its term {term} changed, to {now[1]}"
    return run, ""


def put(plan: Plan) -> Rows:
    """Writes at the leader and at a follower."""
    with both(plan.folder, plan.etcd) as clusters:
        bench = Bench(plan, *clusters)
        yield from bench.rows("put", Load("put"), 1)
        yield from bench.rows_with_lag("put", Load("put"), 64)
        yield from bench.rows_with_lag("put", Load("put"), 256)
        yield from bench.rows("put", Load("put"), 64, "follower")
        yield bench.elections("put")


def get(plan: Plan) -> Rows:
    """Linearizable reads at the leader and at a follower, and reads of a follower's own copy."""
    with both(plan.folder, plan.etcd) as clusters:
        bench = Bench(plan, *clusters)
        bench.fill(Load("get"))
        for connections in (1, 64, 256):
            yield from bench.rows("linearizable get", Load("get"), connections)
        yield from bench.rows("linearizable get", Load("get"), 64, "follower")
        yield from bench.rows("stale get", Load("stale"), 64, "follower")
        yield bench.elections("get")


def mixed(plan: Plan) -> Rows:
    """Nine linearizable reads to each write."""
    with both(plan.folder, plan.etcd) as clusters:
        bench = Bench(plan, *clusters)
        bench.fill(Load("mixed"))
        yield from bench.rows("mixed, 90 % get and 10 % put", Load("mixed"), 64)
        yield bench.elections("mixed")


def values(plan: Plan) -> Rows:
    """Writes of small and large values."""
    with both(plan.folder, plan.etcd) as clusters:
        bench = Bench(plan, *clusters)
        yield from bench.rows("put of 16 B", Load("put", 16, prefix="b16---"), 64)
        yield from bench.rows("put of 4 KiB", Load("put", 4096, prefix="kib4--"), 64)
        load = Load("put", 256 * 1024, keys=16, prefix="kib256")
        outcome = bench.measure(load, 16, "leader")
        rates = [(a.per_second, b.per_second) for a, b in outcome.pairs]
        yield paired(
            row_name("put of 256 KiB", 16, "leader", "MB/s"),
            "",
            [(a * load.value_bytes / MB, b * load.value_bytes / MB) for a, b in rates],
            void=outcome.void,
        )
        yield bench.elections("values")


def recurse(plan: Plan) -> Rows:
    """All of 10,000 keys with a prefix, in one answer."""
    with both(plan.folder, plan.etcd) as clusters:
        bench = Bench(plan, *clusters)
        load = Load("recurse", prefix="whole-")
        bench.fill(load)
        for system in clusters:
            found = system.count(load.prefix)
            assert found == load.keys, f"{system.name} has {found} of {load.keys} keys"
        yield from bench.rows("recurse of 10,000 keys", load, 1)
        yield bench.elections("recurse")
