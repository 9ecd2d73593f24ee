"""Whole states between nodes: for who is too far behind, in chunks, whatever happens meanwhile."""

from __future__ import annotations

import msgspec
import pytest
import trio
import trio.testing

from hstore.node.cluster import snapshot_receiver
from hstore.node.driver import compaction
from hstore.node.errors import PeerError, StorageError
from hstore.node.peers import snapshot_transfer, wire
from hstore.node.peers.snapshot_transfer import (
    Outgoing,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotPosition,
    SnapshotStart,
    SnapshotTaken,
    decode_pairs,
)
from hstore.node.raft.entry import SnapshotMeta
from hstore.node.raft.messages import Append, InstallSnapshot
from hstore.node.raft.roles import Role
from hstore.node.storage.interface import APPLIED_KEY, pack_applied
from tests.node.memory_cluster import Cluster, Member, running


@pytest.fixture(autouse=True)
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs are short and chunks small, so that few keys make both matter."""
    monkeypatch.setattr(compaction, "KEEP_ENTRIES", 10)
    monkeypatch.setattr(snapshot_transfer, "CHUNK_BYTES", 200)


def chunks_of(cluster: Cluster) -> list[SnapshotChunk]:
    """Return a list that fills with the chunks that leave any node."""
    chunks: list[SnapshotChunk] = []

    def tap(_frm: int, _to: int, frame: wire.Frame) -> None:
        if isinstance(frame, SnapshotChunk):
            chunks.append(frame)

    cluster.network.taps.append(tap)
    return chunks


async def leave_behind(cluster: Cluster, member: Member) -> None:
    """Let the others write so much that the log `member` lacks is gone."""
    member.crash()
    await member.ended.wait()
    # Until the leader has given up on it: for who lives, it keeps more.
    await trio.sleep(3)
    for number in range(60):
        await cluster.write(1, f"key-{number:02}", f"value-{number}")
    index = cluster.leader.core.log.snapshot_index
    assert index > member.disk.durable.snapshot.index + 20
    assert cluster.leader.disk.live.snapshot.index == index


IN_FLIGHT = 8
"""Chunks that are lost with a connection: in the receiver's channel, and in the ways."""


def state_of(member: Member) -> dict[bytes, bytes]:
    return dict(member.disk.live.state)


