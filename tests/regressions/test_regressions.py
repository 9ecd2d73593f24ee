"""Failures that were met once, made small: each file here is one, and must stay mended.

Each names the mutant that brings its mistake back, one of the gallery or, for the bugs that were our
own, of `tests/mutants/own.py`; with it the failure must still show.

Those of cores are tapes of decisions, made by `python -m tests.sim --seed N`: they lead to the place
where the mistake matters for as long as the core decides as it did. Those of whole nodes, in
`whole/`, are options and a seed, made by `python -m tests.sim.whole`: any change of a node gives the
seed another run. So each of them names the test that was made of it, and that one is asked. Both are
looked at with `--replay FILE`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.gallery import named
from tests.mutants.records import run_test
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


_CORES = sorted(_HERE.glob("*.json"))
_WHOLE = sorted(_HERE.glob("whole/*.json"))
_CASES = [
    *(pytest.param(_play_cores, path, id=path.stem) for path in _CORES),
    *(pytest.param(_play_whole, path, id=f"whole/{path.stem}") for path in _WHOLE),
]
_Play = Callable[[Path], tuple[Any, Callable[[], Failure | None]]]


@pytest.mark.parametrize(("play_again", "path"), _CASES)
def test_what_went_wrong_once_goes_well(play_again: _Play, path: Path) -> None:
    _, again = play_again(path)
    failure = again()

    assert failure is None, failure.report()


@pytest.mark.parametrize("path", _CORES, ids=lambda path: path.stem)
def test_its_mistake_still_shows(path: Path) -> None:
    artefact, again = _play_cores(path)

    assert artefact.about
    with named(artefact.mutant).applied():
        failure = again()
    assert failure is not None
    assert failure.invariant == artefact.invariant


@pytest.mark.parametrize("path", _WHOLE, ids=lambda path: path.stem)
def test_its_mistake_makes_the_test_fail_that_was_made_of_it(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the mistake the same test passes in this run."""
    artefact = WholeArtefact.load(path)

    assert artefact.about
    assert run_test(artefact.mutant, artefact.test) == pytest.ExitCode.TESTS_FAILED
    assert " passed" not in capsys.readouterr().out.splitlines()[-1]
