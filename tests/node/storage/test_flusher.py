"""The thread that flushes."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from hstore.node.net.poller import Poller, can_poll
from hstore.node.storage.flusher import Flusher


async def test_each_run_waits_for_work_that_began_after_it_was_asked_for():
    runs: list[int] = []
    flusher = Flusher(lambda: runs.append(len(runs)))
    for count in range(1, 50):
        await flusher.run()
        assert len(runs) == count
    assert flusher.close(5)


async def test_what_the_work_raises_is_raised_where_it_is_waited_for():
    def fail() -> None:
        raise OSError("the disk is gone")

    flusher = Flusher(fail)
    with pytest.raises(OSError, match="the disk is gone"):
        await flusher.run()
    assert flusher.close(5)


async def test_a_panic_in_the_work_does_not_leave_anybody_waiting_for_ever():
    class Panic(BaseException):
        """As rocksdict's, which is no Exception."""

    def fail() -> None:
        raise Panic

    flusher = Flusher(fail)
    with trio.fail_after(5), pytest.raises(Panic):
        await flusher.run()
    assert flusher.close(5)


async def test_a_run_after_a_cancelled_one_does_not_take_the_old_work_for_its_own():
    """Else a write would be taken for durable that came after the flush had begun."""
    gate = threading.Semaphore(0)
    runs: list[str] = []

    def work() -> None:
        gate.acquire(timeout=10)
        runs.append("done")

    flusher = Flusher(work)
    with trio.move_on_after(0.05):
        await flusher.run()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flusher.run)
        gate.release()
        await trio.testing.wait_all_tasks_blocked(0.05)
        gate.release()
    assert runs == ["done", "done"]
    assert flusher.close(5)


def test_closing_one_that_never_ran_leaves_nothing_open():
    flusher = Flusher(lambda: None)
    assert flusher.close(5)
    assert flusher.close(5)


async def test_closing_does_not_wait_for_work_that_hangs():
    gate = threading.Semaphore(0)

    def work() -> None:
        gate.acquire(timeout=10)

    flusher = Flusher(work)
    with trio.move_on_after(0.05):
        await flusher.run()
    assert not flusher.close(0.05)
    gate.release()
    assert flusher.close(5)


@pytest.mark.skipif(not can_poll(), reason="this system has no epoll")
async def test_an_end_that_is_not_wanted_wakes_nobody_and_is_taken_later(nursery):
    done: list[BaseException | None] = []
    ended = threading.Semaphore(0)
    must_tell = False

    def then() -> bool:
        ended.release()
        return must_tell

    async def flush() -> None:
        flusher.begin(done.append, then)
        await trio.to_thread.run_sync(ended.acquire)
        while flusher.ends._finished < begun:  # Counted just after `then`.
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked(0.01)

    poller, flusher = Poller(), Flusher(lambda: None)
    flusher.attach(poller)
    nursery.start_soon(poller.run)
    begun = 1
    await flush()
    assert len(done) == 1, "it is wanted at first"
    flusher.ends.want(is_wanted=False)
    begun = 2
    await flush()
    assert len(done) == 1
    flusher.ends.take()
    assert len(done) == 2
    begun = 3
    await flush()
    flusher.ends.want(is_wanted=True)  # too late for the thread
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert len(done) == 3
    flusher.ends.want(is_wanted=False)
    must_tell, begun = True, 4
    await flush()
    assert len(done) == 4
    must_tell = False
    await flusher.run()
    nursery.cancel_scope.cancel()
    flusher.detach()
    assert flusher.close(5)


@pytest.mark.skipif(not can_poll(), reason="this system has no epoll")
async def test_a_failure_is_told_even_if_no_end_is_wanted():
    def fail() -> None:
        raise OSError("the disk is gone")

    def raise_it(error: BaseException | None) -> None:
        assert error is not None
        raise error

    poller, flusher = Poller(), Flusher(fail)
    flusher.attach(poller)
    flusher.ends.want(is_wanted=False)
    flusher.begin(raise_it)
    with trio.fail_after(5), pytest.raises(OSError, match="the disk is gone"):
        await poller.run()
    flusher.detach()
    assert flusher.close(5)
