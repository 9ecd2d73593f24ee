"""What once went wrong between the rooms of a node, each named after what it broke."""

from __future__ import annotations

import contextlib
import socket
from itertools import pairwise
from random import Random
from typing import cast

import msgspec
import pytest
import trio

from hstore.node.driver.requests import Request
from hstore.node.errors import (
    HstoreError,
    OutcomeUnknown,
    Overloaded,
    PeerError,
    Refused,
    Unavailable,
)
from hstore.node.model import commands
from hstore.node.model.cluster_info import PROTOCOL
from hstore.node.model.commands import ClusterSettings, Put, RemoveMember
from hstore.node.net.stream import TcpStream
from hstore.node.peers import wire
from hstore.node.peers.link import Link
from hstore.node.peers.snapshot_transfer import SnapshotStart
from hstore.node.peers.wire import ForwardKind, ForwardStatus
from hstore.node.process.announcing import keep_announced
from hstore.node.process.main import _dial
from hstore.node.raft.entry import SnapshotMeta
from hstore.node.raft.events import ProposeConfigChange
from hstore.node.raft.membership import ConfigChange, ConfigChangeKind
from hstore.node.raft.messages import AppendResponse, InstallSnapshot
from tests.node.memory_cluster import SETTINGS, Cluster, running


async def no_reply(_frame: wire.Frame) -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "xyz"),
        ("id", "-5"),
        ("id", "0"),
        ("id", "f" * 17),
        ("address", "nowhere"),
        ("address", ""),
        ("peer_address", "10.0.0.9"),
        ("peer_address", "host.example:8300"),
        ("dns_address", "10.0.0.9:dns"),
        ("dns_address", "10.0.0.9:99999"),
    ],
)
async def test_a_newcomer_with_a_nonsensical_id_or_address_does_not_end_every_node(
    field: str, value: str, autojump_clock
) -> None:
    async with running(2) as cluster:
        request = msgspec.structs.replace(cluster.add().request(), **{field: value})
        with pytest.raises(Refused):
            await cluster[2].node.administration.join(request, trio.current_time() + 5)
        await cluster.write(2, "key", "value")


@pytest.mark.parametrize("data", [b"", b"\xc1", b"garbage", msgspec.msgpack.encode(["?", 1])])
async def test_a_forwarded_command_that_nobody_understands_does_not_end_every_node(
    data: bytes, autojump_clock
) -> None:
    async with running(3) as cluster:
        request = cluster[2].node.replica.request(ForwardKind.WRITE, data, trio.current_time() + 5)
        with pytest.raises(Refused):
            await request
        await cluster.write(2, "key", "value")


async def test_a_forwarded_request_of_an_unknown_kind_removes_nobody(autojump_clock) -> None:
    async with running(3) as cluster:
        replica = cluster[2].node.replica
        with pytest.raises(HstoreError):
            await replica.request(cast("ForwardKind", 77), b"n3", trio.current_time() + 2)
        assert cluster[3].id in cluster[1].core.config.voters


async def test_a_reply_that_cannot_be_read_leaves_nobody_waiting_for_ever(autojump_clock) -> None:
    async with running(2) as cluster:

        def damage(_frm: int, _to: int, frame: wire.Frame) -> wire.Frame:
            if isinstance(frame, wire.ForwardReply):
                return wire.ForwardReply(frame.id, ForwardStatus.DONE, b"\xc1")
            return frame

        cluster.network.edit = damage
        with trio.fail_after(20), pytest.raises(OutcomeUnknown):
            await cluster.write(2, "key", "value")


async def test_a_leader_deposed_while_it_dials_sends_no_snapshot_in_anothers_term(
    autojump_clock,
) -> None:
    """The receiver would meet a second leader of that term, and stop for a broken invariant."""
    async with running(3) as cluster:
        seen: list[wire.Frame] = []
        cluster.network.taps.append(lambda _f, _t, frame: seen.append(frame))
        # As a leader would that is deposed while the connection is made.
        with pytest.raises(PeerError, match="does not lead"):
            await cluster[2].node.snapshot_sender._stream(3)
        assert not any(isinstance(frame, SnapshotStart) for frame in seen)
        await cluster.write(3, "key", "value")


