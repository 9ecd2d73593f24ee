"""What a leader decides by itself is written in its term or never."""

from __future__ import annotations

from typing import Any

import trio

from hstore.node.driver.decisions import submit_decision
from hstore.node.driver.requests import NotLeading
from hstore.node.model.checks import SERF_HEALTH, SERF_HEALTH_NAME, Check, SetCheck
from tests.node.driver.test_leadership import lose_the_lead
from tests.node.memory_cluster import running

DECISION = SetCheck(Check(1, SERF_HEALTH, SERF_HEALTH_NAME, "critical", "decided by a leader"))


async def test_a_decision_is_written_in_the_term_it_is_of(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(1.01)
        leader = cluster.leader
        told: list[Any] = []
        submit_decision(leader.node.replica, DECISION, leader.core.term, told.append)
        await cluster.until(lambda: told)
        assert told[0].ok


async def test_a_decision_of_who_leads_no_more_does_not_wait_for_its_next_term(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await trio.sleep(1.01)
        old = cluster.leader
        told: list[Any] = []
        term, replica = old.core.term, old.node.replica
        lose_the_lead(old)
        await cluster.until(lambda: not old.is_leader)
        submit_decision(replica, DECISION, term, told.append)
        assert [type(answer) for answer in told] == [NotLeading]
        assert not replica.waiting.queued


async def test_nor_is_a_decision_of_an_earlier_term_of_the_same_leader_written(
    autojump_clock,
) -> None:
    async with running(1) as cluster:
        await trio.sleep(1.01)
        leader = cluster.leader
        told: list[Any] = []
        submit_decision(leader.node.replica, DECISION, leader.core.term - 1, told.append)
        assert [type(answer) for answer in told] == [NotLeading]
