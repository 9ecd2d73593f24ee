"""Recursors: what is asked of them, what is believed, and what the client gets of it."""

from __future__ import annotations

import struct

import dnslib
import pytest
import trio
import trio.testing

from hstore.dns import recursor as recursor_module
from hstore.dns.message import MalformedError, Query, parse_query
from hstore.dns.recursor import (
    ATTEMPT_S,
    IN_FLIGHT_MAX,
    STRAY_MAX,
    TOTAL_S,
    ForgedError,
    Recursor,
    by_tcp,
    by_udp,
    may_recurse,
)

from .kit import opt, query

A, B, C = ("192.0.2.1", 53), ("192.0.2.2", 53), ("192.0.2.3", 53)
PATIENCE_S = 5  # real seconds after which a test on real sockets is red


def asked(name="WwW.example.COM", rtype="A", **how) -> Query:
    parsed = parse_query(query(name, rtype, **how))
    assert parsed is not None
    assert parsed.error is None
    return parsed


def answer(question: bytes, *, rcode=0, flags=0x80, records=1, size=0, tail=b"", extended=0):
    """What a resolver says to `question`: addresses (or texts of `size`), and its own OPT."""
    end = question.index(0, 12) + 5
    rdata = bytes([192, 0, 2, 9])
    rtype = 1
    if size:
        rtype, rdata = 16, (bytes([255]) + b"x" * 255) * (size // 256)
    record = b"\xc0\x0c" + struct.pack("!HHIH", rtype, 1, 300, len(rdata)) + rdata
    its_opt = struct.pack("!BHHBBHH", 0, 41, 4096, extended, 0, 0x8000, 6) + b"\0\x0a\0\x02ab"
    header = question[:2] + bytes([0x81 | flags & 0x7F, 0xA0 | rcode])
    counts = struct.pack("!4H", 1, records, 0, 1 + bool(tail))
    return header + counts + question[12:end] + record * records + its_opt + tail


class Fake:
    """Recursors in memory: by address a function from question to packet, or an error; or silence."""

    def __init__(self, **servers):
        self.asked: list[tuple[str, str, bytes]] = []
        self.servers = servers

    def recursor(self, *servers, **more) -> Recursor:
        return Recursor(servers or (A,), udp=self.udp, tcp=self.tcp, **more)

    async def udp(self, server, question):
        return await self._say("udp", server, question)

    async def tcp(self, server, question):
        return await self._say("tcp", server, question)

    async def _say(self, how, server, question):
        self.asked.append((how, server[0], question))
        await trio.lowlevel.checkpoint()
        said = self.servers.get(f"{how}{server[0][-1]}")
        if said is None:
            await trio.sleep_forever()
        if isinstance(said, Exception):
            raise said
        return said(question)

    def whom(self):
        return [(how, int(host[-1])) for how, host, _question in self.asked]


# What the client gets


async def test_the_client_gets_its_own_id_and_question_and_the_records():
    fake = Fake(udp1=answer)
    client = asked(ident=0xBEEF)
    reply = await fake.recursor().resolve(client, 512)
    assert reply[:2] == b"\xbe\xef"
    assert reply[12 : 12 + len(client.question)] == client.question
    parsed = dnslib.DNSRecord.parse(reply)
    assert [(str(rr.rname).lower(), str(rr.rdata)) for rr in parsed.rr] == [
        ("www.example.com.", "192.0.2.9")
    ]


@pytest.mark.parametrize(
    ("sent", "expected"), [(0x0100, 0x8180), (0x0110, 0x8190), (0x0120, 0x8180), (0x01C0, 0x8180)]
)
async def test_ra_is_set_and_aa_and_ad_are_not_whatever_the_recursor_says(sent, expected):
    fake = Fake(udp1=lambda question: answer(question, flags=0x04))
    reply = await fake.recursor().resolve(asked(flags=sent), 512)
    assert int.from_bytes(reply[2:4], "big") == expected


async def test_the_opt_of_the_recursor_stays_there_and_a_client_with_one_gets_ours():
    fake = Fake(udp1=answer)
    plain = await fake.recursor().resolve(asked(), 512)
    assert plain[10:12] == b"\0\0"
    assert b"\x0a\0\x02ab" not in plain
    with_opt = await fake.recursor().resolve(asked(additional=opt(4096, flags=0x8000)), 1232)
    assert with_opt == plain[:11] + b"\x01" + plain[12:] + b"\0\0\x29\x04\xd0\0\0\x80\0\0\0"


async def test_additional_records_behind_the_opt_are_left_out():
    extra = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + b"\1\2\3\4"
    fake = Fake(udp1=lambda question: answer(question, tail=extra))
    reply = await fake.recursor().resolve(asked(), 512)
    assert reply[6:12] == b"\0\1\0\0\0\0"
    assert not reply.endswith(b"\1\2\3\4")


async def test_nxdomain_is_an_answer():
    fake = Fake(udp1=lambda question: answer(question, rcode=3, records=0), udp2=answer)
    reply = await fake.recursor(A, B).resolve(asked(), 512)
    assert reply[3] & 15 == 3
    assert fake.whom() == [("udp", 1)]


@pytest.mark.parametrize(("limit", "cut"), [(512, True), (1232, False), (65535, False)])
async def test_what_the_client_cannot_take_has_tc_and_no_records(limit, cut):
    fake = Fake(udp1=lambda question: answer(question, size=768))
    client = asked(rtype="TXT", additional=opt())
    reply = await fake.recursor().resolve(client, limit)
    assert len(reply) <= limit
    assert bool(reply[2] & 2) == cut
    assert reply[6:8] == (b"\0\0" if cut else b"\0\1")
    assert reply[3] & 0x80
    assert reply[12 : 12 + len(client.question)] == client.question


# What is asked


async def test_the_question_is_asked_as_it_came_with_an_id_and_an_opt_of_ours():
    fake = Fake(udp1=answer)
    client = asked("wWw.ExAmPlE.cOm", ident=0x1234, flags=0x0110, additional=opt(512, flags=0x8000))
    await fake.recursor().resolve(client, 512)
    ((_how, _host, question),) = fake.asked
    assert question[2:12] == b"\x01\x10\0\1\0\0\0\0\0\1"
    assert question[12:] == client.question + b"\0\0\x29\x04\xd0\0\0\x80\0\0\0"


async def test_every_attempt_has_an_id_of_its_own():
    fake = Fake(udp1=answer)
    recursor = fake.recursor()
    for _ in range(64):
        await recursor.resolve(asked(ident=7), 512)
    assert len({question[:2] for _how, _host, question in fake.asked}) > 60


async def test_a_truncated_answer_is_asked_for_by_tcp_at_the_same_server():
    fake = Fake(
        udp1=lambda question: answer(question, flags=0x02, records=0),
        tcp1=lambda question: answer(question, size=4096),
        udp2=answer,
    )
    reply = await fake.recursor(A, B).resolve(asked(rtype="TXT"), 65535)
    assert len(reply) > 4096
    assert reply[2] & 2 == 0
    assert fake.whom() == [("udp", 1), ("tcp", 1)]


async def test_who_is_being_fooled_asks_by_tcp():
    fake = Fake(udp1=ForgedError(), tcp1=answer)
    assert (await fake.recursor().resolve(asked(), 512))[3] & 15 == 0


# Who is asked when one fails


@pytest.mark.parametrize(
    "failure",
    [
        OSError(111, "connection refused"),
        trio.BrokenResourceError(),
        MalformedError("not the reply"),
        lambda question: answer(question, rcode=1),
        lambda question: answer(question, rcode=2),
        lambda question: answer(question, rcode=4),
        lambda question: answer(question, rcode=5),
        lambda question: answer(question, extended=1),
        lambda question: answer(question)[:-20],
        lambda question: answer(question)[:6] + b"\xff\xff\xff\xff\xff\xff" + answer(question)[12:],
    ],
)
async def test_the_next_is_asked_when_one_fails_and_remembered(failure, autojump_clock):
    fake = Fake(udp1=failure, tcp1=failure, udp2=answer)
    recursor = fake.recursor(A, B)
    start = trio.current_time()
    for _ in range(2):
        assert (await recursor.resolve(asked(), 512))[3] & 15 == 0
    assert trio.current_time() == start
    assert fake.whom() == [("udp", 1), ("udp", 2), ("udp", 2)]


async def test_the_next_is_asked_when_one_is_silent(autojump_clock):
    fake = Fake(udp2=answer)
    start = trio.current_time()
    assert (await fake.recursor(A, B).resolve(asked(), 512))[3] & 15 == 0
    assert trio.current_time() - start == pytest.approx(ATTEMPT_S)


async def test_a_silent_one_is_asked_again_for_a_datagram_may_be_lost(autojump_clock):
    fake = Fake()
    recursor = fake.recursor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recursor.resolve, asked(), 512)
        await trio.sleep(ATTEMPT_S / 2)
        fake.servers["udp1"] = answer
    assert trio.current_time() < TOTAL_S
    assert fake.whom() == [("udp", 1), ("udp", 1)]
    assert fake.asked[0][2][:2] != fake.asked[1][2][:2]


