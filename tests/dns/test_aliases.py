"""Services whose instances have host names: what a recursor is asked, and what the client gets."""

from __future__ import annotations

import random

import dnslib
import pytest
import trio
import trio.testing

from hstore.dns.answers import Answers
from hstore.dns.dispatch import Dispatch
from hstore.dns.message import Query
from tests.fakes.lookup import FakeLookup, instance

from .kit import opt, query, view
from .test_recursor import Fake, answer


class Client:
    """An asker (`held.Asker`) whose queries are forwarded at once."""

    over_tcp = False
    key = 1

    def __init__(self, dispatch: Dispatch, host: str = "127.0.0.1", limit: int = 1232) -> None:
        self.host = host
        self.limit = limit
        self.forwarded: list[Query] = []
        self._dispatch = dispatch

    def send(self, reply: bytes) -> None:
        raise AssertionError("nothing is held here")

    def forward(self, one: Query) -> None:
        self.forwarded.append(one)

    async def ask(self, packet: bytes) -> dnslib.DNSRecord:
        reply = self._dispatch.reply(packet, lambda: self)
        if reply is None:
            reply = await self._dispatch.resolve(self.forwarded.pop(), self.limit)
        assert len(reply) <= self.limit
        assert reply[:2] == packet[:2]
        return dnslib.DNSRecord.parse(reply)


def served(upstream: Fake | None, target: str = "db.example.com") -> Dispatch:
    lookup = FakeLookup()
    answers = Answers(random.Random(1), lookup)
    answers.view = view()
    lookup.put(b"db", [instance(1, address=target)], ttl_s=5)
    return Dispatch(answers, upstream.recursor() if upstream else None, lambda: True)


NAME = "dB.service.consul"
CHAIN = ("dB.service.consul.", "db.example.com.")


def rows(reply: dnslib.DNSRecord) -> list[tuple[str, str]]:
    return [(str(rr.rname), str(rr.rdata)) for rr in reply.rr]


@pytest.mark.parametrize("additional", [b"", opt(), opt(flags=0x8000)])
async def test_the_host_is_looked_up_and_the_answer_has_both(additional):
    upstream = Fake(udp1=answer)
    client = Client(served(upstream))
    for _ in range(2):  # such an answer is asked for anew each time
        reply = await client.ask(query(NAME, additional=additional))
        assert rows(reply) == [CHAIN, ("db.example.com.", "192.0.2.9")]
        assert [rr.ttl for rr in reply.rr] == [5, 300]
        assert (reply.header.aa, reply.header.ra, reply.header.rcode) == (1, 1, 0)
        assert reply.q.qname.idna() == f"{NAME}."
        assert len(reply.ar) == bool(additional)
    assert len(upstream.asked) == 2
    asked = dnslib.DNSRecord.parse(upstream.asked[0][2])
    assert (str(asked.q.qname), asked.q.qtype) == ("db.example.com.", 1)


@pytest.mark.parametrize(
    ("host", "flags", "has_recursor"),
    [("192.0.2.77", 0x0100, True), ("127.0.0.1", 0, True), ("127.0.0.1", 0x0100, False)],
)
async def test_who_may_not_recurse_gets_the_name_alone(host, flags, has_recursor):
    upstream = Fake(udp1=answer)
    client = Client(served(upstream if has_recursor else None), host)
    for _ in range(2):
        reply = await client.ask(query(NAME, flags=flags))
        assert rows(reply) == [CHAIN]
        assert (reply.header.aa, reply.header.ra) == (1, 0)
    assert not upstream.asked


async def test_other_types_and_names_of_ours_ask_no_recursor():
    upstream = Fake(udp1=answer)
    client = Client(served(upstream, "n1.node.hstore.local"))
    reply = await client.ask(query(NAME))
    assert rows(reply)[1:] == [("n1.node.hstore.local.", "10.0.0.1")]
    client = Client(served(upstream))
    for rtype in ("SRV", "TXT", "ANY"):
        await client.ask(query(NAME, rtype, additional=opt()))
    assert not upstream.asked


async def test_a_host_that_does_not_exist_is_nxdomain_with_the_name_before_it():
    upstream = Fake(udp1=lambda question: answer(question, rcode=3, records=0))
    reply = await Client(served(upstream)).ask(query(NAME))
    assert (reply.header.rcode, rows(reply)) == (3, [CHAIN])


@pytest.mark.parametrize("said", [OSError(), lambda question: answer(question, rcode=2)])
async def test_a_recursor_that_fails_is_servfail_so_that_another_server_is_asked(said):
    upstream = Fake(udp1=said)
    reply = await Client(served(upstream)).ask(query(NAME, additional=opt()))
    assert (reply.header.rcode, rows(reply)) == (2, [])


async def test_a_reply_that_is_too_long_has_tc(autojump_clock):
    upstream = Fake(udp1=lambda question: answer(question, records=60))
    client = Client(served(upstream), limit=512)
    reply = await client.ask(query(NAME))
    assert reply.header.tc == 1


async def test_bytes_that_are_no_reply_are_servfail_and_no_bug():
    def spoilt(question: bytes) -> bytes:
        whole = bytearray(answer(question))
        # The owner of its record points to itself.
        at = whole.index(b"\xc0\x0c")
        whole[at : at + 2] = (0xC000 | at).to_bytes(2, "big")
        return bytes(whole)

    dispatch = served(Fake(udp1=spoilt))
    reply = await Client(dispatch).ask(query(NAME))
    assert reply.header.rcode == 2
    assert dispatch.stats.failures == 0


async def test_a_name_that_was_held_goes_to_a_recursor_too(autojump_clock: trio.testing.MockClock):
    """Before the first view all names that may need a leader are held: here the service comes with it."""
    upstream = Fake(udp1=answer)
    dispatch = served(upstream)
    seen = dispatch.answers.view
    dispatch.answers.view = None
    client = Client(dispatch)
    assert dispatch.reply(query("leader.hstore.local"), lambda: client) is None
    dispatch.answers.view = seen
    assert (await client.ask(query(NAME))).header.rcode == 0
    dispatch.held.drop(client.key)
