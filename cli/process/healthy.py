"""Waiting until a started node is healthy: it leads or follows, and votes unless it is a learner.

Owns what counts as healthy, and how long that may take. It starts and ends no node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hstore.node.errors import HstoreError, Refused

from ..client.plain import plain

if TYPE_CHECKING:
    from hstore.node.discovery.run_record import RunRecord
    from hstore.node.model.cluster_info import ClusterInfo, NodeInfo

    from ..search.find import Finder

# Many election timeouts: without a leader by then, it will not get one by itself.
_LEADER_S = 10.0

# Without progress. To catch up with a large log may take long, but its applied index grows.
_STALL_S = 30.0

# In all. A node that cannot catch up with a busy leader in this time needs a person's attention.
_ALL_S = 600.0

_PAUSE_S = 0.05
_ANSWER_S = 2.0


class Healthy(NamedTuple):
    """A healthy node, and the cluster as it sees it; `node` is None when its id is not known."""

    info: ClusterInfo
    node: NodeInfo | None


class Part(NamedTuple):
    """What is expected of a node.

    Attributes:
        name: For messages; may be empty.
        address: Of its API.
        node_id: 16 hex digits; empty: not known, so it is enough that the node knows a leader.
        learner: It will not be a voter.
    """

    name: str
    address: str
    node_id: str = ""
    learner: bool = False

    @classmethod
    def of(cls, record: RunRecord) -> Part:
        """Return what is expected of the node of a run record."""
        return cls(record.name, record.address, record.node_id, record.learner)


def wait_healthy(part: Part, finder: Finder, check: Callable[[], None] = lambda: None) -> Healthy:
    """Wait until a node knows a leader, has caught up, and votes unless it is a learner.

    Args:
        part: What is expected of the node.
        finder: Makes clients, and has the clock.
        check: Called before each request; raises when waiting has become pointless.

    Raises:
        Refused: It is not healthy in time; the message says what is missing. The node runs on.
    """
    clock = finder.clock
    begun = since = clock.now()
    seen: object = None
    while True:
        check()
        info = _look(part, finder)
        own = next((n for n in info.nodes if n.id == part.node_id), None) if info else None
        missing = _missing(info, own, part)
        if info and not missing:
            return Healthy(info, own)
        now = clock.now()
        state = (missing, own and (own.type, own.health, own.applied_index))
        if state != seen:
            seen, since = state, now
        is_leaderless = info is not None and info.leader is None and not info.waiting_for
        patience = _LEADER_S if is_leaderless else _STALL_S
        if now - since >= patience or now - begun >= _ALL_S:
            if is_leaderless:
                missing = _why_leaderless(part, finder) or missing
            raise Refused(
                f"{part.name or 'the node'} at {part.address} has started, but {missing}\n"
                f"`hstore list -h {part.address}` shows whether that changes"
            )
        clock.sleep(_PAUSE_S)


def _look(part: Part, finder: Finder) -> ClusterInfo | None:
    try:
        with finder.connect(part.address, _ANSWER_S) as client:
            return client.cluster()
    except HstoreError:
        return None


def _why_leaderless(part: Part, finder: Finder) -> str:
    """Return why a node has no leader, in its own words; empty: it does not say."""
    try:
        with finder.connect(part.address, _ANSWER_S) as client:
            return plain(client.unhealthy() or "")
    except HstoreError:
        return ""


def _missing(info: ClusterInfo | None, own: NodeInfo | None, part: Part) -> str:
    """Return what a node lacks to be healthy; empty: nothing."""
    if info is None:
        return "does not answer"
    # While the cluster waits for nodes (`--expect`) it has a leader, but names none to clients.
    if info.leader is None and not info.waiting_for:
        return f"its cluster has no leader: {info.quorum} voters make a majority"
    if not part.node_id:
        return ""
    if own is None or own.health == "joining":
        return "has not caught up with the others yet"
    if own.health != "alive":
        why = f" ({plain(own.reason)})" if own.reason else ""
        return f"its leader reports it as {own.health}{why}"
    if not own.voter and not part.learner:
        return "is not a voter yet"
    return ""
