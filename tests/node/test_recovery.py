"""A whole node that has lost log which it had acknowledged: it knows, is silent, and heals."""

from __future__ import annotations

import msgspec
import pytest
import trio

from hstore.node.errors import NoLeader, Refused, StorageError
from hstore.node.model import commands
from hstore.node.model.commands import PutMember
from hstore.node.peers.wire import ForwardKind
from hstore.node.raft.messages import Append, PreVoteRequest, PreVoteResponse, VoteResponse
from tests.node.memory_cluster import Cluster, running


async def lose(cluster: Cluster, node: int, batches: int) -> None:
    """Crash a node, and let its disk forget what it had flushed."""
    disk = cluster[node].disk
    cluster[node].crash()
    await cluster[node].ended.wait()
    disk.lose_flushed(batches)


@pytest.mark.parametrize("who", [3, 1], ids=["follower", "leader"])
async def test_it_catches_up_without_a_vote_and_then_votes_again(who: int, autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[who].disk.remember_from_now(20)
        for number in range(10):
            await cluster.write(who, f"k{number}", "value")
        last = cluster[who].core.log.last_index
        granted: list[int] = []

        def watch(frm: int, _to: int, frame: object) -> None:
            votes = isinstance(frame, (VoteResponse, PreVoteResponse)) and frame.granted
            if frm == who and votes and cluster[who].core.is_recovering:
                granted.append(frm)

        cluster.network.taps.append(watch)
        await lose(cluster, who, 5)
        await cluster[who].start()
        assert cluster[who].core.is_recovering
        assert cluster[who].core.log.last_index < last

        await cluster.until(lambda: not cluster[who].core.is_recovering)
        await cluster.until(cluster.agrees)
        assert granted == []
        assert cluster[who].core.log.last_index >= last
        for number in range(10):
            assert await cluster.read(who, f"k{number}") == "value"

        # The disk is told at the next tick.
        await cluster.until(lambda: not cluster[who].node.replica._is_recovering)
        revision = await cluster.write(who, "last", "value")
        await cluster.until(lambda: cluster[who].core.log.persisted >= revision)
        cluster[who].crash()
        await cluster[who].ended.wait()
        await cluster[who].start()
        assert not cluster[who].core.is_recovering, "it is over for good"


async def test_nobody_is_removed_or_stopped_who_is_needed_while_another_has_no_vote(
    autojump_clock,
) -> None:
    """Of two that were left, one could not vote: the other could never be elected again."""
    async with running(3) as cluster:
        cluster[3].disk.remember_from_now(20)
        for number in range(5):
            await cluster.write(1, f"k{number}", "value")
        await lose(cluster, 3, 4)
        # It is heard, and hears nothing: so it does not recover.
        cluster.network.edit = lambda _frm, to, frame: (
            None if (to == 3 and isinstance(frame, Append)) else frame
        )
        await cluster[3].start()
        await cluster.until(
            lambda: cluster.agrees() and cluster.leader.health_of(3) == "recovering"
        )

        for follower in (m for m in (cluster[1], cluster[2]) if not m.is_leader):
            # Who has no vote does not count as live.
            with pytest.raises(Refused, match="only 1 of 2 voters would be live"):
                await follower.node.administration.leave(trio.current_time() + 5)
        cluster.network.edit = None
        await cluster.until(lambda: not cluster[3].core.is_recovering)


async def test_nobody_is_removed_who_is_needed_while_another_is_behind_the_leader(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster.network.edit = lambda frm, to, frame: (
            None
            if (to == 3 and isinstance(frame, Append))
            or (frm == 3 and isinstance(frame, PreVoteRequest))
            else frame
        )
        cluster[1].crash()
        await cluster[1].ended.wait()
        await cluster.until(lambda: cluster.agrees() and cluster[2].is_leader)
        await cluster[1].start()
        await cluster.until(lambda: cluster[2].health_of(1) == "alive" == cluster[2].health_of(3))

        with pytest.raises(Refused, match="up to date"):
            await cluster[1].node.administration.leave(trio.current_time() + 5)
        cluster.network.edit = None
        await cluster.until(cluster.agrees)


async def test_what_was_agreed_before_the_loss_waits_until_the_vote_is_back(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster[3].disk.remember_from_now(20)
        for number in range(5):
            await cluster.write(1, f"k{number}", "value")
        await lose(cluster, 3, 4)
        cluster.network.edit = lambda _frm, to, frame: (
            None if to == 3 and isinstance(frame, Append) else frame
        )
        await cluster[3].start()
        await cluster.until(
            lambda: cluster.agrees() and cluster.leader.health_of(3) == "recovering"
        )
        follower = next(m for m in (cluster[1], cluster[2]) if not m.is_leader)
        known = cluster.leader.node.replica.state.members[follower.id]
        wish = commands.encode(PutMember(msgspec.structs.replace(known, learner=True)))
        leader = cluster.leader
        await leader.node.replica.request(ForwardKind.WRITE, wish, trio.current_time() + 5)
        await trio.sleep(3)
        assert leader.core.config.voters == (1, 2, 3)

        cluster.network.edit = None
        await cluster.until(lambda: not leader.core.config.is_voter(follower.id))


async def test_a_loss_is_remembered_over_another_crash(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[3].disk.remember_from_now(20)
        for number in range(5):
            await cluster.write(1, f"k{number}", "value")
        await lose(cluster, 3, 4)
        for node in (1, 2):
            cluster.network.refuse(3, node)
            cluster.network.refuse(node, 3)
        await cluster[3].start()
        await trio.sleep(3)
        cluster[3].crash()
        await cluster[3].ended.wait()
        await cluster[3].start()
        assert cluster[3].core.is_recovering

        cluster.network.heal()
        await cluster.until(lambda: not cluster[3].core.is_recovering)


async def test_who_never_had_a_write_is_not_elected_with_the_help_of_who_forgot_it(
    autojump_clock,
) -> None:
    """1 and 3 had it; 3 forgot it, 1 is away: 2 and 3 together must not go on without it."""
    async with running(3) as cluster:
        cluster[3].disk.remember_from_now(20)
        cluster.silence(2)
        revision = await cluster.write(1, "key", "value")
        await cluster.until(lambda: cluster[3].core.log.persisted >= revision)
        cluster[1].crash()
        await lose(cluster, 3, 3)
        cluster.network.heal()
        await cluster[3].start()
        assert cluster[3].core.is_recovering

        with pytest.raises(NoLeader):
            await cluster.write(2, "other", "value")
        await cluster[1].start()
        await cluster.until(cluster.agrees)
        await cluster.until(lambda: not cluster[3].core.is_recovering)

        assert await cluster.read(2, "key") == "value"


async def test_damage_that_a_clients_read_meets_ends_the_node(autojump_clock) -> None:
    """The read gets the error; whoever asked cannot end the node, and nobody else may read."""
    async with running(3) as cluster:
        await cluster.write(1, "key", "value")
        follower = cluster.followers[0]
        await trio.sleep(3)  # so that it has nothing to write, by which it would find out
        follower.disk.read_error = "Corruption: block checksum mismatch"
        with pytest.raises(StorageError, match="block checksum mismatch"):
            follower.value("key")
        follower.disk.read_error = None
        await cluster.until(lambda: not follower.is_up, within_s=1)
        assert "block checksum mismatch" in str(follower.take_error())


async def test_an_older_copy_of_the_directory_is_found_out_and_heals(autojump_clock) -> None:
    """The leader never goes back behind what was acknowledged: it would ask in vain for ever."""
    async with running(3) as cluster:
        await cluster.write(1, "before", "value")
        follower = cluster.followers[0]
        await cluster.until(cluster.agrees)
        older = follower.disk.image()
        for number in range(5):
            await cluster.write(1, f"k{number}", "value")
        await cluster.until(cluster.agrees)
        last = follower.core.log.last_index
        follower.crash()
        await follower.ended.wait()
        follower.disk = older
        await follower.start()

        await cluster.until(lambda: not follower.is_up)
        error = follower.take_error()
        assert isinstance(error, StorageError)
        assert f"the leader has this node's acknowledgement of entries up to {last}" in str(error)
        await follower.storage.close()
        await follower.start()
        assert follower.core.is_recovering
        assert "an older copy of its data" in follower.node.replica.facts.lost_log
        await cluster.until(lambda: not follower.core.is_recovering)
        await cluster.until(cluster.agrees)
        assert await cluster.read(follower.id, "k4") == "value"
