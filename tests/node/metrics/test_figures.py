"""The totals of a node, read from what its rooms have counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hstore.node.measure.answered import Answered, Served, Tally, unknown
from hstore.node.metrics import figures

from ..memory_cluster import running


async def test_the_totals_of_a_node(autojump_clock):
    async with running(1) as cluster:
        node = cluster[1].node
        before = node.figures.totals()
        await cluster.write(1, "k", "v")
        after = node.figures.totals()
    assert sum(after.fsync_seconds.since(before.fsync_seconds).counts) > 0
    assert after.memory_bytes > 1 << 20
    assert after.disk_free_bytes > 0
    assert (after.requests, after.dns_queries) == (0, 0)


async def test_the_totals_of_its_servers(autojump_clock):
    async with running(1) as cluster:
        of_node = cluster[1].node.figures
        put = Tally("/v1/kv/{key}", "PUT", is_write=True)
        put.answered(b"HTTP/1.1 200 OK\r\n", 1.0, 1.5)
        of_node.http = Answered([unknown(), put])
        totals = of_node.totals()
    assert (totals.requests, totals.writes) == (1, 1)
    assert totals.write_seconds == totals.request_seconds
    assert sum(totals.write_seconds.counts) == 1


async def test_descriptors_by_use(autojump_clock, monkeypatch):
    monkeypatch.setattr(figures, "open_files", lambda: 100)
    async with running(3) as cluster:
        node = cluster[1].node
        await cluster.until(lambda: node.figures.descriptors()["peers"] == 4)  # two each way
        node.figures.http = Answered([unknown()])
        node.figures.http.served = lambda: Served(connections=9, waiting=2, streams=3)
        dns: Any = SimpleNamespace(connections=2, in_flight=1, stats=None)
        node.figures.dns = dns
        others, scripts = node.checks._runs._rooms
        others.under_way, scripts.under_way = 5, 2
        assert node.figures.descriptors() == {
            "clients": 6,
            "streams": 3,
            "dns": 2,
            "recursors": 1,
            "peers": 4,
            "checks": 9,
            "rest": 75,
        }
        monkeypatch.setattr(figures, "open_files", lambda: 0)
        assert "rest" not in node.figures.descriptors()


def test_the_open_files_of_this_process(tmp_path):
    before = figures.open_files()
    with (tmp_path / "one").open("w"):
        assert figures.open_files() == (before + 1 if before else 0)
