"""Held questions: which are held, until when, how many, and what their askers get."""

from __future__ import annotations

import itertools
import socket
import sys
from contextlib import asynccontextmanager

import dnslib
import pytest
import trio
import trio.testing

from hstore.dns.datagrams import Datagrams
from hstore.dns.held import HELD_MAX, HELD_OF_ONE_MAX, HOLD_S, RELEASED_PER_TURN
from hstore.dns.ratelimit import BURST
from hstore.dns.server import UDP_QUERY_MAX, DnsServer
from hstore.dns.streams import TCP_CONNECTIONS_MAX, TCP_IDLE_S

from .kit import opt, query, view
from .test_server import bound, framed, read_framed, serving, udp_client
from .test_server_beyond import MemorySocket

SERVFAIL = 2
NOBODY = view(leader=None)
CLIENT = ("127.0.0.1", 5353)


class Held:
    """A server without a leader and without sockets, and what UDP clients send and get."""

    def __init__(self, server, udp):
        self.server = server
        self.udp = udp

    def ask(self, *packets, client=CLIENT):
        self.udp.came += [(packet, client) for packet in packets]
        while self.udp.came:
            self.server._drain_singly()

    def got(self):
        """Ids and response codes of the replies since the last call."""
        replies = [(reply[1], reply[3] & 15) for reply, _client in self.udp.sent]
        self.udp.sent.clear()
        return replies


@asynccontextmanager
async def holding(seen=NOBODY, is_current=lambda: True):
    udp, tcp = bound()
    udp.close()
    tcp.close()
    server = DnsServer(udp, tcp, is_current=is_current)
    server.view = seen
    memory = MemorySocket()
    server._udp = memory  # type: ignore[assignment]  # a stand-in
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server._dispatch.held.run)
        await trio.testing.wait_all_tasks_blocked()
        yield Held(server, memory)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(server):
    theirs, ours = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, ours)
        yield theirs
        await theirs.aclose()


# When


@pytest.mark.parametrize("rtype", ["A", "AAAA", "SRV", "TXT", "ANY", "TYPE65280"])
@pytest.mark.parametrize("name", ["leader", "_hstore-leader._tcp", "n2._hstore-leader._tcp"])
async def test_a_question_is_answered_in_the_moment_a_leader_is_known(autojump_clock, name, rtype):
    async with holding() as held:
        held.ask(query(f"{name}.hstore.local", rtype, ident=7))
        await trio.sleep(HOLD_S - 0.1)
        assert held.got() == []
        held.server.view = view(leader="n2", serial=43)
        now = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert (held.got(), trio.current_time()) == ([(7, 0)], now)
        assert held.server.held == 0


async def test_a_question_that_was_held_gets_the_reply_that_it_would_get_now(autojump_clock):
    packet = query("LeAder.hstore.LOCAL", "SRV", additional=opt(), flags=0x0110)
    async with holding() as held:
        held.ask(packet)
        held.server.view = view(leader="n2", serial=43)
        await trio.testing.wait_all_tasks_blocked()
        held.ask(packet)
        (late, _), (direct, _) = held.udp.sent
    assert late == direct
    assert late[6:8] == b"\0\1"


async def test_without_a_leader_it_is_servfail_after_two_seconds_and_not_before(autojump_clock):
    async with holding() as held:
        held.ask(query(ident=1))
        await trio.sleep(0.5)
        held.ask(query("_hstore-leader._tcp.hstore.local", "SRV", ident=2, additional=opt()))
        await trio.sleep(HOLD_S - 0.51)
        assert held.got() == []
        await trio.sleep(0.02)
        assert held.got() == [(1, SERVFAIL)]
        await trio.sleep(0.5)
        (reply, _client), *none = held.udp.sent
        assert (reply[1], reply[2] & 4, reply[3] & 15, none) == (2, 4, SERVFAIL, [])
        assert reply.endswith(opt())


async def test_a_leader_that_is_known_when_a_late_question_is_noticed_answers_it(autojump_clock):
    async with holding() as held:
        held.ask(query(ident=1))
        # A turn of the loop that takes so long.
        autojump_clock.jump(HOLD_S + 0.1)
        held.server.view = view(leader="n2", serial=43)
        await trio.testing.wait_all_tasks_blocked()
        assert held.got() == [(1, 0)]


async def test_a_view_without_a_leader_answers_nothing_and_takes_no_time_away(autojump_clock):
    async with holding() as held:
        held.ask(query(ident=1))
        for serial in range(43, 60):
            await trio.sleep(0.1)
            held.server.view = view(leader=None, serial=serial)
        await trio.sleep(HOLD_S - 1.7 - 0.01)
        assert held.got() == []
        await trio.sleep(0.02)
        assert held.got() == [(1, SERVFAIL)]


