"""Who leads: a leader that died is replaced soon, one that lives is left alone."""

from __future__ import annotations

import pytest
import trio

from hstore.node.raft.roles import Role
from tests.node.memory_cluster import Cluster, running


async def has_new_leader(cluster: Cluster, old: int) -> float:
    """Wait for it, and return how long that took in virtual seconds."""
    rest = [m for m in cluster.up if m.id != old]
    return await cluster.until(
        lambda: any(m.is_leader for m in rest) and len({m.core.leader for m in rest}) == 1
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [3, 5])
async def test_a_crashed_leader_is_replaced_in_a_fraction_of_a_second(
    count: int, seed: int, autojump_clock
) -> None:
    async with running(count, seed=seed) as cluster:
        await cluster.write(2, "before", "1")
        cluster[1].crash()

        assert await has_new_leader(cluster, 1) < 0.5
        await cluster.write(2, "after", "2", within_s=0.5)
        for member in cluster.up:
            assert await cluster.read(member.id, "before") == "1"
            assert await cluster.read(member.id, "after") == "2"


async def test_a_leader_whose_port_refuses_everybody_is_replaced_in_a_fraction_of_a_second(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster.network.refuse(2, 1)
        cluster.network.refuse(3, 1)
        cluster.network.refuse(1, 2)
        cluster.network.refuse(1, 3)

        assert await has_new_leader(cluster, 1) < 0.5


@pytest.mark.parametrize("seed", range(3))
async def test_a_silent_leader_is_replaced_after_the_election_timeout_and_not_before(
    seed: int, autojump_clock
) -> None:
    """Nothing refuses and nothing ends: only time tells."""
    async with running(3, seed=seed) as cluster:
        cluster.silence(1)

        took = await has_new_leader(cluster, 1)

        assert 0.8 <= took < 2.5
        await cluster.until(lambda: cluster[1].core.role is not Role.LEADER, within_s=2.5)


async def test_a_reset_of_every_connection_disturbs_nobody(autojump_clock) -> None:
    """What was under way at any node goes on: only its connections are new."""
    async with running(3) as cluster:
        term = cluster.leader.core.term
        for member in cluster.up:
            member.disk.flush_delay_s = 0.02
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(cluster.write, 1 + number % 3, f"k{number}", "v", 1.0)
                await trio.sleep(0.01)
                cluster.network.reset(1, 2, 3)
                await trio.sleep(0.2)

        assert cluster.leader.id == 1
        assert {m.core.term for m in cluster.up} == {term}
        for number in range(30):
            assert await cluster.read(2, f"k{number}") == "v"


@pytest.mark.parametrize("how", ["refused", "refused both ways", "silent"])
async def test_a_leader_that_one_follower_cannot_reach_is_not_deposed(
    how: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        term = cluster.leader.core.term
        if how == "silent":
            cluster.silence(3, of=(1,))
        else:
            cluster.network.refuse(3, 1)
            if how == "refused both ways":
                cluster.network.refuse(1, 3)

        for number in range(50):
            await cluster.write(2, f"k{number}", "v", within_s=0.1)
            await trio.sleep(0.1)
        assert cluster.leader.id == 1
        assert cluster[1].core.term == cluster[2].core.term == term

        cluster.network.heal()
        await cluster.until(cluster.agrees)
        assert await cluster.read(3, "k49") == "v"
        assert {m.core.term for m in cluster.up} == {term}


async def test_a_node_that_was_cut_off_comes_back_without_deposing_the_leader(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        term = cluster.leader.core.term
        cluster.silence(3)
        await trio.sleep(30)
        cluster.network.heal()
        await cluster.write(3, "key", "value")

        assert {m.core.term for m in cluster.up} == {term}
        assert cluster.leader.id == 1


async def test_a_leader_without_a_majority_stops_leading_and_answers_no_read(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster.silence(1)
        await cluster.until(lambda: not cluster[1].is_leader, within_s=2.5)
        assert cluster[1].node.process.unhealthy() is not None

        await cluster.until(lambda: any(m.is_leader for m in cluster.up))
        await cluster.write(2, "key", "new")
        cluster.network.heal()
        assert await cluster.read(1, "key") == "new"


async def test_a_deposed_leader_serves_no_read_of_its_own_while_it_does_not_know(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await cluster.write(2, "key", "old")
        cluster.silence(1)
        read_there = []

        async def read() -> None:
            read_there.append(await cluster.read(1, "key", within_s=60))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await has_new_leader(cluster, 1)
            await cluster.write(2, "key", "new")
            await trio.sleep(5)
            assert read_there == []
            cluster.network.heal()
        assert read_there == ["new"]


async def test_a_cluster_of_one_leads_again_at_once(autojump_clock) -> None:
    async with running(1) as cluster:
        await cluster.write(1, "key", "value")
        cluster[1].crash()
        await cluster[1].ended.wait()
        await cluster[1].start()

        assert await cluster.until(lambda: cluster[1].is_leader) < 0.3
        assert await cluster.read(1, "key") == "value"


@pytest.mark.parametrize("seed", range(3))
async def test_all_nodes_at_once_come_back_with_everything(seed: int, autojump_clock) -> None:
    async with running(3, seed=seed) as cluster:
        for number in range(10):
            await cluster.write(1 + number % 3, f"k{number}", str(number))
        for member in cluster.up:
            member.crash()
        for member in cluster.members.values():
            await member.ended.wait()
            await member.start()

        assert await cluster.until(cluster.agrees) < 2.5
        for number in range(10):
            assert await cluster.read(1, f"k{number}") == str(number)
