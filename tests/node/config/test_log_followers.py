"""Who follows the log: from which level on, and what a slow reader loses."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator

import pytest
import structlog
import trio

from hstore.node.config import log_followers, logs
from hstore.node.config.log_followers import Follower


@pytest.fixture(autouse=True)
def written() -> Iterator[io.StringIO]:
    """What this process writes to standard error, from the level `warning` on."""
    before, stream = structlog.get_config(), io.StringIO()
    logs.configure("warning", "journal")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(stream))
    yield stream
    structlog.configure(**before)
    left, logs._log.followers = logs.followers(), ()
    assert left == 0


async def events(follower: Follower) -> list[str]:
    lines, dropped = await follower.take(1 << 20)
    assert dropped == 0
    return [json.loads(line)["event"] for line in lines]


async def test_a_follower_gets_what_standard_error_does_not(written) -> None:
    follower, other = Follower("debug", "json"), Follower("error", "text")
    logs.follow(follower)
    logs.follow(other)
    log = structlog.get_logger()
    log.debug("one")
    log.error("two")
    assert await events(follower) == ["one", "two"]
    lines, _ = await other.take(1 << 20)
    assert [line.partition(b"event=")[2] for line in lines] == [b"two\n"]
    logs.unfollow(follower)
    logs.unfollow(other)
    log.error("three")
    with trio.move_on_after(0) as waiting:
        await follower.take(1)
    assert waiting.cancelled_caught
    assert written.getvalue().splitlines() == [
        "<3>level=error event=two", "<3>level=error event=three",
    ]  # fmt: skip


async def test_what_nobody_gets_is_not_even_made() -> None:
    log = structlog.get_logger()
    follower = Follower("info", "json")
    logs.follow(follower)
    assert log.bind().is_enabled_for(20)
    assert not log.bind().is_enabled_for(10)
    logs.unfollow(follower)
    assert not log.bind().is_enabled_for(20)


async def test_a_reader_that_waits_is_woken_by_a_line_of_any_thread() -> None:
    follower = Follower("info", "text")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, follower.put, "of a thread")
        assert await follower.take(100) == ([b"of a thread\n"], 0)
    thread = threading.Thread(target=follower.put, args=["of another"])  # noqa: TID251
    thread.start()
    assert await follower.take(100) == ([b"of another\n"], 0)
    thread.join()


@pytest.mark.parametrize("size", [1, 10_000], ids=["lines", "bytes"])
async def test_a_slow_reader_loses_lines_and_is_told_how_many_in_their_place(size) -> None:
    follower = Follower("info", "text")
    most = min(log_followers.LINES_MAX, log_followers.BYTES_MAX // (size + 1))
    for _ in range(most + 7):
        follower.put("x" * size)
    first, dropped = await follower.take(2 * (size + 1))
    assert (len(first), dropped) == (2, 0)
    follower.put("short")  # There is room, but it would stand before those that are lost.
    taken = 0
    while not dropped:
        lines, dropped = await follower.take(64 << 10)
        taken += len(lines)
    assert (taken, dropped) == (most - 2, 8)
    follower.put("later")
    assert await follower.take(100) == ([b"later\n"], 0)


async def test_a_line_is_cut_off_where_it_is_too_long_to_be_kept() -> None:
    follower = Follower("info", "text")
    follower.put("x" * (2 * log_followers.LINE_BYTES_MAX))
    (line,), _ = await follower.take(1)
    assert len(line) == log_followers.LINE_BYTES_MAX + 1
