"""One query to one server, and the whole reply as a person reads it: what `dig` does.

For the page of the dashboard that asks a node's own server. `client.py` is for programs: it keeps only
what they need of a reply.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import trio

from .client import NoAnswer, exchange_framed
from .message import MalformedError
from .records import Name
from .wire import Shown, pack_question, show_reply

ASK_S = 4.0
"""Longer than a node holds a question, and shorter than a request over HTTP waits."""
_REPLY_MAX = 65535
_IDENT_BYTES = 2
_TC = 2


@dataclass(frozen=True, slots=True)
class Dug:
    """A reply, and how it came.

    Attributes:
        shown: What is in it.
        size: Bytes.
        over: `UDP`, or `TCP` where the reply by UDP was truncated.
        took_s: Seconds from the question to the reply.
    """

    shown: Shown
    size: int
    over: str
    took_s: float


async def dig(server: tuple[str, int], name: Name, rtype: int) -> Dug:
    """Ask by UDP with EDNS, as resolvers do, and by TCP where that is truncated.

    Raises:
        NoAnswer: There is no reply within `ASK_S`, or none that makes sense.

    Cancellation: Leaves nothing behind.
    """
    ident = random.SystemRandom().randrange(1 << 16)
    query, began, over = pack_question(name, rtype, ident), trio.current_time(), "UDP"
    try:
        with trio.fail_after(ASK_S):
            packet = await _by_udp(server, query)
            if packet[_TC] & 2:
                packet, over = await _by_tcp(server, query), "TCP"
    except trio.TooSlowError:
        raise NoAnswer(f"no answer within {ASK_S:g} s") from None
    except (OSError, trio.BrokenResourceError) as error:
        raise NoAnswer(f"{error.strerror if isinstance(error, OSError) else error}") from None
    except MalformedError as error:
        raise NoAnswer(str(error)) from None
    try:
        return Dug(show_reply(packet), len(packet), over, trio.current_time() - began)
    except MalformedError as error:
        raise NoAnswer(str(error)) from None


async def _by_udp(server: tuple[str, int], query: bytes) -> bytes:
    with trio.socket.socket(_family(server), trio.socket.SOCK_DGRAM) as udp:
        await udp.connect(server)
        await udp.send(query)
        while True:
            packet = await udp.recv(_REPLY_MAX)
            if len(packet) > _TC and packet[:_IDENT_BYTES] == query[:_IDENT_BYTES]:
                return packet


async def _by_tcp(server: tuple[str, int], query: bytes) -> bytes:
    with trio.socket.socket(_family(server), trio.socket.SOCK_STREAM) as tcp:
        await tcp.connect(server)
        return await exchange_framed(trio.SocketStream(tcp), query)


def _family(server: tuple[str, int]) -> int:
    return trio.socket.AF_INET6 if ":" in server[0] else trio.socket.AF_INET
