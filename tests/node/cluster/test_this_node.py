"""What a node says of itself: its contact with the leader."""

from __future__ import annotations

import trio

from tests.node.memory_cluster import running


async def test_last_contact_is_0_at_the_leader_and_grows_on_a_node_that_is_cut_off(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        leader, follower = cluster.leader, cluster.followers[0]
        await trio.sleep(3.0)
        assert leader.node.process.knows_leader
        assert leader.node.process.last_contact_ms == 0
        assert follower.node.process.knows_leader
        assert 0 <= follower.node.process.last_contact_ms <= 1500  # It asks once a second.

        cluster.silence(follower.id)
        await trio.sleep(10.0)
        assert not follower.node.process.knows_leader
        assert follower.node.process.last_contact_ms >= 9000


async def test_a_leader_without_its_majority_does_not_say_that_its_copy_is_fresh(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        leader = cluster.leader
        await trio.sleep(3.0)
        cluster.silence(leader.id)
        await trio.sleep(10.0)
        assert not leader.node.process.knows_leader
        assert leader.node.process.last_contact_ms >= 9000
