"""Links between nodes: who is let in, what is believed, and what a bad connection costs."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

import pytest
import trio
import trio.testing
from trio.testing import memory_stream_pair

from hstore.node.cluster.snapshot_receiver import Reply
from hstore.node.errors import BadFrame, PeerError
from hstore.node.model.cluster_info import PROTOCOL
from hstore.node.net.stream import TcpStream
from hstore.node.peers import link, links, wire
from hstore.node.peers.greeting import Dial, LocalNode, connect
from hstore.node.peers.link import Link
from hstore.node.peers.links import Links
from hstore.node.peers.snapshot_transfer import SnapshotEnd
from hstore.node.peers.wire import Purpose, Refusal
from hstore.node.raft.messages import Heartbeat
from tests.node.memory_cluster import CLUSTER_ID, Cluster, running

ME = LocalNode(CLUSTER_ID, 9, "n9", "10.0.0.9:8300")


class Notes:
    """A `PeerHandler` that writes down what it is told."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, wire.Frame]] = []
        self.told: list[tuple[str, float]] = []
        self.removed: set[int] = set()
        self.made = 0

    def received(self, peer: int, frames: Sequence[wire.Frame]) -> None:
        self.frames += [(peer, frame) for frame in frames]

    def is_removed(self, peer: int) -> bool:
        return peer in self.removed

    async def receive_snapshot(
        self, peer: int, frames: trio.MemoryReceiveChannel[wire.Frame], _reply: Reply
    ) -> None:
        async for frame in frames:
            self.frames.append((peer, frame))

    def said_hello(self, peer: int, address: str) -> None:
        pass

    def link_made(self, peer: int) -> None:
        self.made += 1

    def link_broken(self, peer: int) -> None:
        self.told.append(("broken", trio.current_time()))

    def peer_down(self, peer: int, *, refused: bool) -> None:
        self.told.append(("refused" if refused else "silent", trio.current_time()))

    def claimed(self, hello: wire.Hello) -> None:
        self.told.append((f"claimed by {hello.cluster_id}", trio.current_time()))

    def refused(self, peer: int, refusal: str, other: str = "") -> None:
        self.told.append((refusal, trio.current_time()))

    def broke_protocol(self, peer: int, error: BadFrame) -> None:
        self.told.append((f"{peer} sent nonsense: {error}", trio.current_time()))

    def what(self) -> list[str]:
        return [what for what, _ in self.told]


async def refuse(_address: str) -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    raise ConnectionRefusedError("refused")


def peers_of(notes: Notes, dial: Dial = refuse) -> Links:
    return Links(ME, notes, dial=dial, heartbeat_s=lambda: 0.1, rng=Random(1))


async def greet(cluster: Cluster, hello: wire.Hello) -> tuple[trio.abc.Stream, wire.Welcome]:
    """Connect to node 1 by hand."""
    near, far = memory_stream_pair()
    cluster.nursery.start_soon(cluster[1].node.links.serve, far)
    await near.send_all(wire.encode(hello))
    frame = wire.FrameReader().feed(await near.receive_some())[0]
    assert isinstance(frame, wire.Welcome)
    return near, frame


def hello(**changes: object) -> wire.Hello:
    fields: dict[str, object] = {
        "protocol": PROTOCOL,
        "cluster_id": CLUSTER_ID,
        "node_id": 9,
        "to": 1,
        "name": "n9",
        "purpose": Purpose.MESSAGES,
    }
    return wire.Hello(**{**fields, **changes})  # type: ignore[arg-type]


# -- who is let in (rule D14) ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"protocol": PROTOCOL + 1}, Refusal.PROTOCOL),
        ({"cluster_id": "ffffffffffffffff"}, Refusal.CLUSTER),
        ({"to": 2}, Refusal.WRONG_NODE),
        ({"node_id": 1}, Refusal.WRONG_NODE),
        ({"node_id": 2}, Refusal.REMOVED),
        ({"node_id": 2, "purpose": Purpose.SNAPSHOT}, Refusal.REMOVED),
    ],
    ids=["protocol", "cluster", "not me", "my own id", "removed", "removed with a snapshot"],
)
async def test_d14_who_does_not_belong_here_is_refused_with_the_reason(
    changes: dict[str, object], refusal: Refusal, autojump_clock
) -> None:
    async with running(3) as cluster:
        await cluster[1].node.administration.remove("n2", trio.current_time() + 5)
        await cluster[2].ended.wait()
        stream, welcome = await greet(cluster, hello(**changes))

        assert welcome.refusal == refusal
        assert await stream.receive_some() == b""


