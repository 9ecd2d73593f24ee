"""Whole states between nodes: sent by the leader to who is too far behind, and taken in.

Only the state machine's keys cross, with the index, term and configuration they belong to; never
a vote, a term of another node or an identity. Each snapshot has a connection of its own, so it
holds no heartbeat up, and is read and written in chunks, so neither side holds it in memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import structlog
import trio

from . import wire
from .errors import PeerError
from .link import LOST, Dial, connect
from .peers import Peers
from .raft.messages import InstallSnapshot
from .raft.roles import Role
from .replica import Replica
from .storage.interface import SnapshotInstall

_CHUNK_BYTES = 256 * 1024
_CHUNK_PAIRS = 512
"""One chunk is read, or written, without a pause: small keys are held short."""

_FLUSH_BYTES = 4 * 1024 * 1024
"""A receiver flushes this often, off the loop, so that no write has to wait for RocksDB."""

_SEND_SECONDS = 30.0
"""For one chunk to be taken: the other side writes it to its disk meanwhile."""

_MAX_SENDING = 4
"""Snapshots on their way out at once; another peer's waits for its turn."""

_log = structlog.get_logger()

Pairs = list[tuple[bytes, bytes]]


class Snapshots:
    """Sends and receives snapshots for one node."""

    def __init__(self, replica: Replica, peers: Peers, dial: Dial) -> None:
        """Nothing happens before `run`."""
        self._replica = replica
        self._peers = peers
        self._dial = dial
        self._nursery: trio.Nursery | None = None
        self._limit = trio.CapacityLimiter(_MAX_SENDING)
        self._receiving = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send what is asked for, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def send(self, peer: int) -> None:
        """Start sending a snapshot; its end is told to the core, however it ends (rule D12)."""
        if self._nursery is not None:
            self._nursery.start_soon(self._send, peer)

    async def _send(self, peer: int) -> None:
        index = 0
        ok = False
        try:
            async with self._limit:
                index = await self._stream(peer)
                ok = True
        except LOST as error:
            _log.warning("could not send a snapshot", peer=f"{peer:016x}", error=str(error))
        finally:
            self._replica.snapshot_sent(peer, index, ok=ok)

    async def _stream(self, peer: int) -> int:
        """Send the present state; return its index. Raises one of `LOST` when that fails."""
        address = self._peers.address_of(peer)
        if address is None:
            raise PeerError("the peer is not a member any more")
        with trio.move_on_after(_SEND_SECONDS) as scope:
            stream = await connect(self._dial, address, self._peers.me, peer, wire.Purpose.SNAPSHOT)
        if scope.cancelled_caught:
            raise PeerError("the peer does not answer")
        async with stream:
            # From here to the reader nothing waits: state, index and term are of one moment.
            replica = self._replica
            if replica.core.role is not Role.LEADER:
                # The term may be another leader's by now: nobody may lead it but that one.
                raise PeerError("this node does not lead any more")
            index = replica.state.applied
            meta = replica.core.meta_at(index)
            chain = replica.storage.snapshot_meta_chain(index)
            meta = type(meta)(meta.index, meta.term, meta.config, chain)
            reader = replica.state.snapshot()
            try:
                start = wire.SnapshotStart(replica.core.term, meta)
                await _send_all(stream, start)
                crc = count = 0
                for pairs in _chunks(reader.scan(b"")):
                    crc = _crc(pairs, crc)
                    count += len(pairs)
                    await _send_all(stream, wire.SnapshotChunk(pairs, crc))
                await _send_all(stream, wire.SnapshotEnd(count, crc))
            finally:
                reader.close()
            # The receiver closes once it has handed the snapshot to its core.
            with trio.move_on_after(_SEND_SECONDS) as scope:
                await stream.receive_some(1)
            if scope.cancelled_caught:
                raise PeerError("the peer did not take the snapshot")
        _log.info("sent a snapshot", peer=f"{peer:016x}", index=index, keys=count)
        return index

    # -- the other side ---------------------------------------------------------------------

    async def receive(self, peer: int, frames: trio.MemoryReceiveChannel[wire.Frame]) -> None:
        """Take a snapshot in, and offer it to the core.

        Raises:
            PeerError: It is not whole, or another one is coming in.

        Cancellation: what has come so far is thrown away.
        """
        if self._receiving or self._replica.is_installing:
            raise PeerError("another snapshot is coming in")
        self._receiving = True
        staged = self._replica.storage.begin_install()
        offered = False
        try:
            start = await _next(frames)
            if not isinstance(start, wire.SnapshotStart):
                raise PeerError(f"{type(start).__name__} at the start of a snapshot")
            await self._receive_chunks(frames, staged)
            message = InstallSnapshot(peer, self._replica.core.id, start.term, start.meta)
            self._replica.install_snapshot(message, staged)
            offered = True
        finally:
            self._receiving = False
            if not offered:
                staged.abort()

    async def _receive_chunks(
        self, frames: trio.MemoryReceiveChannel[wire.Frame], staged: SnapshotInstall
    ) -> None:
        crc = count = unflushed = 0
        while True:
            frame = await _next(frames)
            if isinstance(frame, wire.SnapshotEnd):
                if (frame.count, frame.crc) != (count, crc):
                    raise PeerError("the snapshot is not whole")
                return
            if not isinstance(frame, wire.SnapshotChunk):
                raise PeerError(f"{type(frame).__name__} inside a snapshot")
            crc = _crc(frame.pairs, crc)
            count += len(frame.pairs)
            if crc != frame.crc:
                raise PeerError("a chunk of the snapshot is damaged")
            staged.write(frame.pairs)
            unflushed += sum(len(key) + len(value) for key, value in frame.pairs)
            if unflushed >= _FLUSH_BYTES:
                unflushed = 0
                await self._replica.flush()


async def _next(frames: trio.MemoryReceiveChannel[wire.Frame]) -> wire.Frame:
    try:
        return await frames.receive()
    except trio.EndOfChannel:
        raise PeerError("the snapshot ended early") from None


async def _send_all(stream: trio.abc.Stream, frame: wire.Frame) -> None:
    with trio.move_on_after(_SEND_SECONDS) as scope:
        await stream.send_all(wire.encode(frame))
    if scope.cancelled_caught:
        raise PeerError("the peer takes nothing any more")


def _chunks(pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[Pairs]:
    """Cut an iteration into lists of about `_CHUNK_BYTES`, or of `_CHUNK_PAIRS`."""
    chunk: Pairs = []
    size = 0
    for key, value in pairs:
        chunk.append((key, value))
        size += len(key) + len(value) + 16
        if size >= _CHUNK_BYTES or len(chunk) >= _CHUNK_PAIRS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _crc(pairs: Pairs, crc: int) -> int:
    """Continue the CRC-32 over keys and values, each preceded by its length."""
    for key, value in pairs:
        crc = zlib.crc32(len(key).to_bytes(4) + key + len(value).to_bytes(4), crc)
        crc = zlib.crc32(value, crc)
    return crc
