"""Keeps what the cluster knows of this node true: that it runs, and at which addresses.

The first node of a cluster creates it here, too: its first command gives the cluster its id and its
settings. A node that comes back at other addresses keeps its id: addresses are hints.
"""

from __future__ import annotations

import msgspec
import structlog
import trio

from ..config import cluster_settings
from ..config.log_limit import LogLimit
from ..config.settings import NodeSettings
from ..errors import HstoreError
from ..model.commands import ChangeMember, ClusterSettings, InitCluster, Member, PutMember
from ..node import Node

_ATTEMPT_SECONDS = 30.0
"""For one attempt to tell the cluster about this node."""

_ERROR_PAUSE_SECONDS = 0.1
"""After an attempt that failed: some errors come without any wait, and a loop without one stops the
whole node."""

_ATTEMPT_PAUSE_SECONDS = 1.0
"""Between two attempts, where the cluster does not accept what this node says of itself."""

_log = structlog.get_logger()


async def keep_announced(node: Node, settings: NodeSettings) -> None:
    """Have the cluster know this node as it is now, until the node stops.

    It goes on looking: the cluster may agree only now to what this node asked for when it stopped the
    last time, such as to count it as stopped.
    """
    log_limit = LogLimit()
    while not node.status.is_stopping:
        try:
            await _announce(node, settings, log_limit, trio.current_time() + _ATTEMPT_SECONDS)
        except HstoreError:
            await trio.sleep(_ERROR_PAUSE_SECONDS)
            continue
        await trio.sleep(_ATTEMPT_PAUSE_SECONDS)
        facts, seen = node.replica.facts, -1
        while facts.members.get(facts.id) == own_member(node, settings):
            seen = await node.administration.wait_cluster_change(seen)


async def _announce(
    node: Node, settings: NodeSettings, log_limit: LogLimit, deadline: float
) -> None:
    """Compare what the cluster knows with what is true, and correct it where it differs."""
    replica, facts = node.replica, node.replica.facts
    await replica.read_barrier(deadline)
    if not facts.cluster_id:
        cluster_id = replica.storage.identity.cluster_id
        await replica.propose(InitCluster(cluster_id, settings.cluster, settings.expect), deadline)
    if log_limit.is_due(facts.settings):
        _warn_of_differences(settings, facts.settings)
    wanted, known = own_member(node, settings), facts.members.get(facts.id)
    is_member = facts.id not in facts.removed and not node.status.is_stopping
    if known != wanted and is_member:
        outcome = await replica.propose(announcement(wanted, known), deadline)
        if not outcome.ok and log_limit.is_due(outcome.text):
            _log.warning("the cluster does not take the new address", why=outcome.text)


def announcement(wanted: Member, known: Member | None) -> PutMember | ChangeMember:
    """Return the command that tells the cluster about this node, and changes nothing else.

    Another request may be giving the node a new name at this moment.
    """
    if known is None:
        return PutMember(wanted)
    addresses = (wanted.address, wanted.peer_address, wanted.dns_address)
    return ChangeMember(wanted.id, stopped=False, addresses=addresses)


def own_member(node: Node, settings: NodeSettings) -> Member:
    """Return what the cluster shall know of this node: that it runs, and where."""
    facts = node.replica.facts
    known = facts.members.get(facts.id)
    at = (settings.api_address, settings.peer_address, settings.dns_address)
    if known is None:
        return Member(facts.id, settings.name, *at, settings.learner)
    api, peer, dns = at
    return msgspec.structs.replace(
        known, address=api, peer_address=peer, dns_address=dns, stopped=False
    )


def _warn_of_differences(settings: NodeSettings, agreed: ClusterSettings) -> None:
    """Warn when this node was given cluster settings that are not the cluster's."""
    for setting in cluster_settings.SETTINGS:
        ours, theirs = getattr(settings.cluster, setting.field), getattr(agreed, setting.field)
        key = f"cluster.{setting.key}"
        if key in settings.given and ours != theirs:
            _log.warning(
                "a cluster setting given to this node is not the cluster's, which counts",
                key=key,
                given=setting.show(ours),
                cluster=setting.show(theirs),
            )
