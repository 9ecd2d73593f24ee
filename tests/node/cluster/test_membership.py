"""Who belongs to the cluster: joins, removals, and what becomes of those that are cut short."""

from __future__ import annotations

import msgspec
import pytest
import trio

from hstore.node.errors import HstoreError, NoLeader, Refused
from hstore.node.raft.entry import EntryKind
from hstore.node.raft.messages import Append
from tests.node.memory_cluster import Cluster, running


def deadline(seconds: float = 5.0) -> float:
    return trio.current_time() + seconds


def members_at(cluster: Cluster, node_id: int) -> list[str]:
    return [node.name for node in cluster[node_id].node.administration.cluster().nodes]


# -- joining -----------------------------------------------------------------------------------


async def test_a_newcomer_is_a_learner_then_catches_up_then_votes_and_each_step_shows(
    autojump_clock,
) -> None:
    async with running(1) as cluster:
        for number in range(30):
            await cluster.write(1, f"k{number}", "value")
        member = cluster.add()
        steps: list[tuple[str, bool, str]] = []

        async def watch() -> None:
            seen = -1
            while True:
                seen = await cluster[1].node.administration.wait_cluster_change(seen)
                shown = cluster[1].sees(member.id)
                step = (shown.type, shown.voter, shown.health) if shown else None
                if step is not None and step not in steps:
                    steps.append(step)

        cluster.nursery.start_soon(watch)
        reply = await cluster[1].node.administration.join(member.request(), deadline())
        assert cluster[1].core.config.learners == (member.id,)
        assert reply.name == "n2"
        await trio.sleep(2)
        assert cluster[1].core.config.learners == (member.id,), "it votes before it has caught up"

        await member.start({int(node, 16): at for node, at in reply.peers.items()})
        await cluster.until(lambda: ("follower", True, "alive") in steps)
        assert steps == [
            ("learner", False, "joining"),
            ("learner", False, "alive"),
            ("follower", True, "alive"),
        ]
        assert member.value("k29") == "value"


async def test_a_cluster_can_be_joined_through_any_of_its_nodes(autojump_clock) -> None:
    async with running(2) as cluster:
        await cluster.join(via=2)
        await cluster.join(via=3)

        assert cluster.leader.core.config.voters == (1, 2, 3, 4)
        await cluster.until(lambda: members_at(cluster, 4) == ["n1", "n2", "n3", "n4"])


