"""Drivers with a mistake put in: each is found by ordinary seeds, or the runs show nothing.

Each mistake is one that a real system had, or that the rules of the driver (D1 to D20) are there for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from hstore.node.commands import Outcome
from hstore.node.errors import StorageError
from hstore.node.raft import events as happened
from hstore.node.raft.entry import HardState
from hstore.node.replica import Replica
from hstore.node.requests import Waiting, WritesInLog

from . import shrink as shrinking
from .runner import WholeFailure, run_seed
from .shrink import WholeArtefact, shrink

Patch = pytest.MonkeyPatch


def answers_leave_before_the_flush(patch: Patch) -> None:
    async def flush_forever(self: Replica) -> None:
        while True:
            await self._to_flush.wait()
            seq, then = self._written_seq, self._then
            self._then = []
            for message in then:
                self._send(message.to, message)
            await self.flush()
            self.feed(happened.Persisted(seq))

    patch.setattr(Replica, "_flush_forever", flush_forever)


def answers_written_during_a_flush_leave_after_it(patch: Patch) -> None:
    async def flush_forever(self: Replica) -> None:
        while True:
            await self._to_flush.wait()
            await self.flush()
            seq, then = self._written_seq, self._then
            self._then = []
            for message in then:
                self._send(message.to, message)
            self.feed(happened.Persisted(seq))

    patch.setattr(Replica, "_flush_forever", flush_forever)


def a_failed_flush_counts(patch: Patch) -> None:
    async def flush(self: Replica) -> None:
        async with self._flushing:
            with contextlib.suppress(StorageError):
                await self.storage.flush()

    patch.setattr(Replica, "flush", flush)


def a_write_is_answered_when_it_is_in_the_log(patch: Patch) -> None:
    add = WritesInLog.add

    def add_and_answer(self: WritesInLog, request: Any, index: int, term: int) -> None:
        add(self, request, index, term)
        request.finish(_done(index))

    patch.setattr(WritesInLog, "add", add_and_answer)


def _done(index: int) -> Outcome:
    return Outcome(ok=True, revision=index)


def reads_are_local(patch: Patch) -> None:
    async def read_barrier(self: Replica, deadline: float) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(Replica, "read_barrier", read_barrier)


def what_was_passed_on_is_passed_on_again(patch: Patch) -> None:
    def fail_forwarded(self: Waiting, leader: int, why: str) -> None:
        for rid, request in list(self.forwarded.items()):
            if request.passed_to == leader:
                del self.forwarded[rid]
                self.queued.append(request)

    patch.setattr(Waiting, "fail_forwarded", fail_forwarded)


def deadlines_are_forgotten(patch: Patch) -> None:
    def expire(self: Waiting, now: float, *, has_leader: bool) -> None:
        pass

    patch.setattr(Waiting, "expire", expire)


def the_vote_is_not_written(patch: Patch) -> None:
    persist = Replica._persist

    def without_vote(self: Replica, what: Any) -> None:
        append = self.storage.append

        def forget(hard_state: HardState | None, *rest: Any) -> None:
            if hard_state is not None:
                hard_state = HardState(hard_state.term, 0, hard_state.commit)
            append(hard_state, *rest)

        with contextlib.ExitStack() as stack:
            self.storage.append = forget  # type: ignore[assignment,method-assign]
            stack.callback(setattr, self.storage, "append", append)
            persist(self, what)

    patch.setattr(Replica, "_persist", without_vote)


_BROKEN: list[tuple[Callable[[Patch], None], int, str]] = [
    (answers_leave_before_the_flush, 0, "D1"),
    (answers_written_during_a_flush_leave_after_it, 1, "D1"),
    (a_failed_flush_counts, 14, "D1"),
    (a_write_is_answered_when_it_is_in_the_log, 0, "I7"),
    (reads_are_local, 4, "L3"),
    (what_was_passed_on_is_passed_on_again, 15, "I7"),
    (deadlines_are_forgotten, 8, "L1"),
    (the_vote_is_not_written, 0, "D5"),
]
"""With the first seed that finds it, and what it finds; both change with what runs draw."""

_NEAR = 6


@pytest.mark.parametrize(("broken", "seed", "invariant"), _BROKEN)
def test_a_broken_driver_is_found(
    broken: Callable[[Patch], None], seed: int, invariant: str, monkeypatch: Patch
) -> None:
    broken(monkeypatch)
    found: list[WholeFailure] = []
    for near in range(seed, seed + _NEAR):
        failure = run_seed(near)[1]
        if failure is not None:
            found.append(failure)
            break

    assert [failure.invariant for failure in found] == [invariant]


def test_a_failing_run_is_made_smaller_and_fails_again_from_what_it_leaves(
    monkeypatch: Patch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shrinking, "FOLDER", tmp_path)
    a_write_is_answered_when_it_is_in_the_log(monkeypatch)
    sim, failure = run_seed(0)
    assert failure is not None

    smaller, options = shrink(failure, sim.options, most_runs=12)
    kept = WholeArtefact.load(WholeArtefact.of(smaller, options).save())

    assert options != sim.options
    again = run_seed(kept.seed, kept.options)[1]
    assert again is not None
    assert again.invariant == failure.invariant == kept.invariant
