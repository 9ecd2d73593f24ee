"""When a node says something of itself on its network, and what."""

from __future__ import annotations

from ipaddress import IPv4Address
from random import Random

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from hstore.node.config.settings import load_settings
from hstore.node.discovery import announce
from hstore.node.model.values import Address
from tests.node.memory_cluster import CLUSTER_ID, running


@pytest.mark.parametrize(
    ("flags", "is_wanted"),
    [
        ({}, False),
        ({"listen": "[::1]:8500"}, False),
        ({"listen": "10.0.0.1:8500"}, True),
        ({"listen": "10.0.0.1:8500", "discovery.mdns": False}, False),
        ({"listen": "0.0.0.0:8500", "advertise": "10.0.0.1"}, True),
        ({"listen": "0.0.0.0:8500", "advertise": "127.0.0.1"}, False),
    ],
)
def test_only_a_node_that_listens_beyond_loopback_is_seen(flags, is_wanted):
    assert announce.is_wanted(load_settings(flags, {"HOME": "/home/ada"})) == is_wanted


async def test_where_there_can_be_no_socket_the_node_goes_on_with_a_warning(monkeypatch):
    def refuse(_host):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(announce, "open_responder", refuse)
    async with running(1) as cluster, trio.open_nursery() as nursery:
        member = cluster[1]
        with capture_logs() as logs:
            await nursery.start(announce.run, member.node, member.settings, Random(1))
        assert [(log["log_level"], log["address"]) for log in logs] == [("warning", "10.0.0.1")]


async def test_a_node_says_where_it_listens_now_and_leads_only_with_a_majority(autojump_clock):
    async with running(3) as cluster:
        member = cluster[1]
        moved = msgspec.structs.replace(member.settings, listen=Address("10.1.0.1", 9500))
        said = announce.announced(member.node, moved)
        assert said is not None
        assert (said.cluster_id, said.node_id, said.name) == (CLUSTER_ID, f"{1:016x}", "n1")
        assert (said.ip, said.api_port, said.peer_port) == (IPv4Address("10.1.0.1"), 9500, 8300)
        assert said.leads
        cluster[2].crash()
        cluster[3].crash()
        await trio.sleep(5)
        alone = announce.announced(member.node, moved)
        assert alone is not None
        assert not alone.leads


async def test_a_node_that_is_not_a_member_yet_says_nothing(autojump_clock):
    async with running(1) as cluster:
        stranger = cluster.add()
        await stranger.start({1: cluster[1].settings.peer_address})
        assert announce.announced(stranger.node, stranger.settings) is None