@pytest.mark.parametrize("how_many", [1, 2, 3, 8])
async def test_when_all_are_silent_it_is_servfail_before_the_client_gives_up(
    how_many, autojump_clock
):
    servers = [(f"192.0.2.{number}", 53) for number in range(1, how_many + 1)]
    start = trio.current_time()
    reply = await Fake().recursor(*servers).resolve(asked(ident=7), 512)
    assert reply[:2] == b"\0\7"
    assert int.from_bytes(reply[2:4], "big") == 0x8182
    assert trio.current_time() - start == pytest.approx(TOTAL_S)


async def test_when_all_fail_it_is_servfail_at_once(autojump_clock):
    fake = Fake(udp1=OSError(), udp2=lambda question: answer(question, rcode=5))
    recursor = fake.recursor(A, B)
    start = trio.current_time()
    assert (await recursor.resolve(asked(), 512))[3] & 15 == 2
    assert trio.current_time() == start
    assert (recursor.stats.forwarded, recursor.stats.failed) == (1, 1)


# Bounds


async def test_the_same_question_is_in_flight_once_whoever_asks(autojump_clock):
    fake = Fake()
    recursor = fake.recursor()
    replies = {}

    async def client(ident):
        replies[ident] = await recursor.resolve(asked(ident=ident), 512)

    async with trio.open_nursery() as nursery:
        for ident in range(20):
            nursery.start_soon(client, ident)
        await trio.testing.wait_all_tasks_blocked()
        assert len(fake.asked) == 1
        fake.servers["udp1"] = answer
    assert {ident: int.from_bytes(reply[:2], "big") for ident, reply in replies.items()} == {
        ident: ident for ident in range(20)
    }
    assert all(reply[3] & 15 == 0 for reply in replies.values())
    assert len(fake.asked) == 2
    assert not recursor._flights


