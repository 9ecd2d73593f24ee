"""`start --expect N`: a new cluster refuses reads and writes until it has N voters, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from hstore.node.errors import NoLeader
from hstore.node.model.commands import ClusterSettings, Put
from tests.node.cluster.test_configure import deadline, names_at
from tests.node.memory_cluster import Cluster, Member


@asynccontextmanager
async def waiting_for(expect: int) -> AsyncIterator[Cluster]:
    """A cluster of one that waits for `expect` voters."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(nursery, 1, ClusterSettings())
        first = cluster.add()
        first.settings = msgspec.structs.replace(first.settings, expect=expect)
        first.found()
        await first.start()
        await cluster.until(lambda: first.health_of(1) == "alive")
        yield cluster
        assert [member.error for member in cluster.members.values() if member.error] == []
        nursery.cancel_scope.cancel()


def is_shown_to_wait(member: Member, count: int) -> bool:
    info = member.node.administration.cluster()
    view = member.node.status.view()
    no_leader = info.leader is None and all(node.type != "leader" for node in info.nodes)
    return no_leader and info.waiting_for == count and view is not None and view.leader is None


async def refuses_clients(member: Member) -> str:
    began = trio.current_time()
    with pytest.raises(NoLeader) as writing:
        await member.node.keys.write(Put(b"k", b"v"), deadline())
    with pytest.raises(NoLeader) as reading:
        await member.node.keys.read_barrier(deadline())
    assert trio.current_time() - began < 1, "it lets clients wait"
    assert str(writing.value) == str(reading.value) == member.node.keys.waiting
    return member.node.keys.waiting


async def test_until_the_voters_have_come_no_leader_is_named_and_nobody_is_served(
    autojump_clock,
) -> None:
    async with waiting_for(3) as cluster:
        assert "waiting for 3 nodes, of which 1 can" in await refuses_clients(cluster[1])
        assert is_shown_to_wait(cluster[1], 3)

        second = await cluster.join()
        await cluster.until(lambda: second.health_of(1) == "alive")
        for member in cluster.up:
            assert "waiting for 3 nodes, of which 2 can" in await refuses_clients(member)
            assert is_shown_to_wait(member, 3)

        third = await cluster.join()
        await cluster.until(
            lambda: all(m.node.administration.cluster().leader == "n1" for m in cluster.up)
        )
        assert await cluster.write(third.id, "k", "v")
        assert cluster[2].node.keys.waiting == ""
        assert cluster[1].node.administration.cluster().waiting_for == 0


async def test_a_learner_does_not_count(autojump_clock) -> None:
    async with waiting_for(2) as cluster:
        await cluster.join(learner=True)
        await trio.sleep(2)
        assert is_shown_to_wait(cluster[1], 2)
        await cluster[1].node.settings.change("n2.type", "voter", deadline())
        await cluster.until(lambda: not cluster[2].node.keys.waiting, within_s=0.5)
        await cluster.write(2, "k", "v")


async def test_while_it_waits_it_is_healthy_and_takes_orders(autojump_clock) -> None:
    async with waiting_for(3) as cluster:
        await cluster.join()
        for member in cluster.up:
            assert member.node.process.unhealthy() is None
        await cluster[2].node.settings.rename("n2", "second", deadline())
        await cluster[2].node.settings.change("heartbeat", "200ms", deadline())
        assert names_at(cluster, 1) == ["n1", "second"]
        await cluster[2].node.administration.transfer("second", deadline())
        assert cluster[2].is_leader
        assert is_shown_to_wait(cluster[1], 3)


async def test_a_cluster_that_was_restarted_goes_on_waiting(autojump_clock) -> None:
    async with waiting_for(2) as cluster:
        await cluster[1].stop()
        # Not asked for this time: it was set when the cluster was created.
        cluster[1].settings = msgspec.structs.replace(cluster[1].settings, expect=0)
        await cluster[1].start()
        await cluster.until(cluster[1].node.status.in_contact)
        assert "waiting for 2 nodes" in await refuses_clients(cluster[1])


async def test_once_it_is_over_a_loss_does_not_bring_it_back(autojump_clock) -> None:
    async with waiting_for(3) as cluster:
        await cluster.join()
        await cluster.join()
        await cluster.until(
            lambda: all(m.node.administration.cluster().leader == "n1" for m in cluster.up)
        )
        await cluster[1].node.administration.remove("n3", deadline())
        await cluster.until(cluster[3].ended.is_set)
        for node in (1, 2):
            await cluster[node].stop()
            await cluster[node].start()
        await cluster.until(cluster.agrees)
        await cluster.write(2, "k", "v")


async def test_a_newcomer_that_does_not_know_yet_whether_to_wait_lets_nobody_in(
    autojump_clock,
) -> None:
    """What it is asked first could go to the leader before it has learnt anything."""
    async with waiting_for(3) as cluster:
        newcomer = cluster.add()
        await cluster.let_in(newcomer, 1)
        assert newcomer.node.replica.state.cluster_id == ""
        with pytest.raises(NoLeader, match="waiting for 3 nodes"):
            await newcomer.node.keys.write(Put(b"k", b"v"), deadline())
        assert newcomer.value("k") is None


async def test_who_expects_one_node_need_not_wait(autojump_clock) -> None:
    async with waiting_for(1) as cluster:
        await cluster.until(lambda: cluster[1].node.administration.cluster().leader == "n1")
        await cluster.write(1, "k", "v")
