"""The alarms of clocks: one that was set, and members whose clocks differ."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio
from structlog.testing import capture_logs

from hstore.node.cluster.clocks import Clocks, seconds_since_boot
from tests.node.memory_cluster import Member, running


@pytest.fixture
def logged() -> Iterator[list[structlog.typing.EventDict]]:
    with capture_logs() as lines:
        yield lines


def alarms_of(member: Member) -> list[str]:
    return [one.text for one in member.node.administration.timeline(0) if one.kind == "alarm"]


def set_clock(member: Member, by_s: float) -> None:
    member.node.status.clocks.wall = lambda: time.time() + by_s


# --- set ------------------------------------------------------------------------------------------


async def test_a_clock_that_is_set_is_an_alarm_for_ten_minutes(autojump_clock, logged):
    async with running(1) as cluster:
        node = cluster[1].node
        await trio.sleep(2)
        assert node.alarms.holding() == []
        set_clock(cluster[1], -3.0)
        await trio.sleep(1)
        assert node.alarms.holding() == ["clock_jump"]
        (line,) = [line for line in logged if line["event"] == "clock_jump"]
        assert (line["log_level"], line["member"]) == ("error", 1)
        assert line["why"] == "the clock of this machine was set by -3.0 s"
        assert alarms_of(cluster[1]) == [f"clock_jump: {line['why']}"]
        await trio.sleep(590)
        assert node.alarms.holding() == ["clock_jump"]
        # Set back: that is another one, with a line of its own.
        set_clock(cluster[1], 0.0)
        await trio.sleep(15)
        assert node.alarms.holding() == ["clock_jump"]
        assert len(alarms_of(cluster[1])) == 2
        await trio.sleep(590)
        assert node.alarms.holding() == []


class Machine:
    """The clocks of one machine, and what was said about them."""

    def __init__(self) -> None:
        self.wall = self.steady = 1000.0
        self.halted_s = 0.0
        self.said: list[str] = []
        facts: Any = SimpleNamespace(id=1, members={1: None, 2: None})
        self.clocks = Clocks(facts)
        self.clocks.wall, self.clocks.steady = self.read_wall, lambda: self.steady
        self.clocks.sound = lambda kind, _about, **facts: self.said.append(f"{kind} {facts['why']}")

    def read_wall(self) -> float:
        read = self.wall
        self.passes(self.halted_s)
        self.halted_s = 0.0
        return read

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def test_slewing_and_suspending_are_no_jump():
    machine = Machine()
    machine.clocks.look()
    for _ in range(100):
        machine.passes(10.0)
        machine.wall += 0.5  # 100 times as fast as the kernel slews.
        machine.clocks.look()
    machine.passes(3600.0)  # The time since boot goes on while a machine is suspended.
    machine.clocks.look()
    assert machine.said == []


@pytest.mark.parametrize("by_s", [1.5, -1.5, 86_400.0])
def test_a_step_is_a_jump_once(by_s: float):
    machine = Machine()
    machine.clocks.look()
    machine.wall += by_s
    for _ in range(3):
        machine.passes(0.2)
        machine.clocks.look()
    assert machine.said == [f"clock_jump the clock of this machine was set by {by_s:+.1f} s"]


def test_a_process_that_is_halted_between_two_readings_sees_no_jump():
    machine = Machine()
    machine.clocks.look()
    machine.halted_s = 30.0
    machine.clocks.look()
    machine.passes(0.2)
    machine.clocks.look()
    assert machine.said == []


def test_the_real_clocks():
    assert abs(seconds_since_boot() - seconds_since_boot()) < 1.0
    clocks = Machine().clocks
    clocks.wall = time.time
    assert abs(clocks.now_ms() - time.time() * 1000) < 1000


# --- differ ---------------------------------------------------------------------------------------


async def test_a_member_whose_clock_differs_is_an_alarm_there_and_at_the_leader(
    autojump_clock, logged
):
    async with running(3) as cluster:
        nodes = [cluster[n].node for n in (1, 2, 3)]
        await trio.sleep(10)
        set_clock(cluster[2], 4.0)
        await trio.sleep(3)
        assert "clock_skew" not in nodes[0].alarms.holding()
        await trio.sleep(8)
        assert "clock_skew" in nodes[0].alarms.holding()
        assert "clock_skew" in nodes[1].alarms.holding()
        assert nodes[2].alarms.holding() == []
        lines = [line for line in logged if line["event"] == "clock_skew"]
        assert sorted((line["member"], line["why"]) for line in lines) == [
            (1, "its clock is 4.0 s behind this node's"),
            (2, "its clock is 4.0 s ahead of this node's"),
        ]
        assert [text for text in alarms_of(cluster[1]) if "clock_skew" in text] == [
            "clock_skew: its clock is 4.0 s ahead of this node's"
        ]
        set_clock(cluster[2], 0.0)
        await trio.sleep(65)
        assert nodes[0].alarms.holding() == []
        assert "clock_skew" not in nodes[1].alarms.holding()


async def test_frames_that_waited_for_a_halted_process_are_no_skew(autojump_clock):
    machine = Machine()
    for age in range(30, 0, -1):
        machine.clocks.heard(2, int((machine.wall - age) * 1000))
    await trio.sleep(6)
    machine.clocks.heard(2, int(machine.wall * 1000))
    # And again, later: what was before does not count.
    machine.clocks.heard(2, int((machine.wall - 5) * 1000))
    assert machine.said == []


async def test_what_counts_as_skew(autojump_clock):
    machine = Machine()
    for _ in range(20):
        await trio.sleep(1)
        machine.clocks.heard(2, 0)  # An older version does not say.
        machine.clocks.heard(2, int(machine.wall * 1000) + 900)
        machine.clocks.heard(3, 1)  # It is no member.
    assert machine.said == []
    for _ in range(3):
        assert machine.said == []
        await trio.sleep(3)
        machine.clocks.heard(2, int(machine.wall * 1000) - 1100)
    assert machine.said == ["clock_skew its clock is 1.1 s behind this node's"]
