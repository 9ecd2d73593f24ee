"""Checks on whole nodes: who runs them, what every member sees, what is mended after a cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from hstore.node.checks.probes import CheckSettings
from hstore.node.checks.verdict import Progress, Verdict
from hstore.node.model.checks import Check, CheckDefinition, CheckStatus, Word
from hstore.node.model.commands import Outcome
from hstore.node.model.services import (
    AssignNodes,
    Deregister,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
)
from tests.node.memory_cluster import PATIENCE_S, Cluster, Member, running


class Targets:
    """What the checks of one member find, by URL; passing else.

    Attributes:
        runs: When which URL was asked.
    """

    def __init__(self) -> None:
        self.says: dict[str, CheckStatus] = {}
        self.runs: list[tuple[float, str]] = []

    async def run(self, definition: CheckDefinition, _progress: Progress) -> Verdict:
        await trio.lowlevel.checkpoint()
        self.runs.append((trio.current_time(), definition.http))
        status = self.says.get(definition.http, "passing")
        return Verdict(status, f"it is {status}")


class Checked:
    """A cluster and the targets of each member."""

    def __init__(self) -> None:
        self.targets: dict[int, Targets] = {}
        self.cluster: Cluster

    def settings(self, node: int) -> CheckSettings:
        return CheckSettings(probes=self.targets.setdefault(node, Targets()))

    def number(self, member: Member) -> int:
        return member.node.keys.own_number

    async def register(self, via: Member, check: GivenCheck, on: Member | None = None) -> None:
        place = Place(self.number(on or via))
        await self.write(via, RegisterCheck(place, check))

    async def write(self, via: Member, command) -> Outcome:
        outcome = await via.node.keys.write(command, trio.current_time() + PATIENCE_S)
        assert outcome.ok, outcome
        return outcome

    def seen(self, at: Member, on: int, check: str) -> str:
        found = at.node.keys.check(on, check)
        return "absent" if found is None else found.status

    def everywhere(self, on: int, check: str) -> set[str]:
        return {self.seen(member, on, check) for member in self.cluster.up}

    async def until_everywhere(
        self, on: int, check: str, status: str, within_s: float = 3
    ) -> float:
        return await self.cluster.until(lambda: self.everywhere(on, check) == {status}, within_s)


@asynccontextmanager
async def checked(count: int = 3) -> AsyncIterator[Checked]:
    one = Checked()
    async with running(count, checks=one.settings) as cluster:
        one.cluster = cluster
        yield one


def http(name: str, *, status: CheckStatus | str = "", interval: int = 1, **more) -> GivenCheck:
    definition = CheckDefinition(kind="http", http=name, interval_ns=interval * 10**9, **more)
    return GivenCheck(name, name, status, definition=definition)  # type: ignore[arg-type]


def ttl(name: str, seconds: float, *, status: str = "") -> GivenCheck:
    definition = CheckDefinition(kind="ttl", ttl_ns=int(seconds * 1e9))
    return GivenCheck(name, name, status, definition=definition)  # type: ignore[arg-type]


def newest(at: Member, check: Check | None) -> str:
    assert check is not None
    return at.node.checks.newest(check).status


async def test_a_member_runs_its_checks_alone_and_every_member_sees_the_results(autojump_clock):
    async with checked() as one:
        owner = one.cluster.followers[0]
        number = one.number(owner)
        service = Service(0, "web", "web", port=80)
        await one.write(owner, RegisterService(Place(number), service, (http("web"),)))
        assert await one.until_everywhere(number, "web", "passing") < 0.1
        one.targets[owner.id].says["web"] = "critical"
        assert await one.until_everywhere(number, "web", "critical") < 1.2
        assert [len(one.targets[other.id].runs) for other in one.cluster.others(owner)] == [0, 0]


async def test_a_check_that_is_registered_through_another_member_runs_where_it_belongs(
    autojump_clock,
):
    async with checked() as one:
        via, owner = one.cluster.followers
        await one.register(via, http("web"), on=owner)
        assert await one.until_everywhere(one.number(owner), "web", "passing") < 0.2
        assert one.targets[via.id].runs == []


async def test_a_word_is_seen_everywhere_soon_and_its_end_too(autojump_clock):
    async with checked() as one:
        owner = one.cluster.followers[0]
        number = one.number(owner)
        await one.register(owner, ttl("beat", 2))
        await one.cluster.until(lambda: one.seen(owner, number, "beat") == "critical")
        assert owner.node.checks.word(number, "beat", "passing", "") is Word.TAKEN
        assert await one.until_everywhere(number, "beat", "passing") < 0.1
        assert 1.8 < await one.until_everywhere(number, "beat", "critical") < 2.2


async def test_a_leaders_death_changes_no_check_and_stops_none(autojump_clock):
    async with checked() as one:
        owner = one.cluster.followers[0]
        number = one.number(owner)
        await one.register(owner, http("web"))
        await one.register(owner, ttl("beat", 4, status="passing"))
        await one.until_everywhere(number, "web", "passing")
        one.cluster.leader.crash()
        start = trio.current_time()
        for _ in range(30):
            owner.node.checks.word(number, "beat", "passing", "")
            await trio.sleep(0.2)
            assert one.everywhere(number, "web") == one.everywhere(number, "beat") == {"passing"}
        runs = [at for at, _ in one.targets[owner.id].runs if at >= start]
        assert 5 <= len(runs) <= 7
        one.targets[owner.id].says["web"] = "critical"
        assert await one.until_everywhere(number, "web", "critical") < 1.2


async def test_who_is_cut_off_checks_on_and_what_differs_is_committed_when_it_is_back(
    autojump_clock,
):
    async with checked() as one:
        owner = one.cluster.followers[0]
        number = one.number(owner)
        await one.register(owner, http("web"))
        await one.register(owner, ttl("beat", 60, status="passing"))
        await one.until_everywhere(number, "web", "passing")
        one.cluster.silence(owner.id)
        await trio.sleep(3)
        one.targets[owner.id].says["web"] = "critical"
        assert owner.node.checks.word(number, "beat", "warning", "low") is Word.TAKEN
        await trio.sleep(3)
        others = one.cluster.others(owner)
        assert {one.seen(other, number, "web") for other in others} == {"passing"}
        assert newest(owner, owner.node.keys.check(number, "web")) == "critical"
        assert newest(owner, owner.node.keys.check(number, "beat")) == "warning"
        for other in others:
            for way in one.cluster.network.between(owner.id, other.id):
                way.release()
        await one.until_everywhere(number, "web", "critical", within_s=5)
        await one.until_everywhere(number, "beat", "warning", within_s=1)


async def test_a_member_that_restarts_keeps_statuses_and_runs_its_checks_at_once(autojump_clock):
    async with checked() as one:
        owner = one.cluster.followers[0]
        number = one.number(owner)
        await one.register(owner, http("web", interval=600))
        await one.register(owner, ttl("beat", 5, status="passing"))
        await one.until_everywhere(number, "web", "passing")
        await trio.sleep(4)
        owner.crash()
        await owner.ended.wait()
        await trio.sleep(2)
        one.targets[owner.id].runs.clear()
        await owner.start()
        await trio.sleep(0.2)
        assert [url for _, url in one.targets[owner.id].runs] == ["web"]
        await trio.sleep(4)
        assert one.everywhere(number, "beat") == {"passing"}, "its time began anew, in full"
        await one.until_everywhere(number, "beat", "critical", within_s=1.5)


async def test_a_check_that_is_deregistered_elsewhere_stops_within_a_second(autojump_clock):
    async with checked() as one:
        via, owner = one.cluster.followers
        number = one.number(owner)
        await one.register(owner, http("web"))
        await one.until_everywhere(number, "web", "passing")
        await one.write(via, Deregister(Place(number), check="web"))
        await trio.sleep(0.5)
        one.targets[owner.id].runs.clear()
        await trio.sleep(5)
        assert one.targets[owner.id].runs == []
        assert len(owner.node.checks) == 0


async def test_the_owner_of_an_external_node_runs_its_checks_and_another_one_goes_on(
    autojump_clock,
):
    async with checked() as one:
        leader = one.cluster.leader
        place = Place(0, "far", "192.0.2.1")
        service = Service(0, "web", "web")
        await one.write(leader, RegisterService(place, service, (http("web"),)))
        (number,) = leader.node.keys.external_numbers()
        assert await one.until_everywhere(number, "web", "passing") < 0.5
        first, second = leader.node.keys.owner_of(number), one.cluster.followers[0].id
        ran = [member.id for member in one.cluster.up if one.targets[member.id].runs]
        assert ran == [first] != [second]
        one.targets[second].says["web"] = "critical"
        await one.write(leader, AssignNodes(((number, second),)))
        await one.until_everywhere(number, "web", "critical", within_s=1)
        one.targets[first].runs.clear()
        await trio.sleep(5)
        assert one.targets[first].runs == []


async def test_the_checks_of_an_external_node_go_on_when_their_owner_dies(autojump_clock):
    async with checked() as one:
        leader = one.cluster.leader
        place = Place(0, "far", "192.0.2.1")
        await one.write(leader, RegisterService(place, Service(0, "web", "web"), (http("web"),)))
        (number,) = leader.node.keys.external_numbers()
        await one.until_everywhere(number, "web", "passing")
        for _ in range(2):
            owner = one.cluster[one.cluster.up[0].node.keys.owner_of(number)]
            owner.crash()
            await owner.ended.wait()
            for other in one.cluster.up:
                one.targets[other.id].runs.clear()
            for _ in range(100):
                assert one.everywhere(number, "web") == {"passing"}, "until there is a result"
                await trio.sleep(0.05)
            ran = [other.id for other in one.cluster.up if one.targets[other.id].runs]
            assert len(ran) == 1
            one.targets[ran[0]].says["web"] = "critical"
            await one.until_everywhere(number, "web", "critical", within_s=1.2)
            one.targets[ran[0]].says["web"] = "passing"
            await one.until_everywhere(number, "web", "passing", within_s=1.2)
            await owner.start()
            await one.cluster.until(owner.node.status.in_contact)


async def test_the_leader_ends_the_ttls_of_external_nodes_and_a_new_one_begins_them_anew(
    autojump_clock,
):
    async with checked() as one:
        leader = one.cluster.leader
        place = Place(0, "far", "192.0.2.1")
        beat = ttl("beat", 5, status="passing")
        await one.write(leader, RegisterService(place, Service(0, "web", "web"), (beat,)))
        (number,) = leader.node.keys.external_numbers()
        await trio.sleep(4)
        leader.crash()
        await one.cluster.until(lambda: any(member.is_leader for member in one.cluster.up))
        await trio.sleep(4)
        assert one.everywhere(number, "beat") == {"passing"}
        new = one.cluster.leader
        assert new.node.checks.word(number, "beat", "passing", "") is Word.TAKEN
        await trio.sleep(4)
        assert one.everywhere(number, "beat") == {"passing"}
        await one.until_everywhere(number, "beat", "critical", within_s=2)


async def test_a_word_about_an_external_node_may_go_to_any_member_and_survives_its_leader(
    autojump_clock,
):
    async with checked() as one:
        leader = one.cluster.leader
        via = one.cluster.followers[0]
        beat = ttl("beat", 5, status="passing")
        place = Place(0, "far", "192.0.2.1")
        await one.write(leader, RegisterService(place, Service(0, "web", "web"), (beat,)))
        (number,) = leader.node.keys.external_numbers()
        await one.until_everywhere(number, "beat", "passing")
        said: list[Word] = []

        async def say() -> None:
            while True:
                deadline = trio.current_time() + PATIENCE_S
                word = via.node.checks.word_elsewhere(number, "beat", "passing", "", deadline)
                said.append(await word)
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            await trio.sleep(12)
            assert one.everywhere(number, "beat") == {"passing"}
            leader.crash()
            await trio.sleep(12)
            assert one.everywhere(number, "beat") == {"passing"}
            nursery.cancel_scope.cancel()
        assert set(said) == {Word.TAKEN}
        assert len(said) > 15
        await one.until_everywhere(number, "beat", "critical", within_s=7)


async def test_a_word_for_a_member_is_passed_to_it(autojump_clock):
    async with checked() as one:
        via, owner = one.cluster.followers
        number = one.number(owner)
        await one.register(owner, ttl("beat", 60))
        await one.cluster.until(lambda: one.seen(via, number, "beat") == "critical")
        deadline = trio.current_time() + PATIENCE_S
        for check, expected in (("beat", Word.TAKEN), ("none", Word.UNKNOWN)):
            word = via.node.checks.word_elsewhere(number, check, "warning", "low", deadline)
            assert await word is expected
        assert newest(owner, owner.node.keys.check(number, "beat")) == "warning"
        await one.until_everywhere(number, "beat", "warning", within_s=0.1)


async def test_a_thousand_checks_that_all_change_cause_no_election(autojump_clock):
    async with checked() as one:
        owner = one.cluster.followers[0]
        number = one.number(owner)
        term = one.cluster.leader.core.term
        for first in range(0, 1000, 250):
            async with trio.open_nursery() as nursery:
                for at in range(first, first + 250):
                    nursery.start_soon(one.register, owner, http(f"c{at}", interval=10))
        await trio.sleep(12)
        assert len(owner.node.checks) == 1000
        one.targets[owner.id].says = {f"c{at}": "critical" for at in range(1000)}
        await trio.sleep(12)
        checks = [owner.node.keys.check(number, f"c{at}") for at in range(1000)]
        assert {check.status for check in checks if check} == {"critical"}
        assert {member.core.term for member in one.cluster.up} == {term}
