"""Whole states between nodes: sent by the leader to who is too far behind, and taken in.

Only the state machine's keys cross, with the index, term and configuration they belong to; never
a vote, a term of another node or an identity. Each snapshot has a connection of its own, so it
holds no heartbeat up, and is read and written in chunks, so neither side holds it in memory.

Owns connections, times and limits; what is said on them, and what is believed, is
`peers/snapshot_transfer.py`'s. When a link breaks, the sender keeps its view of the state and the receiver
what it has staged, each for `_KEEP_SECONDS`: the core asks again as soon as the peer answers, and
the next connection goes on from there. A restart of either side begins anew.

What is written meanwhile stays on the leader's disk (`compaction.DiskLog`) and follows the snapshot
as appends, until the log in memory reaches back to where the peer is. So one snapshot is enough,
however slow the way and however many the writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

import structlog
import trio

from ..driver.replica import Replica
from ..errors import PeerError
from ..peers import wire
from ..peers.link import LOST, Dial, connect
from ..peers.links import Links
from ..peers.snapshot_transfer import (
    Incoming,
    Outgoing,
    SnapshotPosition,
    SnapshotStart,
    SnapshotTaken,
)
from ..raft.log import entry_size
from ..raft.messages import Append, InstallSnapshot
from ..raft.roles import Role
from ..storage.interface import SnapshotInstall, StateReader

_FLUSH_BYTES = 4 * 1024 * 1024
"""A receiver flushes this often, off the loop, so that no write has to wait for RocksDB."""

_SEND_SECONDS = 30.0
"""For one chunk to be taken: the other side writes it to its disk meanwhile."""

_MAX_SENDING = 4
"""Views that are open at once, whether they travel or wait for their peer; one for each peer."""

_KEEP_SECONDS = 60.0
"""For a peer to be back: an open view keeps old data on disk, a staged state is disk space."""

_SWEEP_SECONDS = 5.0

_FEED_BYTES = 256 * 1024
_FEED_WINDOW_BYTES = 4 * 1024 * 1024
"""Of what follows a snapshot, read from the disk: in one message, and without an answer."""

_FEED_PAUSE_SECONDS = 0.01
_FEED_LOST_SECONDS = 2.0
_FEED_PATIENCE_SECONDS = 10.0
"""Between two looks at the answers; until what has none is sent again; until it is given up."""

_ANSWER_BYTES = 16 * 1024
"""Of the longest answer of a receiver, which names a key."""

_ANOTHER = "another connection brings a snapshot"

_log = structlog.get_logger()

Reply = Callable[[wire.Frame], Awaitable[None]]


@dataclass(slots=True)
class _View:
    """The state as of one moment, on its way to one peer, or waiting for it since `idle_since`.

    When the peer has taken it, the reader is closed, and the disk holds what follows for a while.
    """

    outgoing: Outgoing
    reader: StateReader
    is_busy: bool = True
    is_taken: bool = False
    idle_since: float = 0.0


@dataclass(slots=True)
class _Staging:
    """What has come of a state; `scope` is that of the connection that brings more, if any."""

    peer: int
    incoming: Incoming
    install: SnapshotInstall
    scope: trio.CancelScope | None = field(default=None)
    idle_since: float = 0.0


class Snapshots:
    """Sends and receives snapshots for one node."""

    def __init__(self, replica: Replica, links: Links, dial: Dial, rng: Random) -> None:
        """Nothing happens before `run`; `rng` draws the ids of views."""
        self._replica = replica
        self._links = links
        self._dial = dial
        self._rng = rng
        self._nursery: trio.Nursery | None = None
        self._limit = trio.CapacityLimiter(_MAX_SENDING)
        self._sending: set[int] = set()
        self._views: dict[int, _View] = {}
        self._staging: _Staging | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send what is asked for, and give up what nobody comes back for, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                try:
                    while True:
                        await trio.sleep(_SWEEP_SECONDS)
                        self._sweep()
                finally:
                    self._nursery = None  # the driver may take one more turn while all is ended
        finally:
            for peer in list(self._views):
                self._close_view(peer)

    def _sweep(self) -> None:
        """Give up what has waited for too long."""
        oldest = trio.current_time() - _KEEP_SECONDS
        for peer, view in list(self._views.items()):
            if not view.is_busy and view.idle_since <= oldest:
                self._close_view(peer)
        staging = self._staging
        if staging is not None and staging.scope is None and staging.idle_since <= oldest:
            self._unstage()

    # -- sending ----------------------------------------------------------------------------

    def send(self, peer: int) -> None:
        """Start sending a snapshot; its end is told to the core, however it ends (rule D12).

        Asked for again while one is on its way, the end of that one is the answer.
        """
        if self._nursery is not None and peer not in self._sending:
            self._sending.add(peer)
            self._nursery.start_soon(self._send, peer)

    async def _send(self, peer: int) -> None:
        index = 0
        ok = False
        try:
            async with self._limit:
                index = await self._bring_up(peer)
                ok = True
        except LOST as error:
            _log.warning("could not send a snapshot", peer=f"{peer:016x}", error=str(error))
        finally:
            self._sending.remove(peer)
            self._replica.snapshot_sent(peer, index, ok=ok)

    async def _bring_up(self, peer: int) -> int:
        """Send a state, and what follows it; return up to where. Raises one of `LOST`."""
        view, progress = self._views.get(peer), self._replica.core.progress.get(peer)
        index = progress.match if progress is not None else 0
        is_up = view is not None and view.is_taken and index >= view.outgoing.meta.index
        if view is None or not is_up or not self._replica.disk_log.is_held(peer):
            # Else the log in memory has got away from it once more: it needs no second snapshot.
            view = await self._stream(peer)
            index = view.outgoing.meta.index
        view.is_busy = True
        try:
            await self._feed(peer, index)
        except PeerError:
            self._close_view(peer)
            raise
        finally:
            view.is_busy, view.idle_since = False, trio.current_time()
        return index

    async def _stream(self, peer: int) -> _View:
        """Send a state. Raises one of `LOST` when that fails."""
        address = self._links.address_of(peer)
        if address is None:
            raise PeerError("the peer is not a member any more")
        with trio.move_on_after(_SEND_SECONDS) as scope:
            stream = await connect(self._dial, address, self._links.me, peer, wire.Purpose.SNAPSHOT)
        if scope.cancelled_caught:
            raise PeerError("the peer does not answer")
        async with stream:
            view = self._view_for(peer)
            try:
                chunks = await self._converse(stream, peer, view.outgoing)
            finally:
                view.is_busy, view.idle_since = False, trio.current_time()
        index = view.outgoing.meta.index
        _log.info("sent a snapshot", peer=f"{peer:016x}", index=index, chunks=chunks)
        view.is_taken = True
        view.reader.close()
        return view

    async def _feed(self, peer: int, index: int) -> None:
        """Send what follows `index` from the disk, until the log in memory reaches back far enough.

        These are appends like any other: the core counts the answers, and takes over by itself.
        """
        core = self._replica.core
        term = core.term
        feed = _Feed(index, trio.current_time())
        while index < core.log.snapshot_index:
            self._check_leading(term)
            progress = core.progress.get(peer)
            if progress is None:
                raise PeerError("the peer is not a member any more")
            if progress.match >= core.log.snapshot_index:
                return
            feed.heard(progress.match, trio.current_time())
            if feed.next <= core.log.snapshot_index and self._feed_some(peer, feed):
                await trio.lowlevel.checkpoint()
            else:
                await trio.sleep(_FEED_PAUSE_SECONDS)

    def _feed_some(self, peer: int, feed: _Feed) -> bool:
        """Send one append; return whether that was possible now."""
        if feed.unanswered_bytes >= _FEED_WINDOW_BYTES:
            return False
        found = self._replica.storage.read(feed.next, _FEED_BYTES)
        if found is None:
            raise PeerError("what follows the snapshot is compacted: the disk holds only so much")
        (term, entries), core = found, self._replica.core
        message = Append(core.id, peer, core.term, feed.next - 1, term, entries, core.log.commit)
        if not self._links.send(peer, wire.encode(message)):
            return False
        feed.sent(entries[-1].index, sum(map(entry_size, entries)))
        return True

    async def _converse(self, stream: trio.abc.Stream, peer: int, outgoing: Outgoing) -> int:
        """Say what `peers/snapshot_transfer.py` says; return how many chunks were sent."""
        term = self._replica.core.term
        answers = _Answers(stream)
        await _send_all(stream, outgoing.start(term))
        answer = await answers.next()
        if isinstance(answer, SnapshotTaken):
            return 0
        if not isinstance(answer, SnapshotPosition):
            raise PeerError(f"{type(answer).__name__} in answer to the start of a snapshot")
        try:
            outgoing.resume(answer)
        except PeerError:
            self._close_view(peer)
            raise
        chunks = -1
        while not outgoing.is_exhausted:
            self._check_leading(term)
            if self._links.address_of(peer) is None:
                raise PeerError("the peer is not a member any more")
            chunks += 1
            await _send_all(stream, outgoing.next_frame())
        if not isinstance(await answers.next(), SnapshotTaken):
            raise PeerError("the peer did not take the snapshot")
        return chunks

    def _check_leading(self, term: int | None = None) -> None:
        """Only a leader may send, and in its own term only: nobody else may be followed in it."""
        core = self._replica.core
        if core.role is not Role.LEADER or term not in (None, core.term):
            raise PeerError("this node does not lead any more")

    def _view_for(self, peer: int) -> _View:
        """Return the view that waits for `peer`, if it is still of use, or a new one."""
        self._check_leading()
        replica = self._replica
        view = self._views.get(peer)
        # Without the entries that follow it, the peer would need another one right after it.
        if view is not None and not view.is_taken and replica.disk_log.is_held(peer):
            view.is_busy = True
            return view
        self._close_view(peer)
        if len(self._views) >= _MAX_SENDING:
            idle = [(v.idle_since, p) for p, v in self._views.items() if not v.is_busy]
            self._close_view(min(idle)[1])
        # From here to the reader nothing waits: state, index and term are of one moment.
        index = replica.state.applied
        meta = replica.core.meta_at(index)
        chain = replica.storage.snapshot_meta_chain(index)
        meta = type(meta)(meta.index, meta.term, meta.config, chain)
        reader = replica.state.snapshot()
        view = _View(Outgoing(self._rng.getrandbits(64), meta, reader.scan), reader)
        self._views[peer] = view
        replica.disk_log.hold(peer, index)
        return view

    def _close_view(self, peer: int) -> None:
        view = self._views.pop(peer, None)
        if view is not None:
            view.reader.close()
            self._replica.disk_log.release(peer)

    # -- the other side ---------------------------------------------------------------------

    async def receive(
        self, peer: int, frames: trio.MemoryReceiveChannel[wire.Frame], reply: Reply
    ) -> None:
        """Take a snapshot in, and offer it to the core.

        Raises:
            PeerError: It broke off, is damaged, or another one is coming in.

        Cancellation: what has come so far waits for its sender to be back.
        """
        start = await _next(frames)
        if not isinstance(start, SnapshotStart):
            raise PeerError(f"{type(start).__name__} at the start of a snapshot")
        if start.term < self._replica.core.term:
            raise PeerError("the sender of the snapshot does not lead any more")
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
        return index > self._replica.core.log.commit

    def _stage(self, peer: int, start: SnapshotStart) -> _Staging:
        """Return where the snapshot goes, with what there is of it already."""
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
            staging = self._staging = _Staging(peer, Incoming(start), install)
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
            staging.install.write(pairs)
            unflushed += sum(len(key) + len(value) for key, value in pairs)
            if unflushed >= _FLUSH_BYTES:
                unflushed = 0
                await self._replica.flush()
        if incoming.is_whole:
            self._staging = None
            self._offer(staging.peer, incoming, staging.install)
        else:
            self._unstage()
            self._offer(staging.peer, incoming, None)
        await reply(SnapshotTaken(incoming.id))

    def _offer(
        self, peer: int, what: SnapshotStart | Incoming, install: SnapshotInstall | None
    ) -> None:
        """Tell the core; without a state it only answers the leader how far its log is."""
        message = InstallSnapshot(peer, self._replica.core.id, what.term, what.meta)
        self._replica.install_snapshot(message, install)


class _Feed:
    """Entries on their way from the disk to one peer.

    Attributes:
        next: Index of the entry to send next.
        unanswered_bytes: Of what was sent, as far as no answer says that it is there.
    """

    def __init__(self, index: int, now: float) -> None:
        """Begin after `index`."""
        self.next = index + 1
        self.unanswered_bytes = 0
        self._match = index
        self._moved_at = self._sent_again_at = now
        self._unanswered: deque[tuple[int, int]] = deque()

    def sent(self, last: int, size: int) -> None:
        """Take note of entries up to `last`."""
        self._unanswered.append((last, size))
        self.unanswered_bytes += size
        self.next = last + 1

    def heard(self, match: int, now: float) -> None:
        """Take note of how far the peer is; go back to there when what was sent seems lost.

        Raises:
            PeerError: It has not got any further for too long.
        """
        if match > self._match:
            self._match, self._moved_at = match, now
            self.next = max(self.next, match + 1)
            while self._unanswered and self._unanswered[0][0] <= match:
                self.unanswered_bytes -= self._unanswered.popleft()[1]
        elif now - self._moved_at > _FEED_PATIENCE_SECONDS:
            raise PeerError("the peer does not take what follows the snapshot")
        elif now - max(self._moved_at, self._sent_again_at) > _FEED_LOST_SECONDS:
            self._sent_again_at = now
            self._unanswered.clear()
            self.unanswered_bytes, self.next = 0, self._match + 1


class _Answers:
    """What the receiver says, frame by frame."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reader = wire.FrameReader(_ANSWER_BYTES)
        self._frames: list[wire.Frame] = []

    async def next(self) -> wire.Frame:
        with trio.move_on_after(_SEND_SECONDS):
            while not self._frames:
                data = await self._stream.receive_some(_ANSWER_BYTES)
                if not data:
                    raise PeerError("the peer does not want the snapshot")
                self._frames = self._reader.feed(data)
            return self._frames.pop(0)
        raise PeerError("the peer does not answer")


async def _next(frames: trio.MemoryReceiveChannel[wire.Frame]) -> wire.Frame:
    try:
        return await frames.receive()
    except trio.EndOfChannel:
        raise PeerError("the snapshot ended early") from None


async def _send_all(stream: trio.abc.Stream, frame: wire.Frame) -> None:
    await trio.lowlevel.checkpoint()  # Where there is room, sending is none.
    with trio.move_on_after(_SEND_SECONDS) as scope:
        await stream.send_all(wire.encode(frame))
    if scope.cancelled_caught:
        raise PeerError("the peer takes nothing any more")
