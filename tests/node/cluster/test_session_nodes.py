"""Sessions that depend on checks of nodes and of services: contract of services, section 6.2."""

from __future__ import annotations

from collections import Counter
from functools import partial

import msgspec
import pytest
import trio

from hstore.node.cluster.session_ends import SessionEnds
from hstore.node.cluster.session_nodes import SLICE, SessionNodes
from hstore.node.model.checks import SERF_HEALTH, CheckDefinition
from hstore.node.model.commands import Command, Outcome
from hstore.node.model.locks import CreateSession, EndSession, Session
from hstore.node.model.services import (
    Deregister,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
)
from tests.node.memory_cluster import PATIENCE_S, Cluster, Member, running

AT_ONCE_S = 0.1
FAR = Place(0, "far", "192.0.2.1")


def session_id(number: int) -> bytes:
    return number.to_bytes(16)


def number_of(member: Member) -> int:
    return member.node.keys.own_number


def nodes_of(member: Member) -> SessionNodes:
    return member.node.sessions._nodes


def beat(name: str, status: str = "passing") -> GivenCheck:
    definition = CheckDefinition(kind="ttl", ttl_ns=3600 * 10**9)
    return GivenCheck(name, name, status, definition=definition)  # type: ignore[arg-type]


async def write(via: Member, command: Command) -> Outcome:
    outcome: Outcome = await via.node.keys.write(command, trio.current_time() + PATIENCE_S)
    return outcome


async def register(via: Member, service: str, *checks: str, place: Place | None = None) -> None:
    command = RegisterService(
        place or Place(number_of(via)), Service(0, service, service), tuple(map(beat, checks))
    )
    assert (await write(via, command)).ok


async def create(
    via: Member,
    number: int,
    *,
    node: int = 0,
    checks: tuple[str, ...] = (),
    services: tuple[str, ...] | None = None,
) -> bytes:
    """Make a session without a TTL."""
    session = Session(
        session_id(number), "", node or number_of(via), 0, "release", "", 0, checks, services
    )
    outcome = await write(via, CreateSession(session))
    assert outcome.ok, outcome
    return session.id


def there(cluster: Cluster, session: bytes) -> bool:
    return any(member.node.keys.session(session) is not None for member in cluster.up)


async def gone(cluster: Cluster, *sessions: bytes) -> float:
    """Wait until these have ended on every node; return how long that took."""
    return await cluster.until(lambda: not any(there(cluster, one) for one in sessions))


def say(via: Member, check: str, status: str, output: str = "") -> None:
    via.node.checks.word(number_of(via), check, status, output)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_of_service", [True, False])
@pytest.mark.parametrize("how", ["is critical", "is deregistered", "its service is", "expires"])
async def test_a_session_ends_when_a_check_that_it_depends_on(
    how: str, is_of_service: bool, autojump_clock
) -> None:
    async with running(3) as cluster:
        owner = cluster.followers[0]
        place = Place(number_of(owner))
        await register(owner, "web", "web:1", "web:2")
        await write(owner, RegisterCheck(place, beat("node")))
        check = "web:1" if is_of_service or how == "its service is" else "node"
        checks, services = ((), (check,)) if is_of_service else ((check,), None)
        bound = await create(owner, 1, checks=checks, services=services)
        other = await create(owner, 2, services=("web:2",))
        free = await create(owner, 3)
        await trio.sleep(1)
        assert there(cluster, bound)
        if how == "is critical":
            say(owner, check, "critical")
        elif how == "expires":
            definition = CheckDefinition(kind="ttl", ttl_ns=10**9)
            short = GivenCheck(
                check, check, "passing", definition=definition, service="web" * (check != "node")
            )
            assert (await write(owner, RegisterCheck(place, short))).ok
            await trio.sleep(1)
        elif how == "is deregistered":
            await write(owner, Deregister(place, check=check))
        else:
            await write(owner, Deregister(place, service="web"))
        assert await gone(cluster, bound) <= AT_ONCE_S
        await trio.sleep(1)
        assert there(cluster, free)
        assert there(cluster, other) is (how != "its service is")


async def test_a_warning_ends_no_session(autojump_clock) -> None:
    async with running(3) as cluster:
        owner = cluster.followers[0]
        await register(owner, "web", "web:1")
        bound = await create(owner, 1, services=("web:1",))
        for status in ("warning", "passing"):
            say(owner, "web:1", status)
            await trio.sleep(1)
        assert there(cluster, bound)


async def test_a_check_of_that_name_on_another_node_ends_no_session(autojump_clock) -> None:
    async with running(3) as cluster:
        one, two = cluster.followers
        for owner in (one, two):
            await register(owner, "web", "web:1")
        bound = await create(one, 1, services=("web:1",))
        say(two, "web:1", "critical")
        await trio.sleep(1)
        assert there(cluster, bound)


async def test_a_check_that_goes_wrong_before_the_leader_knows_the_session_ends_it(
    autojump_clock,
) -> None:
    """Sessions are known a moment after they were made, and in slices to one that begins to lead."""
    async with running(3) as cluster:
        leader = cluster.leader
        await register(leader, "web", "web:1")
        leader.node.keys.watches.wake = lambda _call: None  # It hears of no session any more.
        sessions = [await create(leader, number, services=("web:1",)) for number in (1, 2)]
        say(leader, "web:1", "critical")
        await trio.sleep(1)
        assert there(cluster, sessions[0])
        leader.node.keys.watches.wake = lambda call: call()
        sessions.append(await create(leader, 3))
        leader.node.sessions._watch._flag.set()  # type: ignore[union-attr]
        assert await gone(cluster, *sessions[:2]) <= AT_ONCE_S
        assert there(cluster, sessions[2])


