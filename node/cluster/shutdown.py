"""The end of a whole cluster (`hstore stop --all`), at one node.

The node that a client asked sends the order to all members, and each that gets it passes it on: so it
also reaches a member that the first node has no link to. Followers stop at once. The leader stops
when the others are gone, and so does the node that was asked, before the leader. All keep their
votes: whichever majority is started again has all that was acknowledged, and elects a leader.

Owns the order in which the nodes stop. How one of them stops is in `this_node.py` and
`process/main.py`; members obey each other's orders, as they do in all else.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from ..driver.replica import Replica
from ..peers import wire
from .status import Status

_OTHERS_SECONDS = 5.0
"""How long the last nodes wait for the others: as long as a clean stop may take."""

_LOOK_SECONDS = 0.1
"""Between two looks, and between two sendings: a link that broke may be there again."""

_REASON = "the whole cluster is to stop"

_log = structlog.get_logger()


class Shutdown:
    """One node's part in the end of its cluster.

    Args:
        replica: Tells who is a member, and who leads; hands frames to peers.
        status: Tells who runs.
        request_stop: Stops this node cleanly, for a reason.
    """

    def __init__(
        self,
        replica: Replica,
        status: Status,
        request_stop: Callable[[str], None],
    ) -> None:
        self._facts = replica.facts
        self._status = status
        self._send = replica.send
        self._request_stop = request_stop
        self._begun = trio.Event()
        self._is_asked = False

    def asked(self) -> None:
        """A client asks for the end of the cluster."""
        self._is_asked = True
        if not self._begun.is_set():
            _log.info("the whole cluster is to stop", ordered_by="a client")
            self._begun.set()

    def ordered(self, peer: int) -> None:
        """A member passes the order on."""
        if not self._begun.is_set():
            _log.info("the whole cluster is to stop", ordered_by="a member", member=peer)
            self._begun.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Once there is an order, pass it on, and stop this node when it is its turn.

        Cancellation: the order is not passed on any more, and this node is not stopped by it.
        """
        task_status.started()
        await self._begun.wait()
        facts = self._facts
        leader = facts.leader  # by now: it may step down when the others are gone
        with trio.move_on_after(_OTHERS_SECONDS):
            while True:
                for peer in facts.peers:
                    self._send(peer, wire.StopAll())
                if not self._is_awaited(leader):
                    break
                await trio.sleep(_LOOK_SECONDS)
        self._request_stop(_REASON)

    def _is_awaited(self, leader: int) -> bool:
        """Whether a node that has to stop before this one still runs."""
        own = self._facts.id
        if own != leader and not self._is_asked:
            return False
        return any(self._status.is_running(peer) for peer in self._facts.peers if peer != leader)
