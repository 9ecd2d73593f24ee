"""Clusters of cores among faults of every kind: a sample of the seeds that were run by the thousand.

A red test prints its seed and the command that runs it again; `invariants.py` says what is checked
after every event. More seeds: `.venv/bin/python -m tests.sim --seeds 0:10000`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .coverage import SAMPLE, missed
from .runner import Summary, run_seed, run_seeds

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def summary() -> Summary:
    return run_seeds(SAMPLE)


def test_nothing_unsafe_happens_and_the_cluster_comes_back_to_life(summary: Summary) -> None:
    assert not summary.failures, summary.failures[0].report()


def test_every_kind_of_fault_has_been_met(summary: Summary) -> None:
    assert missed(summary.counts, summary.seeds) == []


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Also with another hash seed: no order of a set, no hash of bytes decides anything."""
    here = run_seed(5)[0].digest
    there = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tests.sim.runner import run_seed; print(run_seed(5)[0].digest)",
        ],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=_ROOT,
        capture_output=True,
        check=True,
        text=True,
    )

    assert int(there.stdout) == here
