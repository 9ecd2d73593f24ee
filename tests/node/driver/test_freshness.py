"""How a node learns that its copy is fresh, for reads that wait before the leader was asked."""

from __future__ import annotations

import trio

from tests.node.memory_cluster import Cluster, Member, running


async def quiet_follower(cluster: Cluster) -> Member:
    """Return a follower that has just asked for a read index, as each does once a second."""
    follower = cluster.followers[0]
    asked = follower.node.replica.intake.reads_asked
    await cluster.until(lambda: follower.node.replica.intake.reads_asked > asked)
    await trio.sleep(0.05)
    return follower


async def test_it_is_fresh_with_the_next_tick_once_somebody_wants_that(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(2)
        keys = (await quiet_follower(cluster)).node.keys
        tick_s = cluster.followers[0].node.replica.tick_seconds()
        moment = trio.current_time()
        await trio.sleep(2 * tick_s)
        assert not keys.is_fresh_since(moment), "nobody has wanted it"

        moment = trio.current_time()
        keys.freshen()
        assert not keys.is_fresh_since(moment)
        await trio.sleep(2 * tick_s)
        assert keys.is_fresh_since(moment)
        assert not keys.is_fresh_since(trio.current_time())


async def test_any_read_makes_it_fresh_and_the_tick_need_not_ask(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(2)
        follower = await quiet_follower(cluster)
        keys, replica = follower.node.keys, follower.node.replica
        moment = trio.current_time()
        keys.freshen()
        asked = replica.intake.reads_asked
        await trio.sleep(0.001)
        await keys.read_barrier(trio.current_time() + 5)
        assert keys.is_fresh_since(moment)
        await trio.sleep(2 * replica.tick_seconds())
        assert replica.intake.reads_asked == asked + 1


async def test_cut_off_from_the_leader_it_is_not_fresh(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(2)
        follower = await quiet_follower(cluster)
        cluster.silence(follower.node.replica.facts.id)
        moment = trio.current_time()
        follower.node.keys.freshen()
        await trio.sleep(5)
        assert not follower.node.keys.is_fresh_since(moment)
