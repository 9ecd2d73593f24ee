"""Finding a cluster: what is asked of whom, what is made of the answers, and when it is given up."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address

import dnslib
import pytest
import trio

from hstore.dns import client as client_module
from hstore.dns import finder
from hstore.dns.answers import Answers
from hstore.dns.client import ASK_S, NoAnswer, ask
from hstore.dns.finder import (
    FIND_S,
    LOOK_S,
    PEER,
    ROUND_PAUSE_S,
    Attempt,
    DnsServers,
    Findings,
    Sighting,
    find,
    local_nodes,
    look,
    tried,
)
from hstore.dns.records import Address, name_of
from hstore.dns.wire import pack_question, parse_reply

from .kit import ZONE, answers_from, is_held, member, reply_of, view
from .test_server import bound, serving

LEADER = name_of("leader.hstore.local")
PATIENCE_S = 5


@asynccontextmanager
async def answering(reply):
    """A UDP server on loopback that replies to each packet with the packets `reply(packet)` gives."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as udp:
        await udp.bind(("127.0.0.1", 0))

        async def serve():
            while True:
                packet, address = await udp.recvfrom(4096)
                for one in reply(packet):
                    await udp.sendto(one, address)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with trio.fail_after(PATIENCE_S):
                yield udp.getsockname()
            nursery.cancel_scope.cancel()


def answered_by(answers: Answers):
    return lambda packet: [reply_of(answers, packet)]


def free_address():
    udp, tcp = bound()
    with udp, tcp:
        return udp.getsockname()


# One question


async def test_a_reply_is_read():
    async with answering(answered_by(answers_from(view()))) as (host, port):
        reply = await ask(host, port, LEADER, 1)
    assert [record.rdata for record in reply.answers] == [Address(IPv4Address("10.0.0.1"))]


async def test_a_server_may_be_named_by_a_host_name_and_an_unknown_one_is_no_answer():
    async with answering(answered_by(answers_from(view()))) as (_host, port):
        assert (await ask("localhost", port, LEADER, 1)).answers
    with pytest.raises(NoAnswer, match="no such host"):
        await ask("a..b", port, LEADER, 1)


async def test_a_truncated_reply_is_asked_for_again_by_tcp():
    async with serving(seen=view(100)) as (_server, (host, port)):
        reply = await ask(host, port, name_of("nodes.hstore.local"), 33, within_s=10)
    assert len(reply.answers) == 100
    assert not reply.truncated


async def test_replies_that_do_not_match_are_passed_over():
    answers = answers_from(view())

    def reply(packet):
        right = reply_of(answers, packet)
        forged = right.replace(b"\x0a\0\0\1", b"\6\6\6\6")
        assert forged[33:37] == b"\0\1\0\1"
        other_id = bytes([forged[0] ^ 1]) + forged[1:]
        other_name = forged.replace(b"leader", b"header")
        other_type = forged[:33] + b"\0\x10" + forged[35:]
        without_question = forged[:4] + b"\0\0" + forged[6:12] + b"\6leader\0" + forged[39:]
        garbage = [b"", packet, right[:20], right[:2] + b"\x80"]
        return [*garbage, other_id, other_name, other_type, without_question, right]

    async with answering(reply) as (host, port):
        found = await ask(host, port, LEADER, 1)
    assert [record.rdata for record in found.answers] == [Address(IPv4Address("10.0.0.1"))]


async def test_a_server_that_only_sends_nonsense_is_given_up():
    async with answering(lambda _packet: [b"x"] * 100) as (host, port):
        with pytest.raises(NoAnswer, match="do not answer the question"):
            await ask(host, port, LEADER, 1)


async def test_where_nothing_listens_that_is_said_at_once():
    host, port = free_address()
    with trio.fail_after(ASK_S / 2):
        with pytest.raises(NoAnswer, match="nothing listens there"):
            await ask(host, port, LEADER, 1)


async def test_a_server_that_does_not_answer_is_left_in_time(autojump_clock, monkeypatch):
    async def never(*_arguments):
        await trio.sleep_forever()

    monkeypatch.setattr(client_module, "_ask_udp", never)
    start = trio.current_time()
    with pytest.raises(NoAnswer, match="no answer within"):
        await ask("127.0.0.1", 1, LEADER, 1)
    assert trio.current_time() - start == pytest.approx(ASK_S)


@pytest.mark.parametrize(
    ("seen", "zone", "rcode"), [(view(leader=None), ZONE, 2), (view(), "other.zone", 5)]
)
async def test_an_error_code_is_told_in_words_and_as_a_number(seen, zone, rcode):
    async with answering(answered_by(answers_from(seen))) as (host, port):
        with pytest.raises(NoAnswer, match=dnslib.RCODE[rcode]) as caught:
            await ask(host, port, name_of(f"leader.{zone}"), 1)
        assert caught.value.rcode == rcode


