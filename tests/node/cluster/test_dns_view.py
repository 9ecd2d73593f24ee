"""What the DNS server of each node answers while the cluster changes, in virtual time."""

from __future__ import annotations

import random

import dnslib
import msgspec
import pytest
import trio

from hstore.dns.answers import Answers
from hstore.dns.view import ClusterView
from hstore.node.model import commands
from hstore.node.model.commands import PutMember
from hstore.node.peers.wire import ForwardKind
from tests.dns.kit import asked, contents, opt, query, reply_of
from tests.node.memory_cluster import Member, running

NOERROR, SERVFAIL = 0, 2
LEADER_NAMES = ("leader", "_hstore-leader._tcp")
CONTACT_S = 1.0
TICK_S = 0.1


def dns_of(member: Member) -> Answers:
    """A node's answers, wired as in `node/process/main.py`: from nothing but the views it is handed."""
    answers = Answers(random.Random(1))

    def show(view: ClusterView | None) -> None:
        answers.view = view

    member.node.status.on_view = show
    answers.view = member.node.status.view()
    return answers


def rcode(answers: Answers, name: str = "leader", rtype: str = "A") -> int:
    return int(asked(answers, name, rtype).header.rcode)


def leader_port(answers: Answers) -> str | None:
    """Whom the leader's service names; None: SERVFAIL."""
    reply = asked(answers, "_hstore-leader._tcp", "SRV")
    return None if reply.header.rcode else str(reply.rr[0].rdata).split()[3].split(".")[0]


def names(answers: Answers, member: Member) -> bool:
    """Whether a node is named as the leader, by all names."""
    host = member.settings.advertised_host
    return contents(asked(answers, "leader").rr) == [host] and (
        leader_port(answers) == member.node.process.name
    )


# -- a new leader ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("how", ["crash", "silence", "stop"])
async def test_each_survivor_names_the_new_leader_within_a_second_of_its_election(
    how: str, count: int, seed: int, autojump_clock
) -> None:
    async with running(count, seed=seed) as cluster:
        survivors = [member for member in cluster.up if member.id != 1]
        servers = {member.id: dns_of(member) for member in survivors}
        assert all(names(server, cluster[1]) for server in servers.values())
        match how:
            case "crash":
                cluster[1].crash()
            case "silence":
                cluster.silence(1)
            case "stop":
                cluster.nursery.start_soon(cluster[1].stop)
        await cluster.until(lambda: any(member.is_leader for member in survivors))
        new = next(member for member in survivors if member.is_leader)

        took = await cluster.until(lambda: all(names(s, new) for s in servers.values()))

        assert took < 1


async def test_no_server_names_two_nodes_or_one_that_never_led(autojump_clock) -> None:
    async with running(5) as cluster:
        servers = [dns_of(member) for member in cluster.up]
        led = {"n1"}
        cluster[1].crash()
        for _ in range(400):
            await trio.sleep(0.005)
            led |= {member.node.process.name for member in cluster.up if member.is_leader}
            named = {leader_port(server) for server in servers[1:]} - {None}
            assert named <= led
            assert all(len(asked(s, "leader").rr) <= 1 for s in servers[1:])


# -- cut off -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 5])
async def test_a_follower_cut_off_from_the_majority_fails_for_the_leader_once_contact_has_lapsed(
    count: int, autojump_clock
) -> None:
    async with running(count) as cluster:
        server = dns_of(cluster[3])
        cluster.silence(3)
        took = await cluster.until(lambda: rcode(server) == SERVFAIL)
        assert CONTACT_S - 2 * TICK_S <= took <= CONTACT_S + 2 * TICK_S

        for _ in range(50):
            for name in LEADER_NAMES:
                for rtype in ("A", "AAAA", "SRV", "TXT", "ANY"):
                    assert rcode(server, name, rtype) == SERVFAIL
            rest = asked(server, "n3.node")
            assert (rest.header.rcode, rest.header.aa, rest.rr[0].ttl) == (NOERROR, 1, 0)
            assert len(asked(server, "nodes").rr) == count
            await trio.sleep(0.1)

        cluster.network.heal()
        await cluster.until(lambda: names(server, cluster.leader))
        assert asked(server, "n3.node").rr[0].ttl == 1


