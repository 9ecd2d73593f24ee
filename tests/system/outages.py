"""Seconds without a right answer, seen by clients who keep asking while the leader is lost.

A client asks, waits for the answer, and asks again after a moment; it gives a question up after as
long as programs do (glibc and dig: 5 s). The outage is over for it with the first right answer that
no wrong one follows. So a question that is held until there is a leader counts as long as it takes,
and a resolver that gives the old leader, an error or nothing counts until it no longer does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import trio

from hstore.dns.client import NoAnswer, exchange
from hstore.dns.records import Address, RRType, name_of

LEADER = name_of("leader.hstore.local")

_ASK_S = 5.0
_HTTP_S = 1.0
_PAUSE_S = 0.03
_BEFORE_S = 1.1
"""Longer than the TTL, so that each resolver is where it is in ordinary times."""
_CALM_S = 0.7
"""So long nothing wrong may follow."""
LONGEST_S = 20.0
"""After so long it counts as never."""

NEVER = math.inf


class Look(NamedTuple):
    """One question: when it was asked, when the answer was there, and what it said."""

    begun: float
    ended: float
    said: str


Ask = Callable[[], Awaitable[str]]
"""Asks once, and returns what was said: an address, a status, or what went wrong."""


async def ask_leader(host: str, port: int = 53) -> str:
    """Return the leader's address as a server gives it, or what the server says instead."""
    with trio.move_on_after(_ASK_S):
        try:
            reply = await exchange((host, port), LEADER, RRType.A, is_recursive=True)
        except NoAnswer as error:
            return str(error)
        found = [one.rdata for one in reply.answers if isinstance(one.rdata, Address)]
        return str(found[0].ip) if found else f"no address, response code {reply.rcode}"
    return "nothing"


async def post(port: int, path: str = "/write") -> str:
    """Make a request through a proxy on this machine, by default a write, and return the status."""
    body = b'{"key":"outage","value":"x"}'
    request = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".encode()
    request += b"Content-Length: %d\r\n\r\n" % len(body) + body
    with trio.move_on_after(_HTTP_S):
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(request)
                said = await stream.receive_some(1000)
        except (OSError, trio.BrokenResourceError) as error:
            return str(error)
        return said[9:12].decode()
    return "nothing"


async def lose(
    asks: Mapping[str, Ask], is_right: Callable[[str], bool], strike: Callable[[], None]
) -> tuple[dict[str, float], dict[str, list[Look]]]:
    """Strike, and return for each client the seconds until it is right for good, and all it saw.

    Args:
        asks: How each client asks.
        is_right: Whether an answer is the one from after the outage.
        strike: Ends the leader.
    """
    seen: dict[str, list[Look]] = {name: [] for name in asks}
    async with trio.open_nursery() as nursery:
        for name, ask in asks.items():
            nursery.start_soon(_keep_asking, ask, seen[name])
        await trio.sleep(_BEFORE_S)
        struck = time.monotonic()
        strike()

        def is_calm() -> bool:
            calm = time.monotonic() - _CALM_S
            return all(struck + over(looks, is_right, struck) < calm for looks in seen.values())

        while not is_calm() and time.monotonic() < struck + LONGEST_S:  # noqa: ASYNC110 - many
            await trio.sleep(_PAUSE_S)
        nursery.cancel_scope.cancel()
    return {name: over(looks, is_right, struck) for name, looks in seen.items()}, seen


def over(looks: list[Look], is_right: Callable[[str], bool], struck: float) -> float:
    """Return the seconds from `struck` to the first right answer that no wrong one follows."""
    found = NEVER
    for look in looks:
        if look.ended < struck:
            continue
        if not is_right(look.said):
            found = NEVER
        elif found == NEVER:
            found = look.ended - struck
    return found


async def _keep_asking(ask: Ask, looks: list[Look]) -> None:
    while True:
        begun = time.monotonic()
        said = await ask()
        looks.append(Look(begun, time.monotonic(), said))
        await trio.sleep(_PAUSE_S)
