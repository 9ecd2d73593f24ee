"""A connection on which nothing is acknowledged any more is made anew beside the old one."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
import trio

from hstore.node.errors import HstoreError, OutcomeUnknown
from hstore.node.peers import wire
from hstore.node.peers.link import SILENT_HEARTBEATS, Link
from hstore.node.raft.messages import ReadIndexResponse
from tests.node.memory_cluster import Cluster, running

TICK_S = 0.1


def link_of(cluster: Cluster, frm: int, to: int) -> Link:
    return cluster[frm].node.links._links[to][0]


async def test_a_silent_link_is_made_anew_and_nobody_misses_the_leader(autojump_clock) -> None:
    async with running(3) as cluster:
        leader, term = cluster.leader, cluster.leader.core.term
        follower = cluster.followers[0]
        made = cluster.network.connections[leader.id, follower.id]

        cluster.network.stall(leader.id, follower.id)
        link = link_of(cluster, leader.id, follower.id)
        took = await cluster.until(lambda: link.renewed)

        assert took < (SILENT_HEARTBEATS + 3) * TICK_S
        await cluster.write(follower.id, "key", "value", within_s=1)
        assert cluster.network.connections[leader.id, follower.id] == made + 1
        assert (cluster.leader, leader.core.term) == (leader, term)
        assert link.is_connected
        assert link.incarnation


async def test_both_directions_are_made_anew_each_by_its_own_end(autojump_clock) -> None:
    async with running(3) as cluster:
        leader = cluster.leader
        for other in cluster.followers:
            cluster.network.stall(leader.id, other.id)
            cluster.network.stall(other.id, leader.id)
        await trio.sleep(10 * TICK_S)

        assert cluster.leader is leader
        for other in cluster.followers:
            assert link_of(cluster, leader.id, other.id).renewed
            assert link_of(cluster, other.id, leader.id).renewed
        await cluster.write(cluster.followers[0].id, "key", "value")


async def test_a_request_is_passed_on_once_though_its_link_is_made_anew(autojump_clock) -> None:
    async with running(3) as cluster:
        leader, follower = cluster.leader, cluster.followers[0]
        sent: list[wire.Frame] = []
        cluster.network.taps.append(
            lambda frm, _to, frame: (
                sent.append(frame)
                if frm == follower.id and isinstance(frame, (wire.Forward, wire.Bundle))
                else None
            )
        )
        cluster.network.stall(follower.id, leader.id)
        with suppress(HstoreError):  # It may not be known whether it took effect.
            await cluster.write(follower.id, "key", "value", within_s=2)
        await cluster.until(lambda: link_of(cluster, follower.id, leader.id).renewed)

        assert len(sent) <= 1
        await cluster.write(follower.id, "key2", "value")


def _stall_at(cluster: Cluster, frm: int, to: int, kind: type) -> list[wire.Frame]:
    """Stall the connection on which `frm` sends the first frame of a kind to `to`, with it on the way."""
    seen: list[wire.Frame] = []

    def tap(from_id: int, to_id: int, frame: wire.Frame) -> None:
        if (from_id, to_id) == (frm, to) and isinstance(frame, kind):
            if not seen:
                cluster.network.stall(frm, to)
            seen.append(frame)

    cluster.network.taps.append(tap)
    return seen


async def test_a_reply_on_a_link_that_is_made_anew_is_sent_again(autojump_clock) -> None:
    async with running(3) as cluster:
        leader, follower = cluster.leader, cluster.followers[0]
        replies = _stall_at(cluster, leader.id, follower.id, wire.ForwardReply)
        began = trio.current_time()
        revision = await cluster.write(follower.id, "key", "value")

        assert trio.current_time() - began < 1.0
        assert replies[0] == replies[1]
        assert link_of(cluster, leader.id, follower.id).renewed == 1
        # Once.
        assert revision == leader.node.keys.applied_index


async def test_a_reply_on_a_link_that_breaks_is_sent_again(autojump_clock) -> None:
    async with running(3) as cluster:
        leader, follower = cluster.leader, cluster.followers[0]

        def tap(frm: int, to: int, frame: wire.Frame) -> None:
            if isinstance(frame, wire.ForwardReply):
                cluster.network.taps.clear()
                cluster.network.reset(leader.id, follower.id)

        cluster.network.taps.append(tap)
        began = trio.current_time()
        await cluster.write(follower.id, "key", "value")
        assert trio.current_time() - began < 1.0


async def test_requests_on_a_link_that_is_made_anew_are_answered_or_unknown(autojump_clock) -> None:
    """A write is never forwarded again; a read asks again, for it changes nothing."""
    async with running(3) as cluster:
        leader, follower = cluster.leader, cluster.followers[0]
        cluster.network.stall(follower.id, leader.id)
        with pytest.raises(OutcomeUnknown):
            await cluster.write(follower.id, "key", "value", within_s=2)
        cluster.network.stall(follower.id, leader.id)
        began = trio.current_time()
        assert await cluster.read(follower.id, "key") is None
        assert trio.current_time() - began < 2.0


async def test_an_answer_to_a_read_on_a_link_that_is_made_anew_is_asked_for_again(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        leader, follower = cluster.leader, cluster.followers[0]
        await cluster.write(follower.id, "key", "value")
        answers = _stall_at(cluster, leader.id, follower.id, ReadIndexResponse)
        began = trio.current_time()
        assert await cluster.read(follower.id, "key") == "value"
        assert trio.current_time() - began < 2.0
        assert len(answers) > 1


async def test_a_link_at_rest_and_a_slow_network_are_not_made_anew(autojump_clock) -> None:
    async with running(3) as cluster:
        for way in cluster.network.between(1, 2, 3):
            way.delay_s = 0.05
        await trio.sleep(5)
        for frm in (1, 2, 3):
            for to in {1, 2, 3} - {frm}:
                assert link_of(cluster, frm, to).renewed == 0


async def test_there_is_one_dial_beside_at_a_time_and_they_become_rarer(autojump_clock) -> None:
    async with running(3) as cluster:
        leader, follower = cluster.leader, cluster.followers[0]
        cluster.silence(follower.id)
        await trio.sleep(0.5)
        before = cluster.network.dials[leader.id, follower.id]
        await trio.sleep(3)
        assert cluster.network.dials[leader.id, follower.id] - before <= 8
        cluster.network.heal()
        await cluster.until(cluster.agrees)
        await cluster.write(follower.id, "key", "value")


class Stuck(trio.abc.Stream):
    """A connection that breaks with whatever is written."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None: ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        return b""

    async def aclose(self) -> None: ...


