"""Blocking reads: contract-services section 2.3."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from hstore.node.api.dialect.heads import Mode
from hstore.node.api.dialect.queries import Blocking
from hstore.node.api.dialect.questions import LocalWait, Question, Target
from hstore.node.api.dialect.questions import ask as ask_question
from hstore.node.api.gate import Right, Route, Routes
from hstore.node.api.http.server import ApiServer
from hstore.node.errors import NoLeader
from hstore.node.model.commands import Delete, DeletePrefix
from hstore.node.model.locks import CreateSession, Session
from hstore.node.state.watching.changes import KEYS, SESSIONS

from ..conftest import Client, parked


async def ask(client, target: str) -> None:
    await client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await trio.testing.wait_all_tasks_blocked()


def index_of(answer) -> int:
    return int(answer.headers["x-consul-index"])


@pytest.mark.parametrize("what", ["", "&raw", "&stale", "&recurse", "&keys"])
async def test_a_read_waits_until_its_result_changes(client, backend, what, autojump_clock):
    backend.set(b"a", b"1")
    await ask(client, f"/v1/kv/a?index=11{what}")
    backend.set(b"b", b"x")
    await trio.testing.wait_all_tasks_blocked()
    backend.set(b"a", b"2")
    answer = await client.response()
    assert (answer.status, index_of(answer)) == (200, 13)
    assert trio.current_time() == 0
    assert (await client.request("GET", "/v1/kv/a?raw")).body == b"2"


async def test_what_is_newer_than_the_index_is_answered_at_once(client, backend, autojump_clock):
    backend.set(b"a", b"1")
    for query in ["?index=10", "?index=0", "?index=", "?wait=10s", "?index=10&recurse"]:
        assert (await client.request("GET", "/v1/kv/a" + query)).status == 200
    assert trio.current_time() == 0


@pytest.mark.parametrize("what", ["", "&stale", "&recurse", "&keys"])
async def test_when_the_time_is_over_it_answers_what_is_true(client, backend, what, autojump_clock):
    backend.set(b"a", b"1")
    answer = await client.request("GET", f"/v1/kv/a?index=11&wait=16s{what}")
    assert (answer.status, index_of(answer)) == (200, 11)
    assert 16 <= trio.current_time() <= 17


async def test_an_absent_key_waits_for_itself_only(client, backend, autojump_clock):
    backend.set(b"b", b"1")
    await ask(client, "/v1/kv/a?index=1")
    backend.set(b"b", b"2")
    await trio.testing.wait_all_tasks_blocked()
    backend.set(b"a", b"1")
    answer = await client.response()
    assert (answer.status, answer.index) == (200, 13)
    await ask(client, "/v1/kv/a?index=13")
    backend.apply(Delete(b"a"))
    answer = await client.response()
    assert (answer.status, answer.body, answer.index) == (404, b"", 14)
    await ask(client, "/v1/kv/?recurse&index=14")
    backend.apply(DeletePrefix(b""))
    answer = await client.response()
    assert (answer.status, answer.index) == (404, 15)
    assert trio.current_time() == 0


@pytest.mark.parametrize("what", ["", "&recurse"])
async def test_a_larger_index_than_any_simply_waits(client, backend, what, autojump_clock):
    await ask(client, f"/v1/kv/a?index=1000&wait=10s{what}")
    for value in [b"1", b"2", b"3"]:
        backend.set(b"a", value)
        await trio.testing.wait_all_tasks_blocked()
    answer = await client.response()
    assert (answer.status, answer.index) == (200, 13)
    assert trio.current_time() >= 10


@pytest.mark.parametrize(
    ("wait", "least", "most"),
    [("", 300, 319), ("&wait=0s", 300, 319), ("&wait=0", 300, 319), ("&wait=1h", 600, 638),
     ("&wait=1ms", 0.001, 0.0011), ("&wait=160.0s", 160, 170)],
)  # fmt: skip
async def test_how_long_it_waits(client, backend, wait, least, most, autojump_clock):
    assert (await client.request("GET", f"/v1/kv/a?index=99{wait}")).status == 404
    assert least <= trio.current_time() <= most


async def test_waits_that_began_together_end_apart(connect, backend, autojump_clock):
    ends = set()

    async def one() -> None:
        await connect().request("GET", "/v1/kv/a?index=99&wait=160s")
        ends.add(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert len(ends) == 20
    assert max(ends) - min(ends) > 2


async def test_a_default_read_without_a_leader_ends_in_500_a_stale_one_in_what_is_here(
    connect, backend, autojump_clock
):
    for what, status in [("", 500), ("&recurse", 500), ("&stale", 404), ("&stale&recurse", 404)]:
        backend.knows_leader = True
        client = connect()
        await ask(client, f"/v1/kv/a?index=99&wait=1s{what}")
        backend.knows_leader = False
        answer = await client.response()
        assert answer.status == status
        assert status == 404 or answer.error == "No cluster leader"


async def test_a_change_of_leader_ends_no_wait(client, backend, autojump_clock):
    await ask(client, "/v1/kv/a?index=5")
    backend.knows_leader = False
    backend.elect(None, 4)
    backend.elect("n2", 5)
    await trio.testing.wait_all_tasks_blocked()
    backend.knows_leader = True
    backend.set(b"a", b"1")
    assert (await client.response()).status == 200


async def test_a_default_read_is_linearizable_on_arrival(client, backend):
    backend.error = NoLeader("nobody")
    answer = await client.request("GET", "/v1/kv/a?index=5")
    assert (answer.status, answer.error) == (500, "No cluster leader")
    assert backend.barriers == 1


async def test_when_the_node_stops_all_waits_end_with_500(connect, server, backend, autojump_clock):
    clients = [connect() for _ in range(5)]
    for client in clients:
        await ask(client, "/v1/kv/a?index=5")
    server.close()
    for client in clients:
        answer = await client.response()
        assert (answer.status, answer.headers["connection"]) == (500, "close")
        assert await client.read_to_end() == b""
    assert trio.current_time() == 0


async def test_a_snapshot_wakes_those_whose_result_it_changed(connect, backend, autojump_clock):
    one, other = connect(), connect()
    backend.set(b"a", b"1")
    backend.set(b"b", b"1")
    await ask(one, "/v1/kv/a?index=11")
    await ask(other, "/v1/kv/b?index=12&wait=10s")
    changes = backend.history.on_add
    backend.history.on_add = None
    backend.set(b"a", b"2")  # As by a snapshot: nobody is told of the change itself.
    backend.history.on_add = changes
    backend.history.restart(backend.applied_index)
    assert (await one.response()).index == 13
    assert trio.current_time() == 0
    assert (await other.response()).index == 12
    assert trio.current_time() >= 10


async def test_what_comes_behind_a_wait_is_answered_after_it(connect, backend, autojump_clock):
    """In one piece, and in pieces; with half a request at its end."""
    for cut in [0, 30, 70]:
        client = connect()
        backend.set(b"a", b"1")
        index = backend.applied_index
        get = f"GET /v1/kv/a?raw&index={index} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        plain = "GET /v1/kv/a?raw HTTP/1.1\r\nHost: localhost\r\n\r\n"
        whole = (plain + get + plain + get + plain[:-10]).encode()
        await client.send(whole[:cut])
        await trio.testing.wait_all_tasks_blocked()
        await client.send(whole[cut:])
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.response()).body == b"1"
        backend.set(b"a", b"2")
        assert [(await client.response()).body for _ in range(3)] == [b"2", b"2", b"2"]
        await client.send(plain[-10:].encode())
        assert (await client.response()).body == b"2"
    assert trio.current_time() == 0


@pytest.mark.parametrize("header", ["", "Connection: keep-alive\r\n"])
async def test_an_old_client_may_wait_too(client, backend, header, autojump_clock):
    await client.send(f"GET /v1/kv/a?raw&index=1 HTTP/1.0\r\n{header}\r\n".encode())
    await trio.testing.wait_all_tasks_blocked()
    backend.set(b"a", b"1")
    answer = await client.response()
    assert (answer.body, answer.headers["connection"]) == (
        b"1",
        "keep-alive" if header else "close",
    )


@parked
async def test_a_client_that_goes_leaves_no_wait(connect, server, backend):
    for what in ["", "&recurse"]:
        client = connect()
        await ask(client, f"/v1/kv/a?index=1{what}")
        assert len(server._shared.waits) == 1
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert len(server._shared.waits) == 0
        assert not server._connections
    assert not waiting_for_changes(backend)


def waiting_for_changes(backend) -> int:
    return sum(
        len(waits._by_prefix) + sum(map(len, waits._by_key.values()))
        for waits in backend.watches._waits.values()
    )


async def test_one_too_many_gets_503(connect, server, backend, autojump_clock):
    server._shared.waits._most = 2
    clients = [connect() for _ in range(3)]
    for client in clients:
        await ask(client, "/v1/kv/a?index=1")
    answer = await clients[2].response()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert (await clients[2].request("GET", "/v1/kv/a")).status == 404
    backend.set(b"a", b"1")
    assert [(await client.response()).status for client in clients[:2]] == [200, 200]
    await ask(clients[2], "/v1/kv/a?index=11")
    backend.set(b"a", b"2")
    assert (await clients[2].response()).status == 200


@parked
async def test_a_wait_takes_no_task(connect, server, backend):
    before = tasks()
    clients = [connect() for _ in range(50)]
    for at, client in enumerate(clients):
        await ask(client, f"/v1/kv/a?index=1{['', '&recurse', '&keys'][at % 3]}")
    assert len(server._shared.waits) == 50
    assert tasks() <= before + 1  # The one that has the times of all.
    backend.set(b"a", b"1")
    for client in clients:
        assert (await client.response()).status == 200


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_a_connection_that_waits_is_not_idle_and_takes_no_other_place(
    connect, server, backend, autojump_clock, poller
):
    client = connect()
    server._room._ordinary = 1
    await ask(client, "/v1/kv/a?index=1&wait=200s")
    assert not server._room._served
    for _ in range(3):
        assert (await connect().request("GET", "/v1/health")).status == 200
    await trio.sleep(150)  # Longer than an idle connection lasts.
    backend.set(b"a", b"1")
    assert (await client.response()).status == 200
    assert (await client.request("GET", "/v1/health")).status == 200


async def test_thousands_that_wait_leave_nothing_behind(connect, server, backend, autojump_clock):
    client = connect()
    for number in range(1_500):
        await client.send(
            b"GET /v1/kv/a?index=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (10 + number)
        )
        await trio.testing.wait_all_tasks_blocked()
        backend.set(b"a", b"1")
        assert (await client.response()).index == 11 + number
    waits = server._shared.waits
    assert len(waits) == 0
    assert len(waits._heap) <= 1_001
    assert not waiting_for_changes(backend)


@pytest.fixture
def few_places(server):
    server._room.streams_most = 2
    return server._room


@parked
async def test_who_has_waited_and_is_idle_makes_room_for_who_waits(
    connect, backend, few_places, autojump_clock
):
    idle, waiting, newcomer = connect(), connect(), connect()
    for client in [idle, waiting]:
        await ask(client, "/v1/kv/a?index=1")
    backend.set(b"a", b"1")
    assert [(await client.response()).status for client in [idle, waiting]] == [200, 200]
    await ask(waiting, "/v1/kv/a?index=11")
    await ask(newcomer, "/v1/kv/a?index=11")
    assert await idle.read_to_end() == b""
    backend.set(b"a", b"2")
    assert [(await client.response()).status for client in [waiting, newcomer]] == [200, 200]
    assert few_places.evicted == 1


async def test_where_all_wait_the_next_one_gets_503_and_watches_have_no_more_places(
    connect, backend, few_places, autojump_clock
):
    clients = [connect() for _ in range(4)]
    for client in clients[:2]:
        await ask(client, "/v1/kv/a?index=1")
    answer = await clients[2].request("GET", "/v1/kv/a?index=1")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert (await clients[3].request("GET", "/v1/watch")).status == 503
    backend.set(b"a", b"1")
    for client in clients[:2]:
        assert (await client.response()).status == 200
        await client.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    await ask(clients[2], "/v1/kv/a?index=11")
    backend.set(b"a", b"2")
    assert (await clients[2].response()).status == 200
    assert len(few_places._waiters) == 1


async def test_a_short_wait_ends_in_time_behind_a_long_one(connect, backend, autojump_clock):
    long, short = connect(), connect()
    await ask(long, "/v1/kv/a?index=9&wait=100s")
    assert (await short.request("GET", "/v1/kv/a?index=9&wait=1ms")).status == 404
    assert 0.001 <= trio.current_time() < 0.0011
    assert (await long.response()).status == 404
    assert 100 <= trio.current_time() < 107


async def test_a_change_while_a_listing_looks_for_its_index_is_not_missed(
    client, backend, monkeypatch, autojump_clock
):
    backend.set(b"p/a", b"1")
    real = backend.view

    def view():
        reader = real()
        if len(backend.items) == 1:
            backend.set(b"p/b", b"2")  # Not in this view.
        return reader

    monkeypatch.setattr(backend, "view", view)
    answer = await client.request("GET", "/v1/kv/p/?keys&index=11")
    assert (answer.json(), answer.index) == (["p/a", "p/b"], 12)
    assert trio.current_time() == 0


async def test_a_change_before_the_wait_has_begun_is_not_missed(backend):
    """Between the two, answers that are ready may have to wait for their client."""
    looked: list[int | None] = []
    exchange: Any = SimpleNamespace(keys=backend, backend=SimpleNamespace(process=backend))
    on = [Target(KEYS, b"a")]
    wait = LocalWait(exchange, Mode.LEADER, Blocking(11, 10.0), on, looked.append)
    backend.set(b"a", b"1")
    called: list[bool] = []
    assert not wait.begin(lambda: called.append(True))
    assert wait.look() is None
    assert looked == [11]
    assert wait.begin(lambda: called.append(True))
    backend.set(b"b", b"1")
    assert called == []
    backend.set(b"a", b"2")
    assert called == [True]
    assert not waiting_for_changes(backend)


async def test_a_question_of_any_handler_waits_for_what_it_depends_on(backend, autojump_clock):
    """As the handlers of sessions and nodes ask: by tables, an index and a body."""
    on = [Target(SESSIONS, b"", is_prefix=True), Target(KEYS, b"a")]

    def handler(exchange, request, _rest):
        question = Question(on, lambda reader: reader.sessions_index(), lambda _reader: b"[]")
        return ask_question(exchange, request, question)

    routes = Routes([Route(b"GET", b"/v1/session/list", handler, Right.NONE, "index wait stale")])
    async with trio.open_nursery() as nursery:
        near, far = trio.testing.memory_stream_pair()
        nursery.start_soon(ApiServer(backend.whole, routes).serve_stream, far)
        client = Client(near)
        first = await client.request("GET", "/v1/session/list")
        assert (first.status, first.body, first.index) == (200, b"[]", 1)
        await ask(client, "/v1/session/list?index=1")
        backend.set(b"a", b"1")  # Moves no index of this question.
        await trio.testing.wait_all_tasks_blocked()
        made = CreateSession(Session(b"s" * 16, "", 1, 0, "release", "", 0, ()))
        assert backend.apply(made).ok
        assert (await client.response()).index == 12
        assert trio.current_time() == 0
        nursery.cancel_scope.cancel()
