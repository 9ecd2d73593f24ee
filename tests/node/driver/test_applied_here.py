"""A write of the catalog is answered when the node that was asked shows it (contract-services, section 9.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from hstore.node.driver import requests
from hstore.node.driver.requests import Answer, Request, Waiting
from hstore.node.errors import OutcomeUnknown, Overloaded
from hstore.node.model.commands import Command, Keyed, Outcome, Put
from hstore.node.peers.wire import ForwardKind
from tests.node.memory_cluster import Cluster, Member, running
from tests.node.state.catalogs import deregister, given, register, ttl

FOLLOWER = 2


def shown(member: Member) -> list[str]:
    """Return the IDs of the services that a node's own copy has on that node."""
    view = member.node.keys.view()
    try:
        return [one.id for one in view.services_of(member.node.keys.own_number)]
    finally:
        view.close()


def web(cluster: Cluster) -> Command:
    return register(cluster[FOLLOWER].node.keys.own_number, "web", given("service:web", "", ttl()))


def keyed(command: Command) -> Command:
    return Keyed(b"a key", bytes(16), command)  # type: ignore[arg-type]  # every one here is a `Write`


def as_it_is(command: Command) -> Command:
    return command


async def write(cluster: Cluster, command: Command, within_s: float = 5.0) -> Outcome:
    keys = cluster[FOLLOWER].node.keys
    return await keys.write(command, trio.current_time() + within_s, applied_here=True)


@asynccontextmanager
async def slow_follower() -> AsyncIterator[tuple[Cluster, trio.Event]]:
    """A follower's disk flushes nothing until the event is set: it applies nothing new until then."""
    async with running(3) as cluster:
        gate = cluster[FOLLOWER].disk.flush_gate = trio.Event()
        try:
            yield cluster, gate
        finally:
            gate.set()


@pytest.mark.parametrize("form", [as_it_is, keyed])
async def test_it_waits_until_this_node_shows_it(
    form: Callable[[Command], Command], autojump_clock
) -> None:
    async with slow_follower() as (cluster, gate):
        answered: list[float] = []

        async def registered() -> None:
            assert (await write(cluster, form(web(cluster)))).ok
            assert shown(cluster[FOLLOWER]) == ["web"]
            answered.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(registered)
            await trio.sleep(1)
            assert cluster[1].node.keys.service_index(b"web"), "it is committed"
            assert not answered
            assert len(cluster[FOLLOWER].node.replica.waiting.elsewhere) == 1
            gate.set()
            before = trio.current_time()
        assert answered[0] - before < 0.3
        assert (await write(cluster, form(web(cluster)))).ok
        assert len(cluster[FOLLOWER].node.replica.waiting.elsewhere) == 0


async def test_one_that_no_task_waits_for_waits_too(autojump_clock) -> None:
    async with slow_follower() as (cluster, gate):
        told: list[Answer] = []
        keys = cluster[FOLLOWER].node.keys
        keys.begin_write(web(cluster), trio.current_time() + 5, told.append, applied_here=True)
        await trio.sleep(1)
        assert not told
        gate.set()
        await cluster.until(lambda: told)
        assert told[0].ok


async def test_a_key_is_not_waited_for(autojump_clock) -> None:
    async with slow_follower() as (cluster, _):
        before = trio.current_time()
        await cluster.write(FOLLOWER, "key", "value")
        assert trio.current_time() - before < 0.1


async def test_at_the_deadline_it_is_answered_for_it_is_committed(autojump_clock) -> None:
    async with slow_follower() as (cluster, _):
        before = trio.current_time()
        assert (await write(cluster, web(cluster), within_s=2)).ok
        assert 1.8 < trio.current_time() - before < 2.3
        assert shown(cluster[FOLLOWER]) == []
        assert len(cluster[FOLLOWER].node.replica.waiting.elsewhere) == 0


def test_another_leader_does_not_bring_its_deadline_forward() -> None:
    """Only the answer of the old leader is waited for less long."""
    waiting, told = Waiting(), list[Answer]()
    for rid in (1, 2):
        request = Request(ForwardKind.WRITE, b"", 10.0, told.append)
        request.passed_to = 3
        waiting.forwarded[rid] = request
    waiting.hurry_forwarded(2, by=4.0)
    waiting.elsewhere.add(7, waiting.forwarded.pop(1), Outcome(True, 7))

    waiting.expire(4.0, has_leader=True)
    assert [type(answer) for answer in told] == [OutcomeUnknown]
    assert len(waiting.elsewhere) == 1
    waiting.expire(10.0, has_leader=True)
    assert told[1:] == [Outcome(True, 7)]


async def test_who_gives_up_leaves_nothing_behind(autojump_clock) -> None:
    async with slow_follower() as (cluster, _):
        with trio.move_on_after(1):
            await write(cluster, web(cluster), within_s=60)
        await trio.sleep(0.3)
        assert len(cluster[FOLLOWER].node.replica.waiting.elsewhere) == 0


async def test_what_was_refused_is_answered_at_once(autojump_clock) -> None:
    async with slow_follower() as (cluster, _):
        number = cluster[FOLLOWER].node.keys.own_number
        outcome = await write(cluster, deregister(number, "none"))
        assert not outcome.ok


async def test_they_count_among_those_that_may_wait(
    monkeypatch: pytest.MonkeyPatch, autojump_clock
) -> None:
    async with slow_follower() as (cluster, gate):
        monkeypatch.setattr(requests, "MAX_WAITING", 20)
        told: list[Answer] = []
        keys = cluster[FOLLOWER].node.keys
        for _ in range(20):
            keys.begin_write(web(cluster), trio.current_time() + 5, told.append, applied_here=True)
        await trio.sleep(1)
        assert len(cluster[FOLLOWER].node.replica.waiting.elsewhere) == 20
        with pytest.raises(Overloaded):
            keys.begin_write(Put(b"key", b""), trio.current_time() + 5, told.append)
        gate.set()
        await cluster.until(lambda: len(told) == 20)
