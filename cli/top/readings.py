"""Readings of a cluster, one a second, from one node to the next when the one that is asked ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from hstore.node.errors import HstoreError, Unavailable
from hstore.node.model.cluster_info import ClusterInfo
from hstore.node.model.statistics import SERIES

from ..client.errors import Unreachable
from ..client.plain import plain
from ..search.find import live_addresses
from .figures import SHOWN_S, Trace

if TYPE_CHECKING:
    from ..client.api import NodeClient
    from ..search.clock import Clock
    from ..search.find import Connect

EVERY_S = 1.0
GIVE_UP_S = 30.0
"""How long it goes on without any node that answers, in seconds: all may be restarting."""

_ANSWER_S = 3.0  # The node waits 2 s for a member, once; then a quarter.
_PAUSE_S = 0.2
_KNOWN_MAX = 64


class _Node(msgspec.Struct):
    step: int
    since: int
    series: dict[str, list[float | None]]


class _All(msgspec.Struct):
    nodes: dict[str, _Node]
    missing: list[str] = []


_decoder = msgspec.json.Decoder(_All)


class Reading(NamedTuple):
    """The cluster and the statistics of its nodes at one moment.

    Attributes:
        address: Of the node that was asked.
        info: The cluster, as that node sees it.
        nodes: By name: the traces of each node that has answered, by series.
        until_ms: When the newest second ends, by the clocks of the nodes; 0: there is no point yet.
    """

    address: str
    info: ClusterInfo
    nodes: dict[str, dict[str, Trace]]
    until_ms: int


class Lost(NamedTuple):
    """The node that was asked does not answer any more; another one is asked."""

    address: str
    reason: str


def read(client: NodeClient, since_ms: int = 0) -> Reading:
    """Ask a node for one reading.

    Args:
        client: Of the node.
        since_ms: Points before it are not needed; 0: it is not known what time it is there.

    Raises:
        HstoreError: It does not answer, or not with that.
    """
    info = client.cluster()
    names = ",".join(SERIES)
    path = f"/v1/statistics?node=all&step=1&since={since_ms}&series={names}"
    found = client.decoded(client.exchange("GET", path), _decoder)
    until = max(map(_end_of, found.nodes.values()), default=0)
    nodes: dict[str, dict[str, Trace]] = {
        plain(name): {key: values[-SHOWN_S:] for key, values in node.series.items()}
        for name, node in found.nodes.items()
    }
    return Reading(client.address, info, nodes, until)


def _end_of(node: _Node) -> int:
    count = max(map(len, node.series.values()), default=0)
    return node.since + count * node.step * 1000 if count else 0


def readings(addresses: Iterable[str], connect: Connect, clock: Clock) -> Iterator[Reading | Lost]:
    """Yield a reading each second, from the first of the nodes that answers, without end.

    Args:
        addresses: API addresses to begin with.
        connect: Makes clients.
        clock: The time.

    Raises:
        HstoreError: No node has answered for `GIVE_UP_S`, or none did at the beginning.
    """
    known, cluster_id = list(dict.fromkeys(addresses)), ""
    heard_at, silent = clock.now(), 0
    while True:
        address = known[0]
        try:
            with connect(address, _ANSWER_S) as client:
                for reading in _from_one(client, clock, cluster_id):
                    heard_at, silent, cluster_id = clock.now(), 0, reading.info.cluster_id
                    known = _order(known, reading.info, address)
                    yield reading
        except (Unreachable, Unavailable) as error:
            failure: HstoreError = error
        silent += 1
        known = [*known[1:], address]
        if (not cluster_id and silent >= len(known)) or clock.now() - heard_at > GIVE_UP_S:
            raise failure
        if cluster_id:
            yield Lost(address, str(failure))
        if silent >= len(known):
            clock.sleep(_PAUSE_S)


def _from_one(client: NodeClient, clock: Clock, cluster_id: str) -> Iterator[Reading]:
    since_ms = 0
    while True:
        began = clock.now()
        reading = read(client, since_ms)
        if cluster_id not in {"", reading.info.cluster_id}:
            raise Unreachable(f"{client.address} is a node of another cluster now")
        since_ms = max(reading.until_ms - (SHOWN_S + 5) * 1000, 0)
        yield reading
        clock.sleep(max(EVERY_S - (clock.now() - began), 0.0))


def _order(known: list[str], info: ClusterInfo, current: str) -> list[str]:
    """Return the addresses to ask: the present one, then live members, then others."""
    order = [current, *live_addresses(info), *(node.address for node in info.nodes), *known]
    return list(dict.fromkeys(order))[:_KNOWN_MAX]
