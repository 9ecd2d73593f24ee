"""One outgoing link: dials a peer, says hello, and sends it frames until the connection breaks.

Connections carry one direction each, so two nodes have two, and neither has to agree with the
other on who dials. A link never waits for its peer: what does not fit into its outbox is dropped
and counted, and consensus sends it again.

A connection that broke is made anew at once. A peer that refuses, or does not answer for a heartbeat,
is *down*: elections depend on it, so `LinkEvents` is told at once.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

import structlog
import trio

from ..errors import PeerError
from ..model import values
from ..model.cluster_info import PROTOCOL
from ..net.flag import Flag
from ..net.stream import TcpStream
from . import wire

Dial = Callable[[str], Awaitable[trio.abc.Stream]]
"""Opens a stream to `HOST:PORT`; raises OSError when nobody answers there."""

CONNECT_SECONDS = 3.0
"""For a connection and its hello; a peer that needs longer is no peer to work with."""

SEND_SECONDS = 10.0
"""For one write: a peer that reads nothing for so long is gone."""

_UNACKNOWLEDGED_SECONDS = 5.0
"""What the peer's machine has not acknowledged for so long ends the connection, and a new one is
made. TCP alone tries for a quarter of an hour, and ever more rarely: when a network is whole again
that was cut for a minute, its links would stay dead for up to another."""

_MAX_OUTBOX_FRAMES = 8192
_MAX_OUTBOX_BYTES = 32 * 1024 * 1024
_PAUSE_MIN, _PAUSE_MAX = 0.05, 1.0
"""Seconds between attempts, doubling, each multiplied by a random factor in [0.5, 1)."""

_STABLE_SECONDS = 0.1
"""A connection that lived for so long is made anew at once; one that ended sooner counts as an
attempt that failed, or two nodes could make and end connections as fast as the machine can."""

_log = structlog.get_logger()

LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, PeerError)
"""Exceptions that mean the connection is lost."""


class LinkEvents(Protocol):
    """Called with what happens to links: on the event loop, and each call returns soon."""

    def link_made(self, peer: int) -> None:
        """Frames to `peer` leave from now on."""
        ...

    def link_broken(self, peer: int) -> None:
        """What was sent to `peer` may be lost; a new attempt is made at once."""
        ...

    def peer_down(self, peer: int, *, refused: bool) -> None:
        """`peer` refuses connections, or has not answered for a heartbeat."""
        ...

    def refused(self, peer: int, refusal: str) -> None:
        """`peer` does not want this node; `refusal` is a `wire.Refusal`."""
        ...


@dataclass(frozen=True, slots=True)
class LocalNode:
    """What this node says of itself to its peers."""

    cluster_id: str
    node_id: int
    name: str
    address: str = ""

    def hello(self, to: int, purpose: wire.Purpose) -> bytes:
        """Return the first frame of a connection."""
        return wire.encode(
            wire.Hello(
                PROTOCOL,
                self.cluster_id,
                self.node_id,
                to,
                self.name,
                purpose,
                self.address,
            )
        )


def is_address(text: str) -> bool:
    """Whether `text` can be dialled: `HOST:PORT` with an IP literal, written as it is everywhere."""
    try:
        host, port = values.split_address(text)
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return text == str(values.Address(host, port))


async def connect(
    dial: Dial, address: str, me: LocalNode, to: int, purpose: wire.Purpose
) -> trio.abc.Stream:
    """Return a connection to `to` on which the hellos are exchanged.

    Raises:
        OSError, trio.BrokenResourceError: No node answers.
        PeerError: It answers, and is not `to`, or refuses; `refusal` of the error says which.
    """
    stream = await dial(address)
    try:
        await stream.send_all(me.hello(to, purpose))
        _check_welcome(await _read_welcome(stream), to)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def identify(dial: Dial, address: str, me: LocalNode, to: int) -> int:
    """Return which node of this cluster is at an address, of which only `to` is to be reached.

    Raises:
        OSError, trio.BrokenResourceError: No node answers.
        PeerError: It is no node of this cluster, or one that does not want this node.
    """
    stream = await dial(address)
    try:
        await stream.send_all(me.hello(to, wire.Purpose.MESSAGES))
        welcome = await _read_welcome(stream)
    finally:
        await trio.aclose_forcefully(stream)
    # Another cluster, or another version, would have been said before that it is another node.
    if welcome.refusal not in {"", wire.Refusal.WRONG_NODE}:
        raise RefusedError(welcome.refusal)
    return welcome.node_id


def _check_welcome(welcome: wire.Welcome, to: int) -> None:
    if welcome.refusal:
        raise RefusedError(welcome.refusal)
    if welcome.node_id != to:
        raise RefusedError(wire.Refusal.WRONG_NODE)


async def _read_welcome(stream: trio.abc.Stream) -> wire.Welcome:
    reader = wire.FrameReader(wire.MAX_GREETING)
    while True:
        data = await stream.receive_some(4096)
        if not data:
            raise PeerError("the connection was closed before its welcome")
        for frame in reader.feed(data):
            if not isinstance(frame, wire.Welcome):
                raise PeerError(f"{type(frame).__name__} in place of a welcome")
            return frame


class RefusedError(PeerError):
    """The peer answered and said no."""

    def __init__(self, refusal: str) -> None:
        """Keep the reason, a `wire.Refusal`, for the caller."""
        super().__init__(f"refused: {refusal}")
        self.refusal = refusal


class Link:
    """The way to one peer.

    Attributes:
        peer: Its id.
        address: Where it is dialled; may be changed, and holds from the next attempt on.
        is_connected: Whether frames leave now.
        dropped: Frames that were not sent, or not known to be.
    """

    def __init__(
        self,
        peer: int,
        address: str,
        *,
        me: LocalNode,
        dial: Dial,
        events: LinkEvents,
        heartbeat_s: Callable[[], float],
        rng: Random,
    ) -> None:
        """Prepare a link; `run` makes it."""
        self.peer = peer
        self.address = address
        self.is_connected = False
        self.dropped = 0
        self._me = me
        self._dial = dial
        self._events = events
        self._heartbeat_s = heartbeat_s
        self._rng = rng
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._ready = Flag()
        self._hurry = Flag()
        self._stream: trio.abc.Stream | None = None
        # The part of the last frames that the socket had no room for: it leaves before all else.
        # While there is a stream, it is changed with the lock: `send_now` comes from another thread.
        self._rest = b""
        self._lock = threading.Lock()  # for one system call, which does not wait

    def send(self, frame: bytes) -> bool:
        """Put an encoded frame into the outbox; return False when it was dropped instead.

        It leaves with the next `flush`.
        """
        full = (
            len(self._outbox) >= _MAX_OUTBOX_FRAMES
            or self._outbox_bytes + len(self._rest) + len(frame) > _MAX_OUTBOX_BYTES
        )
        if full or not self.is_connected:
            self.dropped += 1
            return False
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)
        return True

    def flush(self) -> None:
        """Send queued frames without blocking; what the socket has no room for is left to this link's task."""
        if not self._outbox and not self._rest:
            return
        with self._lock:
            stream = self._stream
            if isinstance(stream, TcpStream):
                self._rest = _send(stream, self._take())
                if not self._rest:
                    return
        self._ready.set()

    def send_now(self, frame: bytes) -> bool:
        """Send an encoded frame, from any thread, before what is in the outbox.

        Returns:
            False where that cannot be. True is no promise: a `flush` may have to send the rest.
        """
        with self._lock:
            stream = self._stream
            if self._rest or not isinstance(stream, TcpStream):
                return False
            self._rest = _send(stream, frame)
            return True

    def _take(self) -> bytes:
        """Take all that waits to be sent."""
        if self._rest:
            self._outbox.insert(0, self._rest)
            self._rest = b""
        data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
        self._outbox.clear()
        self._outbox_bytes = 0
        return data

    def hurry(self) -> None:
        """Try again now rather than after the pause: the peer gave a sign of life or of death."""
        self._hurry.set()

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        pause = 0.0
        while True:
            if pause:
                with trio.move_on_after(pause * self._rng.uniform(0.5, 1.0)):
                    await self._hurry.wait()
            lived = await self._attempt()
            is_stable = lived >= _STABLE_SECONDS
            pause = 0.0 if is_stable else min(max(2 * pause, _PAUSE_MIN), _PAUSE_MAX)

    async def _attempt(self) -> float:
        """Connect and send until it breaks; return for how many seconds it was connected."""
        was_connected = was_refused = False
        since = 0.0
        try:
            stream = await self._connect()
            async with stream:
                _limit_patience(stream)
                was_connected = self.is_connected = True
                since = trio.current_time()
                self._events.link_made(self.peer)
                _log.info("connected to peer", peer=f"{self.peer:016x}", address=self.address)
                await self._pump(stream)
        except RefusedError as error:
            self._events.refused(self.peer, error.refusal)
        except LOST as error:
            was_refused = isinstance(error, ConnectionRefusedError)
            _log.debug("peer link", peer=f"{self.peer:016x}", error=str(error))
        finally:
            self.is_connected = False
            self.dropped += len(self._outbox) + bool(self._rest)
            self._take()
        if was_connected:
            _log.info("lost the link to peer", peer=f"{self.peer:016x}")
            self._events.link_broken(self.peer)
        else:
            self._events.peer_down(self.peer, refused=was_refused)
        return trio.current_time() - since if was_connected else 0.0

    async def _connect(self) -> trio.abc.Stream:
        """Connect, and say that the peer is down when that takes longer than a heartbeat."""
        result: trio.abc.Stream | Exception = PeerError(f"no welcome in {CONNECT_SECONDS} s")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_silence)
            # Caught inside: a nursery would wrap it into a group.
            with trio.move_on_after(CONNECT_SECONDS):
                try:
                    result = await connect(
                        self._dial, self.address, self._me, self.peer, wire.Purpose.MESSAGES
                    )
                except LOST as error:
                    result = error
            nursery.cancel_scope.cancel()
        if isinstance(result, Exception):
            raise result
        return result

    async def _watch_silence(self) -> None:
        await trio.sleep(self._heartbeat_s())
        self._events.peer_down(self.peer, refused=False)

    async def _pump(self, stream: trio.abc.Stream) -> None:
        """Send what is in the outbox whenever there is something, until the connection ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_end, stream, nursery.cancel_scope)
            while True:
                self._stream = stream
                try:
                    await self._ready.wait()
                finally:
                    # What comes meanwhile waits behind this; and nothing goes into a closed socket.
                    with self._lock:
                        self._stream = None
                data = self._take()
                sent = False
                with trio.move_on_after(SEND_SECONDS), contextlib.suppress(*LOST):
                    await stream.send_all(data)
                    sent = True
                if not sent:
                    break
                if self._outbox:
                    self._ready.set()
            nursery.cancel_scope.cancel()

    async def _watch_end(self, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
        """Notice at once that the peer closed: nothing else is ever received on this side."""
        with contextlib.suppress(*LOST):
            await stream.receive_some(1)
        scope.cancel()


def _send(stream: TcpStream, data: bytes) -> bytes:
    """Send what there is room for, and return the rest."""
    try:
        sent = stream.send_now(data)
    except trio.BrokenResourceError:
        sent = 0  # The task finds out by itself.
    return data[sent:]


def _limit_patience(stream: trio.abc.Stream) -> None:
    """See `_UNACKNOWLEDGED_SECONDS`; where the system has no such limit, TCP's own holds."""
    if isinstance(stream, TcpStream) and hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = int(_UNACKNOWLEDGED_SECONDS * 1000)
        stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
