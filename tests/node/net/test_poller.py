"""Many sockets under one task: who is called, how often, and what comes after a batch."""

from __future__ import annotations

import socket

import pytest
import trio

from hstore.node.net import poller as module
from hstore.node.net.lag import SECONDS_MAX, Lag
from hstore.node.net.poller import Poller, can_poll
from tests.fakes.polling import poll_in

pytestmark = pytest.mark.skipif(not can_poll(), reason="this system has no epoll")


@pytest.fixture
def poller(nursery):
    return poll_in(nursery)


@pytest.fixture
def pairs():
    made = [socket.socketpair() for _ in range(3)]
    for pair in made:
        for sock in pair:
            sock.setblocking(False)
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


async def settle() -> None:
    for _ in range(5):
        await trio.testing.wait_all_tasks_blocked()


async def test_what_has_come_on_many_sockets_is_one_batch(poller, pairs):
    told: list[object] = []
    poller.before_batch = lambda: told.append("before")
    poller.after_batch = lambda: told.append("after")
    for number, (near, far) in enumerate(pairs):
        poller.watch(
            near.fileno(), lambda number=number, near=near: told.append((number, near.recv(9)))
        )
        far.send(b"x")
    await settle()
    assert told[0] == "before"
    assert told[-1] == "after"
    assert sorted(told[1:-1], key=str) == [(0, b"x"), (1, b"x"), (2, b"x")]


async def test_what_is_left_is_told_once_and_again_only_when_asked(poller, pairs):
    near, far = pairs[0]
    read: list[bytes] = []

    def ready() -> None:
        read.append(near.recv(1))
        if len(read) == 1:
            poller.again(ready)

    poller.watch(near.fileno(), ready)
    far.send(b"abc")
    await settle()
    assert read == [b"a", b"b"]


async def test_an_end_that_comes_with_the_last_bytes_is_told_as_well(poller, pairs):
    """Edge-triggered, both are one event: who reads less than there is room for would miss it."""
    near, far = pairs[0]
    read: list[bytes] = []
    poller.watch(near.fileno(), lambda: read.append(near.recv(99)))
    far.send(b"last")
    far.shutdown(socket.SHUT_WR)
    await settle()
    assert read == [b"last", b""]


async def test_who_is_forgotten_is_not_called(poller, pairs):
    near, far = pairs[0]
    poller.watch(near.fileno(), pytest.fail)
    poller.forget(near.fileno())
    poller.forget(near.fileno())
    far.send(b"x")
    await settle()


async def test_others_have_their_go_however_much_comes(poller, pairs, monkeypatch):
    monkeypatch.setattr(module, "_BATCHES_S", 1e9)
    near, far = pairs[0]
    calls = 0

    def ready() -> None:
        nonlocal calls
        calls += 1
        near.recv(9)
        far.send(b"x")

    poller.watch(near.fileno(), ready)
    far.send(b"x")
    for _ in range(20):
        await trio.lowlevel.checkpoint()
    assert 1 <= calls <= 20 * module._BATCHES_MAX


async def test_what_is_called_ends_the_poller_when_it_raises(pairs):
    poller = Poller()
    near, far = pairs[0]

    def fail() -> None:
        raise ZeroDivisionError

    poller.watch(near.fileno(), fail)
    far.send(b"x")
    with pytest.raises(ZeroDivisionError):
        await poller.run()
    poller.close()
    poller.close()


async def test_the_lag_is_the_longest_wait_of_the_seconds_asked_for(autojump_clock):
    lag = Lag()
    assert lag.longest_ms(60) == 0
    lag.note(0.5)
    lag.note(0.2)
    await trio.sleep(10)
    lag.note(0.1)
    assert lag.longest_ms(5) == 100
    assert lag.longest_ms(60) == 500
    await trio.sleep(SECONDS_MAX + 1)
    assert lag.longest_ms(60) == 0
