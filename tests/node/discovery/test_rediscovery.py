"""Members that have lost each other: who is asked, who is believed, and when all is as it was."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from hstore.dns.finder import Rank, Sighting
from hstore.node.discovery.rediscovery import Rediscovery
from hstore.node.model.cluster_info import PROTOCOL
from hstore.node.model.values import Address
from hstore.node.peers import wire
from tests.node.memory_cluster import running
from tests.node.memory_network import Listener


class Known:
    """A source that knows these peer addresses."""

    rank = Rank.NAMED

    def __init__(self, *addresses):
        self.addresses = list(addresses)
        self.looks = []

    async def look(self, _zone, findings):
        self.looks.append(trio.current_time())
        if self.addresses:
            findings.sightings.append(Sighting("known", "test", tuple(self.addresses), None))


def move(cluster, node):
    """Give the machine of a node that does not run another address."""
    member = cluster[node]
    del cluster.network.listeners[member.settings.peer_address]
    listen = Address(f"10.1.0.{node}", 8500)
    member.settings = msgspec.structs.replace(member.settings, listen=listen)
    cluster.network.listeners[member.settings.peer_address] = member.listener


def searching(cluster, nursery, node, source):
    one = Rediscovery(cluster[node].node, [source], Random(node))
    nursery.start_soon(one.run)
    return one


async def all_moved(cluster):
    for node in (1, 2, 3):
        cluster[node].crash()
        await cluster[node].ended.wait()
        move(cluster, node)
    for node in (1, 2, 3):
        await cluster[node].start()


def peer_addresses(cluster, node):
    members = cluster[node].node.replica.state.members.values()
    return {member.id: member.peer_address for member in members}


async def test_nodes_that_have_all_moved_find_each_other_and_the_log_says_so_then(autojump_clock):
    async with running(3) as cluster, trio.open_nursery() as nursery:
        await cluster.write(1, "k", "v")
        await all_moved(cluster)
        # Of two, one has to know the other: whoever is dialled learns by the hello who dials.
        searching(cluster, nursery, 2, Known(("10.1.0.1", 8300)))
        searching(cluster, nursery, 3, Known(("10.1.0.1", 8300), ("10.1.0.2", 8300)))
        await cluster.until(cluster.agrees, within_s=30)
        wanted = {node: f"10.1.0.{node}:8300" for node in (1, 2, 3)}
        await cluster.until(
            lambda: all(peer_addresses(cluster, node) == wanted for node in (1, 2, 3)), within_s=30
        )
        assert await cluster.read(3, "k") == "v"
        nursery.cancel_scope.cancel()


async def test_without_the_search_nodes_that_have_all_moved_stay_apart(autojump_clock):
    async with running(3) as cluster:
        await all_moved(cluster)
        await trio.sleep(120)
        assert not any(member.is_leader for member in cluster.up)


async def test_who_answers_at_an_address_is_believed_and_not_who_was_expected_there(autojump_clock):
    async with running(3) as cluster:
        await all_moved(cluster)
        peers = cluster[1].node.links
        assert await peers.identify("10.1.0.3:8300") == 3
        assert peers.address_of(3) == "10.1.0.3:8300"
        assert peers.address_of(2) == "10.0.0.2:8300"


@pytest.mark.parametrize("change", ["cluster", "protocol", "own id", "stranger"])
async def test_nobody_is_dialled_where_another_answers(autojump_clock, change):
    async with running(2) as cluster, trio.open_nursery() as nursery:
        cluster[2].crash()
        await cluster.until(lambda: 2 in cluster[1].node.links.missing())

        async def answer(stream):
            await stream.receive_some(4096)
            me = {"own id": 1, "stranger": 9}.get(change, 2)
            refusal = change if change in {"cluster", "protocol"} else ""
            await stream.send_all(wire.encode(wire.Welcome(PROTOCOL, me, "x", refusal)))

        listener = Listener(9)
        listener.serve = lambda stream: nursery.start_soon(answer, stream)
        cluster.network.listeners["10.9.9.9:8300"] = listener
        assert await cluster[1].node.links.identify("10.9.9.9:8300") is None
        assert cluster[1].node.links.address_of(2) == "10.0.0.2:8300"


async def test_a_member_that_there_is_a_connection_to_is_not_moved(autojump_clock):
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster.until(lambda: 3 in cluster[1].node.links.missing())
        cluster.network.listeners["10.7.7.7:8300"] = cluster[2].listener
        assert await cluster[1].node.links.identify("10.7.7.7:8300") is None
        assert cluster[1].node.links.address_of(2) == "10.0.0.2:8300"


async def test_nobody_is_asked_while_there_is_a_leader(autojump_clock):
    async with running(3) as cluster, trio.open_nursery() as nursery:
        source = Known()
        searching(cluster, nursery, 1, source)
        cluster[3].crash()
        await trio.sleep(60)
        assert source.looks == []
        nursery.cancel_scope.cancel()


async def test_a_minority_asks_soon_and_then_ever_more_rarely(autojump_clock):
    async with running(3) as cluster, trio.open_nursery() as nursery:
        source = Known()
        searching(cluster, nursery, 1, source)
        cluster[2].crash()
        cluster[3].crash()
        start = trio.current_time()
        await trio.sleep(120)
        assert source.looks[0] - start < 5
        gaps = [b - a for a, b in zip(source.looks, source.looks[1:], strict=False)]
        assert max(gaps) < 17
        assert min(gaps[-4:]) > 7
        nursery.cancel_scope.cancel()


async def test_an_address_that_led_nowhere_is_left_again_for_the_one_of_the_log(autojump_clock):
    async with running(2) as cluster, trio.open_nursery() as nursery:
        cluster[2].crash()
        await cluster.until(lambda: 2 in cluster[1].node.links.missing())
        # It was elsewhere for a moment, and is back where the log has it.
        cluster[1].node.links._move(2, "10.5.5.5:8300")
        searching(cluster, nursery, 1, Known())
        cluster[2].listener.serve = None
        await cluster[2].ended.wait()
        await cluster[2].start()
        cluster.network.ways[2, 1].is_refusing = True  # nor does it dial
        await cluster.until(lambda: cluster[1].node.links.is_connected(2), within_s=30)
        nursery.cancel_scope.cancel()


async def test_a_member_that_is_found_again_and_again_is_logged_once(autojump_clock, monkeypatch):
    """It answers, and then the link is not made: such as a process that is to end."""
    async with running(2) as cluster:
        cluster[2].crash()
        await cluster.until(lambda: 2 in cluster[1].node.links.missing())

        async def identify(_address):
            await trio.lowlevel.checkpoint()
            return 2

        monkeypatch.setattr(cluster[1].node.links, "identify", identify)
        search = Rediscovery(cluster[1].node, [], Random(1))
        with capture_logs() as logs:
            for _ in range(20):
                await search.search()
        assert len([log for log in logs if log["event"] == "found a member"]) == 1