async def test_other_names_are_answered_at_once_and_odd_questions_are_refused_at_once(
    autojump_clock,
):
    async with holding() as held:
        for packet, rcode in (
            (query("nodes.hstore.local"), 0),
            (query("x.leader.hstore.local"), 3),
            (query("leader.example.com"), 5),
            (query("leader.hstore.local", "AXFR"), 5),
            (query("leader.hstore.local", rclass=3), 5),
            (query("leader.hstore.local", flags=0x2900), 4),
            (query("leader.hstore.local") + b"x", 1),
            (query("leader.hstore.local", additional=opt(version=1)), 0),
        ):
            held.ask(packet)
            assert held.got() == [(0x34, rcode)]


async def test_before_a_view_what_may_be_the_leaders_name_is_held(autojump_clock):
    async with holding(None) as held:
        names = ("leader.hstore.local", "leader.example.com", "n1._hstore-leader._tcp.x.example")
        for number, name in enumerate(names):
            held.ask(query(name, ident=number))
        held.ask(query("nodes.hstore.local", ident=9))
        assert held.got() == [(9, SERVFAIL)]
        await trio.sleep(1)
        held.server.view = NOBODY
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(held.got()) == [(1, 5), (2, 5)]
        await trio.sleep(HOLD_S - 1 + 0.01)
        assert held.got() == [(0, SERVFAIL)]


# While the leader in the view may not be named


class Contact:
    """Whether the node is in contact, as it tells the server."""

    def __init__(self):
        self.is_there = True
        self.asked = 0

    def __call__(self):
        self.asked += 1
        return self.is_there


async def test_an_old_view_names_no_leader_until_contact_is_regained(autojump_clock):
    contact = Contact()
    async with holding(view(), contact) as held, connected(held.server) as stream:
        held.ask(query(ident=1))
        held.ask(query(ident=1))
        await stream.send_all(framed(query(ident=1)))
        await read_framed(stream)
        assert held.got() == [(1, 0), (1, 0)]
        contact.is_there = False
        held.ask(query(ident=2), query("nodes.hstore.local", ident=3))
        await stream.send_all(framed(query(ident=4)))
        await trio.testing.wait_all_tasks_blocked()
        (reply, _client) = held.udp.sent[0]
        assert dnslib.DNSRecord.parse(reply).rr[0].ttl == 0
        assert (held.got(), held.server.held) == ([(3, 0)], 2)
        held.server.renew()
        await trio.testing.wait_all_tasks_blocked()
        assert held.got() == []
        contact.is_there = True
        held.server.renew()
        (reply,) = await read_framed(stream)
        assert (reply[1], reply[3] & 15) == (4, 0)
        assert held.got() == [(2, 0)]


async def test_a_query_finds_that_contact_is_regained_before_anybody_says_so(autojump_clock):
    contact = Contact()
    async with holding(view(), contact) as held:
        contact.is_there = False
        held.ask(query(ident=1))
        assert held.got() == []
        contact.is_there = True
        held.ask(query(ident=2))
        assert held.got() == [(2, 0)]
        await trio.testing.wait_all_tasks_blocked()
        assert held.got() == [(1, 0)]


async def test_what_is_released_is_not_answered_once_contact_is_lost(autojump_clock):
    contact = Contact()
    async with holding(NOBODY, contact) as held:
        held.ask(query(ident=1))
        held.server.view = view()
        contact.is_there = False
        await trio.testing.wait_all_tasks_blocked()
        assert (held.got(), held.server.held) == ([], 1)
        assert held.server.view == view()


@pytest.mark.skipif(sys.platform != "linux", reason="batches are Linux's")
async def test_the_cache_of_whole_replies_does_not_get_past_it():
    contact = Contact()
    server = DnsServer(*bound(), is_current=contact)
    server.view = view()
    with server._udp, server._tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(server._udp.getsockname())
        client.settimeout(5)
        datagrams = Datagrams(server._udp, 64, UDP_QUERY_MAX)
        for ident in range(64):
            client.send(query(ident=ident))
        server._drain(datagrams)
        before = contact.asked
        for ident in range(64):
            client.send(query(ident=ident))
        server._drain(datagrams)
        assert contact.asked == before + 1  # once a batch
        assert [client.recv(2000)[3] & 15 for _ in range(128)] == [0] * 128
        assert server._answers.known
        contact.is_there = False
        client.send(query())
        server._drain(datagrams)
        assert server.held == 1
        server.stop_holding()


