"""The statistics of whole nodes: kept over a restart, and asked for by other members."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog.testing
import trio

from hstore.node.errors import Overloaded
from hstore.node.measure.histogram import Histogram
from hstore.node.metrics.figures import Totals
from hstore.node.metrics.statistics import asked, saved
from hstore.node.metrics.statistics.history import FILE, History
from hstore.node.model.statistics import SERIES, SPANS, Points, Question, numbers_of
from hstore.node.peers import wire
from tests.node.memory_cluster import running

KEYS = Question(("keys",), 1)


@pytest.fixture(autouse=True)
def _threads_that_take_no_time(monkeypatch):
    """Virtual time would run out while a thread works."""

    async def run_sync(function, *args, **_options):
        await trio.lowlevel.checkpoint_if_cancelled()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


class NoPeers:
    """Links that lose everything, and remember it."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, wire.Frame]] = []
        self.is_connected = True

    def new_id(self) -> int:
        return 100 + len(self.sent)

    def send(self, peer: int, frame: wire.Frame) -> bool:
        self.sent.append((peer, frame))
        return self.is_connected


def totals() -> Totals:
    none = Histogram().read()
    return Totals(0, 0, 0, none, none, none, none, 1, 2, 3, int(trio.current_time()))


def new_history(peers: NoPeers | None = None, node: int = 1) -> History:
    return History(node, peers or NoPeers(), totals, wall=lambda: 1e6 + trio.current_time())


async def known(of: History) -> int:
    """Return how many points of the finest ring are known."""
    found = (await of.gather([1], KEYS))[1]
    return sum(one == one for one in numbers_of(found.series["keys"]))


async def run_for(seconds: float, of: History, directory: Path | None) -> None:
    with trio.move_on_after(seconds):
        await of.run(directory)


async def test_a_restart_keeps_what_was_there_and_leaves_a_gap(autojump_clock, tmp_path):
    await run_for(20.5, new_history(), tmp_path)
    await trio.sleep(30)
    after = new_history()
    await run_for(10.5, after, tmp_path)
    found = (await after.gather([1], KEYS))[1]
    numbers = list(numbers_of(found.series["keys"]))
    assert len(numbers) > 55
    assert 28 <= await known(after) <= 31
    assert numbers[25] != numbers[25]


async def test_it_is_saved_every_five_minutes(autojump_clock, tmp_path):
    before = new_history()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(before.run, tmp_path)
        await trio.sleep(301)
        copy = (tmp_path / FILE).read_bytes()  # as a crash would find it
        nursery.cancel_scope.cancel()
    (tmp_path / FILE).write_bytes(copy)
    after = new_history()
    with trio.move_on_after(0.1):
        await after.run(tmp_path)
    assert await known(after) > 290


async def test_a_damaged_file_is_put_aside_and_the_node_runs(autojump_clock, tmp_path):
    (tmp_path / FILE).write_bytes(b"hstore statistics 1\nnothing that anybody wrote")
    with structlog.testing.capture_logs() as lines:
        after = new_history()
        await run_for(5, after, tmp_path)
    assert [line["log_level"] for line in lines] == ["warning"]
    assert await known(after) > 2


async def test_the_file_of_another_node_is_put_aside(autojump_clock, tmp_path):
    await run_for(5, new_history(node=2), tmp_path)
    with structlog.testing.capture_logs() as lines:
        after = new_history(node=1)
        await run_for(0.1, after, tmp_path)
    assert "of node" in lines[0]["why"]
    assert await known(after) == 0


async def test_a_disk_that_refuses_is_warned_of_once_and_the_node_runs(
    autojump_clock, tmp_path, monkeypatch
):
    def refuse(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saved, "write", refuse)
    with structlog.testing.capture_logs() as lines:
        after = new_history()
        await run_for(2 * saved.SAVE_S + 10, after, tmp_path)
    assert [line["log_level"] for line in lines] == ["warning"]
    assert await known(after) == SPANS[0].points


async def test_a_member_without_a_link_is_not_waited_for(autojump_clock):
    peers = NoPeers()
    peers.is_connected = False
    before = trio.current_time()
    assert set(await new_history(peers).gather([1, 2, 3], KEYS)) == {1}
    assert trio.current_time() == before