async def test_a_follower_that_is_removed_by_others_while_it_runs_notices(autojump_clock) -> None:
    async with running(3) as cluster:
        await cluster[1].node.administration.remove("n3", trio.current_time() + 5)

        assert await cluster.until(cluster[3].ended.is_set) < 2.0
        assert cluster[3].node.process.was_removed


async def test_a_leader_that_stepped_down_is_not_asked_again_and_again(autojump_clock) -> None:
    """It says that it does not lead; until somebody does, the request has to wait."""
    async with running(3) as cluster:
        forwards = []

        def count(_frm: int, _to: int, frame: wire.Frame) -> None:
            if isinstance(frame, wire.Forward):
                forwards.append(frame)

        cluster.network.taps.append(count)
        leader = cluster[1].node.replica
        leader.core.become_follower(leader.core.term, 0)
        await cluster.write(2, "key", "value")
        assert len(forwards) <= 2


async def test_a_peer_that_ends_each_connection_at_once_is_not_dialled_without_pause(
    autojump_clock,
) -> None:
    async with running(3) as cluster:

        def serve(stream: trio.abc.Stream) -> None:
            async def welcome() -> None:
                await stream.receive_some()
                await stream.send_all(wire.encode(wire.Welcome(PROTOCOL, 3, "n3", "")))
                await stream.aclose()

            cluster.nursery.start_soon(welcome)

        cluster[3].crash()
        await cluster[3].ended.wait()
        cluster[3].listener.serve = serve
        before = cluster.network.dials[1, 3]
        with trio.move_on_after(60):
            await trio.sleep(10)
        assert 5 < cluster.network.dials[1, 3] - before < 100


async def test_a_snapshot_that_arrives_beside_another_does_not_take_its_content_away(
    autojump_clock,
) -> None:
    """The second one began between the end of the first and the turn that installs it."""
    async with running(2) as cluster:
        replica = cluster[2].node.replica
        meta = replica.core.meta_at(replica.state.applied)
        next_meta = SnapshotMeta(meta.index + 1, meta.term, meta.config, b"c" * 16)
        # No await from here on: the turn that installs must not come between.
        staged = cluster[2].storage.begin_install()
        replica.install_snapshot(InstallSnapshot(1, 2, replica.core.term, meta), staged)
        with pytest.raises(PeerError, match="another snapshot"):
            cluster[2].node.snapshot_receiver._stage(
                1, SnapshotStart(replica.core.term, next_meta, 7)
            )


async def test_an_answer_to_a_write_of_a_nodes_last_life_confirms_none_of_this_one(
    autojump_clock,
) -> None:
    """Ids began at 1 in each life, and the leader's late answer met a newer write of that id."""
    async with running(3) as cluster:
        forwards: list[int] = []

        def drop_acknowledgements(frm: int, _to: int, frame: wire.Frame) -> wire.Frame | None:
            if isinstance(frame, wire.Forward):
                forwards.append(frame.id)
            return None if frm == 2 and isinstance(frame, AppendResponse) else frame

        async def write(key: bytes) -> None:
            with contextlib.suppress(OutcomeUnknown):
                outcome = await cluster[2].node.keys.write(Put(key, b""), trio.current_time() + 5)
                item = cluster[1].node.keys.get(key)
                assert item is not None, "confirmed, and not committed"
                assert item.revision == outcome.revision

        # Young, as after any restart; its write gets into the leader's log and no further.
        await _restart(cluster, 2)
        await cluster.until(cluster.agrees)
        cluster[3].crash()
        cluster.network.edit = drop_acknowledgements
        cluster.nursery.start_soon(write, b"old")
        await cluster.until(lambda: forwards)
        await _restart(cluster, 2)
        cluster.network.edit = None
        cluster.network.ways[2, 1].delay_s = 0.02
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(write, b"new %d" % number)
        assert cluster[1].node.keys.get(b"old") is not None, "the schedule is not the one meant"