async def test_three_that_join_at_once_all_get_in_under_different_names(autojump_clock) -> None:
    async with running(1) as cluster:
        newcomers = [cluster.add() for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for member in newcomers:
                nursery.start_soon(cluster.let_in, member, 1)
        await cluster.until(lambda: cluster[1].core.config.voters == (1, 2, 3, 4))

        assert members_at(cluster, 1) == ["n1", "n2", "n3", "n4"]


async def test_a_name_that_is_asked_for_is_given_and_a_free_number_is_found(
    autojump_clock,
) -> None:
    async with running(1) as cluster:
        named = await cluster.join(name="n2")
        unnamed = await cluster.join()

        assert named.node.process.name == "n2"
        assert unnamed.node.process.name == "n3"


async def test_a_taken_name_is_refused_and_the_newcomer_is_no_member(autojump_clock) -> None:
    async with running(2) as cluster:
        with pytest.raises(
            Refused,
            match=r"name n2 is taken .*; .*`hstore join --replace n2` .*`hstore leave -h n2`",
        ):
            await cluster[1].node.administration.join(cluster.add().request(name="n2"), deadline())
        assert members_at(cluster, 1) == ["n1", "n2"]
        assert cluster[1].core.config.all_members() == (1, 2)


@pytest.mark.parametrize("name", ["N3", "-n", "n-", "a.b", "n_3", "n 3", "ü", "n" * 64, "n\n"])
async def test_a_name_that_is_no_dns_label_is_refused_with_what_is_allowed(
    name: str, autojump_clock
) -> None:
    """Whatever the newcomer's own version let pass."""
    async with running(1) as cluster:
        before = cluster[1].core.log.last_index
        with pytest.raises(Refused, match=r"not a node's name; allowed: 1 to 63 of a-z, 0-9") as no:
            await cluster[1].node.administration.join(
                cluster.add().request(name=name * 2), deadline()
            )
        assert len(str(no.value)) < 200
        assert members_at(cluster, 1) == ["n1"]
        assert cluster[1].core.log.last_index == before


async def test_a_taken_address_is_refused(autojump_clock) -> None:
    async with running(2) as cluster:
        request = msgspec.structs.replace(cluster.add().request(), address=cluster[2].address)
        with pytest.raises(
            Refused, match=r"is that of n2; .*`hstore join --replace n2` .*`hstore leave -h n2`"
        ):
            await cluster[1].node.administration.join(request, deadline())


async def test_a_node_cannot_join_itself(autojump_clock) -> None:
    async with running(1) as cluster:
        with pytest.raises(Refused, match="cannot join itself"):
            await cluster[1].node.administration.join(cluster[1].request(), deadline())


async def test_a_newcomer_that_means_another_cluster_is_refused(autojump_clock) -> None:
    """The address that it was given, or one that a member had, is this cluster's by now."""
    async with running(1) as cluster:
        own = cluster[1].node.replica.storage.identity.cluster_id
        request = msgspec.structs.replace(cluster.add().request(), cluster_id="00000000000000ff")
        with pytest.raises(Refused, match=f"of cluster {own}, not of 00000000000000ff"):
            await cluster[1].node.administration.join(request, deadline())
        assert members_at(cluster, 1) == ["n1"]
        request = msgspec.structs.replace(request, cluster_id=own)
        await cluster[1].node.administration.join(request, deadline())


async def test_a_newcomer_of_another_protocol_is_refused(autojump_clock) -> None:
    async with running(1) as cluster:
        request = msgspec.structs.replace(cluster.add().request(), protocol=99)
        with pytest.raises(Refused, match="speaks 99"):
            await cluster[1].node.administration.join(request, deadline())


async def test_joining_again_under_the_same_id_is_the_same_join(autojump_clock) -> None:
    """The answer may have been lost; asking again must not make another member."""
    async with running(1) as cluster:
        member = cluster.add()
        first = await cluster[1].node.administration.join(member.request(), deadline())
        second = await cluster[1].node.administration.join(member.request(), deadline())

        assert first == second
        assert members_at(cluster, 1) == ["n1", "n2"]


async def test_joining_while_there_is_no_leader_says_so_within_the_deadline(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster[1].crash()
        cluster[2].crash()
        await trio.sleep(3)
        started = trio.current_time()
        with pytest.raises(NoLeader, match="no leader"):
            await cluster[3].node.administration.join(cluster.add().request(), deadline(1.0))
        assert trio.current_time() - started < 1.2


async def test_a_removed_id_can_never_come_back(autojump_clock) -> None:
    async with running(3) as cluster:
        await cluster[1].node.administration.remove("n3", deadline())
        await cluster[3].ended.wait()

        with pytest.raises(Refused, match="was removed"):
            await cluster[1].node.administration.join(cluster[3].request(), deadline())


async def test_a_permanent_learner_stays_one(autojump_clock) -> None:
    async with running(2) as cluster:
        learner = await cluster.join(learner=True)
        await trio.sleep(20)

        assert cluster[1].core.config.learners == (learner.id,)
        seen = cluster[1].sees(learner.id)
        assert seen is not None
        assert (seen.type, seen.voter, seen.health) == ("learner", False, "alive")
        await cluster.write(learner.id, "key", "value")
        assert await cluster.read(learner.id, "key") == "value"


async def test_a_learner_does_not_count_for_a_majority(autojump_clock) -> None:
    async with running(2) as cluster:
        learner = await cluster.join(learner=True)
        cluster[2].crash()
        await trio.sleep(3)
        with pytest.raises(HstoreError):
            await cluster.write(learner.id, "key", "value", within_s=2)


# -- leaving -----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [2, 1], ids=["follower", "leader"])
async def test_a_node_that_leaves_is_out_and_ends_and_the_others_go_on(
    who: int, autojump_clock
) -> None:
    async with running(3) as cluster:
        await cluster[who].node.administration.leave(deadline())
        assert await cluster.until(cluster[who].ended.is_set) < 2
        assert cluster[who].node.process.was_removed

        await cluster.until(lambda: cluster.agrees() and len(cluster.up) == 2, within_s=3)
        rest = tuple(member.id for member in cluster.up)
        assert cluster.leader.core.config.all_members() == rest
        assert cluster.leader.node.administration.cluster().quorum == 2
        await cluster.write(rest[0], "key", "value")
        assert await cluster.read(rest[1], "key") == "value"


async def test_the_log_names_a_member_that_was_removed(autojump_clock) -> None:
    """Its link breaks, and its vote is taken, when it is none any more."""
    async with running(3) as cluster:
        names = [cluster[n].node.process.name_of for n in (1, 2)]
        assert [name_of(3) for name_of in names] == ["n3", "n3"]
        cluster[3].crash()
        await cluster[1].node.administration.remove("n3", deadline())
        await cluster.until(lambda: members_at(cluster, 2) == ["n1", "n2"])
        assert [name_of(3) for name_of in names] == ["n3", "n3"]
        assert names[0](9) == ""


async def test_a_leader_is_removed_by_a_follower(autojump_clock) -> None:
    async with running(3) as cluster:
        await cluster[2].node.administration.remove(cluster[1].address, deadline())

        assert await cluster.until(cluster[1].ended.is_set) < 3
        await cluster.until(lambda: cluster.agrees() and len(cluster.up) == 2, within_s=3)
        await cluster.write(3, "key", "value")


@pytest.mark.parametrize("name", ["n3", "10.0.0.3:8500", f"{3:016x}"])
async def test_a_dead_member_is_removed_by_its_name_address_or_id(
    name: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster[2].node.administration.remove(name, deadline())

        assert cluster[1].core.config.all_members() == (1, 2)
        assert members_at(cluster, 1) == ["n1", "n2"]


async def test_a_member_that_was_removed_while_it_was_away_ends_when_it_is_back(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster[1].node.administration.remove("n3", deadline())
        await cluster[3].start()

        assert await cluster.until(cluster[3].ended.is_set) < 3
        assert cluster[3].node.process.was_removed


async def test_a_removal_that_would_leave_no_live_majority_is_refused(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster.until(lambda: cluster[1].health_of(3) == "failed")

        with pytest.raises(Refused, match="no majority"):
            await cluster[1].node.administration.remove("n2", deadline())
        assert cluster[1].core.config.voters == (1, 2, 3)


async def test_the_only_voter_cannot_leave(autojump_clock) -> None:
    async with running(1) as cluster:
        with pytest.raises(Refused, match="only voter"):
            await cluster[1].node.administration.leave(deadline())
        assert cluster[1].is_leader


async def test_nobody_by_that_name_is_refused_with_the_names_there_are(autojump_clock) -> None:
    async with running(2) as cluster:
        with pytest.raises(Refused, match="n1, n2"):
            await cluster[2].node.administration.remove("n9", deadline())


# -- replacing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["n3", "10.0.0.3:8500", "10.0.0.3", f"{3:016x}"])
@pytest.mark.parametrize(("name", "gets"), [("", "n3"), ("new", "new")])
async def test_a_newcomer_takes_the_name_and_the_place_of_a_dead_member_in_one_entry(
    which: str, name: str, gets: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        await cluster.write(1, "key", "value")
        cluster[3].crash()
        await cluster.until(lambda: cluster[1].health_of(3) == "failed")
        views: set[tuple[str, ...]] = set()

        async def watch() -> None:
            seen = -1
            while True:
                seen = await cluster[1].node.administration.wait_cluster_change(seen)
                members = cluster[1].node.replica.state.members.values()
                views.add(tuple(sorted(f"{one.name}={one.id}" for one in members)))

        cluster.nursery.start_soon(watch)
        member = await cluster.join(via=2, name=name, replace=which)

        assert member.node.process.name == gets
        assert members_at(cluster, 1) == sorted(["n1", "n2", gets])
        assert cluster[1].core.config.voters == (1, 2, member.id)
        assert 3 in cluster[1].node.replica.state.removed
        old, new = ("n1=1", "n2=2", "n3=3"), ("n1=1", "n2=2", f"{gets}={member.id}")
        assert views == {tuple(sorted(old)), tuple(sorted(new))}
        assert member.value("key") == "value"

        await cluster[3].start()
        assert await cluster.until(cluster[3].ended.is_set) < 3
        assert cluster[3].node.process.was_removed


async def test_a_newcomer_at_the_same_address_replaces_the_member_there(autojump_clock) -> None:
    """Its disk was lost, and the machine is the same."""
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster.until(lambda: cluster[1].health_of(3) == "failed")
        request = msgspec.structs.replace(
            cluster.add().request(replace="n3"), address=cluster[3].address
        )
        reply = await cluster[1].node.administration.join(request, deadline())
        assert reply.name == "n3"
        again = await cluster[1].node.administration.join(request, deadline())
        assert again == reply
        by_address = msgspec.structs.replace(request, replace=cluster[3].address)
        assert await cluster[2].node.administration.join(by_address, deadline()) == reply


@pytest.mark.parametrize("name", ["", "new"])
async def test_replacing_again_under_the_same_id_is_the_same_join(
    name: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster.until(lambda: cluster[1].health_of(3) == "failed")
        member = cluster.add()
        request = member.request(name=name, replace="n3")
        first = await cluster[1].node.administration.join(request, deadline())
        assert await cluster[2].node.administration.join(request, deadline()) == first
        assert len(members_at(cluster, 1)) == 3
        assert cluster[1].node.replica.state.removed == frozenset({3})


@pytest.mark.parametrize("who", ["n1", "n2"])
async def test_a_member_that_is_alive_is_not_replaced_but_named_with_the_command_that_stops_it(
    who: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        request = cluster.add().request(replace=who)
        with pytest.raises(Refused, match=f"{who} at .* is alive, .*`hstore stop -h {who}`"):
            await cluster[3].node.administration.join(request, deadline())
        assert members_at(cluster, 1) == ["n1", "n2", "n3"]


async def test_a_member_that_still_joins_is_not_replaced_while_it_runs(autojump_clock) -> None:
    async with running(3) as cluster:
        member = cluster.add()

        def hold_entries(_frm: int, to: int, frame: object) -> object:
            return None if to == member.id and isinstance(frame, Append) else frame

        cluster.network.edit = hold_entries  # type: ignore[assignment]
        await cluster.let_in(member, 1)
        await cluster.until(lambda: member.id in cluster[1].node.replica.heard)
        await trio.sleep(2)
        assert cluster[1].health_of(member.id) == "joining"
        request = cluster.add().request(replace=f"{member.id:016x}")
        with pytest.raises(Refused, match="is alive"):
            await cluster[1].node.administration.join(request, deadline())
        member.crash()
        await cluster.until(member.ended.is_set)
        await trio.sleep(1)  # it is silent for as long as makes a member suspect
        await cluster[1].node.administration.join(request, deadline())


async def test_a_member_that_was_stopped_is_replaced(autojump_clock) -> None:
    async with running(3) as cluster:
        await cluster[3].node.process.stop()
        await cluster[3].ended.wait()
        await cluster[3].storage.close()
        await cluster.until(lambda: cluster[1].health_of(3) == "stopped")
        member = await cluster.join(replace="n3")
        assert cluster[1].core.config.voters == (1, 2, member.id)


async def test_a_refused_replacement_changes_nothing(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster.until(lambda: cluster[1].health_of(3) == "failed")
        join = cluster[1].node.administration.join
        for request, why in (
            (cluster.add().request(replace="n9"), "no member is called n9; .*n1, n2, n3"),
            (cluster.add().request(replace="n3", name="n2"), "name n2 is taken"),
            (cluster.add().request(replace="n" * 65), "neither a node's name"),
        ):
            with pytest.raises(Refused, match=why):
                await join(request, deadline())
        assert members_at(cluster, 1) == ["n1", "n2", "n3"]
        assert cluster[1].node.replica.state.removed == frozenset()
        # A second newcomer that wants the same place comes too late.
        await cluster.join(replace="n3", name="new")
        with pytest.raises(Refused, match="no member is called n3"):
            await join(cluster.add().request(replace="n3"), deadline())


async def test_a_replacement_that_was_agreed_is_finished_by_the_next_leader(autojump_clock) -> None:
    async with running(5) as cluster:
        cluster[5].crash()
        await cluster.until(lambda: cluster[1].health_of(5) == "failed")
        member = cluster.add()

        def hold_configurations(frm: int, _to: int, frame: object) -> object:
            has_config = isinstance(frame, Append) and any(
                entry.kind == EntryKind.CONFIG for entry in frame.entries
            )
            return None if frm == 1 and has_config else frame

        cluster.network.edit = hold_configurations  # type: ignore[assignment]
        request = member.request(replace="n5")
        with pytest.raises(HstoreError):
            await cluster[2].node.administration.join(request, deadline(1.0))
        cluster[1].crash()
        cluster.network.edit = None
        await cluster.until(lambda: any(m.is_leader for m in cluster.up))
        await cluster.until(
            lambda: cluster.leader.core.config.all_members() == (1, 2, 3, 4, member.id)
        )
        reply = await cluster[3].node.administration.join(request, deadline())
        assert reply.name == "n5"


# -- what is begun is finished -----------------------------------------------------------------


async def test_a_join_that_was_agreed_is_finished_by_the_next_leader(autojump_clock) -> None:
    """The wish is in the log, and the leader dies before it has changed the configuration."""
    async with running(3) as cluster:
        member = cluster.add()

        def hold_configurations(frm: int, _to: int, frame: object) -> object:
            has_config = isinstance(frame, Append) and any(
                entry.kind == EntryKind.CONFIG for entry in frame.entries
            )
            return None if frm == 1 and has_config else frame

        cluster.network.edit = hold_configurations  # type: ignore[assignment]
        with pytest.raises(HstoreError):
            await cluster[2].node.administration.join(member.request(), deadline(1.0))
        assert all(member.id in other.node.replica.state.members for other in cluster.up)
        cluster[1].crash()
        cluster.network.edit = None
        await cluster.until(lambda: any(m.is_leader for m in cluster.up))

        await cluster.until(lambda: cluster.leader.core.config.learners == (member.id,))
        addresses = {m.id: m.settings.peer_address for m in cluster.up}
        await member.start(addresses)
        await cluster.until(lambda: cluster.leader.core.config.voters == (1, 2, 3, member.id))


async def test_a_removal_that_was_agreed_is_finished_by_the_next_leader(autojump_clock) -> None:
    async with running(4) as cluster:

        def hold_configurations(frm: int, _to: int, frame: object) -> object:
            has_config = isinstance(frame, Append) and any(
                entry.kind == EntryKind.CONFIG for entry in frame.entries
            )
            return None if frm == 1 and has_config else frame

        cluster.network.edit = hold_configurations  # type: ignore[assignment]
        with pytest.raises(HstoreError):
            await cluster[2].node.administration.remove("n4", deadline(1.0))
        cluster[1].crash()
        cluster.network.edit = None
        await cluster.until(lambda: any(m.is_leader for m in cluster.up), within_s=5)

        await cluster.until(lambda: cluster.leader.core.config.voters == (1, 2, 3))
        await cluster.until(cluster[4].ended.is_set, within_s=5)
        assert cluster[4].node.process.was_removed


async def test_a_promotion_is_made_by_the_next_leader(autojump_clock) -> None:
    async with running(3) as cluster:
        member = cluster.add()
        reply = await cluster[2].node.administration.join(member.request(), deadline())
        cluster[1].crash()
        await member.start({int(node, 16): at for node, at in reply.peers.items()})

        await cluster.until(lambda: any(m.is_leader for m in cluster.up))
        await cluster.until(lambda: cluster.leader.core.config.voters == (1, 2, 3, member.id))


async def test_a_join_waits_for_the_leader_to_commit_in_its_term(autojump_clock) -> None:
    """Rule D10: with no majority the change is not even proposed, and the joiner is told."""
    async with running(3) as cluster:
        last = cluster[1].core.history.index
        cluster.silence(1)
        with pytest.raises(HstoreError):
            await cluster[1].node.administration.join(cluster.add().request(), deadline(0.5))
        assert cluster[1].core.history.index == last
        cluster.network.heal()
        await cluster.until(cluster.agrees)


async def test_a_node_that_comes_back_at_other_addresses_is_the_same_member(
    autojump_clock,
) -> None:
    """The others dial where it was; what it says when it dials them tells them where it is."""
    async with running(3) as cluster:
        member = cluster[3]
        member.crash()
        await member.ended.wait()
        old = member.settings
        del cluster.network.listeners[old.peer_address]
        member.settings = msgspec.structs.replace(old, listen=old.listen._replace(host="10.0.0.33"))
        cluster.network.listeners[member.settings.peer_address] = member.listener
        await member.start()

        def is_known() -> bool:
            seen = cluster[1].sees(3)
            return seen is not None and seen.address == "10.0.0.33:8500"

        await cluster.until(is_known)
        await cluster.write(3, "key", "value")
        await cluster.until(lambda: cluster[1].health_of(3) == "alive")
        assert cluster[1].core.config.voters == (1, 2, 3)
        cluster[2].crash()
        await cluster.write(1, "key", "other", within_s=1)
