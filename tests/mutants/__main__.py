"""The gallery of mistakes: is each of them still found?

python -m tests.mutants            run the recorded seed of each, on all cores
python -m tests.mutants --find     search seeds 0..4999 for those whose record does not hold

A mistake is found when a seed of the ordinary simulator breaks an invariant with it; the same seed
without it holds. Nothing is set up for any of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import Future, as_completed
from itertools import pairwise

from tests.sim.parallel import cores, workers

from .gallery import GALLERY
from .mutant import Mutant
from .records import BY_TESTS, INVARIANTS, MOST_SEEDS, Record, find, load, replay, save


def main() -> int:
    """Replay, and search for what is missing if asked to; 1 if anything is missing then."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--find", action="store_true", help="search for those without a record")
    parser.add_argument("--seeds", type=int, default=MOST_SEEDS, help="search so many")
    parser.add_argument("--only", default="", help="those whose name contains this")
    parser.add_argument(
        "--layer", default="AB", help="those that cores (A) or whole nodes (B) show"
    )
    parser.add_argument("--processes", type=int, default=cores(), help="run in so many at once")
    arguments = parser.parse_args()
    chosen = [
        mutant
        for mutant in GALLERY
        if arguments.only in mutant.name and mutant.layer in arguments.layer
    ]
    records, begin = load(), time.monotonic()
    with_record = {m.name: records[m.name].seed for m in chosen if m.name in records}
    results: dict[str, Record | str] = {m.name: "no record" for m in chosen}
    with workers(arguments.processes) as pool:
        replays = {pool.submit(replay, name, seed): name for name, seed in with_record.items()}
        results |= _gathered(replays)
        if arguments.find:
            records = {n: r for n, r in records.items() if n not in results}
            records |= {n: r for n, r in results.items() if isinstance(r, Record)}
            save(records)
        for seeds in _rounds(arguments.seeds) if arguments.find else ():
            missing = [name for name, result in results.items() if isinstance(result, str)]
            searches = {pool.submit(find, name, seeds): name for name in missing}
            results |= _gathered(searches, records)
    _say(_table(chosen, results, time.monotonic() - begin))
    return 0 if all(isinstance(result, Record) for result in results.values()) else 1


def _rounds(most: int) -> list[range]:
    """Return seeds in rounds: what is found soon is not kept waiting by what is not."""
    ends = [0, *(end for end in (40, 200, 1000) if end < most), most]
    return [range(*pair) for pair in pairwise(ends)]


def _gathered(
    futures: dict[Future[Record | str], str], records: dict[str, Record] | None = None
) -> dict[str, Record | str]:
    """Return results as they come; with `records`, write new ones down at once."""
    results: dict[str, Record | str] = {}
    for future in as_completed(futures):
        name = futures[future]
        result = results[name] = future.result()
        if records is not None and not (isinstance(result, str) and "not found" in result):
            shown = result if isinstance(result, str) else f"seed {result.seed}: {result.text}"
            _say(f"{name}: {shown}")
            if isinstance(result, Record):
                records[name] = result
                save(records)
    return results


def _table(chosen: list[Mutant], results: dict[str, Record | str], seconds: float) -> str:
    width = max((len(mutant.name) for mutant in chosen), default=4)
    lines = [f"{'bugs':11} {'mutant':{width}}  seed  events  invariant"]
    for mutant in sorted(chosen, key=lambda m: m.bugs):
        result = results[mutant.name]
        bugs = ", ".join(map(str, mutant.bugs))
        what = (
            f"{result.seed:4} {result.events:7}  {result.invariant}"
            if isinstance(result, Record)
            else f"NOT CAUGHT: {result}"
        )
        lines.append(f"{bugs:11} {mutant.name:{width}}  {what}")
    shown: dict[str, list[str]] = {}
    for name, result in results.items():
        if isinstance(result, Record):
            shown.setdefault(result.invariant, []).append(name)
    lines += ["", "invariant         mutants that break it first, or the tests that show it"]
    for name in [*INVARIANTS, *sorted(shown.keys() - {*INVARIANTS})]:
        by = shown.get(name, [])
        what = ", ".join(by[:3]) or "; ".join(BY_TESTS.get(name, ("NOT SHOWN",)))
        lines.append(f"{name:14} {len(by):4}  {what}")
    caught = sum(isinstance(result, Record) for result in results.values())
    lines.append(f"{caught} of {len(chosen)} caught, {seconds:.0f} s")
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
