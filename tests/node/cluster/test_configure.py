"""Settings and names that change while the cluster runs."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
import structlog
import trio

from hstore.node.errors import ConfigError, Refused
from hstore.node.model import commands
from hstore.node.model.commands import ChangeMember, ChangeSetting, ClusterSettings, PutMember
from hstore.node.model.commands import Member as Known
from hstore.node.peers.wire import ForwardKind
from hstore.node.process.announcing import announcement
from hstore.node.raft import election
from hstore.node.raft.core import Core
from hstore.node.raft.options import Options
from hstore.node.raft.roles import Role
from tests.node.memory_cluster import SETTINGS, Cluster, Member, running


def deadline(seconds: float = 5.0) -> float:
    return trio.current_time() + seconds


async def configure(cluster: Cluster, via: int, key: str, value: str):
    return await cluster[via].node.settings.change(key, value, deadline())


def settings_of(member: Member) -> ClusterSettings:
    return member.node.replica.state.settings


def names_at(cluster: Cluster, node_id: int) -> list[str]:
    return [node.name for node in cluster[node_id].node.administration.cluster().nodes]


# -- settings of the cluster -------------------------------------------------------------------


async def test_a_setting_changed_through_a_follower_holds_on_every_node_and_after_a_restart(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        follower = cluster.followers[0]
        changed = await configure(cluster, follower.id, "health_interval", "2s")
        revision = follower.node.replica.state.cluster.changed["health_interval_ms"]
        assert (changed.value, changed.source) == ("2s", f"changed at revision {revision}")
        await cluster.until(
            lambda: all(settings_of(m).health_interval_ms == 2000 for m in cluster.up)
        )

        await follower.stop()
        await follower.start()
        await cluster.until(follower.node.status.in_contact)
        shown = follower.node.settings.show()
        assert shown["health_interval"] == changed
        assert shown["election_timeout"].source == "default"


async def test_a_setting_that_differs_from_the_default_was_set_at_creation(autojump_clock) -> None:
    async with running(1, settings=ClusterSettings(zone="a.example", dns_ttl_s=7)) as cluster:
        shown = cluster[1].node.settings.show()
        assert (shown["zone"].value, shown["zone"].source) == ("a.example", "set at creation")
        assert (shown["dns_ttl"].value, shown["dns_ttl"].source) == ("7s", "set at creation")
        assert shown["election_timeout"].source == "default"


async def test_the_ttl_of_dns_answers_follows_at_once(autojump_clock) -> None:
    async with running(2) as cluster:
        views: list[Any] = []
        cluster[2].node.status.on_view = views.append
        await configure(cluster, 1, "dns_ttl", "30s")
        await cluster.until(lambda: views and views[-1].ttl_s == 30, within_s=0.5)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("zone", "other.example", r"^zone: this cannot be changed: clients"),
        ("hartbeat", "1s", r"^hartbeat: unknown key; allowed: zone, heartbeat, .*n1\.type"),
        ("heartbeat", "5ms", r"^heartbeat: '5ms' is not allowed; .* from 10ms to 10s"),
        ("dns_ttl", "1500ms", r"^dns_ttl: .* whole seconds"),
        ("heartbeat", "251ms", r"^heartbeat: '251ms' is too long; .*quarter .*which is 1s:"),
        ("election_timeout", "399ms", r"^election_timeout: '399ms' is too short; .*4 times"),
        ("n1.type", "leader", r"^n1\.type: 'leader' is not allowed; allowed: one of voter"),
        ("alt_domains", "consul,arpa", r"^alt_domains: .* no reverse names"),
        ("alt_domains", "x.hstore.local", r"^alt_domains: 'x.hstore.local' .* below the zone"),
        ("datacenter", "node", r"^datacenter: 'node' is not allowed; .* such as dc1"),
        ("log_level", "loud", r"^log_level: .* one of debug, info"),
    ],
)
async def test_what_is_not_allowed_is_refused_with_what_is(
    autojump_clock, key, value, said
) -> None:
    async with running(1) as cluster:
        with pytest.raises(ConfigError, match=said):
            await configure(cluster, 1, key, value)
        assert settings_of(cluster[1]) == SETTINGS


async def test_two_changes_at_once_cannot_combine_to_a_pair_that_is_not_allowed(
    autojump_clock,
) -> None:
    """Each fits what holds when it is asked for; the log's order decides which comes too late."""
    async with running(3) as cluster:
        refused = []

        async def change(via: int, key: str, value: str) -> None:
            try:
                await configure(cluster, via, key, value)
            except (ConfigError, Refused) as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change, 2, "heartbeat", "250ms")
            nursery.start_soon(change, 3, "election_timeout", "500ms")
        await cluster.until(lambda: len({settings_of(m) for m in cluster.up}) == 1)
        now = settings_of(cluster[1])
        assert now.election_timeout_ms >= 4 * now.heartbeat_ms
        assert len(refused) == 1


