"""Takes in whole states that a leader sends to this node.

Owns the part of a snapshot that has arrived (it is *staged*), and the limits of the receiving side;
the conversation, and its checks, are in `peers/snapshot_transfer.py`. When the connection breaks, the
staged part waits `KEEP_SECONDS` for its sender to be back. A whole snapshot is offered to the core,
which takes or refuses it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from ..driver.replica import Replica
from ..errors import BadFrame, PeerError
from ..peers import snapshot_transfer, wire
from ..peers.snapshot_transfer import Incoming, SnapshotStart, SnapshotTaken
from ..raft import membership
from ..raft.messages import InstallSnapshot
from ..state.intact import StateCheck
from ..storage.codec import CHAIN_SIZE
from ..storage.interface import SnapshotInstall

_FLUSH_BYTES = 4 * 1024 * 1024
"""A receiver flushes this often, off the loop, so that no write has to wait for RocksDB."""

_ANOTHER = "another connection brings a snapshot"

Reply = Callable[[wire.Frame], Awaitable[None]]
"""Sends a frame back on the connection that brings the snapshot."""


@dataclass(slots=True)
class _Staging:
    """What has arrived of a state; `scope` is that of the connection that brings more, if any."""

    peer: int
    incoming: Incoming
    install: SnapshotInstall
    check: StateCheck
    scope: trio.CancelScope | None = field(default=None)
    idle_since: float = 0.0


class SnapshotReceiver:
    """Receives snapshots for one node, one at a time."""

    def __init__(self, replica: Replica) -> None:
        """Nothing is given up before `run`."""
        self._replica = replica
        self._facts = replica.facts
        self._staging: _Staging | None = None

    async def run(self) -> None:
        """Give up what no sender comes back for, until cancelled."""
        while True:
            await trio.sleep(snapshot_transfer.SWEEP_SECONDS)
            staging, oldest = self._staging, trio.current_time() - snapshot_transfer.KEEP_SECONDS
            if staging is not None and staging.scope is None and staging.idle_since <= oldest:
                self._unstage()

    async def receive(
        self, peer: int, frames: trio.MemoryReceiveChannel[wire.Frame], reply: Reply
    ) -> None:
        """Take a snapshot in, and offer it to the core.

        Raises:
            PeerError: It broke off, is damaged, or another one is coming in.

        Cancellation: the part that has arrived waits for its sender to be back.
        """
        start = await _next(frames)
        if not isinstance(start, SnapshotStart):
            raise PeerError(f"{type(start).__name__} at the start of a snapshot")
        self._replica.check_term(peer, start.term)
        if start.term < self._facts.term:
            raise PeerError("the sender of the snapshot does not lead any more")
        _check_start(start)
        if not self._is_needed(start.meta.index):
            self._offer(peer, start, None)
            await reply(SnapshotTaken(start.id))
            return
        staging = self._stage(peer, start)
        with trio.CancelScope() as scope:
            staging.scope = scope
            try:
                await self._receive_into(staging, scope, frames, reply)
            finally:
                if staging.scope is scope:
                    staging.scope, staging.idle_since = None, trio.current_time()
        if scope.cancelled_caught:
            raise PeerError(_ANOTHER)

    def _is_needed(self, index: int) -> bool:
        return index > self._facts.commit_index

    def _stage(self, peer: int, start: SnapshotStart) -> _Staging:
        """Return where the snapshot is staged, with what has arrived of it already."""
        if self._replica.is_installing:
            raise PeerError("another snapshot is coming in")
        staging = self._staging
        if staging is not None and staging.scope is not None:
            # The same sender knows better than this node which of its connections is alive, and
            # a newer leader which snapshot is of use.
            if peer != staging.peer and start.term <= staging.incoming.term:
                raise PeerError("another snapshot is coming in")
            staging.scope.cancel()
            staging.scope = None
        if staging is None or not staging.incoming.continues(start):
            self._unstage()
            install = self._replica.storage.begin_install()
            staging = self._staging = _Staging(peer, Incoming(start), install, StateCheck())
        return staging

    def _unstage(self) -> None:
        staging, self._staging = self._staging, None
        if staging is not None:
            staging.install.abort()

    async def _receive_into(
        self,
        staging: _Staging,
        scope: trio.CancelScope,
        frames: trio.MemoryReceiveChannel[wire.Frame],
        reply: Reply,
    ) -> None:
        incoming = staging.incoming
        await reply(incoming.position())
        unflushed = 0
        while not incoming.is_whole:
            frame = await _next(frames)
            if staging.scope is not scope:
                # Cancelled while this frame was handed over, which cannot be cancelled any more.
                raise PeerError(_ANOTHER)
            if not self._is_needed(incoming.meta.index):
                break  # The log has come first.
            pairs = incoming.take(frame)
            try:
                staging.check.take(pairs)
                if incoming.is_whole:
                    staging.check.end(incoming.meta.index, incoming.meta.term)
            except BadFrame:
                self._unstage()  # Another connection must not go on behind these pairs.
                raise
            staging.install.write(pairs)
            unflushed += sum(len(key) + len(value) for key, value in pairs)
            if unflushed >= _FLUSH_BYTES:
                unflushed = 0
                await self._replica.flush()
                self._check_room()
        if incoming.is_whole:
            self._staging = None
            self._offer(staging.peer, incoming, staging.install)
        else:
            self._unstage()
            self._offer(staging.peer, incoming, None)
        await reply(SnapshotTaken(incoming.id))

    def _check_room(self) -> None:
        """Give the state up if it does not fit: the node stops when its disk is full.

        Only then, and not on a disk that is merely short: the state that comes may be much smaller
        than the one it replaces.
        """
        space = self._replica.disk_space
        space.check()
        if space.room.is_tight:
            self._unstage()
            raise PeerError(f"there is no room for the snapshot: {space.room}")

    def _offer(
        self, peer: int, what: SnapshotStart | Incoming, install: SnapshotInstall | None
    ) -> None:
        """Tell the core; without a state it only answers the leader how far its log is."""
        message = InstallSnapshot(peer, self._facts.id, what.term, what.meta)
        self._replica.install_snapshot(message, install)


def _check_start(start: SnapshotStart) -> None:
    meta = start.meta
    is_sound = meta.term <= start.term and membership.is_sound(meta.config)
    if not is_sound or len(meta.chain) != CHAIN_SIZE:
        raise BadFrame("a snapshot that no leader of its term can have made")


async def _next(frames: trio.MemoryReceiveChannel[wire.Frame]) -> wire.Frame:
    try:
        return await frames.receive()
    except trio.EndOfChannel:
        raise PeerError("the snapshot ended early") from None
