"""Failures that were met once, made small: each file here is one, and must stay mended.

Those that name a mutant were met with that mistake put in; they must still fail with it, which
shows that the tape still leads to the place where the mistake matters. Made by
`python -m tests.sim --seed N`, looked at with `--replay FILE`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.gallery import named
from tests.sim.artefact import Artefact
from tests.sim.runner import play

_FILES = sorted(Path(__file__).parent.glob("*.json"))


@pytest.mark.parametrize("path", _FILES, ids=[path.stem for path in _FILES])
def test_what_went_wrong_once_goes_well(path: Path) -> None:
    _, failure = play(Artefact.load(path))

    assert failure is None, failure.report()


@pytest.mark.parametrize("path", _FILES, ids=[path.stem for path in _FILES])
def test_its_mistake_still_shows(path: Path) -> None:
    artefact = Artefact.load(path)
    if not artefact.mutant:
        pytest.skip("it was a mistake of our own, and is mended")

    with named(artefact.mutant).applied():
        _, failure = play(artefact)

    assert failure is not None
    assert failure.invariant == artefact.invariant