@pytest.mark.parametrize("how", ["is critical", "is deregistered"])
async def test_a_new_leader_ends_the_sessions_whose_check_went_wrong_before(
    how: str, autojump_clock, monkeypatch
) -> None:
    async with running(3) as cluster:
        owner, old = cluster.followers[0], cluster.leader
        place = Place(number_of(owner))
        await register(owner, "web", "web:1")
        bound = await create(owner, 1, services=("web:1",))
        kept = await create(owner, 2)
        monkeypatch.setattr(nodes_of(old), "_is_changed", lambda _check: None)
        if how == "is critical":
            say(owner, "web:1", "critical")
        else:
            await write(owner, Deregister(place, check="web:1"))
        await trio.sleep(2)
        assert there(cluster, bound)  # As of a leader that dies before it has ended it.
        await old.node.administration.transfer("", trio.current_time() + 5)
        await gone(cluster, bound)
        assert there(cluster, kept)


async def test_an_end_that_comes_late_for_one_change_is_decided_again_for_the_next(
    autojump_clock,
) -> None:
    """The check is critical all the while, and says something else when the end takes effect."""
    async with running(3) as cluster:
        leader = cluster.leader
        number = number_of(leader)
        await register(leader, "web", "web:1")
        bound = await create(leader, 1, services=("web:1",))
        for member in cluster.up:
            member.disk.flush_delay_s = 0.05

        async def talk(notes: str) -> None:
            check = msgspec.structs.replace(beat("web:1", "critical"), service="web", notes=notes)
            await write(leader, RegisterCheck(Place(number), check))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk, "what is critical")
            await trio.sleep(0.01)  # Its entry is under way.
            leader.node.sessions._ends.decide(bound, (number, "web:1", 1))  # Of an earlier change.
        assert await gone(cluster, bound) <= 1


async def test_a_session_of_an_external_node_ends_with_its_checks_or_the_node(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        leader = cluster.leader
        await register(leader, "web", "web:1", place=FAR)
        await register(leader, "db", place=FAR)
        (number,) = leader.node.keys.external_numbers()
        serf = GivenCheck(SERF_HEALTH, SERF_HEALTH, "passing")
        assert (await write(leader, RegisterCheck(FAR, serf))).ok
        by_serf = await create(leader, 1, node=number, checks=(SERF_HEALTH,))
        by_check = await create(leader, 2, node=number, services=("web:1",))
        by_node = await create(leader, 3, node=number)
        await write(leader, Deregister(FAR, check=SERF_HEALTH, is_catalog=True))
        assert await gone(cluster, by_serf) <= AT_ONCE_S
        leader.node.checks.word(number, "web:1", "critical", "")
        assert await gone(cluster, by_check) <= AT_ONCE_S
        await trio.sleep(1)
        assert there(cluster, by_node)
        await write(leader, Deregister(FAR, is_catalog=True))
        assert await gone(cluster, by_node) <= AT_ONCE_S


async def test_what_is_known_of_checks_goes_with_the_sessions(autojump_clock) -> None:
    async with running(3) as cluster:
        leader = cluster.leader
        await register(leader, "web", "web:1", "web:2")
        sessions = [
            await create(leader, number, services=("web:1", "web:2")) for number in range(1, 6)
        ]
        await trio.sleep(0.1)
        assert {len(same) for same in nodes_of(leader)._dependent.values()} == {5}
        for session in sessions[:3]:
            await write(leader, EndSession(session))
        say(leader, "web:2", "critical")
        await gone(cluster, *sessions)
        await trio.sleep(0.1)
        assert nodes_of(leader)._dependent == nodes_of(leader)._checks == {}


async def test_checks_that_no_session_depends_on_are_not_read(autojump_clock, monkeypatch) -> None:
    async with running(3) as cluster:
        leader = cluster.leader
        await register(leader, "web", *(f"c{number}" for number in range(40)))
        bound = await create(leader, 1, checks=(SERF_HEALTH,), services=("c0",))
        await trio.sleep(0.1)
        read: list[str] = []
        check = leader.node.keys.check

        def note(number: int, check_id: str):
            read.append(check_id)
            return check(number, check_id)

        monkeypatch.setattr(nodes_of(leader), "_keys", _Noting(leader.node.keys, note))
        for number in range(1, 40):
            say(leader, f"c{number}", "critical")
        await trio.sleep(1)
        assert read == []
        assert there(cluster, bound)
        say(leader, "c0", "critical")
        assert await gone(cluster, bound) <= AT_ONCE_S
        assert set(read) == {"c0"}


class _Noting:
    """The keys of a node, of which each check that is read is noted."""

    def __init__(self, keys, check) -> None:
        self._keys = keys
        self.check = check

    def __getattr__(self, name: str):
        return getattr(self._keys, name)


async def test_thousands_that_depend_on_one_check_end_without_holding_the_node(
    autojump_clock,
) -> None:
    async with running(1) as cluster:
        only = cluster.leader
        await register(only, "web", "web:1")
        async with trio.open_nursery() as nursery:
            for number in range(1, 601):
                nursery.start_soon(partial(create, only, number, services=("web:1",)))
        await trio.sleep(0.1)
        decided: list[float] = []
        decide = SessionEnds.decide

        def note(*args, **kwargs) -> None:
            decided.append(trio.current_time())
            decide(only.node.sessions._ends, *args, **kwargs)

        only.node.sessions._ends.decide = note  # type: ignore[method-assign]
        say(only, "web:1", "critical")
        await gone(cluster, *map(session_id, (1, 300, 600)))
        assert max(Counter(decided).values()) <= SLICE, "in slices, with pauses between"
