"""What a failing run of whole nodes leaves behind.

That ordinary seeds find a broken driver is shown by `tests/mutants/`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.gallery import named

from . import shrink as shrinking
from .options import draw, known
from .runner import run_seed
from .shrink import WholeArtefact, shrink


def test_a_failing_run_is_made_smaller_and_fails_again_from_what_it_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shrinking, "FOLDER", tmp_path)
    mutant = named("driver-acknowledges-what-is-in-its-log")
    with mutant.applied():
        sim, failure = run_seed(2)
        assert failure is not None

        smaller, options = shrink(failure, sim.options, most_runs=12)
        kept = WholeArtefact.load(WholeArtefact.of(smaller, options, mutant.name).save())
        again = run_seed(kept.seed, kept.whole_options())[1]

    assert options != sim.options
    assert again is not None
    assert again.invariant == failure.invariant == kept.invariant


def test_what_a_run_that_was_written_down_did_not_know_has_no_part_in_it() -> None:
    seed = next(seed for seed in range(100) if draw(seed).clock_every)
    (field, *_) = [draw(seed)]
    values = {name: getattr(field, name) for name in field.__slots__ if name != "clock_every"}
    values["settings"] = {"election_timeout_ms": 999}

    options = known(seed, values)

    assert options.clock_every == 0.0
    assert options.settings.election_timeout_ms == 999
    assert options.crash_every == field.crash_every
