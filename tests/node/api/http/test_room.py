"""More clients than there is room for: which connection goes, who waits, and who is always heard."""

from __future__ import annotations

import pytest
import trio

from hstore.node.api.http.room import STALLED_S, Place, Room
from hstore.node.api.http.server import ApiServer
from hstore.node.api.http.serving import HEADERS_S
from hstore.node.api.http.trial import TRIAL_S, Trial
from hstore.node.api.routes import ROUTES

from ..conftest import Client, parked

MOST, RESERVED = 8, 2
ORDINARY = MOST - RESERVED
REFUSALS = 3

GET = b"GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEALTH = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
PUT = b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"


@pytest.fixture
def server(backend, poller):
    return ApiServer(
        backend.whole, ROUTES, connections_max=MOST, refusals_max=REFUSALS, poller=poller
    )


@pytest.fixture
def gate(backend):
    """What writes wait for."""
    opened = trio.Event()

    async def wait(_command):
        await opened.wait()

    backend.before_write = wait
    return opened


@pytest.fixture
def far(connect):
    """Opens connections from another machine, one after the other."""

    async def far(count=1):
        clients = []
        for _ in range(count):
            clients.append(connect(is_local=False))
            await trio.sleep(0.001)
        return clients

    return far


@pytest.fixture
def busy(far):
    """Opens connections from another machine on each of which a write is in progress."""

    async def busy(count):
        clients = await far(count)
        for client in clients:
            await client.send(PUT + b"x")
        await trio.testing.wait_all_tasks_blocked()
        return clients

    return busy


async def has_ended(client: Client) -> bool:
    """Whether the server has closed the connection without a word."""
    with trio.move_on_after(0.01):
        try:
            return await client.stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            return True
    return False


async def status(client: Client, request: bytes = HEALTH) -> int:
    await client.send(request)
    return (await client.response()).status


# -- idle ones make room ------------------------------------------------------------------------


async def test_the_longest_idle_connection_makes_room_for_a_new_one(far, autojump_clock):
    """768 idle ones shut everybody out for 39 s."""
    clients = await far(ORDINARY)
    assert await status(clients[0]) == 200
    [late] = await far()
    assert await has_ended(clients[1])
    assert await status(late) == 200
    [later] = await far()
    assert await has_ended(clients[2])
    assert [await status(one) for one in (clients[0], *clients[3:], late, later)] == [200] * 6


async def test_however_many_come_each_is_served(far, server, autojump_clock):
    for _ in range(5 * MOST):
        [client] = await far()
        assert await status(client) == 200
    assert len(server._connections) == ORDINARY
    assert server._room.evicted == 5 * MOST - ORDINARY


async def test_idle_is_who_has_had_an_answer_and_not_who_asked_long_ago(
    far, busy, gate, autojump_clock
):
    """A client that has waited for long asks again at once, and would otherwise always go first."""
    [waited] = await busy(1)
    others = await far(ORDINARY - 1)
    await trio.sleep(3)
    gate.set()
    assert (await waited.response()).status == 200
    await far()
    assert await has_ended(others[0])
    assert await status(waited) == 200