async def _restart(cluster: Cluster, node: int) -> None:
    cluster[node].crash()
    await cluster[node].ended.wait()
    await cluster[node].start()


async def test_a_newcomer_that_asks_before_the_founder_is_a_member_does_not_take_its_name(
    autojump_clock,
) -> None:
    """The founder, refused, was never wished for: nobody could be added any more, for good."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(nursery, 1, SETTINGS)
        founder, newcomer = cluster.add(), cluster.add()
        founder.found()
        founder.settings = msgspec.structs.replace(founder.settings, name="n1")
        await founder.start()
        await cluster.let_in(newcomer, via=founder.id)  # no leader yet, no member yet
        await cluster.until(lambda: founder.core.config.is_voter(newcomer.id))
        assert (founder.node.process.name, newcomer.node.process.name) == ("n1", "n2")
        nursery.cancel_scope.cancel()


async def test_the_election_timeout_of_a_cluster_holds_from_its_first_life_on(
    autojump_clock,
) -> None:
    """It was read when the node was made, when a new node knows only the defaults."""
    settings = ClusterSettings(heartbeat_ms=100, election_timeout_ms=3000)
    async with running(3, settings=settings) as cluster:
        await cluster.until(lambda: all(m.core.timeout >= 30 for m in cluster.up), within_s=0.2)
        for other in cluster.followers:
            cluster.silence(cluster.leader.id, of=(other.id,))
        assert await cluster.until(lambda: len({m.core.term for m in cluster.up}) > 1) > 2.9


async def test_a_node_too_busy_to_be_announced_tries_again_later(
    autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that comes without a wait made the attempts a loop that nothing else got into."""
    async with running(1) as cluster:
        attempts = []

        async def read_barrier(_deadline: float) -> None:
            attempts.append(trio.current_time())
            if len(attempts) < 5:
                raise Overloaded("too many reads are waiting")

        monkeypatch.setattr(cluster[1].node.replica, "read_barrier", read_barrier)
        with trio.move_on_after(10):  # It goes on looking when it is done.
            await keep_announced(cluster[1].node, cluster[1].settings)
        assert all(later - one > 0.01 for one, later in pairwise(attempts))
        assert len(attempts) == 5


