"""Disks that are short of room: who leads then, what is refused, and what gives room back."""

from __future__ import annotations

import itertools

import pytest
import trio
from trio.testing import MockClock

from hstore.node.cluster import rooms
from hstore.node.driver import compaction, disk_space
from hstore.node.errors import NoSpace, Refused, StorageError
from hstore.node.model.commands import Delete, DeletePrefix, Keyed, Put
from hstore.node.raft.events import Event, TransferLeader
from hstore.node.raft.messages import TimeoutNow
from hstore.node.storage.interface import Room
from tests.node.memory_cluster import Cluster, Member, running

from .test_handover import Load, stop

MIB = 1 << 20
NEEDED = 256 * MIB
SHORT = Room(NEEDED - 1, NEEDED, "here")
NEARLY_AMPLE = Room(NEEDED * 5 // 4 - 1, NEEDED, "here")
AMPLE = Room(NEEDED * 5 // 4, NEEDED, "here")
TIGHT = Room(NEEDED // 4 - 1, NEEDED, "here")
SPENT = Room(NEEDED // 16 - 1, NEEDED, "here")


async def make(member: Member, room: Room) -> None:
    """Give a disk so much room, and wait until its node has seen that."""
    member.disk.room = room
    await trio.sleep(1.1)
    assert member.node.replica.disk_space.room == room


async def make_all(cluster: Cluster, room: Room, *but: int) -> None:
    for member in cluster.up:
        if member.id not in but:
            member.disk.room = room
    await trio.sleep(1.7)


def soon() -> float:
    return trio.current_time() + 5


# -- the leader's disk ------------------------------------------------------------------------


async def test_a_leader_whose_disk_is_short_hands_over_and_no_write_is_refused(
    autojump_clock: MockClock,
) -> None:
    async with running(3) as cluster, Load(cluster, 1, 2, 3) as load:
        assert cluster.leader.id == 1
        await make(cluster[1], SHORT)
        await cluster.until(lambda: cluster.agrees() and cluster.leader.id != 1)
        done = load.done
        await trio.sleep(1)

        assert load.done > done + 100


async def test_of_those_that_are_caught_up_the_one_with_the_most_room_leads(
    autojump_clock: MockClock,
) -> None:
    async with running(4) as cluster:
        for node, room in ((2, AMPLE), (3, Room(9 * NEEDED, NEEDED)), (4, SHORT)):
            cluster[node].disk.room = room
        await trio.sleep(2)
        await make(cluster[1], SHORT)

        await cluster.until(lambda: cluster.agrees() and cluster.leader.id != 1)

        assert cluster.leader.id == 3


async def test_one_that_is_far_behind_does_not_lead_however_much_room_it_has(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "_ABREAST_ENTRIES", 3)
    async with running(3) as cluster:
        cluster[2].disk.room = AMPLE
        cluster[3].disk.room = Room(9 * NEEDED, NEEDED)
        await trio.sleep(2)
        cluster[3].disk.flush_gate = trio.Event()
        for number in range(10):
            await cluster.write(1, f"key{number}", "value")
        await make(cluster[1], SHORT)
        await cluster.until(lambda: cluster[2].is_leader)
        cluster[3].disk.flush_gate.set()


async def test_the_lead_does_not_go_to_and_fro(autojump_clock: MockClock) -> None:
    async with running(3) as cluster:
        await make(cluster[1], SHORT)
        await cluster.until(lambda: cluster.agrees() and cluster.leader.id != 1)
        term = cluster.leader.core.term
        # At the limit and above, but not by a quarter: it still counts as short.
        await make(cluster[1], NEARLY_AMPLE)
        await make_all(cluster, SHORT, 1)
        await trio.sleep(120)

        assert cluster.leader.core.term <= term + 1, "2 and 3 may hand over once, to each other"
        assert cluster.leader.id != 1

        await make(cluster[1], AMPLE)
        await cluster.until(lambda: cluster[1].is_leader, within_s=130)
        term = cluster.leader.core.term
        await trio.sleep(120)
        assert cluster[1].is_leader
        assert cluster.leader.core.term == term


async def test_a_disk_that_was_short_needs_a_quarter_more(autojump_clock: MockClock) -> None:
    async with running(1) as cluster:
        await make(cluster[1], SHORT)
        await make(cluster[1], NEARLY_AMPLE)
        with pytest.raises(NoSpace, match="go on from 320"):
            await cluster.write(1, "key", "value")

        await make(cluster[1], AMPLE)
        await cluster.write(1, "key", "value")
        await make(cluster[1], NEARLY_AMPLE)
        await cluster.write(1, "key", "more")


async def test_nodes_on_one_disk_do_not_hand_the_lead_round(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All become short at one moment, and the leader may see it first."""
    async with running(3) as cluster:
        term = cluster.leader.core.term
        tried: list[Event] = []
        feed = cluster[1].node.replica.feed

        def watched(event: Event) -> None:
            if isinstance(event, TransferLeader):
                tried.append(event)
            feed(event)

        monkeypatch.setattr(cluster[1].node.replica, "feed", watched)
        for member in cluster.up:
            member.disk.room = SHORT
        cluster[1].node.replica.disk_space.check()
        await trio.sleep(10)

        assert tried == []
        assert cluster[1].is_leader
        assert cluster.leader.core.term == term


async def test_a_handover_that_fails_is_tried_again_with_longer_and_longer_pauses(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(3) as cluster:
        times: list[float] = []
        feed = cluster[1].node.replica.feed

        def watched(event: Event) -> None:
            if isinstance(event, TransferLeader):
                times.append(trio.current_time())
            feed(event)

        monkeypatch.setattr(cluster[1].node.replica, "feed", watched)
        # The others never take over.
        for node in (2, 3):
            monkeypatch.setattr(cluster[node].core, "is_promotable", lambda: False)
        await make(cluster[1], SHORT)
        await trio.sleep(200)

        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert 4 <= len(pauses) <= 10
        assert pauses[:4] == sorted(pauses[:4])
        assert pauses[0] < 5
        assert max(pauses) < rooms._PAUSE_SECONDS_MAX + 3
        assert cluster[1].is_leader


async def test_a_user_cannot_have_a_short_member_lead_and_is_told_why(
    autojump_clock: MockClock,
) -> None:
    async with running(3) as cluster:
        await make(cluster[2], SHORT)
        with pytest.raises(Refused, match="the disk of n2 has 255 MiB left"):
            await cluster[3].node.administration.transfer("n2", soon())
        assert cluster[1].is_leader


async def test_a_leader_that_stops_hands_over_to_a_voter_with_room(
    autojump_clock: MockClock,
) -> None:
    async with running(3) as cluster:
        await make(cluster[2], SHORT)

        assert await stop(cluster[1]) == ""

        await cluster.until(cluster.agrees)
        assert cluster[3].is_leader


async def test_where_no_disk_has_room_a_leader_that_stops_is_replaced_all_the_same(
    autojump_clock: MockClock,
) -> None:
    """Somebody has to take the deletions."""
    async with running(3) as cluster:
        await cluster.write(1, "key", "value")
        await make_all(cluster, SHORT)
        leader = cluster.leader
        await stop(leader)

        await cluster.until(cluster.agrees, within_s=15)

        other = next(member.id for member in cluster.up)
        assert (await cluster[other].node.keys.write(Delete(b"key"), soon())).ok


# -- the others' disks ------------------------------------------------------------------------


async def test_one_short_follower_stops_nothing(autojump_clock: MockClock) -> None:
    async with running(3) as cluster:
        await make(cluster[3], SHORT)
        await cluster.write(2, "key", "value")
        assert cluster[1].is_leader


@pytest.mark.parametrize("via", [1, 2])
async def test_new_values_are_refused_when_the_voters_with_room_are_no_majority(
    via: int, autojump_clock: MockClock
) -> None:
    async with running(3) as cluster:
        await make_all(cluster, SHORT, 1)

        with pytest.raises(NoSpace, match=r"disk of n2 has 255 MiB.*disk of n3 has 255 MiB"):
            await cluster.write(via, "key", "value")

        await make(cluster[3], AMPLE)
        await cluster.write(via, "key", "value")


async def test_a_voter_that_is_down_has_no_room(autojump_clock: MockClock) -> None:
    """Every write needs the short one then, and would fill it."""
    async with running(3) as cluster:
        await make(cluster[3], SHORT)
        cluster[2].crash()
        await cluster.until(lambda: cluster[1].health_of(2) == "failed")

        with pytest.raises(NoSpace, match="n3"):
            await cluster.write(1, "key", "value")

        await cluster[2].start()
        await cluster.until(lambda: cluster[1].health_of(2) == "alive")
        await cluster.write(1, "key", "value")


async def test_a_cluster_without_a_majority_does_not_blame_its_disks(
    autojump_clock: MockClock,
) -> None:
    async with running(3) as cluster:
        for node in (2, 3):
            cluster[node].crash()
        await cluster.until(lambda: cluster[1].health_of(3) == "failed")
        assert cluster[1].node.replica.disk_space.refusal == ""


async def test_the_leader_hears_at_once_that_a_disk_is_short(autojump_clock: MockClock) -> None:
    """Not only once in a health-check interval: much can be written in that."""
    async with running(3) as cluster:
        seen = cluster[1].node.status
        cluster[2].disk.room = SHORT
        cluster[2].node.replica.disk_space.check()

        await cluster.until(lambda: seen.is_short(2), within_s=0.1)


async def test_a_new_leader_hears_at_once_which_disks_are_short(autojump_clock: MockClock) -> None:
    async with running(3) as cluster:
        await make(cluster[3], SHORT)
        await cluster[1].node.administration.transfer("n2", soon())
        await cluster.until(lambda: cluster[2].is_leader and cluster.agrees())

        await cluster.until(lambda: cluster[2].node.status.is_short(3), within_s=0.3)


# -- the way out ------------------------------------------------------------------------------


@pytest.mark.parametrize("via", [1, 2])
@pytest.mark.parametrize("who", ["all", "the others"])
async def test_deletions_pass_while_new_values_are_refused(
    who: str, via: int, autojump_clock: MockClock
) -> None:
    async with running(3) as cluster:
        for key in ("a", "b", "c/1", "c/2", "d", "e/1"):
            await cluster.write(1, key, "value")
        await make_all(cluster, SHORT, *(() if who == "all" else (1,)))
        keys = cluster[via].node.keys
        await keys.read_barrier(soon())
        found = keys.get(b"b")
        assert found is not None

        for command in (
            Delete(b"a"),
            Delete(b"b", cas=found.revision),
            DeletePrefix(b"c/"),
            Keyed(b"one", b"d" * 16, Delete(b"d")),
            Keyed(b"two", b"d" * 16, DeletePrefix(b"e/")),
        ):
            assert (await keys.write(command, soon())).ok, command
        for refused in (
            Put(b"x", b""),
            Put(b"x", b"", cas=0),
            Put(b"a", b"", must_exist=True),
            Keyed(b"three", b"d" * 16, Put(b"x", b"")),
        ):
            with pytest.raises(NoSpace):
                await keys.write(refused, soon())


@pytest.mark.parametrize("who", ["all", "the others"])
async def test_deletions_are_refused_too_where_there_is_hardly_any_room(
    who: str, autojump_clock: MockClock
) -> None:
    async with running(3) as cluster:
        await cluster.write(1, "key", "value")
        await make_all(cluster, TIGHT, *(() if who == "all" else (1,)))

        with pytest.raises(NoSpace, match="63 MiB left"):
            await cluster.leader.node.keys.write(Delete(b"key"), soon())

        await make_all(cluster, SHORT, *(() if who == "all" else (1,)))
        await cluster.leader.node.keys.write(Delete(b"key"), soon())


async def test_members_and_settings_change_however_little_room_there_is(
    autojump_clock: MockClock,
) -> None:
    """They are small, and a new member may bring the room."""
    async with running(3) as cluster:
        await cluster.write(1, "key", "value")
        await make_all(cluster, TIGHT)
        leader = cluster.leader
        others = [member for member in cluster.up if member is not leader]

        await leader.node.settings.change("dns_ttl", "2s", soon())
        await leader.node.settings.rename(others[0].address, "other", soon())
        await leader.node.administration.remove(others[1].address, soon())
        new = await cluster.join(leader.id)

        assert new.value("key") == "value"
        await cluster.until(lambda: leader.core.config.is_voter(new.id))


async def test_room_is_reclaimed_when_a_disk_is_short_and_after_each_deletion(
    autojump_clock: MockClock,
) -> None:
    async with running(3) as cluster:
        for key in ("a", "b"):
            await cluster.write(1, key, "value")
        assert [member.disk.reclaims for member in cluster.up] == [0, 0, 0]
        await make_all(cluster, SHORT)
        before = [member.disk.reclaims for member in cluster.up]
        assert all(before)
        await trio.sleep(5)
        assert [member.disk.reclaims for member in cluster.up] == before, "nothing was deleted"

        await cluster.leader.node.keys.write(Delete(b"a"), soon())
        await trio.sleep(2)

        assert all(m.disk.reclaims > n for m, n in zip(cluster.up, before, strict=True))


async def test_writes_are_taken_again_after_a_deletion(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On disks that fill up, and keep what is deleted until it is reclaimed."""
    monkeypatch.setattr(disk_space, "_CHECK_BYTES", 1000)
    async with running(3) as cluster:
        for member in cluster.up:
            member.disk.capacity = 60_000
        with pytest.raises(NoSpace):
            for number in range(200):
                await cluster.write(2, f"{number % 2}/{number}", "x" * 500)
        await cluster[2].node.keys.write(DeletePrefix(b"0/"), soon())

        await trio.sleep(3)

        await cluster.write(2, "0/new", "x" * 500)
        assert len(cluster.up) == 3


async def test_a_short_disk_keeps_less_of_the_log(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "KEEP_ENTRIES", 80)
    async with running(3) as cluster:
        for number in range(60):
            await cluster.write(1, f"key{number}", "value")
        assert all(m.core.log.snapshot_index == 0 for m in cluster.up)

        await make_all(cluster, SHORT)

        assert all(m.core.log.applied - m.core.log.snapshot_index < 20 for m in cluster.up)


# -- the end of a follower --------------------------------------------------------------------


async def test_a_follower_stops_while_it_still_has_the_room_to_start_again(
    autojump_clock: MockClock,
) -> None:
    async with running(3) as cluster:
        await make(cluster[3], SPENT)
        assert cluster[3].is_up, "nothing is written"
        await cluster.write(1, "key", "value")
        await trio.sleep(2)
        assert cluster[3].is_up, "a few bytes fit"
        for number in range(5):
            await cluster.write(1, f"big{number}", "x" * 1_000_000)

        with trio.fail_after(5):
            await cluster[3].ended.wait()
        error = cluster[3].take_error()
        assert isinstance(error, StorageError)
        assert "No space left on device" in str(error)
        assert "15 MiB left" in str(error)
        cluster[3].disk.crash()

        cluster[3].disk.room = AMPLE
        await cluster[3].start()
        await cluster.until(lambda: cluster[3].value("key") == "value")


async def test_a_leader_does_not_stop_for_the_room_that_it_has_refused_to_use(
    autojump_clock: MockClock,
) -> None:
    async with running(3) as cluster:
        await make_all(cluster, SPENT)
        await trio.sleep(10)
        for _ in range(3):
            with pytest.raises(NoSpace):
                await cluster.write(cluster.leader.id, "key", "value")

        assert len(cluster.up) == 3


async def test_a_short_node_ignores_a_transfer_by_a_leader_that_does_not_know_it_is_short(
    autojump_clock: MockClock,
) -> None:
    async with running(3) as cluster:
        leader, short = cluster[1], cluster[2]
        await make(short, SHORT)
        term = leader.core.term
        short.node.replica.received(1, TimeoutNow(1, 2, term))
        await trio.sleep(3)

        assert leader.is_leader
        assert leader.core.term == term
