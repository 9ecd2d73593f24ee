"""UDP by the batch, on loopback sockets: what came is answered in order, and whom it came from."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import contextmanager

import pytest

from hstore.dns import datagrams as module
from hstore.dns.datagrams import Datagrams, can_batch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="recvmmsg and sendmmsg are Linux's")

SIZE = 512


def udp(family=socket.AF_INET):
    link = socket.socket(family, socket.SOCK_DGRAM)
    link.settimeout(5)
    link.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    return link


@contextmanager
def pair(family=socket.AF_INET, batch=8):
    """What is tested, and a client that asks it."""
    with udp(family) as server, udp(family) as client:
        client.connect(server.getsockname())
        yield Datagrams(server, batch, SIZE), client


class Kernel:
    """sendmmsg, but it takes as many as the script says; negative: the first has failed."""

    def __init__(self, datagrams, *script):
        self._send = datagrams._send
        self._script = list(script)
        datagrams._send = self

    def __call__(self, fd, at, count, flags):
        may = self._script.pop(0) if self._script else count
        return self._send(fd, at, min(may, count), flags) if may > 0 else -1


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_each_gets_the_reply_to_what_it_sent(family):
    with pair(family) as (datagrams, first), udp(family) as second:
        second.connect(first.getpeername())
        for number in range(3):
            for client in (first, second):
                client.send(b"%d from %d" % (number, client.getsockname()[1]))
        packets = datagrams.take()
        assert [datagrams.sender(n)[:2] for n in range(6)] == [
            client.getsockname()[:2] for _ in range(3) for client in (first, second)
        ]
        assert datagrams.answer([packet * 3 for packet in packets]) == 6
        for number in range(3):
            for client in (first, second):
                assert client.recv(SIZE) == b"%d from %d" % (number, client.getsockname()[1]) * 3


def test_a_sender_is_given_as_python_gives_it():
    for family in (socket.AF_INET, socket.AF_INET6):
        with pair(family) as (datagrams, client):
            client.send(b"x")
            assert datagrams.take() == [b"x"]
            assert datagrams.sender(0) == client.getsockname()


def test_a_link_local_sender_has_its_scope():
    address = struct.pack(
        "=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, "fe80::1"), 3
    )
    address = address[:2] + (5353).to_bytes(2, "big") + (7).to_bytes(4, "big") + address[8:]
    with pair() as (datagrams, _client):
        datagrams._addresses[28 : 2 * 28] = address
        assert datagrams.sender(1) == ("fe80::1", 5353, 7, 3)


def test_a_batch_has_no_more_than_it_may_and_the_rest_comes_next():
    with pair(batch=4) as (datagrams, client):
        for number in range(6):
            client.send(b"%d" % number)
        assert datagrams.take() == [b"0", b"1", b"2", b"3"]
        assert datagrams.take() == [b"4", b"5"]
        assert datagrams.take() == []


def test_what_has_no_reply_leaves_the_others_theirs():
    with pair() as (datagrams, client):
        for number in range(6):
            client.send(b"%d" % number)
        datagrams.take()
        assert datagrams.answer([None, b"b", None, None, b"e", None]) == 2
        assert [client.recv(SIZE) for _ in range(2)] == [b"b", b"e"]


def test_a_query_is_whole_whatever_was_sent_from_its_place_before():
    with pair() as (datagrams, client):
        for query, reply in ((b"x", b"r"), (b"y" * SIZE, b"s" * SIZE), (b"", b"t" * 9)):
            client.send(query)
            assert datagrams.take() == [query]
            assert datagrams.answer([reply]) == 1
            assert client.recv(2 * SIZE) == reply


def test_what_is_longer_than_a_datagram_may_be_is_cut_off():
    with pair() as (datagrams, client):
        client.send(b"a" * (SIZE + 1))
        client.send(b"b")
        assert datagrams.take() == [b"a" * SIZE, b"b"]


def test_a_reply_that_fails_costs_itself_only():
    with pair() as (datagrams, client):
        for _ in range(6):
            client.send(b"x")
        datagrams.take()
        Kernel(datagrams, 2, -1, 1, -1)
        assert datagrams.answer([b"%d" % number for number in range(6)]) == 4
        assert [client.recv(SIZE) for _ in range(4)] == [b"0", b"1", b"3", b"5"]


def test_an_error_that_was_reported_for_an_earlier_reply_is_nobodys_failure():
    with udp() as server, udp() as client, udp() as gone:
        address = gone.getsockname()
        client.connect(server.getsockname())
        client.send(b"x")
        gone.close()
        server.connect(address)
        server.send(b"nobody takes this")
        datagrams = Datagrams(server, 8, SIZE)
        assert [datagrams.take(), datagrams.take()] == [[], [b"x"]]


def test_without_the_calls_or_the_right_to_them_there_are_no_batches(monkeypatch):
    receive, send = module._calls()

    def no_calls():
        raise AttributeError("recvmmsg")

    with udp() as server:
        assert can_batch(server)
        for calls in (
            lambda: (lambda *_: -1, send),
            lambda: (receive, lambda *_: -1),
            no_calls,
        ):
            monkeypatch.setattr(module, "_calls", calls)
            assert not can_batch(server)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_client_with_a_loopback_address_is_known(family):
    with pair(family) as (datagrams, client):
        client.send(b"1")
        datagrams.take()
        assert datagrams.is_from_loopback(0)


@pytest.mark.parametrize(
    ("host", "is_near"),
    [
        ("127.0.0.1", True),
        ("127.200.3.4", True),
        ("128.0.0.1", False),
        ("10.0.0.127", False),
        ("::1", True),
        ("::", False),
        ("::7f00:1", False),
        ("::ffff:127.0.0.9", True),
        ("::ffff:10.0.0.1", False),
        ("7f00::1", False),
        ("fe80::1", False),
    ],
)
def test_a_client_at_any_other_address_is_not(host, is_near):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    raw = family.to_bytes(2, sys.byteorder) + struct.pack("!H", 53)
    if family == socket.AF_INET6:
        raw += bytes(4)
    with pair(family) as (datagrams, _client):
        raw += socket.inet_pton(family, host)
        datagrams._addresses[28 : 28 + len(raw)] = raw
        assert datagrams.is_from_loopback(1) == is_near
