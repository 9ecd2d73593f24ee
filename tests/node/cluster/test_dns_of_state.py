"""DNS and the real state: no answer outlives a change, and every member gives the same ones."""

from __future__ import annotations

import random
from collections.abc import Callable

import dnslib
import pytest
import trio

from hstore.dns.answers import Answers
from hstore.dns.view import ClusterView
from hstore.node.cluster.dns_lookup import CatalogLookup
from hstore.node.model.checks import Word
from hstore.node.model.commands import ClusterSettings, Command, PutMember, RemoveMember
from hstore.node.model.services import Place, RegisterService
from hstore.node.state.machine import State
from hstore.node.state.watching.watches import Watches
from tests.dns.kit import contents, opt, query, reply_of, view
from tests.node.memory_cluster import Member, running
from tests.node.state.catalogs import Draws, deregister, given, register, ttl
from tests.node.state.machines import member, new_machine, run, serf_health
from tests.node.state.test_catalog_random import begin

QUESTIONS = [
    query(f"{name}.{domain}", rtype, additional=opt())
    for name in (
        *("web.service", "db.service", "cache.service", "consul.service", "v1.web.service"),
        *("_web._tcp", "_db._v2", "e1.node", "e2.node", "e3.node", "n7.node"),
    )
    for domain in ("consul", "hstore.local")
    for rtype in ("A", "SRV")
]

MEMBERS = query("consul.service.consul", "SRV", additional=opt())


def lookup_of(machine: State, listen: Callable[..., object]) -> CatalogLookup:
    return CatalogLookup(
        machine.view, listen, lambda: machine.cluster.settings, lambda: float("inf")
    )


def said(answers: Answers, packet: bytes) -> object:
    parsed = dnslib.DNSRecord.parse(reply_of(answers, packet, over_tcp=True))
    return parsed.header.rcode, *(sorted(map(str, part)) for part in (parsed.rr, parsed.ar))


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_is_what_the_state_says_after_every_command(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio, "current_time", lambda: 0.0)
    monkeypatch.setattr("hstore.node.cluster.dns_lookup._KEPT_FROM", 2)
    machine = new_machine()
    watches = Watches(machine.history)
    begin(machine)
    kept = Answers(random.Random(1), lookup_of(machine, watches.listen))
    kept.view = view()
    rng = random.Random(seed)
    for command in Draws(seed).commands(machine, 150):
        for packet in (*rng.sample(QUESTIONS, 6), MEMBERS):
            kept.reply(packet)  # so that there is something to forget
        run(machine, command)
        fresh = Answers(random.Random(2), lookup_of(machine, lambda *_: None))
        fresh.view = kept.view
        for packet in (*rng.sample(QUESTIONS, 8), MEMBERS):
            assert said(kept, packet) == said(fresh, packet), (command, packet)


def test_a_new_member_is_found_as_soon_as_it_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of before depends on other nodes alone."""
    monkeypatch.setattr(trio, "current_time", lambda: 0.0)
    machine = new_machine()
    watches = Watches(machine.history)
    begin(machine)
    kept = Answers(random.Random(1), lookup_of(machine, watches.listen))
    kept.view = view()
    assert len(srvs(kept, "consul.service.consul")) == 3
    run(machine, PutMember(member(9)))
    assert len(srvs(kept, "consul.service.consul")) == 3
    number = machine.members[9].catalog_number
    run(machine, serf_health("passing", number))
    assert len(srvs(kept, "consul.service.consul")) == 4
    run(machine, RemoveMember(9))
    assert len(srvs(kept, "consul.service.consul")) == 3


# Members


def dns_of(member: Member) -> Answers:
    """A node's answers, wired as in `node/process/main.py`."""
    answers = Answers(random.Random(1), member.node.dns_lookup())

    def show(seen: ClusterView | None) -> None:
        answers.view = seen

    member.node.status.on_view = show
    answers.view = member.node.status.view()
    return answers


def srvs(answers: Answers, name: str = "web.service.consul") -> list[str]:
    packet = query(name, "SRV", additional=opt())
    return sorted(contents(dnslib.DNSRecord.parse(reply_of(answers, packet, over_tcp=True)).rr))


async def do(member: Member, command: Command) -> None:
    outcome = await member.node.keys.write(command, trio.current_time() + 5)
    assert outcome.ok, outcome


async def test_what_one_member_takes_every_member_answers(autojump_clock) -> None:
    async with running(3) as cluster:
        servers = {member.id: dns_of(member) for member in cluster.up}
        numbers = {member.id: member.node.keys.own_number for member in cluster.up}
        names = {member.id: member.node.process.name for member in cluster.up}

        async def until(*rows: str) -> float:
            expected = sorted(rows)
            within = await cluster.until(
                lambda: all(srvs(server) == expected for server in servers.values())
            )
            assert within < 1, within
            return within

        await until()
        check = given("c", "passing", ttl())
        await do(cluster[2], register(numbers[2], "web", check, port=80))
        await until(f"1 1 80 {names[2]}.node.consul.")
        await do(cluster[3], register("far", "web", port=81, address="192.0.2.7"))
        await until(f"1 1 80 {names[2]}.node.consul.", "1 1 81 far.node.consul.")
        assert cluster[2].node.checks.word(numbers[2], "c", "critical", "") is Word.TAKEN
        await until("1 1 81 far.node.consul.")
        await do(cluster[1], deregister("far", "web"))
        await until()
        for server in servers.values():
            assert len(srvs(server, "consul.service.hstore.local")) == 3


async def test_the_death_of_a_member_takes_its_instances_out_and_its_return_brings_them_back(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        servers = {member.id: dns_of(member) for member in cluster.up if member.id != 3}
        number = cluster[3].node.keys.own_number
        await do(cluster[3], RegisterService(Place(number), service_of("web")))

        def shown(count: int) -> bool:
            return all(len(srvs(server)) == count for server in servers.values())

        await cluster.until(lambda: shown(1))
        cluster[3].crash()
        assert await cluster.until(lambda: shown(0)) <= 4
        await cluster[3].start()
        await cluster.until(lambda: shown(1))


async def test_services_are_servfail_when_the_last_contact_is_too_long_ago(autojump_clock) -> None:
    settings = ClusterSettings(dns_max_stale_ms=5_000)
    async with running(3, settings=settings) as cluster:
        server = dns_of(cluster[3])
        await do(cluster[3], RegisterService(Place(0, "far", "192.0.2.7"), service_of("web")))
        await cluster.until(lambda: len(srvs(server)) == 1)

        def rcode() -> int:
            server.note_age()
            packet = query("web.service.consul", "SRV", additional=opt())
            return int(dnslib.DNSRecord.parse(reply_of(server, packet)).header.rcode)

        cluster.silence(3)
        begun = trio.current_time()
        await cluster.until(lambda: rcode() == 2)
        assert 4 < trio.current_time() - begun < 7


def service_of(name: str):
    return register(1, name, port=80).service
