"""Reads that begin to wait before the leader is asked, on a connection that has waited before."""

from __future__ import annotations

import pytest
import trio

from hstore.node.api.dialect import questions
from hstore.node.errors import NoLeader

from .test_blocking import ask, waiting_for_changes

PATHS = ["/v1/kv/a?", "/v1/kv/a?raw&"]


@pytest.fixture(params=PATHS)
async def waited(request, client, backend, poller, monkeypatch):
    """A client whose read has waited for long; the key is at index 12."""
    if poller is None:
        pytest.skip("a connection with a task asks the leader first")
    monkeypatch.setattr(questions, "_WHILE_S", 0.0)
    backend.set(b"a", b"1")
    await ask(client, f"{request.param}index=11")
    assert backend.barriers == 1
    backend.set(b"a", b"2")
    assert (await client.response()).index == 12
    client.path = request.param
    return client


async def test_the_next_read_waits_without_the_leader_and_is_answered_with_it(waited, backend):
    await ask(waited, f"{waited.path}index=12")
    assert backend.barriers == 1
    backend.set(b"a", b"3")
    answer = await waited.response()
    assert (answer.status, answer.index, backend.barriers) == (200, 13, 2)
    assert not waiting_for_changes(backend)


async def test_a_change_waits_for_the_answer_of_the_leader(waited, backend):
    backend.hurry_reads = lambda: None
    await ask(waited, f"{waited.path}index=12")
    backend.set(b"a", b"3")
    with trio.move_on_after(0.05) as scope:
        await waited.response()
    assert scope.cancelled_caught, "an answer that the leader has not confirmed"
    backend.set(b"a", b"4")
    backend.hurry.set()
    assert ((await waited.response()).index, backend.barriers) == (14, 2)


async def test_what_the_leader_has_confirmed_before_the_change_is_answered_at_once(waited, backend):
    await ask(waited, f"{waited.path}index=12")
    backend.hurry_reads()
    await trio.testing.wait_all_tasks_blocked()
    assert backend.barriers == 2
    backend.set(b"a", b"3")
    assert ((await waited.response()).index, backend.barriers) == (13, 2)


async def test_without_a_leader_it_ends_in_500(waited, backend):
    backend.error = NoLeader("nobody")
    await ask(waited, f"{waited.path}index=12")
    backend.hurry_reads()
    answer = await waited.response()
    assert (answer.status, answer.error) == (500, "No cluster leader")
    assert not waiting_for_changes(backend)


@pytest.mark.parametrize("query", ["index=11", "index=12&wait=9s", "index=12&timeout=200s"])
async def test_what_need_not_wait_and_what_waits_shortly_asks_at_once(waited, backend, query):
    await ask(waited, waited.path + query)
    assert backend.barriers == 2


async def test_after_a_short_wait_the_next_read_asks_at_once(waited, backend, monkeypatch):
    """Else each answer about what changes all the time would wait for the leader."""
    monkeypatch.setattr(questions, "_WHILE_S", 60.0)
    await ask(waited, f"{waited.path}index=12")
    backend.set(b"a", b"3")
    assert ((await waited.response()).index, backend.barriers) == (13, 2)
    await ask(waited, f"{waited.path}index=13")
    assert backend.barriers == 3


async def test_a_client_that_goes_leaves_nothing(waited, backend, server):
    await ask(waited, f"{waited.path}index=12")
    await waited.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert len(server._shared.waits) == 0
    assert not waiting_for_changes(backend)