async def test_who_belongs_here_is_welcome(autojump_clock) -> None:
    async with running(1) as cluster:
        _, welcome = await greet(cluster, hello())
        assert (welcome.refusal, welcome.node_id) == ("", 1)


async def test_a_dialler_believes_no_welcome_of_another_node(autojump_clock) -> None:
    near, far = memory_stream_pair()
    await far.send_all(wire.encode(wire.Welcome(PROTOCOL, 7, "n7", "")))

    async def dial(_address: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return near

    with pytest.raises(PeerError, match="wrong node"):
        await connect(dial, "10.0.0.2:8300", ME, 2, Purpose.MESSAGES)
    with pytest.raises(trio.BrokenResourceError):
        await far.send_all(b"the connection was not closed")


async def test_a_node_that_is_told_that_it_was_removed_stops(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[3].node.refused(1, Refusal.CLUSTER)
        cluster[3].node.refused(1, Refusal.WRONG_NODE)
        assert not cluster[3].node.process.stop_requested.is_set()
        cluster[3].node.refused(1, Refusal.REMOVED)
        assert cluster[3].node.process.stop_requested.is_set()


async def test_who_says_nothing_is_hung_up_on(autojump_clock) -> None:
    async with running(1) as cluster:
        near, far = memory_stream_pair()
        cluster.nursery.start_soon(cluster[1].node.links.serve, far)
        started = trio.current_time()
        assert await near.receive_some() == b""
        assert 2.9 < trio.current_time() - started < 3.1


async def test_strangers_make_room_for_who_comes_after_them(autojump_clock) -> None:
    """Or a member that comes back would find the door shut, for as long as they come anew."""
    async with running(1) as cluster:
        streams = []
        for _ in range(links._MAX_ACCEPTED + 1):
            near, far = memory_stream_pair()
            cluster.nursery.start_soon(cluster[1].node.links.serve, far)
            streams.append(near)
            await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(0.1):
            assert await streams[0].receive_some() == b""
            for _ in range(2):
                near, far = memory_stream_pair()
                cluster.nursery.start_soon(cluster[1].node.links.serve, far)
                streams.append(near)
            _, welcome = await greet(cluster, hello())
            assert welcome.refusal == ""
            for one in streams[1:4]:
                assert await one.receive_some() == b"", "each makes room once"
        await cluster.write(1, "key", "value")


async def test_invented_ids_do_not_shut_members_out(autojump_clock) -> None:
    """Who has said hello as a node that is no member makes room, also for who still says hello."""
    async with running(2) as cluster:
        cluster[1].node.links.accepted_max = most = 8
        invented = [
            await greet(cluster, hello(node_id=100 + number, purpose=Purpose.SNAPSHOT))
            for number in range(most - 1)
        ]
        assert len(cluster[1].node.links._serving) == most
        near, far = memory_stream_pair()  # A member that is about to say hello.
        cluster.nursery.start_soon(cluster[1].node.links.serve, far)
        await trio.testing.wait_all_tasks_blocked()
        await greet(cluster, hello(node_id=200, purpose=Purpose.SNAPSHOT))
        member = hello(node_id=2, purpose=Purpose.SNAPSHOT)
        await near.send_all(wire.encode(member))
        (welcome,) = wire.FrameReader().feed(await near.receive_some())
        assert isinstance(welcome, wire.Welcome)
        assert welcome.refusal == ""
        for stream, _ in invented[:2]:
            with trio.fail_after(0.1):
                assert await stream.receive_some() == b"", "each makes room once"
        cluster.network.reset(1, 2)
        await trio.sleep(1)
        await cluster.write(2, "key", "value")
        assert len(cluster[1].node.links._serving) <= most


async def test_connections_of_members_are_limited(autojump_clock) -> None:
    async with running(2) as cluster:
        cluster[1].node.links.accepted_max = 4
        snapshot = hello(node_id=2, purpose=Purpose.SNAPSHOT)
        snapshots = [await greet(cluster, snapshot) for _ in range(3)]
        near, far = memory_stream_pair()
        cluster.nursery.start_soon(cluster[1].node.links.serve, far)
        with trio.fail_after(0.1):
            assert await near.receive_some() == b""
        with trio.move_on_after(1) as scope:
            await snapshots[0][0].receive_some()
        assert scope.cancelled_caught, "it is there still"


# -- what comes in -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        (wire.MAX_FRAME + 1).to_bytes(4) + b"x",
        (0).to_bytes(4),
        wire.encode(wire.Welcome(1, 1, "n1", "")),
        (5000).to_bytes(4),
        wire.encode(hello(address="nowhere")),
    ],
    ids=["noise", "http", "too long", "empty", "no hello", "long for a hello", "bad address"],
)
async def test_garbage_in_place_of_a_hello_ends_the_connection_only(
    data: bytes, autojump_clock
) -> None:
    async with running(1) as cluster:
        near, far = memory_stream_pair()
        cluster.nursery.start_soon(cluster[1].node.links.serve, far)
        await near.send_all(data)
        with trio.fail_after(0.1):
            assert await near.receive_some() == b""
        await cluster.write(1, "key", "value")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 64,
        (wire.MAX_FRAME + 1).to_bytes(4),
        (3).to_bytes(4) + b"\x93\x01\x02",
        (1).to_bytes(4) + b"\xc1",
    ],
    ids=["noise", "too long", "half a message", "no msgpack"],
)
async def test_garbage_behind_a_hello_ends_the_connection_only(data: bytes, autojump_clock) -> None:
    async with running(1) as cluster:
        stream, _ = await greet(cluster, hello())
        await stream.send_all(data)
        with trio.fail_after(0.1):
            assert await stream.receive_some() == b""
        await cluster.write(1, "key", "value")


