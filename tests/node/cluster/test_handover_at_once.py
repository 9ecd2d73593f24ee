"""Ends of several nodes that fall together, and ends that fall into other changes."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import trio

from hstore.node.errors import HstoreError
from hstore.node.model import commands
from hstore.node.model.commands import PutMember
from hstore.node.peers.wire import ForwardKind
from tests.node.memory_cluster import Cluster, Member, running


async def _stop(member: Member, said: dict[int, str]) -> None:
    said[member.id] = await member.node.process.stop()
    await member.ended.wait()
    await member.storage.close()


async def _remove(cluster: Cluster, node: int, said: dict[int, str]) -> None:
    try:
        await cluster[1].node.administration.remove(f"{node:016x}", trio.current_time() + 5)
        said[node] = ""
    except HstoreError as error:
        said[node] = str(error)


async def test_two_removals_at_once_cannot_wish_every_voter_away(autojump_clock) -> None:
    """Each was looked at before the other was in the log: nobody was a member any more."""
    async with running(2) as cluster:
        said: dict[int, str] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_remove, cluster, 1, said)
            nursery.start_soon(_remove, cluster, 2, said)

        assert sorted(map(bool, said.values())) == [False, True], said
        await cluster.until(lambda: any(m.is_leader for m in cluster.up))
        assert len(cluster.leader.core.config.voters) == 1
        assert len(cluster.leader.node.replica.state.members) == 1


async def test_all_who_stop_at_once_are_told_the_truth_and_all_can_start_alone(
    autojump_clock,
) -> None:
    """Who was told that it is no voter any more, or was the only one, needs nobody to say so."""
    for count in (2, 3):
        async with running(count) as cluster:
            said: dict[int, str] = {}
            async with trio.open_nursery() as nursery:
                for member in cluster.members.values():
                    nursery.start_soon(_stop, member, said)
            # Exactly one was the last voter; the others were taken out before.
            assert set(said.values()) == {""}, (count, said)
            alone = [m for m in cluster.members.values() if m.core.config.voters == (m.id,)]
            assert len(alone) == 1
            last = alone[0].id
            await cluster[last].start()
            await cluster.until(cluster.agrees)
            assert cluster.leader.id == last


async def test_who_stops_before_it_was_promoted_again_is_not_promoted_when_it_is_gone(
    autojump_clock,
) -> None:
    """A member that is about to become a voter has to take that wish back, too."""
    async with running(3) as cluster:
        said: dict[int, str] = {}
        await _stop(cluster[3], said)
        leader = cluster.leader
        never = replace(leader.core.options, promotion_gap=-1_000_000)
        leader.core.options, usual = never, leader.core.options
        await cluster[3].start()
        await cluster.until(lambda: not leader.node.replica.state.members[3].stopped)
        assert not cluster[3].core.config.is_voter(3)

        await _stop(cluster[3], said)

        leader.core.options = usual
        assert leader.node.replica.state.members[3].stopped
        await trio.sleep(5)
        assert voters(cluster) == {1, 2}


async def test_a_mark_that_comes_late_does_not_hold_back_a_node_that_runs(autojump_clock) -> None:
    """The stop's write may commit after the node has started again and has made itself known."""
    async with running(3) as cluster:
        late = msgspec.structs.replace(cluster[3].node.replica.state.members[3], stopped=True)
        data = commands.encode(PutMember(late))
        await cluster[1].node.replica.request(ForwardKind.WRITE, data, trio.current_time() + 5)
        await trio.sleep(5)
        assert voters(cluster) == {1, 2, 3}
        assert not cluster[1].node.replica.state.members[3].stopped


async def test_giving_up_the_lead_twice_does_not_depose_the_next_leader(autojump_clock) -> None:
    """The second wish waited until the first was done, and then went to the new leader."""
    async with running(3) as cluster:
        first = cluster[1].node.handover
        async with trio.open_nursery() as nursery:
            cluster.silence(2, of=(1,))
            nursery.start_soon(
                cluster[1].node.administration.transfer, "n2", trio.current_time() + 5
            )
            await cluster.until(lambda: cluster[1].core.transfer is not None)
            nursery.start_soon(first.give_up_lead)
            await trio.sleep(0.1)
            for way in cluster.network.between(1, 2):
                way.release()
        await trio.sleep(3)
        assert (cluster.leader.id, cluster.leader.core.term) == (2, 3)


def voters(cluster: Cluster) -> set[int]:
    return set(cluster.leader.core.config.voters)
