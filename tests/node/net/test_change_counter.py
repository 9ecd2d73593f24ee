"""One counter, many tasks that wait for a change they have not seen."""

from __future__ import annotations

import trio
import trio.testing

from hstore.node.net.change_counter import ChangeCounter


async def test_every_task_that_waits_wakes_up_for_one_change(nursery) -> None:
    counter, seen = ChangeCounter(), []

    async def wait() -> None:
        seen.append(await counter.wait(0))

    for _ in range(3):
        nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert seen == []
    counter.add()
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [1, 1, 1]


async def test_a_change_between_the_look_and_the_wait_is_not_missed(autojump_clock) -> None:
    counter = ChangeCounter()
    seen = counter.count
    counter.add()
    counter.add()
    with trio.fail_after(1):
        assert await counter.wait(seen) == 2


async def test_a_wait_for_a_change_that_has_been_lets_others_run(nursery) -> None:
    counter, ran = ChangeCounter(), []
    nursery.start_soon(trio.lowlevel.checkpoint)

    async def other() -> None:
        ran.append(True)

    nursery.start_soon(other)
    with trio.testing.assert_checkpoints():
        await counter.wait(-1)
    await trio.testing.wait_all_tasks_blocked()
    assert ran == [True]


async def test_a_cancelled_wait_loses_no_change(autojump_clock) -> None:
    counter = ChangeCounter()
    with trio.move_on_after(1) as scope:
        await counter.wait(0)
    assert scope.cancelled_caught
    counter.add()
    with trio.fail_after(1):
        assert await counter.wait(0) == 1
