"""Connections in memory, as TCP has them: slow, cut, held up, refused, and small.

A connection is two pipes. What is written into one comes out at its other end later, in order, in
pieces of any size; a pipe holds so much and then lets who writes wait. Nothing in the middle is
ever lost, except with the connection: then some first part of what was on its way may yet arrive.
A *way* leads from one host to another, and what befalls it befalls all pipes there: held, nothing
comes out, no end of a connection is seen, and no new one is made. Clients are host 0.
A pipe that is *stalled* is held by itself: a new connection on the same way works.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

import trio

from ..options import stream

if TYPE_CHECKING:
    from .simulation import WholeSimulation

CLIENTS = 0
_REPLY = b"\x94\x29"
"""How a `wire.ForwardReply` begins; what else has these bytes may be stalled as well."""
_RECORDED_BYTES = 20_000
"""Of each connection between nodes, to be replayed."""


class Way:
    """From one host to another."""

    def __init__(self) -> None:
        self.is_held = False
        self.is_refusing = False
        self.pipes: dict[Pipe, None] = {}
        self.dialling = trio.lowlevel.ParkingLot()

    def hold(self) -> None:
        """Let nothing come out."""
        self.is_held = True

    def release(self) -> None:
        """Let it all come out."""
        self.is_held = False
        self.dialling.unpark_all()
        for pipe in self.pipes:
            pipe.wake()


class Pipe:
    """One direction of a connection.

    Attributes:
        size: Bytes on their way.
        written: Bytes that were ever put on their way.
        is_stalled: Nothing comes out any more, not even the end.
        sent: The first that were written, for replays.
    """

    def __init__(self, wires: Wires, frm: int, to: int) -> None:
        self.wires = wires
        self.ends = frm, to
        self.way = wires.ways[frm, to]
        self.size = self.written = 0
        self.sent = bytearray()
        self.is_stalled = False
        self.is_finished = False
        self.is_broken = False
        self.is_deserted = False
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._last_due = 0.0
        self._writer = trio.lowlevel.ParkingLot()
        self._reader = trio.lowlevel.ParkingLot()
        self.way.pipes[self] = None

    def wake(self) -> None:
        """Something has changed for who waits at either end."""
        self._writer.unpark_all()
        self._reader.unpark_all()

    def check_writable(self) -> None:
        """Raise what a socket raises."""
        if self.is_finished:
            raise trio.ClosedResourceError("closed here")
        if self.is_broken or self.is_deserted:
            raise trio.BrokenResourceError("the connection is gone")

    async def write(self, data: bytes) -> None:
        """Put bytes on their way; waits while there are too many."""
        await trio.lowlevel.checkpoint()
        self.check_writable()
        while self.size >= self.wires.options.window and self.size:
            self.wires.counts["a sender waits for a slow reader"] += 1
            await self._writer.park()
            self.check_writable()
        if not data:
            return
        wires = self.wires
        frm, to = self.ends
        if frm and to:
            wires.sim.trace.note(f"sent {frm} {to}", data)
            if len(self.sent) < _RECORDED_BYTES:
                self.sent += data
        self._last_due = max(self._last_due, trio.current_time() + wires.draw_delay())
        self._pieces.append((self._last_due, data))
        self.size += len(data)
        self.written += len(data)
        self._reader.unpark_all()
        wires.noticed(self, data)

    async def read(self, max_bytes: int | None) -> bytes:
        """Return what has come, at least a byte; nothing at the end."""
        await trio.lowlevel.checkpoint()
        while True:
            if self.is_deserted:
                raise trio.ClosedResourceError("closed here")
            wait = None
            if not self.way.is_held and not self.is_stalled:
                if self._pieces:
                    wait = self._pieces[0][0] - trio.current_time()
                    if wait <= 0:
                        return self._take(max_bytes or 65536)
                elif self.is_broken:
                    raise trio.BrokenResourceError("the connection was reset")
                elif self.is_finished:
                    return b""
            if wait is None:
                await self._reader.park()
            else:
                with trio.move_on_after(wait):
                    await self._reader.park()

    def missing(self) -> int:
        """Return how many bytes the other host has not acknowledged: it takes what has come."""
        if self.way.is_held or self.is_stalled:
            return self.size
        now = trio.current_time()
        return sum(len(data) for due, data in self._pieces if due > now)

    def _take(self, max_bytes: int) -> bytes:
        now, taken = trio.current_time(), bytearray()
        most = self.wires.draw_split(max_bytes, len(self._pieces[0][1]))
        while self._pieces and self._pieces[0][0] <= now and len(taken) < most:
            due, data = self._pieces.popleft()
            room = most - len(taken)
            if len(data) > room:
                self._pieces.appendleft((due, data[room:]))
                data = data[:room]
            taken += data
        self.size -= len(taken)
        self._writer.unpark_all()
        return bytes(taken)

    def cut(self, keep: float) -> None:
        """Break, and lose what was on its way but for a first part of it."""
        if self.is_broken:
            return
        self.is_broken = True
        left = int(self.size * keep)
        if 0 < left < self.size:
            self.wires.counts["cut in what was on its way"] += 1
        kept: deque[tuple[float, bytes]] = deque()
        for due, data in self._pieces:
            if left > 0:
                kept.append((due, data[:left]))
                left -= len(data)
        self._pieces = kept
        self.size = sum(len(data) for _, data in kept)
        self.wake()


class End(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    def __init__(self, out: Pipe, into: Pipe) -> None:
        self.out = out
        self.into = into

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        await self.out.write(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """It never blocks for long."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Read."""
        return await self.into.read(max_bytes)

    async def send_eof(self) -> None:
        """Say that no more comes."""
        await trio.lowlevel.checkpoint()
        self.out.is_finished = True
        self.out.wake()

    def acknowledged(self) -> tuple[int, int]:
        """Return what a socket of the system tells of itself (`peers/link.py`)."""
        if not self.out.wires.options.stall_every:
            return 0, 0  # Runs of other seeds stay as they are.
        missing = self.out.missing()
        return self.out.written - missing, missing

    async def aclose(self) -> None:
        """Close both directions."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close at once."""
        self.out.is_finished = self.into.is_deserted = True
        self.out.wires.forget(self)
        self.out.wake()
        self.into.wake()


