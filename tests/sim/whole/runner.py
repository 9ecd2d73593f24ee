"""Runs seeds of whole nodes; the same shape as `tests.sim.runner`."""

from __future__ import annotations

import gc
import traceback

from ..invariants import Violation
from ..runner import Failure
from .options import WholeOptions
from .simulation import WholeSimulation


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
    seed: int, options: WholeOptions | None = None
) -> tuple[WholeSimulation, WholeFailure | None]:
    """Run one seed, with the options it draws or with others, to its end or its first failure."""
    sim = WholeSimulation(seed, options)
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
