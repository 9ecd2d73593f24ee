"""Requests at any node of a cluster: each is answered, once, and by the truth."""

from __future__ import annotations

import pytest

from tests.node.cluster import running


async def test_a_write_on_any_node_is_readable_on_every_other(autojump_clock) -> None:
    async with running(3) as cluster:
        for writer in cluster.members:
            await cluster.write(writer, f"by-{writer}", "value")
            for reader in cluster.members:
                assert await cluster.read(reader, f"by-{writer}") == "value"
