"""Reads of services that begin to wait before the leader is asked, as those of keys (`dialect/test_unasked_reads`)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from hstore.node.api.dialect import questions
from hstore.node.errors import NoLeader
from tests.node.api.consul.conftest import OWN, StateBackend, waits

KINDS = ["/v1/health/service/web", "/v1/health/checks/web", "/v1/catalog/service/web"]


def index_of(answer) -> int:
    return int(answer.headers["x-consul-index"])


def became_fresh(backend: StateBackend) -> None:
    """The leader has answered a read index for which the node asked just now."""
    backend.fresh_at = trio.current_time() + 1e-9


@pytest.fixture(params=[*(f"{kind}?" for kind in KINDS), f"{KINDS[0]}?passing&tag=v1&"])
async def waited(request, client, backend, catalog, monkeypatch):
    """A client whose read has waited for long; the leader was asked once."""
    monkeypatch.setattr(questions, "WHILE_S", 0.0)
    catalog.register(OWN, "web", tags=("v1",))
    client.path = request.param
    index = backend.state.service_index(b"web")
    await waits(client, f"{client.path}index={index}")
    catalog.register(OWN, "web", tags=("v1",), port=1)
    client.index = index_of(await client.response())
    assert client.index > index
    assert (backend.barriers, backend.wants_fresh) == (1, False)
    return client


async def test_it_waits_without_the_leader_and_is_answered_at_once_when_it_was_asked(
    waited, backend, catalog
):
    await waits(waited, f"{waited.path}index={waited.index}")
    assert (backend.barriers, backend.wants_fresh) == (1, True)
    became_fresh(backend)
    catalog.register(OWN, "db")
    await trio.testing.wait_all_tasks_blocked()
    catalog.register(OWN, "web", tags=("v1",), port=2)
    answer = await waited.response()
    assert (answer.status, index_of(answer)) == (200, backend.state.service_index(b"web"))
    assert backend.barriers == 1


async def test_before_that_a_change_has_it_ask_by_itself(waited, backend, catalog):
    backend.fresh_at = trio.current_time()  # Asked for before the read came.
    await waits(waited, f"{waited.path}index={waited.index}")
    gate, barrier = trio.Event(), backend.read_barrier

    async def slow_barrier(deadline: float) -> None:
        await gate.wait()
        await barrier(deadline)

    backend.read_barrier = slow_barrier
    catalog.register(OWN, "web", tags=("v1",), port=2)
    with trio.move_on_after(0.05) as scope:
        await waited.response()
    assert scope.cancelled_caught, "an answer that the leader has not confirmed"
    catalog.register(OWN, "web", tags=("v1",), port=3)
    gate.set()
    answer = await waited.response()
    assert (index_of(answer), backend.barriers) == (backend.state.service_index(b"web"), 2)


async def test_so_does_the_end_of_the_wait(waited, backend, autojump_clock):
    await waits(waited, f"{waited.path}index={waited.index}&wait=16s")
    answer = await waited.response()
    assert (answer.status, index_of(answer), backend.barriers) == (200, waited.index, 2)


async def test_without_a_leader_it_ends_in_500(waited, backend, catalog):
    await waits(waited, f"{waited.path}index={waited.index}")
    backend.error = NoLeader("nobody")
    catalog.register(OWN, "web", tags=("v1",), port=2)
    answer = await waited.response()
    assert (answer.status, answer.body) == (500, b"No cluster leader")


async def test_a_service_that_is_not_there_is_waited_for_likewise(waited, backend, catalog):
    path = waited.path.replace("web", "new")
    await waits(waited, f"{path}index=1000")
    assert (backend.barriers, backend.wants_fresh) == (1, True)
    became_fresh(backend)
    while backend.state.applied <= 1000:
        catalog.register(OWN, "new", tags=("v1",), port=backend.state.applied)
    answer = await waited.response()
    assert (index_of(answer), backend.barriers) == (1001, 1)


async def test_so_is_one_whose_answer_is_long(waited, backend, catalog, monkeypatch):
    monkeypatch.setattr("hstore.node.api.consul.instances.WHOLE_MAX", 0)
    await waits(waited, f"{waited.path}index={waited.index}")
    catalog.register(OWN, "web", tags=("v1",), port=2)
    answer = await waited.response()
    assert (index_of(answer), backend.barriers) == (backend.state.service_index(b"web"), 2)


@pytest.mark.parametrize("query", ["index=1", "index={}&stale", "index={}&wait=0.5s"])
async def test_others_ask_as_ever(waited, backend, monkeypatch, query):
    """What is due, what need not ask, and what waits shortly."""
    monkeypatch.setattr(questions, "WHILE_S", 1.0)
    await waits(waited, waited.path + query.format(waited.index))
    assert not backend.wants_fresh


@pytest.mark.parametrize("query", ["timeout=x", "filter=nothing=="])
async def test_a_bad_query_is_refused_as_ever(waited, query):
    await waits(waited, f"{waited.path}index={waited.index}&{query}")
    assert (await waited.response()).status == 400


async def test_one_with_a_filter_waits_likewise(waited, backend, catalog):
    of = "Service.ID" if "health/service" in waited.path else "ServiceID"
    await waits(waited, f'{waited.path}index={waited.index}&filter={of}+==+"web"')
    assert (backend.barriers, backend.wants_fresh) == (1, True)
    became_fresh(backend)
    catalog.register(OWN, "web", tags=("v1",), port=2)
    answer = await waited.response()
    assert (answer.status, index_of(answer)) == (200, backend.state.service_index(b"web"))
