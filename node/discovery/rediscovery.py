"""A member that has lost its cluster looks for it: at the same places as a newcomer.

Addresses are hints, the id is the node. A member that restarts at another address reaches the
others where it knew them, and its hello says where it is now; so one that moves is found by those
that stayed. When too many have moved at once, no member is where another looks for it. Then each asks
the sources of contract section 6 (`sources.py`) for *peer* addresses, and dials those.

An address that is found proves nothing. The node that answers there first refuses another cluster's
hello, then says in its welcome which node it is (`Links.identify`). Only a member that is missing is
dialled there from now on, and that connection has its own hello.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import structlog
import trio

from hstore.dns import finder
from hstore.dns.finder import Findings, Source
from hstore.dns.ip_literals import host_and_port

from ..config.log_limit import LogLimit
from ..node import Node

_LOOK_SECONDS = 0.5
"""Between two looks at whether there is a leader; no request is made for it."""

_PATIENCE_SECONDS = 1.5
"""Without a leader before the first search: an ordinary election takes less."""

_PAUSE_MIN, _PAUSE_MAX = 1.0, 15.0
"""Seconds between searches, doubling: those that restart together find each other soon, and a
minority that is cut off for hours does not flood the network it is left with."""

_TRIED_MAX = 32
"""Addresses dialled after one search: a cluster of seven, and strangers."""

_IDENTIFY_SECONDS = 1.0

_log = structlog.get_logger()


class Rediscovery:
    """The search of one node for its fellow members.

    Args:
        node: The node whose fellow members are looked for.
        sources: Where to ask for addresses.
        rng: Spreads the searches of nodes that have lost each other at the same moment.
    """

    def __init__(self, node: Node, sources: Sequence[Source], rng: Random) -> None:
        self._node = node
        self._sources = sources
        self._rng = rng
        self._log_limit = LogLimit()

    async def run(self) -> None:
        """Search whenever there has been no leader for a while, until cancelled."""
        status = self._node.status
        while True:
            seen = -1
            while status.in_contact():
                seen = await status.wait_change(seen)
            pause, next_at = _PAUSE_MIN, trio.current_time() + _PATIENCE_SECONDS
            while not status.in_contact():
                await trio.sleep(_LOOK_SECONDS * self._rng.uniform(0.5, 1.0))
                if trio.current_time() >= next_at and self._node.links.missing():
                    await self.search()
                    next_at = trio.current_time() + pause * self._rng.uniform(0.5, 1.0)
                    pause = min(2 * pause, _PAUSE_MAX)

    async def search(self) -> None:
        """Ask all sources once, and find out which node is at each address they name."""
        findings = await finder.look(self._node.process.zone, self._sources, _ask_on)
        peers = self._node.links
        # An earlier address of a member may be right again, without any source naming it.
        candidates = [host_and_port(*one) for one in findings.addresses()] + list(
            peers.missing().values()
        )
        async with trio.open_nursery() as nursery:
            for address in list(dict.fromkeys(candidates))[:_TRIED_MAX]:
                nursery.start_soon(self._try, address)

    async def _try(self, address: str) -> None:
        found = None
        with trio.move_on_after(_IDENTIFY_SECONDS):
            found = await self._node.links.identify(address)
        if found is not None and self._log_limit.is_due(found, address):
            _log.info("found a member", member=found, address=address)


async def _ask_on(_findings: Findings) -> bool:
    """All places are asked: each may know of another member."""
    return False