@pytest.mark.parametrize("count", [3, 5])
async def test_a_leader_cut_off_from_the_majority_fails_for_itself_and_the_others_name_another(
    count: int, autojump_clock
) -> None:
    async with running(count) as cluster:
        servers = {member.id: dns_of(member) for member in cluster.up}
        cluster.silence(1)
        took = await cluster.until(lambda: rcode(servers[1]) == SERVFAIL)
        assert took <= CONTACT_S + 2 * TICK_S
        await cluster.until(lambda: any(m.is_leader for m in cluster.up if m.id != 1))
        await trio.sleep(1)

        assert rcode(servers[1]) == SERVFAIL
        assert {leader_port(servers[number]) for number in range(2, count + 1)} == {
            cluster.leader.node.process.name
        }


async def test_a_minority_fails_for_the_leader_although_its_members_hear_each_other(
    autojump_clock,
) -> None:
    async with running(5) as cluster:
        servers = [dns_of(cluster[number]) for number in (1, 2)]
        for one in (1, 2):
            cluster.silence(one, of=(3, 4, 5))
        took = await cluster.until(lambda: all(rcode(server) == SERVFAIL for server in servers))
        assert took <= CONTACT_S + 2 * TICK_S
        for _ in range(50):
            await trio.sleep(0.1)
            assert {rcode(server) for server in servers} == {SERVFAIL}
        cluster.network.heal()
        await cluster.until(lambda: all(names(server, cluster.leader) for server in servers))


async def test_when_the_majority_dies_the_last_node_fails_for_the_leader(autojump_clock) -> None:
    async with running(3) as cluster:
        server = dns_of(cluster[3])
        cluster[1].crash()
        cluster[2].crash()
        took = await cluster.until(lambda: rcode(server) == SERVFAIL)
        assert took <= CONTACT_S + 2 * TICK_S


# -- everything else that the view shows -------------------------------------------------------


async def test_groups_follow_the_roles_and_the_health_of_members(autojump_clock) -> None:
    async with running(3) as cluster:
        await cluster.join(learner=True)
        server = dns_of(cluster[2])

        def who(group: str) -> set[str]:
            return {
                text.split()[3].split(".")[0] for text in contents(asked(server, group, "SRV").rr)
            }

        await cluster.until(lambda: who("learners") == {"n4"})
        assert who("voters") == {"n1", "n2", "n3"}
        assert who("followers") == {"n2", "n3"}
        cluster[3].crash()
        await cluster.until(lambda: who("followers") == {"n2"})
        assert who("voters") == who("nodes") - {"n4"} == {"n1", "n2"}
        cluster[1].crash()
        await trio.sleep(3)
        # Two of three voters are gone: the view is the last one there was.
        assert who("learners") == {"n4"}


@pytest.mark.parametrize(
    ("change", "name", "rtype", "expected"),
    [
        ({"name": "db"}, "db.node", "A", "10.0.0.3"),
        ({"name": "db"}, "3.0.0.10.in-addr.arpa", "PTR", "db.node.hstore.local."),
        ({"address": "10.0.0.9:8500"}, "n3.node", "A", "10.0.0.9"),
        ({"address": "10.0.0.9:8500"}, "9.0.0.10.in-addr.arpa", "PTR", "n3.node.hstore.local."),
        ({"address": "10.0.0.3:9500"}, "n3.node", "SRV", "0 1 9500 n3.node.hstore.local."),
        ({"peer_address": "10.0.0.3:9300"}, "n3.node", "TXT", '"peer=10.0.0.3:9300"'),
    ],
)
async def test_what_the_cluster_is_told_of_a_member_shows_on_every_node(
    change: dict[str, str], name: str, rtype: str, expected: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        servers = [dns_of(member) for member in (cluster[1], cluster[2])]
        # Its own announcements would put it right again.
        cluster[3].crash()
        await trio.sleep(5)
        member = cluster[1].node.replica.state.members[3]
        command = commands.encode(PutMember(msgspec.structs.replace(member, **change)))
        deadline = trio.current_time() + 5

        def shows(server: Answers) -> bool:
            whole = name if name.endswith("arpa") else f"{name}.hstore.local"
            packet = query(whole, rtype, additional=opt())
            records = dnslib.DNSRecord.parse(reply_of(server, packet)).rr
            return any(expected in str(record.rdata) for record in records)

        assert not any(shows(server) for server in servers)
        outcome = await cluster[1].node.replica.request(ForwardKind.WRITE, command, deadline)
        assert outcome.ok
        assert await cluster.until(lambda: all(shows(server) for server in servers)) < 0.3


async def test_a_new_ttl_shows_in_the_next_answers(autojump_clock) -> None:
    async with running(3) as cluster:
        server = dns_of(cluster[2])
        await cluster[1].node.settings.change("dns_ttl", "30s", trio.current_time() + 5)
        took = await cluster.until(lambda: asked(server, "nodes").rr[0].ttl == 30)
        assert took <= 2 * TICK_S