async def test_questions_that_differ_in_what_is_asked_for_are_asked_apart():
    fake = Fake(udp1=answer)
    recursor = fake.recursor()
    async with trio.open_nursery() as nursery:
        for client in (
            asked(),
            asked("www.example.com"),
            asked(rtype="AAAA"),
            asked(flags=0x0110),
            asked(additional=opt(flags=0x8000)),
        ):
            nursery.start_soon(recursor.resolve, client, 512)
    assert len(fake.asked) == 5


async def test_more_clients_than_may_wait_get_servfail_at_once(autojump_clock):
    fake = Fake()
    recursor = fake.recursor()
    async with trio.open_nursery() as nursery:
        for number in range(IN_FLIGHT_MAX):
            nursery.start_soon(recursor.resolve, asked(f"x{number}.example"), 512)
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        for name in ("one.more.example", "x1.example"):
            reply = await recursor.resolve(asked(name), 512)
            assert (reply[3] & 15, trio.current_time()) == (2, start)
        assert recursor.stats.overloaded == 2
        assert len(fake.asked) == IN_FLIGHT_MAX
    fake.servers["udp1"] = answer
    assert (await recursor.resolve(asked(), 512))[3] & 15 == 0


async def test_recursors_that_ask_each_other_come_to_an_end(autojump_clock):
    """A circle of two: the question that comes back waits for itself, and is not asked again."""
    count = 0
    ring: list[Recursor] = []

    def towards(number):
        async def exchange(_server, question):
            nonlocal count
            count += 1
            parsed = parse_query(question)
            assert parsed is not None
            return await ring[number].resolve(parsed, 1232)

        return exchange

    ring += [Recursor([A], udp=towards(1)), Recursor([B], udp=towards(0))]
    start = trio.current_time()
    assert (await ring[0].resolve(asked(), 512))[3] & 15 == 2
    assert trio.current_time() - start <= 2 * TOTAL_S
    assert count < 12


async def test_who_waits_with_a_client_that_went_away_asks_anew_once_for_all():
    fake = Fake()
    recursor = fake.recursor()
    replies = []

    async def first(scope):
        with scope:
            await recursor.resolve(asked(ident=1), 512)

    async def another(ident):
        replies.append(await recursor.resolve(asked(ident=ident), 512))

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(first, scope)
        await trio.testing.wait_all_tasks_blocked()
        for ident in (2, 3):
            nursery.start_soon(another, ident)
        await trio.testing.wait_all_tasks_blocked()
        fake.servers["udp1"] = answer
        scope.cancel()
    assert sorted((reply[1], reply[3] & 15) for reply in replies) == [(2, 0), (3, 0)]
    assert len(fake.asked) == recursor.stats.forwarded == 2
    assert not recursor._flights
    assert recursor._waiting == 0


