"""Links that can be cut where there are no network namespaces: a relay between the nodes.

    with Relay(3) as relay:
        relay.isolate(1)

Each node listens at an address of the loopback network that nobody is told (`listening`), and
advertises another one (`hosts`), at which a process of the relay takes connections and passes them
on. It knows from the hello who dials whom, and cuts as `network.Network` does, by the same names:
nothing is refused, what is sent is lost, and a connection that has lost something ends when the way
is whole again. It needs nothing that a user may not do.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self

import trio

from hstore.node.peers import wire

_ROOT = Path(__file__).resolve().parents[2]
_API, _PEER = 8500, 8300
_LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


def _host(number: int) -> str:
    return f"127.213.8.{number + 1}"


def _listening(number: int) -> str:
    return f"127.213.7.{number + 1}"


class Relay:
    """The relay, for a test. Closes: its process, with `with`.

    Attributes:
        hosts: Where each node is reached.
    """

    def __init__(self, size: int) -> None:
        self.hosts = [_host(number) for number in range(size)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.relay", str(len(self.hosts))],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear()
        return self

    def __exit__(self, *_error: object) -> None:
        """End it: it lives as long as it is spoken to."""
        assert self._process is not None
        self._process.communicate()

    def prefix(self, _node: int) -> list[str]:
        """Return the words that put a command where a node is: none are needed."""
        return []

    def listening(self, node: int) -> str:
        """Return the address that a node must listen at."""
        return _listening(node)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be where the nodes can be reached, which is anywhere."""
        yield

    # -- faults -----------------------------------------------------------------------------

    def unplug(self, node: int) -> None:
        """Let a node reach nobody, its clients included."""
        self._say(f"unplug {node}")

    def plug(self, node: int) -> None:
        """End that."""
        self._say(f"plug {node}")

    def separate(self, one: int, other: int) -> None:
        """Let two nodes reach each other no more."""
        self.mute(one, other)
        self.mute(other, one)

    def join(self, one: int, other: int) -> None:
        """End that."""
        self.unmute(one, other)
        self.unmute(other, one)

    def mute(self, one: int, other: int) -> None:
        """Lose what the first sends to the other."""
        self._say(f"mute {one} {other}")

    def unmute(self, one: int, other: int) -> None:
        """End that."""
        self._say(f"unmute {one} {other}")

    def isolate(self, node: int) -> None:
        """Separate a node from all others, and not from clients."""
        for other in range(len(self.hosts)):
            if other != node:
                self.separate(node, other)

    def reunite(self, node: int) -> None:
        """End that."""
        for other in range(len(self.hosts)):
            if other != node:
                self.join(node, other)

    def heal(self) -> None:
        """End all faults, whatever they were."""
        self._say("heal")

    def _say(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self._hear()

    def _hear(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n"


# -- the process -------------------------------------------------------------------------------


class _Ways:
    """Which ways are cut, and which connections have lost something to that."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._muted: set[tuple[int, int]] = set()
        self._unplugged: set[int] = set()
        self._losers: dict[trio.CancelScope, tuple[int, int]] = {}

    def is_cut(self, one: int, other: int) -> bool:
        """Whether what the first sends to the other is lost. Clients are -1."""
        return (one, other) in self._muted or not self._unplugged.isdisjoint((one, other))

    def loses(self, connection: trio.CancelScope, one: int, other: int) -> None:
        """A connection has lost something, or waits for a way: it ends when that is whole."""
        self._losers[connection] = one, other

    def forget(self, connection: trio.CancelScope) -> None:
        self._losers.pop(connection, None)

    def obey(self, line: str) -> None:
        """Carry out a command."""
        word, *rest = line.split()
        numbers = tuple(map(int, rest))
        match word:
            case "mute":
                self._muted.add((numbers[0], numbers[1]))
            case "unmute":
                self._muted.discard((numbers[0], numbers[1]))
            case "unplug":
                self._unplugged.add(numbers[0])
            case "plug":
                self._unplugged.discard(numbers[0])
            case _:
                self._muted.clear()
                self._unplugged.clear()
        for connection, way in list(self._losers.items()):
            if not self.is_cut(*way):
                connection.cancel()


async def _pass_on(
    ways: _Ways, scope: trio.CancelScope, way: tuple[int, int], streams: list[trio.SocketStream]
) -> None:
    """Pass on what comes from the first stream, or lose it; the end of either is that of both."""
    frm, to = streams
    has_lost = False
    with suppress(*_LOST):
        async for data in frm:
            has_lost = has_lost or ways.is_cut(*way)
            if has_lost:
                ways.loses(scope, *way)
            else:
                await to.send_all(data)
    if not has_lost:
        scope.cancel()


async def _relay(
    ways: _Ways, port: int, to: int, stream: trio.SocketStream, *, is_peer: bool
) -> None:
    scope = trio.CancelScope()
    with scope, suppress(*_LOST):
        async with stream:
            begin = await stream.receive_some(wire.MAX_GREETING)
            frm = _dialler(bytes(begin)) if is_peer else -1
            if ways.is_cut(frm, to):
                ways.loses(scope, frm, to)
                await trio.sleep_forever()
            async with await trio.open_tcp_stream(_listening(to), port) as other:
                await other.send_all(begin)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_pass_on, ways, scope, (frm, to), [stream, other])
                    nursery.start_soon(_pass_on, ways, scope, (to, frm), [other, stream])
    ways.forget(scope)


def _dialler(begin: bytes) -> int:
    """Return who says hello: it tells where it is dialled."""
    frames = wire.FrameReader(wire.MAX_GREETING).feed(begin)
    hello = frames[0] if frames else None
    assert isinstance(hello, wire.Hello), "a hello comes in one piece on the loopback network"
    return int(hello.address.partition(":")[0].rpartition(".")[2]) - 1


async def _main(size: int) -> None:
    ways = _Ways(size)
    async with trio.open_nursery() as nursery:
        for number in range(size):
            for port in (_API, _PEER):
                relay = partial(_relay, ways, port, number, is_peer=port == _PEER)
                listeners = partial(trio.serve_tcp, relay, port, host=_host(number))
                await nursery.start(listeners)
        sys.stdout.write("done\n")
        sys.stdout.flush()
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            ways.obey(line)
            sys.stdout.write("done\n")
            sys.stdout.flush()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]))
