"""Where each mistake was found, and the search for it. What runs in other processes is here."""

from __future__ import annotations

import functools
import gc
import importlib
import time
from pathlib import Path

import msgspec
import pytest

from tests.sim import runner as cores
from tests.sim.runner import Failure

from .gallery import named
from .mutant import ROOT, Mutant, Outdated

INVARIANTS = (
    *(f"I{n}" for n in range(1, 16)),
    *(f"L{n}" for n in range(1, 7)),
    *(f"P{n}" for n in range(1, 5)),
    "C1",
    "S1",
    *(f"K{n}" for n in range(1, 6)),
    *(f"E{n}" for n in range(1, 6)),
    "W1",
    "W2",
    "W3",
    "W4",
    *(f"V{n}" for n in range(1, 15)),
)
"""What the simulators watch; each was shown to fire by a mutant, or by one of these tests."""

_TESTER = "tests/sim/test_tester.py::"
_OF_WHOLE_NODES = "tests/sim/whole/test_tester.py::"
BY_TESTS = {
    "E5": (f"{_OF_WHOLE_NODES}test_a_lock_that_is_taken_before_its_delay_is_over_is_found",),
    "I13": (f"{_TESTER}test_a_mistake_is_found_by_the_invariant_it_breaks",),
    "L3": (
        f"{_TESTER}test_a_stale_answer_is_no_linearizable_read",
        f"{_TESTER}test_an_answer_that_nobody_wrote_is_no_linearizable_read",
    ),
    "L4": (f"{_TESTER}test_a_mistake_is_found_by_the_invariant_it_breaks",),
    "L5": (f"{_TESTER}test_a_disk_with_another_state_is_found_by_its_restart",),
}

MOST_SEEDS = 5000
RECORDS = Path(__file__).with_name("found.json")


class Record(msgspec.Struct, omit_defaults=True):
    """Where a mistake was found."""

    seed: int
    events: int
    invariant: str
    text: str


def load() -> dict[str, Record]:
    """Return the records by the name of the mutant."""
    if not RECORDS.exists():
        return {}
    return msgspec.json.decode(RECORDS.read_bytes(), type=dict[str, Record])


def save(records: dict[str, Record]) -> None:
    """Write them down, in the order of names."""
    plain = msgspec.json.encode(dict(sorted(records.items())))
    RECORDS.write_bytes(msgspec.json.format(plain, indent=1) + b"\n")


def run_seed(mutant: Mutant, seed: int) -> Failure | None:
    """Run a seed of the layer that a mutant belongs to."""
    return _run(mutant.layer, seed)


@functools.cache
def _holds(layer: str, seed: int) -> bool:
    """Whether a seed holds without any mistake: asked for each mutant that it shows."""
    return _run(layer, seed) is None


def _run(layer: str, seed: int) -> Failure | None:
    if layer == "A":
        return cores.run_seed(seed)[1]
    # Whole nodes take a second to import, and most mutants do without.
    runner = importlib.import_module("tests.sim.whole.runner")
    failure: Failure | None = runner.run_seed(seed)[1]
    return failure


def check(mutant: Mutant, seed: int, *, is_known_to_hold: bool = False) -> Record | None:
    """Return what a seed shows of a mutant, if the seed holds without it.

    `is_known_to_hold`: somebody else runs the seed without the mistake, and says so.
    """
    failure = _run_with(mutant, seed)
    if failure is None or not (is_known_to_hold or _holds(mutant.layer, seed)):
        return None
    return _record(failure)


def _run_with(mutant: Mutant, seed: int) -> Failure | None:
    """Run a seed with a mistake put in; raises Outdated when that names what is not there any more."""
    with mutant.applied():
        failure = run_seed(mutant, seed)
    if failure is not None and "NameError: name" in failure.text:
        raise Outdated(f"{mutant.name}: {failure.text}")
    return failure


def _record(failure: Failure) -> Record:
    return Record(failure.seed, failure.events, failure.invariant, failure.text[:200])


def replay(name: str, seed: int) -> Record | str:
    """In a process of its own: see whether a record still holds."""
    try:
        found = check(named(name), seed)
    except Outdated as error:
        return str(error)
    return found if found is not None else f"seed {seed} does not show it any more"


def find(name: str, seeds: range) -> Record | str:
    """In a process of its own: search; seeds that fail without the mistake do not count."""
    mutant = named(name)
    gc.disable()
    begin = time.monotonic()
    try:
        for seed in seeds:
            failure = _run_with(mutant, seed)
            if failure is not None and _holds(mutant.layer, seed):
                return _record(failure)
            if seed % 20 == 0:
                gc.collect()
    except Outdated as error:
        return str(error)
    return f"not found in seeds {seeds.start}:{seeds.stop}, {time.monotonic() - begin:.0f} s"


def run_test(mutant: str, test: str) -> pytest.ExitCode:
    """Run a test with a mistake put in, in a session within this one: to import all anew takes seconds."""
    with named(mutant).applied():
        return pytest.ExitCode(pytest.main(["-p", "no:cacheprovider", str(ROOT / test)]))
