"""Reads that begin to wait before the leader is asked, on a connection that has waited before."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from hstore.node.api.dialect import questions
from hstore.node.errors import NoLeader

from .test_blocking import ask, index_of, waiting_for_changes

PATHS = ["/v1/kv/a?", "/v1/kv/a?raw&"]


@pytest.fixture(params=PATHS)
async def waited(request, client, backend, monkeypatch):
    """A client whose read has waited for long; the key is at index 12, and the leader was asked once."""
    monkeypatch.setattr(questions, "WHILE_S", 0.0)
    backend.set(b"a", b"1")
    await ask(client, f"{request.param}index=11")
    backend.set(b"a", b"2")
    assert index_of(await client.response()) == 12
    assert (backend.barriers, backend.wants_fresh) == (1, False)
    client.path = request.param
    return client


def became_fresh(backend) -> None:
    """The leader has answered a read index for which the node asked just now."""
    backend.fresh_at = trio.current_time() + 1e-9


async def test_it_waits_without_the_leader_and_is_answered_at_once_when_it_was_asked(
    waited, backend
):
    await ask(waited, f"{waited.path}index=12")
    assert (backend.barriers, backend.wants_fresh) == (1, True)
    became_fresh(backend)
    backend.set(b"a", b"3")
    answer = await waited.response()
    assert (answer.status, index_of(answer), backend.barriers) == (200, 13, 1)
    assert not waiting_for_changes(backend)


async def test_before_that_a_change_has_it_ask_by_itself(waited, backend):
    backend.fresh_at = trio.current_time()  # Asked for before the read came.
    await ask(waited, f"{waited.path}index=12")
    gate, barrier = trio.Event(), backend.read_barrier

    async def slow_barrier(deadline: float) -> None:
        await gate.wait()
        await barrier(deadline)

    backend.read_barrier = slow_barrier
    backend.set(b"a", b"3")
    with trio.move_on_after(0.05) as scope:
        await waited.response()
    assert scope.cancelled_caught, "an answer that the leader has not confirmed"
    backend.set(b"a", b"4")
    gate.set()
    assert (index_of(await waited.response()), backend.barriers) == (14, 2)
    assert not waiting_for_changes(backend)


async def test_so_does_the_end_of_the_wait(waited, backend, autojump_clock):
    await ask(waited, f"{waited.path}index=12&wait=16s")
    answer = await waited.response()
    assert (answer.status, index_of(answer), backend.barriers) == (200, 12, 2)
    assert 16 <= trio.current_time() <= 17


async def test_after_a_wait_that_is_over_the_next_read_need_not_ask(
    client, backend, autojump_clock
):
    backend.set(b"a", b"1")
    for number in range(2):
        answer = await client.request("GET", "/v1/kv/a?index=11&wait=16s")
        assert (answer.status, index_of(answer), backend.barriers) == (200, 11, 1 + number)
        assert backend.wants_fresh is (number == 1)


async def test_without_a_leader_it_ends_in_500(waited, backend):
    await ask(waited, f"{waited.path}index=12")
    backend.error = NoLeader("nobody")
    backend.set(b"a", b"3")
    answer = await waited.response()
    assert (answer.status, answer.error) == (500, "No cluster leader")
    assert not waiting_for_changes(backend)


async def test_where_no_leader_is_known_it_asks_at_once(waited, backend):
    backend.knows_leader, backend.error = False, NoLeader("nobody")
    await ask(waited, f"{waited.path}index=12")
    assert (await waited.response()).status == 500


@pytest.mark.parametrize("query", ["index=11", "index=12&timeout=x"])
async def test_what_need_not_wait_is_answered_as_ever(waited, backend, query):
    await ask(waited, waited.path + query)
    assert (await waited.response()).status == (400 if "timeout" in query else 200)
    assert not backend.wants_fresh


async def test_what_waits_shortly_asks_at_once(waited, backend, monkeypatch):
    monkeypatch.setattr(questions, "WHILE_S", 60.0)
    await ask(waited, f"{waited.path}index=12&wait=59s")
    assert (backend.barriers, backend.wants_fresh) == (2, False)


async def test_after_a_short_wait_the_next_read_asks_at_once(waited, backend, monkeypatch):
    """Else each answer about what changes all the time would wait for the leader."""
    await ask(waited, f"{waited.path}index=12")
    monkeypatch.setattr(questions, "WHILE_S", 60.0)
    became_fresh(backend)
    backend.set(b"a", b"3")
    assert (index_of(await waited.response()), backend.barriers) == (13, 1)
    await ask(waited, f"{waited.path}index=13")
    assert backend.barriers == 2


async def test_a_client_that_goes_leaves_nothing(waited, backend, server):
    await ask(waited, f"{waited.path}index=12")
    await waited.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert len(server._shared.waits) == 0 or backend.set(b"a", b"3") is None
    await trio.testing.wait_all_tasks_blocked()
    assert len(server._shared.waits) == 0
    assert not waiting_for_changes(backend)