async def test_a_follower_behind_the_compacted_log_gets_a_snapshot_in_chunks(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await leave_behind(cluster, cluster[3])
        chunks = chunks_of(cluster)
        await cluster[3].start()
        assert await cluster.read(3, "key-59") == "value-59"

        assert len(chunks) > 10
        assert "install" in cluster[3].storage.order()
        sender = cluster[1].node.snapshot_sender
        await cluster.until(lambda: sender.sent_total == 1)
        assert sum(sender.seconds.counts) == 1
        await cluster.until(lambda: cluster[3].node.figures.totals().keys == 60)
        await cluster.write(3, "after", "snapshot")
        await trio.sleep(1)
        assert state_of(cluster[3]) == state_of(cluster[1])
        assert cluster[3].core.config == cluster[1].core.config


async def test_a_newcomer_gets_a_snapshot_and_becomes_a_voter(autojump_clock) -> None:
    async with running(2) as cluster:
        for number in range(60):
            await cluster.write(1, f"key-{number:02}", f"value-{number}")
        member = await cluster.join()

        assert "install" in member.storage.order()
        assert await cluster.read(member.id, "key-00") == "value-0"


async def test_a_snapshot_that_breaks_off_goes_on_where_it_was(autojump_clock) -> None:
    async with running(3) as cluster:
        await leave_behind(cluster, cluster[3])
        chunks = chunks_of(cluster)
        breaks = 0

        def break_off(_frm: int, _to: int, frame: wire.Frame) -> None:
            nonlocal breaks
            if isinstance(frame, SnapshotChunk) and breaks < 3 and len(chunks) % 7 == 5:
                breaks += 1
                cluster.network.reset(1, 3)

        cluster.network.taps.append(break_off)
        await cluster[3].start()

        assert await cluster.read(3, "key-59") == "value-59"
        assert breaks == 3
        assert cluster[3].storage.order().count("install") == 1
        assert len({chunk.id for chunk in chunks}) == 1
        again = len(chunks) - 1 - max(chunk.number for chunk in chunks)
        assert again <= 3 * IN_FLIGHT, "only what was on its way is sent again"


DAMAGES: dict[str, dict[str, object]] = {
    "data": {"data": b"\x90"},
    "digest": {"digest": b"\0" * 16},
    "after": {"after": b"k"},
    "number": {"number": 99},
    "id": {"id": 99},
}


@pytest.mark.parametrize("damage", [*DAMAGES, "missing", "last", "end"])
async def test_a_damaged_snapshot_is_refused_and_what_was_whole_of_it_is_not_sent_again(
    damage: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        await leave_behind(cluster, cluster[3])
        chunks = chunks_of(cluster)
        damaged: list[wire.Frame] = []

        def edit(_frm: int, _to: int, frame: wire.Frame) -> wire.Frame | None:
            if damaged or not isinstance(frame, SnapshotChunk | SnapshotEnd):
                return frame
            if isinstance(frame, SnapshotEnd):
                if damage != "end":
                    return frame
                damaged.append(frame)
                return SnapshotEnd(frame.id, frame.chunks, b"\0" * 16)
            is_last = decode_pairs(frame.data)[-1][0] == APPLIED_KEY
            if damage == "end" or frame.number < 5 or (damage == "last" and not is_last):
                return frame
            damaged.append(frame)
            if damage in ("missing", "last"):
                return None
            return msgspec.structs.replace(frame, **DAMAGES[damage])

        cluster.network.edit = edit
        await cluster[3].start()
        assert await cluster.read(3, "key-59") == "value-59"
        assert len(damaged) == 1
        assert cluster[3].storage.order().count("install") == 1
        # The leader may be writing that this member is alive.
        await cluster.until(lambda: state_of(cluster[3]) == state_of(cluster[1]), within_s=2)
        assert sum(chunk.number == 0 for chunk in chunks) == 1


@pytest.mark.parametrize("moment", ["before install", "before flush", "after flush"])
async def test_a_crash_around_an_install_leaves_the_old_state_or_the_new(
    moment: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        await leave_behind(cluster, cluster[3])
        old = dict(cluster[3].disk.durable.state)
        if moment == "before flush":
            cluster[3].disk.flush_gate = trio.Event()
        if moment == "before install":
            cluster.network.taps.append(
                lambda _f, _t, x: cluster[3].crash() if isinstance(x, SnapshotEnd) else None
            )
            await cluster[3].start()
        else:
            await cluster[3].start()
            wanted = "flush ended" if moment == "after flush" else "install"
            order = cluster[3].storage.order
            await cluster.until(
                lambda: "install" in order() and wanted in order()[order().index("install") :]
            )
            cluster[3].crash()
        await cluster[3].ended.wait()

        found = cluster[3].disk.durable
        is_new = found.state != old
        assert is_new == (moment == "after flush")
        assert is_new == (found.snapshot.index > 0)
        cluster[3].disk.flush_gate = None
        if moment == "before install":
            cluster.network.taps.pop()
        await cluster[3].start()
        assert await cluster.read(3, "key-59") == "value-59"
        # The leader may be writing that this member is alive.
        await cluster.until(lambda: state_of(cluster[3]) == state_of(cluster[1]), within_s=2)


def ends_told_to(member: Member) -> list[bool]:
    """Return a list that fills with what the core is told of the ends of snapshots."""
    told: list[bool] = []
    replica = member.node.replica
    tell = replica.snapshot_sent

    def listen(peer: int, index: int, *, ok: bool) -> None:
        told.append(ok)
        tell(peer, index, ok=ok)

    replica.snapshot_sent = listen  # type: ignore[method-assign]
    return told


async def test_d12_the_core_is_told_how_every_snapshot_ends(autojump_clock) -> None:
    """A peer whose snapshot failed would otherwise be fed nothing for ever."""
    async with running(3) as cluster:
        told = ends_told_to(cluster[1])
        await leave_behind(cluster, cluster[3])

        def refuse_all(_frm: int, _to: int, frame: wire.Frame) -> wire.Frame | None:
            return None if isinstance(frame, SnapshotStart) else frame

        cluster.network.edit = refuse_all
        await cluster[3].start()
        await cluster.until(lambda: len(told) >= 2, within_s=30)
        cluster.network.edit = None
        assert await cluster.read(3, "key-59", within_s=30) == "value-59"
        await cluster.until(lambda: told[-1])


async def test_writes_go_on_while_a_slow_snapshot_is_on_its_way(autojump_clock) -> None:
    async with running(3) as cluster:
        await leave_behind(cluster, cluster[3])
        for way in cluster.network.between(1, 3):
            way.delay_s = 0.05
        await cluster[3].start()
        for number in range(30):
            await cluster.write(2, f"during-{number}", "value", within_s=0.5)
            await trio.sleep(0.05)

        assert await cluster.read(3, "during-29", within_s=30) == "value"
        assert cluster[1].is_leader


async def test_a_snapshot_that_is_not_needed_is_thrown_away(autojump_clock) -> None:
    async with running(2) as cluster:
        member = cluster[2]
        await trio.sleep(0.1)  # until it has heard of the last commit
        before = state_of(member)
        staged = member.storage.begin_install()
        staged.write([(b"k" + b"foreign", b"value")])
        meta = SnapshotMeta(1, 1, member.core.config, b"")
        message = InstallSnapshot(1, 2, member.core.term, meta)
        member.node.replica.install_snapshot(message, staged)
        await trio.sleep(0.5)

        assert not member.node.replica.is_installing
        assert state_of(member) == before
        await cluster.write(2, "key", "value")


async def test_a_newcomer_under_load_is_not_sent_one_snapshot_after_the_other(
    autojump_clock,
) -> None:
    """What follows a snapshot must still be there when it has crossed, however slow the way."""
    async with running(1) as cluster:
        for number in range(60):
            await cluster.write(1, f"key-{number:02}", "value")
        sent: list[int] = []

        def tap(_frm: int, to: int, frame: wire.Frame) -> None:
            if isinstance(frame, SnapshotStart):
                sent.append(to)

        async def load() -> None:
            while True:
                await cluster.write(1, "key-00", "value")
                await trio.sleep(0.01)

        cluster.network.taps.append(tap)
        newcomer = cluster.add()
        cluster.network.ways[1, newcomer.id].delay_s = 0.3
        cluster.nursery.start_soon(load)
        await cluster.let_in(newcomer, 1)
        await cluster.until(lambda: cluster[1].core.config.is_voter(newcomer.id), 20)

        assert len(sent) <= 2


async def test_a_snapshot_is_cut_by_the_number_of_keys_as_well_and_flushed_on_its_way_in(
    autojump_clock, monkeypatch
) -> None:
    """Many small keys hold the loop as long as a few large ones; writes must not outrun a disk."""
    monkeypatch.setattr(snapshot_transfer, "CHUNK_BYTES", 1 << 20)
    monkeypatch.setattr(snapshot_transfer, "CHUNK_PAIRS", 7)
    monkeypatch.setattr(snapshot_receiver, "_FLUSH_BYTES", 1)
    async with running(3) as cluster:
        await leave_behind(cluster, cluster[3])
        chunks = chunks_of(cluster)
        await cluster[3].start()
        replica, flushes = cluster[3].node.replica, 0
        flush = replica.flush

        async def counted() -> None:
            nonlocal flushes
            flushes += replica.state.applied < cluster[1].core.log.snapshot_index
            await flush()

        monkeypatch.setattr(replica, "flush", counted)
        await cluster.until(lambda: cluster[3].value("key-59") == "value-59")

        assert len(chunks) >= 60 // 7
        assert all(len(decode_pairs(chunk.data)) <= 7 for chunk in chunks)
        assert flushes >= len(chunks)


# --- what can happen meanwhile ----------------------------------------------------------------


class Conversation:
    """A snapshot's connection into a node, whose sender is the test.

    Attributes:
        replies: What the node answered.
        refusal: Why it ended the connection, if it did.
    """

    def __init__(self, member: Member, peer: int) -> None:
        self.replies: list[wire.Frame] = []
        self.refusal: str | None = None
        self.ended = trio.Event()
        self._member, self._peer = member, peer
        self.send, self.frames = trio.open_memory_channel[wire.Frame](100)

    async def run(self) -> None:
        try:
            await self._member.node.snapshot_receiver.receive(self._peer, self.frames, self._reply)
        except PeerError as error:
            self.refusal = str(error)
        self.ended.set()

    async def _reply(self, frame: wire.Frame) -> None:
        await trio.lowlevel.checkpoint()
        self.replies.append(frame)

    async def say(self, *frames: wire.Frame) -> None:
        for frame in frames:
            await self.send.send(frame)
        await trio.sleep(0.001)


def talk(cluster: Cluster, member: Member, peer: int) -> Conversation:
    conversation = Conversation(member, peer)
    cluster.nursery.start_soon(conversation.run)
    return conversation


def view_at(member: Member, index: int, snapshot_id: int = 9) -> Outgoing:
    """Return a state that nobody has, on its way."""
    pairs = [(b"k%d" % number, b"x" * 50) for number in range(20)]
    pairs.append((APPLIED_KEY, pack_applied(index, member.core.term)))
    meta = SnapshotMeta(index, member.core.term, member.core.config, b"c" * 16)
    return Outgoing(snapshot_id, meta, lambda start: iter([p for p in pairs if p[0] >= start]))


async def test_while_a_snapshot_comes_in_another_senders_of_the_same_term_is_refused(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        member = cluster[3]
        term, index = member.core.term, member.core.log.last_index + 100
        first, second = talk(cluster, member, 1), talk(cluster, member, 2)
        await first.say(view_at(member, index).start(term))
        await second.say(view_at(member, index, 8).start(term))

        assert second.refusal == "another snapshot is coming in"
        assert not first.ended.is_set()
        assert len(first.replies) == 1


@pytest.mark.parametrize("who", ["its sender again", "a newer leader"])
async def test_a_sender_that_knows_better_takes_a_snapshots_place(who: str, autojump_clock) -> None:
    """A connection that died unnoticed on this side would hold the next one up for seconds."""
    async with running(3) as cluster:
        member = cluster[3]
        term, index = member.core.term, member.core.log.last_index + 100
        view = view_at(member, index)
        first = talk(cluster, member, 1)
        await first.say(view.start(term))
        assert isinstance(first.replies[0], SnapshotPosition)
        view.resume(first.replies[0])
        await first.say(view.next_frame(), view.next_frame())
        peer, start = (1, view.start(term)) if "again" in who else (2, view.start(term + 1))
        second = talk(cluster, member, peer)
        await second.say(start)

        assert first.refusal == "another connection brings a snapshot"
        (position,) = second.replies
        assert isinstance(position, SnapshotPosition)
        assert position.chunks == 2


async def test_a_newer_snapshot_takes_the_place_of_what_is_left_of_an_older_one(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        member = cluster[3]
        term, index = member.core.term, member.core.log.last_index + 100
        old, new = view_at(member, index), view_at(member, index + 1, 8)
        for view, chunks in ((old, 0), (new, 0), (old, 0)):
            conversation = talk(cluster, member, 1)
            await conversation.say(view.start(term))
            position = conversation.replies[0]
            assert isinstance(position, SnapshotPosition)
            assert (position.id, position.chunks) == (view.id, chunks)
            view.resume(position)
            await conversation.say(view.next_frame())
            conversation.send.close()
            await conversation.ended.wait()


async def test_a_frame_handed_over_as_its_connection_was_replaced_does_not_stop_the_node(
    autojump_clock,
) -> None:
    """It was written into a state that had been thrown away, which passed for a failed disk."""
    async with running(3) as cluster:
        member = cluster[3]
        term, index = member.core.term, member.core.log.last_index + 100
        old, new = view_at(member, index), view_at(member, index + 1, 8)
        first = talk(cluster, member, 1)
        await first.say(old.start(term))
        assert isinstance(first.replies[0], SnapshotPosition)
        old.resume(first.replies[0])
        # The receiver sits in `receive`: from `send_nowait` on, a cancellation does not reach it.
        is_after = trio.Event()

        async def handed_over() -> wire.Frame:
            with trio.CancelScope(shield=True):
                await is_after.wait()
            return old.next_frame()

        first.frames.receive = handed_over  # type: ignore[method-assign]
        await first.say(old.next_frame())
        second = talk(cluster, member, 1)
        await second.say(new.start(term))
        is_after.set()
        await first.ended.wait()

        assert first.refusal == "another connection brings a snapshot"
        (position,) = second.replies
        assert isinstance(position, SnapshotPosition)
        assert (position.id, position.chunks) == (new.id, 0)
        new.resume(position)
        await second.say(new.next_frame())
        assert not second.ended.is_set()


async def test_a_snapshot_of_an_older_term_is_refused_before_anything_of_it_is_kept(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        member = cluster[3]
        conversation = talk(cluster, member, 2)
        index = member.core.log.last_index + 100
        await conversation.say(view_at(member, index).start(member.core.term - 1))

        assert conversation.refusal == "the sender of the snapshot does not lead any more"
        assert conversation.replies == []


async def test_a_snapshot_of_what_is_committed_here_is_answered_and_not_taken(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        member = cluster[3]
        conversation = talk(cluster, member, 1)
        view = view_at(member, member.core.log.commit)
        await conversation.say(view.start(member.core.term))

        assert conversation.replies == [SnapshotTaken(view.id)]
        await cluster.write(3, "key", "value")
        assert await cluster.read(3, "key") == "value"
        assert "install" not in member.storage.order()


async def test_a_receiver_that_gets_ahead_by_its_log_takes_no_more_of_a_snapshot(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        member = cluster[3]
        view = view_at(member, member.core.log.commit + 2)
        conversation = talk(cluster, member, 1)
        await conversation.say(view.start(member.core.term))
        position = conversation.replies[0]
        assert isinstance(position, SnapshotPosition)
        view.resume(position)
        await conversation.say(view.next_frame())
        for number in range(3):
            await cluster.write(3, "key", str(number))
        await conversation.say(view.next_frame())

        assert conversation.replies[1:] == [SnapshotTaken(view.id)]
        assert await cluster.read(3, "key") == "2"
        assert "install" not in member.storage.order()
        await cluster.write(3, "key", "after")


async def interrupted(cluster: Cluster, after_chunks: int = 5) -> list[SnapshotChunk]:
    """Have node 3 come back, and cut it off from the others in the middle of its snapshot."""
    await leave_behind(cluster, cluster[3])
    chunks = chunks_of(cluster)

    def cut(_frm: int, _to: int, frame: wire.Frame) -> None:
        if isinstance(frame, SnapshotChunk) and frame.number == after_chunks:
            cluster.silence(3)

    cluster.network.taps.append(cut)
    await cluster[3].start()
    await cluster.until(lambda: len(chunks) > after_chunks)
    cluster.network.reset(1, 3)
    cluster.network.taps.remove(cut)
    await cluster.until(lambda: not cluster[1].node.snapshot_sender._sending, 40)
    return chunks


async def test_a_view_and_what_is_staged_of_it_wait_for_a_while_and_not_for_ever(
    autojump_clock, monkeypatch
) -> None:
    """An open view keeps old data on disk, and a staged state takes its room beside the other."""
    monkeypatch.setattr(snapshot_transfer, "KEEP_SECONDS", 20)
    async with running(3) as cluster:
        chunks = await interrupted(cluster)
        leader, member = cluster[1].node.snapshot_sender, cluster[3].node.snapshot_receiver
        await trio.sleep(3)
        assert list(leader._views) == [3]
        assert member._staging is not None
        reader = leader._views[3].reader
        await trio.sleep(26)
        assert leader._views == {}
        assert member._staging is None
        with pytest.raises(StorageError, match="closed"):
            reader.get(b"z")

        cluster.network.heal()
        assert await cluster.read(3, "key-59", within_s=30) == "value-59"
        assert len({chunk.id for chunk in chunks}) == 2


async def test_a_snapshot_goes_on_after_seconds_without_a_link(autojump_clock) -> None:
    async with running(3) as cluster:
        chunks = await interrupted(cluster)
        await trio.sleep(10)
        cluster.network.heal()
        assert await cluster.read(3, "key-59", within_s=30) == "value-59"

        assert len({chunk.id for chunk in chunks}) == 1
        assert sum(chunk.number == 0 for chunk in chunks) == 1


async def test_a_receiver_that_was_restarted_begins_anew(autojump_clock) -> None:
    """What it had staged is gone; the view is there still, and is sent from its first key on."""
    async with running(3) as cluster:
        chunks = await interrupted(cluster)
        cluster[3].crash()
        await cluster[3].ended.wait()
        cluster.network.heal()
        await cluster[3].start()
        assert await cluster.read(3, "key-59", within_s=30) == "value-59"

        assert sum(chunk.number == 0 for chunk in chunks) == 2
        assert len({chunk.id for chunk in chunks}) == 1
        # The leader may be writing that this member is alive.
        await cluster.until(lambda: state_of(cluster[3]) == state_of(cluster[1]), within_s=2)


@pytest.mark.parametrize("held", [1 << 20, 1], ids=["held", "more than is held"])
async def test_what_follows_a_snapshot_stays_on_the_disk_for_as_long_as_it_needs(
    held: int, autojump_clock, monkeypatch
) -> None:
    """Else the receiver needed another snapshot after it; and when too much follows, it does."""
    monkeypatch.setattr(compaction, "HELD_BYTES", held)
    async with running(3) as cluster:
        chunks = await interrupted(cluster)
        leader = cluster[1]
        for number in range(200):
            await cluster.write(1, f"key-{number % 60:02}", f"{number}")
        on_disk = leader.disk.live.snapshot.index
        assert leader.core.log.snapshot_index > cluster[3].core.log.last_index + 100
        assert (on_disk < leader.core.log.snapshot_index - 100) == (held > 1)
        cluster.network.heal()
        assert await cluster.read(3, "key-59", within_s=30) == "179"

        assert len({chunk.id for chunk in chunks}) == (1 if held > 1 else 2)
        assert cluster[3].storage.order().count("install") == 1
        await cluster.until(lambda: not leader.node.snapshot_sender._views, 80)
        assert leader.disk.live.snapshot.index == leader.core.log.snapshot_index


async def test_a_member_that_falls_behind_again_soon_after_its_snapshot_needs_no_other(
    autojump_clock,
) -> None:
    """The log in memory had got away from it at once, and it was sent one after the other."""
    async with running(3) as cluster:
        await leave_behind(cluster, cluster[3])
        chunks = chunks_of(cluster)
        leader, member = cluster[1], cluster[3]
        told = ends_told_to(leader)
        await member.start()
        assert await cluster.read(3, "key-59") == "value-59"
        await cluster.until(lambda: told)
        cluster.silence(3)
        await trio.sleep(3)
        for number in range(150):
            await cluster.write(1, f"key-{number % 60:02}", f"new-{number}")
        assert leader.core.log.snapshot_index > member.core.log.last_index + 9
        cluster.network.reset(1, 3)
        cluster.network.heal()
        assert await cluster.read(3, "key-59", within_s=30) == "new-119"
        await cluster.until(lambda: len(told) == 2)

        assert len({chunk.id for chunk in chunks}) == 1
        assert told == [True, True]
        assert state_of(member) == state_of(leader)


@pytest.mark.parametrize("trouble", ["lost once", "lost for ever"])
async def test_what_follows_a_snapshot_is_sent_again_when_it_is_lost(
    trouble: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        chunks = await interrupted(cluster)
        leader, member = cluster[1], cluster[3]
        for number in range(200):
            await cluster.write(1, f"key-{number % 60:02}", f"{number}")
        told = ends_told_to(leader)
        lost: list[wire.Frame] = []

        def lose(_frm: int, to: int, frame: wire.Frame) -> wire.Frame | None:
            if isinstance(frame, Append) and frame.entries and to == 3 and not told:
                lost.append(frame)
                return None if trouble == "lost for ever" or len(lost) == 1 else frame
            return frame

        cluster.network.edit = lose
        cluster.network.heal()
        assert await cluster.read(3, "key-59", within_s=40) == "179"

        await cluster.until(lambda: told)
        assert len(lost) > 1
        assert told[0] == (trouble == "lost once")
        assert state_of(member) == state_of(leader)
        assert len({chunk.id for chunk in chunks}) == (1 if told[0] else 2)


async def test_a_leader_that_is_deposed_while_it_sends_stops_and_the_next_one_sends(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await leave_behind(cluster, cluster[3])
        chunks = chunks_of(cluster)
        senders: list[int] = []
        told = ends_told_to(cluster[1])

        def depose(frm: int, _to: int, frame: wire.Frame) -> None:
            if isinstance(frame, SnapshotStart):
                senders.append(frm)
            if isinstance(frame, SnapshotChunk) and frame.number == 5 and frm == 1:
                core = cluster[1].core
                core.become_follower(core.term, 0)
                cluster.silence(1)

        cluster.network.taps.append(depose)
        await cluster[3].start()
        await cluster.until(lambda: cluster[2].core.role is Role.LEADER, 20)
        await cluster.until(lambda: cluster[3].value("key-59") == "value-59", 30)

        assert senders == [1, 2]
        assert told == [False]
        assert len({chunk.id for chunk in chunks}) == 2
        assert max(c.number for c in chunks if c.id == chunks[0].id) == 5
        cluster.network.heal()
        await cluster.until(lambda: state_of(cluster[3]) == state_of(cluster[2]))


async def test_a_member_that_is_removed_gets_no_more_of_its_snapshot(autojump_clock) -> None:
    async with running(3) as cluster:
        await leave_behind(cluster, cluster[3])
        chunks = chunks_of(cluster)
        told = ends_told_to(cluster[1])
        peers = cluster[1].node.links

        def remove(_frm: int, _to: int, frame: wire.Frame) -> None:
            if isinstance(frame, SnapshotChunk) and not told and frame.number == 3:
                peers.set_addresses({2: cluster[2].settings.peer_address})

        cluster.network.taps.append(remove)
        await cluster[3].start()
        await cluster.until(lambda: told)

        assert told == [False]
        assert [chunk.number for chunk in chunks] == [0, 1, 2, 3]


async def test_d12_asked_for_twice_a_snapshot_is_sent_once_and_its_end_told_once(
    autojump_clock,
) -> None:
    """A leader that lost its term and won another asks again while the first is on its way."""
    async with running(3) as cluster:
        await leave_behind(cluster, cluster[3])
        starts: list[wire.Frame] = []
        told = ends_told_to(cluster[1])

        def ask_again(_frm: int, _to: int, frame: wire.Frame) -> None:
            if isinstance(frame, SnapshotStart):
                starts.append(frame)
            if isinstance(frame, SnapshotChunk) and frame.number == 3:
                cluster[1].node.snapshot_sender.send(3)

        cluster.network.taps.append(ask_again)
        await cluster[3].start()
        assert await cluster.read(3, "key-59") == "value-59"
        await cluster.until(lambda: told)

        assert len(starts) == 1
        assert told == [True]


async def test_no_more_than_four_views_are_open_and_the_one_idle_for_longest_is_given_up(
    autojump_clock,
) -> None:
    async with running(1) as cluster:
        await cluster.write(1, "key", "value")
        room = cluster[1].node.snapshot_sender
        for peer in range(11, 17):
            view = room._view_for(peer)
            view.is_busy, view.idle_since = peer == 11, float(peer)

        assert list(room._views) == [11, 14, 15, 16]
