"""How much one turn serves, who comes next, and what a wait that is given up leaves."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from hstore.node.net.change_counter import ChangeCounter
from hstore.node.net.turn import (
    BYTES_MAX,
    EVENTS_MAX,
    REQUESTS_MAX,
    SHARE,
    SLICE_BYTES,
    WAITED_MAX,
    Turn,
)
from tests.fakes.turns import counting_turns


@pytest.fixture
def turn():
    return Turn()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


def test_the_bounds_are_those_of_the_contract():
    assert (BYTES_MAX, REQUESTS_MAX, SLICE_BYTES) == (256 * 1024, 128, 64 * 1024)
    assert EVENTS_MAX + WAITED_MAX == REQUESTS_MAX


async def test_what_fits_into_a_turn_does_not_wait(turn):
    with counting_turns() as turns:
        called: list[int] = []
        for _ in range(WAITED_MAX - 1):
            turn.soon(lambda: called.append(turns.number))
        assert turn.take_share(1) == 1
        for _ in range(BYTES_MAX // SLICE_BYTES):
            await turn.slice()
        assert (len(called), turns.number) == (WAITED_MAX - 1, 0)


async def test_no_turn_serves_more_requests_than_its_bound_and_the_first_come_first(turn):
    called: list[int] = []

    def call(number: int) -> None:
        called.append(number)
        turns.add(1)

    with counting_turns() as turns:
        for number in range(10 * WAITED_MAX):
            turn.soon(partial(call, number))
        await settle()
    assert called == list(range(10 * WAITED_MAX))
    assert max(turns.done.values()) == WAITED_MAX
    assert len(turns.done) == 10


async def test_no_turn_makes_more_slices_than_its_bound_and_all_take_part_in_rotation(
    turn, nursery
):
    made: list[int] = []
    clients, slices = 20, 10

    async def client(number: int) -> None:
        for _ in range(slices):
            await turn.slice()
            made.append(number)
            turns.add(SLICE_BYTES)
            await trio.lowlevel.checkpoint()

    with counting_turns() as turns:
        for number in range(clients):
            nursery.start_soon(client, number)
        await settle()
    assert len(made) == clients * slices
    # What is let through at the end of one turn and at the beginning of the next may meet.
    assert max(turns.done.values()) <= BYTES_MAX + SLICE_BYTES
    for start in range(0, len(made), clients):
        # Nobody is more than one slice ahead of another.
        assert len(set(made[start : start + clients])) >= clients - BYTES_MAX // SLICE_BYTES


async def test_a_flood_of_small_requests_leaves_a_slice_to_others_in_every_turn(turn):
    is_over = False
    small: list[int] = []

    def again() -> None:
        turn.bytes_left -= BYTES_MAX
        small.append(turns.number)
        if not is_over:
            turn.later(again)

    with counting_turns() as turns:
        for _ in range(5 * WAITED_MAX):
            turn.later(again)
        began = turns.number
        for _ in range(20):
            await turn.slice()
            await trio.lowlevel.checkpoint()
        assert turns.number - began <= 3 * 20
        assert len(small) >= 20  # And the slices leave a place to the small ones.
        is_over = True
        await settle()


async def test_large_answers_leave_place_to_small_requests_in_every_turn(turn):
    async def client() -> None:
        while True:
            await turn.slice(4 * BYTES_MAX)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as large:
        for _ in range(100):
            large.start_soon(client)
        with counting_turns() as turns:
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            began = turns.number
            for _ in range(20):
                assert turn.take_share(1) or await turn.wait_share(1)
            assert turns.number - began <= 3 * 20
        large.cancel_scope.cancel()


async def test_a_large_piece_of_work_gets_a_turn_of_its_own(turn, nursery):
    async def client() -> None:
        await turn.slice(1024 * 1024)
        turns.add(1)

    with counting_turns() as turns:
        for _ in range(10):
            nursery.start_soon(client)
        await settle()
    assert set(turns.done.values()) == {1}


async def test_thousands_that_are_woken_together_are_woken_in_turns(turn, nursery):
    counter = ChangeCounter()
    counter.later = turn.in_turns
    count = 10 * WAITED_MAX

    async def wait() -> None:
        await counter.wait(0)
        turns.add(1)

    for _ in range(count):
        nursery.start_soon(wait)
    await settle()
    with counting_turns() as turns:
        counter.add()
        counter.add()
        await settle()
    assert sum(turns.done.values()) == count
    assert max(turns.done.values()) <= WAITED_MAX


async def test_a_wait_that_is_cancelled_takes_nothing(turn, nursery):
    served: list[str] = []

    async def wait(name: str, scope: trio.CancelScope) -> None:
        with scope:
            await turn.slice()
            served.append(name)

    turn.bytes_left = 0
    given_up, kept = trio.CancelScope(), trio.CancelScope()
    nursery.start_soon(wait, "given up", given_up)
    await trio.lowlevel.checkpoint()
    given_up.cancel()
    nursery.start_soon(wait, "kept", kept)
    await settle()
    assert served == ["kept"]
    assert turn.bytes_left >= BYTES_MAX - SLICE_BYTES


async def test_a_share_is_waited_for_in_the_order_of_coming(turn, nursery):
    served: list[int] = []

    async def wait(number: int) -> None:
        assert await turn.wait_share(SHARE) == SHARE
        served.append(number)
        turns.add(SHARE)

    with counting_turns() as turns:
        for number in range(5 * WAITED_MAX // SHARE):
            turn.later(lambda number=number: nursery.start_soon(wait, number))
        await settle()
    assert len(served) == 5 * WAITED_MAX // SHARE
    assert max(turns.done.values()) <= WAITED_MAX


async def test_received_bytes_beyond_the_bound_wait_for_the_next_turn(turn, nursery):
    async def client() -> None:
        await turn.receive(64 * 1024)
        turns.add(64 * 1024)

    with counting_turns() as turns:
        for _ in range(40):
            nursery.start_soon(client)
        await settle()
    assert sum(turns.done.values()) == 40 * 64 * 1024
    assert max(turns.done.values()) <= BYTES_MAX