async def test_what_does_not_belong_on_a_link_is_ignored(autojump_clock) -> None:
    async with running(1) as cluster:
        stream, _ = await greet(cluster, hello())
        await stream.send_all(wire.encode(hello()) + wire.encode(SnapshotEnd(1, 1, b"")))
        await stream.send_all(wire.encode(wire.ForwardReply(12345, 0, b"")))
        await cluster.write(1, "key", "value")


@pytest.mark.parametrize("frm", [2, 1])
async def test_a_message_in_anothers_name_is_dropped(frm: int, autojump_clock) -> None:
    async with running(2) as cluster:
        stream, _ = await greet(cluster, hello())
        await stream.send_all(wire.encode(Heartbeat(frm, 1, 999, 0, 1)))
        await stream.send_all(wire.encode(Heartbeat(9, 2, 999, 0, 1)))
        await trio.sleep(1)
        assert cluster[1].core.term < 999
        assert cluster[1].is_leader


async def test_a_newer_connection_of_a_peer_ends_the_older(autojump_clock) -> None:
    async with running(1) as cluster:
        older, _ = await greet(cluster, hello())
        newer, _ = await greet(cluster, hello())
        with trio.fail_after(0.1):
            assert await older.receive_some() == b""
        with trio.move_on_after(5) as scope:
            await newer.receive_some()
        assert scope.cancelled_caught, "the newer one was ended, too"


async def test_a_frame_in_pieces_is_a_frame(autojump_clock) -> None:
    notes = Notes()
    near, far = memory_stream_pair()
    beat = Heartbeat(2, 9, 1, 0, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peers_of(notes).serve, far)
        for byte in wire.encode(hello(node_id=2, to=9)) + wire.encode(beat):
            await near.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        await near.aclose()
    assert notes.frames == [(2, beat)]


# -- what goes out -----------------------------------------------------------------------------


def make_link(notes: Notes, dial: Dial) -> Link:
    return Link(
        2,
        "10.0.0.2:8300",
        me=ME,
        dial=dial,
        events=notes,
        heartbeat_s=lambda: 0.1,
        rng=Random(1),
    )


