"""A poller that runs as long as a test's nursery does."""

from __future__ import annotations

import pytest
import trio

from hstore.node.net.poller import Poller, can_poll


def poll_in(nursery: trio.Nursery) -> Poller:
    """Start a poller, which is closed when the nursery ends; skips where there is no epoll."""
    if not can_poll():
        pytest.skip("this system has no epoll")
    poller = Poller()

    async def run() -> None:
        try:
            await poller.run()
        finally:
            poller.close()

    nursery.start_soon(run)
    return poller
