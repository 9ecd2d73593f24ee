"""Who runs the checks of nodes that are no members: contract of services, section 4.5."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import pytest
import trio

from hstore.node.cluster import check_owners
from hstore.node.driver.requests import Request
from hstore.node.errors import Overloaded
from hstore.node.model.checks import CheckDefinition
from hstore.node.model.commands import Command, Outcome
from hstore.node.model.services import (
    EXTERNAL_NODE_META,
    AssignNodes,
    CatalogRegister,
    Deregister,
    ExternalNode,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
)
from tests.node.memory_cluster import PATIENCE_S, Cluster, Member, running

MOVED_S = 1.0
"""Another owner is named within this of one that is not live."""


def place(number: int) -> Place:
    return Place(0, f"far-{number}", "192.0.2.1")


def http(name: str = "web", interval_s: int = 600) -> GivenCheck:
    definition = CheckDefinition(kind="http", http=name, interval_ns=interval_s * 10**9)
    return GivenCheck(name, name, definition=definition)


def ttl(name: str = "beat") -> GivenCheck:
    definition = CheckDefinition(kind="ttl", ttl_ns=600 * 10**9)
    return GivenCheck(name, name, definition=definition)


async def write(via: Member, command: Command) -> None:
    outcome: Outcome = await via.node.keys.write(command, trio.current_time() + PATIENCE_S)
    assert outcome.ok, outcome


async def register(via: Member, numbers: range, *checks: GivenCheck) -> None:
    """Register a service with these checks, by default an http check, on external nodes."""
    async with trio.open_nursery() as nursery:
        for number in numbers:
            command = RegisterService(place(number), Service(0, "web", "web"), checks or (http(),))
            nursery.start_soon(write, via, command)


def owners(at: Member) -> dict[int, int]:
    """Return the owner of each external node as one member's copy has it; 0: nobody."""
    keys = at.node.keys
    return {number: keys.owner_of(number) for number in keys.external_numbers()}


def share(cluster: Cluster) -> list[int]:
    """Return how many nodes each owner has, the fewest first."""
    return sorted(Counter(owners(cluster.leader).values()).values())


async def all_owned(cluster: Cluster, count: int, within_s: float = 5) -> float:
    """Wait until each of so many nodes is owned by a member that is up, as every member sees it."""

    def holds() -> bool:
        up = {member.id for member in cluster.up}
        found = [owners(member) for member in cluster.up]
        return all(len(one) == count and up.issuperset(one.values()) for one in found)

    return await cluster.until(holds, within_s)


async def test_nodes_are_spread_evenly_over_the_live_members(autojump_clock) -> None:
    async with running(3) as cluster:
        for first in range(0, 30, 10):
            await register(cluster.followers[0], range(first, first + 10))
            assert await all_owned(cluster, first + 10) <= 0.5
        assert share(cluster) == [10, 10, 10]


async def test_a_node_without_a_check_that_is_run_has_no_owner(autojump_clock) -> None:
    async with running(3) as cluster:
        await register(cluster.leader, range(1), ttl())
        told = GivenCheck("told", "told", "passing")  # By the catalog: nobody runs it.
        await write(cluster.leader, RegisterCheck(place(1), told))
        await trio.sleep(3)
        assert set(owners(cluster.leader).values()) == {0}
        await write(cluster.leader, RegisterCheck(place(1), http()))
        await cluster.until(lambda: sorted(map(bool, owners(cluster.leader).values())) == [0, 1])


async def test_a_definition_of_the_catalog_has_an_owner_only_where_its_node_has_the_mark(
    autojump_clock,
) -> None:
    definition = CheckDefinition(kind="http", http="web", interval_ns=10**9, is_shown=True)
    check = GivenCheck("web", "web", "passing", definition=definition)
    bare = ExternalNode(0, "far", address="192.0.2.1")
    marked = msgspec.structs.replace(bare, meta=(EXTERNAL_NODE_META,))
    async with running(3) as cluster:
        await write(cluster.leader, CatalogRegister(bare, checks=(check,)))
        await trio.sleep(3)
        assert set(owners(cluster.leader).values()) == {0}
        await write(cluster.leader, CatalogRegister(marked))
        await all_owned(cluster, 1)


@pytest.mark.parametrize("is_leader", [False, True])
async def test_the_nodes_of_a_member_that_dies_are_others_within_a_second(
    is_leader: bool, autojump_clock
) -> None:
    async with running(3) as cluster:
        await register(cluster.leader, range(30))
        await all_owned(cluster, 30)
        dead = cluster.leader if is_leader else cluster.followers[0]
        before = owners(dead)
        dead.crash()
        await cluster.until(lambda: any(member.is_leader for member in cluster.up))
        await cluster.until(lambda: cluster.leader.health_of(dead.id) == "failed")
        assert await all_owned(cluster, 30) <= MOVED_S
        after = owners(cluster.leader)
        assert share(cluster) == [15, 15]
        assert all(after[one] == owner for one, owner in before.items() if owner != dead.id)


async def test_the_nodes_of_a_silent_member_are_others_within_a_second(autojump_clock) -> None:
    async with running(3) as cluster:
        await register(cluster.leader, range(9))
        await all_owned(cluster, 9)
        silent = cluster.followers[0]
        cluster.silence(silent.id)
        leader = cluster.leader
        await cluster.until(lambda: leader.health_of(silent.id) == "failed")
        took = await cluster.until(lambda: silent.id not in owners(leader).values())
        assert took <= MOVED_S


