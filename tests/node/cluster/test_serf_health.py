"""The check `serfHealth` of members: contract of services, section 4.4."""

from __future__ import annotations

import pytest
import trio

from hstore.node.model.checks import SERF_HEALTH
from tests.node.memory_cluster import Cluster, Member, running

INTERVAL_S = 0.5


def health(at: Member, of: Member) -> str | None:
    """Return what the copy of one node says of another."""
    members = at.node.replica.facts.members
    if of.id not in members:
        return None
    check = at.node.keys.check(members[of.id].catalog_number, SERF_HEALTH)
    return None if check is None else check.status


def everywhere(cluster: Cluster, of: Member) -> set[str | None]:
    return {health(at, of) for at in cluster.up}


async def all_pass(cluster: Cluster) -> None:
    await cluster.until(lambda: all(everywhere(cluster, m) == {"passing"} for m in cluster.up))


async def test_members_pass_on_every_node_soon_after_they_join(autojump_clock) -> None:
    async with running(3) as cluster:
        took = await cluster.until(
            lambda: all(everywhere(cluster, m) == {"passing"} for m in cluster.up)
        )
        assert took <= 0.5


async def test_a_cluster_at_rest_writes_nothing(autojump_clock) -> None:
    async with running(3) as cluster:
        await all_pass(cluster)
        await trio.sleep(22)  # The comparison of replicas is over.
        before = cluster.leader.node.keys.applied_index
        await trio.sleep(22)
        assert cluster.leader.node.keys.applied_index == before


async def test_a_silent_member_is_critical_when_it_is_failed_and_passes_when_it_is_back(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await all_pass(cluster)
        silent = cluster.followers[0]
        others = cluster.others(silent)
        cluster.silence(silent.id)
        await trio.sleep(5 * INTERVAL_S - 0.2)
        assert {health(at, silent) for at in others} == {"passing"}
        took = await cluster.until(lambda: {health(at, silent) for at in others} == {"critical"})
        assert took <= 0.6

        for other in others:
            for way in cluster.network.between(silent.id, other.id):
                way.release()
        await cluster.until(silent.node.status.in_contact)
        took = await cluster.until(lambda: everywhere(cluster, silent) == {"passing"})
        assert took <= 1.0


async def test_a_write_that_waited_calls_nobody_critical_who_was_heard(
    autojump_clock, monkeypatch
) -> None:
    """As writes wait at the leader while it hands the lead over, in vain."""
    async with running(3) as cluster:
        await all_pass(cluster)
        silent = cluster.followers[0]
        written: list[bytes] = []
        apply = silent.node.replica.state.apply

        def watched(entries, tell):
            written.extend(entry.data for entry in entries if b"serfHealth" in entry.data)
            return apply(entries, tell)

        monkeypatch.setattr(silent.node.replica.state, "apply", watched)
        waiting = cluster.leader.node.replica.waiting
        with monkeypatch.context() as patch:
            patch.setattr(cluster.leader.node.replica.intake, "_propose", lambda _events: None)
            cluster.silence(silent.id)
            await cluster.until(lambda: waiting.queued)
            for other in cluster.others(silent):
                for way in cluster.network.between(silent.id, other.id):
                    way.release()
            await cluster.until(lambda: cluster.leader.health_of(silent.id) == "alive")
            await trio.sleep(0.01)
        await cluster.write(cluster.leader.id, "a", "b")
        await cluster.until(lambda: silent.value("a") == "b")
        assert written == []


async def test_a_member_whose_port_refuses_is_critical_after_three_seconds(autojump_clock) -> None:
    async with running(3) as cluster:
        await all_pass(cluster)
        dead = cluster.followers[0]
        others = cluster.others(dead)
        dead.crash()
        await trio.sleep(2.8)
        assert cluster.leader.health_of(dead.id) == "failed"
        assert {health(at, dead) for at in others} == {"passing"}
        took = await cluster.until(lambda: {health(at, dead) for at in others} == {"critical"})
        assert 2.8 + took <= 4.0


async def test_the_death_of_a_leader_is_seen_in_the_same_time(autojump_clock) -> None:
    async with running(3) as cluster:
        await all_pass(cluster)
        dead = cluster.leader
        others = cluster.others(dead)
        dead.crash()
        await trio.sleep(2.8)
        assert {health(at, dead) for at in others} == {"passing"}
        took = await cluster.until(lambda: {health(at, dead) for at in others} == {"critical"})
        assert 2.8 + took <= 4.0


@pytest.mark.parametrize("is_clean", [False, True])
async def test_a_restart_in_place_changes_nothing(is_clean: bool, autojump_clock) -> None:
    async with running(3) as cluster:
        await all_pass(cluster)
        member = cluster.followers[0]
        before = cluster.leader.node.keys.applied_index
        if is_clean:
            member.node.process.restart()
            await member.ended.wait()
            await member.storage.close()
        else:
            member.crash()
            await member.ended.wait()
        await trio.sleep(2.0)
        seen = cluster.leader.health_of(member.id)
        assert seen == ("stopped" if is_clean else "failed")
        assert {health(at, member) for at in cluster.up} == {"passing"}
        await member.start()
        await cluster.until(member.node.status.in_contact)
        await trio.sleep(5.0)
        assert everywhere(cluster, member) == {"passing"}
        assert cluster.leader.node.keys.applied_index == before


async def test_a_member_that_was_stopped_is_critical_at_once(autojump_clock) -> None:
    async with running(3) as cluster:
        await all_pass(cluster)
        member = cluster.followers[0]
        await member.stop()
        took = await cluster.until(lambda: everywhere(cluster, member) == {"critical"})
        assert took <= 1.0

        await member.start()
        await cluster.until(member.node.status.in_contact)
        took = await cluster.until(lambda: everywhere(cluster, member) == {"passing"})
        assert took <= 1.0


async def test_a_dead_member_does_not_pass_for_a_moment_because_another_node_leads(
    autojump_clock,
) -> None:
    async with running(4) as cluster:
        await all_pass(cluster)
        dead, leader = cluster.followers[0], cluster.leader
        cluster.silence(dead.id)
        others = [m for m in cluster.others(dead) if m is not leader]
        await cluster.until(lambda: health(others[0], dead) == "critical")
        index = cluster.leader.node.keys.applied_index

        await leader.node.administration.transfer("", trio.current_time() + 5)
        await trio.sleep(10)
        assert cluster.leader is not leader
        assert {health(at, dead) for at in others} == {"critical"}
        # The first entry of the new leader, and perhaps a comparison of replicas.
        assert cluster.leader.node.keys.applied_index <= index + 2


async def test_who_leaves_takes_the_check_along(autojump_clock) -> None:
    async with running(3) as cluster:
        await all_pass(cluster)
        member = cluster.followers[0]
        number = cluster.leader.node.replica.facts.members[member.id].catalog_number
        await member.node.administration.leave(trio.current_time() + 5)
        await cluster.until(lambda: cluster.leader.node.keys.check(number, SERF_HEALTH) is None)
