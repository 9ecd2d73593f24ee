"""Clusters of cores among faults of every kind, from seeds or from tapes.

python -m tests.sim --seeds 0:1000     run a range of seeds, on all cores
python -m tests.sim --seed 17          one, once more
python -m tests.sim --shrink FILE      make a failure smaller, for longer than was tried at once
python -m tests.sim --replay FILE      follow a tape and say what happens
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from tests.mutants.gallery import named

from .artefact import FOLDER, ROOT, Artefact
from .coverage import missed
from .parallel import cores, run_everywhere
from .runner import Failure, Summary, play, record, run_seed, run_seeds
from .shrink import Shrinker
from .trace import tracing


def main() -> int:
    """Run what the command line asks for; 1 when something failed or was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--seeds", default="0:100", help="run FIRST:END, END excluded")
    parser.add_argument("--failures", type=int, default=1, help="go on until so many failed")
    parser.add_argument("--processes", type=int, default=cores(), help="run in so many at once")
    parser.add_argument("--mutant", default="", help="with this mistake put in")
    parser.add_argument("--shrink", type=Path, metavar="FILE", help="make this failure smaller")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="say what happens in it")
    parser.add_argument("--seconds", type=float, default=60, help="how long to shrink a failure")
    parser.add_argument("--trace", action="store_true", help="with --seed: say what happens")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return _replay(arguments.replay)
    if arguments.shrink is not None:
        return _shrink(arguments.shrink, arguments.seconds)
    with named(arguments.mutant).applied() if arguments.mutant else nullcontext():
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.seed is not None:
        return _run_one(arguments.seed, arguments.seconds, arguments.mutant, arguments.trace)
    first, end = arguments.seeds.split(":")
    seeds = range(int(first), int(end))
    most = arguments.failures
    if arguments.mutant or arguments.processes == 1:
        summary = run_seeds(seeds, most_failures=most, on_failure=_report)
    else:
        summary = run_everywhere(
            seeds, processes=arguments.processes, most_failures=most, on_failure=_report
        )
    for failure in summary.failures[:3]:
        _keep(failure.seed, arguments.seconds, arguments.mutant)
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


def _run_one(seed: int, seconds: float, mutant: str, is_traced: bool) -> int:
    with tracing(_print) if is_traced else nullcontext():
        sim, failure = run_seed(seed)
    if failure is None:
        _print(Summary(1, sim.core_events, counts=sim.counts).report())
        return 0
    _report(failure)
    _keep(seed, seconds, mutant)
    return 1


def _keep(seed: int, seconds: float, mutant: str) -> None:
    """Write a failure down, then as small as it gets in so many seconds."""
    artefact = record(seed, mutant)
    if artefact is None:
        _print(f"seed {seed} holds when it is run again: something outside of it decides")
        return
    path = artefact.save(FOLDER / f"{mutant or 'seed'}-{seed}.json")
    _print(f"written: {_shown(path)}: {artefact.decisions()} decisions")
    if seconds:
        _shrink(path, seconds, is_mutated=True)


def _shrink(path: Path, seconds: float, *, is_mutated: bool = False) -> int:
    artefact = Artefact.load(path)
    mutant = artefact.mutant if not is_mutated else ""
    with named(mutant).applied() if mutant else nullcontext():
        shrinker = Shrinker(artefact, most_seconds=seconds, say=lambda text: _print(f"  {text}"))
        try:
            best = shrinker.run()
        except ValueError as error:
            _print(f"{_shown(path)}: {error}")
            return 1
    small = best.save(path.with_name(path.stem.removesuffix(".small") + ".small.json"))
    _print(
        f"shrunk from {artefact.decisions()} decisions and {artefact.events} events to "
        f"{best.decisions()} and {best.events}: {best.text}\n"
        f"what happens: .venv/bin/python -m tests.sim --replay {_shown(small)}"
    )
    return 0


def _replay(path: Path) -> int:
    artefact = Artefact.load(path)
    _print(f"{artefact.invariant} was broken: {artefact.text}")
    if artefact.mutant:
        _print(f"with the mistake {artefact.mutant!r} put in")
    with named(artefact.mutant).applied() if artefact.mutant else nullcontext(), tracing(_print):
        sim, failure = play(artefact)
    _print(f"holds, after {sim.core_events} core events" if failure is None else failure.text)
    return 1 if failure is not None else 0


def _shown(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _report(failure: Failure) -> None:
    _print(failure.report())


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
