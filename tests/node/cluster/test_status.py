"""What the nodes show of each other: the leader's view, sent to all, and what it is worth."""

from __future__ import annotations

import msgspec
import pytest
import trio
import trio.testing

from hstore.dns.view import ClusterView
from hstore.node.model.cluster_info import NodeFigures
from hstore.node.model.commands import ClusterSettings
from hstore.node.model.values import Address
from hstore.node.peers import wire
from tests.node.memory_cluster import Cluster, running

INTERVAL_S = 0.5


async def time_until(cluster: Cluster, at: int, other: int, health: str) -> float:
    return await cluster.until(lambda: cluster[at].health_of(other) == health)


# -- health ------------------------------------------------------------------------------------


async def test_a_silent_member_is_suspect_after_two_intervals_and_failed_after_five(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster.silence(3)
        suspect = await time_until(cluster, 1, 3, "suspect")
        failed = suspect + await time_until(cluster, 1, 3, "failed")

        # An interval is 500 ms; the last sign of life is up to a heartbeat older than the silence.
        assert 2 * INTERVAL_S - 0.15 <= suspect <= 2 * INTERVAL_S + 0.15
        assert 5 * INTERVAL_S - 0.15 <= failed <= 5 * INTERVAL_S + 0.15


async def test_whoever_asks_sees_nothing_that_watchers_are_not_told(autojump_clock) -> None:
    """Health lapses by time alone: a look between two ticks once showed what no event did."""
    async with running(3) as cluster:
        # Off the beat of the ticks, which would look at the very moment otherwise.
        cluster.network.ways[3, 1].delay_s = 0.03
        await trio.sleep(1)
        cluster.silence(3)
        await time_until(cluster, 1, 3, "suspect")
        status = cluster[1].node.status
        for _ in range(3000):
            before = status.structure
            await trio.sleep(0.001)
            if cluster[1].health_of(3) == "failed":
                break
        assert cluster[1].health_of(3) == "failed"
        assert status.structure > before


async def test_the_intervals_of_health_are_the_clusters_setting(autojump_clock) -> None:
    settings = ClusterSettings(health_interval_ms=2000)
    async with running(3, settings=settings) as cluster:
        cluster.silence(3)
        suspect = await time_until(cluster, 1, 3, "suspect")
        assert 3.8 <= suspect <= 4.2


async def test_a_member_whose_port_refuses_is_failed_at_once(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[3].crash()
        assert await time_until(cluster, 1, 3, "failed") < 0.1
        assert await time_until(cluster, 2, 3, "failed") < 0.1


async def test_a_member_that_comes_back_is_alive_soon(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[3].crash()
        await trio.sleep(5)
        await cluster[3].start()

        assert await time_until(cluster, 1, 3, "alive") < 1.5
        assert await time_until(cluster, 2, 3, "alive") < 0.1


@pytest.mark.parametrize("who", [3, 1], ids=["follower", "leader"])
async def test_a_member_that_stops_on_purpose_is_stopped_and_not_failed(
    who: int, autojump_clock
) -> None:
    async with running(3) as cluster:
        seen: set[str | None] = set()

        async def watch() -> None:
            while True:
                seen.add(cluster[2].health_of(who))
                await cluster[2].node.administration.wait_cluster_change(
                    cluster[2].node.status.structure
                )

        cluster.nursery.start_soon(watch)
        await cluster[who].stop()
        assert await time_until(cluster, 2, who, "stopped") < 1
        await trio.sleep(10)
        assert cluster[2].health_of(who) == "stopped"
        assert "failed" not in seen

        await cluster[who].start()
        assert await time_until(cluster, 2, who, "alive") < 2


async def test_a_goodbye_is_forgotten_when_the_member_is_back_whoever_leads_then(
    autojump_clock,
) -> None:
    """A leader's goodbye goes to all; once it is back, it reports to the new leader only."""
    async with running(5) as cluster:
        await cluster[1].stop()
        leader = await _leader_after(cluster)
        await cluster[1].start()
        await time_until(cluster, leader, 1, "alive")

        cluster.silence(1)
        cluster[leader].crash()
        leader = await _leader_after(cluster)
        await cluster.until(lambda: cluster[leader].health_of(1) in ("failed", "stopped"))

        assert cluster[leader].health_of(1) == "failed"


async def _leader_after(cluster: Cluster) -> int:
    others = [member for member in cluster.up if member.id != 1]
    await cluster.until(lambda: any(member.is_leader for member in others))
    return next(member.id for member in others if member.is_leader)


async def test_a_newcomer_is_joining_until_it_has_caught_up(autojump_clock) -> None:
    async with running(2) as cluster:
        member = cluster.add()
        await cluster[1].node.administration.join(member.request(), trio.current_time() + 5)
        await trio.sleep(10)

        assert cluster[1].health_of(3) == "joining"
        assert cluster[2].health_of(3) == "joining"


async def test_a_dead_leader_is_failed_as_soon_as_it_is_replaced(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[1].crash()
        await cluster.until(lambda: any(m.is_leader for m in cluster.up))
        await trio.sleep(0.2)

        assert cluster[2].health_of(1) == "failed"
        assert cluster[3].health_of(1) == "failed"


# -- whose view it is --------------------------------------------------------------------------


async def test_followers_show_the_leaders_view(autojump_clock) -> None:
    """Also of a member that they reach and the leader does not."""
    async with running(3) as cluster:
        cluster.silence(3, of=(1,))
        await time_until(cluster, 1, 3, "failed")

        assert await time_until(cluster, 2, 3, "failed") < 0.1
        assert cluster[1].node.administration.cluster().failure_tolerance == 0


async def test_the_figures_of_all_are_at_most_an_interval_old_everywhere(autojump_clock) -> None:
    async with running(3) as cluster:
        revision = await cluster.write(1, "key", "value")
        await trio.sleep(2 * INTERVAL_S + 0.1)

        for at in cluster.up:
            for other in cluster.up:
                seen = at.sees(other.id)
                assert seen is not None
                assert seen.applied_index == seen.commit_index == revision
                assert seen.term == cluster[1].core.term
                assert seen.last_contact_ms is not None
                assert seen.last_contact_ms <= 2 * INTERVAL_S * 1000


async def test_disk_writes_and_flushes_of_all_are_shown_everywhere_and_wake_no_watcher(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await trio.sleep(6)
        before = [m.node.status.structure for m in cluster.up]
        for number in range(40):
            await cluster.write(1, f"key{number}", "value")
            await trio.sleep(0.1)
        await trio.sleep(2 * INTERVAL_S + 0.1)
        for at in cluster.up:
            for other in cluster.up:
                seen = at.sees(other.id)
                assert seen is not None
                assert seen.disk_free is not None
                assert seen.disk_needed is not None
                assert seen.writes_per_s is not None
                assert 5 < seen.writes_per_s < 15
                assert seen.fsync_ms is not None
        assert [m.node.status.structure for m in cluster.up] == before
        await trio.sleep(20)
        seen = cluster[2].sees(3)
        assert seen is not None
        assert (seen.writes_per_s, seen.fsync_ms) == (0.0, None)


@pytest.mark.parametrize("how", ["crash", "stop"])
async def test_how_fast_and_how_long_a_member_runs_is_shown_while_it_runs(
    how: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        for number in range(20):
            await cluster.write(1, f"key{number}", "value")
            await trio.sleep(0.1)
        await cluster.until(lambda: getattr(cluster[2].sees(3), "writes_per_s", None))
        if how == "crash":
            cluster[3].crash()
        else:
            await cluster[3].stop()
        await cluster.until(lambda: cluster[2].health_of(3) in {"failed", "stopped"})
        seen = cluster[2].sees(3)
        assert seen is not None
        assert (seen.uptime_s, seen.writes_per_s, seen.fsync_ms) == (None, None, None)
        assert seen.applied_index, "how far it was is still known"


async def test_an_alarm_of_one_member_is_shown_by_all_while_it_holds(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[2].node.alarms.sound("term_jump", 3, member=3)
        await trio.sleep(2 * INTERVAL_S + 0.1)

        for at in cluster.up:
            seen = [(node.name, node.alarms) for node in at.node.administration.cluster().nodes]
            assert seen == [("n1", ()), ("n2", ("term_jump",)), ("n3", ())]
        await trio.sleep(60)
        shown = cluster[3].node.administration.cluster()
        assert [node.alarms for node in shown.nodes] == [(), (), ()]


async def test_an_older_leaders_bulletin_is_ignored(autojump_clock) -> None:
    async with running(3) as cluster:
        figures = NodeFigures("running", 1, 1, 1, "0", 0)
        old = wire.Bulletin(cluster[2].core.term - 1, {3: ("failed", 9, figures, "")})
        cluster[2].node.status.bulletin(old)
        assert cluster[2].health_of(3) == "alive"


async def test_a_node_without_a_leader_keeps_its_last_view(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[1].crash()
        cluster[2].crash()
        await trio.sleep(20)

        info = cluster[3].node.administration.cluster()
        assert info.leader is None
        assert [node.health for node in info.nodes] == ["alive"] * 3
        assert {node.type for node in info.nodes} == {"follower"}


async def test_one_leader_is_shown_by_all_and_none_while_there_is_none(autojump_clock) -> None:
    async with running(3) as cluster:
        assert [m.node.administration.cluster().leader for m in cluster.up] == ["n1"] * 3
        assert [n.type for n in cluster[3].node.administration.cluster().nodes].count("leader") == 1
        cluster[1].crash()
        assert (
            await cluster.until(lambda: cluster[2].node.administration.cluster().leader != "n1")
            < 0.1
        )
        await cluster.until(cluster.agrees)
        shown = {m.node.administration.cluster().leader for m in cluster.up}
        assert shown == {cluster.leader.node.process.name}


# -- contact -----------------------------------------------------------------------------------


async def test_contact_lapses_after_an_election_timeout_of_silence(autojump_clock) -> None:
    async with running(3) as cluster:
        assert all(m.node.process.unhealthy() is None for m in cluster.up)
        cluster.silence(2)
        cluster.silence(3)
        cluster.silence(1)
        lapsed = await cluster.until(lambda: all(m.node.process.unhealthy() for m in cluster.up))

        assert lapsed <= 1.3
        assert cluster[1].node.administration.cluster().leader is None
        cluster.network.heal()
        await cluster.until(lambda: all(m.node.process.unhealthy() is None for m in cluster.up))


async def test_a_leader_is_in_contact_only_with_a_majority(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster.silence(3)
        await trio.sleep(5)
        assert cluster[1].node.process.unhealthy() is None

        cluster.silence(2)
        took = await cluster.until(lambda: cluster[1].node.process.unhealthy() is not None)
        assert 0.8 <= took <= 1.3


async def test_a_follower_whose_leader_dies_is_out_of_contact_at_once(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[1].crash()
        cluster[3].crash()
        assert await cluster.until(lambda: cluster[2].node.process.unhealthy() is not None) < 0.1


async def test_a_learner_whose_leader_dies_is_out_of_contact_at_once(autojump_clock) -> None:
    """It calls no election, and yet names no leader that refuses it."""
    async with running(2) as cluster:
        learner = await cluster.join(learner=True)
        cluster[2].disk.flush_gate = gate = trio.Event()
        cluster[1].crash()
        assert await cluster.until(lambda: learner.node.process.unhealthy() is not None) < 0.05
        gate.set()


async def test_a_new_leader_calls_nobody_failed_whom_it_could_not_yet_hear(
    autojump_clock,
) -> None:
    """Followers and learners talk to the leader only: the next one has never heard a learner."""
    async with running(3) as cluster:
        learner = await cluster.join(learner=True)
        seen: set[str | None] = set()

        await trio.sleep(10)
        cluster[2].node.replica.heard.pop(learner.id, None)
        for at in (2, 3):
            views = cluster[at].node.status

            def note(_view: object, at: int = at) -> None:
                seen.add(cluster[at].health_of(learner.id))

            views.on_view = note
        cluster[1].crash()
        await cluster.until(cluster.agrees)
        await trio.sleep(3)
        assert seen == {"alive"}


# -- who waits for news ------------------------------------------------------------------------


async def test_the_structure_changes_at_once_and_only_when_something_shown_does(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await trio.sleep(2)
        before = [m.node.status.structure for m in cluster.up]
        await cluster.write(1, "key", "value")
        await trio.sleep(10)
        assert [m.node.status.structure for m in cluster.up] == before

        seen = before[1]
        changes: list[float] = []

        async def wait() -> None:
            await cluster[2].node.administration.wait_cluster_change(seen)
            changes.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            started = trio.current_time()
            cluster[1].crash()
        assert changes[0] - started < 0.1


@pytest.mark.parametrize("wait_s", [0.02, 0.13, 0.24, 0.35, 0.46])
async def test_contact_that_lapses_by_time_alone_is_news_within_a_tick(
    wait_s: float, autojump_clock
) -> None:
    async with running(3) as cluster:
        await trio.sleep(wait_s)
        cluster.silence(1)
        started = trio.current_time()
        views: list[tuple[float, ClusterView | None]] = []
        cluster[1].node.status.on_view = lambda view: views.append((trio.current_time(), view))
        await cluster.until(lambda: any(view and view.leader is None for _, view in views))

        lapsed = next(at for at, view in views if view and view.leader is None)
        assert lapsed - started <= 1.0 + 0.1 + 0.001


async def test_the_dns_view_follows_at_once_and_names_a_leader_only_in_contact(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        views: list[ClusterView | None] = []
        cluster[2].node.status.on_view = views.append
        cluster[1].crash()
        await cluster.until(lambda: bool(views))
        first = views[0]
        assert first is not None
        assert first.leader is None
        assert [m.name for m in first.members] == ["n1", "n2", "n3"]

        await cluster.until(cluster.agrees)
        await trio.sleep(0.2)
        last = views[-1]
        assert last is not None
        assert last.leader == cluster.leader.node.process.name
        assert {m.name: m.live for m in last.members} == {"n1": False, "n2": True, "n3": True}
        serials = [view.serial for view in views if view is not None]
        assert serials == sorted(set(serials))


# -- staleness ---------------------------------------------------------------------------------


async def test_the_copys_age_is_known_without_readers_and_grows_in_isolation(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await trio.sleep(2)
        for member in cluster.up:
            age = member.node.keys.stale_ms()
            assert age is not None
            assert age <= 1_150
        cluster.silence(3)
        await trio.sleep(30)
        age = cluster[3].node.keys.stale_ms()
        assert age is not None
        assert 30_000 <= age <= 31_200
        cluster.network.heal()
        await cluster.until(lambda: (cluster[3].node.keys.stale_ms() or 0) < 1_150)


async def test_a_copy_that_was_never_compared_has_no_age(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[1].crash()
        cluster[2].crash()
        cluster[3].crash()
        await cluster[3].ended.wait()
        await cluster[3].start()
        await trio.sleep(5)
        assert cluster[3].node.keys.stale_ms() is None


async def test_a_node_shows_where_it_is_now_and_that_it_lives_before_anybody_else_knows(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster[1].crash()
        cluster[3].crash()
        cluster[2].crash()
        await cluster[2].ended.wait()
        cluster[2].settings = msgspec.structs.replace(
            cluster[2].settings, listen=Address("10.1.0.2", 8500)
        )
        await cluster[2].start()
        view = cluster[2].node.status.view()
        assert view is not None
        assert view.leader is None
        shown = {m.name: (m.host, m.api_port, m.peer_port, m.live) for m in view.members}
        assert shown["n2"] == ("10.1.0.2", 8500, 8300, True)
        assert shown["n1"] == ("10.0.0.1", 8500, 8300, False)
        cluster[2].node.status.is_stopping = True
        view = cluster[2].node.status.view()
        assert view is not None
        assert not view.members[1].live
