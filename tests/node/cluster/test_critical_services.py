"""`DeregisterCriticalServiceAfter`: contract of services, section 4.3. Times are virtual."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from hstore.node.cluster import critical_services
from hstore.node.cluster.critical_services import CriticalServices
from hstore.node.driver.requests import Request
from hstore.node.errors import Overloaded
from hstore.node.model import commands
from hstore.node.model.checks import CheckDefinition, CheckStatus
from hstore.node.model.commands import Outcome
from hstore.node.model.services import (
    CheckResult,
    Deregister,
    DeregisterCritical,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
    UpdateChecks,
)
from tests.node.memory_cluster import PATIENCE_S, Cluster, Member, running

AFTER_S = 5.0
"""Less than clients may ask for, which makes the tests short."""
LATE_S = 1.0
FAR = Place(0, "far", "192.0.2.1")


def beat(
    name: str, *, after_s: float = AFTER_S, status: CheckStatus = "critical", ttl_s: float = 3600
) -> GivenCheck:
    """Return a check that its client has to speak for."""
    definition = CheckDefinition(
        kind="ttl", ttl_ns=int(ttl_s * 1e9), deregister_after_ms=int(after_s * 1000)
    )
    return GivenCheck(name, name, status, definition=definition)


def number_of(member: Member) -> int:
    return member.node.keys.own_number


def critical(member: Member) -> CriticalServices:
    return member.node._duties._critical


async def write(via: Member, command: commands.Command) -> Outcome:
    outcome: Outcome = await via.node.keys.write(command, trio.current_time() + PATIENCE_S)
    return outcome


async def register(
    via: Member, service: str, *checks: GivenCheck, place: Place | None = None
) -> None:
    where = place or Place(number_of(via))
    outcome = await write(via, RegisterService(where, Service(0, service, service), checks))
    assert outcome.ok, outcome


def has(at: Member, service: str) -> bool:
    """Whether the copy of one node has a service, on whichever node."""
    return at.node.keys.service_index(service.encode()) != 0


def anywhere(cluster: Cluster, service: str) -> bool:
    return any(has(member, service) for member in cluster.up)


async def gone(cluster: Cluster, service: str, since: float, within_s: float = 30) -> float:
    """Wait until a service is nowhere; return how long after `since` that is."""
    await cluster.until(lambda: not anywhere(cluster, service), within_s)
    return trio.current_time() - since


def assert_in_time(took_s: float, after_s: float = AFTER_S) -> None:
    assert after_s <= took_s + 0.01
    assert took_s <= after_s + LATE_S


@pytest.fixture
def ends(monkeypatch) -> list[tuple[str, bool]]:
    """What came of each entry that ends a service, at whichever leader proposed it."""
    found: list[tuple[str, bool]] = []
    told = CriticalServices._told

    def note(self, key, place, answer) -> None:
        found.append((key[1], isinstance(answer, Outcome) and answer.ok))
        told(self, key, place, answer)

    monkeypatch.setattr(CriticalServices, "_told", note)
    return found


async def test_a_service_goes_when_its_check_is_critical_for_so_long(autojump_clock, ends) -> None:
    async with running(3) as cluster:
        owner = cluster.followers[0]
        began = trio.current_time()
        await register(owner, "web", beat("one"))
        await register(owner, "db", beat("two", status="passing"))
        await register(owner, "kept", beat("three", after_s=0))
        assert_in_time(await gone(cluster, "web", began))
        assert number_of(owner) not in cluster.leader.node.keys.critical_ids(number_of(owner))
        await trio.sleep(20)
        assert anywhere(cluster, "db")
        assert anywhere(cluster, "kept")
        assert [check for check, is_done in ends if is_done] == ["one"]


async def test_a_check_that_passes_meanwhile_has_its_whole_time_again(autojump_clock) -> None:
    async with running(3) as cluster:
        owner = cluster.followers[0]
        await register(owner, "web", beat("one"))
        say = partial(owner.node.checks.word, number_of(owner), "one")
        for _ in range(3):
            await trio.sleep(AFTER_S - 1)
            say("passing", "")
            await trio.sleep(1)
            since = trio.current_time()
            say("critical", "")
            assert anywhere(cluster, "web")
        assert_in_time(await gone(cluster, "web", since))


async def test_what_a_critical_check_says_does_not_start_its_time_again(autojump_clock) -> None:
    async with running(3) as cluster:
        leader = cluster.leader
        number, began = number_of(leader), trio.current_time()
        await register(leader, "web", beat("one"))
        check = leader.node.keys.check(number, "one")
        assert check is not None
        async with trio.open_nursery() as nursery:

            async def talk() -> None:
                for at in range(1000):
                    result = CheckResult(number, "one", check.defined, "critical", f"{at}")
                    await write(leader, UpdateChecks(leader.id, (result,)))
                    await trio.sleep(0.02)

            nursery.start_soon(talk)
            assert_in_time(await gone(cluster, "web", began))
            nursery.cancel_scope.cancel()


async def test_a_change_of_leader_neither_shortens_nor_lengthens_the_time(
    autojump_clock, ends
) -> None:
    async with running(3) as cluster:
        old = cluster.leader
        owner = cluster.followers[0]
        began = trio.current_time()
        await register(owner, "web", beat("one"))
        await trio.sleep(1.5)
        await old.node.administration.transfer("", trio.current_time() + 5)
        await cluster.until(cluster.agrees)
        await trio.sleep(1.0)
        cluster.leader.crash()
        await cluster.until(lambda: any(member.is_leader for member in cluster.up))
        assert_in_time(await gone(cluster, "web", began))
        await trio.sleep(5)
        assert [check for check, is_done in ends if is_done] == ["one"]


@pytest.mark.parametrize("is_back", [False, True])
async def test_it_goes_on_while_the_owner_is_dead_or_was_restarted(
    is_back: bool, autojump_clock
) -> None:
    async with running(3) as cluster:
        owner = cluster.followers[0]
        began = trio.current_time()
        await register(owner, "web", beat("one"))
        await trio.sleep(1)
        owner.crash()
        await owner.ended.wait()
        if is_back:
            await trio.sleep(1)
            await owner.start()
        assert_in_time(await gone(cluster, "web", began))


async def test_a_restart_of_all_members_starts_little_of_the_time_again(autojump_clock) -> None:
    async with running(1) as cluster:
        only = cluster.leader
        await register(only, "web", beat("one", after_s=30))
        began = trio.current_time()
        for _ in range(2):
            await trio.sleep(9)
            only.crash()
            await only.ended.wait()
            await only.start()
        took = await gone(cluster, "web", began, within_s=60)
        # The time during which no leader runs does not count, and some 2 s may be counted again.
        assert 30 <= took + 0.01 <= 30 + 2 * 2.5 + LATE_S


async def test_a_service_that_has_long_costs_few_entries_until_then(autojump_clock) -> None:
    async with running(1) as cluster:
        only = cluster.leader
        await register(only, "web", beat("one", after_s=3600))
        await trio.sleep(1)
        before = only.node.keys.applied_index
        await trio.sleep(300)
        # Two or three that bring the time into the log, and comparisons of replicas.
        assert only.node.keys.applied_index - before <= 12


async def test_a_cluster_whose_critical_checks_end_nothing_writes_nothing(autojump_clock) -> None:
    async with running(1) as cluster:
        only = cluster.leader
        await register(only, "web", beat("one", after_s=0))
        await register(only, "db", beat("two", status="passing"))
        await trio.sleep(30)
        before = only.node.keys.applied_index
        await trio.sleep(60)
        assert only.node.keys.applied_index == before


async def test_an_external_node_that_was_made_for_a_service_goes_with_it(autojump_clock) -> None:
    async with running(3) as cluster:
        began = trio.current_time()
        await register(cluster.followers[0], "web", beat("one"), place=FAR)
        assert_in_time(await gone(cluster, "web", began))
        assert not cluster.leader.node.keys.external_numbers()


async def test_a_check_of_a_node_ends_nothing(autojump_clock) -> None:
    async with running(1) as cluster:
        only = cluster.leader
        place = Place(number_of(only))
        await register(only, "web", beat("passes", status="passing"))
        await write(only, RegisterCheck(place, beat("of the node")))
        await trio.sleep(3 * AFTER_S)
        assert anywhere(cluster, "web")


async def test_a_definition_that_changes_moves_the_time(autojump_clock) -> None:
    async with running(1) as cluster:
        only = cluster.leader
        began = trio.current_time()
        await register(only, "later", beat("one"))
        await register(only, "sooner", beat("two", after_s=3600))
        await trio.sleep(2)
        await register(only, "later", beat("one", after_s=2 * AFTER_S))
        await register(only, "sooner", beat("two"))
        assert_in_time(await gone(cluster, "sooner", began))
        assert_in_time(await gone(cluster, "later", began), 2 * AFTER_S)


async def test_many_that_are_due_at_once_go_in_time_a_few_proposed_at_a_time(
    autojump_clock, monkeypatch
) -> None:
    under_way: list[int] = []
    propose = CriticalServices._propose

    def note(self, key) -> None:
        propose(self, key)
        under_way.append(len(self._under_way))

    monkeypatch.setattr(CriticalServices, "_propose", note)
    async with running(1) as cluster:
        only = cluster.leader
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for at in range(200):
                nursery.start_soon(register, only, f"s{at}", beat(f"c{at}"))
        number = number_of(only)
        await cluster.until(lambda: number not in only.node.replica.state.catalog.services_of)
        assert_in_time(trio.current_time() - began)
        assert max(under_way) == critical_services.UNDER_WAY_MAX


async def test_an_end_that_is_refused_as_overload_is_tried_again(
    autojump_clock, monkeypatch
) -> None:
    async with running(1) as cluster:
        only = cluster.leader
        began = trio.current_time()
        await register(only, "web", beat("one"))
        submit = only.node.replica.submit

        def refuse(request: Request) -> None:
            if b"one" in request.data:
                raise Overloaded("too many writes are waiting")
            submit(request)

        monkeypatch.setattr(only.node.replica, "submit", refuse)
        await trio.sleep(2 * AFTER_S)
        assert anywhere(cluster, "web")
        monkeypatch.setattr(only.node.replica, "submit", submit)
        took = await gone(cluster, "web", began)
        assert took <= 2 * AFTER_S + LATE_S


async def test_what_an_old_leader_proposed_ends_nothing_that_was_registered_anew(
    autojump_clock,
) -> None:
    """The `modify_index` in the entry is that of a check which is gone."""
    async with running(1) as cluster:
        only = cluster.leader
        number = number_of(only)
        await register(only, "web", beat("one"))
        seen = only.node.keys.check(number, "one")
        assert seen is not None
        await trio.sleep(AFTER_S - 0.5)
        await write(only, Deregister(Place(number), service="web"))
        await register(only, "web", beat("one"))
        since = trio.current_time()
        await trio.sleep(AFTER_S - 0.5)
        outcome = await write(only, DeregisterCritical(number, "one", seen.modify_index))
        assert not outcome.ok
        assert anywhere(cluster, "web")
        assert_in_time(await gone(cluster, "web", since))


async def test_checks_that_come_and_go_do_not_fill_the_heap(autojump_clock, monkeypatch) -> None:
    monkeypatch.setattr(critical_services, "_STALE_ENTRIES", 4)
    async with running(1) as cluster:
        only = cluster.leader
        say = partial(only.node.checks.word, number_of(only), "one")
        await register(only, "web", beat("one", after_s=3600))
        for _ in range(20):
            say("passing", "")
            await trio.sleep(0.5)
            say("critical", "")
            await trio.sleep(0.5)
        assert len(critical(only)._due) <= 2 + 4
        assert anywhere(cluster, "web")
