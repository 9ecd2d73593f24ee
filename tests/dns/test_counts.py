"""Each reply is counted once, under few labels, however it travels."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from hstore.dns.counts import Counts, Labels
from hstore.dns.message import HEADER_SIZE
from hstore.dns.records import RRType
from hstore.dns.server import DnsServer

from .kit import query, view
from .test_server import bound


class Times:
    def __init__(self) -> None:
        self.count = 0

    def observe_all(self, value: float, count: int) -> None:
        assert value >= 0
        self.count += count


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("leader.hstore.local", "cluster", "noerror"),
        ("none.hstore.local", "cluster", "nxdomain"),
        ("web.service.hstore.local", "service", "nxdomain"),
        ("n9.node.hstore.local", "node", "nxdomain"),
        ("7f000001.addr.hstore.local", "addr", "noerror"),
        ("example.com", "outside", "refused"),
    ],
)
async def test_queries_by_udp_are_counted_also_when_their_reply_is_kept(name, kind, rcode):
    server = DnsServer(*bound())
    server.counts.times = times = Times()
    server.view = view()
    async with trio.open_nursery() as nursery:
        where = await nursery.start(server.run)
        asker = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        with asker:
            for _ in range(4):
                await asker.sendto(query(name, RRType.A), where)
                await asker.recv(4096)
        nursery.cancel_scope.cancel()
    assert server.counts.by_labels() == {Labels(kind, "A", rcode, "udp"): 4}
    assert times.count == 4


async def test_queries_by_tcp_and_types_that_are_rare():
    server = DnsServer(*bound())
    server.view = view()
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        nursery.start_soon(server.serve_stream, far)
        for rtype in (RRType.A, 64, 65):
            packet = query("leader.hstore.local", rtype)
            await near.send_all(len(packet).to_bytes(2, "big") + packet)
            await near.receive_some(4096)
        await near.aclose()
        nursery.cancel_scope.cancel()
    assert server.counts.by_labels() == {
        Labels("cluster", "A", "noerror", "tcp"): 1,
        Labels("cluster", "other", "noerror", "tcp"): 2,
    }


def test_what_is_no_question_has_labels_too():
    counts = Counts()
    reply = b"\0\0\x82\1" + bytes(8)
    counts.replied(bytes(12), reply)
    counts.replied(bytes(12) + b"\3abc", reply)
    assert counts.by_labels() == {Labels("other", "other", "formerr", "udp"): 2}
    assert counts.truncated == 2
    assert len(reply) == HEADER_SIZE
