"""Following a cluster as it changes, from one node to the next when the watched one ends.

`follow` yields what the watched node says; `show` draws that on a terminal, or prints it as lines.
What a cluster looks like is in `tables.py`, how a terminal is redrawn in `screen.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from rich.console import Console, Group, RenderableType
from rich.text import Text

from hstore.node.errors import HstoreError, Unavailable
from hstore.node.model.cluster_info import ClusterInfo

from ..client.api import STALL_TIMEOUT_S, NodeClient
from ..client.errors import Unreachable
from ..client.plain import plain, plain_json
from ..search.find import live_addresses
from . import tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..search.clock import Clock
    from ..search.find import Connect, Found

GIVE_UP_S = 30.0
"""How long a watch goes on without any node that answers, in seconds: all may be restarting."""

# Before the next round, when no node answered, and before the next node: many watches lose a node
# at the same moment, and must not flood the others.
_PAUSE_S = 0.2
_PAUSE_BETWEEN_S = 0.02

# Addresses of former members are kept as a last resort; this many are enough.
_KNOWN_MAX = 64


class Lost(NamedTuple):
    """The watched node does not answer any more; the watch tries another one."""

    address: str
    reason: str


class Leaderless(NamedTuple):
    """The watched node's reason for having no leader; comes after the cluster without one."""

    address: str
    reason: str


Sighting = ClusterInfo | Lost | Leaderless


def follow(
    addresses: Iterable[str],
    connect: Connect,
    clock: Clock,
    find: Callable[[], Found] | None = None,
) -> Iterator[Sighting]:
    """Yield the cluster now and at each change, from the first of the nodes that answers.

    Args:
        addresses: API addresses to begin with.
        connect: Makes clients.
        clock: The time.
        find: Searches for the cluster when no known member answers.

    Raises:
        Unreachable: No node has answered for `GIVE_UP_S`, or none did at the beginning.
    """
    known = list(dict.fromkeys(addresses))
    failure: HstoreError = Unreachable("there is no node to watch")
    cluster_id: str | None = None
    heard_at, silent = 0.0, 0
    while known:
        address = known[0]
        try:
            with connect(address, STALL_TIMEOUT_S) as client:
                for sighting in _sightings(client, cluster_id):
                    if isinstance(sighting, ClusterInfo):
                        heard_at, silent = clock.now(), -1
                        known, cluster_id = _next(known, sighting, address), sighting.cluster_id
                    yield sighting
        except (Unreachable, Unavailable) as error:
            failure = error
        silent += 1
        if silent:
            known = [*known[1:], address]
        if cluster_id is None:
            if silent == len(known):
                raise failure
            continue
        yield Lost(address, str(failure))
        if clock.now() - heard_at > GIVE_UP_S:
            raise failure
        clock.sleep(_PAUSE_S if silent >= len(known) else _PAUSE_BETWEEN_S)
        if silent and silent % len(known) == 0:
            known = _and_found(known, cluster_id, find)
    raise failure


def _sightings(client: NodeClient, cluster_id: str | None) -> Iterator[ClusterInfo | Leaderless]:
    """Yield what one node says, as long as it belongs to the watched cluster."""
    for info in client.events():
        if cluster_id not in {None, info.cluster_id}:
            raise Unreachable(
                f"{client.address} is a node of another cluster now, {info.cluster_id}; "
                f"the watched cluster is {cluster_id}"
            )
        yield info
        if info.leader is None:
            reason = client.unhealthy()
            if reason is not None:
                yield Leaderless(client.address, reason)


def _and_found(known: list[str], cluster_id: str, find: Callable[[], Found] | None) -> list[str]:
    """Return the addresses to try when none has answered: first those of a new search."""
    if find is None:
        return known
    try:
        found = find()
    except HstoreError:
        return known  # no cluster is found, or several: the known nodes may come back
    if found.info.cluster_id != cluster_id:
        return known
    return _next(known, found.info, known[-1])


def show(
    sightings: Iterable[Sighting],
    console: Console,
    *,
    as_json: bool = False,
    footer: Callable[[ClusterInfo], RenderableType] | None = None,
) -> None:
    """Show what `follow` yields until it ends or is interrupted.

    Args:
        sightings: From `follow`.
        console: Where to, and whether that is a terminal, its width and its colours.
        as_json: Print each `/v1/cluster` object as a line instead.
        footer: Returns what to show below the live table.
    """
    if as_json:
        for sighting in sightings:
            if isinstance(sighting, ClusterInfo):
                write_line(console, plain_json(msgspec.json.encode(sighting).decode()))
    elif console.is_terminal and not console.is_dumb_terminal:
        _show_live(sightings, console, footer)
    else:
        for line in lines(sightings):
            write_line(console, line)


def lines(sightings: Iterable[Sighting]) -> Iterator[str]:
    """Yield a line for each change."""
    before: ClusterInfo | None = None
    reason = ""
    for sighting in sightings:
        if isinstance(sighting, ClusterInfo):
            yield from tables.changes(before, sighting)
            before = sighting
            reason = "" if sighting.leader else reason
        elif isinstance(sighting, Leaderless) and sighting.reason != reason:
            reason = sighting.reason
            yield f"cluster: {_told(sighting)}"


def write_line(console: Console, line: str) -> None:
    """Write a line at once, without wrapping or markup: its reader may be a program."""
    console.file.write(line + "\n")
    console.file.flush()


def _show_live(
    sightings: Iterable[Sighting],
    console: Console,
    footer: Callable[[ClusterInfo], RenderableType] | None,
) -> None:
    from .screen import Screen  # rich's live display, which `hstore list` alone does not need

    info: ClusterInfo | None = None
    note = Text("waiting for the first answer", style="dim")

    def picture() -> RenderableType:
        if info is None:
            return note
        # The note stands above the table, since in a low window the end of the table is cut off.
        view = tables.cluster_view(info, console.width, note)
        return Group(view, footer(info)) if footer else view

    with Screen(console, picture) as screen:
        for sighting in sightings:
            if isinstance(sighting, ClusterInfo):
                if info is None or sighting.leader or info.leader:
                    note = Text("")  # the reason for no leader stays until there is one
                info = sighting
            else:
                note = Text(_told(sighting), style="yellow")
            screen.draw()


def _told(sighting: Lost | Leaderless) -> str:
    if isinstance(sighting, Lost):
        return plain(sighting.reason)
    return f"{sighting.address} says: {plain(sighting.reason)}"


def _next(known: list[str], info: ClusterInfo, current: str) -> list[str]:
    """Return the addresses to try when `current` ends: live members, then others, itself last."""
    order = [*live_addresses(info), *(node.address for node in info.nodes), *known]
    others = [one for one in dict.fromkeys(order) if one != current]
    return [*others[: _KNOWN_MAX - 1], current]