async def test_a_member_that_is_silent_is_waited_for_for_two_seconds(autojump_clock):
    before = trio.current_time()
    assert set(await new_history().gather([1, 2, 3], KEYS)) == {1}
    assert trio.current_time() - before == pytest.approx(asked.ANSWER_S)


async def test_a_member_that_stays_silent_does_not_delay_each_answer(autojump_clock):
    peers = NoPeers()
    of = new_history(peers)

    def reply(number: int, peer: int) -> None:
        of.received(peer, wire.StatisticsReply(number, Points(1, 0, {})))

    async def ask(*answered: int) -> tuple[float, list[int]]:
        """Ask 1 (itself), 2 and 3; return how long that took and who has answered."""
        began, first = trio.current_time(), 100 + len(peers.sent)
        async with trio.open_nursery() as nursery:
            found: dict[int, Points] = {}

            async def gather() -> None:
                found.update(await of.gather([1, 2, 3], KEYS))

            nursery.start_soon(gather)
            await trio.sleep(0.1)
            for number, (peer, _) in enumerate(peers.sent[first - 100 :], first):
                if peer in answered:
                    reply(number, peer)
        return round(trio.current_time() - began, 3), sorted(found)

    assert await ask(2, 3) == (0.1, [1, 2, 3])
    assert await ask(2) == (2.0, [1, 2])
    assert await ask(2) == (0.25, [1, 2])
    assert await ask() == (2.0, [1])
    assert await ask() == (0.25, [1])
    # Soon enough again.
    assert await ask(2, 3) == (0.1, [1, 2, 3])
    assert await ask(2) == (2.0, [1, 2])
    # An answer that came too late shows that it is there: it has 2 s again.
    reply(peers.sent.index(peers.sent[-1]) + 100, 3)
    assert await ask(2) == (2.0, [1, 2])


@pytest.mark.parametrize(
    "points",
    [
        Points(15, 0, {"keys": bytes(8)}),
        Points(1, 0, {"keys": bytes(7)}),
        Points(1, 0, {"dns_per_s": bytes(8)}),
    ],
)
async def test_an_answer_that_is_none_to_the_question_is_dropped(autojump_clock, points):
    peers = NoPeers()
    one = new_history(peers)
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            assert set(await one.gather([2], KEYS)) == set()

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        one.received(2, wire.StatisticsReply(100, points))


async def test_what_was_not_asked_is_no_answer(autojump_clock):
    one = new_history()
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            assert set(await one.gather([2], KEYS)) == set()

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        one.received(3, wire.StatisticsReply(100, Points(1, 0, {})))
        one.received(2, wire.StatisticsReply(99, Points(1, 0, {})))


async def test_no_more_requests_than_the_bound_gather_answers(autojump_clock):
    peers = NoPeers()
    one = new_history(peers)
    refused = 0

    async def ask() -> None:
        nonlocal refused
        try:
            await one.gather([2], KEYS)
        except Overloaded:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(3 * asked.GATHERED_MAX):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert len(peers.sent) == asked.GATHERED_MAX
    assert refused > 0


async def test_members_answer_each_other_without_a_leader(autojump_clock):
    async with running(3) as cluster:
        one = cluster[1].node
        async with trio.open_nursery() as nursery:
            for number in (1, 2, 3):
                kept = cluster[number].node.statistics
                kept._wall = kept._sampler._wall = lambda: 1e6 + trio.current_time()
                nursery.start_soon(cluster[number].node.statistics.run, None)
            await trio.sleep(5)
            question = Question(SERIES, 1)
            answers = await one.statistics.gather([1, 2, 3], question)
            assert sorted(answers) == [1, 2, 3]
            assert all(set(points.series) == set(SERIES) for points in answers.values())
            assert all(len(points.series["keys"]) > 0 for points in answers.values())
            cluster[2].crash()
            cluster[3].crash()
            await trio.sleep(3)
            assert set(await one.statistics.gather([1, 2, 3], question)) == {1}
            nursery.cancel_scope.cancel()
