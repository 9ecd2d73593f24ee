"""`python -m tests.sim.whole --seeds 0:100`: run a range of seeds; `--seed 17`: one, once more.

What fails is made smaller and kept in `.sim/`; `--replay FILE` runs that.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from .runner import run_seed
from .shrink import WholeArtefact, shrink


def main() -> int:
    """Run what the command line asks for; 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.whole", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--seeds", default="0:20", help="run FIRST:END, END excluded")
    parser.add_argument("--failures", type=int, default=1, help="go on until so many failed")
    parser.add_argument("--replay", type=Path, help="run what a failure has left")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return _replay(arguments.replay)
    first, end = map(int, arguments.seeds.split(":"))
    if arguments.seed is not None:
        first, end = arguments.seed, arguments.seed + 1
    begin, steps, failures = time.perf_counter(), 0, 0
    counts: Counter[str] = Counter()
    for seed in range(first, end):
        sim, failure = run_seed(seed)
        steps += sim.trace.steps
        counts.update(sim.counts)
        if failure is not None:
            failures += 1
            sys.stdout.write(failure.report() + "\n")
            sys.stdout.flush()
            path = WholeArtefact.of(*shrink(failure, sim.options)).save()
            sys.stdout.write(f"smaller: .venv/bin/python -m tests.sim.whole --replay {path}\n")
            sys.stdout.flush()
            if failures >= arguments.failures:
                break
    seconds = time.perf_counter() - begin
    for name, count in sorted(counts.items()):
        sys.stdout.write(f"  {name:50} {count:9}\n")
    sys.stdout.write(
        f"{seed + 1 - first} seeds, {steps} steps, {seconds:.1f} s, {steps / seconds:.0f} steps/s, "
        f"{failures} failures\n"
    )
    return 1 if failures else 0


def _replay(path: Path) -> int:
    kept = WholeArtefact.load(path)
    _, failure = run_seed(kept.seed, kept.options)
    text = "it holds now" if failure is None else failure.report()
    sys.stdout.write(f"{kept.invariant} did not hold at {kept.revision}: {kept.text}\n{text}\n")
    return 0 if failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
