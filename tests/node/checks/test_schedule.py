"""What is due when: one heap, one task, thousands of keys."""

from __future__ import annotations

import math
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.checks.schedule import GRAIN_S, Schedule, on_grid


async def test_five_thousand_keys_are_each_called_at_their_times_and_never_twice(autojump_clock):
    rng = Random(21)
    interval = {key: rng.choice([2.5, 10.0, 60.0]) for key in range(5000)}
    called: dict[int, list[float]] = {key: [] for key in interval}

    def call(key: int) -> float:
        called[key].append(trio.current_time())
        return called[key][-1] + interval[key]

    schedule: Schedule[int] = Schedule(call)
    start = trio.current_time()
    first = {key: on_grid(start + rng.uniform(0, interval[key]), GRAIN_S) for key in interval}
    async with trio.open_nursery() as nursery:
        await nursery.start(schedule.run)
        for key, due in first.items():
            schedule.at(due, key)
        await trio.sleep(30.02)
        nursery.cancel_scope.cancel()
    for key, times in called.items():
        expected, due = [], first[key]
        while due <= start + 30.01:
            expected.append(due)
            due += interval[key]
        assert times == pytest.approx(expected)


async def test_keys_on_the_grid_share_a_wake(autojump_clock):
    wakes: set[float] = set()
    schedule: Schedule[int] = Schedule(lambda _key: wakes.add(trio.current_time()))
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(schedule.run)
        for key in range(5000):
            schedule.at(on_grid(start + 5 * key / 5000, GRAIN_S), key)
        await trio.sleep(6)
        nursery.cancel_scope.cancel()
    assert len(wakes) <= 5 / GRAIN_S + 1


async def test_other_tasks_have_their_turn_while_thousands_are_due(autojump_clock):
    called = 0
    seen: list[int] = []

    def call(_key: int) -> None:
        nonlocal called
        called += 1

    async def look() -> None:
        while called < 5000:
            seen.append(called)
            await trio.lowlevel.checkpoint()

    schedule: Schedule[int] = Schedule(call)
    for key in range(5000):
        schedule.at(0.0, key)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await nursery.start(schedule.run)
        with trio.fail_after(1):
            while called < 5000:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert len(seen) >= 5000 / 64


async def test_a_key_that_is_due_later_than_its_entry_is_looked_at_and_goes_back(autojump_clock):
    ends = trio.current_time() + 5
    looks: list[float] = []

    def call(_key: str) -> float | None:
        looks.append(trio.current_time())
        return None if trio.current_time() >= ends else ends

    schedule: Schedule[str] = Schedule(call)
    async with trio.open_nursery() as nursery:
        await nursery.start(schedule.run)
        schedule.at(trio.current_time() + 1, "a")
        schedule.at(ends, "a")
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert looks == pytest.approx([ends - 4, ends])


async def test_an_earlier_time_counts_at_once_also_while_the_task_sleeps(autojump_clock):
    called: list[float] = []
    schedule: Schedule[str] = Schedule(lambda _key: called.append(trio.current_time()))
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(schedule.run)
        schedule.at(start + 100, "a")
        await trio.sleep(1)
        schedule.at(start + 2, "a")
        await trio.sleep(200)
        nursery.cancel_scope.cancel()
    assert called == pytest.approx([start + 2])


async def test_a_key_that_is_always_due_does_not_hold_the_task(autojump_clock):
    called = 0

    def call(_key: str) -> float:
        nonlocal called
        called += 1
        return 0.0

    schedule: Schedule[str] = Schedule(call)
    async with trio.open_nursery() as nursery:
        await nursery.start(schedule.run)
        schedule.at(0.0, "a")
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert called <= 101


async def test_what_is_forgotten_is_not_called_and_may_come_back(autojump_clock):
    called: list[str] = []
    schedule: Schedule[str] = Schedule(called.append)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(schedule.run)
        schedule.at(start + 1, "a")
        schedule.at(start + 1, "b")
        schedule.forget("a")
        schedule.forget("never there")
        await trio.sleep(2)
        assert called == ["b"]
        schedule.at(start + 3, "a")
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert called == ["b", "a"]


def test_a_key_that_is_moved_forward_all_the_time_does_not_fill_the_heap():
    schedule: Schedule[int] = Schedule(lambda _key: None)
    for turn in range(100_000):
        schedule.at(1e9 - turn, 1)
    assert len(schedule) == 1
    assert len(schedule._heap) <= 1100


@given(st.floats(0, 1e7), st.sampled_from([0.005, 0.05]))
def test_the_grid_never_moves_a_time_forward_nor_by_more_than_its_grain(due, grain):
    moved = on_grid(due, grain)
    assert due <= moved <= due + grain + 1e-6
    assert math.isclose(on_grid(moved, grain), moved, abs_tol=1e-6)
