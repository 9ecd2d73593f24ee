"""The links of one node: one outgoing link to each member, and the connections they made to it.

Frames that arrive are handed to the driver in batches, as they were read; what they mean is its
business. What is decided here is only which node is at the other end:

Rule 1: a peer's address may change, and may be learned from any source; which node is there, only
the handshake says (cluster id and node id, rule D14).
Rule 2: a node has one incoming connection for messages per peer: a new one replaces the old, which
TCP may still believe alive after a restart of the peer. All connections of a peer, in both
directions, are of one process of it (`incarnations.py`).
Rule 3: limits on connections, on their hello and on silence bound what a stranger can cost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Protocol

import structlog
import trio

from ..config.log_limit import LogLimit
from ..errors import BadFrame, PeerError
from ..model.cluster_info import PROTOCOL
from ..model.values import is_address
from ..net.poller import Poller
from ..net.stream import TcpStream
from . import frame_check, wire
from .greeting import LOST, Dial, LocalNode, connect, identify
from .incarnations import Incarnations
from .incoming import RECEIVE_BYTES, WatchedConnection, relay
from .link import Link, LinkEvents, LinkFigures

_HELLO_SECONDS = 3.0
# Incoming connections at once; a cluster of seven with snapshots needs about twenty.
_MAX_ACCEPTED = 128

_SNAPSHOT_FRAMES = 4

_log = structlog.get_logger()


class PeerHandler(LinkEvents, Protocol):
    """The driver's side: called with what arrives from peers."""

    def received(self, peer: int, frames: Sequence[wire.Frame]) -> None:
        """Handle frames of `peer`, in the order in which it sent them."""
        ...

    def said_hello(self, peer: int, address: str) -> None:
        """`peer` has connected, and says that it can be dialled at `address`."""
        ...

    def is_removed(self, peer: int) -> bool:
        """Whether `peer` was removed from the cluster for good."""
        ...

    def broke_protocol(self, peer: int, error: BadFrame) -> None:
        """`peer` sent what no node may use; its connection is closed, and it may dial again."""
        ...

    def claimed(self, hello: wire.Hello) -> None:
        """Another cluster counts this node's address among its members': it sent this hello."""
        ...

    async def receive_snapshot(
        self,
        peer: int,
        frames: trio.MemoryReceiveChannel[wire.Frame],
        reply: Callable[[wire.Frame], Awaitable[None]],
    ) -> None:
        """Take in a snapshot of `peer`. Returns, or raises one of `LOST`, when it is over."""
        ...


