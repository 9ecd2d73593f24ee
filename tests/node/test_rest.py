"""A cluster at rest costs next to nothing: its nodes wake up together, with the leader's tick."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
import trio

from hstore.node.cluster.reconciler import Reconciler
from hstore.node.cluster.status import Status
from hstore.node.discovery import rediscovery
from hstore.node.driver.freshness import Freshness
from hstore.node.driver.ticks import TickTimer
from hstore.node.model.commands import ChangeMember, ClusterSettings
from hstore.node.peers import wire
from hstore.node.process import announcing
from hstore.node.raft import events as happened
from hstore.node.raft import replication
from hstore.node.raft.messages import Append, Heartbeat
from tests.node.memory_cluster import Member, running
from tests.node.test_expect import waiting_for

REST_S = 10.0


class Moments(trio.abc.Instrument):
    """The times at which any task ran."""

    def __init__(self) -> None:
        self.at: set[float] = set()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.at.add(round(trio.current_time(), 6))


def noted_ticks(member: Member) -> list[float]:
    """Return the list of all times at which this member ticks from now on."""
    ticks: list[float] = []
    on_tick = member.node.replica.on_tick

    def note() -> None:
        ticks.append(trio.current_time())
        on_tick()

    member.node.replica.on_tick = note
    return ticks


async def test_nodes_at_rest_wake_up_with_the_leaders_tick_and_hardly_ever_else(
    autojump_clock,
) -> None:
    settings = ClusterSettings()
    async with running(3, settings=settings) as cluster, trio.open_nursery() as nursery:
        for member in cluster.up:  # what the process runs beside the node itself
            nursery.start_soon(announcing.keep_announced, member.node, member.settings)
            nursery.start_soon(rediscovery.Rediscovery(member.node, [], Random(1)).run)
        await trio.sleep(5)
        ticks, moments = noted_ticks(cluster.leader), Moments()
        trio.lowlevel.add_instrument(moments)
        await trio.sleep(REST_S)
        trio.lowlevel.remove_instrument(moments)
        nursery.cancel_scope.cancel()

    beats = {round(at, 6) for at in ticks}
    assert len(beats) == pytest.approx(REST_S * 1000 / settings.heartbeat_ms, abs=1)
    # What comes every few seconds: views of snapshots, and the comparison of replicas; a follower
    # whose wait ended a moment before the heartbeat.
    assert len(moments.at - beats) <= 10


async def test_a_leader_at_rest_works_nothing_out_again(
    autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(3):
        await trio.sleep(1)
        done: list[str] = []
        for owner, name in ((Reconciler, "_due"), (Status, "info")):
            monkeypatch.setattr(owner, name, _noted(done, name, getattr(owner, name)))
        await trio.sleep(REST_S)
        told = REST_S / 0.5  # bulletins
        assert done.count("_due") == 0
        # At the leader with each bulletin and each of two reports, at a follower with each bulletin.
        assert done.count("info") <= told * 5 + 5


def _noted(done: list[Any], name: str, do):
    def noted(*args, **kwargs):
        done.append(name)
        return do(*args, **kwargs)

    return noted


async def test_where_ticks_are_rarer_than_health_checks_those_keep_to_their_own_time(
    autojump_clock,
) -> None:
    settings = ClusterSettings(
        heartbeat_ms=5000, election_timeout_ms=20_000, health_interval_ms=500
    )
    async with running(3, settings=settings) as cluster:
        await trio.sleep(1)
        seen: set[str] = set()
        for _ in range(60):
            await trio.sleep(0.25)
            seen.update(str(cluster[1].health_of(other)) for other in (1, 2, 3))
        assert seen == {"alive"}


async def test_a_member_that_is_heard_again_is_shown_as_alive_at_the_next_tick(
    autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(3) as cluster:
        status = cluster[1].node.status
        cluster.silence(3)
        await cluster.until(lambda: cluster[1].health_of(3) == "suspect")
        seen = status.structure
        # Its report would tell at once; what is heard first may be anything.
        monkeypatch.setattr(status, "reported", lambda _peer, _report: None)
        cluster.network.heal()
        healed_at = trio.current_time()
        await cluster[1].node.administration.wait_cluster_change(seen)
        assert trio.current_time() - healed_at <= 0.11


async def test_lost_contact_is_news_also_where_no_leader_is_named_to_anybody(
    autojump_clock,
) -> None:
    """A cluster that waits for nodes names none; who has lost it looks for it all the same."""
    async with waiting_for(3) as cluster:
        second = await cluster.join()
        await trio.sleep(5)
        status = second.node.status
        assert status.in_contact()
        cluster.silence(1)
        with trio.fail_after(1.4):
            while status.in_contact():
                await status.wait_change(status.structure)


async def test_a_member_that_is_wished_to_stop_while_it_runs_says_so_by_itself(
    autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else changes that others are shown, so only this tells it."""
    async with running(3) as cluster, trio.open_nursery() as nursery:
        monkeypatch.setattr(Reconciler, "_due", lambda _self: ())
        nursery.start_soon(announcing.keep_announced, cluster[2].node, cluster[2].settings)
        await trio.sleep(5)
        wish = ChangeMember(2, stopped=True)
        outcome = await cluster[1].node.keys.write(wish, trio.current_time() + 5)
        assert outcome.ok
        known = cluster[1].node.replica.state.members
        assert known[2].stopped
        await cluster.until(lambda: not cluster[1].node.replica.state.members[2].stopped)
        nursery.cancel_scope.cancel()


