"""A scenario file in which one compared fact is changed does not pass.

Here some changes are made of each file; all of them are too many for every run.
"""

from __future__ import annotations

import re
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


def test_a_node_that_is_added_later_does_not_say_how_others_step_down() -> None:
    (path,) = [path for path in OWN if path.name == "remove_leader.txt"]
    change = "propose-conf-change 1 v1=true\n"
    add = "log-level none\n----\nok\n\nadd-nodes 1\n----\nok\n\nlog-level debug\n----\nok\n\n"
    text = path.read_text().replace(change, add + change, 1)
    state = r"(?m)(^3: State\w+ \(.*)"
    text = re.sub(state, r"\1\n4: StateFollower (Non-Voter) Term:0 Lead:0", text)
    result = replay(path.name, text)
    kept = [m for m in mutations(text, result) if "1: StateLeader (Non" in m.after]

    assert kept
    assert result.deviations == []
    assert [m for m in kept if not is_noticed(path.name, text, m)] == []
