"""Every node knows how old its copy may be (`X-Hstore-Stale-Ms`), also where nobody reads."""

from __future__ import annotations

import contextlib

import trio

from .errors import HstoreError
from .replica import Replica

_SECONDS = 1.0
"""How often a node asks; each time costs the leader a round of heartbeats."""


async def keep(replica: Replica) -> None:
    """Ask for the present index again and again, as a reader does, until cancelled."""
    while True:
        with contextlib.suppress(HstoreError):
            await replica.read_barrier(trio.current_time() + 10 * _SECONDS)
        await trio.sleep(_SECONDS)