async def test_the_pause_between_attempts_doubles_to_a_bound_with_jitter(autojump_clock) -> None:
    notes = Notes()
    made = make_link(notes, refuse)
    with trio.move_on_after(60):
        await made.run()
    times = [at for _, at in notes.told]
    gaps = [later - earlier for earlier, later in pairwise(times)]

    assert notes.what() == ["refused"] * len(times)
    bound = 0.05
    for gap in gaps:
        assert 0.5 * bound - 1e-9 <= gap <= bound + 1e-9
        bound = min(2 * bound, 0.5)
    assert len({round(gap, 6) for gap in gaps[6:]}) > 10


async def test_a_sign_of_the_peer_ends_the_pause(autojump_clock) -> None:
    notes = Notes()
    made = make_link(notes, refuse)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.sleep(20)
        before = len(notes.told)
        await trio.sleep(0.001)
        made.hurry()
        await trio.testing.wait_all_tasks_blocked()
        assert len(notes.told) == before + 1
        nursery.cancel_scope.cancel()


async def test_a_peer_that_answers_nothing_for_a_heartbeat_is_down(autojump_clock) -> None:
    notes = Notes()

    async def hang(_address: str) -> trio.abc.Stream:
        return memory_stream_pair()[0]

    with trio.move_on_after(2.9):
        await make_link(notes, hang).run()
    assert notes.what() == ["silent"]
    assert 0.1 <= notes.told[0][1] - (trio.current_time() - 2.9) < 0.11


async def test_a_connection_that_broke_is_made_anew_at_once_and_nobody_is_down(
    autojump_clock,
) -> None:
    notes = Notes()
    dialled: list[float] = []

    async with trio.open_nursery() as nursery:
        other = Links(
            LocalNode(CLUSTER_ID, 2, "n2"),
            Notes(),
            dial=refuse,
            heartbeat_s=lambda: 0.1,
            rng=Random(1),
        )
        streams: list[trio.abc.Stream] = []

        async def dial(_address: str) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            dialled.append(trio.current_time())
            near, far = memory_stream_pair()
            streams.append(far)
            nursery.start_soon(other.serve, far)
            return near

        made = make_link(notes, dial)
        nursery.start_soon(made.run)
        for _ in range(3):
            await trio.sleep(1)
            assert made.is_connected
            await trio.aclose_forcefully(streams[-1])
        await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert notes.what() == ["broken"] * 3
    assert notes.made == 4
    assert [round(at - dialled[0]) for at in dialled] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("size", "fitting"), [(1, link._MAX_OUTBOX_FRAMES), (1 << 20, link._MAX_OUTBOX_BYTES >> 20)]
)
async def test_a_full_outbox_drops_and_counts(size: int, fitting: int, autojump_clock) -> None:
    made = make_link(Notes(), refuse)
    assert not made.send(b"x")
    assert made.dropped == 1
    made.is_connected = True
    sent = [made.send(b"x" * size) for _ in range(fitting + 3)]

    assert sent == [True] * fitting + [False] * 3
    assert made.dropped == 4


async def test_a_peer_that_reads_nothing_for_long_is_left(autojump_clock) -> None:
    """Its connection stands, and nothing goes through: a host that lost its power."""
    notes = Notes()

    class Stuck(trio.abc.Stream):
        def __init__(self, inner: trio.abc.Stream) -> None:
            self.inner = inner
            self.count = 0

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            self.count += 1
            if self.count > 1:
                await trio.sleep_forever()
            await self.inner.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            return await self.inner.receive_some(max_bytes)

        async def aclose(self) -> None:
            await self.inner.aclose()

    async with trio.open_nursery() as nursery:

        async def dial(_address: str) -> trio.abc.Stream:
            near, far = memory_stream_pair()
            await far.send_all(wire.encode(wire.Welcome(PROTOCOL, 2, "n2", "")))
            return Stuck(near)

        made = make_link(notes, dial)
        nursery.start_soon(made.run)
        await trio.sleep(0.1)
        assert made.send(b"frame")
        made.flush()
        await trio.sleep(link.SEND_SECONDS - 0.5)
        assert notes.what() == []
        await trio.sleep(1)
        assert notes.what() == ["broken"]
        nursery.cancel_scope.cancel()