class Silent(trio.abc.Stream):
    """A connection whose other machine acknowledges nothing; it notes its end."""

    is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None: ...

    async def wait_send_all_might_not_block(self) -> None: ...

    def acknowledged(self) -> tuple[int, int]:
        return 0, 1

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        return b""

    async def aclose(self) -> None:
        self.is_closed = True
        await trio.lowlevel.checkpoint()


async def test_a_dial_beside_that_is_cancelled_closes_what_it_has_dialled(autojump_clock) -> None:
    dialled: list[Silent] = []

    async def dial(_address: str) -> trio.abc.Stream:
        dialled.append(Silent())
        return dialled[-1]

    async with running(2) as cluster:
        events = cluster[1].node
        link = Link(
            2, "", me=events.links.me, dial=dial, events=events, heartbeat_s=lambda: 1, rng=Random()
        )
        link._live, link._acknowledged_at = Silent(), trio.current_time() - SILENT_HEARTBEATS
        link._acknowledged = 0
        with trio.move_on_after(0.05) as stopped:  # While it looks once more.
            await link._dial_beside()
        assert stopped.cancelled_caught
        assert [one.is_closed for one in dialled] == [True]


async def test_a_connection_that_is_welcomed_as_its_link_ends_is_closed(autojump_clock) -> None:
    dialled: list[Silent] = []

    async def connect(*_args: object, **_named: object) -> trio.abc.Stream:
        dialled.append(Silent())
        ended.cancel()
        return dialled[-1]

    async with running(2) as cluster:
        events = cluster[1].node
        with trio.CancelScope() as ended, pytest.MonkeyPatch.context() as patch:
            link = Link(
                2,
                "",
                me=events.links.me,
                dial=cluster[1].node.links._dial,
                events=events,
                heartbeat_s=lambda: 1,
                rng=Random(),
            )
            patch.setattr("hstore.node.peers.link.connect", connect)
            await link._connect()
        assert ended.cancelled_caught
        assert [one.is_closed for one in dialled] == [True]


async def test_what_could_not_be_sent_is_counted_frame_by_frame(autojump_clock) -> None:
    async def dial(_address: str) -> trio.abc.Stream:
        raise OSError

    async with running(2) as cluster:
        events = cluster[1].node
        link = Link(
            2, "", me=events.links.me, dial=dial, events=events, heartbeat_s=lambda: 1, rng=Random()
        )
        link.is_connected = True
        for _ in range(5):
            assert link.send(b"frame")
        link._ready.set()
        await link._pump(Stuck())
        link._drop_all()
        assert link.dropped == 5


@pytest.mark.parametrize("sent", range(0, 31, 3))
def test_the_rest_of_a_write_is_counted_in_frames(sent: int) -> None:
    """Three frames of ten bytes; so much of them has left."""
    link = Link.__new__(Link)
    link._outbox, link._outbox_bytes, link._rest, link._rest_frames = [b"x" * 10] * 3, 30, b"", 1
    link.dropped = 0
    data, frames = link._take()
    link._keep(data[sent:], frames)
    link._drop_all()
    assert link.dropped == -(-(30 - sent) // 10)
    assert link._outbox == []
