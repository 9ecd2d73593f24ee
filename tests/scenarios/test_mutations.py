"""A scenario file in which one compared fact is changed does not pass.

Here some changes are made of each file; all of them are too many for every run.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from .mutations import is_noticed, mutations
from .replay import replay
from .test_scenarios import OWN

PER_FILE = 12


def check(path: Path) -> None:
    text = path.read_text()
    possible = mutations(text, replay(path.name, text))
    chosen = Random(path.name).sample(possible, min(PER_FILE, len(possible)))
    missed = [m for m in chosen if not is_noticed(path.name, text, m)]

    assert missed == []


def test_a_changed_fact_fails(scenario: Path) -> None:
    check(scenario)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_a_changed_fact_of_our_own_fails(path: Path) -> None:
    assert mutations(path.read_text(), replay(path.name, path.read_text()))
    check(path)