Serve = Callable[[trio.abc.Stream], None]


class Wires:
    """All connections of a run.

    Attributes:
        listeners: Who serves at an address, by address: (host, function or None).
        ends: All that are open, in the order in which they were made.
        old: What earlier connections carried: (from, to, bytes).
        awaited: The next reply on these ways stalls its connection, with itself on it.
    """

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.options = sim.options
        self.counts = sim.counts
        self.ways: defaultdict[tuple[int, int], Way] = defaultdict(Way)
        self.listeners: dict[str, tuple[int, Callable[[], Serve | None]]] = {}
        self.ends: dict[End, None] = {}
        self.old: deque[tuple[int, int, bytes]] = deque(maxlen=40)
        self.awaited: set[tuple[int, int]] = set()
        self.delay_mean, self.tail = self.options.delay_mean, self.options.tail
        self._delays: Random = stream(sim.seed, "delays")
        self._tails: Random = stream(sim.seed, "tails")
        self._splits: Random = stream(sim.seed, "splits")

    # -- draws ------------------------------------------------------------------------------

    def draw_delay(self) -> float:
        """Return how long a piece of data is on its way."""
        delay = self._delays.expovariate(1 / self.delay_mean)
        if self.tail and self._tails.random() < self.tail:
            self.counts["very late"] += 1
            delay += self._tails.expovariate(1 / self.options.tail_mean)
        return delay

    def draw_split(self, most: int, there: int) -> int:
        """Return how many bytes a reader gets at most."""
        if self.options.split and self._splits.random() < self.options.split:
            self.counts["part of a piece"] += 1
            return self._splits.randint(1, min(most, max(there, 2)))
        return most

    # -- connections ------------------------------------------------------------------------

    def dialler(self, frm: int) -> Callable[[str], Awaitable[trio.abc.Stream]]:
        """Return how host `frm` opens connections."""

        async def dial(address: str) -> trio.abc.Stream:
            return await self.dial(frm, address)

        return dial

    async def dial(self, frm: int, address: str) -> End:
        """Open a connection; raises OSError when nobody answers there."""
        if address not in self.listeners:
            await trio.lowlevel.checkpoint()
            raise OSError(f"no route to {address}")
        to, serving = self.listeners[address]
        await self._pass(frm, to)
        serve = serving()
        if serve is None or self.ways[frm, to].is_refusing:
            self.counts["refused a connection"] += 1
            raise ConnectionRefusedError(f"{address} refuses")
        await self._pass(to, frm)
        serve = serving()
        if serve is None:
            raise ConnectionResetError(f"{address} has gone")
        there, back = Pipe(self, frm, to), Pipe(self, to, frm)
        near, far = End(there, back), End(back, there)
        self.ends[near] = self.ends[far] = None
        serve(far)
        return near

    async def _pass(self, frm: int, to: int) -> None:
        """Be on the way for as long as a piece of data is."""
        way = self.ways[frm, to]
        await trio.sleep(self.draw_delay())
        while way.is_held:
            await way.dialling.park()

    def forget(self, end: End) -> None:
        """A connection is closed at this end."""
        if end in self.ends:
            del self.ends[end]
            end.into.way.pipes.pop(end.into, None)
            if end.out.sent:
                self.old.append((*end.out.ends, bytes(end.out.sent)))

    # -- what befalls them ------------------------------------------------------------------

    def between(self, some: set[int], others: set[int]) -> list[Way]:
        """Return the ways from some hosts to others."""
        return [self.ways[a, b] for a in sorted(some) for b in sorted(others) if a != b]

    def hold(self, ways: list[Way]) -> None:
        """Let nothing come out."""
        for way in ways:
            way.hold()

    def release(self, ways: list[Way]) -> None:
        """Let it all come out."""
        for way in ways:
            way.release()

    def stall(self, pipe: Pipe) -> None:
        """Let nothing come out of one pipe any more."""
        self.counts["stalled"] += 1
        pipe.is_stalled = True

    def noticed(self, pipe: Pipe, data: bytes) -> None:
        """Something was put on its way: stall the pipe if it is the reply that is awaited there."""
        if pipe.ends in self.awaited and _REPLY in data:
            self.awaited.discard(pipe.ends)
            self.counts["replies lost with their link"] += 1
            self.stall(pipe)

    def cut(self, end: End, rng: Random) -> None:
        """Break one connection."""
        end.out.cut(rng.random())
        end.into.cut(rng.random())

    def crash(self, host: int, rng: Random) -> None:
        """The host is gone, and with it all its connections; what has left may arrive."""
        for end in list(self.ends):
            if end.out.ends[0] == host:
                end.out.cut(rng.random())
                end.into.cut(0.0)

    def heal(self) -> None:
        """End all that is wrong; what is on its way comes soon."""
        self.delay_mean, self.tail = min(self.delay_mean, 0.005), 0.0
        for way in self.ways.values():
            way.is_refusing = False
            for pipe in way.pipes:
                pipe.is_stalled = False
            way.release()
