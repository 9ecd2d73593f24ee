"""Sends whole states to members that are too far behind, at the leader.

Only the state machine's keys cross, with the index, term and configuration they belong to; never
a vote, a term of another node or an identity. Each snapshot has a connection of its own, so it
delays no heartbeat, and is read and written in chunks, so neither side holds it in memory.

Owns connections, times and limits of the sending side; the conversation, and its checks, are in
`peers/snapshot_transfer.py`. When a link breaks, the sender keeps its view of the
state for `KEEP_SECONDS`, and the receiver what it has staged: the core asks again as soon as the peer
answers, and the next connection goes on from there. A restart of either side begins anew.

What is written meanwhile stays on the leader's disk (`compaction.DiskLog`) and follows the snapshot
as appends (`snapshot_feed.py`). So one snapshot is enough, however slow the way and however many
the writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import structlog
import trio

from ..config.log_limit import LogLimit
from ..driver.replica import Replica
from ..errors import PeerError
from ..measure.histogram import Histogram
from ..peers import snapshot_transfer, wire
from ..peers.greeting import LOST
from ..peers.links import Links
from ..peers.snapshot_transfer import Outgoing, SnapshotPosition, SnapshotTaken
from ..storage.interface import StateReader
from .snapshot_feed import Feed, check_leading

_SEND_SECONDS = 30.0
"""For one chunk to be taken: the other side writes it to its disk meanwhile."""

_MAX_SENDING = 4
"""Views that are open at once, whether they travel or wait for their peer; one for each peer."""

_ANSWER_BYTES = 16 * 1024
"""Of the longest answer of a receiver, which names a key."""

_log = structlog.get_logger()


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


class SnapshotSender:
    """Sends snapshots for one node."""

    def __init__(self, replica: Replica, links: Links, rng: Random) -> None:
        """Nothing happens before `run`; `rng` draws the ids of views."""
        self.sent_total = 0
        self.seconds = Histogram()
        self._replica = replica
        self._facts = replica.facts
        self._links = links
        self._rng = rng
        self._nursery: trio.Nursery | None = None
        self._limit = trio.CapacityLimiter(_MAX_SENDING)
        self._sending: set[int] = set()
        self._views: dict[int, _View] = {}
        self._log_limit = LogLimit()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send what is asked for, and close views whose peer does not come back, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                try:
                    while True:
                        await trio.sleep(snapshot_transfer.SWEEP_SECONDS)
                        self._sweep()
                finally:
                    self._nursery = None  # the driver may take one more turn while all is ended
        finally:
            for peer in list(self._views):
                self._close_view(peer)

    def _sweep(self) -> None:
        """Close the views that have waited for too long."""
        oldest = trio.current_time() - snapshot_transfer.KEEP_SECONDS
        for peer, view in list(self._views.items()):
            if not view.is_busy and view.idle_since <= oldest:
                self._close_view(peer)

    def send(self, peer: int) -> None:
        """Start sending a snapshot; the core is told of its end, however it ends (rule D12).

        While one is on its way to `peer`, no second one is started: its end answers both calls.
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
            if self._log_limit.is_due(peer, str(error)):
                _log.warning("could not send a snapshot", member=peer, error=str(error))
        finally:
            self._sending.remove(peer)
            self._replica.snapshot_sent(peer, index, ok=ok)

    async def _bring_up(self, peer: int) -> int:
        """Send a state, and what follows it; return up to where. Raises one of `LOST`."""
        view, index = self._views.get(peer), self._facts.match_of(peer) or 0
        is_up = view is not None and view.is_taken and index >= view.outgoing.meta.index
        if view is None or not is_up or not self._replica.disk_log.is_held(peer):
            # Else the peer has a snapshot, and only fell behind the log in memory once more.
            view = await self._stream(peer)
            index = view.outgoing.meta.index
        view.is_busy = True
        try:
            await Feed(self._replica, self._links, peer, index).run()
        except PeerError:
            self._close_view(peer)
            raise
        finally:
            view.is_busy, view.idle_since = False, trio.current_time()
        return index

    async def _stream(self, peer: int) -> _View:
        """Send a state. Raises one of `LOST` when that fails."""
        with trio.move_on_after(_SEND_SECONDS) as scope:
            stream = await self._links.connect(peer, wire.Purpose.SNAPSHOT)
        if scope.cancelled_caught:
            raise PeerError("the peer does not answer")
        began = trio.current_time()
        async with stream:
            view = self._view_for(peer)
            try:
                chunks = await self._converse(stream, peer, view.outgoing)
            finally:
                view.is_busy, view.idle_since = False, trio.current_time()
        index = view.outgoing.meta.index
        _log.info("sent a snapshot", member=peer, index=index, chunks=chunks)
        self.sent_total += 1
        self.seconds.observe(trio.current_time() - began)
        view.is_taken = True
        view.reader.close()
        return view

    async def _converse(self, stream: trio.abc.Stream, peer: int, outgoing: Outgoing) -> int:
        """Have the conversation of `peers/snapshot_transfer.py`; return how many chunks were sent."""
        term = self._facts.term
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
            check_leading(self._facts, term)
            if self._links.address_of(peer) is None:
                raise PeerError("the peer is not a member any more")
            chunks += 1
            await _send_all(stream, outgoing.next_frame())
        if not isinstance(await answers.next(), SnapshotTaken):
            raise PeerError("the peer did not take the snapshot")
        return chunks

    def _view_for(self, peer: int) -> _View:
        """Return the view that waits for `peer`, if it is still of use, or a new one."""
        check_leading(self._facts)
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
        meta, reader = replica.open_snapshot()
        view = _View(Outgoing(self._rng.getrandbits(64), meta, reader.scan), reader)
        self._views[peer] = view
        replica.disk_log.hold(peer, meta.index)
        return view

    def _close_view(self, peer: int) -> None:
        view = self._views.pop(peer, None)
        if view is not None:
            view.reader.close()
            self._replica.disk_log.release(peer)


class _Answers:
    """The receiver's answers, frame by frame."""

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


async def _send_all(stream: trio.abc.Stream, frame: wire.Frame) -> None:
    await trio.lowlevel.checkpoint()  # Where there is room, sending is none.
    with trio.move_on_after(_SEND_SECONDS) as scope:
        await stream.send_all(wire.encode(frame))
    if scope.cancelled_caught:
        raise PeerError("the peer takes nothing any more")
