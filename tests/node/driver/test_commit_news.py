"""When followers hear of a commit: at once while commits are few, else with the next entries."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hstore.node.driver.commit_news import CommitNews
from hstore.node.model.commands import Put
from hstore.node.peers import wire
from hstore.node.raft import events as happened
from hstore.node.raft.core import Core
from hstore.node.raft.messages import Append, AppendResponse
from hstore.node.raft.progress import ProgressState
from hstore.node.raft.roles import Role
from tests.node.memory_cluster import Cluster, running


@pytest.fixture
def told() -> deque[happened.Event]:
    return deque()


class Leading:
    """As much of a leader's core as commit news look at, and its steps."""

    def __init__(self, told: deque[happened.Event]) -> None:
        self.told = told
        self.peer = SimpleNamespace(state=ProgressState.REPLICATE, sent_commit=0)
        self.core = SimpleNamespace(
            progress={2: self.peer}, role=Role.LEADER, log=SimpleNamespace(commit=0, last_index=0)
        )
        self.news = CommitNews(cast("Core", self.core), self.feed)

    def feed(self, event: happened.Event) -> None:
        self.told.append(event)
        self.peer.sent_commit = self.core.log.commit

    def commit(self, apply_s: float = 0.0) -> None:
        """Commit one more entry in a step of the core, and apply it, which takes so long."""
        events: deque[happened.Event] = deque()
        self.news.add_to(events)
        self.core.log.commit = self.core.log.last_index = self.core.log.commit + 1
        for event in events:
            self.feed(event)
        self.news._credit_at -= apply_s
        self.news.committed()

    async def commit_each(self, pauses_s: Iterator[float]) -> None:
        for pause_s in pauses_s:
            self.commit()
            await trio.sleep(pause_s)


def empty_appends(cluster: Cluster) -> list[Append]:
    frames: list[Append] = []

    def tap(_frm: int, _to: int, frame: wire.Frame) -> None:
        if isinstance(frame, Append) and not frame.entries:
            frames.append(frame)

    cluster.network.taps.append(tap)
    return frames


async def test_followers_have_a_lone_write_as_soon_as_it_is_answered(autojump_clock) -> None:
    async with running(3) as cluster:
        for number in range(20):
            await trio.sleep(0.01)
            await cluster.write(cluster.leader.id, f"key-{number}", "value")
            await wait_all_tasks_blocked()  # Nothing of this takes virtual time, but a wait would.
            assert [m.value(f"key-{number}") for m in cluster.up] == ["value"] * 3


async def test_a_slow_follower_has_it_when_its_own_disk_has(autojump_clock) -> None:
    async with running(3) as cluster:
        slow = cluster.followers[0]
        slow.disk.flush_delay_s = 0.05
        await trio.sleep(1.0)
        began = trio.current_time()
        await cluster.write(cluster.leader.id, "key", "value")
        assert trio.current_time() - began < 0.05
        await cluster.until(lambda: slow.value("key") is not None)
        assert trio.current_time() - began <= 0.055  # `until` looks every 5 ms.


async def test_the_news_of_many_writes_travel_with_entries(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(1.0)
        alone = empty_appends(cluster)
        for number in range(500):
            deadline = trio.current_time() + 5
            await cluster.leader.node.keys.write(Put(b"key", b"%d" % number), deadline)
            await trio.sleep(0.0015)  # A client that writes one after another.
        # The first ones only, to each of two followers: then it is known that they are many.
        assert 2 <= len(alone) <= 40


async def test_up_to_250_commits_a_second_are_told_at_once_and_a_serial_writers_are_not(
    autojump_clock, told
) -> None:
    leading = Leading(told)
    await leading.commit_each(iter([0.01] * 100))
    assert list(told) == [happened.TellCommit(at_once=True)] * 100

    told.clear()
    await leading.commit_each(iter([0.0015] * 1000))
    assert len(told) < 20

    # They are few again: soon each is told at once.
    await trio.sleep(0.1)
    told.clear()
    await leading.commit_each(iter([0.02] * 50))
    assert len(told) == 50


async def test_a_commit_that_was_too_early_to_be_told_at_once_is_told_soon(
    autojump_clock, told, nursery
) -> None:
    """Also where the credit for it comes while it is applied."""
    leading = Leading(told)
    nursery.start_soon(leading.news.run)
    while len(told) == leading.core.log.commit:
        leading.commit()
    assert leading.peer.sent_commit < leading.core.log.commit
    await trio.sleep(0.1)
    leading.news._credit, leading.news._credit_at = 0.99, trio.current_time()
    told.clear()
    leading.commit(apply_s=0.001)
    assert not told
    await trio.sleep(0.1)
    assert list(told) == [happened.TellCommit()]


async def test_a_leader_alone_tells_nobody(autojump_clock, monkeypatch) -> None:
    async with running(1) as cluster:
        news = cluster[1].node.replica._news
        told: deque[happened.Event] = deque()
        monkeypatch.setattr(news, "_feed", told.append)
        await cluster.write(1, "k", "v")
        await trio.sleep(0.1)
        news.add_to(told)
        assert not told


async def test_news_that_fit_are_not_answered(autojump_clock) -> None:
    """Else each of them wakes the leader once more, to learn nothing."""
    async with running(3) as cluster:
        await trio.sleep(1.0)
        news = empty_appends(cluster)
        answers: list[AppendResponse] = []

        def tap(_frm: int, _to: int, frame: wire.Frame) -> None:
            if isinstance(frame, AppendResponse):
                answers.append(frame)

        cluster.network.taps.append(tap)
        for number in range(5):
            await cluster.write(cluster.leader.id, f"key-{number}", "value")
            await trio.sleep(0.02)
        assert (len(news), len(answers)) == (10, 10)  # To two followers; answers to entries only.


async def test_followers_are_told_before_the_leader_applies(autojump_clock, monkeypatch) -> None:
    async with running(3) as cluster:
        await trio.sleep(1.0)
        leader = cluster.leader.node.replica
        applied: list[int] = []
        send = leader.send

        def look(peer: int, frame: wire.Frame) -> bool:
            if isinstance(frame, Append) and frame.is_news:
                applied.append(frame.commit - leader.state.applied)
            return send(peer, frame)

        monkeypatch.setattr(leader, "send", look)
        await cluster.write(leader.facts.id, "key", "value")
        assert applied == [1, 1]