async def test_a_reply_with_a_chain_of_pointers_is_no_answer():
    def reply(packet):
        # Each pointer points to the one before it, and dnslib follows them by recursion.
        start = 12 + 11
        chain = b"".join((0xC000 | at).to_bytes(2, "big") for at in [12, *range(start, 16000, 2)])
        first = b"\0\xff\0\0\1\0\0\0\0" + len(chain).to_bytes(2, "big") + chain
        second = (0xC000 | start + len(chain) - 2).to_bytes(
            2, "big"
        ) + b"\0\1\0\1\0\0\0\0\0\4\1\2\3\4"
        return [packet[:2] + b"\x84\0\0\0\0\2\0\0\0\0" + first + second]

    async with answering(reply) as (host, port):
        with pytest.raises(NoAnswer, match="no answer within"):
            await ask(host, port, LEADER, 1)


# A round


async def test_nodes_and_leader_are_found_with_their_ports():
    async with answering(answered_by(answers_from(view()))) as server:
        findings = await look(ZONE, [DnsServers("test", [server])])
    (sighting,) = findings.sightings
    assert (sighting.source, sighting.server) == ("test", server)
    assert set(sighting.nodes) == {("10.0.0.1", 8500), ("10.0.0.2", 8501), ("10.0.0.3", 8502)}
    assert sighting.leader == ("10.0.0.1", 8500)
    assert findings.addresses()[0] == ("10.0.0.1", 8500)
    assert len(findings.addresses()) == 3
    assert findings.found


async def test_nodes_are_found_while_there_is_no_leader():
    async with answering(answered_by(answers_from(view(leader=None)))) as server:
        findings = await look(ZONE, [DnsServers("test", [server])])
    (sighting,) = findings.sightings
    assert len(sighting.nodes) == 3
    assert sighting.leader is None
    assert findings.attempts[-1].outcome.startswith("SERVFAIL")


@pytest.mark.parametrize("has_services", [True, False])
async def test_a_question_for_the_leader_that_is_held_is_not_waited_for(has_services):
    answers = answers_from(view(leader=None))

    def reply(packet):
        asked = dnslib.DNSRecord.parse(packet)
        if is_held(answers, packet):
            return []
        if asked.q.qtype == dnslib.QTYPE.SRV and not has_services:
            return [bytes(asked.reply().pack())]
        return [reply_of(answers, packet)]

    async with answering(reply) as server:
        start = trio.current_time()
        findings = await look(ZONE, [DnsServers("test", [server])])
        took = trio.current_time() - start
    (sighting,) = findings.sightings
    assert (len(sighting.nodes), sighting.leader) == (3, None)
    assert took < ASK_S


def without_services(answers: Answers, keep_additional=True):
    """A server that has no SRV records, or gives no addresses with them."""

    def reply(packet):
        whole = dnslib.DNSRecord.parse(reply_of(answers, packet))
        if whole.q.qtype == dnslib.QTYPE.SRV:
            if keep_additional:
                whole.rr, whole.ar = [], []
            else:
                whole.ar = []
        return [bytes(whole.pack())]

    return reply


async def test_without_srv_the_addresses_of_the_names_are_used_with_the_default_port():
    members = [member(1), member(2, "2001:db8::2")]
    async with answering(without_services(answers_from(view(members)))) as server:
        findings = await look(ZONE, [DnsServers("test", [server])])
    (sighting,) = findings.sightings
    assert sighting.leader == ("10.0.0.1", 8500)
    assert set(sighting.nodes) == {("10.0.0.1", 8500), ("2001:db8::2", 8500)}


async def test_targets_without_an_address_beside_them_are_looked_up():
    reply = without_services(answers_from(view()), keep_additional=False)
    async with answering(reply) as server:
        findings = await look(ZONE, [DnsServers("test", [server])])
    assert set(findings.sightings[0].nodes) == {
        ("10.0.0.1", 8500),
        ("10.0.0.2", 8501),
        ("10.0.0.3", 8502),
    }


async def test_only_so_many_targets_are_looked_up():
    answers = answers_from(view(40))

    async def reply_to(_host, _port, name, rtype, _within_s):
        reply = parse_reply(reply_of(answers, pack_question(name, rtype, 1), over_tcp=True))
        return replace(reply, additional=())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(finder, "ask", reply_to)
        findings = await look(ZONE, [DnsServers("test", [("h", 1)])])
    assert len(findings.sightings[0].nodes) == 16