@pytest.fixture
def tcp_pair() -> Iterator[tuple[TcpStream, TcpStream]]:
    """Two ends of a connection with little room in between."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        for end in (near, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            end.setblocking(False)
        yield TcpStream(near), TcpStream(far)


async def test_a_frame_from_another_thread_comes_whole_between_others(
    tcp_pair: tuple[TcpStream, TcpStream],
) -> None:
    """Also where the socket has no room for all of it: what comes later waits for the rest."""
    near, far = tcp_pair
    await far.send_all(wire.encode(wire.Welcome(PROTOCOL, 2, "n2", "")))

    async def dial(_address: str) -> trio.abc.Stream:
        return near

    notes = Notes()
    made = make_link(notes, dial)
    large = b"<" + bytes(1_000_000) + b">"
    assert not made.send_now(b"<there is no connection>")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            while not made.is_connected:
                await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()
            assert made.send(b"<waits>")
            assert await trio.to_thread.run_sync(made.send_now, b"<at once>")
            assert await trio.to_thread.run_sync(made.send_now, large)
            assert not await trio.to_thread.run_sync(made.send_now, b"<there is a rest>")
            made.flush()
            came = bytearray()
            while not came.endswith(b"<waits>"):
                came += await far.receive_some()
            nursery.cancel_scope.cancel()
    assert came.endswith(b"<at once>" + large + b"<waits>")
    assert not made.send_now(b"<there is no connection any more>")


async def test_links_are_to_the_members_and_to_nobody_else(autojump_clock) -> None:
    dialled: list[str] = []

    async def dial(address: str) -> trio.abc.Stream:
        dialled.append(address)
        return await refuse(address)

    mine = peers_of(Notes(), dial)
    async with trio.open_nursery() as nursery:
        await nursery.start(mine.run)
        mine.set_addresses({2: "10.0.0.2:8300", 3: "10.0.0.3:8300", 9: "10.0.0.9:8300"})
        assert mine.address_of(2) == "10.0.0.2:8300"
        assert mine.address_of(9) is None
        mine.set_addresses({3: "10.0.1.3:8300"})
        assert mine.address_of(2) is None
        assert mine.address_of(3) == "10.0.1.3:8300"
        assert not mine.send(2, b"frame")
        await trio.sleep(5)
        dialled.clear()
        await trio.sleep(5)
        assert set(dialled) == {"10.0.1.3:8300"}
        nursery.cancel_scope.cancel()


async def test_what_a_peer_says_of_its_address_stands_until_the_cluster_says_otherwise(
    autojump_clock,
) -> None:
    notes = Notes()
    mine = peers_of(notes)
    async with trio.open_nursery() as nursery:
        await nursery.start(mine.run)
        mine.set_addresses({2: "10.0.0.2:8300"})
        near, far = memory_stream_pair()
        nursery.start_soon(mine.serve, far)
        await near.send_all(wire.encode(hello(node_id=2, to=9, address="10.0.0.22:8300")))
        await near.receive_some()
        assert mine.address_of(2) == "10.0.0.22:8300"
        mine.set_addresses({2: "10.0.0.2:8300"})
        assert mine.address_of(2) == "10.0.0.22:8300"
        mine.set_addresses({2: "10.0.0.222:8300"})
        assert mine.address_of(2) == "10.0.0.222:8300"
        nursery.cancel_scope.cancel()


async def test_a_member_that_is_gone_is_hung_up_on(autojump_clock) -> None:
    notes = Notes()
    mine = peers_of(notes)
    async with trio.open_nursery() as nursery:
        await nursery.start(mine.run)
        mine.set_addresses({2: "10.0.0.2:8300"})
        near, far = memory_stream_pair()
        nursery.start_soon(mine.serve, far)
        await near.send_all(wire.encode(hello(node_id=2, to=9)))
        await near.receive_some()
        mine.set_addresses({})
        with trio.fail_after(0.1):
            assert await near.receive_some() == b""
        nursery.cancel_scope.cancel()


async def test_a_snapshot_whose_sender_falls_silent_is_given_up(autojump_clock) -> None:
    notes = Notes()
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peers_of(notes).serve, far)
        start = hello(node_id=2, to=9, purpose=Purpose.SNAPSHOT)
        await near.send_all(wire.encode(start) + wire.encode(SnapshotEnd(0, 0, b"")))
        await near.receive_some()
        began = trio.current_time()
        assert await near.receive_some() == b""
        assert 9 < trio.current_time() - began < 11
    assert notes.frames == [(2, SnapshotEnd(0, 0, b""))]
