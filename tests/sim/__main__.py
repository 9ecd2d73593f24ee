"""`python -m tests.sim --seeds 0:1000`: run a range of seeds; `--seed 17`: one, once more."""

from __future__ import annotations

import argparse
import sys

from .runner import Failure, run_seeds


def main() -> int:
    """Run what the command line asks for; 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--seeds", default="0:100", help="run FIRST:END, END excluded")
    parser.add_argument("--failures", type=int, default=1, help="go on until so many failed")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        seeds = range(arguments.seed, arguments.seed + 1)
    else:
        first, end = arguments.seeds.split(":")
        seeds = range(int(first), int(end))
    summary = run_seeds(seeds, most_failures=arguments.failures, on_failure=_report)
    sys.stdout.write(summary.report() + "\n")
    return 1 if summary.failures else 0


def _report(failure: Failure) -> None:
    sys.stdout.write(failure.report() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