async def test_who_takes_over_a_question_waits_no_longer_than_it_would_have(autojump_clock):
    recursor = Fake().recursor()
    begun = trio.current_time()

    async def first():
        with trio.move_on_after(TOTAL_S - 0.5):
            await recursor.resolve(asked(ident=1), 512)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        reply = await recursor.resolve(asked(ident=2), 512)
    assert reply[3] & 15 == 2
    assert trio.current_time() - begun == pytest.approx(TOTAL_S)


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("172.31.255.255", True),
        ("192.168.1.1", True),
        ("169.254.1.1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("::ffff:10.0.0.1", True),
        ("0.0.0.0", False),
        ("172.32.0.1", False),
        ("172.15.0.1", False),
        ("192.169.0.1", False),
        ("100.64.0.1", False),
        ("8.8.8.8", False),
        ("224.0.0.251", False),
        ("2001:db8::1", False),
        ("::ffff:8.8.8.8", False),
        ("::", False),
    ],
)
def test_only_clients_of_this_machine_and_of_private_networks_may_recurse(host, may):
    assert may_recurse(host) == may


# Real sockets: which packets are believed


def forgeries(question):
    """Packets that are nearly the reply."""
    good = answer(question)
    end = question.index(0, 12) + 5
    swapped = bytes(c ^ 0x20 if chr(c).isalpha() else c for c in question[12 : end - 4])
    return {
        "another id": bytes([good[0] ^ 1]) + good[1:],
        "a query": question,
        "another opcode": good[:2] + bytes([good[2] | 0x20]) + good[3:],
        "another name": good[:13] + b"X" + good[14:],
        "the name in another case": good[:12] + swapped + good[end - 4 :],
        "another type": good[: end - 3] + b"\x10" + good[end - 2 :],
        "another class": good[: end - 1] + b"\x03" + good[end:],
        "no question": good[:4] + b"\0\0" + good[6:],
        "two questions": good[:4] + b"\0\2" + good[6:],
        "no header": good[:11],
        "the header only": good[:12],
        "nothing": b"",
    }


QUESTION = b"\x12\x34\1\0\0\1\0\0\0\0\0\1" + query("WwW.example.com")[12:] + opt()


@pytest.mark.parametrize("what", forgeries(QUESTION))
async def test_a_packet_that_is_not_quite_the_reply_is_not_believed(what):
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:

                async def serve():
                    question, client = await server.recvfrom(2000)
                    await server.sendto(forgeries(question)[what], client)
                    await server.sendto(answer(question), client)

                nursery.start_soon(serve)
                packet = await by_udp(server.getsockname(), QUESTION)
    assert packet == answer(QUESTION)


async def test_only_the_server_that_was_asked_is_heard_and_each_time_at_another_port():
    ports = set()
    with (
        trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server,
        trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as other,
    ):
        await server.bind(("127.0.0.1", 0))

        async def serve():
            for number in range(32):
                question, client = await server.recvfrom(2000)
                ports.add(client[1])
                await other.sendto(answer(question, rcode=3), client)
                await server.sendto(answer(question, rcode=number % 2), client)

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                for number in range(32):
                    packet = await by_udp(server.getsockname(), QUESTION)
                    assert packet[3] & 15 == number % 2
    assert len(ports) > 16


async def test_a_flood_of_forged_replies_ends_the_attempt():
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))

        async def serve():
            question, client = await server.recvfrom(2000)
            for _ in range(STRAY_MAX):
                await server.sendto(forgeries(question)["another id"], client)

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                with pytest.raises(ForgedError):
                    await by_udp(server.getsockname(), QUESTION)


async def test_a_port_where_nobody_listens_fails_at_once():
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))
        address = server.getsockname()
    with trio.fail_after(PATIENCE_S):
        with pytest.raises(ConnectionRefusedError):
            await by_udp(address, QUESTION)
        with pytest.raises(OSError, match=r"."):
            await by_tcp(address, QUESTION)


@pytest.mark.parametrize(
    ("said", "good"),
    [
        (answer, True),
        (lambda question: forgeries(question)["another id"], False),
        (lambda question: forgeries(question)["another name"], False),
        (lambda _question: None, False),
    ],
)
async def test_by_tcp_the_reply_may_come_in_pieces_and_has_to_match_too(said, good):
    async def serve(stream):
        message = await stream.receive_some(2000)
        assert int.from_bytes(message[:2], "big") == len(message) - 2
        reply = said(message[2:])
        framed = b"\0" if reply is None else len(reply).to_bytes(2, "big") + reply
        for byte in framed:
            await stream.send_all(bytes([byte]))
        await stream.aclose()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            address = listener.socket.getsockname()
            if good:
                assert await by_tcp(address, QUESTION) == answer(QUESTION)
            else:
                with pytest.raises(MalformedError):
                    await by_tcp(address, QUESTION)
            nursery.cancel_scope.cancel()


def test_the_time_for_all_attempts_is_less_than_a_stub_resolver_waits():
    assert recursor_module.ATTEMPT_S < recursor_module.TOTAL_S < 5
