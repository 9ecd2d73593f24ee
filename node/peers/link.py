"""One outgoing link: dials a peer, says hello, and sends it frames until the connection is lost.

A connection carries frames in one direction, so two nodes have two connections, and need not agree
on which of them dials.

Rule 1: a link never waits for its peer. A frame that does not fit into the outbox is dropped and
counted; consensus sends again what it still needs (rule D13: the network may drop).
Rule 2: a lost connection is dialled again at once, later attempts after growing pauses.
Rule 3: a connection on which the peer's machine acknowledges nothing for two heartbeats is made anew
beside the old one, and given up once the new one is welcomed. What was lost on it is sent again by
TCP only after pauses that double, up to seconds after the network is well again.
Rule 4: a peer that refuses connections, or does not answer for a heartbeat, is reported as *down*;
an election can then begin before the leader's lease is over (`raft/election.py`).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from random import Random
from typing import NamedTuple, Protocol, runtime_checkable

import structlog
import trio

from ..config.log_limit import LogLimit
from ..errors import PeerError
from ..net.flag import Flag
from ..net.stream import TcpStream
from . import wire
from .greeting import LOST, Admit, Dial, LocalNode, RefusedError, connect

# For a connection and its hello. A peer that needs longer is treated as unreachable.
CONNECT_SECONDS = 3.0

# For one write. A peer that reads nothing for so long is treated as lost.
SEND_SECONDS = 10.0

# A connection is given up, and dialled anew, when the peer's machine has acknowledged nothing for
# so long. TCP alone goes on for about a quarter of an hour, at ever longer intervals: after a
# network was cut for a minute, its links could stay silent for up to another.
_UNACKNOWLEDGED_SECONDS = 5.0

SILENT_HEARTBEATS = 2
"""After so many without an acknowledgement of what was sent, a connection is made anew."""

_SECOND_LOOK = 0.1
"""Heartbeats after which a silent connection is looked at once more, before it is given up."""

_BESIDE_SECONDS_MIN = 0.2
"""For a dial beside a silent connection at least, however short heartbeats are."""

_MAX_OUTBOX_FRAMES = 8192
_MAX_OUTBOX_BYTES = 32 * 1024 * 1024
# Seconds between attempts, doubling, each multiplied by a random factor in [0.5, 1): without it,
# nodes that lost each other at the same moment would go on dialling at the same moments.
_PAUSE_MIN, _PAUSE_MAX = 0.05, 0.5

REDIAL_SECONDS = _PAUSE_MAX
"""The longest pause before a peer is dialled again. A new seed listens for two of them before it leads
(`process/first_start.py`)."""

# A connection that lasted for so long is dialled again at once. One that ended sooner counts as a
# failed attempt: else two nodes could make and lose connections as fast as the machine can.
_STABLE_SECONDS = 0.1

_log = structlog.get_logger()


@runtime_checkable
class _Acknowledging(Protocol):
    """A stream that knows what the other machine has acknowledged, as `TcpStream` does."""

    def acknowledged(self) -> tuple[int, int]:
        """Return how many bytes it has acknowledged, and how much it has not."""
        ...


class LinkEvents(Protocol):
    """Calls that a link makes, all of them on the event loop. Each must return soon."""

    def link_made(self, peer: int) -> None:
        """Frames to `peer` are sent from now on."""
        ...

    def link_broken(self, peer: int) -> None:
        """Frames sent to `peer` may be lost. The link dials again at once."""
        ...

    def peer_down(self, peer: int, *, refused: bool) -> None:
        """`peer` refuses connections, or has not answered for a heartbeat."""
        ...

    def refused(self, peer: int, refusal: str, other: str = "") -> None:
        """`peer` refused this node's hello.

        Args:
            peer: Its id.
            refusal: A `wire.Refusal`.
            other: With `DUPLICATE`: where another process of this node answers.
        """
        ...


class LinkFigures(NamedTuple):
    """What a `Link` has counted, as its attributes say; and seconds of a round trip, if known."""

    peer: int
    is_connected: bool
    sent_bytes: int
    dropped: int
    rtt_s: float | None


class Link:
    """The connection to one peer, made again whenever it is lost.

    Attributes:
        peer: Its id.
        address: Where it is dialled. May be changed; used from the next attempt on.
        is_connected: Whether frames are sent now.
        incarnation: The process at the other end of the present connection; 0: there is none.
        renewed: How often a connection was made anew beside one that was silent.
        dropped: Frames that were not sent, or only in part.
        sent_bytes: Of frames that were handed to the system.
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
        admit: Admit | None = None,
    ) -> None:
        """Prepare a link; `run` makes it. `admit` judges the process that answers."""
        self.peer = peer
        self.address = address
        self.is_connected = False
        self.incarnation = 0
        self.dropped = self.sent_bytes = 0
        self.renewed = 0
        self._admit = admit
        self._current = trio.CancelScope()
        self._log_limit = LogLimit()
        self._is_flapping = False
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
        # The part of the last write that the socket had no room for; it must be sent before
        # anything else, or a frame would be torn. While `_stream` is set, it is changed only with
        # the lock, because `send_now` is called from the thread that flushes.
        self._rest = b""
        self._rest_frames = 1
        self._lock = threading.Lock()  # Held for one system call, which does not wait.
        self._live: trio.abc.Stream | None = None  # the present connection
        self._acknowledged = 0
        self._acknowledged_at = 0.0
        self._silent = Flag()
        self._spare: tuple[trio.abc.Stream, int] | None = None  # with the process at its other end

    def send(self, frame: bytes) -> bool:
        """Put an encoded frame into the outbox; return False if it was dropped instead.

        The next `flush` sends it.
        """
        # Nothing is queued for a link without a connection: by the time there is one, consensus has
        # newer messages, and old ones would only be in their way.
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
        """Send queued frames without blocking; the link's task sends what finds no room."""
        if not self._outbox and not self._rest:
            return
        with self._lock:
            stream = self._stream
            if isinstance(stream, TcpStream):
                data, frames = self._take()
                rest = _send(stream, data)
                self.sent_bytes += len(data) - len(rest)
                if not rest:
                    return
                self._keep(rest, frames)
        self._ready.set()

    def send_now(self, frame: bytes) -> bool:
        """Send an encoded frame before those in the outbox. May be called from any thread.

        Returns:
            False if nothing was sent. True does not mean all of it: the rest is sent by the next
            `flush`.
        """
        with self._lock:
            stream = self._stream
            if self._rest or not isinstance(stream, TcpStream):
                return False
            self._rest = _send(stream, frame)
            self.sent_bytes += len(frame) - len(self._rest)
            self._rest_frames = 1
            return True

    def _take(self) -> tuple[bytes, list[bytes]]:
        """Return all bytes that wait to be sent, and the pieces they are made of; forget them."""
        frames, self._outbox = self._outbox, []
        self._outbox_bytes = 0
        if self._rest:
            frames.insert(0, self._rest)
            self._rest = b""
        else:
            self._rest_frames = 1  # The first piece is one frame, as each that follows.
        return frames[0] if len(frames) == 1 else b"".join(frames), frames

    def _keep(self, rest: bytes, frames: list[bytes]) -> None:
        """Keep what was not sent of `frames`, as `_take` returned them, for the next time."""
        first = self._rest_frames
        self._rest, self._rest_frames = rest, 0
        left = len(rest)
        for at in range(len(frames) - 1, -1, -1):
            if left <= 0:
                break
            left -= len(frames[at])
            self._rest_frames += first if at == 0 else 1

    def _drop_all(self) -> None:
        """Forget and count what waits to be sent."""
        frames = len(self._outbox) + (self._rest_frames if self._rest else 0)
        self.dropped += frames
        self._take()

    def figures(self) -> LinkFigures:
        """Return its figures; the round trip as the system measures it."""
        rtt_s = self._live.rtt_s() if isinstance(self._live, TcpStream) else None
        return LinkFigures(self.peer, self.is_connected, self.sent_bytes, self.dropped, rtt_s)

    def hurry(self) -> None:
        """Try to connect now instead of after the pause: the peer may have come up or gone down."""
        self._hurry.set()

    def reset(self) -> None:
        """End the present connection, if there is one; the link dials again."""
        self._current.cancel()

    def look(self) -> None:
        """Once in a heartbeat: see whether the peer's machine still acknowledges what is sent."""
        if self._is_silent():
            self._silent.set()

    def _is_silent(self) -> bool:
        stream = self._live
        if not isinstance(stream, _Acknowledging):
            return False
        acknowledged, missing = stream.acknowledged()
        now = trio.current_time()
        if acknowledged != self._acknowledged or not missing:
            self._acknowledged, self._acknowledged_at = acknowledged, now
        return now - self._acknowledged_at >= SILENT_HEARTBEATS * self._heartbeat_s()

    async def run(self) -> None:
        """Keep the link connected until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._renew_forever)
                await self._run()
        finally:
            self._drop_spare()

    async def _run(self) -> None:
        pause = 0.0
        while True:
            if pause:
                with trio.move_on_after(pause * self._rng.uniform(0.5, 1.0)):
                    await self._hurry.wait()
            lived = await self._attempt()
            is_stable = lived >= _STABLE_SECONDS
            pause = 0.0 if is_stable else min(max(2 * pause, _PAUSE_MIN), _PAUSE_MAX)

    async def _attempt(self) -> float:
        """Connect and send until the connection is lost; return the seconds it was connected."""
        was_connected = was_refused = False
        since = 0.0
        # Connections that end as soon as they are made would fill the log.
        is_logged = not self._is_flapping or self._log_limit.is_due("connected")
        try:
            with trio.CancelScope() as self._current:
                stream = self._take_spare() or await self._connect()
                async with stream:
                    _set_user_timeout(stream)
                    was_connected = self.is_connected = True
                    self._live, self._acknowledged = stream, -1
                    since = trio.current_time()
                    self._events.link_made(self.peer)
                    if is_logged:
                        _log.info("connected to peer", member=self.peer, address=self.address)
                    await self._pump(stream)
        except RefusedError as error:
            self._events.refused(self.peer, error.refusal, error.other)
        except LOST as error:
            was_refused = isinstance(error, ConnectionRefusedError)
            _log.debug("peer link", member=self.peer, error=str(error))
        finally:
            self.is_connected = False
            self.incarnation = 0
            self._live = None
            self._drop_all()
        if was_connected:
            if is_logged:
                _log.info("lost the link to peer", member=self.peer, address=self.address)
            self._events.link_broken(self.peer)
        elif not self._current.cancelled_caught:
            self._events.peer_down(self.peer, refused=was_refused)
        if not was_connected:
            return 0.0
        lived = trio.current_time() - since
        self._is_flapping = lived < _STABLE_SECONDS
        return lived

    async def _connect(self) -> trio.abc.Stream:
        """Connect; report the peer as down if that takes longer than a heartbeat."""
        result: trio.abc.Stream | Exception = PeerError(f"no welcome in {CONNECT_SECONDS} s")
        dialling = self._dial, self.address, self._me, self.peer, wire.Purpose.MESSAGES
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_silence)
                # Caught here, because the nursery would wrap the exception into a group.
                with trio.move_on_after(CONNECT_SECONDS):
                    try:
                        result = await connect(*dialling, admit=self._welcomed)
                    except LOST as error:
                        result = error
                nursery.cancel_scope.cancel()
        except BaseException:  # Cancelled while the nursery ended, with a connection already made.
            if not isinstance(result, Exception):
                await trio.aclose_forcefully(result)
            raise
        if isinstance(result, Exception):
            raise result
        return result

    # -- a connection beside the old one ------------------------------------------------------

    async def _renew_forever(self) -> None:
        """Dial beside a silent connection, one dial at a time, with pauses that double."""
        pause = 0.0
        while True:
            await self._silent.wait()
            before = self._live
            if before is None or not self._is_silent():
                continue
            made = await self._dial_beside()
            if self._live is not before:
                self._drop_spare()  # The old one has ended by itself, and was dialled again.
            elif made:
                self.renewed += 1
                self.reset()
            pause = 0.0 if made else min(max(2 * pause, _PAUSE_MIN), _PAUSE_MAX)
            if pause:
                await trio.sleep(pause * self._rng.uniform(0.5, 1.0))

    async def _dial_beside(self) -> bool:
        """Dial once, and keep the connection in `_spare` if it is welcomed; return whether it was."""
        incarnation = 0

        async def dial(address: str) -> trio.abc.Stream:
            stream = await self._dial(address)
            # The hello ends the old connection at the peer. Not if that one goes on by itself now.
            is_silent = False
            try:
                await trio.sleep(_SECOND_LOOK * self._heartbeat_s())
                is_silent = self._is_silent()
            finally:
                if not is_silent:  # Or cancelled.
                    await trio.aclose_forcefully(stream)
            if not is_silent:
                raise PeerError("the old connection is acknowledged again")
            return stream

        async def admit(welcome: wire.Welcome, address: str) -> None:
            nonlocal incarnation
            if self._admit is not None:
                await self._admit(welcome, address)
            incarnation = welcome.incarnation

        # Not for `CONNECT_SECONDS`: one lost packet of the handshake would cost a second, and
        # another dial less.
        patience = max(SILENT_HEARTBEATS * self._heartbeat_s(), _BESIDE_SECONDS_MIN)
        with trio.move_on_after(min(patience, CONNECT_SECONDS)):
            try:
                stream = await connect(
                    dial,
                    self.address,
                    self._me,
                    self.peer,
                    wire.Purpose.MESSAGES,
                    admit=admit,
                )
            except LOST as error:  # A refusal as well: the connection that stands has its own end.
                _log.debug("no new link beside a silent one", member=self.peer, error=str(error))
                return False
            self._spare = stream, incarnation
            return True
        return False

    def _take_spare(self) -> trio.abc.Stream | None:
        if self._spare is None:
            return None
        (stream, self.incarnation), self._spare = self._spare, None
        return stream

    def _drop_spare(self) -> None:
        stream = self._take_spare()
        if isinstance(stream, TcpStream):
            stream.sock.close()

    async def _welcomed(self, welcome: wire.Welcome, address: str) -> None:
        if self._admit is not None:
            await self._admit(welcome, address)
        self.incarnation = welcome.incarnation

    async def _watch_silence(self) -> None:
        await trio.sleep(self._heartbeat_s())
        self._events.peer_down(self.peer, refused=False)

    async def _pump(self, stream: trio.abc.Stream) -> None:
        """Send the outbox each time that `_ready` is raised, until the connection is lost."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_end, stream, nursery.cancel_scope)
            while True:
                # While this task waits, `flush` and `send_now` write to the socket themselves, so
                # most frames leave without a task switch. Only what the socket has no room for is
                # sent by this task.
                self._stream = stream
                try:
                    await self._ready.wait()
                finally:
                    # From here on `flush` and `send_now` leave the socket alone, so nothing
                    # overtakes `data`, and nothing is written to a socket after it was closed.
                    with self._lock:
                        self._stream = None
                data, frames = self._take()
                sent = False
                try:
                    with trio.move_on_after(SEND_SECONDS), contextlib.suppress(*LOST):
                        await stream.send_all(data)
                        sent = True
                        self.sent_bytes += len(data)
                finally:
                    if not sent:  # Some of them may have left. Not known is which.
                        self._keep(data, frames)
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
    """Send as much as the socket has room for; return the rest."""
    try:
        sent = stream.send_now(data)
    except trio.BrokenResourceError:
        sent = 0  # The connection is lost, which the link's task notices by itself.
    return data[sent:]


def _set_user_timeout(stream: trio.abc.Stream) -> None:
    """Set `_UNACKNOWLEDGED_SECONDS` on a socket; without such an option TCP's own limit holds."""
    if isinstance(stream, TcpStream) and hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = int(_UNACKNOWLEDGED_SECONDS * 1000)
        stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
