"""A network in memory between the nodes of one test: it can be slow, silent, refusing, or cut.

Each connection is two `trio.testing` memory streams with a pump between them, so that bytes on
their way can be held, delayed or lost with it. Frames that a node hands to a connection can be
looked at (`taps`), changed or lost (`edit`) at the very moment at which they leave it. Owns no
node; `model/cluster_info.py` does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable

import trio
from trio.testing import memory_stream_pair

from hstore.node.errors import PeerError
from hstore.node.peers import wire
from hstore.node.peers.greeting import LOST

Tap = Callable[[int, int, wire.Frame], None]
Edit = Callable[[int, int, wire.Frame], wire.Frame | None]


class Way:
    """How bytes get from one node to another.

    Attributes:
        delay_s: How long each piece takes.
        is_refusing: New connections are refused.
    """

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.is_refusing = False
        self._open = trio.Event()
        self._open.set()

    def hold(self) -> None:
        """Let nothing through until `release`: no byte, no end of a connection, no new one."""
        if self._open.is_set():
            self._open = trio.Event()

    def release(self) -> None:
        self._open.set()

    async def passage(self) -> None:
        """Wait for as long as a piece of data needs."""
        await self._open.wait()
        if self.delay_s:
            await trio.sleep(self.delay_s)
            await self._open.wait()


class Listener:
    """Who answers at an address; `serve` is None while nobody does."""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.serve: Callable[[trio.abc.Stream], None] | None = None


class Network:
    """All ways between the nodes of a test.

    Attributes:
        listeners: By peer address.
        taps: Called with (from, to, frame) for each frame that a node hands to a connection.
        edit: When set, says what becomes of each such frame: another one, or None: it is lost.
        connections: How many have been made, by (from, to).
        dials: How many have been tried.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.listeners: dict[str, Listener] = {}
        self.ways: defaultdict[tuple[int, int], Way] = defaultdict(Way)
        self.taps: list[Tap] = []
        self.edit: Edit | None = None
        self.connections: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.dials: defaultdict[tuple[int, int], int] = defaultdict(int)
        self._scopes: dict[trio.CancelScope, tuple[int, int]] = {}
        self._open: list[_Tapped] = []

    def dialler(self, frm: int) -> Callable[[str], Awaitable[trio.abc.Stream]]:
        """Return node `frm`'s way to open connections."""

        async def dial(address: str) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            listener = self.listeners.get(address)
            if listener is None:
                raise OSError(f"no route to {address}")
            to = listener.node_id
            self.dials[frm, to] += 1
            await self.ways[frm, to].passage()
            if listener.serve is None or self.ways[frm, to].is_refusing:
                raise ConnectionRefusedError(f"{address} refuses")
            await self.ways[to, frm].passage()
            return self._connect(frm, to, listener.serve)

        return dial

    def _connect(
        self, frm: int, to: int, serve: Callable[[trio.abc.Stream], None]
    ) -> trio.abc.Stream:
        near, far_of_near = memory_stream_pair()
        far, near_of_far = memory_stream_pair()
        self.connections[frm, to] += 1
        ends = _Tapped(near, self, frm, to), _Tapped(far, self, to, frm)
        self._nursery.start_soon(self._carry_both, *ends, far_of_near, near_of_far)
        serve(ends[1])
        return ends[0]

    async def _carry_both(
        self, near: _Tapped, far: _Tapped, one: trio.abc.Stream, other: trio.abc.Stream
    ) -> None:
        scope = trio.CancelScope()
        frm, to = near.ends
        self._scopes[scope] = (frm, to)
        self._open.append(near)
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, near, one, other, scope)
                nursery.start_soon(self._carry, far, other, one, scope)
        del self._scopes[scope]
        self._open.remove(near)
        await trio.aclose_forcefully(one)
        await trio.aclose_forcefully(other)

    async def _carry(
        self,
        end: _Tapped,
        source: trio.abc.Stream,
        target: trio.abc.Stream,
        scope: trio.CancelScope,
    ) -> None:
        while True:
            try:
                data = await source.receive_some()
            except LOST:
                data = b""
            await self.ways[end.ends].passage()
            await end.stalled_until.wait()
            if not data:
                break
            end.delivered += len(data)
            try:
                await target.send_all(data)
            except LOST:
                break
        scope.cancel()

    def between(self, *nodes: int) -> list[Way]:
        """Return the ways between any two of these."""
        return [self.ways[a, b] for a in nodes for b in nodes if a != b]

    def reset(self, *nodes: int) -> None:
        """Break all connections between these; what was on its way is lost. Others can be made."""
        for scope, (frm, to) in list(self._scopes.items()):
            if frm in nodes and to in nodes:
                scope.cancel()

    def stall(self, frm: int, to: int) -> None:
        """Let nothing through any more on the connections that `frm` has made to `to`; new ones work.

        As where a packet was lost, and TCP waits before it sends that again.
        """
        for near in self._open:
            if near.ends == (frm, to):
                near.stalled_until = trio.Event()

    def refuse(self, frm: int, to: int) -> None:
        """Break the connections that `frm` made to `to`, and refuse new ones until `heal`."""
        self.ways[frm, to].is_refusing = True
        for scope, ends in list(self._scopes.items()):
            if ends == (frm, to):
                scope.cancel()

    def heal(self) -> None:
        """Make every way good again."""
        for way in self.ways.values():
            way.is_refusing = False
            way.delay_s = 0.0
            way.release()

    def leave(self, frm: int, to: int, data: bytes, reader: wire.FrameReader) -> bytes:
        """Look at what leaves node `frm`, and return what shall leave."""
        out = []
        try:
            frames = reader.feed(data)
        except PeerError:
            return data  # What a test sends that no node would.
        for frame in frames:
            for tap in self.taps:
                tap(frm, to, frame)
            edited = self.edit(frm, to, frame) if self.edit else frame
            if edited is not None:
                out.append(wire.encode(edited))
        return b"".join(out) if self.edit else data


class _Tapped(trio.abc.Stream):
    """One end of a connection, as its node has it."""

    def __init__(self, inner: trio.abc.Stream, network: Network, frm: int, to: int) -> None:
        self._inner = inner
        self._network = network
        self.ends = frm, to
        self.sent = self.delivered = 0
        self.stalled_until = trio.Event()
        self.stalled_until.set()
        self._reader = wire.FrameReader()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        data = self._network.leave(*self.ends, bytes(data), self._reader)
        self.sent += len(data)
        await self._inner.send_all(data)

    def acknowledged(self) -> tuple[int, int]:
        return self.delivered, self.sent - self.delivered

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._inner.aclose()
