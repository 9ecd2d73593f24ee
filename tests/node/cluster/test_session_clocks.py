"""Clocks of sessions: contract of services, section 6.2. Times are the leader's, and virtual."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal

import pytest
import trio
import trio.testing

from hstore.node.cluster import session_clocks, session_ends
from hstore.node.driver.requests import Request
from hstore.node.errors import HstoreError, NoLeader, OutcomeUnknown, Overloaded, Refused
from hstore.node.model.checks import SERF_HEALTH
from hstore.node.model.commands import Outcome
from hstore.node.model.locks import Acquire, CreateSession, EndSession, Session
from hstore.node.peers.wire import ForwardKind
from hstore.node.state.catalog import nodes
from tests.node.memory_cluster import Cluster, Member, running

TTL_S = 2.0
"""Less than clients may ask for, which makes the tests short."""
LATE_S = 0.2
OTHER_NODE = 4242
"""The catalog number of a node that is no member."""


def session_id(number: int) -> bytes:
    return number.to_bytes(16)


def number_of(member: Member) -> int:
    return member.node.replica.facts.members[member.id].catalog_number


async def create(
    cluster: Cluster,
    via: Member,
    number: int,
    *,
    ttl_s: float = TTL_S,
    checks: tuple[str, ...] = (),
    node: int | None = None,
    behavior: Literal["release", "delete"] = "release",
) -> bytes:
    """Make a session and return its id."""
    session = Session(
        session_id(number),
        "",
        node or number_of(via),
        0,
        behavior,
        f"{ttl_s:g}s" if ttl_s else "",
        int(ttl_s * 1000),
        checks,
    )
    outcome: Outcome = await via.node.keys.write(CreateSession(session), trio.current_time() + 5)
    assert outcome.ok, outcome
    return session.id


async def create_all(
    cluster: Cluster, via: Member, numbers: range, *, ttl_s: float = TTL_S
) -> None:
    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(partial(create, cluster, via, number, ttl_s=ttl_s))


async def renew(via: Member, session: bytes, within_s: float = 5.0) -> Session | None:
    return await via.node.sessions.renew(session, trio.current_time() + within_s)


def is_there(at: Member, session: bytes) -> bool:
    return at.node.keys.session(session) is not None


async def lifetime(cluster: Cluster, session: bytes, since: float, within_s: float = 100) -> float:
    """Wait until a session has ended on every node, and return how long after `since` that is."""
    await cluster.until(lambda: not any(is_there(m, session) for m in cluster.up), within_s)
    return trio.current_time() - since


def assert_ended_in_time(lived_s: float, ttl_s: float = TTL_S) -> None:
    assert 2 * ttl_s <= lived_s <= 2 * ttl_s + LATE_S + 0.01


@asynccontextmanager
async def three() -> AsyncIterator[Cluster]:
    """Three nodes, of which each has a passing check."""
    async with running(3) as cluster:
        await cluster.until(
            lambda: all(
                (check := at.node.keys.check(number_of(of), SERF_HEALTH)) is not None
                and check.status == "passing"
                for at in cluster.up
                for of in cluster.up
            )
        )
        yield cluster


# -- time to live ------------------------------------------------------------------------------


async def test_a_session_ends_at_twice_its_ttl_after_it_was_made(autojump_clock) -> None:
    async with three() as cluster:
        for via in (cluster.leader, cluster.followers[0]):
            session = await create(cluster, via, via.id)
            made = trio.current_time()
            assert_ended_in_time(await lifetime(cluster, session, made))


async def test_a_session_without_a_ttl_does_not_end_and_can_be_renewed(autojump_clock) -> None:
    async with three() as cluster:
        session = await create(cluster, cluster.leader, 1, ttl_s=0)
        await trio.sleep(10)
        renewed = await renew(cluster.followers[0], session)
        assert renewed is not None
        assert renewed.id == session


@pytest.mark.parametrize("at_leader", [True, False])
async def test_a_renewal_starts_the_time_again(at_leader: bool, autojump_clock) -> None:
    async with three() as cluster:
        via = cluster.leader if at_leader else cluster.followers[0]
        session = await create(cluster, via, 1)
        for _ in range(3):
            await trio.sleep(1.9 * TTL_S)
            renewed = await renew(via, session)
            assert renewed == via.node.keys.session(session)
        assert_ended_in_time(await lifetime(cluster, session, trio.current_time()))
        assert await renew(via, session) is None


@pytest.mark.parametrize("at_leader", [True, False])
async def test_any_node_can_say_how_much_time_sessions_have_left(
    at_leader: bool, autojump_clock
) -> None:
    async with three() as cluster:
        leader = cluster.leader
        via = leader if at_leader else cluster.followers[0]
        timed = await create(cluster, leader, 1)
        untimed = await create(cluster, leader, 2, ttl_s=0)
        await trio.sleep(TTL_S / 2)

        asked, deadline = [timed, untimed, session_id(9)], trio.current_time() + 1
        left, no_clock, unknown = await via.node.sessions.left_ms(asked, deadline)

        assert left is not None
        assert TTL_S * 400 < left <= TTL_S * 500
        assert (no_clock, unknown) == (None, None)


async def test_renewals_that_no_task_waits_for_are_answered_once(autojump_clock) -> None:
    async with three() as cluster:
        for via in (cluster.leader, cluster.followers[0]):
            session = await create(cluster, via, via.id)
            told: list[object] = []
            deadline = trio.current_time() + 5
            for wanted in (session, session_id(99)):
                assert via.node.sessions.begin_renew(wanted, deadline, told.append) is not None
            await cluster.until(partial(told.__contains__, None))
            assert isinstance(told[0], Session)
            assert told[1] is None


async def test_renewals_of_one_turn_share_a_read(autojump_clock) -> None:
    async with three() as cluster:
        session = await create(cluster, cluster.leader, 1)
        await trio.sleep(0.5)  # The next read of the leader's own comes later.
        leader = cluster.leader.node
        told: list[object] = []
        asked, deadline = leader.replica.intake.reads_asked, trio.current_time() + 5
        for wanted in [session] * 65 + [session_id(99)]:
            assert leader.sessions.begin_renew(wanted, deadline, told.append) is not None
        await cluster.until(lambda: len(told) == 66)
        assert leader.replica.intake.reads_asked - asked == 2  # 64 share one.
        assert told == [*[leader.keys.session(session)] * 65, None]


async def test_a_renewal_shares_no_read_that_has_asked_before(autojump_clock) -> None:
    async with three() as cluster:
        session = await create(cluster, cluster.leader, 1)
        await trio.sleep(0.5)
        cluster.silence(cluster.leader.id)
        leader, deadline = cluster.leader.node, trio.current_time() + 5
        asked = leader.replica.intake.reads_asked
        for count in (1, 2):
            leader.sessions.begin_renew(session, deadline, lambda _answer: None)
            await trio.testing.wait_all_tasks_blocked()
            assert leader.replica.intake.reads_asked - asked == count


async def test_a_renewal_that_may_take_longer_does_not_share_an_earlier_end(autojump_clock) -> None:
    async with three() as cluster:
        session = await create(cluster, cluster.leader, 1)
        leader = cluster.leader
        cluster.silence(leader.id)
        began = trio.current_time()
        told: dict[float, object] = {}
        for within_s in (0.3, 0.2, 0.9):
            tell = partial(told.__setitem__, within_s)
            leader.node.sessions.begin_renew(session, began + within_s, tell)
        for within_s in (0.2, 0.3, 0.9):
            await cluster.until(partial(told.__contains__, within_s))
            assert within_s <= trio.current_time() - began <= within_s + 0.21


async def test_each_session_has_its_own_time(autojump_clock) -> None:
    async with three() as cluster:
        began = trio.current_time()
        ttls = {number: TTL_S + number / 10 for number in range(1, 20)}
        for number, ttl_s in ttls.items():
            await create(cluster, cluster.leader, number, ttl_s=ttl_s)
        for number, ttl_s in ttls.items():
            lived = await lifetime(cluster, session_id(number), began)
            assert_ended_in_time(lived, ttl_s)


async def test_destroyed_sessions_and_unknown_ones_are_not_renewed(autojump_clock) -> None:
    async with three() as cluster:
        follower = cluster.followers[0]
        session = await create(cluster, follower, 1)
        await follower.node.keys.write(EndSession(session), trio.current_time() + 5)
        # On every node at once, whatever its clocks have heard of it.
        for via in cluster.up:
            assert await renew(via, session) is None
        assert await renew(follower, session_id(7)) is None


async def test_a_leader_that_has_yet_to_see_a_change_asks_the_state(autojump_clock) -> None:
    async with three() as cluster:
        leader = cluster.leader
        session = await create(cluster, leader, 1)
        await trio.sleep(0.1)
        assert session in leader.node.sessions._clocks
        leader.node.keys.watches.wake = lambda _call: None  # Nobody looks at changes any more.
        await leader.node.keys.write(EndSession(session), trio.current_time() + 5)
        assert session in leader.node.sessions._clocks
        assert await renew(leader, session) is None


# -- leaders that change -----------------------------------------------------------------------


@pytest.mark.parametrize("is_clean", [True, False])
async def test_a_new_leader_gives_every_session_its_whole_time(
    is_clean: bool, autojump_clock
) -> None:
    async with three() as cluster:
        old = cluster.leader
        session = await create(cluster, old, 1)
        await trio.sleep(1.9 * TTL_S)
        if is_clean:
            await old.node.administration.transfer("", trio.current_time() + 5)
        else:
            old.crash()
        await cluster.until(cluster.agrees)
        assert cluster.leader is not old
        since = cluster.leader.node.sessions._since
        assert_ended_in_time(await lifetime(cluster, session, since))


async def test_a_leader_that_leads_again_later_gives_the_whole_time_again(autojump_clock) -> None:
    async with three() as cluster:
        first = cluster.leader
        session = await create(cluster, first, 1)
        await trio.sleep(1.5 * TTL_S)
        await first.node.administration.transfer("", trio.current_time() + 5)
        await trio.sleep(0.4 * TTL_S)
        name = first.node.process.name
        await cluster.leader.node.administration.transfer(name, trio.current_time() + 5)
        await cluster.until(lambda: cluster.agrees() and first.is_leader)
        since = first.node.sessions._since
        assert trio.current_time() - since < 0.2
        assert_ended_in_time(await lifetime(cluster, session, since))


async def test_a_deposed_leader_that_does_not_know_it_answers_no_renewal(autojump_clock) -> None:
    """It keeps them until it learns who leads, and the next leader answers."""
    async with three() as cluster:
        old = cluster.leader
        others = cluster.others(old)
        session = await create(cluster, others[0], 1)
        await trio.sleep(0.5 * TTL_S)
        cluster.silence(old.id)
        told: list[object] = []
        old.node.sessions.begin_renew(session, trio.current_time() + 30, told.append)
        assert old.is_leader
        await cluster.until(lambda: any(m.is_leader for m in others))
        assert told == []
        await trio.sleep(3)
        assert told == []

        for other in others:
            for way in cluster.network.between(old.id, other.id):
                way.release()
        renewed_from = trio.current_time()
        await cluster.until(lambda: bool(told))
        assert isinstance(told[0], Session)
        # The leader of now has started the clock.
        lived = await lifetime(cluster, session, renewed_from)
        assert lived >= 2 * TTL_S


async def test_a_renewal_in_a_minority_gets_an_error_in_its_time(autojump_clock) -> None:
    async with three() as cluster:
        session = await create(cluster, cluster.leader, 1)
        for via in (cluster.leader, cluster.followers[0]):
            cluster.silence(via.id)
        await trio.sleep(5)
        for via in cluster.up:
            began = trio.current_time()
            with pytest.raises(HstoreError):
                await renew(via, session, within_s=2.0)
            assert 2.0 <= trio.current_time() - began <= 2.3


async def test_an_end_that_an_old_leader_proposed_does_not_reach_the_new_one(
    autojump_clock,
) -> None:
    """It would end a session that has its whole time again."""
    async with three() as cluster:
        old = cluster.leader
        others = cluster.others(old)
        session = await create(cluster, others[0], 1)
        await trio.sleep(2 * TTL_S - 0.3)
        cluster.silence(old.id)
        # Its time is over there, and it does not know yet that it has no majority.
        await cluster.until(lambda: any(m.is_leader for m in others))
        new_since = trio.current_time()
        await trio.sleep(1)
        for other in others:
            for way in cluster.network.between(old.id, other.id):
                way.release()
        assert_ended_in_time(await lifetime(cluster, session, new_since - 0.15) - 0.1)


async def test_an_end_proposed_while_the_lead_is_handed_over_comes_to_nothing(
    autojump_clock,
) -> None:
    async with three() as cluster:
        old = cluster.leader
        session = await create(cluster, old, 1)
        clocks = old.node.sessions
        # The lead is being handed over, to a node that answers nothing.
        target = cluster.followers[0]
        for way in cluster.network.between(old.id, target.id):
            way.delay_s = 0.05
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                old.node.administration.transfer, target.node.process.name, trio.current_time() + 5
            )
            await cluster.until(lambda: old.node.replica.facts.is_transferring)
            clocks._ends.decide(session)
        await cluster.until(lambda: cluster.agrees() and cluster.leader is target)
        await trio.sleep(2)
        assert all(is_there(m, session) for m in cluster.up)
        assert await renew(old, session) is not None


async def test_an_end_decided_as_the_lead_is_lost_is_not_proposed_later(autojump_clock) -> None:
    """The clocks hear a moment later that their node leads no more, and it is elected again."""
    async with three() as cluster:
        old, followers = cluster.leader, cluster.followers
        session, ends = await create(cluster, old, 1), old.node.sessions._ends
        for follower in followers:
            follower.crash()
        with pytest.raises(HstoreError):  # Its log is longer by this: nobody else can be elected.
            await cluster.write(old.id, "k", "v", within_s=0.1)
        await cluster.until(lambda: not old.is_leader)
        assert ends._term == old.core.term
        ends.decide(session, by_clock=True)
        for follower in followers:
            await follower.start()
        await cluster.until(lambda: cluster.agrees() and old.is_leader)
        assert_ended_in_time(await lifetime(cluster, session, old.node.sessions._since))


async def test_a_renewal_through_a_follower_outlives_the_leader_that_had_it(
    autojump_clock,
) -> None:
    """To renew twice does no harm: the next leader is asked."""
    async with three() as cluster:
        old, follower = cluster.leader, cluster.followers[0]
        session = await create(cluster, follower, 1)
        told: list[object] = []
        cluster.silence(old.id, of=(follower.id,))
        follower.node.sessions.begin_renew(session, trio.current_time() + 5, told.append)
        await cluster.until(lambda: bool(follower.node.replica.waiting.forwarded))
        old.crash()
        await cluster.until(lambda: bool(told))
        assert isinstance(told[0], Session)


@pytest.mark.parametrize("at_leader", [False, True])
async def test_a_renewal_that_a_leader_had_and_no_majority_confirmed_is_unknown(
    at_leader: bool, autojump_clock
) -> None:
    """Its leader has started the time again, and may go on leading: `not applied` would be untrue."""
    async with three() as cluster:
        session = await create(cluster, cluster.leader, 1, ttl_s=0)
        via = cluster.leader if at_leader else cluster.followers[0]
        cluster.silence(cluster.leader.id)
        with pytest.raises(OutcomeUnknown, match="may have been renewed: repeat it"):
            await renew(via, session, within_s=0.3)
        await cluster.until(lambda: any(m.is_leader for m in cluster.followers), within_s=5)


async def test_a_renewal_that_no_leader_had_was_certainly_not_applied(autojump_clock) -> None:
    async with three() as cluster:
        session = await create(cluster, cluster.leader, 1, ttl_s=0)
        follower = cluster.followers[0]
        cluster.silence(follower.id)
        await cluster.until(lambda: not follower.core.leader or follower.core.leader_gone)
        with pytest.raises(NoLeader) as caught:
            await renew(follower, session, within_s=0.5)
        assert caught.value.outcome == "not applied"


async def test_a_renewal_that_was_lost_with_its_link_is_asked_again(autojump_clock) -> None:
    async with three() as cluster:
        session = await create(cluster, cluster.leader, 1)
        follower = cluster.followers[0]
        cluster.network.stall(follower.id, cluster.leader.id)
        began = trio.current_time()
        assert await renew(follower, session, within_s=5.0) is not None
        assert trio.current_time() - began < 1.0


@pytest.mark.parametrize("length", [0, 15, 17, 4096])
async def test_a_renewal_of_a_peer_that_names_no_session_is_refused(
    length: int, autojump_clock
) -> None:
    async with three() as cluster:
        follower = cluster.followers[0]
        with pytest.raises(Refused, match="16 bytes"):
            await follower.node.replica.request(
                ForwardKind.RENEW, bytes(length), trio.current_time() + 5
            )


@pytest.mark.parametrize("length", [15, 17, 513 * 16])
async def test_a_question_for_times_that_names_no_sessions_or_too_many_is_refused(
    length: int, autojump_clock
) -> None:
    async with three() as cluster:
        with pytest.raises(Refused, match="16 each"):
            await cluster.followers[0].node.replica.request(
                ForwardKind.LEFT, bytes(length), trio.current_time() + 5
            )


# -- ends and renewals -------------------------------------------------------------------------


@pytest.mark.parametrize("at_leader", [True, False])
async def test_a_renewal_waits_for_an_end_that_was_proposed(
    at_leader: bool, autojump_clock
) -> None:
    async with three() as cluster:
        leader = cluster.leader
        via = leader if at_leader else cluster.followers[0]
        session = await create(cluster, via, 1)
        for member in cluster.up:
            member.disk.flush_delay_s = 0.4
        leader.node.sessions._ends.decide(session)
        began = trio.current_time()
        assert await renew(via, session) is None
        assert trio.current_time() - began >= 0.4


async def test_a_renewal_that_waits_for_an_end_keeps_to_its_deadline(autojump_clock) -> None:
    async with three() as cluster:
        leader = cluster.leader
        session = await create(cluster, leader, 1)
        for member in cluster.up:
            member.disk.flush_gate = trio.Event()
        leader.node.sessions._ends.decide(session)
        began = trio.current_time()
        with pytest.raises(NoLeader):
            await renew(leader, session, within_s=0.5)
        assert trio.current_time() - began <= 0.75


async def test_an_end_that_cannot_be_proposed_is_tried_again_unless_the_session_is_renewed(
    autojump_clock, monkeypatch
) -> None:
    async with three() as cluster:
        leader = cluster.leader
        renewed, over = await create(cluster, leader, 1), await create(cluster, leader, 2)
        gone = await create(cluster, leader, 3, ttl_s=0)
        submit = leader.node.replica.submit

        def refuse(request: Request) -> None:
            if request.kind == ForwardKind.WRITE:
                raise Overloaded("too many writes are waiting")
            submit(request)

        monkeypatch.setattr(leader.node.replica, "submit", refuse)
        leader.node.sessions._ends.decide(gone)  # As of a node that is no member any more.
        await trio.sleep(2 * TTL_S + 0.5)
        assert all(is_there(leader, session) for session in (renewed, over, gone))
        assert await renew(leader, renewed) is not None
        renewed_at = trio.current_time()

        monkeypatch.setattr(leader.node.replica, "submit", submit)
        await cluster.until(
            lambda: not is_there(leader, over) and not is_there(leader, gone), within_s=0.3
        )
        assert_ended_in_time(await lifetime(cluster, renewed, renewed_at))


async def test_renewals_that_wait_for_ends_are_bounded(autojump_clock, monkeypatch) -> None:
    monkeypatch.setattr(session_ends, "_WAITING_MAX", 3)
    async with three() as cluster:
        leader = cluster.leader
        session = await create(cluster, leader, 1)
        for member in cluster.up:
            member.disk.flush_delay_s = 0.4
        leader.node.sessions._ends.decide(session)
        told: list[object] = []
        for _ in range(5):
            leader.node.sessions.begin_renew(session, trio.current_time() + 5, told.append)
        await trio.sleep(0.1)
        assert [type(answer) for answer in told] == [Overloaded] * 2
        await cluster.until(lambda: not is_there(leader, session))
        await trio.sleep(0.1)
        assert told[2:] == [None] * 3


async def test_an_end_that_comes_to_nothing_lets_the_renewal_through(autojump_clock) -> None:
    async with three() as cluster:
        leader = cluster.leader
        session = await create(cluster, leader, 1)
        for member in cluster.up:
            member.disk.flush_delay_s = 0.1
        # Of a check that is not so.
        leader.node.sessions._ends.decide(session, (number_of(leader), SERF_HEALTH, 1))
        assert await renew(leader, session) is not None
        renewed = trio.current_time()
        lived = await lifetime(cluster, session, renewed)
        assert 2 * TTL_S - 0.4 <= lived <= 2 * TTL_S + 0.8  # The disks are slow.


async def test_many_that_end_at_once_are_proposed_a_few_at_a_time(
    autojump_clock,
) -> None:
    async with running(1) as cluster:
        leader = cluster.leader
        await cluster.until(lambda: leader.node.keys.check(number_of(leader), SERF_HEALTH))
        count = 500
        await create_all(cluster, leader, range(1, count + 1))
        under_way: list[int] = []
        ends = leader.node.sessions._ends

        async def look() -> None:
            while True:
                under_way.append(ends._under_way)
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await cluster.until(
                lambda: not any(is_there(leader, session_id(n)) for n in (1, count)), within_s=30
            )
            nursery.cancel_scope.cancel()
        assert max(under_way) <= 256


async def test_ends_of_sessions_that_hold_many_keys_are_proposed_one_after_another(
    autojump_clock, monkeypatch
) -> None:
    """Else the keys of hundreds of sessions would be written in one turn."""
    monkeypatch.setattr(session_ends, "_UNDER_WAY_MAX", 10)
    async with running(1) as cluster:
        leader = cluster.leader
        await cluster.until(lambda: leader.node.keys.check(number_of(leader), SERF_HEALTH))
        await create_all(cluster, leader, range(1, 21))
        for number in (1, 2, 3):
            for key in range(80):
                command = Acquire(b"%d/%d" % (number, key), b"", 0, session_id(number))
                assert (await leader.node.keys.write(command, trio.current_time() + 5)).ok
        ends, proposed = leader.node.sessions._ends, []
        monkeypatch.setattr(ends, "_submit", lambda end: proposed.append(end.session_id))
        for number in range(1, 21):
            ends.decide(session_id(number))
        assert proposed == [session_id(1)]
        end = session_ends._End(session_id(1), None, by_clock=True, weight=11)
        ends._told(end, Outcome(True, 1))
        assert proposed == [session_id(1), session_id(2)]
        for number in (2, 3):
            ends._told(end._replace(session_id=session_id(number)), Outcome(True, 1))
        assert proposed == [session_id(number) for number in range(1, 14)]


# -- nodes and checks --------------------------------------------------------------------------


async def test_sessions_of_a_dead_node_end_after_its_grace(autojump_clock) -> None:
    async with three() as cluster:
        dead = cluster.followers[0]
        bound = await create(cluster, dead, 1, ttl_s=0, checks=(SERF_HEALTH,))
        free = await create(cluster, dead, 2, ttl_s=0)
        number = number_of(dead)
        cluster.silence(dead.id)
        leader = cluster.leader

        def is_critical() -> bool:
            check = leader.node.keys.check(number, SERF_HEALTH)
            return check is not None and check.status == "critical"

        await cluster.until(is_critical)
        critical = trio.current_time()
        await trio.sleep(9.9)
        assert is_there(leader, bound)
        await cluster.until(lambda: not is_there(leader, bound), within_s=2)
        assert trio.current_time() - critical <= 10.2
        await trio.sleep(5)
        assert is_there(leader, free)


async def test_a_node_that_is_back_within_the_grace_keeps_its_sessions(autojump_clock) -> None:
    async with three() as cluster:
        away = cluster.followers[0]
        session = await create(cluster, away, 1, ttl_s=0, checks=(SERF_HEALTH,))
        for _ in range(2):
            cluster.silence(away.id)
            await trio.sleep(11)  # 2.5 s until it is failed, and less than 10 s since then.
            for other in cluster.others(away):
                for way in cluster.network.between(away.id, other.id):
                    way.release()
            await cluster.until(away.node.status.in_contact)
            await trio.sleep(3)
            assert is_there(cluster.leader, session)


async def test_the_grace_is_a_setting(autojump_clock) -> None:
    async with three() as cluster:
        dead = cluster.followers[0]
        session = await create(cluster, dead, 1, ttl_s=0, checks=(SERF_HEALTH,))
        settings = cluster.leader.node.settings
        await settings.change("session_node_grace", "0s", trio.current_time() + 5)
        cluster.silence(dead.id)
        leader = cluster.leader
        took = await cluster.until(lambda: not is_there(leader, session))
        assert took <= 3.5


async def test_the_sessions_of_a_member_that_leaves_end_at_once(autojump_clock) -> None:
    async with three() as cluster:
        gone, leader = cluster.followers[0], cluster.leader
        await create_all(cluster, gone, range(1, 51), ttl_s=0)
        kept = await create(cluster, leader, 99, ttl_s=0)
        await gone.node.administration.leave(trio.current_time() + 5)
        await cluster.until(
            lambda: not any(is_there(leader, session_id(n)) for n in range(1, 51)), within_s=1
        )
        assert is_there(leader, kept)


async def test_a_new_leader_ends_the_sessions_of_a_member_that_left_before(autojump_clock) -> None:
    async with three() as cluster:
        gone, leader = cluster.followers[0], cluster.leader
        session = await create(cluster, gone, 1, ttl_s=0)
        # As a leader that dies before it has ended them.
        leader.node.sessions._nodes.look = lambda: None  # type: ignore[method-assign]
        await gone.node.administration.leave(trio.current_time() + 5)
        await trio.sleep(2)
        assert is_there(leader, session)

        await leader.node.administration.transfer("", trio.current_time() + 5)
        await cluster.until(lambda: not any(is_there(m, session) for m in cluster.up), within_s=2)


async def test_the_sessions_of_a_node_that_is_no_member_stay_over_a_change_of_leader(
    autojump_clock, monkeypatch
) -> None:
    """Nodes that are no members are still to come: here each state has one."""
    with_one_more, is_member = nodes.numbers, nodes.is_node
    monkeypatch.setattr(nodes, "numbers", lambda values: with_one_more(values) | {OTHER_NODE})
    monkeypatch.setattr(
        nodes, "is_node", lambda batch, number: number == OTHER_NODE or is_member(batch, number)
    )
    async with three() as cluster:
        old = cluster.leader
        session = await create(cluster, old, 1, ttl_s=0, node=OTHER_NODE)
        await old.node.administration.transfer("", trio.current_time() + 5)
        await cluster.until(cluster.agrees)
        await cluster.followers[0].node.administration.leave(trio.current_time() + 5)
        await trio.sleep(5)
        assert is_there(cluster.leader, session)


async def test_a_node_that_takes_anothers_place_takes_its_sessions_over(autojump_clock) -> None:
    async with three() as cluster:
        dead = cluster.followers[0]
        session = await create(cluster, dead, 1, ttl_s=0)
        name = dead.node.process.name
        dead.crash()
        await cluster.until(lambda: cluster.leader.health_of(dead.id) == "failed")
        await cluster.join(cluster.leader.id, replace=name)
        await trio.sleep(5)
        assert is_there(cluster.leader, session)


# -- loading -----------------------------------------------------------------------------------


async def test_a_new_leader_misses_no_session_while_it_loads(autojump_clock) -> None:
    """Also those that are made, renewed and ended while it reads the others."""
    async with three() as cluster:
        old = cluster.leader
        await create_all(cluster, old, range(1, 401))
        await old.node.administration.transfer("", trio.current_time() + 5)
        await cluster.until(cluster.agrees)
        leader = cluster.leader
        since = leader.node.sessions._since
        await create(cluster, leader, 1001)
        await leader.node.keys.write(EndSession(session_id(200)), trio.current_time() + 5)
        assert await renew(leader, session_id(399)) is not None
        await trio.sleep(1)
        assert len(leader.node.sessions._clocks) == 400
        await trio.sleep(1)
        for number in (1, 400):
            assert_ended_in_time(await lifetime(cluster, session_id(number), since))
        await lifetime(cluster, session_id(399), since)
        await lifetime(cluster, session_id(1001), since)
        await trio.sleep(0.1)
        assert leader.node.sessions._clocks == {}


async def test_a_session_that_is_made_while_the_leader_loads_ends_in_time(
    autojump_clock, monkeypatch
) -> None:
    monkeypatch.setattr(session_clocks, "SLICE", 50)
    monkeypatch.setattr(session_clocks, "PAUSE_S", 0.1)
    async with three() as cluster:
        old = cluster.leader
        await create_all(cluster, old, range(1, 401))
        await old.node.administration.transfer("", trio.current_time() + 5)
        await cluster.until(cluster.agrees)
        leader = cluster.leader
        made = trio.current_time()
        session = await create(cluster, leader, 1001)
        ended = EndSession(session_id(400))
        await leader.node.keys.write(ended, trio.current_time() + 5)
        await trio.sleep(0.2)
        assert len(leader.node.sessions._clocks) < 300  # It loads still.
        await trio.sleep(1)
        assert len(leader.node.sessions._clocks) == 400
        assert ended.id not in leader.node.sessions._clocks
        assert_ended_in_time(await lifetime(cluster, session, made))


async def test_a_leader_that_missed_changes_loads_again(autojump_clock) -> None:
    async with three() as cluster:
        leader = cluster.leader
        first = await create(cluster, leader, 1)
        await trio.sleep(TTL_S)
        history = leader.node.replica.state.history
        history.restart(history.revision)  # As if too many changes had come at once.
        leader.node.sessions._clocks.pop(first)  # As if it was one of those.
        await trio.sleep(1)
        assert first in leader.node.sessions._clocks
        await lifetime(cluster, first, 0.0)


async def test_sessions_that_were_destroyed_do_not_fill_the_heap(
    autojump_clock, monkeypatch
) -> None:
    """A client may make and destroy sessions without end, whose time would be over in two days."""
    monkeypatch.setattr(session_clocks, "_STALE_ENTRIES", 4)
    async with running(1) as cluster:
        leader = cluster.leader
        kept = await create(cluster, leader, 1)
        made = trio.current_time()
        for number in range(2, 30):
            session = await create(cluster, leader, number, ttl_s=86_400)
            await leader.node.keys.write(EndSession(session), trio.current_time() + 5)
        await trio.sleep(0.1)
        assert len(leader.node.sessions._due) <= 2 + 4
        assert_ended_in_time(await lifetime(cluster, kept, made))


async def test_locks_end_with_their_session(autojump_clock) -> None:
    async with three() as cluster:
        leader = cluster.leader
        session = await create(cluster, leader, 1)
        deadline = trio.current_time() + 5
        taken = await leader.node.keys.write(Acquire(b"k", b"v", 0, session), deadline)
        assert taken.ok
        await lifetime(cluster, session, trio.current_time())
        item = leader.node.keys.get(b"k")
        assert item is not None
        assert (item.session, item.value) == (b"", b"v")
