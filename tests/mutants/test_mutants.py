"""The gallery as far as a test run has time for it; `make mutants` runs all of it."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from hstore.node.raft import log, quorum
from tests.sim import coverage as of_cores
from tests.sim.runner import run_seed
from tests.sim.whole import coverage as of_whole_nodes

from .gallery import GALLERY, named
from .mutant import ROOT, Mutant, Outdated
from .own import BY_TEST, RARE
from .records import BY_TESTS, INVARIANTS, Record, check, find, load, run_test

_RECORDS = load()

_SAMPLES = {"A": of_cores.SAMPLE, "B": of_whole_nodes.SAMPLE}


def _is_in_sample(name: str) -> bool:
    """Whether this test run sees, elsewhere, that the seed of its record holds without it."""
    return _RECORDS[name].seed in _SAMPLES[named(name).layer]


_CHEAP = {
    f"{named(name).layer} {_RECORDS[name].invariant}": name
    for name in sorted(_RECORDS, key=lambda name: (_is_in_sample(name), -_RECORDS[name].events))
    if _RECORDS[name].events < 20_000
}
"""In each layer, of each invariant that was ever broken, the mutant that shows it soonest.

One whose seed is run anyhow goes before the others: a run of whole nodes without the mistake, to its
end, takes longer than that with it. `make mutants` runs all of them, and each seed without, too.
"""


def test_every_mistake_can_still_be_put_in() -> None:
    for mutant in (*GALLERY, *RARE, *(mutant for mutant, _ in BY_TEST)):
        with mutant.applied():
            pass


def test_names_are_unique_and_records_are_of_the_gallery() -> None:
    names = Counter(mutant.name for mutant in GALLERY)

    assert max(names.values()) == 1
    assert set(_RECORDS) <= set(names)


def test_every_invariant_was_shown_to_fire() -> None:
    shown = {record.invariant for record in _RECORDS.values()}

    assert [name for name in INVARIANTS if name not in shown and name not in BY_TESTS] == []
    for test in [test for tests in BY_TESTS.values() for test in tests]:
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / file).read_text()


def test_what_no_seed_is_asked_to_find_has_a_regression() -> None:
    kept = ROOT.glob("tests/regressions/**/*.json")
    names = {msgspec.json.decode(path.read_bytes())["mutant"] for path in kept}

    assert {mutant.name for mutant in RARE} <= names


@pytest.mark.parametrize(("mutant", "test"), BY_TEST, ids=[mutant.name for mutant, _ in BY_TEST])
def test_what_no_seed_can_find_is_found_by_its_test(mutant: Mutant, test: str) -> None:
    """Without the mistake the same test passes in this run."""
    assert run_test(mutant.name, test) == pytest.ExitCode.TESTS_FAILED


def test_at_least_forty_are_known_to_be_found() -> None:
    assert len(_RECORDS) >= 40


@pytest.mark.parametrize("name", _CHEAP.values(), ids=_CHEAP)
def test_each_invariant_finds_a_mistake(name: str) -> None:
    """Mostly where it was found; a simulator that has changed since may need another seed."""
    mutant, seed = named(name), _RECORDS[name].seed
    found = check(mutant, seed, is_known_to_hold=_is_in_sample(name)) or find(name, range(25))

    assert isinstance(found, Record)


def test_a_mistake_is_there_only_as_long_as_it_is_wanted() -> None:
    mutant = named("even-quorums-are-a-half")

    with mutant.applied():
        assert quorum.majority_committed((1, 2), lambda node: node) == 2
    assert quorum.majority_committed((1, 2), lambda node: node) == 1


def test_a_mistake_whose_code_is_gone_is_refused() -> None:
    gone = Mutant("gone", (), "", (("node/raft/log.py", "no such line", "nor this"),))
    twice = Mutant("twice", (), "", (("node/raft/log.py", "self.", "self._"),))
    nothing = Mutant("nothing", (), "", (("node/raft/log.py", '"""The log of', '"""A log of'),))

    for mutant in (gone, twice, nothing):
        with pytest.raises(Outdated), mutant.applied():
            pass
    assert run_seed(1)[1] is None
    assert log.RaftLog.truncate.__code__.co_name == "truncate"


def test_a_mistake_that_names_what_is_not_there_is_not_taken_for_found() -> None:
    before = "if kind in _OF_LEADERS:\n        core.send_durably("
    wrong = Mutant(
        "wrong", (), "", (("node/raft/terms.py", before, before.replace("_OF_LEADERS", "_GONE")),)
    )

    with pytest.raises(Outdated, match="_GONE"):
        check(wrong, 0)
