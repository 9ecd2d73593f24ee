"""Runs seeds of whole nodes; the same shape as `tests.sim.runner`."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterable

from .. import runner
from ..invariants import Violation
from ..runner import Failure, Summary
from .options import WholeOptions
from .simulation import MOST_STEPS, WholeSimulation

UNIT = "steps"
"""Of tasks: what takes the place of the events of cores."""


class WholeFailure(Failure):
    """A seed that does not hold."""

    def report(self) -> str:
        """Return what a person needs to see it again."""
        return (
            f"seed {self.seed} fails after {self.events} steps: {self.text}\n"
            f"{self.trace}"
            f"again: .venv/bin/python -m tests.sim.whole --seed {self.seed}"
        )


def run_seed(
    seed: int, options: WholeOptions | None = None, most_steps: int = MOST_STEPS
) -> tuple[WholeSimulation, WholeFailure | None]:
    """Run one seed, with the options it draws or with others, to its end or its first failure."""
    sim = WholeSimulation(seed, options, most_steps)
    was_enabled = gc.isenabled()
    # What is collected when would be a decision from outside: finalizers run tasks' code.
    gc.disable()
    try:
        sim.run()
    except Exception as error:  # noqa: BLE001 - whatever a node raises is what is looked for
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        cause = error.__cause__ or error
        trace = "".join(traceback.format_tb(cause.__traceback__)[-4:])
        kind = type(error).__name__
        invariant = str(error).split(":", 1)[0] if isinstance(error, Violation) else kind
        return sim, WholeFailure(seed, sim.trace.steps, invariant, f"{kind}: {error}", trace)
    finally:
        if was_enabled:
            gc.enable()
    return sim, None


def run_seeds(
    seeds: Iterable[int],
    *,
    most_failures: int = 1,
    on_failure: Callable[[Failure], None] | None = None,
) -> Summary:
    """Run seeds until some have failed; `on_failure` hears of each at once."""
    return runner.run_seeds(
        seeds, most_failures=most_failures, on_failure=on_failure, run=run_seed, unit=UNIT
    )
