"""A failure is written down, made small, and says what happens in it."""

from __future__ import annotations

from pathlib import Path

from tests.mutants.gallery import named

from .artefact import Artefact
from .runner import play, record
from .shrink import Shrinker
from .trace import tracing

_MISTAKE = "leader-counts-itself-before-its-flush"


def test_a_failure_gets_small_and_stays_the_same_failure(tmp_path: Path) -> None:
    with named(_MISTAKE).applied():
        artefact = record(0, _MISTAKE)
        assert artefact is not None
        small = Shrinker(artefact, most_runs=150, most_seconds=30).run()
        again = Artefact.load(small.save(tmp_path / "small.json"))
        _, failure = play(again)

    assert small.decisions() < artefact.decisions() / 4
    assert failure is not None
    assert (failure.invariant, failure.events) == (artefact.invariant, small.events)
    assert play(again)[1] is None


def test_a_replay_says_what_happens() -> None:
    said: list[str] = []
    with named(_MISTAKE).applied():
        artefact = record(0, _MISTAKE)
        assert artefact is not None
        with tracing(said.append):
            play(artefact)
    count = len(said)
    play(artefact)

    assert len(said) == count
    assert any("candidate" in line for line in said)
    assert any("hears" in line and "Append" in line for line in said)
