"""What the leader does about the catalog without being asked.

Owns that its parts run, and that each hears of a change of leader. What they do is in `serf_health.py`,
`check_owners.py` and `critical_services.py`.
"""

from __future__ import annotations

import trio

from ..driver.keys import Keys
from ..driver.replica import Replica
from .check_owners import CheckOwners
from .critical_services import CriticalServices
from .serf_health import SerfHealth
from .status import Status


class CatalogDuties:
    """These duties of one node, which it has while it leads."""

    def __init__(self, replica: Replica, keys: Keys, status: Status) -> None:
        """Nothing happens before `run`."""
        self._serf_health = SerfHealth(replica, keys, status)
        self._owners = CheckOwners(replica, keys, status)
        self._critical = CriticalServices(replica, keys)

    def look(self) -> None:
        """Who leads may have changed: called with each change and each tick."""
        self._owners.look()
        self._critical.look()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fulfil them until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._serf_health.run)
            await nursery.start(self._owners.run)
            await nursery.start(self._critical.run)
            task_status.started()