@pytest.mark.parametrize("how", ["stops", "leaves", "is restarted"])
async def test_the_nodes_of_a_member_that_ends_on_purpose_are_others(how, autojump_clock) -> None:
    async with running(3) as cluster:
        await register(cluster.leader, range(9))
        await all_owned(cluster, 9)
        going, leader = cluster.followers[0], cluster.leader
        if how == "leaves":
            await going.node.administration.leave(trio.current_time() + 5)
        elif how == "stops":
            await going.stop()
        else:
            going.node.process.restart()
            await going.ended.wait()
        took = await cluster.until(lambda: going.id not in owners(leader).values())
        assert took <= MOVED_S


async def test_nothing_moves_because_a_member_is_back_or_another_leads(autojump_clock) -> None:
    async with running(3) as cluster:
        await register(cluster.leader, range(30))
        await all_owned(cluster, 30)
        away = cluster.followers[0]
        away.crash()
        await away.ended.wait()
        await all_owned(cluster, 30)
        before = owners(cluster.leader)
        await away.start()
        await cluster.until(away.node.status.in_contact)
        await trio.sleep(5)
        await cluster.leader.node.administration.transfer("", trio.current_time() + 5)
        await trio.sleep(5)
        assert owners(cluster.leader) == before
        # What comes new goes to the one with the fewest.
        await register(cluster.leader, range(30, 40))
        await all_owned(cluster, 40)
        assert share(cluster) == [10, 15, 15]


async def test_a_large_difference_is_levelled_slowly(autojump_clock, monkeypatch) -> None:
    monkeypatch.setattr(check_owners, "LEVELLED_FROM", 5)
    monkeypatch.setattr(check_owners, "LEVELLED_AT_ONCE", 3)
    async with running(1) as cluster:
        await register(cluster.leader, range(40))
        await all_owned(cluster, 40)
        await cluster.join()
        await trio.sleep(1)
        moved = []
        for _ in range(8):
            moved.append(Counter(owners(cluster.leader).values())[2])
            await trio.sleep(1)
        steps = [after - before for before, after in pairwise(moved)]
        assert max(steps) == 3
        # It ends where the one has no more than five more than the other.
        assert share(cluster) == [18, 22]
        index = cluster.leader.node.keys.applied_index
        await trio.sleep(5)
        assert cluster.leader.node.keys.applied_index == index


async def test_many_nodes_of_a_dead_member_are_given_away_in_parts(
    autojump_clock, monkeypatch
) -> None:
    monkeypatch.setattr(check_owners, "ASSIGNED_MAX", 8)
    async with running(3) as cluster:
        await register(cluster.leader, range(60))
        await all_owned(cluster, 60)
        dead = cluster.followers[0]
        dead.crash()
        await cluster.until(lambda: cluster.leader.health_of(dead.id) == "failed")
        assert await all_owned(cluster, 60) <= MOVED_S
        assert share(cluster) == [30, 30]


async def test_nodes_that_come_and_go_leave_nothing_behind(autojump_clock) -> None:
    async with running(3) as cluster:
        leader = cluster.leader
        await register(leader, range(5))
        await all_owned(cluster, 5)
        for number in range(5):
            await write(leader, Deregister(Place(0, f"far-{number}"), service="web"))
        await trio.sleep(0.5)
        assert leader.node._duties._owners._witness == {}
        assert leader.node.replica.state.catalog.owners == {}


async def test_the_check_that_is_known_of_a_node_may_go_while_another_is_run(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        leader = cluster.leader
        await register(leader, range(1), http("one"), http("two"))
        await all_owned(cluster, 1)
        for check in ("one", "two"):
            assert leader.node._duties._owners._witness
            await write(leader, Deregister(Place(0, "far-0"), check=check))
            await trio.sleep(0.5)
        assert not leader.node._duties._owners._witness
        await write(leader, RegisterCheck(place(0), http("three")))
        await trio.sleep(0.5)
        assert list(leader.node._duties._owners._witness.values()) == ["three"]


async def test_an_owner_that_is_taken_away_is_named_again(autojump_clock) -> None:
    async with running(3) as cluster:
        await register(cluster.leader, range(1))
        await all_owned(cluster, 1)
        (number,) = cluster.leader.node.keys.external_numbers()
        await write(cluster.leader, AssignNodes(((number, 0),)))
        assert await all_owned(cluster, 1) <= 0.5


async def test_a_write_that_is_refused_as_overload_is_tried_again(
    autojump_clock, monkeypatch
) -> None:
    async with running(1) as cluster:
        only = cluster.leader
        submit, refused = only.node.replica.submit, 0

        def refuse(request: Request) -> None:
            nonlocal refused
            if request.is_foreign and refused < 3:
                refused += 1
                raise Overloaded("too many writes are waiting")
            submit(request)

        monkeypatch.setattr(only.node.replica, "submit", refuse)
        await register(only, range(1))
        assert await all_owned(cluster, 1) <= 1
        assert refused == 3


async def test_a_new_leader_gives_nothing_to_a_member_that_it_has_not_heard(
    autojump_clock,
) -> None:
    async with running(4) as cluster:
        old, dead = cluster.leader, cluster.followers[0]
        cluster.silence(dead.id)
        await trio.sleep(1)
        name = next(m for m in cluster.followers if m is not dead).node.process.name
        await old.node.administration.transfer(name, trio.current_time() + 5)
        others = [member for member in cluster.up if member is not dead]
        await cluster.until(lambda: any(m.is_leader and m is not old for m in others))
        await register(old, range(9))
        await trio.sleep(0.5)
        assert old.health_of(dead.id) != "failed"
        assert dead.id not in owners(old).values()