async def test_a_follower_ticks_with_the_heartbeats_as_often_as_the_leader(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(5)
        lists = [noted_ticks(member) for member in cluster.up]
        await trio.sleep(REST_S)
        for ticks in lists:
            assert len(ticks) == pytest.approx(REST_S / 0.1, abs=5)
            assert all(0.05 <= later - one <= 0.2 for one, later in pairwise(ticks))


async def test_a_follower_goes_on_ticking_when_the_leader_is_silent(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(5)
        cluster.silence(1)
        ticks = noted_ticks(cluster[2])
        silent_at = trio.current_time()
        await cluster.until(lambda: cluster[2].core.term > 2 or cluster[3].core.term > 2)
        assert len(ticks) >= 9
        # Not before the election timeout, counted from the last heartbeat that was heard.
        assert trio.current_time() - silent_at >= 1.0 - 0.1


async def test_followers_that_heard_the_same_heartbeat_do_not_all_ask_at_the_same_moment(
    autojump_clock,
) -> None:
    """Each counts from that heartbeat: without something random the ballots would be split."""
    spread = set()
    for seed in range(1, 9):
        async with running(3, seed=seed) as cluster:
            await trio.sleep(1)
            cluster.silence(1)
            lists = [noted_ticks(cluster[other]) for other in (2, 3)]
            await trio.sleep(0.25)  # longer than any first tick takes
            spread.add(round(abs(lists[0][0] - lists[1][0]), 3))
    assert len(spread) >= 6
    assert max(spread) >= 0.03


async def test_a_heartbeat_of_an_older_term_is_no_tick(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(1)
        cluster.silence(1)
        await trio.sleep(0.09)
        replica, ticks = cluster[2].node.replica, noted_ticks(cluster[2])
        replica.received(1, Heartbeat(1, 2, replica.core.term - 1, 0, 1))
        assert not ticks
        replica.received(1, Heartbeat(1, 2, replica.core.term, 0, 1))
        assert ticks
        kinds = [type(event) for event in replica._events]
        assert kinds.index(happened.Tick) < len(kinds) - 1  # the silence begins after it


async def test_a_wait_is_cut_short_in_its_second_half_only_and_the_next_is_longer(
    autojump_clock,
) -> None:
    tick_timer = TickTimer(lambda: 1.0, stretch=lambda: 0.5)
    ended: list[float] = []
    assert tick_timer.cut_short() is None  # nobody waits

    async def waits() -> None:
        while True:
            waited = await tick_timer.wait()
            ended.append(trio.current_time() - start)
            assert waited in (1.0, 1.5)

    async with trio.open_nursery() as nursery:
        start = trio.current_time()
        nursery.start_soon(waits)
        await trio.sleep(0.4)
        assert tick_timer.cut_short() is None
        await trio.sleep(0.2)
        assert tick_timer.cut_short() == pytest.approx(0.6)
        await trio.sleep(3.0)
        assert ended == [pytest.approx(2.1), pytest.approx(3.1)]
        nursery.cancel_scope.cancel()


async def test_a_wait_that_is_over_is_not_cut_short_as_well(autojump_clock) -> None:
    """Both in one pass of the event loop: time that passed once was counted twice."""
    tick_timer = TickTimer(lambda: 1.0)
    counted: list[float] = []

    async def waits() -> None:
        while True:
            counted.append(await tick_timer.wait())

    async def cuts() -> None:
        await trio.sleep_until(start + 1.0)
        counted.append(tick_timer.cut_short() or 0.0)

    async with trio.open_nursery() as nursery:
        start = trio.current_time()
        for _ in range(8):  # Trio wakes them in any order.
            nursery.start_soon(cuts)
        nursery.start_soon(waits)
        await trio.sleep(1.5)
        assert sum(counted) == 1.0
        nursery.cancel_scope.cancel()


async def test_a_node_asks_how_old_its_copy_is_once_a_second_and_once_at_a_time(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await trio.sleep(5)
        asked = cluster[2].node.replica.intake.reads_asked
        await trio.sleep(REST_S)
        assert cluster[2].node.replica.intake.reads_asked - asked == pytest.approx(REST_S, abs=1)

        freshness = Freshness(cluster[2].node.replica)
        waiting = cluster[2].node.replica.waiting
        cluster.silence(2)
        for _ in range(3):
            freshness.tick()
            await trio.sleep(1.5)
        assert waiting.reads <= 2  # this one's and the node's own


# -- the news of a commit -----------------------------------------------------------------------


async def test_a_lone_write_is_known_to_followers_soon_after_it_was_answered(
    autojump_clock,
) -> None:
    async with running(3, settings=ClusterSettings()) as cluster:
        await trio.sleep(1)
        await cluster.write(1, "k", "v")
        answered_at = trio.current_time()
        await cluster.until(lambda: cluster[2].value("k") == cluster[3].value("k") == "v")
        assert trio.current_time() - answered_at <= 0.002 + 0.005


async def test_a_client_that_writes_one_key_after_another_costs_one_append_each(
    autojump_clock,
) -> None:
    """The news of each commit took a message of its own, which was in the next one's way."""
    async with running(3) as cluster:
        await trio.sleep(1)
        appends: list[Append] = []

        def note(_frm: int, _to: int, frame: wire.Frame) -> None:
            if isinstance(frame, Append):
                appends.append(frame)

        cluster.network.taps.append(note)
        for number in range(9):  # While writes are few, each commit is told at once.
            await cluster.write(1, f"first-{number}", "v")
        appends.clear()
        for number in range(50):
            await cluster.write(1, f"key-{number}", "v")
        assert len(appends) <= 2 * 50
        await trio.sleep(0.05)
        assert 2 * 50 < len(appends) <= 2 * 50 + 4
        assert cluster[2].value("key-49") == "v"


async def test_a_leader_whose_follower_never_answers_does_not_try_to_tell_it_for_ever(
    autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(3) as cluster:
        await trio.sleep(1)
        cluster.silence(3, of=(1,))
        events: list[object] = []
        news = cluster[1].node.replica._news
        # As after many commits: the news of one is not told at once any more.
        monkeypatch.setattr(news, "_credit", -8.0)
        monkeypatch.setattr(news, "_credit_at", trio.current_time())
        monkeypatch.setattr(news, "_feed", _noted(events, "told", news._feed))
        await cluster.write(1, "k", "v")
        await trio.sleep(2)
        assert 1 <= len(events) <= 9


async def test_where_entries_carry_the_news_it_is_looked_for_ever_more_rarely(
    autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(3) as cluster:
        await trio.sleep(1)
        looks: list[str] = []
        commits: list[str] = []  # Each looks once by itself, and wakes nothing up.
        news = cluster[1].node.replica._news
        monkeypatch.setattr(replication, "is_untold", _noted(looks, "", replication.is_untold))
        monkeypatch.setattr(news, "committed", _noted(commits, "", news.committed))
        for number in range(1000):
            await cluster.write(1, f"key-{number}", "v")
            await trio.sleep(0.001)
        assert len(looks) - len(commits) <= 2 * (1.0 / 0.016 + 8)

        looks.clear()
        for number in range(20):
            await cluster.write(1, f"rare-{number}", "v")
            await trio.sleep(0.0025)
            assert number < 4 or cluster[2].value(f"rare-{number}") == "v"
            await trio.sleep(0.0075)