async def test_a_server_that_is_not_there_or_serves_another_zone_is_asked_once():
    async with answering(answered_by(answers_from(view(zone="other.zone")))) as other:
        nobody = free_address()
        findings = await look(ZONE, [DnsServers("test", [nobody, other])])
    assert not findings.found
    assert [(one.server, one.outcome.split(":")[0]) for one in findings.attempts] == [
        (nobody, "nothing listens there"),
        (other, "REFUSED"),
    ]
    assert findings.attempts[0].question == "SRV _hstore._tcp.hstore.local"


async def test_what_each_server_says_is_kept_in_the_order_of_the_servers():
    async with answering(answered_by(answers_from(view([member(1)])))) as first:
        async with answering(answered_by(answers_from(view([member(2)], leader="n2")))) as second:
            sources = [DnsServers("b", [second, first]), DnsServers("a", [first])]
            findings = await look(ZONE, sources)
    assert [(one.source, one.server) for one in findings.sightings] == [
        ("b", second),
        ("b", first),
        ("a", first),
    ]


async def test_a_slow_server_does_not_hold_up_a_round_and_what_came_is_kept(
    autojump_clock, monkeypatch
):
    async def slow(_host, port, name, _rtype, _within_s):
        await trio.sleep(ASK_S * 0.9 if port == 2 else 0)
        raise NoAnswer(f"{name[0].decode()} is not known", 3)

    monkeypatch.setattr(finder, "ask", slow)
    start = trio.current_time()
    findings = await look(ZONE, [DnsServers("test", [("h", 2), ("h", 1)])])
    assert trio.current_time() - start == pytest.approx(LOOK_S)
    assert [one.server[1] for one in findings.attempts] == [2, 2, 1, 1, 1, 1, 1]


def test_the_nodes_of_this_machine_are_asked_at_the_ports_of_the_contract():
    for host in ("127.0.0.1", "::1"):
        ports = [port for asked, port in local_nodes().servers if asked == host]
        assert ports == list(range(8600, 8616))


# The search


class Scripted:
    """A source that gives prepared findings, one after the other; the last one again and again."""

    def __init__(self, *rounds: Findings, takes_s: float = 0, rank: int = 1) -> None:
        self.rank = rank
        self.rounds = list(rounds)
        self.takes_s = takes_s
        self.looks = 0

    async def look(self, _zone, findings):
        self.looks += 1
        findings.attempts.append(Attempt("test", ("h", 1), "A x", f"look {self.looks}"))
        await trio.sleep(self.takes_s)
        findings.take(self.rounds[0])
        if len(self.rounds) > 1:
            del self.rounds[0]


def sighting(port):
    return Findings(sightings=[Sighting("test", ("h", 1), (("10.0.0.1", port),), None)])


async def test_the_search_goes_on_until_something_is_found(autojump_clock):
    source = Scripted(Findings(), Findings(), sighting(1))
    start = trio.current_time()
    findings = await find(ZONE, [source])
    assert findings.found
    assert findings.addresses() == [("10.0.0.1", 1)]
    assert trio.current_time() - start == pytest.approx(2 * ROUND_PAUSE_S)


async def test_what_cannot_be_proved_is_not_found_and_the_next_round_is_tried(autojump_clock):
    proofs = []

    async def prove(findings):
        proofs.append(findings.addresses())
        return findings.addresses() == [("10.0.0.1", 2)]

    findings = await find(ZONE, [Scripted(sighting(1), Findings(), sighting(2))], prove)
    assert findings.found
    assert proofs == [[("10.0.0.1", 1)], [("10.0.0.1", 2)]]


async def test_the_search_ends_after_its_time_with_the_last_whole_round(autojump_clock):
    source = Scripted(Findings(), takes_s=0.5)
    start = trio.current_time()
    findings = await find(ZONE, [source])
    assert trio.current_time() - start == pytest.approx(FIND_S)
    assert not findings.found
    assert source.looks == 5
    assert [one.outcome for one in findings.attempts] == ["look 4"]


async def test_a_search_that_ends_in_its_first_round_gives_what_was_tried(autojump_clock):
    findings = await find(ZONE, [Scripted(Findings(), takes_s=100)])
    assert [one.outcome for one in findings.attempts] == ["look 1"]


async def test_a_proof_that_hangs_ends_with_the_search(autojump_clock):
    async def prove(_findings):
        await trio.sleep_forever()
        return True

    findings = await find(ZONE, [Scripted(sighting(1))], prove)
    assert not findings.found
    assert findings.addresses() == [("10.0.0.1", 1)]


