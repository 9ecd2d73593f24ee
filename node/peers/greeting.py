"""The first exchange on a connection, at the side that dials: hello, and the welcome that answers it.

The side that is dialled is in `links.py`, which decides whether a hello is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from ..errors import PeerError
from ..model.cluster_info import PROTOCOL
from . import wire

Dial = Callable[[str], Awaitable[trio.abc.Stream]]
"""Opens a stream to `HOST:PORT`; raises OSError when nothing answers there."""

Admit = Callable[[wire.Welcome, str], Awaitable[None]]
"""Called with a welcome and the address it came from; raises PeerError to give the connection up."""

_CLUSTER_ID = re.compile(r"[0-9a-f]{16}")

# Exceptions that mean the connection is lost.
LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, PeerError)


@dataclass(frozen=True, slots=True)
class LocalNode:
    """How this node presents itself to its peers."""

    cluster_id: str
    node_id: int
    name: str
    address: str = ""
    incarnation: int = 0

    def hello(self, to: int, purpose: wire.Purpose) -> bytes:
        """Return the first frame of a connection to the node `to`."""
        return wire.encode(
            wire.Hello(
                PROTOCOL,
                self.cluster_id,
                self.node_id,
                to,
                self.name,
                purpose,
                self.address,
                self.incarnation,
            )
        )

    def welcome(self, refusal: str, other: str = "") -> bytes:
        """Return the answer to a hello."""
        return wire.encode(
            wire.Welcome(PROTOCOL, self.node_id, self.name, refusal, self.incarnation, other)
        )


class RefusedError(PeerError):
    """The peer answered the hello with a refusal."""

    def __init__(self, refusal: str, other: str = "") -> None:
        """Keep the reason, a `wire.Refusal`, and `Welcome.other` for the caller."""
        super().__init__(f"refused: {refusal}")
        self.refusal = refusal
        self.other = other


def is_cluster_id(text: str) -> bool:
    """Whether `text` has the form of a cluster's id."""
    return _CLUSTER_ID.fullmatch(text) is not None


async def connect(
    dial: Dial,
    address: str,
    me: LocalNode,
    to: int,
    purpose: wire.Purpose,
    *,
    admit: Admit | None = None,
) -> trio.abc.Stream:
    """Dial the node `to` and exchange hello and welcome; return the connection.

    Args:
        dial: Opens the connection.
        address: `HOST:PORT`.
        me: This node.
        to: The id of the node that is wanted.
        purpose: What will be sent.
        admit: Decides whether the process that answers is the right one; None: any is.

    Raises:
        OSError, trio.BrokenResourceError: Nothing answers at the address.
        PeerError: Another node answers, or this node is refused (`RefusedError.refusal`).
    """
    stream = await dial(address)
    try:
        await stream.send_all(me.hello(to, purpose))
        welcome = await _read_welcome(stream)
        _check_welcome(welcome, to)
        if admit is not None:
            await admit(welcome, address)
    except BaseException:
        # Cancellation included: no caller has the stream yet, so nothing else can close it.
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _check_welcome(welcome: wire.Welcome, to: int) -> None:
    if welcome.refusal:
        raise RefusedError(welcome.refusal, welcome.other)
    if welcome.node_id != to:
        raise RefusedError(wire.Refusal.WRONG_NODE)


async def ask(dial: Dial, address: str, me: LocalNode, to: int) -> wire.Welcome:
    """Return the welcome of whichever node answers at `address`, and close the connection.

    Raises:
        OSError, trio.BrokenResourceError: Nothing answers at the address.
        PeerError: What answers does not speak this protocol.
    """
    stream = await dial(address)
    try:
        await stream.send_all(me.hello(to, wire.Purpose.IDENTIFY))
        return await _read_welcome(stream)
    finally:
        await trio.aclose_forcefully(stream)


async def identify(dial: Dial, address: str, me: LocalNode, to: int) -> int:
    """Return the id of the node at `address`, which may be `to` or another of this cluster.

    Raises:
        OSError, trio.BrokenResourceError: Nothing answers at the address.
        PeerError: It is no node of this cluster, or it refuses this node.
    """
    welcome = await ask(dial, address, me, to)
    # The peer checks protocol and cluster before it checks which node was meant (`Links._refusal`),
    # so WRONG_NODE comes only from a node of this cluster.
    if welcome.refusal not in {"", wire.Refusal.WRONG_NODE}:
        raise RefusedError(welcome.refusal)
    return welcome.node_id


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
