"""`stop --all`: the end of a whole cluster, ordered at one node and watched from here.

The nodes pass the order on to each other, and stop in the order that loses nothing
(`hstore.node.cluster.shutdown`). Here every member is watched at its address until it is gone, and
the user is told of each. A member that was down before is named, and so is one that is still there,
or that cannot be seen from this machine.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hstore.node.discovery import run_record
from hstore.node.errors import HstoreError, Refused

from ..client.api import REQUEST_TIMEOUT_S
from ..client.errors import NothingListens, Unreachable
from ..client.plain import print_json
from ..messages import tell
from ..search.here import explained, records_here, way_to

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hstore.node.model.cluster_info import ClusterInfo, NodeInfo

    from ..search.find import Finder

ALL_GONE_S = 13.0
"""The last nodes wait up to 5 s for the others, and a clean stop takes 5 s."""

_PAUSE_S = 0.1
_ASKED_AT_ONCE = 16


def stop_all(
    host: str | None, env: Mapping[str, str], finder: Finder, *, as_json: bool = False
) -> None:
    """Stop all nodes of a cluster cleanly, followers first; say of each that it has ended.

    Args:
        host: A member; None: of the cluster that is found.
        env: The environment.
        finder: Finds the cluster.
        as_json: Say it in an object in each line.

    Raises:
        Refused: No member runs on this machine; or not all of them have ended after `ALL_GONE_S`.
        Unreachable: No node answers.
    """
    way = way_to(host, env, finder)
    info = finder.wait_for(way.address, wait_s=0).info
    with (
        explained(way.address, "hstore stop --all"),
        finder.connect(way.address, REQUEST_TIMEOUT_S) as client,
    ):
        client.stop_all()
    watch = _Watch(info, env, finder, as_json=as_json)
    end = finder.clock.now() + ALL_GONE_S
    while watch.left and finder.clock.now() < end:
        finder.clock.sleep(_PAUSE_S)
        watch.look()
    uncertain = [*watch.left, *watch.unseen]
    if uncertain:
        raise Refused(
            "not all of the cluster has stopped for certain: "
            + "; ".join(f"{node.name} at {node.address} {watch.why[node.id]}" for node in uncertain)
            + "\non the machine of each: "
            + ", ".join(f"`hstore stop -h {node.address}`" for node in uncertain)
        )
    if as_json:
        whole = {"cluster_id": info.cluster_id, "nodes": len(info.nodes), "quorum": info.quorum}
        print_json({**whole, "result": "stopped"})
    else:
        tell(_whole(info))


class _Watch:
    """Looks at the members of a cluster that is ending.

    Attributes:
        left: Those that have to be looked at again.
        unseen: Those that were down before and do not answer at all, so that they may run.
        why: What was seen of a member last, by its id.
    """

    def __init__(
        self, info: ClusterInfo, env: Mapping[str, str], finder: Finder, *, as_json: bool
    ) -> None:
        self.left = list(info.nodes)
        self.unseen: list[NodeInfo] = []
        self.why: dict[str, str] = {}
        self._finder = finder
        self._as_json = as_json
        self._here = records_here(info, env)

    def look(self) -> None:
        """Ask all that are left, and tell the user of those that have ended."""
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            said = list(pool.map(self._ask, self.left))
        self.left = [
            node for node, one in zip(self.left, said, strict=True) if not self._is_over(node, one)
        ]

    def _is_over(self, node: NodeInfo, said: HstoreError | None) -> bool:
        """Tell whether a member need not be looked at again, after what asking it has brought."""
        record = self._here.get(node.id)
        if isinstance(said, NothingListens) and not (record and run_record.is_running(record)):
            self._say(node, can_restart=record is not None)
            return True
        if isinstance(said, Unreachable) and not node.is_live:
            # It did not answer its leader either: more time would not help.
            self.why[node.id] = f"was {node.health} before, and does not answer"
            self.unseen.append(node)
            return True
        is_there = said is None or isinstance(said, NothingListens)
        self.why[node.id] = "is still there" if is_there else "does not answer"
        return False

    def _say(self, node: NodeInfo, *, can_restart: bool) -> None:
        if self._as_json:
            result = "stopped" if node.is_live else "stopped or down before"
            print_json({"name": node.name, "address": node.address, "result": result})
        else:
            tell(_ended(node, can_restart=can_restart))

    def _ask(self, node: NodeInfo) -> HstoreError | None:
        try:
            self._finder.ask(node.address)
        except HstoreError as error:
            return error
        return None


def _ended(node: NodeInfo, *, can_restart: bool) -> str:
    """Return a line about a member that does not run any more."""
    where = f"{node.name} at {node.address}"
    if node.health == "stopped":
        return f"{where} had stopped before"
    if not node.is_live:
        return f"{where} was down before ({node.reason or node.health})"
    again = f"; `hstore restart -h {node.address}` starts it again" if can_restart else ""
    return f"{where} has stopped{again}"


def _whole(info: ClusterInfo) -> str:
    """Return a line about the cluster, once nothing of it runs any more."""
    count, voters = len(info.nodes), sum(node.voter for node in info.nodes)
    if count == 1:
        return f"cluster {info.cluster_id} has stopped, its only node"
    again = f"with {info.quorum} of its {voters} voters started it serves again"
    if info.waiting_for:
        again = f"it serves once {info.waiting_for} nodes have joined"
    return f"cluster {info.cluster_id} has stopped, all {count} nodes; {again}"
