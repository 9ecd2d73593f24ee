"""The cluster's time on one node: as fine as a millisecond, never falling, never ahead of its ticks."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from hstore.node.driver.cluster_clock import ClusterClock
from hstore.node.model.commands import ClusterSettings

TICK_S = 0.2


@pytest.fixture
def state() -> Any:
    return SimpleNamespace(time_ms=5000, settings=ClusterSettings(heartbeat_ms=200))


@pytest.fixture
async def clock(state) -> ClusterClock:
    return ClusterClock(cast("Any", state))


async def test_it_goes_on_between_ticks(autojump_clock, clock) -> None:
    assert clock.ms == 5000
    await trio.sleep(0.0501)
    assert clock.ms == 5050
    await trio.sleep(TICK_S - 0.0501)
    clock.advance(TICK_S)
    assert clock.ms == 5200


async def test_a_pause_counts_one_tick(autojump_clock, clock) -> None:
    await trio.sleep(3600)
    assert clock.ms == 5200
    clock.advance(TICK_S)
    assert clock.ms == 5200
    await trio.sleep(0.0101)
    assert clock.ms == 5210


async def test_stamps_that_it_gave_itself_do_not_make_it_fast(autojump_clock, clock, state) -> None:
    for _ in range(100):
        await trio.sleep(TICK_S * 0.9)
        state.time_ms = clock.ms  # A command was stamped, and has taken effect.
        await trio.sleep(TICK_S * 0.1)
        clock.advance(TICK_S)
    assert clock.ms == pytest.approx(5000 + 100 * 200, abs=2)


async def test_it_goes_on_from_what_the_log_has_seen(autojump_clock, clock, state) -> None:
    state.time_ms = 60_000
    assert clock.ms == 60_000
    clock.advance(TICK_S)
    await trio.sleep(0.0301)
    assert clock.ms == 60_030


async def test_it_never_falls_whatever_the_length_of_ticks_is(autojump_clock, clock, state) -> None:
    rng = Random(1)
    last = clock.ms
    for _ in range(2000):
        await trio.sleep(rng.choice((0.001, 0.05, 0.2, 1.0)))
        state.settings = ClusterSettings(heartbeat_ms=rng.choice((10, 200, 1000)))
        if rng.random() < 0.4:
            clock.advance(rng.choice((0.01, 0.1, 0.2)))
        now = clock.ms
        assert now >= last
        last = now


class Roles:
    """Whether the node leads, as a test says."""

    leads = False


async def test_a_new_leader_counts_from_the_last_stamp_and_not_from_its_own_count(
    autojump_clock, state
) -> None:
    clock = ClusterClock(cast("Any", state), lambda: Roles.leads)
    Roles.leads = False
    for _ in range(600):  # Two minutes, of which the leader has missed one.
        await trio.sleep(TICK_S)
        clock.advance(TICK_S)
    state.time_ms = 65_000  # Here a session has ended: a delay of 15 s is over at 80,000.
    for _ in range(25):
        await trio.sleep(TICK_S)
        clock.advance(TICK_S)
    Roles.leads = True
    assert 65_000 + 4_800 <= clock.ms <= 65_000 + 5_000


async def test_a_new_leader_stamps_no_later_time_before_it_knows_the_last_stamp(
    autojump_clock, state
) -> None:
    clock = ClusterClock(cast("Any", state), lambda: Roles.leads)
    Roles.leads = False
    for _ in range(600):
        await trio.sleep(TICK_S)
        clock.advance(TICK_S)
    assert clock.ms == 5000
    state.time_ms = 65_000  # Applied between two ticks, and with it the node leads.
    await trio.sleep(TICK_S / 2)
    Roles.leads = True
    assert clock.ms == 65_000
    await trio.sleep(TICK_S / 2)
    clock.advance(TICK_S)
    assert clock.ms == pytest.approx(65_100, abs=1)


async def test_who_led_counts_on_when_another_leads(autojump_clock, state) -> None:
    """Its own stamps in the log are behind what it has counted since."""
    clock = ClusterClock(cast("Any", state), lambda: Roles.leads)
    Roles.leads = True
    clock.advance(0)
    state.time_ms = clock.ms + 100  # A command that it has stamped.
    for leads in (True, False, True):
        Roles.leads = leads
        for _ in range(50):
            await trio.sleep(TICK_S)
            clock.advance(TICK_S)
    assert clock.ms == pytest.approx(5_100 + 3 * 10_000, abs=250)
