"""Snapshots on their way: connections that break, and what the receiver has staged (S3 to S6).

What is said on a connection is the product's own (`node/peers/snapshot_transfer.py`), with chunks of a few
keys; this module takes the place of `node/cluster/snapshot_sender.py` and its receiver: one connection for
each peer, a view that outlives it, a staging area that a crash empties. In some runs a snapshot goes as one
message instead, and the network does with it what it does with others.

What was staged lies on the receiver's disk among its other writes, and the installed state is made
of what is there: of half a staging area it would be half a state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.node.errors import PeerError
from hstore.node.peers.snapshot_transfer import (
    Incoming,
    Outgoing,
    Pairs,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotPosition,
)
from hstore.node.raft.core import Core
from hstore.node.raft.events import Receive, SnapshotSent
from hstore.node.raft.messages import InstallSnapshot
from hstore.node.raft.roles import Role

from . import machine
from .options import TICK, stream
from .tape import decision

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation


_TABLE_CHUNKS = 16
"""So many times as much is in a chunk where there are tables: they have as many more pairs."""


class _View:
    """A state as of one moment, on its way to one peer, or waiting for it."""

    __slots__ = ("boot", "is_busy", "outgoing")

    def __init__(self, boot: int, outgoing: Outgoing) -> None:
        self.boot = boot
        self.outgoing = outgoing
        self.is_busy = True


class Staging:
    """What has come of a state: the name of its place on the disk, and the connection if any."""

    __slots__ = ("frm", "incoming", "link", "place")

    def __init__(self, frm: int, incoming: Incoming, place: int) -> None:
        self.frm = frm
        self.incoming = incoming
        self.place = place
        self.link: _Link | None = None


class _Link:
    """One connection, in the name of one term."""

    __slots__ = ("receiver", "receiver_boot", "sender", "staging", "term", "to", "view")

    def __init__(self, sender: SimNode, to: int, term: int, view: _View) -> None:
        self.sender = sender
        self.to = to
        self.term = term
        self.view = view
        self.receiver: SimNode | None = None
        self.receiver_boot = 0
        self.staging: Staging | None = None


class Snapshots:
    """All connections that bring snapshots."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self._views: dict[tuple[int, int], _View] = {}
        self._ids = 0
        self._cuts = stream(seed, "stream cut")
        self._damages = stream(seed, "chunk damage")
        self._repeats = stream(seed, "chunk repeat")
        self._gaps = stream(seed, "chunk gap")
        self._positions = stream(seed, "snapshot position")
        self._delays = stream(seed, "chunk delay")
        self._crashes = stream(seed, "install crash")
        self._calm = stream(seed, "calm stream")

    # -- decisions ----------------------------------------------------------------------------

    @decision(lambda _, frm, to: f"{frm}>{to}", lambda *_: "")
    def draw_fate(self, frm: int, to: int) -> str:
        """Return what goes wrong with a chunk, if anything."""
        options = self.sim.options
        if self.sim.is_healed:
            return ""
        for fate, rng, chance in (
            ("cut", self._cuts, options.stream_cut),
            ("damaged", self._damages, options.chunk_damage),
            ("twice", self._repeats, options.chunk_repeat),
            ("missing", self._gaps, options.chunk_gap),
        ):
            if chance and rng.random() < chance:
                return fate
        return ""

    @decision(lambda _, frm, to: f"{frm}>{to}", lambda *_: False)
    def draw_position_damage(self, frm: int, to: int) -> bool:
        """Whether a receiver's word of what it holds is damaged."""
        if self.sim.is_healed or not self.sim.options.chunk_damage:
            return False
        return self._positions.random() < self.sim.options.chunk_damage

    @decision(lambda _, frm, to: f"{frm}>{to}", lambda *_: 0)
    def draw_chunk_delay(self, frm: int, to: int) -> int:
        """Return how long a chunk is on its way."""
        if self.sim.is_healed:
            return self._calm.randrange(10)
        return self._delays.randrange(self.sim.options.snapshot_mean)

    @decision(lambda _, node, step: f"{node} {step}", lambda *_: False)
    def draw_death(self, node: int, step: str) -> bool:
        """Whether a node dies at this step of an install."""
        return self._crashes.random() < self.sim.options.install_crash

    def dies(self, node: SimNode, step: str) -> bool:
        """Whether a node dies now, at this step of an install (S6)."""
        if not self.sim.options.install_crash or self.sim.is_healed:
            return False
        if not self.draw_death(node.id, step):
            return False
        self.sim.counts[f"crash in an install: {step}"] += 1
        return True

    # -- sending ------------------------------------------------------------------------------

    def send(self, node: SimNode, core: Core, peer: int) -> None:
        """Bring a peer the state as it is now, or the rest of what it has of an earlier one."""
        view = self._views.get((node.id, peer))
        if view is not None and view.boot == node.boot:
            if view.is_busy:
                # The end of that one is the answer.
                return
            if view.outgoing.meta.index < core.log.snapshot_index:
                view = None
        else:
            view = None
        if view is None:
            view = self._views[node.id, peer] = _View(node.boot, self._outgoing(node, core))
        view.is_busy = True
        link = _Link(node, peer, core.term, view)
        self.sim.after(self.sim.faults.draw_snapshot(node.id), self._connect, link)

    def _outgoing(self, node: SimNode, core: Core) -> Outgoing:
        content = node.content
        meta = core.meta_at(content.applied)
        chain = node.disk.image.chain_at(meta.index)
        assert chain is not None
        self.sim.checker.snapshot_taken(node, meta, chain)
        pairs = machine.pairs_of(content, chain)
        self._ids += 1
        return Outgoing(
            self._ids, meta,
            lambda start: iter([pair for pair in pairs if pair[0] >= start]),
            chunk_pairs=self.sim.options.chunk_pairs * (_TABLE_CHUNKS if content.pairs else 1),
        )  # fmt: skip

    def _may_send(self, link: _Link) -> bool:
        """Whether the sender still leads in the term of the connection; else that ends it."""
        core = link.sender.core
        if core is not None and core.term == link.term and core.role is Role.LEADER:
            return True
        self.sim.counts["snapshots whose sender has gone on to another term"] += 1
        self._end(link, is_ok=False)
        return False

    def _is_linked(self, link: _Link) -> bool:
        """Whether the connection lasts; whoever is gone or replaced ends it."""
        receiver, staging, cut = link.receiver, link.staging, self.sim.network.cut
        here, there = (link.sender.id, link.to), (link.to, link.sender.id)
        if (
            receiver is not None
            and receiver.is_alive(link.receiver_boot)
            and (staging is None or staging.link is link)
            and here not in cut
            and there not in cut
        ):
            return True
        self._end(link, is_ok=False)
        return False

    def _end(self, link: _Link, *, is_ok: bool) -> None:
        """The connection is over; the sender's core hears of it (rule D12)."""
        if link.staging is not None and link.staging.link is link:
            link.staging.link = None
        sender, view = link.sender, link.view
        view.is_busy = False
        key = (sender.id, link.to)
        if is_ok and self._views.get(key) is view:
            del self._views[key]
        if sender.is_alive(view.boot):
            sender.give(SnapshotSent(link.to, view.outgoing.meta.index if is_ok else 0, is_ok))

    # -- connections --------------------------------------------------------------------------

    def _connect(self, link: _Link) -> None:
        sender, counts = link.sender, self.sim.counts
        if not sender.is_alive(link.view.boot):
            return
        if sender.is_paused:
            self.sim.after(TICK, self._connect, link)
            return
        receiver = link.receiver = self.sim.nodes.get(link.to)
        link.receiver_boot = receiver.boot if receiver is not None else 0
        if not self._may_send(link) or not self._is_linked(link):
            return
        assert receiver is not None
        if self.sim.faults.draw_snapshot_loss(sender.id) or receiver.is_paused:
            self._end(link, is_ok=False)
            return
        self.sim.checker.leaving(sender, self._offer_of(link, link.term))
        if not self._begin(link, receiver):
            return
        assert link.staging is not None
        position = link.staging.incoming.position()
        counts["streams begun" if not position.chunks else "streams resumed"] += 1
        if self.draw_position_damage(sender.id, link.to):
            position = SnapshotPosition(
                position.id, position.chunks + 1, position.after + b"?", position.digest
            )
        try:
            link.view.outgoing.resume(position)
        except PeerError:
            counts["positions of no use"] += 1
            self._views.pop((sender.id, link.to), None)
            self._end(link, is_ok=False)
            return
        self._send_chunk(link)

    def _begin(self, link: _Link, receiver: SimNode) -> bool:
        """Let the receiver make room; return whether it wants to have the state."""
        core, start = receiver.core, link.view.outgoing.start(link.term)
        assert core is not None
        if start.term < core.term or receiver.offered:
            self._end(link, is_ok=False)
            return False
        if start.meta.index <= core.log.commit:
            receiver.give(Receive(self._offer_of(link, start.term)))
            self._end(link, is_ok=True)
            return False
        staging = receiver.staging
        if staging is not None and staging.link is not None:
            if staging.frm != link.sender.id and start.term <= staging.incoming.term:
                self._end(link, is_ok=False)
                return False
            self.sim.counts["streams that make way for a newer one"] += 1
            self._end(staging.link, is_ok=False)
        if staging is None or not staging.incoming.continues(start):
            if staging is not None:
                self.sim.counts["snapshots over one that is staged"] += 1
            place = receiver.disk.begin_stage()
            staging = receiver.staging = Staging(link.sender.id, Incoming(start), place)
        staging.link, link.staging = link, staging
        return True

    def _send_chunk(self, link: _Link) -> None:
        if not link.sender.is_alive(link.view.boot):
            self._end(link, is_ok=False)
            return
        if link.sender.is_paused:
            self.sim.after(TICK, self._send_chunk, link)
            return
        if not self._may_send(link):
            return
        frm, to = link.sender.id, link.to
        frame, fate = link.view.outgoing.next_frame(), self.draw_fate(frm, to)
        if fate:
            self.sim.counts[f"chunks: {fate}"] += 1
        if fate == "missing" and isinstance(frame, SnapshotChunk):
            frame = link.view.outgoing.next_frame()
        elif fate in ("cut", "missing"):
            self._end(link, is_ok=False)
            return
        if fate == "damaged":
            frame = _damaged(frame)
        times = 2 if fate == "twice" else 1
        self.sim.after(self.draw_chunk_delay(frm, to), self._arrive, (link, frame, times))

    def _arrive(self, planned: tuple[_Link, SnapshotChunk | SnapshotEnd, int]) -> None:
        link, frame, times = planned
        if not self._is_linked(link):
            return
        receiver, staging = link.receiver, link.staging
        assert receiver is not None
        assert receiver.core is not None
        assert staging is not None
        if receiver.is_paused:
            self.sim.after(TICK, self._arrive, planned)
            return
        incoming = staging.incoming
        if incoming.meta.index <= receiver.core.log.commit:
            # The log has come first.
            self.sim.counts["streams that the log was faster than"] += 1
            receiver.staging = None
            receiver.give(Receive(self._offer_of(link, incoming.term)))
            self._end(link, is_ok=True)
            return
        for _ in range(times):
            if not incoming.is_whole and not self._take(link, receiver, staging, frame):
                self._end(link, is_ok=False)
                return
        if not incoming.is_whole:
            self._send_chunk(link)
        elif self.dies(receiver, "all is staged"):
            receiver.crash()
            self._end(link, is_ok=False)
        else:
            self._end(link, is_ok=True)
            receiver.staging = None
            receiver.offer(self._offer_of(link, incoming.term), staging.place)

    def _take(
        self, link: _Link, receiver: SimNode, staging: Staging, frame: SnapshotChunk | SnapshotEnd
    ) -> bool:
        """Let the receiver have a frame; return whether the connection lasts."""
        try:
            pairs = staging.incoming.take(frame)
        except PeerError:
            self.sim.counts["chunks not taken"] += 1
            return False
        if pairs and not self._write(receiver, staging, pairs):
            receiver.crash()
            return False
        return True

    def _write(self, receiver: SimNode, staging: Staging, pairs: Pairs) -> bool:
        if self.sim.disks.is_refused(receiver, "write"):
            return False
        receiver.disk.write_stage(staging.place, pairs)
        return not self.dies(receiver, "while staging")

    def _offer_of(self, link: _Link, term: int) -> InstallSnapshot:
        return InstallSnapshot(link.sender.id, link.to, term, link.view.outgoing.meta)


def _damaged(frame: SnapshotChunk | SnapshotEnd) -> SnapshotChunk | SnapshotEnd:
    """Return a frame with a wrong bit."""
    if isinstance(frame, SnapshotEnd):
        return SnapshotEnd(frame.id, frame.chunks, bytes([frame.digest[0] ^ 1]) + frame.digest[1:])
    data = frame.data[:-1] + bytes([frame.data[-1] ^ 1])
    return SnapshotChunk(frame.id, frame.number, frame.after, data, frame.digest)
