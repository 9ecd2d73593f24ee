"""What a node tells its local network of itself; `dns/responder.py` sends it.

Only a node that listens beyond loopback says anything, and only once it belongs to a cluster.
"""

from __future__ import annotations

import ipaddress
from random import Random

import structlog
import trio

from hstore.dns.ip_literals import is_loopback
from hstore.dns.multicast import Announced
from hstore.dns.multicast_sockets import open_responder
from hstore.dns.responder import Responder

from ..config.settings import NodeSettings
from ..model import values
from ..model.cluster_info import PROTOCOL
from ..node import Node

_log = structlog.get_logger()


def is_wanted(settings: NodeSettings) -> bool:
    """Return whether this node is to be seen on its network."""
    is_alone = is_loopback(settings.listen.host) or is_loopback(settings.advertised_host)
    return settings.discovery.mdns and not is_alone


async def run(
    node: Node,
    settings: NodeSettings,
    rng: Random,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Announce and answer until cancelled; where there can be no such socket, warn and return."""
    try:
        link, group = open_responder(settings.advertised_host)
    except OSError as error:
        _log.warning(
            "no multicast DNS",
            hint="other machines do not find this node by it; discovery.mdns = false if they need not",
            address=settings.advertised_host,
            error=str(error),
        )
        task_status.started()
        return
    responder = Responder(lambda: announced(node, settings), link, group, rng)
    await responder.run(task_status=task_status)


def announced(node: Node, settings: NodeSettings) -> Announced | None:
    """Return what is true now: where this node listens, not where the cluster believes it does."""
    facts, identity = node.replica.facts, node.replica.storage.identity
    if facts.id not in facts.members:
        return None
    return Announced(
        cluster_id=identity.cluster_id,
        node_id=f"{identity.node_id:016x}",
        zone=facts.settings.zone,
        name=node.process.name,
        ip=ipaddress.ip_address(settings.advertised_host),
        api_port=values.split_address(settings.api_address).port,
        peer_port=settings.peer_port,
        protocol=PROTOCOL,
        leads=facts.is_leader and node.status.in_contact(),
        ttl_s=facts.settings.dns_ttl_s,
    )
