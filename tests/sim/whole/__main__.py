"""`python -m tests.sim.whole --seeds 0:100`: run a range of seeds on all cores; `--seed 17`: one.

What fails is made smaller and kept in `.sim/`; `--replay FILE` runs that.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from tests.mutants.gallery import named

from ..parallel import cores, run_everywhere
from ..runner import Failure, Summary
from .coverage import missed
from .runner import UNIT, run_seed, run_seeds
from .shrink import WholeArtefact, shrink

_CHUNK = 4
"""Seeds that one process runs before the next ones are dealt out; a seed takes a second or two."""


def main() -> int:
    """Run what the command line asks for; 1 when a seed failed, or rare states were not met."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.whole", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--seeds", default="0:20", help="run FIRST:END, END excluded")
    parser.add_argument("--failures", type=int, default=1, help="go on until so many failed")
    parser.add_argument("--processes", type=int, default=cores(), help="run in so many at once")
    parser.add_argument("--mutant", default="", help="with this mistake put in")
    parser.add_argument("--replay", type=Path, help="run what a failure has left")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return _replay(arguments.replay)
    with named(arguments.mutant).applied() if arguments.mutant else nullcontext():
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    first, end = map(int, arguments.seeds.split(":"))
    if arguments.seed is not None:
        first, end = arguments.seed, arguments.seed + 1
    seeds, most = range(first, end), arguments.failures
    if arguments.mutant or arguments.processes == 1 or len(seeds) == 1:
        summary = run_seeds(seeds, most_failures=most, on_failure=_report)
    else:
        summary = run_everywhere(
            seeds, processes=arguments.processes, most_failures=most, on_failure=_report,
            run=run_seeds, chunk_size=_CHUNK, unit=UNIT,
        )  # fmt: skip
    for failure in summary.failures[:3]:
        _keep(failure.seed, arguments.mutant)
    _print(summary.report())
    if not summary.failures and summary.seeds < len(seeds):
        _print(f"interrupted: {summary.seeds} of {len(seeds)} seeds")
        return 130
    return 1 if summary.failures or _misses(summary) else 0


def _misses(summary: Summary) -> bool:
    names = missed(summary.counts, summary.seeds)
    for name in names:
        _print(f"never happened: {name}")
    return bool(names)


def _report(failure: Failure) -> None:
    _print(failure.report())


def _keep(seed: int, mutant: str) -> None:
    sim, failure = run_seed(seed)
    if failure is None:
        _print(f"seed {seed} holds when it is run again: something outside of it decides")
        return
    path = WholeArtefact.of(*shrink(failure, sim.options), mutant).save()
    _print(f"smaller: .venv/bin/python -m tests.sim.whole --replay {path}")


def _replay(path: Path) -> int:
    kept = WholeArtefact.load(path)
    with named(kept.mutant).applied() if kept.mutant else nullcontext():
        _, failure = run_seed(kept.seed, kept.whole_options())
    text = "it holds now" if failure is None else failure.report()
    _print(f"{kept.invariant} did not hold at {kept.revision}: {kept.text}\n{text}")
    return 0 if failure is None else 1


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
