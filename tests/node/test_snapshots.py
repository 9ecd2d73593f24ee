"""Whole states between nodes: for who is too far behind, in chunks, whatever happens meanwhile."""

from __future__ import annotations

import msgspec
import pytest
import trio
import trio.testing

from hstore.node import compaction, snapshot_transfer, snapshots, wire
from hstore.node.raft.entry import SnapshotMeta
from hstore.node.raft.messages import InstallSnapshot
from hstore.node.snapshot_transfer import (
    SnapshotChunk,
    SnapshotEnd,
    SnapshotStart,
    decode_pairs,
)
from hstore.node.storage.interface import APPLIED_KEY
from tests.node.cluster import Cluster, Member, running


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


DAMAGES = {
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
        assert state_of(cluster[3]) == state_of(cluster[1])
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
        assert state_of(cluster[3]) == state_of(cluster[1])


async def test_d12_the_core_is_told_how_every_snapshot_ends(autojump_clock) -> None:
    """A peer whose snapshot failed would otherwise be fed nothing for ever."""
    async with running(3) as cluster:
        told: list[bool] = []
        leader = cluster[1].node.replica
        tell = leader.snapshot_sent

        def listen(peer: int, index: int, *, ok: bool) -> None:
            told.append(ok)
            tell(peer, index, ok=ok)

        leader.snapshot_sent = listen  # type: ignore[method-assign]
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
    monkeypatch.setattr(snapshots, "_FLUSH_BYTES", 1)
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
