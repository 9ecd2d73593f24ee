"""The end of a whole cluster: which node stops when, and that all of it comes up again."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.node.memory_cluster import Cluster, Member, running

STOP_S = 5.0
"""The most that the last nodes wait for the others."""


async def note_ends(cluster: Cluster, ended: list[int], nursery: trio.Nursery) -> None:
    """Have the ids of the nodes appended in the order in which they end."""

    async def note(member: Member) -> None:
        await member.ended.wait()
        ended.append(member.id)

    for member in cluster.up:
        nursery.start_soon(note, member)
    await trio.testing.wait_all_tasks_blocked()


async def end_all(cluster: Cluster, via: int, within_s: float = 3.0) -> list[int]:
    """Ask a node to end the cluster, and return the ids in the order in which they have ended."""
    ended: list[int] = []
    with trio.fail_after(within_s):
        async with trio.open_nursery() as nursery:
            await note_ends(cluster, ended, nursery)
            cluster[via].node.administration.stop_all()
    return ended


async def start_again(cluster: Cluster, *ids: int) -> None:
    for node in ids:
        await cluster[node].storage.close()
        await cluster[node].start()
    await cluster.until(cluster.agrees)


@pytest.mark.parametrize("via", [1, 2, 3])
async def test_followers_stop_first_the_leader_last_whichever_node_is_asked(
    autojump_clock, via
) -> None:
    async with running(3) as cluster:
        await cluster.write(2, "k", "v")
        assert cluster[1].is_leader
        ended = await end_all(cluster, via)
        assert ended[-1] == 1
        if via != 1:
            assert ended[-2] == via
        assert all(m.node.process.stop_reason for m in cluster.members.values())


async def test_all_keep_their_votes_so_any_majority_goes_on_with_everything(autojump_clock) -> None:
    async with running(3) as cluster:
        await cluster.write(1, "k", "v")
        await end_all(cluster, 1)
        # Without the node that stopped last.
        await start_again(cluster, 2, 3)
        assert await cluster.read(2, "k") == "v"
        assert set(cluster.leader.core.config.voters) == {1, 2, 3}
        await start_again(cluster, 1)
        await cluster.until(lambda: cluster.leader.health_of(1) == "alive")
        await cluster.write(1, "k", "w")
        assert not any(m.stopped for m in cluster[1].node.replica.facts.members.values())


async def test_a_cluster_of_one_just_stops(autojump_clock) -> None:
    async with running(1) as cluster:
        assert await end_all(cluster, 1, 1.0) == [1]


async def test_learners_stop_too(autojump_clock) -> None:
    async with running(2) as cluster:
        learner = await cluster.join(learner=True)
        ended = await end_all(cluster, learner.id)
        assert sorted(ended) == [1, 2, 3]
        assert ended[-1] == 1


async def test_a_member_without_a_link_to_the_node_that_is_asked_hears_of_it(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster.silence(2, of=(3,))
        ended = await end_all(cluster, 2, STOP_S + 3)
        assert sorted(ended) == [1, 2, 3]


async def test_nobody_waits_for_a_member_that_is_down(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster.until(lambda: cluster[1].health_of(3) == "failed")
        assert await end_all(cluster, 1, 1.5) == [2, 1]


async def test_a_member_that_hangs_holds_the_others_up_for_a_bounded_time(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster.silence(3)
        cluster[1].node.administration.stop_all()
        with trio.fail_after(STOP_S + 2):
            await cluster[2].ended.wait()
            await cluster[1].ended.wait()
        assert cluster[3].is_up


async def test_without_a_leader_all_that_can_be_reached_stop(autojump_clock) -> None:
    async with running(5) as cluster:
        for node in (1, 4, 5):
            cluster[node].crash()
        await cluster.until(lambda: not cluster[2].node.status.in_contact())
        assert sorted(await end_all(cluster, 2, STOP_S + 1)) == [2, 3]


async def test_two_orders_are_one(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[2].node.administration.stop_all()
        assert sorted(await end_all(cluster, 3, STOP_S + 2)) == [1, 2, 3]