async def test_an_error_of_the_proof_ends_the_search(autojump_clock):
    async def prove(_findings):
        raise LookupError("two clusters")

    with pytest.raises(LookupError, match="two clusters"):
        await find(ZONE, [Scripted(sighting(1))], prove)


async def test_a_better_rank_is_proved_first_and_wins(autojump_clock):
    proofs = []

    async def prove(findings):
        proofs.append(findings.addresses())
        return True

    slow, quick = Scripted(sighting(1), takes_s=0.3, rank=2), Scripted(sighting(2), rank=3)
    findings = await find(ZONE, [quick, slow], prove)
    assert proofs == [[("10.0.0.1", 1)]]
    assert findings.found


async def test_nobody_waits_for_a_worse_rank_than_the_one_that_is_proved(autojump_clock):
    start = trio.current_time()
    findings = await find(ZONE, [Scripted(sighting(1), rank=3), Scripted(takes_s=100, rank=4)])
    assert findings.found
    assert trio.current_time() == start


async def test_a_worse_rank_has_its_turn_in_the_same_round_when_a_better_one_is_not_proved(
    autojump_clock,
):
    proofs = []

    async def prove(findings):
        proofs.append(findings.addresses())
        return findings.addresses() == [("10.0.0.1", 5)]

    sources = [Scripted(sighting(rank), rank=rank) for rank in (5, 3, 4)]
    start = trio.current_time()
    assert (await find(ZONE, sources, prove)).found
    assert proofs == [[("10.0.0.1", 3)], [("10.0.0.1", 4)], [("10.0.0.1", 5)]]
    assert trio.current_time() == start


async def test_sources_of_one_rank_are_put_to_the_proof_together(autojump_clock):
    proofs = []

    async def prove(findings):
        proofs.append(set(findings.addresses()))
        return True

    await find(ZONE, [Scripted(sighting(1), takes_s=0.1), Scripted(sighting(2))], prove)
    assert proofs == [{("10.0.0.1", 1), ("10.0.0.1", 2)}]


async def test_a_server_asked_for_peers_gives_peer_ports():
    async with answering(answered_by(answers_from(view()))) as server:
        findings = await look(ZONE, [DnsServers("test", [server], service=PEER)])
    (sighting,) = findings.sightings
    assert {port for _, port in sighting.nodes} == {8300, 8301, 8302}
    assert {one.question for one in findings.attempts} == {"SRV _hstore-peer._tcp.hstore.local"}


def test_recorded_servers_of_this_machine_are_asked_beside_the_usual_ones():
    recorded = [("127.0.0.1", 9999), ("127.0.0.1", 8600)]
    servers = local_nodes(recorded).servers
    assert servers[:2] == recorded
    assert len(servers) == 33


@pytest.mark.parametrize("search", [find, look])
async def test_a_zone_that_is_no_domain_name_is_an_error(search):
    with pytest.raises(ValueError, match="not a domain name"):
        await search("a..b", [])


def test_attempts_with_the_same_outcome_share_a_row():
    ports = [8600, 8601, 8602, 8604]
    attempts = [Attempt("here", ("127.0.0.1", port), "A x", "nothing") for port in ports]
    attempts.append(Attempt("here", ("::1", 8600), "A x", "nothing"))
    attempts.insert(2, Attempt("here", ("127.0.0.1", 8603), "A x", "no answer"))
    assert tried(attempts) == [
        ("here, A x at 127.0.0.1:8600 to 8602, 127.0.0.1:8604, [::1]:8600", "nothing"),
        ("here, A x at 127.0.0.1:8603", "no answer"),
    ]


def test_questions_with_the_same_outcome_share_a_row_and_leave_the_zone_out():
    names = ["SRV _hstore._tcp.hstore.local", "A leader.hstore.local", "A nodes.hstore.local"]
    attempts = [Attempt("dns", ("::1", 53), name, "NXDOMAIN") for name in names]
    attempts[2] = replace(attempts[2], outcome="SERVFAIL")
    assert tried(attempts, ZONE) == [
        ("dns, SRV _hstore._tcp, A leader at [::1]:53", "NXDOMAIN"),
        ("dns, A nodes at [::1]:53", "SERVFAIL"),
    ]


async def test_a_machine_without_ipv6_is_searched_all_the_same(monkeypatch):
    real = trio.socket.socket

    def without_ipv6(family, *arguments):
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *arguments)

    monkeypatch.setattr(trio.socket, "socket", without_ipv6)
    async with answering(answered_by(answers_from(view()))) as server:
        findings = await look(ZONE, [DnsServers("test", [("::1", server[1]), server])])
    assert findings.found
    assert "not supported" in findings.attempts[0].outcome