class Links:
    """All links of a node.

    Attributes:
        accepted_max: Connections from others at the same time; for a further one the oldest of a node
            that is no member is ended, else the oldest that has not said hello, else it is closed.
    """

    def __init__(
        self,
        me: LocalNode,
        handler: PeerHandler,
        *,
        dial: Dial,
        heartbeat_s: Callable[[], float],
        rng: Random,
        poller: Poller | None = None,
    ) -> None:
        """Prepare; nothing happens before `run`.

        Args:
            poller: Watches incoming connections that are sockets. None: each has its own task.
        """
        self.me = me
        self.accepted_max = _MAX_ACCEPTED
        self._poller = poller
        self._handler = handler
        self._dial = dial
        self._heartbeat_s = heartbeat_s
        self._rng = rng
        self._links: dict[int, tuple[Link, trio.CancelScope]] = {}
        self._given: dict[int, str] = {}
        self._accepted: dict[int, tuple[trio.CancelScope, int]] = {}
        self._incarnations = Incarnations(
            me,
            dial,
            stated=lambda peer: self.address_of(peer) or "",
            on_change=self._on_another_process,
        )
        self._log_limit = LogLimit()
        # All that come from others, in that order, with the id in their hello; 0: there was none yet.
        self._serving: dict[trio.CancelScope, int] = {}
        self._nursery: trio.Nursery | None = None
        self._is_over = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links that `set_addresses` asks for, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._is_over = True  # The driver may call `set_addresses` once more after this.

    def set_addresses(self, addresses: Mapping[int, str]) -> None:
        """Keep a link to each of these members (id to `HOST:PORT`), and to no other.

        A new address here replaces what the peer said of itself; an unchanged one does not.
        """
        if self._is_over:
            return
        if self._nursery is None:
            raise RuntimeError("set_addresses before run")
        for peer in [p for p in self._links if p not in addresses]:
            self._links.pop(peer)[1].cancel()
            del self._given[peer]
            if peer in self._accepted:
                self._accepted[peer][0].cancel()
        for peer, address in addresses.items():
            if peer == self.me.node_id:
                continue
            if peer in self._links:
                if self._given[peer] != address:
                    self._given[peer] = address
                    self._move(peer, address)
                continue
            self._given[peer] = address
            link = Link(
                peer,
                address,
                me=self.me,
                dial=self._dial,
                events=self._handler,
                heartbeat_s=self._heartbeat_s,
                rng=self._rng,
                admit=self._admit,
            )
            scope = trio.CancelScope()
            self._links[peer] = link, scope
            self._nursery.start_soon(self._run_link, link, scope)

    def _move(self, peer: int, address: str) -> None:
        link = self._links[peer][0]
        if link.address != address:
            link.address = address
            link.hurry()

    async def _run_link(self, link: Link, scope: trio.CancelScope) -> None:
        with scope:
            await link.run()

    def send(self, peer: int, frame: bytes) -> bool:
        """Send an encoded frame; return False if it was dropped: no link, or its outbox is full."""
        entry = self._links.get(peer)
        if entry is None or not entry[0].send(frame):
            return False
        entry[0].flush()
        return True

    def post(self, peer: int, frame: bytes) -> bool:
        """Queue an encoded frame for the next `flush`; return False if it was dropped."""
        entry = self._links.get(peer)
        return entry is not None and entry[0].send(frame)

    def send_now(self, peer: int, frame: bytes) -> bool:
        """Send an encoded frame at once, from any thread; False: nothing was sent, use `send`."""
        entry = self._links.get(peer)
        return entry is not None and entry[0].send_now(frame)

    def flush(self) -> None:
        """Send queued frames of all links without blocking."""
        for link, _ in self._links.values():
            link.flush()

    def look(self) -> None:
        """Once in a heartbeat: see whether the machines of all peers still answer."""
        for link, _ in self._links.values():
            link.look()

    def address_of(self, peer: int) -> str | None:
        """Return the address at which `peer` is dialled, or None if there is no link to it."""
        entry = self._links.get(peer)
        return entry[0].address if entry else None

    def missing(self) -> dict[int, str]:
        """Return the members without a connection, each with the address that was given for it."""
        return {
            peer: self._given[peer]
            for peer, (link, _) in self._links.items()
            if not link.is_connected
        }

    async def connect(self, peer: int, purpose: wire.Purpose) -> trio.abc.Stream:
        """Open a connection of its own to a member; return it.

        Raises:
            OSError, trio.BrokenResourceError: It does not answer.
            PeerError: It is no member any more, another node answers, or this node is refused.
        """
        address = self.address_of(peer)
        if address is None:
            raise PeerError("the peer is not a member any more")
        return await connect(self._dial, address, self.me, peer, purpose, admit=self._admit)

    async def identify(self, address: str) -> int | None:
        """Find out whether a member without a connection is at `address`; if so, dial it there.

        Returns:
            The member's id, or None if none of the missing members is there. Only the handshake is
            believed, not the source of the address.
        """
        missing = self.missing()
        if not missing or address == self.me.address or not is_address(address):
            return None
        links = [link for link, _ in self._links.values()]
        if any(link.is_connected and link.address == address for link in links):
            return None
        try:
            found = await identify(self._dial, address, self.me, next(iter(missing)))
        except LOST as error:
            _log.debug("no member at this address", address=address, error=str(error))
            return None
        if found not in self.missing():
            return None
        self._move(found, address)
        self._hurry(found)
        return found

    def is_connected(self, peer: int) -> bool:
        """Whether frames to `peer` are sent now."""
        entry = self._links.get(peer)
        return entry is not None and entry[0].is_connected

    def figures(self) -> list[LinkFigures]:
        """Return the figures of each link."""
        return [link.figures() for link, _ in self._links.values()]

    def connections(self) -> int:
        """Return how many connections there are, to peers and from them."""
        return len(self._serving) + sum(link.is_connected for link, _ in self._links.values())

    def dropped(self) -> int:
        """Return how many frames the present links have dropped."""
        return sum(link.dropped for link, _ in self._links.values())

    # -- which process of a peer ------------------------------------------------------------

    async def _admit(self, welcome: wire.Welcome, address: str) -> None:
        """Refuse the process of a peer that this node has dialled, while the known one answers."""
        peer = welcome.node_id
        other = await self._incarnations.admit(peer, welcome.incarnation, address, is_dialled=True)
        if other:
            if self._log_limit.is_due(peer, address):
                _log.warning(
                    "two processes with the id of one peer",
                    member=peer,
                    linked_at=other,
                    not_linked_at=address,
                )
            if peer in self._links:
                self._move(peer, other)
            raise PeerError(f"another process of this peer answers at {other}")

    def _on_another_process(self, peer: int, incarnation: int) -> None:
        """A new process of `peer` is known: close the connections of the earlier one."""
        scope, accepted = self._accepted.get(peer, (None, 0))
        if scope is not None and accepted not in {0, incarnation}:
            scope.cancel()
        if peer in self._links:
            link = self._links[peer][0]
            if link.incarnation not in {0, incarnation}:
                link.reset()

    # -- the other side ---------------------------------------------------------------------

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one incoming connection until it ends; closes `stream`. Its loss is only logged."""
        if len(self._serving) >= self.accepted_max and not self._make_room():
            await trio.aclose_forcefully(stream)
            return
        with trio.CancelScope() as scope:
            self._serving[scope] = 0
            try:
                async with stream:
                    await self._serve(stream, scope)
            except LOST as error:
                _log.debug("peer connection", error=str(error))
            finally:
                self._serving.pop(scope, None)

    def _make_room(self) -> bool:
        """Make room for a connection, which may be a member's; False: all others are members'.

        Anybody may name an id. Who has named that of no member goes before who is saying hello; if it
        is a member that this node does not know yet, it dials again.
        """
        known = {0, *self._links}
        oldest = next((one for one, peer in self._serving.items() if peer not in known), None)
        if oldest is None:
            oldest = next((one for one, peer in self._serving.items() if not peer), None)
        if oldest is None:
            return False
        del self._serving[oldest]
        oldest.cancel()
        return True

    async def _serve(self, stream: trio.abc.Stream, place: trio.CancelScope) -> None:
        reader = wire.FrameReader(wire.MAX_GREETING)
        frames: list[wire.Frame] = []
        hello: wire.Hello | None = None
        with trio.move_on_after(_HELLO_SECONDS):
            await self._read_hello(stream, reader, frames)
            if frames and isinstance(frames[0], wire.Hello) and place in self._serving:
                self._serving[place] = frames[0].node_id
            hello = await self._greet(stream, frames)
        if hello is None or hello.purpose == wire.Purpose.IDENTIFY:
            return
        # The peer has named this cluster's id, so it may send large frames.
        reader.limit = wire.MAX_FRAME
        if hello.purpose == wire.Purpose.SNAPSHOT:
            await self._serve_snapshot(stream, hello.node_id, reader, frames)
        else:
            if hello.address:
                self._handler.said_hello(hello.node_id, hello.address)
                if hello.node_id in self._links:
                    # A member with a new address cannot have it committed before the leader reaches
                    # it, so it is dialled there at once.
                    self._move(hello.node_id, hello.address)
            await self._serve_messages(stream, hello, reader, frames)

    async def _read_hello(
        self, stream: trio.abc.Stream, reader: wire.FrameReader, frames: list[wire.Frame]
    ) -> None:
        """Read until `frames` has one, or the connection ends."""
        while not frames:
            data = await stream.receive_some(4096)
            if not data:
                return
            frames += reader.feed(data)

    async def _greet(self, stream: trio.abc.Stream, frames: list[wire.Frame]) -> wire.Hello | None:
        """Answer the hello; return it if accepted. `frames` keeps what followed it."""
        if not frames:
            return None
        hello = frames.pop(0)
        if not isinstance(hello, wire.Hello):
            raise PeerError(f"{type(hello).__name__} in place of a hello")
        if hello.address and not is_address(hello.address):
            raise PeerError(f"{hello.address[:64]!r} is not an address")
        refusal, other = self._refusal(hello), ""
        is_asking = hello.purpose == wire.Purpose.IDENTIFY
        if not refusal and not is_asking:
            other = await self._incarnations.admit(
                hello.node_id, hello.incarnation, hello.address, is_dialled=False
            )
            refusal = wire.Refusal.DUPLICATE if other else ""
        await stream.send_all(self.me.welcome(refusal, other))
        if not refusal:
            return hello
        if not is_asking:
            self._refused(hello, refusal, other)
        return None

    def _refused(self, hello: wire.Hello, refusal: str, other: str) -> None:
        """Log that a peer was refused. It dials again, and is refused again."""
        if self._log_limit.is_due(hello.node_id, hello.address, refusal):
            more = {"other": other} if other else {}
            _log.warning(
                "refused a peer",
                member=hello.name,
                id=f"{hello.node_id:016x}",
                address=hello.address,
                why=refusal,
                **more,
            )
        if hello.cluster_id != self.me.cluster_id:
            self._handler.claimed(hello)

    def _refusal(self, hello: wire.Hello) -> str:
        """Return why this hello is refused, or an empty string."""
        # In this order: what a node of another format or cluster says of ids means nothing here,
        # and `identify` in greeting.py relies on it. A removed node must not come back under its id
        # (rule D14).
        if hello.protocol != PROTOCOL:
            return wire.Refusal.PROTOCOL
        if hello.cluster_id != self.me.cluster_id:
            return wire.Refusal.CLUSTER
        if hello.to != self.me.node_id or hello.node_id == self.me.node_id:
            return wire.Refusal.WRONG_NODE
        if self._handler.is_removed(hello.node_id):
            return wire.Refusal.REMOVED
        return ""

    async def _serve_messages(
        self,
        stream: trio.abc.Stream,
        hello: wire.Hello,
        reader: wire.FrameReader,
        frames: list[wire.Frame],
    ) -> None:
        """Hand arriving frames to the driver. A new connection of a peer ends its older one."""
        peer = hello.node_id
        if hello.incarnation and hello.incarnation != self._incarnations.of(peer):
            return  # meanwhile another process of the peer was admitted
        if peer in self._accepted:
            self._accepted[peer][0].cancel()
        with trio.CancelScope() as scope:
            self._accepted[peer] = scope, hello.incarnation
            self._hurry(peer)
            try:
                if frames:
                    self._received(peer, frames)
                if self._poller is not None and isinstance(stream, TcpStream):
                    handle = partial(self._received, peer)
                    await WatchedConnection(stream, reader, handle).run(self._poller)
                else:
                    while data := await stream.receive_some(RECEIVE_BYTES):
                        self._received(peer, reader.feed(data))
            except BadFrame as error:
                self._handler.broke_protocol(peer, error)
            finally:
                if self._accepted.get(peer, (None,))[0] is scope:
                    del self._accepted[peer]
        self._hurry(peer)

    def _received(self, peer: int, frames: Sequence[wire.Frame]) -> None:
        frame_check.check(frames)
        self._handler.received(peer, frames)

    def hang_up(self, peer: int) -> None:
        """Close the connection on which the messages of `peer` arrive; it dials again."""
        if peer in self._accepted:
            self._accepted[peer][0].cancel()

    def _hurry(self, peer: int) -> None:
        """The peer shows signs of life, or has gone: if its link is in a pause, dial now."""
        if peer in self._links:
            self._links[peer][0].hurry()

    async def _serve_snapshot(
        self, stream: trio.abc.Stream, peer: int, reader: wire.FrameReader, frames: list[wire.Frame]
    ) -> None:
        """Hand the frames of a snapshot to the driver, no faster than it takes them in."""
        send, receive = trio.open_memory_channel[wire.Frame](_SNAPSHOT_FRAMES)

        async def reply(frame: wire.Frame) -> None:
            await stream.send_all(wire.encode(frame))

        async def take(scope: trio.CancelScope) -> None:
            async with receive:
                try:
                    await self._handler.receive_snapshot(peer, receive, reply)
                except LOST as error:
                    self._snapshot_lost("receiving", peer, error)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, nursery.cancel_scope)
            async with send:
                try:
                    await relay(stream, reader, frames, send)
                except LOST as error:
                    self._snapshot_lost("sending", peer, error)

    def _snapshot_lost(self, at: str, peer: int, error: Exception) -> None:
        """Log it, but not for each of the attempts, which go on until one succeeds."""
        if isinstance(error, BadFrame):
            self._handler.broke_protocol(peer, error)
            return
        if self._log_limit.is_due(at, peer, str(error)):
            _log.warning("a snapshot broke off", member=peer, at=at, error=str(error))