async def test_an_equal_view_keeps_what_is_compiled():
    server = DnsServer(*bound())
    with server._udp, server._tcp:
        server.view = view()
        server._answers.reply(query())
        compiled = server._answers._compiled
        server.view = view()
        server.renew()
        assert server._answers._compiled is compiled


# How many


async def test_the_same_question_from_one_port_is_held_once_and_answered_once(autojump_clock):
    async with holding() as held:
        for _ in range(3):
            held.ask(query(ident=1), query(ident=1, additional=opt()))
        assert held.server.held == 1
        # Another id, type, port and address are other questions: each needs a reply of its own.
        held.ask(query(ident=2), query("leader.hstore.local", "AAAA", ident=1))
        held.ask(query(ident=1), client=("127.0.0.1", 5354))
        held.ask(query(ident=1), client=("127.0.0.2", 5353))
        assert held.server.held == 5
        held.server.view = view()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(held.got()) == [(1, 0)] * 4 + [(2, 0)]


async def test_repeats_do_not_lengthen_the_wait(autojump_clock):
    async with holding() as held:
        for _ in range(4):
            held.ask(query(ident=1))
            await trio.sleep(HOLD_S / 4)
        await trio.sleep(0.01)
        assert held.got() == [(1, SERVFAIL)]


async def test_of_one_address_so_many_are_held_and_then_udp_gets_nothing(autojump_clock):
    async with holding() as held:
        for port in range(HELD_OF_ONE_MAX + 10):
            held.ask(query(), client=("10.0.0.9", port))
        assert (held.server.held, held.server.stats.unheld) == (HELD_OF_ONE_MAX, 10)
        held.ask(query(), client=("10.0.0.8", 1))
        assert held.server.held == HELD_OF_ONE_MAX + 1
        await trio.sleep(HOLD_S + 0.1)
        assert len(held.got()) == HELD_OF_ONE_MAX + 1
        held.ask(query(), client=("10.0.0.9", 1))
        assert held.server.held == 1


async def test_in_all_so_many_are_held_and_then_tcp_gets_servfail(autojump_clock):
    async with holding() as held:
        for number in range(HELD_MAX + 5):
            held.ask(query(), client=(f"127.0.{number % 4}.9", number))
        assert (held.server.held, held.server.stats.unheld) == (HELD_MAX, 5)
        async with connected(held.server) as stream:
            await stream.send_all(framed(query(ident=3)))
            (reply,) = await read_framed(stream)
            assert (reply[1], reply[3] & 15) == (3, SERVFAIL)
        assert held.got() == []


async def test_the_rate_is_paid_on_arrival(autojump_clock):
    far = ("192.0.2.1", 53)
    async with holding() as held:
        held.ask(*(query("nodes.hstore.local") for _ in range(BURST - 1)), client=far)
        held.udp.sent.clear()
        held.ask(*(query(ident=number) for number in range(4)), client=far)
        # The first is held; of those beyond the rate every second one gets TC.
        assert (held.server.held, held.server.stats.limited) == (1, 3)
        assert [(reply[1], reply[2] & 2) for reply, _ in held.udp.sent] == [(2, 2)]
        held.udp.sent.clear()
        held.server.view = view()
        await trio.testing.wait_all_tasks_blocked()
        assert held.got() == [(0, 0)]


async def test_so_many_are_answered_in_a_turn_that_others_hardly_wait():
    async with holding() as held:
        for number in range(HELD_MAX):
            held.ask(query(ident=number % 256), client=(f"127.0.0.{1 + number % 2}", number))
        held.server.view = view()
        turns = []
        while held.server.held:
            turns.append(len(held.udp.sent))
            await trio.lowlevel.checkpoint()
        steps = [after - before for before, after in itertools.pairwise(turns)]
        # In a turn this task may run before or after the one that answers.
        assert max(steps) <= 2 * RELEASED_PER_TURN
        assert len(turns) >= HELD_MAX // RELEASED_PER_TURN
        assert len(held.got()) == HELD_MAX


# The end


async def test_at_a_stop_the_held_get_servfail_and_nothing_is_held_any_more(autojump_clock):
    async with holding() as held, connected(held.server) as stream:
        held.ask(query(ident=1))
        await stream.send_all(framed(query(ident=2)))
        await trio.testing.wait_all_tasks_blocked()
        now = trio.current_time()
        held.server.stop_holding()
        assert held.got() == [(1, SERVFAIL)]
        (reply,) = await read_framed(stream)
        assert (reply[1], reply[3] & 15) == (2, SERVFAIL)
        held.ask(query(ident=3))
        assert held.got() == [(3, SERVFAIL)]
        assert trio.current_time() == now


