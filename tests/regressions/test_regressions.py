"""Failures that were met once, made small: each file here is one, and must stay mended.

Each names the mutant that brings its mistake back, one of the gallery or, for the bugs that were our
own, of `tests/mutants/own.py`; with it the failure must still show: so the file still leads to the
place where the mistake matters. Those of cores are tapes of decisions, made by
`python -m tests.sim --seed N`; those of whole nodes, in `whole/`, are options and a seed, made by
`python -m tests.sim.whole`. Both are looked at with `--replay FILE`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.gallery import named
from tests.sim.artefact import Artefact
from tests.sim.runner import Failure, play
from tests.sim.whole.runner import run_seed
from tests.sim.whole.shrink import WholeArtefact

_HERE = Path(__file__).parent

_MOST_STEPS = 60_000
"""More than any of them takes, and soon reached by one that never ends."""


def _play_cores(path: Path) -> tuple[Any, Callable[[], Failure | None]]:
    artefact = Artefact.load(path)
    return artefact, lambda: play(artefact)[1]


def _play_whole(path: Path) -> tuple[Any, Callable[[], Failure | None]]:
    artefact = WholeArtefact.load(path)
    options = artefact.whole_options()
    return artefact, lambda: run_seed(artefact.seed, options, _MOST_STEPS)[1]


_CASES = [
    *(pytest.param(_play_cores, path, id=path.stem) for path in sorted(_HERE.glob("*.json"))),
    *(
        pytest.param(_play_whole, path, id=f"whole/{path.stem}")
        for path in sorted(_HERE.glob("whole/*.json"))
    ),
]
_Play = Callable[[Path], tuple[Any, Callable[[], Failure | None]]]


@pytest.mark.parametrize(("play_again", "path"), _CASES)
def test_what_went_wrong_once_goes_well(play_again: _Play, path: Path) -> None:
    _, again = play_again(path)
    failure = again()

    assert failure is None, failure.report()


@pytest.mark.parametrize(("play_again", "path"), _CASES)
def test_its_mistake_still_shows(play_again: _Play, path: Path) -> None:
    artefact, again = play_again(path)

    assert artefact.about
    with named(artefact.mutant).applied():
        failure = again()
    assert failure is not None
    assert failure.invariant == artefact.invariant