async def test_a_request_in_progress_a_watch_and_a_stream_are_never_ended(
    far, busy, gate, autojump_clock
):
    writing = await busy(ORDINARY)
    [watch, events] = await far(2)
    # They are on trial, like all that come now; there is a place again when one has its answer.
    assert await status(watch, b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n") == 503
    gate.set()
    assert [(await one.response()).status for one in writing] == [200] * ORDINARY
    for one, path in ((writing[0], b"watch"), (writing[1], b"events")):
        await one.send(b"GET /v1/%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        assert (await one.read_head()).status == 200
    await trio.sleep(1)
    for _ in range(2 * MOST):
        await far()
    assert not await has_ended(events)
    assert b"id:" in await writing[0].read_chunk()
    assert b"cluster" in await writing[1].read_chunk()
    assert [await has_ended(one) for one in writing[2:]] == [True] * (ORDINARY - 2)


async def test_half_a_request_has_a_second_and_goes_after_the_idle_ones(
    far, busy, gate, autojump_clock
):
    going_on, stalled = await far(2)
    for half in (going_on, stalled):
        await half.send(PUT[:-10])
    idle = await far(ORDINARY - 2)
    await trio.sleep(STALLED_S)
    await going_on.send(PUT[-10:-5])
    await busy(ORDINARY - 2)
    assert [await has_ended(one) for one in idle] == [True] * (ORDINARY - 2)
    await busy(1)
    assert await has_ended(stalled)
    [refused] = await far()
    assert await status(refused, GET) == 503
    await going_on.send(PUT[-5:] + b"x")
    gate.set()
    assert (await going_on.response()).status == 200


async def test_who_has_its_last_answer_and_does_not_close_makes_room(far, autojump_clock):
    """A place is not busy for two seconds after each request that was the last of its connection."""
    clients = await far(ORDINARY)
    for client in clients:
        assert await status(client, HEALTH[:-2] + b"Connection: close\r\n\r\n") == 200
    for _ in range(2 * MOST):
        [client] = await far()
        assert await status(client, GET) == 404


@parked
async def test_who_has_just_sent_something_is_not_ended(far, connect, autojump_clock):
    """Its request would be lost."""
    clients = await far(ORDINARY)
    clients[0].stream.sock.send(HEALTH)
    connect(is_local=False)
    assert (await clients[0].response()).status == 200
    assert await has_ended(clients[1])


async def test_whose_request_did_not_come_in_time_makes_room_and_is_gone(
    far, server, autojump_clock
):
    """Its place was another's, and its connection stood for some seconds beside that one."""
    for half in await far(ORDINARY):
        await half.send(PUT[:-10])
    await trio.sleep(HEADERS_S + 0.1)
    for _ in range(2 * MOST):
        await trio.sleep(0.1)
        [client] = await far()
        assert await status(client, GET) == 404
        assert len(server._connections) == ORDINARY


async def test_a_request_that_waits_for_its_turn_is_in_progress(far, server, autojump_clock):
    whole = HEALTH[:-2] + b"X: %0600d\r\n\r\n" % 1
    [waits, stalled] = await far(2)
    await stalled.send(whole[:10])
    others = await far(ORDINARY - 2)
    await trio.sleep(STALLED_S)
    turn = server._shared.turn
    turn.bytes_left, turn._is_serving = 0, True  # Nobody's turn comes.
    await waits.send(whole)
    await stalled.send(whole[10:])
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(2 * MOST):
        await far()
    assert [await has_ended(one) for one in others] == [True] * (ORDINARY - 2)
    turn._is_serving = False
    turn._serve_soon()
    assert [(await one.response()).status for one in (waits, stalled)] == [200, 200]


@parked
async def test_who_has_just_sent_something_to_a_task_is_not_ended(
    far, busy, server, gate, autojump_clock
):
    writing = await busy(ORDINARY)
    [passed] = await far()
    gate.set()
    assert [(await one.response()).status for one in writing] == [200] * ORDINARY
    assert await status(passed) == 200  # It has the place of one of those, and keeps its task.
    for one in writing:
        assert await has_ended(one) or await status(one) == 200
    [served] = [one for one in server._connections if isinstance(one, Trial)]
    passed.stream.sock.send(HEALTH)
    assert served.has_input()
    await far()
    assert (await passed.response()).status == 200


# -- all are busy -------------------------------------------------------------------------------


async def test_who_comes_when_all_are_busy_gets_503_but_for_health_and_operators(
    far, busy, gate, backend, autojump_clock
):
    writing = await busy(ORDINARY)
    for _ in range(3 * MOST):
        [other] = await far()
        answer = await other.request("GET", "/v1/kv/a")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["connection"] == "close"
        assert answer.error == f"this node has {MOST} connections already: close some"
        assert answer.outcome is None
        [other] = await far()
        answer = await other.request("PUT", "/v1/kv/b", b"x")
        assert (answer.status, answer.outcome) == (503, "not applied")
        [check] = await far()
        answer = await check.request("GET", "/v1/health")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        [operator] = await far()
        # What an operator may do from another machine is not decided by the number of connections.
        assert (await operator.request("POST", "/v1/node/stop", b"")).status == 403
    gate.set()
    assert [(await one.response()).status for one in writing] == [200] * ORDINARY


async def test_this_machine_has_a_place_when_all_are_busy(busy, connect, gate, autojump_clock):
    await busy(ORDINARY)
    for _ in range(RESERVED):
        near = connect()
        assert await status(near, b"GET /read/missing HTTP/1.1\r\nHost: localhost\r\n\r\n") == 404
        assert await status(near) == 200
    gate.set()


async def test_strangers_on_trial_do_not_keep_this_machine_and_health_out(
    far, busy, connect, gate, autojump_clock
):
    await busy(ORDINARY)
    silent = await far(5)
    [check] = await far()
    assert await status(check) == 200
    near = connect()
    assert await status(near) == 200
    assert await has_ended(silent[0])
    gate.set()


async def test_a_trial_is_short(far, busy, server, gate, autojump_clock):
    await busy(ORDINARY)
    [silent, slow] = await far(2)
    await slow.send(GET[:10])
    await trio.sleep(TRIAL_S + 0.1)
    assert await has_ended(silent)
    assert await has_ended(slow)
    assert len(server._connections) == ORDINARY
    gate.set()


async def test_a_trial_ends_when_there_is_a_place_again(far, busy, gate, autojump_clock):
    [first, *_] = await busy(ORDINARY)
    [other] = await far()
    await first.stream.aclose()
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert await status(other) == 200
    assert await status(other) == 200
    await trio.sleep(2 * TRIAL_S)
    assert await status(other) == 200


async def test_when_the_reserve_is_busy_too_all_get_503_and_still_more_are_closed(
    busy, connect, gate, autojump_clock
):
    await busy(ORDINARY)
    for _ in range(RESERVED):
        await connect().send(PUT + b"x")
        await trio.testing.wait_all_tasks_blocked()
    refused = [connect() for _ in range(REFUSALS)]
    await trio.testing.wait_all_tasks_blocked()
    one_more = connect()
    for one in refused:
        answer = await one.response()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert await has_ended(one_more)
    gate.set()


# -- the room itself ----------------------------------------------------------------------------


class Someone:
    """A connection that counts how often it is asked."""

    asked = 0

    def __init__(self, since: float | None) -> None:
        self.since = since
        self.is_evicted = False

    def silence(self, _now):
        Someone.asked += 1
        return None if self.since is None else (0, self.since)

    def has_input(self) -> bool:
        return False

    def evict(self) -> None:
        self.is_evicted = True


async def test_a_new_connection_costs_the_same_however_many_are_idle() -> None:
    room = Room(768, 0)
    everyone = [Someone(float(number)) for number in range(752)]
    for one in everyone:
        room.enter(one)
    Someone.asked = 0
    for number in range(752):
        assert room.find_place(is_local=False) is Place.WHOLE
        assert everyone[number].is_evicted
        room.enter(Someone(1000.0 + number))
    # Each was looked at once to sort them all, and once more when it was to go.
    assert Someone.asked == 2 * 752


@pytest.mark.parametrize(("most", "reserved"), [(768, 16), (64, 16), (33, 8), (4, 1), (3, 0)])
async def test_of_few_places_a_quarter_is_reserved(most, reserved) -> None:
    room = Room(most, 0)
    for _ in range(most - reserved):
        assert room.find_place(is_local=False) is Place.WHOLE
        room.enter(Someone(None))
    assert room.find_place(is_local=False) is (Place.TRIAL if reserved else Place.NONE)