async def test_a_server_that_is_cancelled_answers_what_it_holds():
    async with trio.open_nursery() as nursery:
        server = DnsServer(*bound())
        server.view = NOBODY
        address = await nursery.start(server.run)
        async with udp_client(address) as client:
            await client.send(query(ident=9))
            while not server.held:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True), trio.fail_after(5):
                reply = await client.recv(2000)
    assert (reply[1], reply[3] & 15) == (9, SERVFAIL)


# Sockets


@pytest.mark.parametrize(
    ("listen", "asked_at"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("0.0.0.0", "127.0.0.7"), ("::", "::1")],
)
async def test_the_reply_comes_from_the_address_that_was_asked(listen, asked_at):
    async with serving(listen, NOBODY) as (server, (_host, port)):
        # A connected socket drops what comes from elsewhere.
        async with udp_client((asked_at, port)) as client:
            await client.send(query(ident=1))
            while not server.held:
                await trio.lowlevel.checkpoint()
            server.view = view()
            assert (await client.recv(2000))[1] == 1
        assert server.stats.replies == 1


# TCP


async def test_a_held_question_holds_up_no_other_on_its_connection(autojump_clock):
    async with holding() as held, connected(held.server) as stream:
        await stream.send_all(framed(query(ident=1), query("nodes.hstore.local", ident=2)))
        (first,) = await read_framed(stream)
        await stream.send_all(framed(query("nodes.hstore.local", ident=3)))
        (second,) = await read_framed(stream)
        assert (first[1], second[1], held.server.held) == (2, 3, 1)
        held.server.view = view()
        (late,) = await read_framed(stream)
        assert (late[1], late[3] & 15) == (1, 0)


async def test_a_connection_with_a_held_question_is_not_idle(autojump_clock):
    async with holding() as held, connected(held.server) as stream:
        await trio.sleep(TCP_IDLE_S - 1)
        await stream.send_all(framed(query(ident=1)))
        (reply,) = await read_framed(stream)
        assert reply[3] & 15 == SERVFAIL
        start = trio.current_time()
        # The idle time begins with the reply.
        assert await stream.receive_some() == b""
        assert trio.current_time() - start == pytest.approx(TCP_IDLE_S)


async def test_connections_that_wait_are_the_last_to_make_room(autojump_clock):
    async with holding() as held, trio.open_nursery() as nursery:
        clients = []
        for number in range(TCP_CONNECTIONS_MAX):
            theirs, ours = trio.testing.memory_stream_pair()
            nursery.start_soon(held.server.serve_stream, ours)
            name = "nodes.hstore.local" if number == 5 else "leader.hstore.local"
            await theirs.send_all(framed(query(name)))
            await trio.testing.wait_all_tasks_blocked()
            clients.append(theirs)
        assert held.server.held == TCP_CONNECTIONS_MAX - 1
        await read_framed(clients[5])
        async with connected(held.server) as newest:
            assert await clients[5].receive_some() == b""
            await newest.send_all(framed(query()))
            await trio.testing.wait_all_tasks_blocked()
            assert held.server.held == TCP_CONNECTIONS_MAX
            async with connected(held.server):
                assert await clients[0].receive_some() == b""
                assert held.server.held == TCP_CONNECTIONS_MAX - 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("closes", ["aclose", "send_eof"])
async def test_a_connection_that_closes_drops_its_held_questions(autojump_clock, closes):
    async with holding() as held, connected(held.server) as stream:
        await stream.send_all(framed(*(query(ident=number) for number in range(50))))
        held.ask(query(ident=99))
        await trio.testing.wait_all_tasks_blocked()
        assert held.server.held == 51
        await getattr(stream, closes)()
        await trio.testing.wait_all_tasks_blocked()
        assert held.server.held == 1
        held.server.view = view()
        await trio.testing.wait_all_tasks_blocked()
        assert held.got() == [(99, 0)]


async def test_repeats_over_one_connection_are_held_once(autojump_clock):
    async with holding() as held, connected(held.server) as stream:
        await stream.send_all(framed(query(ident=1), query(ident=1), query(ident=2)))
        await trio.testing.wait_all_tasks_blocked()
        assert held.server.held == 2
        held.server.view = view()
        assert sorted(reply[1] for reply in await read_framed(stream, 2)) == [1, 2]


async def test_a_client_that_does_not_take_its_late_reply_loses_its_connection(autojump_clock):
    async with holding() as held, trio.open_nursery() as nursery:
        theirs, ours = trio.testing.lockstep_stream_pair()
        nursery.start_soon(held.server.serve_stream, ours)
        await theirs.send_all(framed(query(ident=1)))
        await trio.sleep(HOLD_S + 5.1)
        assert len(held.server._connections) == 0
