"""Runs seeds, reports what they met, and says how to meet it again."""

from __future__ import annotations

import gc
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .simulation import Simulation


@dataclass(slots=True)
class Failure:
    """A seed that does not hold.

    Attributes:
        seed: The seed.
        events: Core events until then.
        text: What went wrong.
        trace: Where in the code.
    """

    seed: int
    events: int
    text: str
    trace: str

    def report(self) -> str:
        """Return what a person needs to see it again."""
        return (
            f"seed {self.seed} fails after {self.events} core events: {self.text}\n"
            f"{self.trace}"
            f"again: .venv/bin/python -m tests.sim --seed {self.seed}"
        )


@dataclass(slots=True)
class Summary:
    """What some seeds have met."""

    seeds: int = 0
    events: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def report(self) -> str:
        """Return it as lines."""
        rate = self.events / self.seconds if self.seconds else 0.0
        head = (
            f"{self.seeds} seeds, {self.events} core events, {self.seconds:.1f} s, "
            f"{rate:.0f} events/s, {len(self.failures)} failures"
        )
        width = max(map(len, self.counts), default=0)
        return "\n".join(
            [head, *(f"  {name:{width}} {count:9}" for name, count in sorted(self.counts.items()))]
        )


def run_seed(seed: int) -> tuple[Simulation, Failure | None]:
    """Run one seed to its end or to its first failure."""
    sim = Simulation(seed)
    try:
        sim.run()
    except Exception as error:  # noqa: BLE001 - whatever a core raises is what is looked for
        trace = "".join(traceback.format_tb(error.__traceback__)[-3:])
        return sim, Failure(seed, sim.core_events, f"{type(error).__name__}: {error}", trace)
    return sim, None


def run_seeds(
    seeds: Iterable[int],
    *,
    most_failures: int = 1,
    on_failure: Callable[[Failure], None] | None = None,
) -> Summary:
    """Run seeds until some have failed; `on_failure` hears of each at once."""
    summary = Summary()
    begin = time.perf_counter()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for seed in seeds:
            sim, failure = run_seed(seed)
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
