"""What clients have not taken: how it is counted, who waits for room, and who is cut off for it."""

from __future__ import annotations

import pytest
import trio

from hstore.node.api.http.unsent import (
    PATIENCE_S,
    UNSENT_BYTES_MAX,
    VALUES_BYTES_MAX,
    Holder,
    Unsent,
)

MIB = 1024 * 1024


class Client(Holder):
    """A client that does not read, and knows whether it was cut off for it."""

    def __init__(self) -> None:
        super().__init__(self._end, lambda: "192.0.2.1")
        self.was_cut_off = False

    def _end(self) -> None:
        self.was_cut_off = True


@pytest.fixture
def unsent():
    return Unsent(10_000, 5_000)


def test_the_bound_is_within_that_of_the_contract():
    assert VALUES_BYTES_MAX < UNSENT_BYTES_MAX <= 256 * MIB


async def test_what_is_sent_is_not_counted_any_more(unsent, autojump_clock):
    client = Client()
    unsent.take(client, 7_000)
    unsent.wait_begins(client)
    assert (unsent.held, unsent.has_room) == (7_000, False)
    unsent.wait_ends(client)
    unsent.give_back(client, 7_000)
    assert (unsent.held, unsent.has_room, client.holds) == (0, True, False)


async def test_a_value_that_many_send_is_counted_once(unsent, autojump_clock):
    value, other = b"v" * 4_096, b"w" * 4_096
    first, second, third = Client(), Client(), Client()
    with unsent.holding(first, [value]), unsent.holding(second, [value, b"xy"]):
        assert unsent.held == 4_096 + 2
        with unsent.holding(third, [other], beside=10):
            assert unsent.held == 2 * 4_096 + 12
        assert unsent.held == 4_096 + 2
    assert unsent.held == 0


async def test_beyond_the_bound_the_client_that_was_waited_for_longest_is_cut_off(
    unsent, autojump_clock
):
    slow, slower, reading = Client(), Client(), Client()
    for client in (reading, slower, slow):
        unsent.take(client, 3_300)
        unsent.wait_begins(client)
        await trio.sleep(0.1)
    unsent.wait_ends(reading)
    unsent.wait_begins(reading)  # It has taken something.
    last = Client()
    unsent.take(last, 3_300)
    unsent.wait_begins(last)
    assert [c.was_cut_off for c in (slow, slower, reading, last)] == [False, True, False, False]
    assert (unsent.held, unsent.cut_off) == (9_900, 1)
    # What its task gives back while it ends was taken off already.
    unsent.wait_ends(slower)
    unsent.give_back(slower, 3_300)
    assert unsent.held == 9_900


async def test_who_waits_for_its_turn_is_not_cut_off(unsent, autojump_clock):
    waits_for_its_turn, waits_for_its_client = Client(), Client()
    unsent.take(waits_for_its_turn, 6_000)
    await trio.sleep(60)
    unsent.take(waits_for_its_client, 6_000)
    unsent.wait_begins(waits_for_its_client)
    assert (waits_for_its_turn.was_cut_off, waits_for_its_client.was_cut_off) == (False, True)


async def test_a_client_that_was_cut_off_counts_for_nothing(unsent, autojump_clock):
    client = Client()
    unsent.take(client, 10_001)
    unsent.wait_begins(client)
    assert (client.was_cut_off, unsent.held) == (True, 0)
    unsent.take(client, 5_000)
    with unsent.holding(client, [b"v" * 8_192]):
        assert unsent.held == 0
    assert unsent.held == 0


async def test_room_for_a_value_is_waited_for_until_a_slow_client_has_had_its_time(
    unsent, autojump_clock
):
    slow = Client()
    with unsent.holding(slow, [b"v" * 8_192]):
        unsent.wait_begins(slow)
        await trio.sleep(PATIENCE_S - 1)
        before = trio.current_time()
        await unsent.room()
        assert trio.current_time() - before == pytest.approx(1, abs=0.01)
        assert slow.was_cut_off


async def test_room_is_there_as_soon_as_somebody_makes_some(unsent, nursery, autojump_clock):
    reading = Client()
    unsent.take(reading, 6_000)

    async def read() -> None:
        unsent.wait_begins(reading)
        await trio.sleep(PATIENCE_S / 2)
        unsent.wait_ends(reading)
        unsent.give_back(reading, 6_000)

    nursery.start_soon(read)
    await trio.lowlevel.checkpoint()
    before = trio.current_time()
    await unsent.room()
    assert trio.current_time() - before == pytest.approx(PATIENCE_S / 2, abs=0.01)
    assert not reading.was_cut_off


async def test_room_is_given_in_the_order_of_asking_to_as_many_as_there_is(
    unsent, nursery, autojump_clock
):
    order: list[int] = []
    holders = [Client() for _ in range(4)]

    async def ask(number: int) -> None:
        await unsent.room()
        unsent.take(holders[number], 3_000)
        order.append(number)

    for number in range(4):
        nursery.start_soon(ask, number)
        await trio.testing.wait_all_tasks_blocked()
    assert order == [0, 1]
    unsent.give_back(holders[0], 3_000)
    await trio.testing.wait_all_tasks_blocked()
    assert order == [0, 1, 2]
    for number in (1, 2):
        unsent.give_back(holders[number], 3_000)
    await trio.testing.wait_all_tasks_blocked()
    assert order == [0, 1, 2, 3]
