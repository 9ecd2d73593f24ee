"""Through which node an order for a cluster goes: a member on this machine, where there is one.

A node takes orders from its own machine only. So what is agreed by the whole cluster (a setting, a
name, who leads, a removal, the end of all nodes) is asked of the member that runs here, whichever
node the user named; what ends or restarts one process has to be typed on that node's machine, and the
refusal says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from hstore.dns.ip_literals import is_loopback
from hstore.node.discovery import run_record
from hstore.node.errors import Refused

from ..client.errors import Forbidden
from .find import ends_towards, member
from .local import ask, loopback_of, named_node

if TYPE_CHECKING:
    from hstore.node.discovery.run_record import RunRecord
    from hstore.node.model.cluster_info import ClusterInfo, NodeInfo

    from .find import Finder, Found


class Way(NamedTuple):
    """How an order for a cluster is sent.

    Attributes:
        address: Of the node that gets it.
        node: The member that the user named, if that is another node; None: it is that node, or no
            node was named.
    """

    address: str
    node: NodeInfo | None = None


def is_this_machine(address: str) -> bool:
    """Tell whether a connection to `HOST:PORT` has this machine at both ends."""
    ends = ends_towards(address)
    return ends is not None and (ends[0] == ends[1] or is_loopback(ends[1]))


def records_here(info: ClusterInfo, env: Mapping[str, str]) -> dict[str, RunRecord]:
    """Return the run records of members of a cluster that run on this machine, by node id."""
    return {
        one.node_id: one
        for one in run_record.running_here(env)
        if one.cluster_id == info.cluster_id
    }


def address_here(info: ClusterInfo, env: Mapping[str, str]) -> str:
    """Return the API address of a member that runs on this machine; empty: none does.

    By the run records of this user, and by the addresses of the live members: a service runs as
    another user than the operator.
    """
    running = records_here(info, env)
    for node in sorted(info.nodes, key=lambda node: not node.is_live):
        record = running.get(node.id)
        if record:
            return loopback_of(record) or record.address
        if node.is_live and is_this_machine(node.address):
            return node.address
    return ""


def way_to(host: str | None, env: Mapping[str, str], finder: Finder) -> Way:
    """Return how an order goes to the cluster of the node at `ADDR|NAME`; None: to the one found.

    Where no member runs on this machine, it goes to the node that was named or found, which refuses
    it unless a token will allow it.

    Raises:
        ConfigError, Refused, Unreachable: As of `Finder.find` and `named_node`.
    """
    if host is None:
        found = finder.find()
        return Way(address_here(found.info, env) or found.address)
    named = named_node(host, env, finder)
    if is_this_machine(named.address):
        return Way(named.address)
    around = ask(named.address, finder) or _cluster_with(named.address, finder)
    through = address_here(around.info, env) if around else ""
    if around is None or not through:
        return Way(named.address)
    return Way(through, member(around.info, named.address))


@contextlib.contextmanager
def explained(address: str, command: str) -> Iterator[None]:
    """Add to a refusal of the node at `address` where `command` has to be typed instead.

    Raises:
        Refused: The node takes this order from its own machine only.
    """
    try:
        yield
    except Forbidden as error:
        if is_this_machine(address):
            raise
        raise elsewhere(str(error), address, command) from None


def elsewhere(why: str, address: str, command: str) -> Refused:
    """Return the refusal of what has to be typed on the machine of the node at `address`."""
    return Refused(f"{why}\non the machine of {address}: `{command}`")


def _cluster_with(address: str, finder: Finder) -> Found | None:
    """Return the cluster with a member at `address`, which does not answer."""
    found = finder.find_if_any()
    return found if found and member(found.info, address) else None