async def test_what_is_already_in_the_log_is_judged_again_when_it_takes_effect(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        replica = cluster.followers[0].node.replica
        wrong: list[tuple[str, int | str]] = [
            ("heartbeat_ms", 400),
            ("dns_ttl_s", 86_401),
            ("heartbeat_ms", 0),
            ("heartbeat_ms", "100"),
            ("datacenter", 5),
            ("datacenter", "no name"),
        ]
        for field, value in wrong:
            command = msgspec.convert(["s", field, value], ChangeSetting)
            data = commands.encode(command)
            outcome = await replica.request(ForwardKind.WRITE, data, deadline())
            assert not outcome.ok
            assert "allowed" in outcome.text
        assert {settings_of(m) for m in cluster.up} == {SETTINGS}


async def test_the_datacenter_is_a_text_and_in_lower_case(autojump_clock) -> None:
    async with running(3) as cluster:
        shown = cluster[2].node.settings.show()
        assert (shown["datacenter"].value, shown["datacenter"].source) == ("dc1", "default")
        changed = await configure(cluster, 2, "datacenter", "Paris_1")
        assert changed.value == "paris_1"
        await cluster.until(lambda: {settings_of(m).datacenter for m in cluster.up} == {"paris_1"})
        with pytest.raises(ConfigError, match=r"^datacenter: .* 1 to 63 of a-z"):
            await configure(cluster, 2, "datacenter", "a b")


def test_logs_of_before_text_settings_are_understood() -> None:
    # As protocol 6 wrote them.
    old = msgspec.msgpack.encode(["s", "dns_ttl_s", 5])
    assert commands.decode(old) == ChangeSetting("dns_ttl_s", 5)
    created = msgspec.msgpack.encode(["i", "id", {"zone": "a.example", "dns_ttl_s": 2}, 3])
    decoded = commands.decode(created)
    assert isinstance(decoded, commands.InitCluster)
    assert decoded.settings == ClusterSettings("a.example", dns_ttl_s=2)
    assert decoded.settings.session_ttl_min_ms == 10_000


# -- their effect ------------------------------------------------------------------------------


async def test_heartbeat_and_election_timeout_hold_at_once_on_every_node(autojump_clock) -> None:
    async with running(3, settings=ClusterSettings("x.example", 10_000, 60_000)) as cluster:
        ticks = {member.id: member.core.ticks for member in cluster.up}
        await configure(cluster, 2, "heartbeat", "50ms")
        await configure(cluster, 3, "election_timeout", "400ms")
        await trio.sleep(1.0)
        for member in cluster.up:
            assert member.core.options.election_ticks == 8
            assert 15 <= member.core.ticks - ticks[member.id] <= 21, (
                "a slow tick is still waited for"
            )

        term = cluster.leader.core.term
        cluster.silence(cluster.leader.id)
        gone = cluster.leader.id
        took = await cluster.until(lambda: cluster.leader.id != gone)
        assert took <= 1.2
        assert cluster.leader.core.term > term


async def test_no_change_of_the_times_costs_the_cluster_its_leader(autojump_clock) -> None:
    """Each pair that follows another is allowed; nodes may be one step apart at any moment."""
    async with running(3) as cluster:
        leader, term = cluster.leader.id, cluster.leader.core.term
        lost: list[Any] = []

        def note(view: Any) -> None:
            if view.leader is None:
                lost.append(view)

        for member in cluster.up:
            member.node.status.on_view = note
        steps = [
            ("election_timeout", "60s"),
            ("heartbeat", "10s"),
            ("heartbeat", "10ms"),
            ("election_timeout", "50ms"),
            ("election_timeout", "10s"),
            ("heartbeat", "1s"),
            ("heartbeat", "100ms"),
            ("election_timeout", "1s"),
        ]
        for number, (key, value) in enumerate(steps):
            await configure(cluster, 1 + number % 3, key, value)
            await trio.sleep(0.3 * (number % 3))
        await trio.sleep(5)
        assert (cluster.leader.id, cluster.leader.core.term) == (leader, term)
        assert lost == []


async def test_a_much_shorter_health_interval_makes_nobody_look_dead(autojump_clock) -> None:
    async with running(3, settings=ClusterSettings(health_interval_ms=60_000)) as cluster:
        seen: set[str] = set()

        def note(_view) -> None:
            seen.update(n.health for m in cluster.up for n in m.node.administration.cluster().nodes)

        cluster.leader.node.status.on_view = note
        await trio.sleep(5)  # for the first reports, of before they knew the interval
        await configure(cluster, 2, "health_interval", "50ms")
        await trio.sleep(10)
        note(None)
        assert seen <= {"alive", "suspect"}
        shown, own = cluster.leader.sees(3), cluster[3].sees(3)
        assert shown is not None
        assert own is not None
        assert (shown.uptime_s or 0) >= (own.uptime_s or 0) - 1, "it reports as seldom as before"
        cluster[3].crash()
        await cluster.until(lambda: cluster[1].health_of(3) == "failed", within_s=0.5)


async def test_the_log_level_is_this_nodes_alone(autojump_clock) -> None:
    before = structlog.get_config()["wrapper_class"]
    try:
        async with running(2) as cluster:
            changed = await configure(cluster, 2, "log_level", "error")
            assert changed.value == "error"
            assert "until it is started again" in changed.source
            assert cluster[2].node.settings.show()["log_level"].value == "error"
            assert cluster[1].node.settings.show()["log_level"].value == "info"
            with structlog.testing.capture_logs() as logs:
                structlog.get_logger().warning("hidden")
                structlog.get_logger().error("shown")
            assert [log["event"] for log in logs] == ["shown"]
    finally:
        structlog.configure(wrapper_class=before)


# -- names -------------------------------------------------------------------------------------


async def test_any_node_even_the_leader_is_renamed_and_everybody_shows_it_at_once(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        views: list[Any] = []
        cluster[3].node.status.on_view = views.append
        leader = cluster.leader.id
        assert await cluster[2].node.settings.rename("n1", "alpha", deadline()) == "n1"
        assert await cluster[2].node.settings.rename("", "beta", deadline()) == "n2"
        assert names_at(cluster, 2) == ["alpha", "beta", "n3"]
        await cluster.until(lambda: names_at(cluster, 3) == ["alpha", "beta", "n3"], within_s=0.2)
        assert (
            cluster[3].node.administration.cluster().leader
            == cluster[leader].node.process.name
            == "alpha"
        )
        assert {m.name for m in views[-1].members} == {"alpha", "beta", "n3"}
        assert views[-1].leader == "alpha"


async def test_the_api_answers_to_the_names_of_the_members_as_they_are_now(
    autojump_clock,
) -> None:
    async with running(2) as cluster:
        process = cluster[1].node.process
        before = process.zone_hosts
        assert {"n1.node.hstore.local", "n2.node.hstore.local", "leader.hstore.local"} <= before
        assert {"consul.service.hstore.local", "consul.service.consul"} <= before
        assert process.zone_hosts is before, "made once, for it is asked for by each request"
        await cluster[1].node.settings.rename("n2", "beta", deadline())
        assert process.zone_hosts - before == {"beta.node.hstore.local", "beta.node.consul"}
        assert before - process.zone_hosts == {"n2.node.hstore.local", "n2.node.consul"}


async def test_the_api_answers_to_the_same_names_in_each_of_its_domains(autojump_clock) -> None:
    async with running(1) as cluster:
        process, settings = cluster[1].node.process, cluster[1].node.settings
        names = {name.removesuffix("consul") for name in process.zone_hosts if "local" not in name}
        assert {"leader.", "n1.node.", "consul.service."} <= names
        assert {f"{name}hstore.local" for name in names} <= process.zone_hosts
        await settings.change("alt_domains", "a.example,b.example", deadline())
        for domain in ("a.example", "b.example", "hstore.local"):
            assert {f"{name}{domain}" for name in names} <= process.zone_hosts
        assert not any(name.endswith(".consul") for name in process.zone_hosts)
        await settings.change("alt_domains", "", deadline())
        assert process.zone_hosts == {f"{name}hstore.local" for name in names}


async def test_a_name_that_is_taken_or_no_label_is_refused(autojump_clock) -> None:
    async with running(2) as cluster:
        with pytest.raises(Refused, match="name n2 is taken"):
            await cluster[1].node.settings.rename("", "n2", deadline())
        with pytest.raises(ConfigError, match=r"name: 'N_1' is not allowed; .*DNS label"):
            await cluster[1].node.settings.rename("", "N_1", deadline())
        with pytest.raises(Refused, match="no member is called n9; the members are n1, n2"):
            await cluster[1].node.settings.rename("n9", "x", deadline())
        assert await cluster[1].node.settings.rename("n1", "n1", deadline()) == "n1"
        assert names_at(cluster, 1) == ["n1", "n2"]


async def test_a_newcomer_is_never_given_a_name_that_a_renamed_node_has(autojump_clock) -> None:
    async with running(2) as cluster:
        await cluster[1].node.settings.rename("n2", "n3", deadline())
        third, fourth = await cluster.join(), await cluster.join()
        assert (third.node.process.name, fourth.node.process.name) == ("n2", "n4")


async def test_a_name_given_while_a_node_is_down_stays_when_it_comes_back(autojump_clock) -> None:
    """It announces where it is, and must not bring back the name it had."""
    async with running(3) as cluster:
        node = cluster.followers[0]
        await node.stop()
        await cluster.leader.node.settings.rename(f"{node.id:016x}", "away", deadline())
        await node.start()
        await cluster.until(lambda: node.node.process.name == "away")
        await trio.sleep(3)
        assert node.node.process.name == "away"


def test_a_known_node_announces_where_it_is_and_nothing_else() -> None:
    known = Known(3, "old", "10.0.0.3:8500", "10.0.0.3:8300", "10.0.0.3:8600", stopped=True)
    now = msgspec.structs.replace(known, address="10.0.0.9:8500", stopped=False)
    assert announcement(now, None) == PutMember(now)
    assert announcement(now, known) == ChangeMember(
        3, stopped=False, addresses=("10.0.0.9:8500", "10.0.0.3:8300", "10.0.0.3:8600")
    )


def test_another_election_timeout_is_counted_from_now() -> None:
    """What was counted in ticks of ten seconds says nothing in ticks of ten milliseconds."""
    core = Core(1, Options(election_ticks=6), Random(1))
    core.elapsed = 5
    election.adopt_timeout(core, 6)
    assert core.elapsed == 5
    election.adopt_timeout(core, 4)
    assert core.elapsed == 0
    assert 4 <= core.timeout < 8


async def test_changes_of_one_member_at_once_do_not_undo_each_other(autojump_clock) -> None:
    async with running(3) as cluster:
        replica = cluster.leader.node.replica

        async def change(command: ChangeMember) -> None:
            data = commands.encode(command)
            await replica.request(ForwardKind.WRITE, data, deadline())

        addresses = ("10.9.9.9:8500", "10.0.0.3:8300", "10.9.9.9:8600")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change, ChangeMember(3, name="new"))
            nursery.start_soon(change, ChangeMember(3, learner=True))
            nursery.start_soon(change, ChangeMember(3, addresses=addresses))
        member = replica.state.members[3]
        assert (member.name, member.learner, member.address) == ("new", True, "10.9.9.9:8500")


# -- types -------------------------------------------------------------------------------------


async def test_a_voter_made_a_learner_leaves_the_quorum_and_is_not_promoted_again(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        node = cluster.followers[0]
        changed = await configure(cluster, node.id, f"{node.node.process.name}.type", "learner")
        assert (changed.value, changed.note) == ("learner", "")
        assert not cluster.leader.core.config.is_voter(node.id)
        await node.stop()
        await node.start()
        await trio.sleep(5)
        assert not cluster.leader.core.config.is_voter(node.id)
        await cluster.until(lambda: cluster.leader.health_of(node.id) == "alive")

        changed = await configure(cluster, 1, f"{node.node.process.name}.type", "voter")
        assert (changed.value, changed.note) == ("voter", "")
        assert cluster.leader.core.config.is_voter(node.id)


async def test_a_leader_made_a_learner_hands_the_lead_over_first(autojump_clock) -> None:
    async with running(3) as cluster:
        old = cluster.leader
        began = trio.current_time()
        await configure(cluster, old.id, f"{old.node.process.name}.type", "learner")
        assert trio.current_time() - began < 0.5, "an election timeout has passed"
        assert old.core.role is Role.FOLLOWER
        assert cluster.leader is not old
        assert not cluster.leader.core.config.is_voter(old.id)
        await cluster.write(old.id, "k", "v")


async def test_a_joined_learner_stays_one_until_it_is_told_otherwise(autojump_clock) -> None:
    async with running(2) as cluster:
        learner = await cluster.join(learner=True)
        await trio.sleep(10)
        assert cluster.leader.core.config.learners == (learner.id,)
        assert cluster[1].node.settings.show()["n3.type"].value == "learner"
        await configure(cluster, 1, "n3.type", "voter")
        assert cluster.leader.core.config.voters == (1, 2, learner.id)


async def test_the_only_voter_cannot_be_made_a_learner(autojump_clock) -> None:
    async with running(1) as cluster:
        await cluster.join(learner=True)
        with pytest.raises(Refused, match="n1 is the only voter"):
            await configure(cluster, 2, "n1.type", "learner")
        await cluster.write(2, "k", "v")


async def test_a_type_that_would_leave_no_live_majority_is_refused(autojump_clock) -> None:
    async with running(3) as cluster:
        down, other = cluster.followers
        down.crash()
        await cluster.until(lambda: cluster.leader.health_of(down.id) == "failed")
        with pytest.raises(Refused, match="no majority"):
            await configure(cluster, 1, f"{other.node.process.name}.type", "learner")
        # The one that is down can go: the other two are a majority of themselves.
        await configure(cluster, 1, f"n{down.id}.type", "learner")
        assert cluster.leader.core.config.voters == tuple(sorted({1, other.id}))


async def test_a_learner_that_is_down_is_promised_its_vote_and_gets_it_when_it_runs(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await configure(cluster, 1, "n3.type", "learner")
        await cluster[3].stop()
        await cluster.until(lambda: cluster.leader.health_of(3) == "stopped")
        changed = await configure(cluster, 1, "n3.type", "voter")
        assert "as soon as it runs" in changed.note
        await cluster[3].start()
        await cluster.until(lambda: cluster.leader.core.config.is_voter(3))
