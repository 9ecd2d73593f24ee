"""What a new seed finds out before it founds a cluster, while its data directory is still empty.

Whether a cluster has a member at this node's address is learned in two ways: the sources that its
settings name are asked (`discovery/claims.py`), and members of that cluster dial the address, at
least every `REDIAL_SECONDS`. For twice that time the new seed only listens at its peer port. So a
second cluster is not founded at all, which is better than to found it and end it.

A node that merely searches for its cluster dials strangers, too; its hello says so
(`Purpose.IDENTIFY`), and does not count.
"""

from __future__ import annotations

import signal
import socket

import trio

from ..config.settings import NodeSettings
from ..discovery import claims
from ..discovery.claims import Claim
from ..errors import AddressClaimed
from ..model.values import is_address
from ..net.stream import Listener
from ..peers import wire
from ..peers.greeting import LOST, is_cluster_id
from ..peers.link import REDIAL_SECONDS

LISTEN_SECONDS = 2 * REDIAL_SECONDS

_ACCEPTED_MAX = 32
"""Connections at once; more are closed unread, and their peers dial again."""


class Greetings:
    """The hellos that arrive at the peer port of a node that does not run yet.

    Attributes:
        hello: The first one of a peer that takes this node for a member; None: there was none.
        heard: Set when `hello` is.
    """

    def __init__(self) -> None:
        self.hello: wire.Hello | None = None
        self.heard = trio.Event()
        self._open = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Read one hello, and hang up: to the peer, this is a node that is not up yet."""
        if self._open >= _ACCEPTED_MAX:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            async with stream:
                hello = await _read_hello(stream)
        except LOST:
            return
        finally:
            self._open -= 1
        if hello is not None and hello.purpose != wire.Purpose.IDENTIFY:
            self.hello = hello
            self.heard.set()


async def look_around(settings: NodeSettings, listener: socket.socket) -> bool:
    """Look for a cluster that counts this node's address among its members, for about a second.

    Args:
        settings: Of this node.
        listener: Its peer port, bound and listening. It stays open.

    Returns:
        Whether the node is to go on; False: the process was asked to end meanwhile.

    Raises:
        AddressClaimed: There is one.
    """
    greetings, found = Greetings(), _Found()
    with trio.move_on_after(LISTEN_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(_wait_for_signals, found, nursery.cancel_scope)
            nursery.start_soon(_accept_all, listener, greetings, nursery)
            nursery.start_soon(_ask_sources, settings, found, nursery.cancel_scope)
            await greetings.heard.wait()
            nursery.cancel_scope.cancel()
    claim, hello = found.claim, greetings.hello
    if hello is not None:
        claim = await claims.greeted(hello.cluster_id, hello.address, settings)
    if claim is not None:
        raise claims.refusal(claim, settings)
    return not found.is_over


async def explain(error: AddressClaimed, settings: NodeSettings) -> AddressClaimed:
    """Return the error for a node that was greeted after it had founded a cluster, in full."""
    claim = await claims.greeted(error.cluster_id, error.said_by, settings)
    return claims.refusal(claim, settings)


class _Found:
    """Results of the tasks beside the listener.

    Attributes:
        claim: What a named source says; None: nothing.
        is_over: Whether the process was asked to end.
    """

    def __init__(self) -> None:
        self.claim: Claim | None = None
        self.is_over = False


async def _ask_sources(settings: NodeSettings, found: _Found, scope: trio.CancelScope) -> None:
    if settings.discovery.hosts or settings.discovery.dns:
        found.claim = await claims.find(settings)
        if found.claim is not None:
            scope.cancel()


async def _accept_all(listener: socket.socket, greetings: Greetings, nursery: trio.Nursery) -> None:
    listener.setblocking(False)
    listening = Listener(listener)
    while True:
        nursery.start_soon(greetings.serve, await listening.accept())


async def _read_hello(stream: trio.abc.Stream) -> wire.Hello | None:
    reader = wire.FrameReader(wire.MAX_GREETING)
    while data := await stream.receive_some(wire.MAX_GREETING):
        for frame in reader.feed(data):
            if isinstance(frame, wire.Hello) and is_cluster_id(frame.cluster_id):
                is_sound = not frame.address or is_address(frame.address)
                return frame if is_sound else None
            return None
    return None


async def _wait_for_signals(
    found: _Found, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            found.is_over = True
            scope.cancel()
