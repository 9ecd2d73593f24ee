"""The receiving side of a connection that a peer has made: frames are read and handed on.

Which peers may connect is decided in `links.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from ..net.poller import Poller
from ..net.stream import TcpStream
from . import wire
from .greeting import LOST

RECEIVE_BYTES = 256 * 1024

_SNAPSHOT_SILENCE_SECONDS = 10.0
"""A snapshot whose sender sends nothing for so long is given up."""


class WatchedConnection:
    """A socket on which the messages of one peer arrive, watched by a poller."""

    def __init__(
        self,
        stream: TcpStream,
        reader: wire.FrameReader,
        handle: Callable[[Sequence[wire.Frame]], None],
    ) -> None:
        """`handle` gets the frames of each batch, in the order they were sent.

        It may raise one of `LOST`, which ends the connection.
        """
        self._stream = stream
        self._reader = reader
        self._handle = handle
        self._poller: Poller | None = None
        self._ended = trio.Event()
        self._error: Exception | None = None

    async def run(self, poller: Poller) -> None:
        """Hand on what arrives until the connection ends; raise one of `LOST` if it breaks."""
        self._poller = poller
        fd = self._stream.sock.fileno()
        poller.watch(fd, self._receive)
        try:
            await self._ended.wait()
        finally:
            poller.forget(fd)
        if self._error is not None:
            raise self._error

    def _receive(self) -> None:
        if self._ended.is_set() or self._poller is None:
            return
        try:
            data = self._stream.receive_now(RECEIVE_BYTES)
            if data is None:
                return
            frames = self._reader.feed(data)
        except LOST as error:
            self._error = error
            self._ended.set()
            return
        if not data:
            self._ended.set()
            return
        # The buffer was filled, so more may be waiting; an edge-triggered poller would not say so
        # again.
        if len(data) == RECEIVE_BYTES:
            self._poller.again(self._receive)
        if frames:
            try:
                self._handle(frames)
            except LOST as error:
                self._error = error
                self._ended.set()


async def relay(
    stream: trio.abc.Stream,
    reader: wire.FrameReader,
    frames: list[wire.Frame],
    send: trio.MemorySendChannel[wire.Frame],
) -> None:
    """Pass frames on until the stream ends, or nothing arrives for too long."""
    while True:
        for frame in frames:
            await send.send(frame)
        data = b""
        with trio.move_on_after(_SNAPSHOT_SILENCE_SECONDS):
            data = bytes(await stream.receive_some(RECEIVE_BYTES))
        if not data:
            return
        frames = reader.feed(data)
