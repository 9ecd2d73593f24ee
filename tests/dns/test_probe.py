"""One question by one transport: everything that may come back, or not, and in bounded time."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager

import pytest
import trio

from hstore.dns import probe
from hstore.dns.probe import Told, addresses
from hstore.dns.records import Rcode, name_of

from .kit import answers_from, member, reply_of, view
from .test_server import bound, serving

LEADER = name_of("leader.hstore.local")
NODES = name_of("nodes.hstore.local")


@asynccontextmanager
async def saying(reply):
    """A UDP server that answers each packet with those that `reply(packet)` gives."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as udp:
        await udp.bind(("127.0.0.1", 0))

        async def serve():
            while True:
                packet, address = await udp.recvfrom(4096)
                for one in reply(packet):
                    await udp.sendto(one, address)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with trio.fail_after(5):
                yield udp.getsockname()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("over_tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(
    ("name", "rcode", "hosts"),
    [
        (LEADER, Rcode.NOERROR, {"10.0.0.1"}),
        (NODES, Rcode.NOERROR, {"10.0.0.1", "10.0.0.2", "10.0.0.3"}),
        (name_of("absent.hstore.local"), Rcode.NXDOMAIN, set()),
        (name_of("example.com"), Rcode.REFUSED, set()),
    ],
)
async def test_a_response_code_is_a_result(name, rcode, hosts, over_tcp):
    async with serving(seen=view()) as (_server, address):
        told = await addresses(address, name, over_tcp=over_tcp)
    assert (told.rcode, told.hosts, told.problem) == (rcode, hosts, "")
    assert 0 <= told.took_s < probe.PROBE_S


async def test_ipv6_addresses_are_asked_for_where_there_are_no_others():
    async with serving(seen=view([member(1, "fd00::1")])) as (_server, address):
        assert (await addresses(address, LEADER)).hosts == {"fd00::1"}


async def test_recursion_is_desired():
    seen = []

    def reply(packet):
        seen.append(packet[2])
        return [reply_of(answers_from(view()), packet)]

    async with saying(reply) as address:
        await addresses(address, LEADER)
    assert seen == [1]


async def test_a_truncated_answer_says_so_and_is_not_asked_for_again():
    async with serving(seen=view(100)) as (_server, address):
        told = await addresses(address, NODES)
        assert told.truncated
        assert len((await addresses(address, NODES, over_tcp=True)).hosts) == 100


async def test_what_does_not_answer_the_question_is_passed_over():
    def reply(packet):
        right = reply_of(answers_from(view()), packet)
        forged = right.replace(b"\x0a\0\0\1", b"\6\6\6\6")
        other_id = bytes([forged[0] ^ 1]) + forged[1:]
        other_name = forged.replace(b"leader", b"header")
        return [b"", packet, right[:20], other_id, other_name, right]

    async with saying(reply) as address:
        assert (await addresses(address, LEADER)).hosts == {"10.0.0.1"}
    async with saying(lambda _packet: [b"x"] * 100) as address:
        told = await addresses(address, LEADER)
    assert (told.rcode, told.said) == (None, "replies that do not answer the question")


@pytest.mark.parametrize("over_tcp", [False, True], ids=["udp", "tcp"])
async def test_that_nobody_listens_is_seen_at_once(over_tcp):
    udp, tcp = bound()
    with udp, tcp:
        address = udp.getsockname()
    told = await addresses(address, LEADER, over_tcp=over_tcp)
    assert told.said == "nothing listens there"


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
async def test_who_is_silent_is_waited_for_no_longer_than_said(kind, autojump_clock):
    with socket.socket(socket.AF_INET, kind) as silent:
        silent.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            silent.listen()
        began = trio.current_time()
        told = await addresses(silent.getsockname(), LEADER, over_tcp=kind == socket.SOCK_STREAM)
        assert trio.current_time() - began == probe.PROBE_S
    assert told == Told(problem="no answer within 2.5 s", took_s=probe.PROBE_S)


async def test_a_connection_that_ends_early_is_told():
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]

    async def hang_up():
        stream = await listener.accept()
        await stream.receive_some()
        await stream.aclose()

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(hang_up)
        told = await addresses(listener.socket.getsockname(), LEADER, over_tcp=True)
    assert told.said == "the TCP connection ended before the reply"


def test_what_was_said_is_put_in_words():
    assert Told(Rcode.NXDOMAIN).said == "NXDOMAIN"
    assert Told(23).said == "response code 23"
    assert Told(Rcode.NOERROR).said == "no address"
    assert Told(Rcode.NOERROR, frozenset({"10.0.0.2", "10.0.0.1"})).said == "10.0.0.1, 10.0.0.2"
