"""Whole nodes among faults of every kind: a sample of the seeds that were run by the hundred.

A red test prints its seed and the command that runs it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .coverage import SAMPLE, missed
from .runner import WholeFailure, run_seed
from .simulation import WholeSimulation

_ROOT = Path(__file__).resolve().parents[3]

_PRINT = """
from tests.sim.whole.runner import run_seed
print(run_seed({})[0].digest, run_seed({})[0].digest)
"""

Runs = list[tuple[WholeSimulation, WholeFailure | None]]


@pytest.fixture(scope="module")
def runs() -> Runs:
    return [run_seed(seed) for seed in SAMPLE]


def test_nothing_unsafe_happens_and_the_cluster_comes_back_to_life(runs: Runs) -> None:
    failures = [failure.report() for _, failure in runs if failure is not None]

    assert failures == []


def test_a_seed_is_the_same_run_every_time(runs: Runs) -> None:
    """Also in another process with another hash seed: nothing from outside decides anything."""
    seed, third = SAMPLE[0], SAMPLE[2]  # One with services.
    again = run_seed(seed)[0].digest
    there = subprocess.run(
        [
            sys.executable,
            "-c",
            _PRINT.format(third, seed),
        ],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=_ROOT,
        capture_output=True,
        check=True,
        text=True,
    )

    assert again == runs[0][0].digest
    assert there.stdout.split() == [str(runs[2][0].digest), str(again)]
    assert runs[2][0].digest != again


def test_what_a_run_is_for_happens_in_the_sample(runs: Runs) -> None:
    counts: Counter[str] = Counter()
    for sim, _ in runs:
        counts.update(sim.counts)

    assert missed(counts, len(runs)) == []
