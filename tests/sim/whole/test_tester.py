"""What a failing run of whole nodes leaves behind.

That ordinary seeds find a broken driver is shown by `tests/mutants/`.
"""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from tests.mutants.gallery import named

from . import shrink as shrinking
from .lifetimes import Lifetimes
from .options import draw, known
from .rooms import Rooms
from .runner import run_seed
from .shrink import WholeArtefact, shrink


def test_a_failing_run_is_made_smaller_and_fails_again_from_what_it_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shrinking, "FOLDER", tmp_path)
    mutant = named("driver-acknowledges-what-is-in-its-log")
    with mutant.applied():
        # Which of the first seeds shows it changes with all that a run draws.
        sim, failure = next(found for found in map(run_seed, range(20)) if found[1] is not None)
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


def test_a_run_in_which_a_thread_is_started_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as to look a name up: when it ends, the load of the machine decides."""

    async def look_up(_rooms: Rooms) -> None:
        await trio.to_thread.run_sync(socket.gethostbyname, "localhost")

    monkeypatch.setattr(Rooms, "run", look_up)

    failure = run_seed(0)[1]

    assert failure is not None
    assert "a thread was to run gethostbyname" in failure.text


@pytest.mark.parametrize(("early_s", "is_wrong"), [(0.2, True), (-0.2, False)])
async def test_a_lock_that_is_taken_before_its_delay_is_over_is_found(
    early_s: float, is_wrong: bool, autojump_clock
) -> None:
    """E5; delays that somebody waits for to their end are too rare for an ordinary seed to be sure of one."""
    key, failures = b"lock", list[str]()
    before = SimpleNamespace(keys={key: SimpleNamespace(session=b"")})
    after = SimpleNamespace(keys={key: SimpleNamespace(session=b"taker")}, changed=(key,))
    book = SimpleNamespace(pages=[before, after])
    sim: Any = SimpleNamespace(
        checker=SimpleNamespace(judge=SimpleNamespace(book=book)),
        counts=Counter[str](),
        fail=failures.append,
    )
    lifetimes = Lifetimes(sim)
    lifetimes._free_at[key] = trio.current_time() + early_s
    lifetimes._check_delays()
    assert [text[:2] for text in failures] == ["E5"] * is_wrong
    assert sim.counts["locks taken after a delay"] == 1
