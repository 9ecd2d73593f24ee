"""The totals of a node, read from what its rooms have counted."""

from __future__ import annotations

from hstore.node.measure.answered import Answered, Tally, unknown

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
        figures = cluster[1].node.figures
        put = Tally("/v1/kv/{key}", "PUT", is_write=True)
        put.answered(b"HTTP/1.1 200 OK\r\n", 1.0, 1.5)
        figures.http = Answered([unknown(), put])
        totals = figures.totals()
    assert (totals.requests, totals.writes) == (1, 1)
    assert totals.write_seconds == totals.request_seconds
    assert sum(totals.write_seconds.counts) == 1
