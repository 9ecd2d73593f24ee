"""Runs seeds and tapes, reports what they met, and says how to meet it again."""

from __future__ import annotations

import gc
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, Self

from hstore.node.raft.errors import CoreBug

from .artefact import Artefact, describe_options, revision
from .coverage import FAULTS
from .invariants import Violation
from .options import SimOptions
from .simulation import Simulation
from .tables.nodes import small_bounds
from .tape import Tape, TooLong


@dataclass(slots=True)
class Failure:
    """A seed that does not hold.

    Attributes:
        seed: The seed.
        events: Core events until then.
        invariant: "I5", "liveness", or the kind of an exception that is not a `Violation`.
        text: What went wrong.
        trace: Where in the code.
    """

    seed: int
    events: int
    invariant: str
    text: str
    trace: str = ""

    @classmethod
    def of(cls, seed: int, events: int, error: Exception) -> Self:
        """Return what an exception means: a `Violation` names its invariant.

        Any other that a core raises, but for the one it may (`CoreBug`), is I14.
        """
        kind = type(error).__name__
        invariant = "I14" if _is_ours(error) else kind
        if isinstance(error, Violation):
            invariant = str(error).split(":", 1)[0]
        trace = "".join(traceback.format_tb(error.__traceback__)[-3:])
        return cls(seed, events, invariant, f"{kind}: {error}", trace)

    def report(self) -> str:
        """Return what a person needs to see it again."""
        return (
            f"seed {self.seed} fails after {self.events} core events: {self.text}\n"
            f"{self.trace}"
            f"again: .venv/bin/python -m tests.sim --seed {self.seed}"
        )


def _is_ours(error: Exception) -> bool:
    """Whether the product raised it, and not the simulator."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    raised_in: str = frame.f_globals["__name__"]
    return raised_in.startswith("hstore.") and not isinstance(error, CoreBug)


@dataclass(slots=True)
class Summary:
    """What some seeds have met.

    Attributes:
        events: Of the cores; of whole nodes, the steps of all tasks.
        unit: Which of these.
        seconds: Of computing, all processes together.
        elapsed: Of waiting for it.
    """

    seeds: int = 0
    events: int = 0
    unit: str = "core events"
    seconds: float = 0.0
    elapsed: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Summary) -> None:
        """Take over what others have met; their waiting overlaps with ours."""
        self.seeds += other.seeds
        self.events += other.events
        self.seconds += other.seconds
        self.counts.update(other.counts)
        self.failures.extend(other.failures)
        self.failures.sort(key=lambda failure: failure.seed)

    def headline(self) -> str:
        """Return one line."""
        rate = self.events / self.seconds if self.seconds else 0.0
        total = self.events / self.elapsed if self.elapsed else rate
        return (
            f"{self.seeds} seeds, {self.events} {self.unit}, {self.elapsed or self.seconds:.1f} s, "
            f"{rate:.0f}/s per core, {total:.0f}/s in total, {len(self.failures)} failures"
        )

    def report(self) -> str:
        """Return it as lines: what was done to the clusters, and what they did."""
        width = max(map(len, self.counts), default=0)
        done = {name: count for name, count in self.counts.items() if name.startswith(FAULTS)}
        lines = [self.headline()]
        for title, names in (("faults:", done), ("met:", set(self.counts) - set(done))):
            lines += [title, *(f"  {name:{width}} {self.counts[name]:9}" for name in sorted(names))]
        return "\n".join(lines)


def run_seed(
    seed: int, options: SimOptions | None = None, tape: Tape | None = None
) -> tuple[Simulation, Failure | None]:
    """Run one seed, or one tape, to its end or to its first failure.

    Raises:
        TooLong: The tape allows fewer events.
    """
    sim = Simulation(seed, options, tape)
    small = small_bounds(
        sim.options.deletions_max, sim.options.events_max, sim.options.services_max
    )
    try:
        with small:
            sim.run()
    except TooLong:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a core raises is what is looked for
        return sim, Failure.of(seed, sim.core_events, error)
    return sim, None


def record(seed: int, mutant: str = "") -> Artefact | None:
    """Run a seed that fails once more, and write down every decision; None if it holds."""
    tape = Tape()
    sim, failure = run_seed(seed, tape=tape)
    if failure is None:
        return None
    return Artefact(
        seed=seed,
        invariant=failure.invariant,
        text=failure.text,
        events=failure.events,
        options=describe_options(sim.options),
        draws=tape.draws,
        strikes=tape.strikes,
        mutant=mutant,
        revision=revision(),
    )


def play(artefact: Artefact, *, most_events: int = 0) -> tuple[Simulation, Failure | None]:
    """Run a tape.

    Raises:
        TooLong: It takes more than `most_events`, if that is not 0.
    """
    return run_seed(artefact.seed, artefact.sim_options(), artefact.tape(most_events=most_events))


class Run(Protocol):
    """What a run leaves: `core_events` are what `Summary.events` counts."""

    counts: Counter[str]

    @property
    def core_events(self) -> int:
        """How long it was."""
        ...


def run_seeds(
    seeds: Iterable[int],
    *,
    most_failures: int = 1,
    on_failure: Callable[[Failure], None] | None = None,
    run: Callable[[int], tuple[Run, Failure | None]] = run_seed,
    unit: str = "core events",
) -> Summary:
    """Run seeds until some have failed; `on_failure` hears of each at once."""
    summary = Summary(unit=unit)
    begin = time.perf_counter()
    was_enabled = gc.isenabled()
    # Cycles are few and die with their run; looking for them all the time costs a tenth.
    gc.disable()
    try:
        for seed in seeds:
            sim, failure = run(seed)
            summary.seeds += 1
            summary.events += sim.core_events
            summary.counts.update(sim.counts)
            if failure is not None:
                summary.failures.append(failure)
                if on_failure is not None:
                    on_failure(failure)
                if len(summary.failures) >= most_failures:
                    break
            if summary.seeds % 20 == 0:
                gc.collect()
    except KeyboardInterrupt:
        # Whoever ends a long run wants to know what it has met.
        pass
    finally:
        if was_enabled:
            gc.enable()
    summary.seconds = time.perf_counter() - begin
    return summary