async def test_a_link_does_not_share_tcps_patience_with_a_network_that_was_cut() -> None:
    """40 s without a network kept a cluster from a leader for 13 s more: TCP had backed off."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    streams: list[TcpStream] = []

    async def dial(address: str) -> trio.abc.Stream:
        stream = await _dial(address)
        assert isinstance(stream, TcpStream)
        streams.append(stream)
        return stream

    async with running(1) as cluster, trio.open_nursery() as nursery:
        link = Link(
            2,
            f"127.0.0.1:{port}",
            me=cluster[1].node.links.me,
            dial=dial,
            events=cluster[1].node,
            heartbeat_s=lambda: 60.0,
            rng=Random(1),
        )
        nursery.start_soon(link.run)
        async with listener, await listener.accept() as accepted:
            await accepted.receive_some()
            await accepted.send_all(wire.encode(wire.Welcome(PROTOCOL, 2, "n2", "")))
            await cluster.until(lambda: link.is_connected)
            patience_ms = streams[0].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert 0 < patience_ms <= 10_000
        nursery.cancel_scope.cancel()


async def test_a_leader_whose_disk_hangs_does_not_keep_the_cluster_from_answering(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster[1].disk.flush_gate = gate = trio.Event()
        with contextlib.suppress(Unavailable):
            await cluster.write(2, "key", "lost or not")
        await cluster.write(2, "key", "value")
        assert cluster.leader.id != 1
        gate.set()
        cluster[1].disk.flush_gate = None
        assert await cluster.read(1, "key") == "value"


async def test_a_leader_that_is_being_removed_does_not_spin_while_a_write_waits(
    autojump_clock, nursery
) -> None:
    async with running(3) as cluster:
        replica = cluster[1].node.replica
        turn, turns = replica._turn, 0

        def counted() -> None:
            nonlocal turns
            turns += 1
            assert turns < 500, "the driver takes one turn after the other"
            turn()

        async def remove() -> None:
            with contextlib.suppress(HstoreError):
                await replica.ask_core(
                    lambda rid: ProposeConfigChange(
                        rid, (ConfigChange(ConfigChangeKind.REMOVE, 1),)
                    ),
                    trio.current_time() + 5,
                )

        cluster.silence(1)  # so that the removal stands in the log, and is not committed
        nursery.start_soon(remove)
        await cluster.until(lambda: 1 not in replica.core.config.all_voters())
        replica._turn = counted  # type: ignore[method-assign]
        with contextlib.suppress(Unavailable):
            await cluster.write(1, "key", "value", within_s=0.3)
        replica._turn = turn  # type: ignore[method-assign]
        cluster.network.heal()
        nursery.cancel_scope.cancel()


async def test_who_starts_while_a_voter_is_being_removed_finds_it_all_the_same(
    autojump_clock, nursery
) -> None:
    async with running(2) as cluster:
        # The wish is committed, the change is not: the record of node 2 is gone, its vote is not.
        cluster[1].node.membership.look = lambda: None  # type: ignore[method-assign]
        remove = commands.encode(RemoveMember(2))
        await cluster[1].node.replica.request(ForwardKind.WRITE, remove, trio.current_time() + 5)
        await cluster.until(lambda: all(2 in m.node.replica.state.removed for m in cluster.up))
        for member in cluster.members.values():
            member.crash(keep=len(member.disk.unflushed))
        for member in cluster.members.values():
            await member.ended.wait()
            await member.start()
        await cluster.until(lambda: any(m.is_leader for m in cluster.up))
        nursery.cancel_scope.cancel()


async def test_a_node_that_is_behind_answers_a_leader_that_joined_after_its_log_ends(
    autojump_clock,
) -> None:
    async with running(2) as cluster:
        node = cluster[2].node
        node.said_hello(9, "10.0.0.9:8300")
        assert node.links.address_of(9) is None
        cluster[2].core.leader = 9
        node._set_links()
        assert node.links.address_of(9) == "10.0.0.9:8300"
        cluster[2].core.leader = 1


async def test_the_last_turn_of_a_node_that_ends_finds_its_rooms_closed_and_bears_it(
    autojump_clock,
) -> None:
    """Tasks end in any order: the driver asked for a link when there was no nursery for one."""
    async with running(1) as cluster:
        await cluster[1].stop()

        node = cluster[1].node
        node.links.set_addresses({9: "10.0.0.9:8300"})
        node.snapshot_sender.send(9)
        node.membership.handle(Request(wire.ForwardKind.REMOVE, b"n9", trio.current_time() + 1))


async def test_a_write_during_the_flush_of_another_waits_for_no_heartbeat(autojump_clock) -> None:
    """Followers began the next flush with the next event only, where nothing was to be applied."""
    flush_s = 0.02
    async with running(3) as cluster:
        await cluster.write(1, "first", "value")
        for member in cluster.up:
            member.disk.flush_delay_s = flush_s
        took: list[float] = []

        async def write(key: str) -> None:
            begun = trio.current_time()
            await cluster.write(1, key, "value")
            took.append(trio.current_time() - begun)

        for number in range(8):  # Of these, some are not saved by a heartbeat.
            await trio.sleep(1 + 0.013 * number)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write, "one")
                await trio.sleep(flush_s / 4)
                nursery.start_soon(write, "during its flush")
        assert max(took) < 2.5 * flush_s
